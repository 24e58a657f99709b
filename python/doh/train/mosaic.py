"""The training of a signal that is cut into parts (doh.train.parts): a run for each of their networks, all taking their steps together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from threading import Lock

import torch
from torch import Tensor

from doh.config import Config
from doh.errors import EncodeError
from doh.model import Mosaic
from doh.signal import Signal
from doh.train.gradient import Workers
from doh.train.parts import Part, cut_out, parts_for, shares
from doh.train.plan import LEAST_WEIGHTS_PER_LATENT, MAX_WEIGHTS, bits_of, budget_of, estimate, latents_for, omega_for, plan, target_for, with_encoding
from doh.train.projection import Projection
from doh.train.run import Diverged, Run, Start, new_projection

#: Bits of a latent, about, where the number of latents says how much there is to be shared out.
LATENT_BITS = 5.2
#: A training is long from so many points, or seconds by the clock, for each latent on: then a part's network has so many weights for each latent, and the
#: depth of those that share latents, and its batch is this share of one network's. In a short one weights are few: large networks get too few steps.
LONG_POINTS, LONG_SECONDS, LONG_WEIGHTS_PER_LATENT, LONG_BATCH = 600, 1.0e-3, 2.25, 0.5
#: One that is longer than this has more weights, as the square root of its length, up to so many times; but not in more parts than these, where it harms.
LONGER, MORE_WEIGHTS, MOST_PARTS = 1.9, 4 / 3, 4
#: All parts together take at most so many steps, and so much work (points times weights; a fraction of a second), before they wait for each other; but
#: each takes one.
AHEAD, AHEAD_WORK = 48, 3 << 29
#: Where all networks together would have more weights than decoders take, this share of those is aimed at: widths are whole numbers.
WEIGHTS_AIM = 0.96


def run_for(signal: Signal, config: Config, projection: Callable[..., Projection] = new_projection, start: Start | None = None) -> Run | MosaicRun:
    """The training of a signal, in one network or in several. Raises EncodeError for what cannot be encoded."""
    parts = (1,) if start else parts_for(signal, config)
    return Run(signal, config, projection, start) if prod(parts) == 1 else MosaicRun(signal, config, parts, projection)


class MosaicRun:
    """What Run is for one network, for those of all parts of a signal. They share a budget, the clock and the checkpoint.

    A step is one for each part, with a batch of its own points; parts take several before they wait for each other. The results of parts do not
    depend on each other, nor on the number of threads.
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
        work = sum(run.batch * run.plan.target.weights for run in self.runs)
        self.ahead = max(1, min(AHEAD // len(self.runs), AHEAD_WORK // work))  # steps of a part before all wait for each other
        self.at_work = False  # whether threads are, or may be, amid a step

    def _configs(self, pieces: list[Part]) -> list[Config]:
        """The settings of each part's run. Raises EncodeError for a budget that is too small, and for too many weights in all."""
        config, signal = self.config, self.signal
        points = signal.samples.size // signal.channels
        common = with_encoding(signal, config, [piece.signal for piece in pieces]).replace(
            parts="1",
            omega=config.omega or omega_for(points // len(pieces)),
            weights_per_latent=config.weights_per_latent or LEAST_WEIGHTS_PER_LATENT,
        )
        latents = latents_for(signal, config)
        length = length_of(config, points, 8 * self.budget / bits_of(signal, config) if self.budget else latents)
        if length < 1:
            if config.sampling == "auto" and signal.kind != "occupancy":  # looking at errors brings nothing to small networks (docs/training-experiments.md)
                common = common.replace(sampling="random")
        elif not config.weights_per_latent:
            more = min(max(length / LONGER, 1.0) ** 0.5, MORE_WEIGHTS) if len(pieces) <= MOST_PARTS else 1.0
            common = common.replace(weights_per_latent=LONG_WEIGHTS_PER_LATENT * more, batch=max(1, int(config.batch * LONG_BATCH)))
        if config.epochs:  # parts may differ by a row of points, but not in their steps
            most = max(piece.signal.samples.size // signal.channels for piece in pieces)
            common = common.replace(steps=config.epochs * -(-most // min(common.batch, most)), epochs=0)
        portions = shares(pieces, 8 * self.budget or LATENT_BITS * latents)

        def own(common: Config) -> tuple[list[Config], int]:
            if self.budget:
                configs = [common.replace(bytes=size) for size in self._sizes(pieces, common, portions)]
            else:
                configs = [_with_latents(piece.signal, common, max(1, round(latents * share))) for piece, share in zip(pieces, portions)]
            weights = 0
            for number, (piece, each) in enumerate(zip(pieces, configs)):
                with self._naming(number):
                    weights += plan(piece.signal, each).target.weights
            return configs, weights

        configs, weights = own(common)
        if weights > MAX_WEIGHTS and not config.weights_per_latent and common.weights_per_latent > LEAST_WEIGHTS_PER_LATENT:
            fewer = common.weights_per_latent * WEIGHTS_AIM * MAX_WEIGHTS / weights
            common = common.replace(weights_per_latent=max(LEAST_WEIGHTS_PER_LATENT, fewer))
            configs, weights = own(common)
        if weights > MAX_WEIGHTS and not config.width and config.generator != "plain":  # as of one network: finer steps, or fewer weights for each latent
            much = weights / (WEIGHTS_AIM * MAX_WEIGHTS)
            change = {"bits": min(16.0, bits_of(signal, config) * much)} if self.budget else {"weights_per_latent": common.weights_per_latent / much}
            configs, weights = own(common.replace(**change))
        if weights > MAX_WEIGHTS:
            raise EncodeError(f"{len(pieces)} networks of {weights} weights in all are too large, {MAX_WEIGHTS} are the most: ask for a smaller file")
        return configs

    def _sizes(self, pieces: list[Part], common: Config, portions: list[float]) -> list[int]:
        """Bytes for each part's run: of a file of its own, which has some that a part has not. Raises EncodeError for a budget that is too small."""
        seed, once = common.seed, _once_bytes(self.signal, self.parts, common.seed)
        extra = [_alone_bytes(piece.signal, seed) - _varint_bytes(self.budget) for piece in pieces]
        fixed = common.generator == "plain" and common.width  # a network whose size the quantisation step alone decides
        least = [1 if fixed else 1 + estimate(piece.signal, common, 1) - more for piece, more in zip(pieces, extra)]
        if self.budget < once + sum(least):
            what = f"parts = {'x'.join(map(str, self.parts))}"
            raise EncodeError(f"{self.budget} bytes are too few for {what}: the smallest file is about {once + sum(least)} bytes")
        wanted = [(self.budget - once) * share for share in portions]
        return [int(size) + more for size, more in zip(at_least(wanted, least), extra)]

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """An EncodeError inside says which part it is about."""
        try:
            yield
        except Diverged:
            raise
        except EncodeError as error:
            raise EncodeError(f"part {number + 1} of {prod(self.parts)}: {error}") from None

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
        """Whether all are in the finish, in which numbers are rounded."""
        return all(run.rounding for run in self.runs)

    @property
    def whole(self) -> bool:
        return not self.at_work and all(run.whole for run in self.runs)

    def train(self, workers: Workers) -> None:
        """Some steps for each part; parts that had to begin anew catch up first. By the clock it is one. Raises EncodeError."""
        step = self.step
        todo = [run for run in self.by_work if run.step == step]
        until = min((run.step for run in self.runs if run.step > step), default=self.steps)
        left = dict.fromkeys(todo, 1 if self.share is not None else max(1, min(self.ahead, until - step)))
        threads = min(workers.threads, len(todo))
        if threads > 1 and workers.pool:
            shared = _SharedOut(left)
            self.at_work = True  # still so after a second Ctrl-C: threads go on then, to the end of a step
            try:
                workers.run(shared.work, threads)
            except BaseException:
                shared.stop()
                raise
            self.at_work = False
        else:
            for run, steps in left.items():
                for _ in range(steps):
                    run.train(workers)
        most = max(run.restarts for run in self.runs)
        if self.share is not None and any(run.restarts < most for run in self.runs):  # the clock is one for all
            self.share = 0.0
            for run in self.runs:
                while run.restarts < most:
                    run.begin_anew()

    def call(self, name: str) -> None:
        """What warnings call it; those about one part say which."""
        for number, run in enumerate(self.runs):
            run.call(", ".join(filter(None, (name, f"part {number + 1} of {len(self.runs)}"))))

    def ends_well(self) -> bool:
        """Run.ends_well of all; parts that begin anew catch up with the others."""
        well = [run.ends_well() for run in self.runs]
        return all(well)

    def pace(self, share: float) -> None:
        """Run.pace for all."""
        self.share = share
        for run in self.runs:
            run.pace(share)

    def finished(self, another: Callable[[], bool] = lambda: True) -> Mosaic:
        """The model to be packed. Raises EncodeError."""
        models = []
        for number, run in enumerate(self.runs):
            with self._naming(number):
                models.append(replace(run.finished(another), shape=self.signal.shape))
        return Mosaic(self.parts, tuple(models))


class _SharedOut:
    """So many steps of each run, for several threads to take: a run on one thread at a time, first those that have most of them left.

    So a part is on each core, which is better than all cores on one after the other, and cores wait for each other once in many steps.
    """

    def __init__(self, left: dict[Run, int]) -> None:
        self.left, self.taken, self.lock = left, set[Run](), Lock()

    def work(self, _: int) -> None:
        """What each thread calls. An error in one of them stops all."""
        alone = Workers(1, None)
        while run := self._take():
            try:
                run.train(alone)
            except BaseException:
                self.stop()
                raise
            finally:
                with self.lock:
                    self.taken.discard(run)

    def stop(self) -> None:
        """No further step begins."""
        with self.lock:
            self.left.clear()

    def _take(self) -> Run | None:
        with self.lock:
            free = [run for run, steps in self.left.items() if steps and run not in self.taken]
            if not free:  # what is left of the others is taken by those who are at it
                return None
            run = max(free, key=self.left.__getitem__)
            self.left[run] -= 1
            self.taken.add(run)
            return run


def length_of(config: Config, points: int, numbers: float) -> float:
    """How long a training is, of a signal of so many points, for a file of about so many latents; from 1 on it has time for larger networks of parts."""
    if config.seconds:
        return config.seconds / (LONG_SECONDS * numbers)
    return (config.epochs * points or config.steps * min(config.batch, points)) / (LONG_POINTS * numbers)


def at_least(wanted: list[float], least: list[int]) -> list[float]:
    """Numbers of the same sum, none below its least; the others give what is lacking, in proportion to what they have to spare."""
    lacking = sum(max(0.0, low - size) for size, low in zip(wanted, least))
    spare = sum(max(0.0, size - low) for size, low in zip(wanted, least))
    return [max(size, low) - (lacking * max(0.0, size - low) / spare if lacking else 0.0) for size, low in zip(wanted, least)]


def _with_latents(signal: Signal, config: Config, latents: int) -> Config:
    """The settings for so many latents; those of a plain network are its weights, so that its shape says how many there are."""
    if config.generator != "plain":
        return config.replace(latents=latents)
    target = target_for(signal, config, latents)
    return config.replace(width=target.width, depth=target.depth)


def _varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


def _once_bytes(signal: Signal, parts: tuple[int, ...], seed: int) -> int:
    """Bytes that a file of several networks has once (docs/format.md, section 2.1)."""
    return 5 + 2 + sum(map(_varint_bytes, (*signal.shape, *parts))) + 2 + _varint_bytes(seed) + 8


def _alone_bytes(signal: Signal, seed: int) -> int:
    """Bytes of a file of one network that are not in a part's record."""
    return 5 + 2 + sum(map(_varint_bytes, signal.shape)) + 2 + _varint_bytes(seed) + 8
