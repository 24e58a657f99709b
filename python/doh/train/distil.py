"""A trained plain network into fewer latents (the paper's Algorithm 1): least squares through the seeded projection, biases copied, fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from doh.config import Config
from doh.errors import EncodeError
from doh.train.projection import Projection, TiedProjection
from doh.train.run import Run, Start
from doh.train.study import psnr_of, train_on

#: Conjugate gradients end when the gradient is so much smaller than at first, or after so many times n iterations.
TOLERANCE, MOST_ITERATIONS = 1e-9, 4


def latents_of(weights: Sequence[Tensor], projection: Projection, gains: Sequence[float]) -> Tensor:
    """The latents z, float32 (n,), that minimise |B z - W|: W is all weights, row-major, and B the projection times each layer's gain. B is never made.

    weights: (fan_out, fan_in) for each layer. Where n exceeds the number of weights: of all solutions the shortest.
    Raises ValueError for weights of other shapes than the projection's.
    """
    if [tuple(w.shape) for w in weights] != [tuple(s) for s in projection.shapes]:
        raise ValueError(f"the projection is for weights {projection.shapes}, not {tuple(tuple(w.shape) for w in weights)}")
    device = weights[0].device
    gain = torch.repeat_interleave(torch.tensor(gains, dtype=torch.float64), torch.tensor(projection.sizes)).to(device)
    wanted = torch.cat([w.detach().double().flatten() for w in weights])
    latents = torch.zeros(projection.n, dtype=torch.float64, device=device, requires_grad=True)
    flat = projection.flat(latents) * gain  # linear, so that its backward pass is the product with the transpose of B, anywhere

    def transposed(v: Tensor) -> Tensor:
        return torch.autograd.grad(flat, latents, v, retain_graph=True)[0]

    @torch.no_grad()
    def times(z: Tensor) -> Tensor:
        return projection.flat(z) * gain

    if isinstance(projection, TiedProjection):
        # a row of B has one entry, so its columns are orthogonal: each latent is a signed mean of its weights
        lengths = torch.zeros(projection.n, dtype=torch.float64, device=device).index_add_(0, projection.index, gain.square())
        return (transposed(wanted) / lengths.clamp_min(torch.finfo(torch.float64).tiny)).float()
    return conjugate_gradients(times, transposed, wanted).float()


def conjugate_gradients(times: Callable[[Tensor], Tensor], transposed: Callable[[Tensor], Tensor], wanted: Tensor) -> Tensor:
    """z that minimises |B z - wanted|, from the products with B and its transpose: conjugate gradients on the normal equations (CGLS), from zero."""
    residual = wanted.clone()
    direction = gradient = transposed(residual)
    z, square = torch.zeros_like(gradient), gradient @ gradient
    enough = square * TOLERANCE**2
    for _ in range(MOST_ITERATIONS * len(z)):
        if square <= enough:
            break
        image = times(direction)
        length = square / (image @ image)
        z += length * direction
        residual -= length * image
        gradient = transposed(residual)
        square, before = gradient @ gradient, square
        direction = gradient + (square / before) * direction
    return z


def network_of(mlp: Run) -> dict[str, object]:
    """The settings that give another run the network of this one."""
    target, plan = mlp.plan.target, mlp.plan
    return {
        "width": target.width,
        "depth": target.depth,
        "frequencies": target.frequencies,
        "ladder": target.ladder,
        "omega": plan.omega,
        "first_omega": plan.first_omega,
    }


def distilled(mlp: Run, config: Config) -> Run:
    """A run on the same signal that begins at the latents nearest to the weights of `mlp`, and at its biases; fine-tuning is its usual training.

    Raises EncodeError where the settings give another network (see network_of).
    """
    run = Run(mlp.signal, config)
    same = run.plan.target == mlp.plan.target and (run.plan.omega, run.plan.first_omega) == (mlp.plan.omega, mlp.plan.first_omega)
    if not same:
        raise EncodeError(f"{mlp.plan.target} cannot become latents of {run.plan.target}: width, depth, frequencies and omega must be the same")
    latents = latents_of([w.to(run.device) for w in mlp.weights], run.projection, run.gains)
    return Run(mlp.signal, config, lambda *_: run.projection, Start(latents, mlp.biases, mlp.output_bias))


@dataclass(frozen=True)
class Point:
    """One point of the paper's Figure 9. PSNR in dB, of networks in floating point."""

    generator: str
    latents: int
    parameters: int  # latents and biases
    mlp_parameters: int
    psnr_mlp: float
    psnr_inverted: float  # right after the inversion
    psnr_tuned: float  # after fine-tuning
    epochs: int


def point(mlp: Run, n: int, generator: str, config: Config, epochs: int) -> Point:
    """Inverts `mlp`, a trained run (doh.train.study.trained), to n latents of "tied" or "dense", and fine-tunes them for so many passes over the signal.

    config: how to fine-tune (batch, learning rates, schedule); its network and rate are replaced, and nothing is rounded. Raises EncodeError.
    """
    config = config.replace(generator=generator, latents=n, finish=0.0, seconds=0.0, epochs=epochs, **network_of(mlp))
    run = distilled(mlp, config)
    if not epochs:
        run.steps = 0
    inverted = psnr_of(run)
    biases = mlp.plan.target.biases
    return Point(generator, n, n + biases, mlp.plan.target.weights + biases, psnr_of(mlp), inverted, psnr_of(train_on(run)), epochs)
