"""Loss and gradients of one batch of grid points, shared among threads on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import ceil, prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from doh.config import Config
from doh.model import TOP, Target
from doh.signal import Signal
from doh.train.engine import FirstThatRuns
from doh.train.fused import FusedGradient
from doh.train.graphs import Graphed
from doh.train.projection import Projection
from doh.train.quantise import round_through
from doh.train.siren import Backpropagation, Encoding

#: Points in one piece of a batch on the CPU: fits the cache, and is the same whatever the number of threads, so that results do not depend on that. On a
#: GPU: what its memory holds several layers of.
CHUNK, GPU_CHUNK = 2048, 1 << 17

#: (point numbers, weights of each layer, biases, output bias, workers) -> the loss and its gradients.
Step = Callable[..., tuple[Tensor, list[Tensor]]]


class Trained(Protocol):
    """What is trained and what weights come from: of a Run, or with one more dimension in front of several (doh.train.stack)."""

    latents: Tensor  # (n,)
    worth: Tensor | None  # (n,)
    biases: Tensor  # (depth, width)
    output_bias: Tensor  # (channels,)
    omegas: Tensor  # (depth, 1)
    projection: Projection
    gain: Tensor  # (D,)
    l1: Tensor | None  # (D,)


def backpropagate(of: Trained, rounding: tuple[float | Tensor | None, float | Tensor] | None, gradient: Callable[..., tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Adds one batch's gradients to latents, biases and output biases, and returns its loss.

    rounding: steps of latents (None: they stay as they are) and of biases in radians, or None. gradient: loss and gradients for weights (D,), biases in
    radians and output biases.
    """
    latents, biases = of.latents if of.worth is None else of.latents / of.worth, of.biases * of.omegas
    if rounding:
        latents = latents if rounding[0] is None else round_through(latents, rounding[0])
        biases = round_through(biases, rounding[1])
    flat = of.projection.flat(latents) * of.gain
    loss, gradients = gradient(flat.detach(), biases.detach(), of.output_bias.detach())
    if of.l1 is not None:
        gradients = [gradients[0] + of.l1 * flat.detach().sign(), *gradients[1:]]
    torch.autograd.backward([flat, biases, of.output_bias], gradients)
    return loss


def stored_samples(signal: Signal, device: torch.device) -> tuple[Tensor, float, float]:
    """(points, channels) samples as they are, and (low, top) with which (sample - low) / top lies in [0, 1]."""
    flat = signal.samples.reshape(-1, signal.channels)
    wide = flat.astype(np.int32) if flat.dtype == np.uint16 else np.array(flat)
    return torch.from_numpy(wide).to(device), -32768.0 if signal.sample_type == "s16" else 0.0, float(TOP[signal.sample_type])


class BatchGradient:
    """Mean squared error over a batch and its gradients, by one of several steps. Nothing depends on the number of threads.

    samples: (points, channels) as stored; (sample - low) / top is what the network is to give. `fused` is True for the compiled step, on the CPU, False
    for torch's, or names the steps to try (doh.train.engine.steps_for).
    """

    def __init__(self, target: Target, encoding: Encoding, samples: Tensor, low: float, top: float, batch: int, fused: bool | Sequence[str] = False) -> None:
        names = fused if not isinstance(fused, bool) else ("compiled",) if fused else ("eager",)
        self.fused = FusedGradient(target, encoding, samples, low, top) if names[0] == "compiled" else None
        self.low, self.top = low, top
        # the makers do not know this object: what refers to itself is freed late
        data = target, encoding, samples, low, top
        makers: dict[str, Callable[[], Step]] = {
            "triton": partial(_triton, *data),
            "graph": partial(_graph, *data, batch),
            "eager": partial(_Eager, *data, batch),
        }
        self.step = FirstThatRuns([(name, makers[name]) for name in names if name in makers])

    def __call__(
        self, points: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, workers: Workers, importance: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The loss, and its gradients for all weights (D,), biases (depth, width) and output bias, over row-major point numbers (batch,).

        importance: what the squared errors of each point count, float32 (batch,); without it 1.
        """
        if self.fused:
            return self.fused(points, weights, biases, output_bias, workers.threads, importance)
        return self.step(points, weights, biases, output_bias, workers, importance)


def _triton(target: Target, encoding: Encoding, samples: Tensor, low: float, top: float) -> Step:
    from doh.train.triton_step import TritonGradient

    step = TritonGradient(target, encoding, samples, low, top)
    return lambda points, weights, biases, output_bias, workers, importance: step(points, weights, biases, output_bias, importance)


def _graph(target: Target, encoding: Encoding, samples: Tensor, low: float, top: float, batch: int) -> Step:
    eager = _Eager(target, encoding, samples, low, top, batch)
    graph = Graphed(lambda points, importance, biases, output_bias, *weights: eager(points, weights, biases, output_bias, Workers(1, None), importance))

    def step(
        points: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, _: Workers, importance: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        counts = torch.ones(len(points), device=samples.device) if importance is None else importance
        return graph(*(t.to(samples.device, non_blocking=True) for t in (points, counts)), biases, output_bias, *weights)

    return step


class _Eager:
    """The gradient by torch, in pieces on the CPU. Neither the pieces nor the order of their sum depend on the number of threads."""

    def __init__(self, target: Target, encoding: Encoding, samples: Tensor, low: float, top: float, batch: int) -> None:
        self.target, self.encoding, self.samples, self.low, self.top, self.device = target, encoding, samples, low, top, samples.device
        self.chunk = min(CHUNK if self.device.type == "cpu" else GPU_CHUNK, batch)
        self.pieces = ceil(batch / self.chunk)
        biases = [(target.depth, target.width), (target.channels,)]
        self.shapes = [*target.layer_shapes, *biases]
        sizes = [prod(shape) for shape in self.shapes]
        self.whole = [(target.weights,), *biases]
        self.sums = torch.zeros(self.pieces, sum(sizes), device=self.device)
        self.errors = torch.zeros(self.pieces, device=self.device)
        self.views = [[part.view(shape) for part, shape in zip(row.split(sizes), self.shapes)] for row in self.sums]
        self.workers: list[Backpropagation] = []

    def __call__(
        self, points: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, workers: Workers, importance: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        pieces = points.split(self.chunk)
        counts: Sequence[Tensor | None] = [None] * len(pieces) if importance is None else importance.to(self.device).split(self.chunk)
        total = len(points) * self.target.channels
        count = min(workers.threads, len(pieces))
        while len(self.workers) < count:
            self.workers.append(Backpropagation(self.target, self.chunk, self.device))

        def work(worker: int) -> None:
            for i in range(worker, len(pieces), count):
                piece = pieces[i].to(self.device, non_blocking=True)
                wanted = (self.samples[piece].to(torch.float32) - self.low) / self.top
                inputs = self.encoding(piece)
                self.errors[i] = self.workers[worker](inputs, wanted, weights, biases, output_bias, self.views[i], 1 / total, counts[i])

        workers.run(work, count)
        parts = self.sums[: len(pieces)].sum(0).split([prod(shape) for shape in self.whole])
        return self.errors[: len(pieces)].sum() / total, [part.view(shape) for part, shape in zip(parts, self.whole)]


class Workers:
    """Threads that each run torch on one core. Torch's own parallel loops would meet at a barrier a hundred times a step, and change sums."""

    def __init__(self, threads: int, pool: ThreadPoolExecutor | None) -> None:
        self.threads, self.pool = threads, pool

    def run(self, work: Callable[[int], None], count: int) -> None:
        """work(0), ..., work(count - 1), at the same time where there are threads."""
        if self.pool and count > 1:
            list(self.pool.map(work, range(count)))
        else:
            for worker in range(count):
                work(worker)


@contextmanager
def workers_for(device: torch.device, threads: int) -> Iterator[Workers]:
    """Workers on a device; `threads` = 0 means all cores. Torch's own number of threads is 1 inside, and as before afterwards."""
    if device.type != "cpu":
        yield Workers(1, None)
        return
    threads = Config(threads=threads).cores
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(threads, pool)
    finally:
        torch.set_num_threads(before)
