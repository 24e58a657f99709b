"""Training: one signal, one latent vector, Adam (the paper's section 3); the last part with rounded numbers, so that the file loses little."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, cos, log10, pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from doh.config import Config
from doh.container import pack_unsealed
from doh.errors import EncodeError
from doh.model import TOP, QuantModel
from doh.signal import Signal
from doh.train import checkpoint as checkpoints
from doh.train.plan import Plan, plan
from doh.train.projection import KINDS, initial_latents
from doh.train.quantise import Quantiser, Steps, round_through, wrap
from doh.train.siren import Backpropagation, Encoding, initial_gains

#: Points in one piece of a batch on the CPU: fits the cache, and is the same whatever the number of threads, so that results do not depend on that.
CHUNK = 2048
#: Seconds between progress reports.
REPORT_SECONDS = 0.25
#: The step is steered to the budget this many times, evenly, in the first part of the finish; what is aimed at, as a share of the budget.
STEERINGS, STEER_UNTIL, STEER_AIM = 10, 0.7, 0.99
#: A file must fill its budget to this share.
FILL = 0.97


@dataclass(frozen=True)
class Progress:
    """A report of fit(), a few times a second."""

    step: int
    steps: int
    phase: str  # "fit", "finish" (with rounded numbers) or "quantise"
    psnr: float  # dB, of recent batches; an estimate
    loss: float  # mean squared error of recent batches, on the scale [0, 1]
    rate: float  # steps a second
    elapsed_s: float
    remaining_s: float
    bytes: int  # of the file, as far as known; 0 before


class Run:
    """The state of one training: everything that a checkpoint holds, and what follows from signal and settings."""

    def __init__(self, signal: Signal, config: Config) -> None:
        self.signal, self.config = signal, config
        self.device = device_of(config.device)
        self.plan: Plan = plan(signal, config)
        target, n = self.plan.target, self.plan.latents
        self.points = int(np.prod(signal.shape, dtype=np.int64))
        self.batch = min(config.batch, self.points)
        self.pass_steps = ceil(self.points / self.batch)
        self.steps = config.epochs * self.pass_steps or config.steps
        self.finish_from = self.steps - int(self.steps * config.finish)

        omegas = [self.plan.first_omega] + [self.plan.omega] * (target.depth - 1)
        self.omegas = torch.tensor(omegas, device=self.device)[:, None]
        self.projection = KINDS[config.generator](config.seed, n, target.layer_shapes).to(self.device)
        self.quantiser = Quantiser(target, self.projection, initial_gains(target, self.plan.omega, config.gains), omegas, config.bias_step)
        self.encoding = Encoding(signal.shape, target.frequencies, target.ladder, self.device)
        self.samples, self.low, self.top = _samples(signal, self.device)

        self.latents = initial_latents(config.seed, n).to(self.device).requires_grad_()
        self.biases = torch.zeros(target.depth, target.width, device=self.device, requires_grad=True)
        self.output_bias = torch.full((target.channels,), 0.5, device=self.device, requires_grad=True)
        per_latent = n if config.latent_scale == "paper" else 1
        groups = [
            {"params": [self.latents], "lr": config.lr_latents * per_latent, "eps": config.adam_eps / per_latent},
            {"params": [self.biases, self.output_bias], "lr": config.lr_biases, "eps": config.adam_eps},
        ]
        self.optimiser = torch.optim.Adam(groups, betas=(config.beta1, config.beta2), fused=True)
        self.base_rates = [g["lr"] for g in groups]
        self.generator = torch.Generator().manual_seed(config.seed % (1 << 63))
        self.order = torch.empty(0, dtype=torch.int64)  # what is left of the present pass when sampling without replacement
        self.loss = torch.zeros((), device=self.device)
        self.step = 0
        self.quantisation: Steps | None = None
        self.gain = self.projection.spread(self.quantiser.radians).to(self.device)

    # one step

    def train(self, sum_gradient: SumGradient) -> None:
        config, finishing = self.config, self.step >= self.finish_from
        factor = learning_rate(self.step, self.steps, self.pass_steps, config)
        for group, base in zip(self.optimiser.param_groups, self.base_rates):
            group["lr"] = base * factor
        if finishing:
            self.steer()
        latents, biases = self.latents, self.biases * self.omegas
        if finishing and self.quantisation:
            latents, biases = round_through(latents, self.quantisation.latent), round_through(biases, self.quantisation.bias)
        flat = self.projection.flat(latents) * self.gain
        loss, gradients = sum_gradient(self.draw(), self.projection.split(flat.detach()), biases.detach(), self.output_bias.detach())
        self.optimiser.zero_grad()
        torch.autograd.backward([flat, biases, self.output_bias], gradients)
        self.optimiser.step()
        self.loss.lerp_(loss, max(0.02, 1 / (1 + self.step)))
        self.step += 1

    def draw(self) -> Tensor:
        """Row-major numbers of this step's grid points, int64."""
        if self.batch == self.points:
            return torch.arange(self.points)
        if self.config.sampling == "random":
            return torch.randint(self.points, (self.batch,), generator=self.generator)
        if not len(self.order):
            self.order = torch.randperm(self.points, generator=self.generator)
        batch, self.order = self.order[: self.batch], self.order[self.batch :]
        return batch

    def steer(self) -> None:
        """Sets the quantisation steps: once, or with a budget several times, so that the file comes out at its size."""
        since, length = self.step - self.finish_from, self.steps - self.finish_from
        every = max(1, int(length * STEER_UNTIL / STEERINGS))
        if since and not (self.plan.budget and since % every == 0 and since < length * STEER_UNTIL):
            return
        if not since:
            with torch.no_grad():
                self.biases.copy_(wrap(self.biases * self.omegas) / self.omegas)
        start = self.quantiser.step_of_bits(self.latents, self.config.bits, self.config.step_rule)
        if self.plan.budget:
            start = self.fitting(int(self.plan.budget * STEER_AIM), start)
        self.quantise_at(start)

    def quantise_at(self, step: float) -> None:
        self.quantisation = self.quantiser.steps(step)
        self.gain = self.projection.spread(self.quantiser.gains(self.quantisation)).to(self.device)

    # the file

    def size(self, step: float) -> int:
        """Bytes of the file with this step."""
        return len(pack_unsealed(self.model(self.quantiser.steps(step), exact=False)))

    def fitting(self, budget: int, start: float) -> float:
        return self.quantiser.step_of_bytes(self.size, budget, start, self.quantiser.finest(self.latents))

    def model(self, steps: Steps, exact: bool = True) -> QuantModel:
        return self.quantiser.model(self.signal, self.latents, self.biases * self.omegas, self.output_bias, steps, exact)

    def finished(self) -> QuantModel:
        """The model to be packed: at the step that it was trained for, or the one that fits the budget. Raises EncodeError when no step does."""
        step = self.quantisation.latent if self.quantisation else self.quantiser.step_of_bits(self.latents, self.config.bits, self.config.step_rule)
        budget = self.plan.budget
        if budget and not budget * FILL <= self.size(step) <= budget:
            step = self.fitting(budget, step)
            size = self.size(step)
            if size > budget:
                raise EncodeError(f"{budget} bytes are too few for this signal: the smallest file with this network is {size} bytes")
            if size < budget * FILL:
                raise EncodeError(f"{budget} bytes are more than this network can use ({size} bytes): give it a larger width, or none")
        return self.model(self.quantiser.steps(max(step, self.quantiser.finest(self.latents))))


class SumGradient:
    """Loss and gradients of a batch, in pieces that threads share. Pieces and the order of their sum do not depend on the number of threads."""

    def __init__(self, run: Run, threads: int, pool: ThreadPoolExecutor | None) -> None:
        self.run, self.pool, self.threads = run, pool, threads
        self.chunk = min(CHUNK, run.batch) if run.device.type == "cpu" else run.batch
        target = run.plan.target
        self.pieces = ceil(run.batch / self.chunk)
        sizes = [*run.projection.sizes, target.depth * target.width, target.channels]
        shapes = [*run.projection.shapes, (target.depth, target.width), (target.channels,)]
        self.sums = torch.zeros(self.pieces, sum(sizes), device=run.device)
        self.errors = torch.zeros(self.pieces, device=run.device)
        self.views = [[part.view(shape) for part, shape in zip(row.split(sizes), shapes)] for row in self.sums]
        self.sizes, self.shapes = [sum(run.projection.sizes), *sizes[-2:]], [(-1,), *shapes[-2:]]
        self.workers = [Backpropagation(target, self.chunk, run.device) for _ in range(min(threads, self.pieces))]

    def __call__(self, points: Tensor, weights: list[Tensor], biases: Tensor, output_bias: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The mean squared error, and its gradients with respect to all weights (D,), biases and output bias."""
        run, total = self.run, len(points) * self.run.plan.target.channels
        pieces = points.split(self.chunk)

        def work(worker: int) -> None:
            for i in range(worker, len(pieces), len(self.workers)):
                piece = pieces[i].to(run.device, non_blocking=True)
                wanted = (run.samples[piece].to(torch.float32) - run.low) / run.top
                self.errors[i] = self.workers[worker](run.encoding(piece), wanted, weights, biases, output_bias, self.views[i], 1 / total)

        if self.pool and len(self.workers) > 1:
            list(self.pool.map(work, range(len(self.workers))))
        else:
            work(0)
        sums = self.sums[: len(pieces)].sum(0).split(self.sizes)
        return self.errors[: len(pieces)].sum() / total, [part.view(shape) for part, shape in zip(sums, self.shapes)]


def fit(
    signal: Signal,
    config: Config,
    *,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> QuantModel:
    """Fits a network to a signal and returns it quantised (samples_crc 0).

    With `checkpoint`, the state is saved there every config.checkpoint_seconds and on KeyboardInterrupt; with `resume`, training goes on from that
    file, if it exists, to the very same result. The result depends on the machine's floating point, not on the number of threads.
    Raises EncodeError for a budget out of reach, a device that is not there, or a checkpoint of something else; OSError.
    """
    run = Run(signal, config)
    if checkpoint and resume and Path(checkpoint).exists():
        checkpoints.load(run, Path(checkpoint))
    started, first_step = time.monotonic(), run.step
    reported, saved = started, started

    def report(phase: str, size: int = 0) -> None:
        if progress:
            elapsed, done, loss = time.monotonic() - started, run.step - first_step, run.loss.item()
            rate = done / elapsed if elapsed else 0.0
            left = (run.steps - run.step) / rate if rate else 0.0
            psnr = -10 * log10(loss) if loss > 0 else float("inf")
            progress(Progress(run.step, run.steps, phase, psnr, loss, rate, elapsed, left, size or run.plan.budget))

    with _workers(config, run.device) as (threads, pool):
        sum_gradient = SumGradient(run, threads, pool)
        try:
            while run.step < run.steps:
                run.train(sum_gradient)
                now = time.monotonic()
                if now - reported >= REPORT_SECONDS:
                    report("finish" if run.step > run.finish_from else "fit")
                    reported = now
                if checkpoint and now - saved >= config.checkpoint_seconds:
                    checkpoints.save(run, Path(checkpoint))
                    saved = now
        except KeyboardInterrupt:
            if checkpoint:
                checkpoints.save(run, Path(checkpoint))
            raise
        report("quantise")
        return run.finished()


def learning_rate(step: int, steps: int, pass_steps: int, config: Config) -> float:
    """The factor on both learning rates at a step."""
    warm = min(1.0, (step + 1) / max(1.0, config.warmup * steps))
    if config.schedule == "exponential":
        return warm * config.decay ** (step // pass_steps)
    return warm * (1 + cos(pi * step / steps)) / 2


def device_of(name: str) -> torch.device:
    """The device that a setting names. Raises EncodeError where it is unknown or missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EncodeError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def _samples(signal: Signal, device: torch.device) -> tuple[Tensor, float, float]:
    """(points, channels) samples as they are, and (low, top) with which (sample - low) / top lies in [0, 1]."""
    flat = signal.samples.reshape(-1, signal.channels)
    wide = flat.astype(np.int32) if flat.dtype == np.uint16 else np.array(flat)
    return torch.from_numpy(wide).to(device), -32768.0 if signal.sample_type == "s16" else 0.0, float(TOP[signal.sample_type])


@contextmanager
def _workers(config: Config, device: torch.device) -> Iterator[tuple[int, ThreadPoolExecutor | None]]:
    """Threads that each run torch on one core. Its own parallel loops would meet at a barrier a hundred times a step, and change sums."""
    if device.type != "cpu":
        yield 1, None
        return
    threads = config.threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else config.threads or os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield threads, pool
    finally:
        torch.set_num_threads(before)
