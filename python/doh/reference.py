"""The decoder to be read: docs/format.md in numpy, section by section, nothing clever. Slow on purpose; every other implementation must give the same bytes.

It shares nothing with the C++ core, and reads a file's bytes by itself. `decode(data)` is the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from doh.model import (
    DTYPE,
    GENERATORS,
    LADDERS,
    SAMPLE_TYPES,
    SIGNALS,
    TOP,
    BiasScale,
    Mosaic,
    QuantModel,
    Scale,
    Target,
    ladder_multipliers,
    scale_count,
)  # fmt: skip


class InvalidFile(ValueError):
    """A file that is not valid; `name` is the error's name in section 12."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def require(condition: bool, name: str) -> None:
    if not condition:
        raise InvalidFile(name)


# 1 Container


def crc_step(crc: int, bits: int) -> int:
    for _ in range(bits):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


CRC_TABLE = [crc_step(byte, 8) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """CRC-32C, one byte at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


MAGIC = b"\xd0H\r\n"


@dataclass
class Reader:
    """Takes fields off the front of the bytes that precede the two checksums, or of one record."""

    data: bytes
    at: int = 0

    def uint(self, size: int) -> int:
        require(self.at + size <= len(self.data), "TRUNCATED")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "little")

    def varint(self) -> int:
        value = 0
        for i in range(10):
            byte = self.uint(1)
            value |= (byte & 127) << (7 * i)
            if byte < 128:
                require(value < 1 << 64 and (byte > 0 or i == 0), "BAD_VARINT")
                return value
        raise InvalidFile("BAD_VARINT")


def check_container(data: bytes) -> None:
    require(data[:4] == MAGIC[: len(data)], "BAD_MAGIC")
    require(len(data) >= 32, "TRUNCATED")
    require(data[4] in (1, 2), "BAD_VERSION")
    require(int.from_bytes(data[-4:], "little") == crc32c(data[:-4]), "BAD_CHECKSUM")


# 2 Header


@dataclass
class Header:
    """All that is stored of one network; of version 2 the header's fields and one record's."""

    signal: str
    sample_type: str
    shape: tuple[int, ...]
    target: Target
    generator: str
    seed: int
    latents: int
    flags: int
    scales: tuple[Scale, ...]
    bias_scale: BiasScale
    latent_shift: int
    bias_shift: int
    payload: bytes = b""


def read_signal(r: Reader) -> tuple[str, str, int, tuple[int, ...]]:
    """Signal kind, sample type, channels, shape."""
    signal = r.uint(1)
    require(signal & 15 < len(SIGNALS) and signal >> 4 < len(SAMPLE_TYPES), "BAD_SIGNAL")
    dims = r.uint(1)
    d, channels = dims & 7, (dims >> 3) + 1
    require(1 <= d <= 4, "BAD_SIGNAL")
    shape: list[int] = []
    for _ in range(d):
        shape.append(r.varint())
        require(1 <= shape[-1] < 1 << 31 and prod(shape) * channels <= 1 << 40, "BAD_SHAPE")
    return SIGNALS[signal & 15], SAMPLE_TYPES[signal >> 4], channels, tuple(shape)


def read_size(r: Reader) -> tuple[int, int]:
    """Width, depth."""
    width = r.varint()
    require(1 <= width <= 1024, "BAD_NETWORK")
    depth = r.uint(1)
    require(1 <= depth <= 64, "BAD_NETWORK")
    return width, depth


def read_encoding(r: Reader) -> tuple[int, str]:
    """Frequencies, ladder."""
    encoding = r.uint(1)
    frequencies, ladder = encoding & 31, encoding >> 5 & 1
    require(encoding < 64 and frequencies <= 16 and not (frequencies == 0 and ladder), "BAD_NETWORK")
    return frequencies, LADDERS[ladder]


def read_generator(r: Reader) -> tuple[str, int]:
    """Generator, seed."""
    generator = r.uint(1)
    require(generator < len(GENERATORS), "BAD_GENERATOR")
    return GENERATORS[generator], r.varint()


def read_latents(r: Reader, generator: str, target: Target) -> int:
    latents = r.varint()
    require(1 <= latents <= 1 << 22, "BAD_GENERATOR")
    require(generator != "dense" or latents * target.weights <= 1 << 40, "BAD_GENERATOR")
    return latents


def read_scales(r: Reader, depth: int) -> tuple[int, tuple[Scale, ...], BiasScale, int, int]:
    """Flags, scales, bias scale, latent shift, bias shift."""
    flags = r.uint(1)
    require(flags & ~5 == 0, "BAD_SCALE")
    count = scale_count(depth, bool(flags & 1))
    scales = []
    for i in range(count):
        word = r.uint(3)
        scale = Scale(word & 2047, word >> 11 & 63, word >> 17 & 31)
        require(word < 1 << 22 and scale.r <= 47 and scale.q <= (14 if i == count - 1 else 17), "BAD_SCALE")
        scales.append(scale)
    word = r.uint(2)
    bias_scale = BiasScale(word & 2047, word >> 11)
    require(bias_scale.e <= 20, "BAD_SCALE")
    shifts = r.uint(1)
    return flags, tuple(scales), bias_scale, shifts & 15, shifts >> 4


def read_header(r: Reader) -> Header:
    """Version 1: the header of the one network; all that follows is its payload."""
    signal, sample_type, channels, shape = read_signal(r)
    width, depth = read_size(r)
    frequencies, ladder = read_encoding(r)
    target = Target(len(shape), channels, width, depth, frequencies, ladder)
    require(target.weights <= 1 << 24, "BAD_NETWORK")
    generator, seed = read_generator(r)
    latents = read_latents(r, generator, target)
    return Header(signal, sample_type, shape, target, generator, seed, latents, *read_scales(r, depth), r.data[r.at :])


# 2.1 Mosaics (version 2)


def read_mosaic(r: Reader) -> tuple[tuple[int, ...], list[Header]]:
    """Version 2: the parts along each dimension, and every part's network, row-major."""
    signal, sample_type, channels, shape = read_signal(r)
    parts: list[int] = []
    for points in shape:
        parts.append(r.varint())
        require(1 <= parts[-1] <= points and prod(parts) <= 1 << 16, "BAD_SHAPE")
    require(prod(parts) >= 2, "BAD_SHAPE")
    frequencies, ladder = read_encoding(r)
    generator, seed = read_generator(r)
    headers: list[Header] = []
    all_weights = all_latents = 0
    for _ in range(prod(parts)):
        length = r.varint()
        require(r.at + length <= len(r.data), "TRUNCATED")
        record, r.at = Reader(r.data[r.at : r.at + length]), r.at + length
        width, depth = read_size(record)
        target = Target(len(shape), channels, width, depth, frequencies, ladder)
        all_weights += target.weights
        require(all_weights <= 1 << 24, "BAD_NETWORK")
        latents = read_latents(record, generator, target)
        all_latents += latents
        require(all_latents <= 1 << 22, "BAD_GENERATOR")
        scales = read_scales(record, depth)
        headers.append(Header(signal, sample_type, shape, target, generator, seed, latents, *scales, record.data[record.at :]))
    require(r.at == len(r.data), "BAD_CODES")
    return tuple(parts), headers


def read_file(data: bytes) -> tuple[tuple[int, ...], list[Header], int]:
    """Sections 1 and 2: the parts along each dimension (1 for version 1), every part's network, `samples_crc`. Raises InvalidFile."""
    data = bytes(data)
    check_container(data)
    r, samples_crc = Reader(data[:-8], at=5), int.from_bytes(data[-8:-4], "little")
    if data[4] == 2:
        return *read_mosaic(r), samples_crc
    h = read_header(r)
    return (1,) * len(h.shape), [h], samples_crc


# 3 Entropy-coded codes


@dataclass
class AdaptiveBit:
    n0: int = 0
    n1: int = 0

    @property
    def p(self) -> int:
        return ((2 * self.n1 + 1) << 15) // (self.n0 + self.n1 + 1)

    def count(self, bit: int) -> None:
        self.n0, self.n1 = self.n0 + 1 - bit, self.n1 + bit
        if self.n0 + self.n1 == 4096:
            self.n0, self.n1 = self.n0 >> 1, self.n1 >> 1


class RangeDecoder:
    def __init__(self, payload: bytes) -> None:
        self.payload, self.at, self.range = payload, 0, (1 << 32) - 1
        self.code = 0
        for _ in range(4):
            self.code = self.code << 8 | self.byte()

    def byte(self) -> int:
        self.at += 1
        return self.payload[self.at - 1] if self.at <= len(self.payload) else 0

    def normalise(self) -> None:
        while self.range < 1 << 24:
            self.range = self.range << 8
            self.code = (self.code << 8 | self.byte()) & 0xFFFFFFFF

    def adaptive(self, bit: AdaptiveBit) -> int:
        bound = (self.range * bit.p) >> 16
        value = int(self.code < bound)
        if value:
            self.range = bound
        else:
            self.code, self.range = self.code - bound, self.range - bound
        self.normalise()
        bit.count(value)
        return value

    def plain(self, bits: int = 1) -> int:
        value = 0
        for _ in range(bits):
            self.range >>= 1
            one = int(self.code >= self.range)
            self.code -= one * self.range
            self.normalise()
            value = value << 1 | one
        return value


@dataclass
class CodeModel:
    """The adaptive bits of one group of codes."""

    shift: int
    more: list[AdaptiveBit] = field(default_factory=lambda: [AdaptiveBit() for _ in range(24)])
    negative: list[AdaptiveBit] = field(default_factory=lambda: [AdaptiveBit() for _ in range(24)])

    def read(self, r: RangeDecoder) -> int:
        k = 0
        while k < 24 and r.adaptive(self.more[k]):
            k += 1
        if k == 24:
            t = 0
            while r.plain():
                t += 1
                require(t <= 15, "BAD_CODES")
            k = 24 + (1 << t) - 1 + r.plain(t)
        m = (k << self.shift) + r.plain(self.shift)
        require(m <= 32767, "BAD_CODES")
        negative = r.adaptive(self.negative[min(k, 23)]) if self.shift == 0 else r.plain()
        return -1 - m if negative else m


def read_codes(h: Header) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents (n,), hidden bias codes (depth, width), output bias codes (channels,), all int32."""
    r = RangeDecoder(h.payload)

    def read(count: int, shift: int) -> list[int]:
        model = CodeModel(shift)
        return [model.read(r) for _ in range(count)]

    latents = read(h.latents, h.latent_shift)
    biases = read(h.target.depth * h.target.width, h.bias_shift)
    output = read(h.target.channels, 8)
    require(r.at >= len(h.payload) and not h.payload.endswith(b"\0"), "BAD_CODES")
    if h.flags & 4:
        latents = latents_on_trellis(latents)
    require(h.generator != "dense" or sum(map(abs, latents)) < 1 << 28, "BAD_CODES")
    return np.array(latents, np.int32), np.array(biases, np.int32).reshape(h.target.depth, h.target.width), np.array(output, np.int32)


# 3.1 Latents on the trellis


def latents_on_trellis(codes: list[int]) -> list[int]:
    latents, state = [], 0
    for code in codes:
        latents.append(2 * code + (state & 1))
        require(-32768 <= latents[-1] <= 32767, "BAD_CODES")
        state = state >> 1 ^ (0xA6 if latents[-1] & 1 else 0) ^ (0x79 if latents[-1] & 2 else 0)
    return latents


def read_network(h: Header) -> QuantModel:
    """One network with its codes; `samples_crc`, which is the file's, remains 0."""
    latents, biases, output = read_codes(h)
    return QuantModel(h.signal, h.sample_type, h.shape, h.target, h.generator, h.seed, latents, h.scales, h.bias_scale, biases, output, flags=h.flags)


def read_model(data: bytes) -> QuantModel | Mosaic:
    """Sections 1 to 3: the numbers in a file, all of them. Raises InvalidFile."""
    parts, headers, samples_crc = read_file(data)
    models = tuple(read_network(h) for h in headers)
    return replace(models[0], samples_crc=samples_crc) if prod(parts) == 1 else Mosaic(parts, models, samples_crc)


# 4 Random words


def philox(seed: int, block: np.ndarray, row: np.ndarray | int, layer: int, stream: int) -> np.ndarray:
    """Philox4x32-10 words, uint32 of shape broadcast(block, row) + (4,)."""
    low, u64 = np.uint64(0xFFFFFFFF), np.uint64
    c0, c1 = (np.array(a, u64) for a in np.broadcast_arrays(block, row))
    c2, c3 = np.full_like(c0, layer), np.full_like(c0, stream)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = u64(0xD2511F53) * c0, u64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> u64(32)) ^ c1 ^ u64(k0), p1 & low, (p0 >> u64(32)) ^ c3 ^ u64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


# 5 Weight generators


def tied_map(seed: int, n: int, weights: int) -> tuple[np.ndarray, np.ndarray]:
    """(index, sign), each (weights,): W_int = sign * c[index] (section 5.1)."""
    index = []
    for chunk in range(-(-weights // n)):
        words = philox(seed, np.arange(-(-n // 4)), chunk, 0, 1).reshape(-1)[:n].astype(np.int64)
        index.append(np.argsort(((words >> 1) << 32) + np.arange(n)))
    bits = philox(seed, np.arange(-(-weights // 128)), 0, 0, 2)[..., None] >> np.arange(32, dtype=np.uint32) & 1
    return np.concatenate(index)[:weights], 1 - 2 * bits.reshape(-1)[:weights].astype(np.int64)


def dense_bytes(seed: int, layer: int, row: int, n: int) -> np.ndarray:
    """The n bytes u_j of one row of the dense matrix (section 5.2)."""
    return philox(seed, np.arange(-(-n // 16)), row, layer, 0).astype("<u4").reshape(-1).view(np.uint8)[:n]


def weight_sums(model: QuantModel) -> list[np.ndarray]:
    """W_int of every layer, int64 (fan_out, fan_in)."""
    codes, shapes = model.latent_codes.astype(np.int64), model.target.layer_shapes
    if model.generator == "tied":
        index, sign = tied_map(model.seed, len(codes), model.target.weights)
        flat = sign * codes[index]
        ends = np.cumsum([o * i for o, i in shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes)]
    return [
        np.array([(2 * dense_bytes(model.seed, layer, row, len(codes)).astype(np.int64) - 255) @ codes for row in range(o * i)]).reshape(o, i)
        for layer, (o, i) in enumerate(shapes)
    ]


# 6 Integer weights and biases


def integer_weights(model: QuantModel) -> list[np.ndarray]:
    """W of every layer, int64 (fan_out, fan_in) within [-32767, 32767]."""
    scales = [model.scale_of(layer) for layer in range(model.target.depth + 1)]
    return [np.clip((w * (2048 + s.m) + ((1 << s.r) >> 1)) >> s.r, -32767, 32767) for w, s in zip(weight_sums(model), scales)]


def integer_biases(model: QuantModel) -> list[np.ndarray]:
    """b of every layer, int32 values held as int64."""
    hidden = [wrap32(codes.astype(np.int64) * model.bias_scale.step) for codes in model.bias_codes]
    return [*hidden, wrap32(model.output_bias_codes.astype(np.int64) << (model.scale_of(model.target.depth).q + 3))]


def wrap32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int32).astype(np.int64)  # numpy's narrowing keeps the low bits


def wrap16(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int16).astype(np.int64)


# 7 Coordinates and positional encoding


def places(first: int, count: int, points: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """(part, X) of the indices first .. first + count - 1 in a dimension of `points` points, int64: part in [0, parts), X in [-2^31, 2^31)."""
    i = np.arange(first, first + count, dtype=np.uint64)
    u = ((2 * i + np.uint64(1)) * np.uint64(1 << 31) // np.uint64(points)).astype(np.int64)
    v = u * parts  # below 2^48
    return v >> 32, (v & 0xFFFFFFFF) - (1 << 31)


def coordinates(first: int, count: int, points: int) -> np.ndarray:
    """X where one network has the whole dimension."""
    return places(first, count, points, 1)[1]


def encoding(x: np.ndarray, multipliers: tuple[int, ...]) -> np.ndarray:
    """The sines and cosines of coordinates x (...): Q15 integers of shape (..., 2K)."""
    phases = [wrap16((x * f) >> 28) for f in multipliers]
    return np.stack([sin16(p + quarter) for p in phases for quarter in (0, 16384)], axis=-1) if phases else np.zeros((*x.shape, 0), np.int64)


# 8 The sine


def rmul(a: np.ndarray | int, b: np.ndarray) -> np.ndarray:
    return (a * b + (1 << 14)) >> 15


def sin16(p: np.ndarray) -> np.ndarray:
    """Q15 sine of a phase of which 2^16 is one turn."""
    s = wrap16(p - 16384)
    m = np.where(s >= 0, s, -1 - s)
    u = 32767 - 2 * m
    z = rmul(u, u)
    v = 21013 - rmul(2330, z)
    v = 18682 - rmul(v, z)
    return u + rmul(u, v)


# 9 The network


def evaluate(model: QuantModel, coordinates: Sequence[np.ndarray]) -> np.ndarray:
    """y at all combinations of coordinates X_0 (e_0,), X_1 (e_1,) ...: int64 (e_0, e_1, ..., channels), values with 15 + q fractional bits."""
    t, weights, biases = model.target, integer_weights(model), integer_biases(model)
    multipliers, inputs = ladder_multipliers(t.ladder, t.frequencies), 1 + 2 * t.frequencies
    acc = np.zeros((1,) * t.dims + (t.width,), np.int64)
    for dim, x in enumerate(coordinates):  # a dimension's share depends on its own coordinate alone, so it is computed once for each index and broadcast
        w = weights[0][:, dim * inputs : (dim + 1) * inputs]
        share = ((x[:, None] * w[:, 0]) >> 16) + encoding(x, multipliers) @ w[:, 1:].T
        acc = acc + share.reshape((1,) * dim + (-1,) + (1,) * (t.dims - 1 - dim) + (t.width,))
    for layer in range(t.depth):
        phase = wrap32((wrap32(acc) << (17 - model.scale_of(layer).q)) + biases[layer])
        acc = sin16(phase >> 16) @ weights[layer + 1].T
    return wrap32(acc + biases[t.depth])


# 10 Samples

Box = Sequence[int] | None  # one of a box's three rows of numbers, or what is usual


def part_samples(model: QuantModel, coordinates: Sequence[np.ndarray]) -> np.ndarray:
    """The samples of one network: as `evaluate`, but uint8, uint16 or int16."""
    top, f = TOP[model.sample_type], 15 + model.scale_of(model.target.depth).q
    value = (np.clip(evaluate(model, coordinates), 0, 1 << f) * top + (1 << (f - 1))) >> f
    return (value - 32768 * (model.sample_type == "s16")).astype(DTYPE[model.sample_type])


def box_samples(parts: tuple[int, ...], networks: Sequence[Header | QuantModel], grid: Box, offset: Box, extent: Box) -> np.ndarray:
    """The samples of a box, part by part; of a Header the codes are read now, and only where the box has points in its part."""
    first = networks[0]
    grid = tuple(grid) if grid is not None else first.shape
    offset = tuple(offset) if offset is not None else (0,) * len(grid)
    extent = tuple(extent) if extent is not None else tuple(g - o for g, o in zip(grid, offset))
    require(len(grid) == len(offset) == len(extent) == len(first.shape), "BAD_ARGUMENT")
    require(all(1 <= g < 1 << 31 and 0 <= o < o + e <= g for g, o, e in zip(grid, offset, extent)), "BAD_ARGUMENT")
    place = [places(*numbers) for numbers in zip(offset, extent, grid, parts)]
    result = np.empty((*extent, first.target.channels), DTYPE[first.sample_type])
    for network, index in zip(networks, np.ndindex(parts)):
        here = [np.flatnonzero(part == at) for (part, _), at in zip(place, index)]
        if all(map(len, here)):
            model = read_network(network) if isinstance(network, Header) else network
            result[np.ix_(*here)] = part_samples(model, [x[at] for (_, x), at in zip(place, here)])
    return result


def samples(model: QuantModel | Mosaic, grid: Box = None, offset: Box = None, extent: Box = None) -> np.ndarray:
    """The samples of a box of a grid, by default the whole stored grid: (*extent, channels), uint8, uint16 or int16."""
    parts, models = (model.parts, model.models) if isinstance(model, Mosaic) else ((1,) * len(model.shape), (model,))
    return box_samples(parts, models, grid, offset, extent)


def decode(data: bytes, grid: Box = None, offset: Box = None, extent: Box = None) -> np.ndarray:
    """Bytes to samples. Raises InvalidFile; the whole stored grid is checked against `samples_crc`."""
    parts, headers, samples_crc = read_file(data)
    result = box_samples(parts, headers, grid, offset, extent)
    if grid is None and offset is None and extent is None:
        canonical = result.astype(result.dtype.newbyteorder("<")).tobytes()
        require(crc32c(canonical) == samples_crc, "BAD_SAMPLES")
    return result
