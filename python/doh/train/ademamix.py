"""The optimiser: Adam, and beside its mean of the gradient a slow one (AdEMAMix, arXiv 2409.03137). docs/training-experiments.md tells what it brings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

#: The part of a training in which the slow mean's length and weight grow to what they are meant to be: from its start it would not be stable.
GROWTH = 0.1
#: The slow mean is over at most so many steps of each step that a training has, and its weight is at most this for each step that it is over: a greater one
#: makes a mean of few steps swing.
MEMORY, ALPHA_OF_MEMORY = 1 / 40, 1 / 12
#: The slow mean's weight with which a learning rate is to be half of what it is without.
HALF_RATE = 4.0
#: What the state of a parameter holds beside its number of steps, each of the parameter's shape.
MEANS = ("mean", "square", "slow")


class Factors(NamedTuple):
    """The numbers of one step: m = beta1 m + rest1 g, likewise for the squares v and the slow mean s; p -= (fast m + slow s) / (sqrt(unbias v) + eps)."""

    beta1: float
    rest1: float
    beta2: float
    rest2: float
    beta3: float
    rest3: float
    fast: float
    slow: float
    unbias: float
    eps: float


def factors(group: dict[str, Any], step: int) -> Factors:
    """Those of a parameter group, at its step number 1, 2, ..."""
    beta1, beta2, beta3 = group["betas"]
    fast, unbias = group["lr"] / (1 - beta1**step), 1 / (1 - beta2**step)
    return Factors(beta1, 1 - beta1, beta2, 1 - beta2, beta3, 1 - beta3, fast, group["lr"] * group["alpha"], unbias, group["eps"])


def mixing(step: int, length: float, beta1: float, beta3: float, alpha: float) -> tuple[float, float]:
    """(beta3, alpha) of a step, 0 .. length, in a training of so many, for those that are aimed at: the slow mean, over 1 / (1 - beta3) steps, and its weight
    grow linearly, from beta1's and from 0. In a short training both stay below their aims."""
    shortest = 1 / (1 - beta1)
    longest = max(shortest, min(1 / (1 - beta3), MEMORY * length))
    share = min(1.0, step / length / GROWTH)
    return 1 - 1 / (shortest + share * (longest - shortest)), share * min(alpha, ALPHA_OF_MEMORY * longest)


def steady_rate(rate: float, alpha: float) -> float:
    """The learning rate with which steps of a slow mean of this weight are as steady as Adam's are with `rate`."""
    return rate / (1 + alpha / HALF_RATE)


class AdEMAMix:
    """Parameter groups have lr, betas (beta1, beta2, beta3), alpha, the slow mean's weight, and eps; each of them may be set anew before a step.

    With an alpha of 0 it is Adam. Each operation rounds by itself, so a number's course does not depend on what else is in its tensor or group;
    doh._train.ademamix takes the very same one. In use as one of torch's optimisers, which it is not: making one of these loads torch's compiler, and
    takes longer than hundreds of steps.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = [dict(group) for group in groups]
        self.state: dict[Tensor, dict[str, Any]] = {}

    def zero_grad(self) -> None:
        """Forgets the parameters' gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def start(self) -> None:
        """Makes the state, all zero, which the first step does otherwise."""
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"step": 0, **{name: torch.zeros_like(p) for name in MEANS}}

    @torch.no_grad()
    def step(self) -> None:
        """One step for all parameters, which are at one step. Raises ValueError, and changes nothing, where one has no gradient."""
        if lacking := sum(p.grad is None for group in self.param_groups for p in group["params"]):
            raise ValueError(f"{lacking} of the parameters have no gradient")
        if not self.state:
            self.start()
        for group in self.param_groups:
            params: list[Tensor] = group["params"]
            gradients = [p.grad for p in params if p.grad is not None]
            states = [self.state[p] for p in params]
            for state in states:
                state["step"] += 1
            of = factors(group, states[0]["step"])
            means, squares, slow = ([state[name] for state in states] for name in MEANS)
            _decay(means, of.beta1, gradients, of.rest1)
            _decay(squares, of.beta2, torch._foreach_mul(gradients, gradients), of.rest2)
            _decay(slow, of.beta3, gradients, of.rest3)
            moves = torch._foreach_mul(means, of.fast)
            torch._foreach_add_(moves, torch._foreach_mul(slow, of.slow))
            sizes = torch._foreach_mul(squares, of.unbias)
            _roots(sizes)
            torch._foreach_add_(sizes, of.eps)
            torch._foreach_div_(moves, sizes)
            torch._foreach_sub_(params, moves)


def _decay(means: list[Tensor], beta: float, values: list[Tensor] | tuple[Tensor, ...], rest: float) -> None:
    torch._foreach_mul_(means, beta)
    torch._foreach_add_(means, torch._foreach_mul(values, rest))


def _roots(tensors: tuple[Tensor, ...]) -> None:
    """Square roots in place, rounded as IEEE 754 says: those of torch are off by a unit here and there where MKL takes them."""
    if any(t.device.type != "cpu" for t in tensors):
        torch._foreach_sqrt_(tensors)
    else:
        for t in tensors:
            np.sqrt(t.numpy(), out=t.numpy())
