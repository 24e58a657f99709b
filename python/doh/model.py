"""The quantised model: exactly what a .doh file holds, as plain numbers (docs/format.md, sections 2, 3 and 6). Knows nothing of files or training."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

SIGNALS = ("array", "image", "occupancy", "audio", "volume", "video")
SAMPLE_TYPES = ("u1", "u8", "u16", "s16")
GENERATORS = ("tied", "dense")
LADDERS = ("octaves", "1.4")

#: Flags (section 2): a scale for each layer instead of each class of layers; latents on the trellis (section 3.1).
PER_LAYER, ON_TRELLIS = 1, 4

#: Highest stored sample value, before the offset of s16 (section 10).
TOP = {"u1": 1, "u8": 255, "u16": 65535, "s16": 65535}
DTYPE = {"u1": np.uint8, "u8": np.uint8, "u16": np.uint16, "s16": np.int16}

#: Multipliers of the 1.4 ladder, 12 fractional bits (section 7).
POWERS_OF_1_4 = (4096, 5734, 8028, 11239, 15735, 22029, 30841, 43177, 60448, 84628, 118479, 165870, 232218, 325106, 455148, 637207)


def ladder_multipliers(ladder: str, frequencies: int) -> tuple[int, ...]:
    """The multipliers f_k, 12 fractional bits, of the positional encoding's frequencies (section 7)."""
    return tuple(1 << (12 + k) for k in range(frequencies)) if ladder == "octaves" else POWERS_OF_1_4[:frequencies]


@dataclass(frozen=True)
class Target:
    """The shape of a target network: a SIREN of `depth` sine layers of `width` units and a linear output layer."""

    dims: int
    channels: int
    width: int
    depth: int
    frequencies: int = 0
    ladder: str = "octaves"

    @property
    def inputs(self) -> int:
        """F, the inputs of layer 0: for each dimension the coordinate and a sine and a cosine for each frequency."""
        return self.dims * (1 + 2 * self.frequencies)

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """(fan_out, fan_in) of layers 0 .. depth; the last is the linear output layer."""
        fan_in = (self.inputs,) + (self.width,) * self.depth
        fan_out = (self.width,) * self.depth + (self.channels,)
        return tuple(zip(fan_out, fan_in))

    @property
    def weights(self) -> int:
        """D, the number of weights (biases not counted)."""
        return sum(o * i for o, i in self.layer_shapes)

    @property
    def biases(self) -> int:
        return self.depth * self.width + self.channels


@dataclass(frozen=True)
class Scale:
    """How a layer's integer sums become 16-bit weights: W = clamp((W_int * (2048 + m) + (2^r >> 1)) >> r), with q bits of weight precision."""

    m: int  # 0 .. 2047
    r: int  # 0 .. 47
    q: int  # 0 .. 17; output layer 0 .. 14

    @property
    def factor(self) -> float:
        """What one unit of W_int is worth: turns for each unit of input (a value in the output layer)."""
        return (2048 + self.m) * 2.0 ** -(self.r + self.q)


@dataclass(frozen=True)
class BiasScale:
    """Step of a hidden bias: (2048 + m) << e, where 2^32 is one turn."""

    m: int  # 0 .. 2047
    e: int  # 0 .. 20

    @property
    def step(self) -> int:
        return (2048 + self.m) << self.e


@dataclass(frozen=True)
class QuantModel:
    """A whole file in numbers. Arrays are int32; codes lie in [-32768, 32767]. With ON_TRELLIS the latent codes are the latents of section 3.1."""

    signal: str
    sample_type: str
    shape: tuple[int, ...]
    target: Target
    generator: str
    seed: int
    latent_codes: np.ndarray  # (n,)
    scales: tuple[Scale, ...]  # min(3, depth + 1) by class, or depth + 1 by layer
    bias_scale: BiasScale
    bias_codes: np.ndarray  # (depth, width)
    output_bias_codes: np.ndarray  # (channels,), step 2^-12 of full scale
    samples_crc: int = 0
    flags: int = field(default=0)  # PER_LAYER, ON_TRELLIS

    @property
    def points(self) -> int:
        return prod(self.shape)

    def scale_of(self, layer: int) -> Scale:
        """The scale of layer 0 .. depth (section 2, "Scales")."""
        return self.scales[scale_index(layer, self.target.depth, bool(self.flags & PER_LAYER))]


@dataclass(frozen=True)
class Mosaic:
    """A whole version 2 file in numbers: the signal cut into prod(parts) equal boxes, each with a network of its own (section 2.1).

    The models have alike what the file holds once: signal, sample_type, shape (the whole signal's), generator, seed, and the target's dims, channels,
    frequencies and ladder. Each has its own width, depth, latents, flags, scales, bias scale and codes.
    """

    parts: tuple[int, ...]  # boxes along each dimension, slowest first: each 1 .. shape[t], product 2 .. 65536
    models: tuple[QuantModel, ...]  # one for each box, row-major; alike in all that the file holds once (see the class)
    samples_crc: int = 0  # of the whole signal; those of the models mean nothing

    @property
    def signal(self) -> str:
        return self.models[0].signal

    @property
    def sample_type(self) -> str:
        return self.models[0].sample_type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.models[0].shape

    @property
    def points(self) -> int:
        return self.models[0].points


def scale_count(depth: int, per_layer: bool) -> int:
    """Scales in a header: one for each layer, or one for each class of layer (first, hidden, output)."""
    return depth + 1 if per_layer else min(3, depth + 1)


def scale_index(layer: int, depth: int, per_layer: bool) -> int:
    """Which stored scale belongs to layer 0 .. depth."""
    if per_layer:
        return layer
    if layer == 0:
        return 0
    return scale_count(depth, False) - 1 if layer == depth else 1
