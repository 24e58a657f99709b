"""Where a training runs (setting `device`), which step gives it its gradients (`engine`), and what happens on a GPU when one cannot run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from doh.errors import EncodeError, warn
from doh.model import Target
from doh.train import fused

#: Units of a layer that the Triton kernels take at most: a layer of a tile must fit into a multiprocessor.
TRITON_WIDTH = 256


def steps_for(engine: str, device: torch.device, target: Target) -> tuple[str, ...]:
    """The steps to try by this setting, best first: "compiled" (CPU), "triton", "graph" (CUDA), "eager".

    Raises EncodeError where engine = fused, or the variable DOH_TRAIN_KERNEL, asks for what this installation or device does not have.
    """
    if device.type == "cpu":
        able, reason = fused.available(), "is missing from this installation"
        if able and engine != "eager":
            fused.check_kernel()
    else:
        able, reason = device.type == "cuda" and find_spec("triton") is not None, f"needs Triton on {device.type}, which is not installed"
        if able and target.width > TRITON_WIDTH:
            able, reason = False, f"takes at most {TRITON_WIDTH} units on {device.type}, not {target.width}"
    best = "compiled" if device.type == "cpu" else "triton"
    if engine == "fused":
        if not able:
            raise EncodeError(f"engine = fused {reason}: use auto")
        return (best,)
    if engine == "eager":
        return ("eager",)
    graph = ("graph",) if device.type == "cuda" else ()
    return (*((best,) if able else ()), *graph, "eager")


def device_of(name: str) -> torch.device:
    """The device that a setting names; "auto" is a GPU that computes, else the CPU. Raises EncodeError where it is unknown or missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and _cuda_computes() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise EncodeError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def pinned(name: str) -> str:
    """The setting `device` for other threads: "cuda" alone is the current GPU of the thread that says it."""
    device = device_of(name)
    return f"cuda:{torch.cuda.current_device()}" if device.type == "cuda" and device.index is None else name


@cache
def _cuda_computes() -> bool:
    """Whether the GPU does, which torch only counts: it may be too old for this build, or full. Asked once, with a warning where it does not."""
    try:
        torch.zeros(1, device="cuda").item()
    except (RuntimeError, AssertionError) as error:
        warn(f"the GPU cannot be used, training is on the CPU: {str(error).splitlines()[0]}")
        return False
    return True


class FirstThatRuns:
    """Calls the first of some steps; one that fails in its first call gives way to the next, with a warning. The last may fail.

    What a GPU, its driver and Triton do together shows in the first launch only: a kernel may need more memory than a multiprocessor has, or a C compiler
    that is missing.
    """

    def __init__(self, steps: Sequence[tuple[str, Callable[[], Callable[..., tuple[Tensor, list[Tensor]]]]]]) -> None:
        self.steps = list(steps)  # until one has run
        self.name = self.steps[0][0] if steps else ""  # of the step in use, or the one to be tried next
        self.ready: Callable[..., tuple[Tensor, list[Tensor]]] | None = None

    def __call__(self, *arguments: Any) -> tuple[Tensor, list[Tensor]]:
        while self.ready is None:
            name, make = self.steps[0]
            try:
                step = make()
                result = step(*arguments)
            except Exception as error:
                if len(self.steps) == 1:
                    raise
                del self.steps[0]
                self.name = self.steps[0][0]
                text = (str(error).strip().splitlines() or [""])[0]
                warnings.warn(f"the training step {name!r} cannot run here, {self.name!r} takes its place ({type(error).__name__}: {text})", stacklevel=2)
                continue
            self.ready = step
            self.steps.clear()
            return result
        return self.ready(*arguments)
