"""Looking at a network in floating point: a training without a file, its samples and PSNR, and the variance of the weights that it begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from doh.config import Config
from doh.metrics import psnr
from doh.model import DTYPE, TOP, Target
from doh.signal import Signal
from doh.train.checkpoint import save
from doh.train.engine import device_of
from doh.train.gradient import workers_for
from doh.train.interrupts import interrupts_between_steps
from doh.train.projection import Projection, initial_latents
from doh.train.run import Run, Start, new_projection
from doh.train.siren import initial_gains, siren

#: Points that a network is evaluated at, at a time.
CHUNK = 1 << 15


def trained(signal: Signal, config: Config, start: Start | None = None, projection: Callable[..., Projection] = new_projection) -> Run:
    """A run that has taken all its steps; nothing is packed. Raises EncodeError."""
    return train_on(Run(signal, config, projection, start))


def train_on(run: Run, checkpoint: Path | None = None) -> Run:
    """The same run, after the steps that it has left. Raises EncodeError for one that went out of bounds.

    checkpoint: a file for its state, written every `checkpoint_seconds`, on an interrupt and at the end, and left there. OSError where it
    cannot be.
    """
    saved = monotonic()
    with workers_for(device_of(run.config.device), run.config.threads) as workers, interrupts_between_steps() as check_interrupt:
        try:
            while run.step < run.steps:
                run.train(workers)
                check_interrupt()
                if checkpoint and monotonic() - saved >= run.config.checkpoint_seconds:
                    save(run, checkpoint)
                    saved = monotonic()
        except KeyboardInterrupt:
            if checkpoint and run.whole:
                save(run, checkpoint)
            raise
    run.check_finite()
    if checkpoint:
        save(run, checkpoint)
    return run


@torch.no_grad()
def samples_of(run: Run, weights: Sequence[Tensor] | None = None, biases: Tensor | None = None, output_bias: Tensor | None = None) -> np.ndarray:
    """What a run's network gives in float32 on its grid, clipped and rounded to the signal's sample type: an array of the signal's shape.

    Other weights (fan_out, fan_in) for each layer, biases (depth, width) and output bias (channels,) may stand for the run's own; they are those inside
    sin(omega (W x + b)).
    """
    omegas = run.omegas
    weights = [w.to(run.device) * o for w, o in zip(weights or run.weights, [*omegas, 1.0])]
    biases = (run.biases if biases is None else biases.to(run.device)) * omegas
    output_bias = run.output_bias if output_bias is None else output_bias.to(run.device)
    low, top, parts = run.gradient.low, run.gradient.top, []
    for first in range(0, run.points, CHUNK):
        inputs = run.encoding(torch.arange(first, min(first + CHUNK, run.points), device=run.device))
        values = siren(inputs, weights, biases, output_bias).clamp(0, 1)
        parts.append((values * top + low).round().to(torch.int32).cpu().numpy())
    return np.concatenate(parts).reshape(run.signal.samples.shape).astype(DTYPE[run.signal.sample_type])


def psnr_of(run: Run, weights: Sequence[Tensor] | None = None, biases: Tensor | None = None, output_bias: Tensor | None = None) -> float:
    """PSNR in dB of samples_of()."""
    return psnr(samples_of(run, weights, biases, output_bias), run.signal.samples, TOP[run.signal.sample_type])


@dataclass(frozen=True)
class LayerVariance:
    """The variance of one layer's weights before training: as generated, and of the uniform distribution that SIREN draws them from."""

    layer: int  # 0 .. depth
    fan_in: int
    fan_out: int
    generated: float
    wanted: float


def layer_variances(target: Target, n: int, generator: str = "dense", omega: float = 30.0, gains: str = "paper", seed: int = 0) -> list[LayerVariance]:
    """Of each layer of a network whose weights come from n initial latents by the generator "tied" or "dense" (the paper's supplement, Figure 1)."""
    projection = new_projection(generator, seed, n, target.layer_shapes, torch.device("cpu"))
    bounds = initial_gains(target, omega, gains)
    weights = projection(initial_latents(seed, n), projection.spread(bounds))
    found = (w.double().var(correction=0).item() for w in weights)
    return [LayerVariance(i, w.shape[1], w.shape[0], v, bound**2 / 3) for i, (w, v, bound) in enumerate(zip(weights, found, bounds))]
