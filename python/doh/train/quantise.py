"""From floating-point latents and biases to the integers of a file (docs/format.md, section 6). One number, the latents' step, decides the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log2, pi

import numpy as np
import torch
from torch import Tensor

from doh.errors import EncodeError
from doh.model import ON_TRELLIS, PER_LAYER, BiasScale, QuantModel, Scale, Target, scale_count, scale_index
from doh.signal import Signal
from doh.train.projection import Projection
from doh.train.trellis import nearest

CODE_MAX = 32767
#: The sum of |c| that section 3 allows the dense generator.
DENSE_SUM_MAX = (1 << 28) - 1
OUTPUT_BIAS_STEP = 2.0**-12
#: Smallest step of a hidden bias, 2^-32 turns, at which codes reach half a turn.
BIAS_STEP_MIN = 65600
#: Largest weight precision q of a sine layer and of the output layer.
Q_SINE, Q_OUTPUT = 17, 14
#: log2(step) + entropy of a Gaussian of deviation 1 that is rounded to multiples of a small step: log2(sqrt(2 pi e)).
GAUSSIAN_BITS = 2.047


def snap(value: float) -> tuple[int, int]:
    """(M, e) with M / 2^e next to a positive value, M in 2048 .. 4095: at most 2.5e-4 off."""
    e = 11 - floor(log2(value))
    mantissa = round(value * 2.0**e)
    return (mantissa, e) if mantissa < 4096 else (2048, e - 1)


def wrap(biases: Tensor) -> Tensor:
    """Phases in radians brought to within half a turn: the same to a sine, and the shortest to write."""
    return biases - 2 * pi * torch.round(biases / (2 * pi))


def round_through(values: Tensor, step: float | Tensor) -> Tensor:
    """The nearest multiples of step; gradients pass as if nothing had happened."""
    return values + (torch.round(values / step) * step - values).detach()


@dataclass(frozen=True)
class Steps:
    """All quantisation steps that follow from the latents' step."""

    latent: float
    factors: tuple[tuple[int, int], ...]  # (M, e) for each stored scale: M / 2^e turns (values, in the output layer) is what a unit of W_int is worth
    bias_scale: BiasScale

    @property
    def bias(self) -> float:
        """Step of a hidden bias in radians."""
        return self.bias_scale.step * 2 * pi / 2.0**32


class Quantiser:
    """Quantises for one projection and target network. `gains` are the layers' gains, `omegas` turn a sine layer's sum into radians.

    per_layer: every layer has a scale of its own in the file; otherwise gains and omegas are the same for layers 1 to depth - 1. on_trellis: the codes of
    latents choose among every second multiple of the step (docs/format.md, section 3.1).
    """

    def __init__(
        self,
        target: Target,
        projection: Projection,
        gains: Sequence[float],
        omegas: Sequence[float],
        bias_step: float,
        per_layer: bool = False,
        on_trellis: bool = False,
    ) -> None:
        self.target, self.projection, self.bias_step, self.per_layer, self.on_trellis = target, projection, bias_step, per_layer, on_trellis
        #: Steps between the values that a code chooses from; the largest value of a latent, in steps, whose code is valid wherever it is rounded to.
        self.apart, self.most = (2, CODE_MAX - 3) if on_trellis else (1, CODE_MAX - 1)
        self.classes = [scale_index(layer, target.depth, per_layer) for layer in range(target.depth + 1)]
        self.radians = [gain * omega for gain, omega in zip(gains, [*omegas, 1.0])]  # for each layer, at latent step 1 and unit gain
        first_of_class = [self.classes.index(c) for c in range(scale_count(target.depth, per_layer))]
        self.worth = [self.radians[layer] * projection.unit / (1 if layer == target.depth else 2 * pi) for layer in first_of_class]

    def steps(self, latent_step: float) -> Steps:
        hidden = self.radians[min(1, self.target.depth - 1)] / (2 * pi) * latent_step  # turns
        m, e = snap(min(max(self.bias_step * hidden * 2.0**32, BIAS_STEP_MIN), 4095 << 20))
        return Steps(latent_step, tuple(snap(worth * latent_step) for worth in self.worth), BiasScale(m - 2048, -e))

    def gains(self, steps: Steps) -> list[float]:
        """Gains, in radians, with which the projection of latents gives the very weights that the decoder's scales give: the snapped ones."""
        turn = [2 * pi] * self.target.depth + [1.0]
        return [t * m * 2.0**-e / (steps.latent * self.projection.unit) for t, (m, e) in zip(turn, (steps.factors[c] for c in self.classes))]

    def finest(self, latents: Tensor) -> float:
        """The smallest step at which all codes are valid."""
        z = latents.detach().double().abs()
        dense = z.sum().item() / (DENSE_SUM_MAX - self.apart * len(z)) if self.projection.name == "dense" else 0.0
        return max(z.max().item() / self.most, dense, 1e-12)

    def step_of_bits(self, latents: Tensor, bits: float, rule: str) -> float:
        """`rate`: where Gaussian latents of the same deviation have an entropy of `bits`; `range`: 2^bits levels over the latents' range."""
        z = latents.detach().double()
        if rule == "range":
            step = max((z.max() - z.min()).item(), 2 * z.abs().max().item() * (1 - 2.0**-bits)) / (2.0**bits - 1)
        else:
            step = z.square().mean().sqrt().item() * 2.0 ** (GAUSSIAN_BITS - bits)
        return max(step / self.apart, self.finest(latents))

    def step_of_bytes(self, size: Callable[[float], int], budget: int, start: float, finest: float) -> float:
        """The finest step, to one part in 4,000, whose file of `size(step)` bytes fits the budget; the coarsest tried where none does."""
        low = high = start
        while size(high) > budget and high < start * 1e6:
            low, high = high, high * 2
        while low > finest and size(low) <= budget:
            low, high = max(low / 2, finest), low
        if size(low) <= budget:
            return low
        while high / low > 1.00025:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if size(middle) <= budget else (middle, high)
        return high

    def model(self, signal: Signal, latents: Tensor, biases: Tensor, output_bias: Tensor, steps: Steps, exact: bool = True) -> QuantModel:
        """The file's numbers; biases (depth, width) in radians. With `exact` off, weight precisions are nominal: right in size, not to decode."""
        codes = nearest(latents.detach().cpu().numpy(), steps.latent) if self.on_trellis else _codes(latents, steps.latent)
        output_codes = _codes(output_bias, OUTPUT_BIAS_STEP)
        sums = [s.cpu().numpy() for s in self.projection.weight_sums(torch.from_numpy(codes).to(latents.device))] if exact else None
        return QuantModel(
            signal=signal.kind,
            sample_type=signal.sample_type,
            shape=signal.shape,
            target=self.target,
            generator=self.projection.name,
            seed=self.projection.seed,
            latent_codes=codes,
            scales=tuple(self._scale(c, m, e, sums, output_codes) for c, (m, e) in enumerate(steps.factors)),
            bias_scale=steps.bias_scale,
            bias_codes=_codes(wrap(biases), steps.bias),
            output_bias_codes=output_codes,
            flags=PER_LAYER * self.per_layer | ON_TRELLIS * self.on_trellis,
        )

    def _scale(self, which: int, mantissa: int, e: int, sums: list[np.ndarray] | None, output_codes: np.ndarray) -> Scale:
        """The stored scale of a class of layers, with the largest precision q at which no weight is clamped and the output's sum cannot wrap.

        Raises EncodeError where there is none.
        """
        output = which == len(self.worth) - 1
        layers = [s for s, c in zip(sums, self.classes) if c == which] if sums else []
        for q in range(min(Q_OUTPUT if output else Q_SINE, e), -1, -1):
            r = e - q
            if r > 47:
                break
            weights = [np.abs((s * mantissa + ((1 << r) >> 1)) >> r) for s in layers]
            fits = all(w.max() <= CODE_MAX for w in weights)
            if fits and output:
                bias = np.abs(output_codes.astype(np.int64)) << (q + 3)
                fits = all((w.sum(axis=1) * CODE_MAX + bias).max() < 1 << 31 for w in weights)
            if fits:
                return Scale(mantissa - 2048, r, q)
        raise EncodeError("training went out of bounds, a weight does not fit 16 bits: use a smaller lr_latents or lr_biases")


def _codes(values: Tensor, step: float) -> np.ndarray:
    """int32 codes: the nearest multiples of step. In float32, as training rounds them."""
    return torch.round(values.detach() / step).clamp(-CODE_MAX, CODE_MAX).to(torch.int32).cpu().numpy()
