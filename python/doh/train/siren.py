"""The target network in floating point: a SIREN over positional encodings, with weights from elsewhere (docs/format.md, sections 7 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

from doh.model import Target, ladder_multipliers

#: Rows of an encoding table that are computed at a time.
TABLE_ROWS = 1 << 14


def coordinates(points: int) -> np.ndarray:
    """Cell centres of a dimension of `points` points, float64 in [-1, 1): the decoder's integers X / 2^31."""
    i = np.arange(points, dtype=np.int64)
    return (((2 * i + 1) << 31) // points - (1 << 31)) / 2.0**31


def encoding_table(points: int | np.ndarray, frequencies: int, ladder: str) -> Tensor:
    """Inputs of layer 0 for each index of a dimension, float32 (points, 1 + 2K): the coordinate, then a sine and a cosine for each frequency.

    points: their number, or their coordinates, float64 (points,), where these are not `coordinates` of it.
    """
    x = (coordinates(points) if isinstance(points, int) else points)[:, None]
    points, multipliers = len(x), np.array(ladder_multipliers(ladder, frequencies), np.float64) / 4096
    table = np.empty((points, 1 + 2 * frequencies), np.float32)
    table[:, :1] = x
    for first in range(0, points, TABLE_ROWS):  # in float64, which is several times the table
        rows = slice(first, first + TABLE_ROWS)
        phase = pi * x[rows] * multipliers
        table[rows, 1::2] = np.sin(phase)
        table[rows, 2::2] = np.cos(phase)
    return torch.from_numpy(table)


class Encoding:
    """Positional encodings of grid points, gathered from one table for each dimension: no sine is computed twice.

    shape: the points of each dimension, or their coordinates, as encoding_table takes them.
    """

    def __init__(self, shape: Sequence[int | np.ndarray], frequencies: int, ladder: str, device: torch.device | str = "cpu") -> None:
        self.tables = [encoding_table(g, frequencies, ladder).to(device) for g in shape]

    def __call__(self, points: Tensor) -> Tensor:
        """float32 (batch, F) for the row-major numbers, int64 (batch,), of grid points."""
        parts = []
        for table in reversed(self.tables):
            parts.append(table[points % len(table)])
            points = points // len(table)
        return torch.cat(parts[::-1], dim=1)


def initial_gains(target: Target, omega: float, rule: str) -> list[float]:
    """Half-widths of the uniform distribution of each layer's initial weights.

    `paper`: 1/fan_in for layer 0 and 1/(omega sqrt(h)) for the others (supplement, Eq. 10 and 14);
    `siren`: sqrt(6/h)/omega for the others (Sitzmann et al.).
    """
    numerator = {"paper": 1.0, "siren": sqrt(6.0)}[rule]
    return [1 / target.inputs] + [numerator / (omega * sqrt(target.width))] * target.depth


def siren(inputs: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor) -> Tensor:
    """Outputs (batch, channels) for inputs (batch, F); weights (fan_out, fan_in) and biases (depth, width) are in radians: omega is in them."""
    h = inputs
    for w, b in zip(weights[:-1], biases):
        h = torch.addmm(b, h, w.t()).sin_()
    return torch.addmm(output_bias, h, weights[-1].t())


def siren_gradient(
    inputs: Tensor, wanted: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, factor: float, importance: Tensor | None = None
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    """Squared errors of S networks at once, times `factor`, and their gradients for weights, biases and output biases.

    inputs (S, batch, F), wanted (S, batch, channels), weights (S, fan_out, fan_in) for each layer, biases (S, depth, width), output_bias (S, channels);
    importance (S, batch): what the squared errors of each point count, without it 1.
    """
    h, phases = [inputs], []
    for layer, w in enumerate(weights[:-1]):
        phases.append(torch.baddbmm(biases[:, layer, None], h[-1], w.mT))
        h.append(phases[-1].sin())
    error = torch.baddbmm(output_bias[:, None], h[-1], weights[-1].mT) - wanted
    counted = error if importance is None else error * importance[..., None]
    out, grads, sums = counted * (2 * factor), [], []
    for layer in range(len(phases), -1, -1):
        # `out` is the gradient with respect to the layer's sum, before its sine
        grads.append(torch.bmm(out.mT, h[layer]))
        sums.append(out.sum(1))
        if layer:
            out = torch.bmm(out, weights[layer]) * phases[layer - 1].cos()
    return (error * counted).sum((1, 2)) * factor, grads[::-1], torch.stack(sums[:0:-1], 1), sums[0]


class Backpropagation:
    """The gradient of the squared error of `siren`, written out. Autograd would do; this keeps every buffer from step to step: a third less time."""

    def __init__(self, target: Target, chunk: int, device: torch.device | str = "cpu") -> None:
        self.phases = torch.empty(target.depth, chunk, target.width, device=device)
        self.activations = torch.empty_like(self.phases)
        self.grad = torch.empty(chunk, target.width, device=device)
        self.outputs = torch.empty(chunk, target.channels, device=device)

    @torch.no_grad()
    def __call__(
        self,
        inputs: Tensor,
        samples: Tensor,
        weights: Sequence[Tensor],
        biases: Tensor,
        output_bias: Tensor,
        grads: Sequence[Tensor],
        factor: float,
        importance: Tensor | None = None,
    ) -> Tensor:
        """Returns the sum of squared errors (a scalar) over at most `chunk` samples (batch, channels); they count as `importance` (batch,) says, if it does.

        Fills `grads`, tensors of the shapes of (*weights, biases, output_bias), with `factor` times its gradient.
        """
        m, depth = len(inputs), len(biases)
        h = [inputs, *self.activations[:, :m]]
        phases, grad, out = self.phases[:, :m], self.grad[:m], self.outputs[:m]
        for w, b, phase, x, y in zip(weights, biases, phases, h, h[1:]):
            torch.mm(x, w.t(), out=phase)
            torch.sin(phase.add_(b), out=y)
        torch.addmm(output_bias, h[-1], weights[-1].t(), out=out)
        out.sub_(samples)
        if importance is None:
            error = out.square().sum()
        else:
            error = (out.square() * importance[:, None]).sum()
            out.mul_(importance[:, None])

        out.mul_(2 * factor)
        torch.sum(out, 0, out=grads[-1])
        for layer in range(depth, -1, -1):
            # `out` is the gradient with respect to the layer's sum, before its sine
            torch.mm(out.t(), h[layer], out=grads[layer])
            if layer:
                torch.mm(out, weights[layer], out=grad)
                out = phases[layer - 1].cos_().mul_(grad)
                torch.sum(out, 0, out=grads[-2][layer - 1])
        return error
