"""A whole training step in few calls of compiled code, for one network with tied weights on the CPU: the very numbers that torch's calls give.

Beside a gradient of two milliseconds, each call of torch on a few thousand numbers costs tens of microseconds, and there are about forty in a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from doh.train.ademamix import MEANS, factors
from doh.train.fused import _train
from doh.train.projection import TiedProjection

if TYPE_CHECKING:
    from doh.train.gradient import Workers
    from doh.train.run import Run

#: Torch adds up more gradients of one latent than these in an order of its own.
MOST_CHUNKS = 4


class CompiledStep:
    """What doh.train.gradient.backpropagate and the optimiser do to a run's parameters, bit for bit, for a run that `fits`."""

    @staticmethod
    def fits(run: Run) -> bool:
        """Whether this step is there, and knows all that the run asks for."""
        projection = run.projection
        tied = type(projection) is TiedProjection and len(projection.inverse) <= MOST_CHUNKS * projection.n
        of_one_scale = run.worth is None and run.config.step_rule != "range"  # by which layers may get scales of their own later
        return run.gradient.fused is not None and tied and run.l1 is None and of_one_scale

    def __init__(self, run: Run) -> None:
        projection, target = run.projection, run.plan.target
        assert isinstance(projection, TiedProjection) and run.gradient.fused is not None
        self.fused = run.gradient.fused
        self.index, self.sign = projection.index.numpy(), projection.sign.numpy()
        self.inverse = projection.inverse.view(-1, projection.n).numpy()
        self.omegas = run.omegas.numpy()  # (depth, 1)
        self.omega_of_bias = np.repeat(self.omegas, target.width)
        shape, sizes = (target.depth, target.width), (target.weights, target.biases - target.channels, target.channels)
        self.latents, self.weights = np.empty(projection.n, np.float32), np.empty(target.weights, np.float32)
        self.biases = np.empty(shape, np.float32)
        self.gradient = np.empty(sum(sizes), np.float32)
        self.of_weights, self.of_biases, self.of_output = np.split(self.gradient, np.cumsum(sizes)[:-1])
        self.of_latents = np.empty(projection.n, np.float32)
        self.gradients = [[self.of_latents], [self.of_biases, self.of_output]]
        self.moved: list[list[tuple[Tensor, dict[str, Any], list[np.ndarray]]]] = []  # each group's parameters, their states, and both as arrays

    @torch.no_grad()
    def __call__(self, run: Run, workers: Workers) -> Tensor:
        """Draws a batch, changes the run's parameters by one step, and returns the loss. The gradients themselves are not kept."""
        latents, gain = run.latents.detach().numpy(), run.gain.numpy()
        np.multiply(run.biases.detach().numpy(), self.omegas, out=self.biases)
        if rounding := run.quantisation:
            _train.rounded(self.biases.reshape(-1), rounding.bias, self.biases.reshape(-1))
            if not run.settling:
                _train.rounded(latents, rounding.latent, self.latents)
                latents = self.latents
        _train.tied_weights(latents, self.index, self.sign, gain, self.weights)
        points, importance = run.draw()
        fused, total = self.fused, len(points) * run.plan.target.channels
        data = points.numpy(), fused.tables, fused.samples, fused.low, fused.top, 1 / total
        parameters = self.weights, self.biases, run.output_bias.detach().numpy()
        counts = None if importance is None else importance.numpy()
        error = _train.grid_step(*data, *parameters, self.gradient, workers.threads, importance=counts)
        _train.tied_gradient(self.of_weights, self.inverse, self.sign, gain, self.of_latents)
        self.of_biases *= self.omega_of_bias
        self._move(run)
        return torch.tensor(error / total, dtype=torch.float32)

    def _move(self, run: Run) -> None:
        """run.optimiser.step()."""
        groups, states = run.optimiser.param_groups, run.optimiser.state
        if not states:
            run.optimiser.start()
        latents = groups[0]["params"][0]
        if not self.moved or self.moved[0][0][0] is not latents or self.moved[0][0][1] is not states[latents]:
            self.moved = [[(p, states[p], arrays_of(p, states[p])) for p in group["params"]] for group in groups]
        for group, moved, gradients in zip(groups, self.moved, self.gradients):
            of = factors(group, moved[0][1]["step"] + 1)
            for (_, state, (parameter, mean, square, slow)), gradient in zip(moved, gradients):
                state["step"] += 1
                _train.ademamix(parameter, gradient, mean, square, slow, of)


def arrays_of(parameter: Tensor, state: dict[str, Any]) -> list[np.ndarray]:
    """The memory of a parameter and of its means, (n,)."""
    return [tensor.detach().numpy().reshape(-1) for tensor in (parameter, *(state[name] for name in MEANS))]
