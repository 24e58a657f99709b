"""A function of tensors as a CUDA graph: recorded once, then started whole, which spares the time to start each of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Calls before the recording, as libraries set themselves up in the first ones.
WARM_UP = 3


class Graphed:
    """`function`, of tensors on one CUDA device to a tree of tensors, recorded for each set of shapes that it is called with.

    It must do the same work in every call and must not wait for the device. The next call overwrites what a call returns. Raises RuntimeError where a
    recording has failed before: torch's memory stays as it was in the midst of it, so that no other one can succeed in this process.
    """

    failed = False  # whether a recording has, anywhere

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.recorded: dict[tuple[torch.Size, ...], tuple[list[Tensor], torch.cuda.CUDAGraph, Any]] = {}

    def __call__(self, *tensors: Tensor) -> Any:
        shapes = tuple(t.shape for t in tensors)
        with torch.cuda.device_of(tensors[0]):
            if shapes not in self.recorded:
                self.recorded[shapes] = self._record([t.clone() for t in tensors])
            inputs, graph, outputs = self.recorded[shapes]
            for own, given in zip(inputs, tensors):
                own.copy_(given)
            graph.replay()
        return outputs

    def _record(self, inputs: list[Tensor]) -> tuple[list[Tensor], torch.cuda.CUDAGraph, Any]:
        """As PyTorch asks for it: first calls on a stream of their own, then the recording."""
        if Graphed.failed:
            raise RuntimeError("an earlier recording of a CUDA graph failed")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # On this device's own stream, as torch's usual one is of the first device that recorded; back to the stream of before, even from a failure; and
        # undisturbed by what other threads ask of the device.
        try:
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = self.function(*inputs)
        except BaseException:
            Graphed.failed = True
            raise
        return inputs, graph, outputs
