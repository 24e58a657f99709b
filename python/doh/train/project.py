"""`doh.project`: any torch module with its weights made from one latent vector (the paper's Eq. 2 for networks of all kinds)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from doh.train.projection import KINDS, initial_latents

#: Where the latent goes: module.projection.latent
HOLDER = "projection"

Include = Callable[[str, nn.Parameter], bool] | Collection[str]


class LatentWeights(nn.Module):
    """Holds the one latent (n,) and the fixed projection; makes any of the weights."""

    gains: Tensor  # (number of weights,)
    identity: Tensor  # int64: kind and seed, so that a stored latent is not taken for another projection's

    def __init__(self, seed: int, n: int, kind: str, weights: list[nn.Parameter]) -> None:
        super().__init__()
        first = weights[0]
        self.latent = nn.Parameter(initial_latents(seed, n).to(first.device, first.dtype))
        self.fixed = KINDS[kind](seed, n, [tuple(w.shape) for w in weights]).to(first.device)
        # Eq. 3: at unit gain a projected weight has the variance 1/3
        gains = torch.tensor([sqrt(3 * w.detach().double().square().mean().item()) for w in weights])
        self.register_buffer("gains", gains.to(first.device, first.dtype))
        halves = [seed & 0xFFFFFFFF, seed >> 32]
        self.register_buffer("identity", torch.tensor([list(KINDS).index(kind), *halves], device=first.device))

    def weight(self, number: int) -> Tensor:
        return self.fixed.part(self.latent, number) * self.gains[number]

    def forward(self, x: Any) -> Any:
        """Nothing: a Sequential calls all its modules, and this one last."""
        return x

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        stored, errors = state.get(prefix + "identity"), others[-1]
        if stored is not None and not torch.equal(stored.cpu(), self.identity.cpu()):
            errors.append("the stored latent belongs to another projection: its kind or seed differs")
        super()._load_from_state_dict(state, prefix, *others)

    def extra_repr(self) -> str:
        return f"{len(self.latent)} latents for {sum(self.fixed.sizes)} weights"


class _FromLatent(nn.Module):
    """The parametrisation of one weight."""

    def __init__(self, holder: LatentWeights, number: int) -> None:
        super().__init__()
        self._holder = (holder,)  # in a tuple, so that it is not a submodule: the latent belongs to the root alone
        self.number = number
        self.installed = False

    def forward(self, nothing: Tensor) -> Tensor:
        return self._holder[0].weight(self.number)

    def right_inverse(self, weight: Tensor) -> Tensor:
        if self.installed:
            raise AttributeError("this weight comes from the latent vector and cannot be assigned")
        return weight.new_empty(0)


def project(module: nn.Module, latent_dim: int, seed: int = 0, kind: str = "tied", include: Include | None = None) -> nn.Module:
    """Replaces weights of `module`, in place, by a seeded projection of one latent vector, and returns it.

    Afterwards `module.projection.latent`, a Parameter of `latent_dim` numbers, is all there is to learn, besides parameters that are not projected
    (biases, norms). Every weight starts with the variance that it had (Eq. 3). `kind` is "tied" or "dense" (docs/format.md, section 5); the same seed
    gives the same weights everywhere. Make the optimiser after this call.

    include: names as in `named_parameters()`, or a function of (name, parameter); by default every parameter named "weight" with two or more
    dimensions. Weights that modules share stay shared. `state_dict` holds the latent once and loads into a module that was projected with the same
    numbers. `torch.nn.utils.parametrize.cached()` saves making a weight twice in a pass.

    Raises ValueError for an unknown kind or name, nothing to project, a weight that is all zero, or a module that has an attribute "projection".
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; one of {', '.join(KINDS)}")
    if latent_dim < 1 or not 0 <= seed < 1 << 64:
        raise ValueError("latent_dim must be at least 1, and seed between 0 and 2^64 - 1")
    if hasattr(module, HOLDER):
        raise ValueError(f"the module has an attribute {HOLDER!r} already")
    chosen = _chosen(module, include)
    numbers: dict[int, int] = {}
    for _, parameter in chosen:
        numbers.setdefault(id(parameter), len(numbers))
    unique = {id(p): p for _, p in chosen}
    for name, parameter in chosen:
        if not parameter.detach().any():
            raise ValueError(f"{name} is all zero: a projection could not match its variance; initialise it, or leave it out with `include`")
    holder = LatentWeights(seed, latent_dim, kind, list(unique.values()))
    for name, parameter in chosen:
        path, _, leaf = name.rpartition(".")
        owner, made = module.get_submodule(path), _FromLatent(holder, numbers[id(parameter)])
        parametrize.register_parametrization(owner, leaf, made, unsafe=True)
        made.installed = True
        owner.get_parameter(f"parametrizations.{leaf}.original").requires_grad_(False)
    setattr(module, HOLDER, holder)
    return module


def _chosen(module: nn.Module, include: Include | None) -> list[tuple[str, nn.Parameter]]:
    every = list(module.named_parameters(remove_duplicate=False))
    if include is None:
        chosen = [(name, p) for name, p in every if name.rpartition(".")[2] == "weight" and p.dim() >= 2]
    elif callable(include):
        chosen = [(name, p) for name, p in every if include(name, p)]
    else:
        unknown = set(include) - {name for name, _ in every}
        if unknown:
            raise ValueError(f"no parameter is named {', '.join(sorted(unknown))}")
        chosen = [(name, p) for name, p in every if name in include]
    if not chosen:
        raise ValueError("there is no weight to project")
    return chosen
