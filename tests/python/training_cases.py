"""Small signals that tests of training learn, a short training, and a look into checkpoints."""

from __future__ import annotations

import json

import numpy as np

from doh import Signal
from doh.config import Config

QUICK = Config(steps=60, latents=120, batch=64, threads=1)

#: Nothing to be learnt by a small network.
NOISE = Signal(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8), "image", "u8")


def smooth(height: int = 12, width: int = 16, slope: int = 20) -> Signal:
    """Smooth colours with an edge; one of them rises by `slope` from row to row."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / 5 + y / 7), slope * y % 256, np.where(x > width / 2, 200, 40)]
    return Signal(np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8), "image", "u8")


def step_of(checkpoint) -> int:
    """The step at which a checkpoint's first network stands."""
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        return json.loads(file.metadata()["doh"])["networks"][0]["step"]
