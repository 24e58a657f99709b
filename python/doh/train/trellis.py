"""Latents on the trellis (docs/format.md, section 3.1): the nearest ones, and a training whose latents take them one after another.

Rounded on the trellis, latents err by 1.3 dB less than each for itself. But rounding and training with gradients that pass as if nothing had happened does not
go with it: a small move of one latent changes the codes of many. So in the last part of a training latents *settle*: the first of them take their final
values, a few at a time, and those that are left, never rounded, train on and make up for the errors of those that are done. For a loss that is quadratic
this is successive cancellation (Babai, Combinatorica 6, 1986), which errs by the geometric mean of what rounding errs by the arithmetic mean of.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor

import numpy as np
import torch
from torch import Tensor

from doh.train.fused import _train

#: Bits of the state that a latent's two lowest bits change; states.
OF_STATE, OF_CODE, STATES = 0xA6, 0x79, 256
#: Values beyond this are taken for it, so that latents stay within 16 bits.
MOST = np.float32(32764)
_UNREACHED = np.float32(1e30)

#: The parts of the finish in which latents begin and end to settle, and in how many portions they do.
BEGIN, END, PORTIONS = 0.06, 0.95, 256
#: Values after those that settle which are looked at for the best path: as many as make no difference beyond.
AHEAD = 64


def advance(state: int, latent: int) -> int:
    """The state after a latent."""
    return state >> 1 ^ (OF_STATE if latent & 1 else 0) ^ (OF_CODE if latent & 2 else 0)


def state_after(latents: Iterable[int], state: int = 0) -> int:
    """The state after some."""
    for latent in latents:
        state = advance(state, int(latent))
    return state


def nearest(values: np.ndarray, step: float, state: int = 0) -> np.ndarray:
    """The latents on the trellis, from `state` on, with the least sum of squared distances from values / step: int32 (n,) for float32 (n,)."""
    values = np.ascontiguousarray(values, np.float32)
    if _train is None:
        return nearest_by_numpy(values, step, state)
    out = np.empty(len(values), np.int32)
    _train.nearest_on_trellis(values, step, state, out)
    return out


def nearest_by_numpy(values: np.ndarray, step: float, state: int = 0) -> np.ndarray:
    """The same, to be read and to compare with: the algorithm of Viterbi. A state has two before it, whose latents differ in bit 1 ("high")."""
    states = np.arange(STATES)
    low = states >> 7  # the lowest bit of the latent that led here: only OF_STATE has bit 7
    before = [2 * (states ^ low * OF_STATE ^ high * OF_CODE) + low for high in (0, 1)]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scaled = np.asarray(values, np.float32) / np.float32(step)
    scaled = np.where(scaled > -MOST, np.where(scaled < MOST, scaled, MOST), -MOST)
    rests = np.arange(4, dtype=np.float32)
    candidates = 4 * np.rint((scaled[:, None] - rests) / 4) + rests  # (n, 4): the nearest of each remainder modulo 4
    errors = np.square(scaled[:, None] - candidates)
    cost = np.full(STATES, _UNREACHED)
    cost[state] = 0
    took_high = np.empty((len(scaled), STATES), bool)
    for error, high in zip(errors, took_high):
        by_low, by_high = cost[before[0]] + error[low], cost[before[1]] + error[low + 2]
        np.less(by_high, by_low, out=high)
        cost = np.where(high, by_high, by_low)
        cost -= cost.min()
    out = np.empty(len(scaled), np.int32)
    at = int(cost.argmin())
    for i in reversed(range(len(scaled))):
        which = int(took_high[i, at])
        out[i] = candidates[i, low[at] + 2 * which]
        at = int(before[which][at])
    return out


def portion(over: float, n: int) -> int:
    """How many of n latents are to have settled when this part of the finish is over, 0 to 1."""
    return n * min(max(floor((over - BEGIN) / (END - BEGIN) * PORTIONS), 0), PORTIONS) // PORTIONS


class Settling:
    """The latents of a run that have their final values: the first `count`.

    latents: (n,), the parameter; worth: what a latent of unit scale is worth there, (n,), or None for 1. step: of latents at unit scale.
    """

    def __init__(self, latents: Tensor, worth: Tensor | None, step: float, count: int = 0) -> None:
        self.final, self.worth, self.step, self.count = latents.detach().clone(), worth, step, count
        self.state = state_after(np.rint(self._unit(self.final[:count], 0) / np.float32(step)).astype(np.int64))

    def _unit(self, latents: Tensor, first: int) -> np.ndarray:
        """Latents from number `first` on, at unit scale."""
        return (latents if self.worth is None else latents / self.worth[first : first + len(latents)]).cpu().numpy()

    @torch.no_grad()
    def go_on(self, latents: Tensor, count: int) -> None:
        """So many have settled from now on."""
        if count <= self.count:
            return
        first, more = self.count, count - self.count
        codes = nearest(self._unit(latents[first : count + AHEAD], first), self.step, self.state)[:more]
        values = torch.from_numpy(codes.astype(np.float32) * np.float32(self.step)).to(latents.device)
        self.final[first:count] = values if self.worth is None else values * self.worth[first:count]
        self.count, self.state = count, state_after(codes, self.state)
        self.hold(latents)

    @torch.no_grad()
    def hold(self, latents: Tensor) -> None:
        """Puts those that have settled back to where they are: after a step of the optimiser."""
        latents[: self.count].copy_(self.final[: self.count])
