"""The training of a signal that is cut into parts (doh.train.parts): a run for each of their networks, all taking their steps together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from math import prod

import torch
from torch import Tensor

from doh.config import Config
from doh.model import Mosaic
from doh.signal import Signal
from doh.train.gradient import Workers
from doh.train.parts import Part, cut_out, parts_for, shares
from doh.train.plan import LEAST_WEIGHTS_PER_LATENT, budget_of, encoding_for, latents_for, omega_for
from doh.train.projection import Projection
from doh.train.run import Run, Start, new_projection

#: Bits of a latent, about, where the number of latents says how much there is to be shared out.
LATENT_BITS = 6.0


def run_for(signal: Signal, config: Config, projection: Callable[..., Projection] = new_projection, start: Start | None = None) -> Run | MosaicRun:
    """The training of a signal, in one network or in several. Raises EncodeError for what cannot be encoded."""
    parts = (1,) if start else parts_for(signal, config)
    return Run(signal, config, projection, start) if prod(parts) == 1 else MosaicRun(signal, config, parts, projection)


class MosaicRun:
    """What Run is for one network, for those of all parts of a signal. They share a budget, the clock and the checkpoint.

    A step is one of Adam for each part, with a batch of its own points. The results of parts do not depend on each other, nor on the number of threads.
    Raises EncodeError for what cannot be encoded.
    """

    def __init__(self, signal: Signal, config: Config, parts: tuple[int, ...], projection: Callable[..., Projection] = new_projection) -> None:
        self.signal, self.config, self.parts = signal, config, parts
        self.budget = budget_of(signal, config)
        pieces = cut_out(signal, parts)
        self.runs = [Run(piece.signal, own, projection, axes=piece.axes) for piece, own in zip(pieces, self._configs(pieces))]
        self.by_work = sorted(self.runs, key=lambda run: run.batch * run.plan.target.weights, reverse=True)
        points = torch.tensor([run.points for run in self.runs], dtype=torch.float64)
        self.weighing = (points / points.sum()).to(torch.float32)
        self.elapsed = 0.0  # seconds spent on it, up to the last checkpoint
        self.share: float | None = None  # of a training that ends by the clock: how much is over

    def _configs(self, pieces: list[Part]) -> Iterator[Config]:
        """The settings of each part's run."""
        config, signal = self.config, self.signal
        points, longest = signal.samples.size // signal.channels, max(max(piece.signal.shape) for piece in pieces)
        frequencies, ladder = encoding_for(longest, config)
        common = config.replace(
            parts="1",
            frequencies=frequencies,
            ladder=ladder,
            omega=config.omega or omega_for(points // len(pieces)),
            weights_per_latent=config.weights_per_latent or LEAST_WEIGHTS_PER_LATENT,
        )
        if config.epochs:  # parts may differ by a row of points, but not in their steps
            most = max(piece.signal.samples.size // signal.channels for piece in pieces)
            common = common.replace(steps=config.epochs * -(-most // min(config.batch, most)), epochs=0)
        latents = latents_for(signal, config)
        portions = shares(pieces, 8 * self.budget or LATENT_BITS * latents)
        if not self.budget:
            return (common.replace(latents=max(1, round(latents * share))) for share in portions)
        spare = self.budget - _once_bytes(signal, self.parts, config.seed)
        # a run counts the bytes of a file of its own, which has some that a part has not
        own = [_alone_bytes(piece.signal, config.seed) - _varint_bytes(self.budget) for piece in pieces]
        return (common.replace(bytes=max(1, int(spare * share) + extra)) for share, extra in zip(portions, own))

    # what a training asks of a run

    @property
    def step(self) -> int:
        return min(run.step for run in self.runs)

    @property
    def steps(self) -> int:
        return self.runs[0].steps

    @property
    def pass_steps(self) -> int:
        return max(run.pass_steps for run in self.runs)

    @property
    def loss(self) -> Tensor:
        """Mean squared error of recent batches, over all points."""
        return (torch.stack([run.loss.cpu() for run in self.runs]) * self.weighing).sum()

    @property
    def restarts(self) -> int:
        return sum(run.restarts for run in self.runs)

    @property
    def rounding(self) -> bool:
        """Whether all train with rounded numbers."""
        return all(run.rounding for run in self.runs)

    @property
    def whole(self) -> bool:
        return all(run.whole for run in self.runs)

    def train(self, workers: Workers) -> None:
        """One step of Adam for each part; parts that had to begin anew catch up first. Raises EncodeError."""
        step = self.step
        todo = [run for run in self.by_work if run.step == step]
        threads = min(workers.threads, len(todo))
        if threads > 1 and workers.pool:  # a part on each core: better than all cores on one after the other
            numbers, alone = count(), Workers(1, None)

            def work(_: int) -> None:
                while (number := next(numbers)) < len(todo):
                    todo[number].train(alone)

            workers.run(work, threads)
        else:
            for run in todo:
                run.train(workers)
        most = max(run.restarts for run in self.runs)
        if self.share is not None and any(run.restarts < most for run in self.runs):  # the clock is one for all
            self.share = 0.0
            for run in self.runs:
                while run.restarts < most:
                    run.restart()

    def pace(self, share: float) -> None:
        """Run.pace for all."""
        self.share = share
        for run in self.runs:
            run.pace(share)

    def finished(self, another: Callable[[], bool] = lambda: True) -> Mosaic:
        """The model to be packed. Raises EncodeError."""
        return Mosaic(self.parts, tuple(replace(run.finished(another), shape=self.signal.shape) for run in self.runs))


def _varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


def _once_bytes(signal: Signal, parts: tuple[int, ...], seed: int) -> int:
    """Bytes that a file of several networks has once (docs/format.md, section 2.1)."""
    return 5 + 2 + sum(map(_varint_bytes, (*signal.shape, *parts))) + 2 + _varint_bytes(seed) + 8


def _alone_bytes(signal: Signal, seed: int) -> int:
    """Bytes of a file of one network that are not in a part's record."""
    return 5 + 2 + sum(map(_varint_bytes, signal.shape)) + 2 + _varint_bytes(seed) + 8
