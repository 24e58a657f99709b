"""Files and models: a QuantModel or a Mosaic to bytes and back, and bytes to samples, all through the C++ core. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import floor
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from doh import _core
from doh.model import DTYPE, BiasScale, Mosaic, QuantModel, Scale, Target

_Model = TypeVar("_Model", QuantModel, Mosaic)
Source = bytes | bytearray | memoryview | np.ndarray | str | PathLike[str]

#: Limits under which every valid file is decoded, whatever its samples and work; those of latents, weights and memory stay.
NO_LIMITS = {"max_samples": 1 << 40, "max_work": (1 << 64) - 1}


@dataclass(frozen=True)
class Info:
    """What a header says (docs/format.md, section 2); sizes in bytes, `work` of a full decode, about multiply-adds (section 11).

    Of a mosaic (version 2: a network for each of prod(parts) boxes of the signal), `width` and `depth` are the largest of any network, `latents` and
    `weights` the sums over all.
    """

    version: int
    signal: str
    sample_type: str
    shape: tuple[int, ...]
    parts: tuple[int, ...]  # boxes along each dimension; 1s in version 1
    channels: int
    width: int
    depth: int
    frequencies: int
    ladder: str
    generator: str
    seed: int
    latents: int
    weights: int
    points: int
    samples_bytes: int
    work: int
    header_bytes: int
    payload_bytes: int
    samples_crc: int
    file_crc: int
    bytes: int

    @property
    def bpp(self) -> float:
        """Bits of the file for each grid point."""
        return 8 * self.bytes / self.points

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(DTYPE[self.sample_type])


def load(source: Source) -> bytes | bytearray | memoryview | np.ndarray:
    """The bytes of a file that is named by a path; bytes-like objects are passed on. Raises OSError."""
    return Path(source).read_bytes() if isinstance(source, (str, PathLike)) else source


def read_info(source: Source, limits: Mapping[str, int] | None = None) -> Info:
    """The header of a .doh file (a path or its bytes). Raises DohError for anything that is not one, or is beyond `limits` (section 11)."""
    data = load(source)
    raw = _core.read_info(data, _limits(limits))
    raw["bytes"] = data.nbytes if isinstance(data, np.ndarray) else memoryview(data).nbytes
    return Info(**{f.name: raw[f.name] for f in fields(Info)})


def decode(
    source: Source,
    *,
    scale: float | Fraction | str = 1,
    crop: Sequence[int] | None = None,
    grid: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    extent: Sequence[int] | None = None,
    limits: Mapping[str, int] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Decodes a .doh file (a path or its bytes) to samples of shape (*extent, channels), dtype uint8, uint16 or int16.

    The default is the stored grid, checked against the file's own checksum of its samples. `scale` zooms every dimension: a number,
    or a fraction such as "3/2". `crop` = (offsets..., extents...) in points of the stored grid, slowest dimension first, is zoomed
    along. Instead of these, `grid`, `offset` and `extent` give any box of any grid exactly (docs/format.md, section 7). The cost is
    in proportion to the box, and that of making the weights, whatever the box. Ctrl-C ends it at any time.
    Raises DohError (BAD_ARGUMENT: a box that is not in its grid), OSError; ValueError for a scale that is none, a crop outside the signal, and what are no
    whole numbers.
    """
    data = load(source)
    info = read_info(data, {**(limits or {}), **NO_LIMITS})
    if grid is None:
        if offset is not None or extent is not None:
            raise ValueError("offset and extent go with grid; use crop for a box of the stored grid")
        grid, offset, extent = zoomed_box(info.shape, scale, crop)
    elif crop is not None or factor_of(scale) != 1:
        raise ValueError("give either grid, offset and extent, or scale and crop")
    grid = whole_numbers("grid", grid)
    offset = whole_numbers("offset", offset) if offset is not None else (0,) * len(grid)
    extent = whole_numbers("extent", extent) if extent is not None else tuple(max(0, g - o) for g, o in zip(grid, offset))
    whole = grid == info.shape == extent
    box: dict[str, Any] = {} if whole else {"grid": grid, "offset": offset, "extent": extent}
    _core.check_region(data, limits=_limits(limits), **box)  # before a buffer of that size is asked for
    out = np.empty((*extent, info.channels), info.dtype)
    _core.decode(data, out, limits=_limits(limits), threads=threads, **box)
    return out


def whole_numbers(name: str, numbers: Sequence[int]) -> tuple[int, ...]:
    """Raises ValueError for any that is not whole, is negative, or has more than 64 bits."""
    try:
        whole = tuple(map(index, numbers))
    except TypeError as error:
        raise ValueError(f"{name} is made of whole numbers, not {numbers!r}") from error
    if any(not 0 <= number < 1 << 64 for number in whole):
        raise ValueError(f"{name} has a number that is out of range: {numbers!r}")
    return whole


def factor_of(scale: float | Fraction | str) -> Fraction:
    """The zoom that is meant; numpy's numbers are taken as Python's, as products with them wrap around. Raises ValueError for what is none."""
    plain = scale.item() if isinstance(scale, np.generic) else scale
    try:
        factor = Fraction(plain) if not isinstance(plain, float) else Fraction(plain).limit_denominator(1 << 20)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"scale must be a positive number or fraction, not {scale!r}") from error
    if factor <= 0:
        raise ValueError(f"scale must be positive, not {scale!r}")
    return factor


def zoomed_box(
    shape: tuple[int, ...], scale: float | Fraction | str = 1, crop: Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(grid, offset, extent) for a zoom of the whole signal by `scale` and a crop given in points of the stored grid. Raises ValueError."""
    factor = factor_of(scale)

    def place(x: int) -> int:
        return floor(x * factor + Fraction(1, 2))

    grid = tuple(max(1, place(n)) for n in shape)
    if crop is None:
        return grid, (0,) * len(shape), grid
    d = len(shape)
    if len(crop) != 2 * d:
        raise ValueError(f"crop needs {2 * d} numbers for a signal of {d} dimensions, not {len(crop)}")
    crop = whole_numbers("crop", crop)
    first, size = crop[:d], crop[d:]
    if any(o < 0 or e < 1 or o + e > n for o, e, n in zip(first, size, shape)):
        raise ValueError(f"the crop at {first} of size {size} is not inside the signal of size {shape}")
    offset = tuple(min(place(o), g - 1) for o, g in zip(first, grid))
    end = tuple(min(max(place(o + e), at + 1), g) for o, e, at, g in zip(first, size, offset, grid))
    return grid, offset, tuple(e - o for o, e in zip(offset, end))


def verify(source: Source, limits: Mapping[str, int] | None = None, threads: int = 1) -> Info:
    """Checks all that a file can prove: its checksum, its codes, and that this machine decodes what the encoder decoded. Raises DohError."""
    data = load(source)
    info = read_info(data, limits)
    _core.decode(data, np.empty((*info.shape, info.channels), info.dtype), limits=_limits(limits), threads=threads)
    return info


def pack(model: QuantModel | Mosaic, threads: int = 1) -> bytes:
    """The file of a model or a mosaic. Its samples are decoded once to seal the file with their checksum. Raises as pack_unsealed does."""
    data = pack_unsealed(model)
    return _core.set_samples_crc(data, samples_crc(decode_unsealed(data, model, threads)))


def decode_unsealed(data: bytes, model: QuantModel | Mosaic, threads: int = 1, rows: slice = slice(None)) -> np.ndarray:
    """The samples in the file of a model or a mosaic, whose checksum need not be right yet: (*shape, channels), uint8, uint16 or int16; `rows` are those of
    the first dimension, one after the other."""
    first, last, _ = rows.indices(model.shape[0])
    extent = (last - first, *model.shape[1:])
    channels = (model.models[0] if isinstance(model, Mosaic) else model).target.channels
    samples = np.empty((*extent, channels), DTYPE[model.sample_type])
    box: dict[str, Any] = {"grid": model.shape, "offset": (first, *[0] * (len(extent) - 1)), "extent": extent}  # decoded as a region, which has no checksum
    _core.decode(data, samples, limits=NO_LIMITS, threads=threads, **box)
    return samples


def pack_unsealed(model: QuantModel | Mosaic) -> bytes:
    """The file of a model or a mosaic with the `samples_crc` that it carries: right in size, but not yet decodable as a whole. Raises DohError for numbers
    that the format cannot hold, ValueError for a mosaic whose models disagree in what its file holds once."""
    if isinstance(model, QuantModel):
        return _core.pack({**_signal_fields(model), **_network_fields(model)})
    common = _signal_fields(model.models[0])
    if any(_signal_fields(m) != common for m in model.models):
        raise ValueError("the models of a mosaic must be of one signal, shape, encoding, generator and seed")
    networks = [_network_fields(m) for m in model.models]
    return _core.pack({**common, "parts": tuple(model.parts), "networks": networks, "samples_crc": model.samples_crc})


def _signal_fields(model: QuantModel) -> dict[str, Any]:
    """What the networks of a mosaic have alike."""
    t = model.target
    return {
        "signal": model.signal,
        "sample_type": model.sample_type,
        "shape": tuple(model.shape),
        "channels": t.channels,
        "frequencies": t.frequencies,
        "ladder": t.ladder,
        "generator": model.generator,
        "seed": model.seed,
    }


def _network_fields(model: QuantModel) -> dict[str, Any]:
    return {
        "width": model.target.width,
        "depth": model.target.depth,
        "flags": model.flags,
        "scales": [(s.m, s.r, s.q) for s in model.scales],
        "bias_scale": (model.bias_scale.m, model.bias_scale.e),
        "latent_codes": np.ascontiguousarray(model.latent_codes, np.int32),
        "bias_codes": np.ascontiguousarray(model.bias_codes, np.int32),
        "output_bias_codes": np.ascontiguousarray(model.output_bias_codes, np.int32),
        "samples_crc": model.samples_crc,
    }


def unpack(source: Source, limits: Mapping[str, int] | None = None) -> QuantModel | Mosaic:
    """The model in a file (a path or its bytes); a Mosaic where there are several (format version 2). Raises DohError, OSError."""
    raw = _core.unpack(load(source), _limits(limits))
    if "networks" not in raw:
        return _model(raw, raw)
    return Mosaic(parts=raw["parts"], models=tuple(_model(raw, network) for network in raw["networks"]), samples_crc=raw["samples_crc"])


def _model(raw: Mapping[str, Any], network: Mapping[str, Any]) -> QuantModel:
    """The model with the file's fields `raw` and a network's own, which in a file of one are the same."""
    target = Target(len(raw["shape"]), raw["channels"], network["width"], network["depth"], raw["frequencies"], raw["ladder"])
    return QuantModel(
        signal=raw["signal"],
        sample_type=raw["sample_type"],
        shape=tuple(raw["shape"]),
        target=target,
        generator=raw["generator"],
        seed=raw["seed"],
        latent_codes=network["latent_codes"],
        scales=tuple(Scale(*s) for s in network["scales"]),
        bias_scale=BiasScale(*network["bias_scale"]),
        bias_codes=network["bias_codes"],
        output_bias_codes=network["output_bias_codes"],
        samples_crc=network.get("samples_crc", 0),
        flags=network["flags"],
    )


def with_samples_crc(model: _Model, crc: int) -> _Model:
    return replace(model, samples_crc=crc)


def canonical(samples: np.ndarray) -> np.ndarray:
    """The canonical bytes of samples (section 10): row-major, channels last, two-byte samples little-endian."""
    return np.frombuffer(np.ascontiguousarray(samples).astype(samples.dtype.newbyteorder("<"), copy=False).tobytes(), np.uint8)


def samples_crc(samples: np.ndarray) -> int:
    """CRC-32C of the canonical samples."""
    return _core.crc32c(canonical(samples))


def _limits(limits: Mapping[str, int] | None) -> dict[str, Any] | None:
    return dict(limits) if limits else None
