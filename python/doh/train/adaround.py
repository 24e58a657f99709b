"""Adaptive rounding (Nagel et al., arXiv 2004.10568): each latent goes up or down as the loss of the whole likes it best, not to what is nearest.

A latent z lies between floor(z / s) s and the next multiple of the step s; h in [0, 1] says how far up. h is the paper's rectified sigmoid of a trained
number, and a penalty that grows sharper drives it to 0 or 1. The loss is the signal's mean squared error: these networks are small enough to need no
stand-in for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from doh.train.gradient import Workers, workers_for
from doh.train.quantise import Steps, round_through

if TYPE_CHECKING:
    from doh.train.run import Run

ITERATIONS = 1000
LEARNING_RATE = 0.1
#: The sigmoid is stretched to (GAMMA, ZETA) and clipped, so that h reaches 0 and 1.
ZETA, GAMMA = 1.1, -0.1
#: Without the penalty in the first part of the iterations; its exponent falls from the first of these to the second.
WARM, SHARPNESS = 0.2, (20.0, 2.0)
#: The penalty of all h = 1/2, in units of the loss that rounding to the nearest adds.
PENALTY = 10.0
#: Batches that the two roundings are compared on.
BATCHES = 8


def rounded(run: Run, steps: Steps, gain: Tensor) -> Tensor:
    """The run's latents at unit scale as multiples of steps.latent, (n,), each the one below or above; the nearest ones where nothing better is found.

    gain: (D,), of the weights in radians at these steps. The points come from the seed alone, and do not depend on what training has drawn.
    """
    with workers_for(run.device, run.config.threads) as workers:
        return _rounded(run, steps, gain, workers)


def _rounded(run: Run, steps: Steps, gain: Tensor, workers: Workers) -> Tensor:
    step, biases = steps.latent, round_through(run.biases.detach() * run.omegas, steps.bias)
    output_bias = run.output_bias.detach()

    def loss_of(latents: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient for the latents."""
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            flat = run.projection.flat(leaf) * gain
        loss, gradients = run.gradient(points, run.projection.split(flat.detach()), biases, output_bias, workers)
        return loss.clone(), torch.autograd.grad(flat, leaf, gradients[0])[0]

    def mean_loss(latents: Tensor, batches: Sequence[Tensor]) -> float:
        return sum(loss_of(latents, points)[0].item() for points in batches) / len(batches)

    random = torch.Generator().manual_seed(run.config.seed % (1 << 63))

    def draw() -> Tensor:
        whole = run.batch == run.points
        return torch.arange(run.points) if whole else torch.randint(run.points, (run.batch,), generator=random)

    latents = run.unit_latents.detach()
    nearest = torch.round(latents / step) * step
    below = torch.floor(latents / step)
    batches = [draw() for _ in range(1 if run.batch == run.points else BATCHES)]
    plain = mean_loss(nearest, batches)
    scale = max(plain - mean_loss(latents, batches), 1e-3 * plain, 1e-12)

    share = ((latents / step - below - GAMMA) / (ZETA - GAMMA)).clamp(1e-4, 1 - 1e-4)
    moved = torch.logit(share).requires_grad_()
    adam = torch.optim.Adam([moved], lr=LEARNING_RATE)
    for i in range(ITERATIONS):
        h = _up(moved)
        _, gradient = loss_of((below + h.detach()) * step, draw())
        total = (h * (gradient * (step / scale))).sum()
        over = (i / ITERATIONS - WARM) / (1 - WARM)
        if over >= 0:
            sharpness = SHARPNESS[0] + (SHARPNESS[1] - SHARPNESS[0]) * over
            total = total + PENALTY * (1 - (2 * h - 1).abs().pow(sharpness)).mean()
        adam.zero_grad()
        torch.autograd.backward(total)
        adam.step()
    adaptive = (below + (_up(moved.detach()) >= 0.5)) * step
    return adaptive if mean_loss(adaptive, batches) < plain else nearest


def _up(moved: Tensor) -> Tensor:
    return (torch.sigmoid(moved) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
