"""How a signal is cut into parts, each with a network of its own (docs/format.md, section 2.1), and what each of them gets. No torch.

A step of training, and a decoded point, cost as much as the network that they go through. Two networks of half the size, each for half of the signal, cost
half as much a point and take the same bytes. What is lost is what the halves have in common: so parts are for files that are large enough to give each
of them a good network.
"""

from __future__ import annotations

from itertools import pairwise, product
from math import log, pi, prod

import numpy as np

from doh.config import Config
from doh.errors import EncodeError
from doh.model import TOP
from doh.signal import Signal
from doh.train.plan import latents_for

#: Latents of a part, about, where the encoder cuts an image by itself.
LATENTS = 7000
#: What a part's shape, that of its longest side to its shortest, counts against missing the wanted number of parts.
SQUARE = 0.5
#: A part's error is taken to fall with the power of -0.55 of its bytes, 1.65 dB for twice as many: the mean slope of Kodak images from 0.05 to 0.6 bpp.
SLOPE = 0.55
#: No part gets less than this share of its equal share.
LEAST_SHARE = 0.2
#: Sides of the blocks whose cosine transform tells how hard a part is, by the number of dimensions; points that are looked at, about, in a larger part.
BLOCK, LOOKED_AT = {1: 256, 2: 16, 3: 8, 4: 4}, 1 << 21
#: Most parts of a file (docs/format.md, section 2.1).
MOST = 1 << 16


def parts_for(signal: Signal, config: Config) -> tuple[int, ...]:
    """Into how many parts each dimension is cut. Raises EncodeError for a setting that does not fit the signal."""
    shape = signal.shape
    if config.parts == "auto":
        fixed = config.width or config.depth or config.generator != "tied" or config.epochs or config.rounding == "adaround"
        if signal.kind != "image" or fixed:
            return (1,) * len(shape)
        return cut(shape, latents_for(signal, config) / LATENTS)
    numbers = tuple(int(text) for text in config.parts.split("x"))
    if numbers == (1,):
        return (1,) * len(shape)
    if len(numbers) != len(shape):
        raise EncodeError(f"parts = {config.parts} is for {len(numbers)} dimensions; this signal, of the shape {shape}, has {len(shape)}")
    if any(k > n for k, n in zip(numbers, shape)) or prod(numbers) > MOST:
        raise EncodeError(f"parts = {config.parts} are too many for a signal of the shape {shape}: a part has a point at least, a file {MOST} parts at most")
    return numbers


def cut(shape: tuple[int, ...], parts: float) -> tuple[int, ...]:
    """About so many parts, as close to cubes as can be."""
    if parts < 1.5:
        return (1,) * len(shape)
    wide = sorted(shape)
    while (side := (prod(wide) / min(parts, MOST)) ** (1 / len(wide))) > wide[0] and len(wide) > 1:
        del wide[0]  # a dimension that is shorter than the sides wanted is not cut

    def cost(numbers: tuple[int, ...]) -> float:
        sides = [n / k for n, k in zip(shape, numbers)]
        return abs(log(prod(numbers) / parts)) + SQUARE * log(max(sides) / min(sides))

    around = [sorted({min(n, max(1, int(n / side) + up)) for up in (0, 1)}) for n in shape]
    return min((numbers for numbers in product(*around) if prod(numbers) <= MOST), key=cost)


def places(points: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """For each index of a dimension of so many points the number of its part, and its coordinate there: int64 (points,) in [-2^31, 2^31) (section 7)."""
    i = np.arange(points, dtype=np.uint64)
    u = ((2 * i + np.uint64(1)) << np.uint64(31)) // np.uint64(points) * np.uint64(parts)
    return (u >> np.uint64(32)).astype(np.int64), (u & np.uint64(0xFFFFFFFF)).astype(np.int64) - (1 << 31)


class Part:
    """One box of a signal: the samples in it, and the coordinates of its points, float64 in [-1, 1), one array for each dimension."""

    def __init__(self, signal: Signal, box: tuple[slice, ...], axes: tuple[np.ndarray, ...]) -> None:
        self.box, self.axes = box, axes
        self.signal = Signal(np.ascontiguousarray(signal.samples[box]), signal.kind, signal.sample_type)


def cut_out(signal: Signal, parts: tuple[int, ...]) -> list[Part]:
    """All parts, row-major."""
    along = []
    for points, count in zip(signal.shape, parts):
        part, x = places(points, count)
        ends = np.searchsorted(part, np.arange(count + 1))
        along.append([(slice(int(a), int(b)), x[a:b] / 2.0**31) for a, b in pairwise(ends)])
    return [Part(signal, tuple(box for box, _ in place), tuple(axis for _, axis in place)) for place in product(*along)]


def shares(parts: list[Part], bits: float) -> list[float]:
    """How a budget of so many bits is best shared out: (P,), their sum is 1.

    With errors c R^-SLOPE the sum of errors is smallest where all have the same slope, so R goes with c^(1 / (1 + SLOPE)). How hard a part is, c, is taken
    from a cosine transform in blocks: the error that reverse water-filling leaves of it at equal bits for each point.
    """
    points = sum(part.signal.samples[..., 0].size for part in parts)
    hard = np.array([difficulty(part.signal, bits / points) * part.signal.samples[..., 0].size for part in parts])
    share = (hard + 1e-12) ** (1 / (1 + SLOPE))
    share = np.maximum(share / share.sum(), LEAST_SHARE / len(parts))
    return [float(x) for x in share / share.sum()]


def difficulty(signal: Signal, bits: float) -> float:
    """The squared error of a point, in units of full scale, that a transform coder would be left with at so many bits for a point.

    A coefficient above the level takes 0.5 log2(energy / level) bits and has the level as its error; those below take none.
    """
    energy = _energies(signal)
    wanted = bits * energy.size / signal.channels
    low, high = 1e-14, 10.0 * float(energy.max()) + 1e-12
    for _ in range(50):
        level = (low * high) ** 0.5
        above = energy[energy > level]
        low, high = (level, high) if 0.5 * np.log2(above / level).sum() > wanted else (low, level)
    return float(np.minimum(energy, high).sum()) * signal.channels / energy.size


def _energies(signal: Signal) -> np.ndarray:
    """Squared coefficients of a cosine transform over blocks of points and over the channels; what is left beside whole blocks does not count."""
    dims, samples = len(signal.shape), signal.samples
    block = [min(BLOCK[dims], n) for n in signal.shape]
    rows = len(samples) // block[0]
    skip = max(1, samples[..., 0].size // LOOKED_AT)  # of rows of blocks
    first = np.arange(0, rows, min(skip, rows))[:, None] * block[0] + np.arange(block[0])
    values = samples[first.reshape(-1)].astype(np.float32) / TOP[signal.sample_type]
    for axis, size in enumerate(block):
        values = values[(slice(None),) * axis + (slice(0, values.shape[axis] // size * size),)]
        split = values.reshape(*values.shape[:axis], -1, size, *values.shape[axis + 1 :])
        values = np.moveaxis(np.tensordot(split, _cosines(size), (axis + 1, 1)), -1, axis + 1).reshape(values.shape)
    energies: np.ndarray = np.square(values @ _cosines(signal.channels).T).reshape(-1)
    return energies


def _cosines(size: int) -> np.ndarray:
    """The orthonormal cosine transform of so many values, float32 (size, size): a row for each frequency."""
    k, i = np.arange(size)[:, None], np.arange(size)[None]
    rows: np.ndarray = np.cos(pi * (2 * i + 1) * k / (2 * size)) * (2 / size) ** 0.5
    rows[0] /= 2**0.5
    table: np.ndarray = rows.astype(np.float32)
    return table
