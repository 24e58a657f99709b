"""Every setting of the encoder, as one frozen dataclass, from presets (presets/*.toml), TOML files and "key=value" strings. No torch."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from os import PathLike
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np

from doh.errors import EncodeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = ("fast", "balanced", "best", "paper", "coin", "mlp8", "inric")  # the last four: other work's models and trainings, to compare with

#: COIN's networks for Kodak images: bits per pixel, at 16 bits for each parameter, to (width, depth). `depth` counts sine layers, as everywhere here.
COIN_NETWORKS = {0.07: (20, 5), 0.15: (30, 5), 0.3: (28, 10), 0.6: (40, 10)}

#: Ways to say how large the file is to be; at most one is set.
RATES = ("latents", "bytes", "bpp")


@dataclass(frozen=True)
class Config:
    """The encoder's settings. Raises EncodeError for a value of the wrong type or out of range, naming the key."""

    # Rate: at most one of the first three; with none of them the encoder takes 4,500 latents, or fewer for a signal too small for so many.
    latents: int = 0  # Number n of latents; 0 = from the rate.
    bytes: int = 0  # Size of the whole file, met from below within 3 %; 0 = no such budget.
    bpp: float = 0.0  # The same in bits for each grid point.
    bits: float = 0.0  # Mean coded size of one latent, in bits, that the step is chosen for; 0 = 4.7 where latents settle (but of occupancy), else 5.5.
    step_rule: str = "rate"  # How `bits` is meant: "rate" = as said above; "range" = as 2^bits levels from the lowest to the highest (plain: of each layer).

    # Model
    generator: str = "tied"  # How weights come from latents: "tied" or "dense" (docs/format.md, section 5); "plain" = tied, one latent for each weight: an MLP.
    seed: int = 0  # Seed of the projection and of the first latents; 0 .. 2^64 - 1.
    weights_per_latent: float = 0.0  # Weights of the target network for each latent, where its width is left open; 0 = 1.15 to 3.25, by size, rate, steps.
    width: int = 0  # Units in a sine layer; 0 = from the number of latents.
    depth: int = 0  # Sine layers; 0 = from the number of latents.
    frequencies: int = -1  # Frequencies K of the positional encoding, 0 .. 16; -1 = as many as the points carry, and an image's waves need.
    ladder: str = "auto"  # Frequencies as powers of 2 ("octaves") or of 1.4 ("1.4"); "auto" = 1.4 from 256 points on, to 1,024 but for images.
    omega: float = 0.0  # Frequency factor of the sine layers; 0 = from the number of points, 10 to 20.
    first_omega: float = 0.0  # The same in the first sine layer; 0 = as in the others.
    parts: str = "auto"  # Boxes, each with a network of its own, along each dimension: "1", "2x3", ...; "auto" = for large files of images.
    gains: str = "siren"  # Initial weights: "paper" (supplement, Eq. 10 and 14), or "siren": sqrt(6) times wider from the second layer on.
    initial_biases: str = "zero"  # Initial biases of sine layers: "zero" (the paper), or "uniform": as wide as the layer's weights (COIN).

    # Optimisation
    steps: int = 24000  # Adam steps; with `seconds` the most of them, 0 = as many as there is time for.
    seconds: float = 0.0  # Time for the whole encode, by the clock, which then stretches the schedule; 0 = none. Results depend on the machine's speed.
    epochs: int = 0  # If not 0, this many passes over all points instead of `steps`.
    batch: int = 4096  # Grid points in a step; a signal with no more points is used whole in every step.
    sampling: str = "auto"  # "random" = evenly, with replacement; "epochs" = each once a pass; "errors" = where errors are; "surface" = of occupancy; "auto".
    lr_latents: float = 0.0  # Learning rate of the latents at the scale that `latent_scale` says; 0 = 0.08, or less for many weights. Divided by 1 + alpha / 4.
    lr_biases: float = 0.003  # Learning rate of the biases.
    latent_scale: str = "unit"  # What lr_latents and adam_eps are about: "unit" = latents z' in [-1, 1]; "paper" = z'/n; "weights" (plain only) = the weights.
    l1: float = 0.0  # Factor of the sum of the weights' magnitudes that is added to the mean squared error.
    beta1: float = 0.9  # Adam's decay of the gradient's mean.
    beta2: float = 0.99  # Adam's decay of the gradient's square.
    beta3: float = 0.997  # Decay of a slow mean of the gradient beside Adam's (AdEMAMix, arXiv 2409.03137); less in trainings of few steps.
    alpha: float = -1.0  # Weight of the slow mean, where Adam's own has 1; less in trainings of few steps. 0 = Adam alone; -1 = 8 for images, 0 for others.
    adam_eps: float = 1e-8  # Adam's epsilon.
    schedule: str = "cosine"  # Learning rate over the steps: "cosine" to zero, or "exponential": times `decay` after each pass over all points.
    decay: float = 0.999  # Factor of the exponential schedule.
    warmup: float = 0.01  # Part of the steps in which the learning rate rises linearly from zero.

    # Quantisation
    finish: float = 0.25  # Last part of the steps, in which latents and biases are rounded while training goes on; 0 = round after training only.
    rounding: str = "trellis"  # Of latents: "trellis" = one by one, shorter codes; "nearest" = all at once; "adaround" = by the loss, without budgets.
    bias_step: float = 1.5  # Quantisation step of a hidden bias, in units of a hidden weight's step.

    # Running
    device: str = "auto"  # "auto" = CUDA where there is one; "cpu", "cuda", "cuda:1", ...
    engine: str = "auto"  # How gradients are computed: "fused" = by doh's own step, compiled or Triton's; "eager" = by torch; "auto" = fused where it can be.
    threads: int = 0  # Threads on the CPU; 0 = all cores. The result does not depend on it.
    checkpoint_seconds: float = 60.0  # Time between checkpoints.

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field.name, KEYS[field.name], getattr(self, field.name)))
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise EncodeError(f"{key} must be one of {', '.join(choices)}, not {getattr(self, key)!r}")
        for key, (low, high) in _RANGES.items():
            if not low <= getattr(self, key) <= high:
                raise EncodeError(f"{key} must be between {low:g} and {high:g}, not {getattr(self, key)!r}")
        if 0 < self.bits < 1:
            raise EncodeError(f"bits must be 0, or between 1 and 16, not {self.bits!r}")
        if not _PARTS.fullmatch(self.parts):
            raise EncodeError(f"parts must be auto, 1, or a number for each dimension such as 2x3, not {self.parts!r}")
        given = [key for key in RATES if getattr(self, key)]
        if len(given) > 1:
            raise EncodeError(f"{' and '.join(given)} exclude each other: give one of them")
        if self.generator == "plain" and self.latents:
            raise EncodeError("generator = plain has as many latents as weights: leave latents out, and give width and depth, or bytes or bpp")
        if self.generator != "plain" and self.latent_scale == "weights":
            raise EncodeError(f"latent_scale = weights is for generator = plain, not {self.generator}, whose latents are no single weights")
        if self.latent_scale != "unit" and not self.lr_latents:
            raise EncodeError(f"with latent_scale = {self.latent_scale}, lr_latents has to be given")
        if self.rounding == "adaround" and (self.bytes or self.bpp):
            raise EncodeError("rounding = adaround is for one quantisation step, which bytes and bpp move: leave them out, or round to the nearest")
        if self.rounding == "adaround" and self.seconds:
            raise EncodeError("rounding = adaround takes time that no budget of seconds counts: leave it out, or round to the nearest")

    @classmethod
    def from_preset(cls, name: str) -> Config:
        """A preset by name, one of PRESETS."""
        if name not in PRESETS:
            raise EncodeError(f"unknown preset {name!r}{_nearest(str(name), PRESETS)}; there are {', '.join(PRESETS)}")
        text = (resources.files("doh") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
        return cls().replace(**_parse(text, f"preset {name}"))

    @classmethod
    def from_toml(cls, path: str | PathLike[str], base: Config | None = None) -> Config:
        """`base` (the defaults) with the keys of a TOML file. Raises OSError."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise EncodeError(f"{path} is not a text file in UTF-8, so not TOML") from None
        return (base or cls()).replace(**_parse(text, str(path)))

    def replace(self, **changes: Any) -> Config:
        """A copy with other values. Giving one of latents, bytes and bpp clears the other two; giving seconds clears steps and epochs that are not given."""
        for key in changes:
            if key not in KEYS:
                raise EncodeError(f"unknown setting {key!r}{_nearest(key, KEYS)}")
        if any(changes.get(key) for key in RATES):
            changes = {**dict.fromkeys(RATES, 0), **changes}
        if changes.get("seconds"):
            changes = {"steps": 0, "epochs": 0, **changes}
        return dataclasses.replace(self, **changes)

    def set(self, assignments: Iterable[str]) -> Config:
        """A copy with values from strings "key=value"; the value is read as the key's type."""
        changes = {}
        for text in assignments:
            key, equals, value = text.partition("=")
            key = key.strip().replace("-", "_")
            if not equals:
                raise EncodeError(f"{text!r} is not of the form key=value")
            if key not in KEYS:
                raise EncodeError(f"unknown setting {key!r}{_nearest(key, KEYS)}")
            try:
                changes[key] = _READ[KEYS[key]](value.strip())
            except ValueError:
                raise EncodeError(f"{key} must be {_WORDS[KEYS[key]]}, not {value.strip()!r}") from None
        return self.replace(**changes)

    @property
    def settles(self) -> bool:
        """Whether latents take their final values one after another, in the last part of a training."""
        return self.rounding == "trellis" and self.finish > 0

    @property
    def cores(self) -> int:
        """The threads on the CPU that `threads` stands for."""
        return self.threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


#: Type of each key: "int", "float" or "str".
KEYS: dict[str, str] = {field.name: str(field.type) for field in dataclasses.fields(Config)}

_READ: dict[str, Callable[[str], Any]] = {"int": lambda text: int(text, 0), "float": float, "str": str}
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
_WORDS = {"int": "a whole number", "float": "a number", "str": "a word"}

_PARTS = re.compile(r"auto|[1-9]\d{0,8}(x[1-9]\d{0,8}){0,3}")

_CHOICES = {
    "step_rule": ("rate", "range"),
    "generator": ("tied", "dense", "plain"),
    "ladder": ("auto", "octaves", "1.4"),
    "gains": ("paper", "siren"),
    "initial_biases": ("zero", "uniform"),
    "latent_scale": ("unit", "paper", "weights"),
    "rounding": ("trellis", "nearest", "adaround"),
    "sampling": ("auto", "random", "epochs", "errors", "surface"),
    "schedule": ("cosine", "exponential"),
    "engine": ("auto", "eager", "fused"),
}

_RANGES = {
    "latents": (0, 1 << 20),
    "bytes": (0, 1 << 40),
    "bpp": (0, 1 << 20),
    "bits": (0, 16),
    "seed": (0, (1 << 64) - 1),
    "weights_per_latent": (0, 1e6),
    "width": (0, 1024),
    "depth": (0, 64),
    "frequencies": (-1, 16),
    "omega": (0, 1e6),
    "first_omega": (0, 1e6),
    "steps": (0, 1 << 40),
    "seconds": (0, 1e9),
    "epochs": (0, 1 << 40),
    "batch": (1, 1 << 28),
    "lr_latents": (0, 1e6),
    "lr_biases": (0, 1e6),
    "l1": (0, 1e6),
    "beta1": (0, 0.99999999),
    "beta2": (0, 0.99999999),
    "beta3": (0, 0.99999999),
    "alpha": (-1, 1e3),
    "adam_eps": (0, 1),
    "decay": (0, 1),
    "warmup": (0, 1),
    "finish": (0, 1),
    "bias_step": (1e-3, 1e3),
    "threads": (0, 1024),
    "checkpoint_seconds": (0, 1e9),
}


def _typed(key: str, kind: str, value: Any) -> Any:
    """The value as the key's type: whole numbers serve as numbers, numpy's as Python's, nothing else is converted."""
    value = value.item() if isinstance(value, np.generic) else value
    good = isinstance(value, _TYPES[kind]) and not isinstance(value, bool)
    if good and isinstance(value, int) and value.bit_length() > 1000:  # no float, and in the end no message, holds it
        raise EncodeError(f"{key} must be {_WORDS[kind]} of at most 300 digits")
    if not good or (kind == "float" and not math.isfinite(value)):
        raise EncodeError(f"{key} must be {_WORDS[kind]}, not {shortened(value)}")
    return float(value) if kind == "float" else value


def _nearest(key: str, known: Iterable[str]) -> str:
    close = get_close_matches(key, list(known), n=1, cutoff=0.0)
    return f" (the nearest is {close[0]!r})" if close else ""


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EncodeError(f"{name}: {error}") from error
    except ValueError as error:  # by int(): the parser passes it on
        raise EncodeError(f"{name}: a number has more digits than Python reads") from error
    except RecursionError:
        raise EncodeError(f"{name}: brackets are nested too deeply") from None
