"""Batches from where the errors are, without a bias: points are drawn in proportion to the errors around them, and count the less for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from doh.train.fused import _train, available, siren

if TYPE_CHECKING:
    from doh.train.run import Run

#: Points of a block, about, and the most blocks: errors are known block by block.
BLOCK_POINTS, MOST_BLOCKS = 64, 8192
#: Points of a block at which its error is measured.
PROBES = 12
#: Share of the draws that do not look at errors: what is known of them is some steps old, and of a few points.
EVEN = 0.3
#: Points whose errors are computed at a time.
PIECE = 8192
#: Errors are measured before this step, and every so many steps after it.
FIRST_MEASURED, MEASURED_EVERY = 200, 400
_MASK = (1 << 31) - 1


class ErrorSampler:
    """Draws row-major numbers of grid points, with replacement, more of them where errors are large.

    The grid is cut into blocks. One is drawn in proportion to its points, times (but for a share EVEN of the draws) the root mean square error that a few of
    its points had when they were last measured, then a point of it evenly. A point that is k times as probable as by even draws has the importance 1 / k: so
    the batch's mean of importance times squared error estimates the mean over the grid, like that of an even batch, and its gradient that of the grid. Its
    variance is least where points are drawn in proportion to the size of their own gradients, of which the error is the part that differs most.

    All randomness comes from `generator`; blocks are drawn at even steps of their cumulated probability, so that their numbers vary least.
    """

    def __init__(self, shape: Sequence[int], generator: torch.Generator) -> None:
        self.shape, self.generator = tuple(shape), generator
        points, dims = prod(shape), len(shape)
        counts = block_counts(shape)
        edges = [torch.arange(count + 1) * length // count for count, length in zip(counts, shape)]
        self.strides = [prod(shape[dim + 1 :]) for dim in range(dims)]
        firsts = torch.meshgrid(*(e[:-1] * stride for e, stride in zip(edges, self.strides)), indexing="ij")
        self.first = torch.stack(firsts).sum(0).reshape(-1)  # the number of each block's first point, int64 (blocks,)
        self.extents = [grid.reshape(-1).contiguous() for grid in torch.meshgrid(*(e.diff() for e in edges), indexing="ij")]  # int64 (blocks,) by dimension
        self.share = torch.stack(self.extents).prod(0).to(torch.float64) / points
        self.reset()

    def reset(self) -> None:
        """Forgets all errors: draws are even."""
        self.errors = torch.zeros(len(self.first))
        self._settle()

    def restore(self, errors: Tensor) -> None:
        """Takes up the state of another sampler of the same shape, its `errors`."""
        self.errors = errors
        self._settle()

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Row-major point numbers, int64 (batch,), and their importance, float32 (batch,)."""
        offset = torch.rand((), dtype=torch.float64, generator=self.generator)
        if available():
            return self._draw_compiled(offset.item(), batch)
        return self._draw_by_torch(offset, batch)

    def _draw_compiled(self, offset: float, batch: int) -> tuple[Tensor, Tensor]:
        """What _draw_by_torch gives, in one pass."""
        words = torch.stack([torch.randint(1 << 62, (batch,), generator=self.generator) for _ in range(0, len(self.shape), 2)])
        points, counts = torch.empty(batch, dtype=torch.int64), torch.empty(batch)
        _train.draw(*self.arrays, self.strides, offset, words.numpy(), points.numpy(), counts.numpy())
        return points, counts

    def _draw_by_torch(self, offset: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        ends = (self.cumulated * batch - offset).ceil_().to(torch.int64)  # how many of 0 + offset, 1 + offset, .. lie below
        ends[-1] = batch
        ends[1:] -= ends[:-1].clone()
        block = torch.repeat_interleave(ends, output_size=batch)
        return self._points(block), self.importance.index_select(0, block)  # which is ten times as fast as indexing

    def follow(self, step: int, squared_errors: Callable[[Tensor], Tensor]) -> None:
        """To be called before each step: measures where it is time to."""
        if step >= FIRST_MEASURED and (step - FIRST_MEASURED) % MEASURED_EVERY == 0:
            self.measure(squared_errors)

    def measure(self, squared_errors: Callable[[Tensor], Tensor]) -> None:
        """Measures the errors of all blocks anew, and means them with what was known. squared_errors: float32 (n,) for point numbers, int64 (n,)."""
        block = torch.arange(len(self.errors)).repeat_interleave(PROBES)
        found = squared_errors(self._points(block)).view(-1, PROBES).mean(1)
        if torch.isfinite(found).all():  # else training is about to find out
            self.restore((self.errors + found) / 2 if self.errors.any() else found)

    def _points(self, block: Tensor) -> Tensor:
        """An even point of each block, int64 (n,): row-major numbers."""
        number = self.first.index_select(0, block)
        for dim, (extent, stride) in enumerate(zip(self.extents, self.strides)):
            if dim % 2 == 0:  # a word has random bits for two dimensions
                words = torch.randint(1 << 62, (len(block),), generator=self.generator)
            half = words & _MASK if dim % 2 == 0 else words >> 31
            number += (half.mul_(extent.index_select(0, block)) >> 31).mul_(stride)
        return number

    def _settle(self) -> None:
        """The probabilities that follow from the errors."""
        wanted = self.errors.to(torch.float64).sqrt() * self.share
        total = wanted.sum()
        probability = EVEN * self.share + (1 - EVEN) * wanted / total if total > 0 else self.share
        self.importance = (self.share / probability).to(torch.float32)
        self.cumulated = probability.cumsum(0)
        # Handed over in no time, where tensors take longer than a draw.
        self.arrays = self.cumulated.numpy(), self.importance.numpy(), self.first.numpy(), [extent.numpy() for extent in self.extents]


def block_counts(shape: Sequence[int]) -> list[int]:
    """Blocks along each dimension: as near to cubes as they get, at most MOST_BLOCKS in all."""
    volume, left, side = max(BLOCK_POINTS, prod(shape) / MOST_BLOCKS), len(shape), 1.0
    for length in sorted(shape):  # a block is as long as a short dimension, and the longer in the others
        side = volume ** (1 / left)
        if length >= side:
            break
        volume, left = volume / length, left - 1
    return [max(1, int(length / side)) for length in shape]


@torch.no_grad()
def squared_errors(run: Run, points: Tensor) -> Tensor:
    """Mean squared errors over the channels, float32 (n,), at row-major point numbers int64 (n,), of the network as it is before rounding."""
    flat, biases, bias, fused = run.projection.flat(run.unit_latents) * run.gain, run.biases * run.omegas, run.output_bias.detach(), run.gradient.fused
    found = []
    for piece in [points] if fused else points.to(run.device).split(PIECE):
        if fused:
            outputs = fused.outputs(piece, flat, biases, bias, run.config.cores)
        else:
            outputs = siren(run.encoding(piece), run.projection.split(flat), biases, bias, threads=run.config.cores)
        wanted = (run.samples.index_select(0, piece).to(torch.float32) - run.gradient.low) / run.gradient.top
        found.append((outputs - wanted).square().mean(1))
    return torch.cat(found).cpu()
