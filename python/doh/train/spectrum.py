"""The waves that an image is made of: how fast the positional encoding's frequencies have to be. No torch.

Frequencies that a picture does not ask for cost twice: the first layer has weights for them, and as latents are shared among weights, training that holds
these weights down holds others down with them (docs/training-experiments.md, "Frequencies").
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np

from doh.signal import Signal

#: Points that are looked at, about: of a larger signal blocks are added up, which leaves it its slow waves.
LOOKED_AT = 1 << 21
#: Of the strongest waves the share that is no faster than what is returned.
SHARE = 0.4


def strong_waves(parts: Sequence[Signal], count: int) -> float:
    """The frequency that SHARE of the strongest waves of signals, the parts of one, do not exceed: waves across the dimension in which they are faster.

    Of the cosine transform of each part, all channels added up, as many coefficients count as it has of `count`, shared out evenly: those of most energy.
    """
    found = []
    for part in parts:
        energies, waves = _spectrum(part)
        strongest = min(energies.size, max(1, count // len(parts)))
        found.append(waves[np.argpartition(energies, -strongest)[-strongest:]])
    return float(np.quantile(np.concatenate(found), SHARE))


def _spectrum(signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    """For each coefficient its energy, and its frequency along the dimension where that is highest."""
    values = _reduced(signal.samples)
    waves = np.zeros(values.shape)
    for axis, size in enumerate(values.shape):
        values = _cosine_transform(values, axis)
        along = np.arange(size) / 2  # coefficient k is k half waves
        waves = np.maximum(waves, along.reshape((size,) + (1,) * (values.ndim - 1 - axis)))
    return np.square(values).reshape(-1), waves.reshape(-1)


def _reduced(samples: np.ndarray) -> np.ndarray:
    """All channels of each point added up, and points over blocks of equal sides, as small as leave no more than LOOKED_AT; what is beside whole blocks is
    left out."""
    shape = samples.shape[:-1]
    side = ceil((prod(shape) / LOOKED_AT) ** (1 / len(shape)))
    if side == 1:
        return samples.sum(axis=-1, dtype=np.float64)
    along = [(size // by, by) for size, by in ((size, min(side, size)) for size in shape)]
    slabs, thick = along[0]
    values = np.stack([samples[i * thick : (i + 1) * thick].sum(axis=(0, -1), dtype=np.float64) for i in range(slabs)])  # never all of it in float64
    for axis, (blocks, by) in enumerate(along[1:], 1):
        values = np.take(values, range(blocks * by), axis)
        values = values.reshape(*values.shape[:axis], blocks, by, *values.shape[axis + 1 :]).sum(axis + 1)
    return values


def _cosine_transform(values: np.ndarray, axis: int) -> np.ndarray:
    """The orthonormal one (DCT-II), by a Fourier transform of twice the length."""
    size = values.shape[axis]
    turns = np.exp(-0.5j * np.pi * np.arange(size) / size) * np.where(np.arange(size), (2 / size) ** 0.5, size**-0.5)
    spectrum = np.take(np.fft.rfft(values, 2 * size, axis=axis), range(size), axis)
    result: np.ndarray = (spectrum * turns.reshape((size,) + (1,) * (values.ndim - 1 - axis))).real
    return result
