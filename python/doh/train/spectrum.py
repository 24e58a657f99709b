"""The waves that an image is made of: how fast the positional encoding's frequencies have to be. No torch.

Frequencies that a picture does not ask for cost twice: the first layer has weights for them, and as latents are shared among weights, training that holds
these weights down holds others down with them (docs/training.md, "Frequencies").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from doh.signal import Signal

#: Points that are looked at, about: a larger signal is meaned over blocks, which leaves it the slow waves.
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
    values = _meaned(signal.samples.sum(axis=-1, dtype=np.float64))
    waves = np.zeros(values.shape)
    for axis, size in enumerate(values.shape):
        values = _cosine_transform(values, axis)
        along = np.arange(size) / 2  # coefficient k is k half waves
        waves = np.maximum(waves, along.reshape((size,) + (1,) * (values.ndim - 1 - axis)))
    return np.square(values).reshape(-1), waves.reshape(-1)


def _meaned(values: np.ndarray) -> np.ndarray:
    """Over blocks of equal sides, as few as leave no more than LOOKED_AT points; what is beside whole blocks is left out."""
    side = int(np.ceil((values.size / LOOKED_AT) ** (1 / values.ndim)))
    for axis, size in enumerate(values.shape):
        by = min(side, size)
        values = np.take(values, range(size // by * by), axis)
        values = values.reshape(*values.shape[:axis], size // by, by, *values.shape[axis + 1 :]).mean(axis + 1)
    return values


def _cosine_transform(values: np.ndarray, axis: int) -> np.ndarray:
    """The orthonormal one (DCT-II), by a Fourier transform of twice the length."""
    size = values.shape[axis]
    turns = np.exp(-0.5j * np.pi * np.arange(size) / size) * np.where(np.arange(size), (2 / size) ** 0.5, size**-0.5)
    spectrum = np.take(np.fft.rfft(values, 2 * size, axis=axis), range(size), axis)
    result: np.ndarray = (spectrum * turns.reshape((size,) + (1,) * (values.ndim - 1 - axis))).real
    return result
