"""The network in the graph: exactly, in integers held by float64 and int32, and in plain floating point (docs/format.md, sections 7 to 10).

Activations are laid out (units, points), so that a bias is one number for each contiguous row.

Exactness rests on one rule: every intermediate number is an integer, or one over a power of two, that its dtype holds exactly. Then no fusion, order
of sums, number of threads or processor can change it. Four consequences:

* Matrix products are float64: sums of 1024 products of 16-bit integers stay below 2^41.
* A phase is floor((acc * 2^(17-q) + b) / 2^16) modulo 2^16. The bias is floored to a multiple of 2^(1-q) beforehand, which changes no floor.
* The encoding's phases X f / 2^28 are below 2^23 for powers of 1.4, so that with what is added to them 52 bits hold them; for octaves f is a power of two.
* Shifts are divisions of non-negative integers: ONNX's integer Div truncates, so offsets are added before and taken off later, in the next layer's bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from doh.errors import OnnxError
from doh.export.graph import Function, Graph, Value
from doh.model import TOP, QuantModel, Target, ladder_multipliers

OUTPUT_TYPE = {"u1": np.uint8, "u8": np.uint8, "u16": np.uint16, "s16": np.int16}
#: What `wave` adds to a sine to keep it positive.
LIFT = 1 << 15
#: Phases below it, less two turns, fit int32 when they are made positive; what `wave` adds to a product for the same reason.
OFFSET = 1 << 30


def wrap32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int32).astype(np.int64)


def biases(model: QuantModel) -> list[np.ndarray]:
    """b of every layer, int64 numbers in the range of int32 (section 6)."""
    hidden = [wrap32(codes.astype(np.int64) * model.bias_scale.step) for codes in model.bias_codes]
    return [*hidden, wrap32(model.output_bias_codes.astype(np.int64) << (model.scale_of(model.target.depth).q + 3))]


# the sine


def wave() -> Function:
    """r = 2s + 1 (int32), s a phase less a quarter turn in [-32768, 32767], to its sine in Q15 plus LIFT, float64 (section 8)."""
    f = Function("Wave", r=np.int32)
    u = LIFT - abs(f.inputs["r"])
    z = (u * u + (1 << 14)) // (1 << 15)
    v = 21013 - (z * 2330 + (1 << 14)) // (1 << 15)
    v = 18682 - (v * z + (1 << 14)) // (1 << 15)
    lifted = (u * v + (OFFSET + (1 << 14))) // (1 << 15)  # rmul(u, v) + LIFT
    return f.returns((u + lifted).cast(np.float64))


def wave_of_near() -> Function:
    """Phases x = p - 2^14 plus a multiple of 2^16 that lie in (0, 2^31), float64, to Wave.

    Truncation is the floor here, and the low 16 bits of it are s. The dimension that comes and goes costs nothing and is there on purpose: ONNX
    Runtime's elimination of chains of casts takes a cast to a narrow type and back for no change at all.
    """
    f = Function("WaveOfNear", x=np.float64)
    s = f.inputs["x"].cast(np.int32).unsqueeze(0).cast(np.int16).squeeze(0).cast(np.int32)
    return f.returns((s + s) + 1)


def wave_of_far() -> Function:
    """Phases x = p + 2^14 of any size, float64, to Wave: the reduction modulo 2^16 in floating point, which is exact too, and slower."""
    f = Function("WaveOfFar", x=np.float64)
    x = f.inputs["x"]
    turned = (x - (x * 2.0**-16).floor() * 65536).cast(np.int32)  # s + 2^15
    return f.returns((turned + turned) - 65535)


@dataclass(frozen=True)
class Phase:
    """How the phases of one layer become sines: by their bound, in units of 2^-16 turn. The offset goes into the layer's bias."""

    bound: float

    @property
    def near(self) -> bool:
        return self.bound < OFFSET - (1 << 17)

    @property
    def offset(self) -> float:
        """No larger than the bound asks for: phases of the encoding have up to 28 bits after the point, and float64 holds 53 in all."""
        if not self.near:
            return float(1 << 14)
        return float((1 << max(16, int(self.bound + (1 << 14)).bit_length())) - (1 << 14))

    def sines(self, g: Graph, x: Value) -> Value:
        """Sines in Q15 plus LIFT, float64."""
        (r,) = g.call(wave_of_near() if self.near else wave_of_far(), x)
        return g.call(wave(), r)[0]


# the network, exactly


@dataclass(frozen=True)
class Layer:
    """One layer's matrix (fan_out, fan_in) and bias (fan_out, 1), float64, ready to be multiplied with lifted activations."""

    weights: Value
    bias: Value
    phase: Phase | None  # None: the output layer
    raw: list[Value]  # layer 0: for each dimension its column, 2^-16 of W, (fan_out, 1)
    raw_scale: float | Value


def columns(target: Target) -> tuple[list[int], list[int]]:
    """Layer 0's inputs: the raw coordinates, and the sines and cosines."""
    step = 1 + 2 * target.frequencies
    return list(range(0, target.inputs, step)), [i for i in range(target.inputs) if i % step]


def phase_bound(model: QuantModel, layer: int, weights: np.ndarray) -> float:
    """No phase of a sine layer with these integer weights is larger, in units of 2^-16 turn."""
    size = np.abs(weights).sum(1).max() * 2.0**15
    if layer == 0:
        size += np.abs(weights[:, columns(model.target)[0]]).sum(1).max() * 2.0**15
    return float(size * 2.0 ** (1 - model.scale_of(layer).q) + 2.0**16)


def floored(bias: np.ndarray, q: int, phase: Phase | None) -> np.ndarray:
    """b as it is added to products, float64: in units of 2^-16 turn with the phase's offset; of the output layer as it is."""
    if phase is None:
        return bias.astype(np.float64)
    fine = max(q - 1, 0)  # bits after the point that a phase can have
    numbers: np.ndarray = np.floor(bias * 2.0 ** (fine - 16)) * 2.0**-fine + phase.offset
    return numbers


def exact_layers(g: Graph, model: QuantModel, weights: list[Value], known: list[np.ndarray]) -> list[Layer]:
    """Prepares the layers. `known`: the same weights as numbers, for the bounds on their sums."""
    t, all_biases, layers = model.target, biases(model), []
    raw_columns, encoded = columns(t)
    for layer, (w, numbers, b) in enumerate(zip(weights, known, all_biases)):
        q, raw = model.scale_of(layer).q, []
        if layer == 0:
            raw = [w.columns(c) * 2.0**-16 for c in raw_columns]
            w = w.columns(*encoded) if encoded else w.slice(0, 0, 1)
        phase, scale = (Phase(phase_bound(model, layer, numbers)), 2.0 ** (1 - q)) if layer < t.depth else (None, 1.0)
        bias = g.constant(floored(b, q, phase).reshape(-1, 1))
        if layer or encoded:
            w = w * scale if scale != 1.0 else w
            bias = bias - w.sum(1) * LIFT
        layers.append(Layer(w, bias, phase, raw, scale))
    return layers


def exact_network(g: Graph, model: QuantModel, layers: list[Layer], x: Value, full: Value | None = None) -> Value:
    """Samples (points, channels) for coordinates x, int64 (dims, points) in [-2^31, 2^31). Sections 7 to 10.

    `full`: 2^-f, f the bits after the point of the output layer's values, where it is not the model's own.
    """
    first, t, x = layers[0], model.target, x.cast(np.float64)
    total = None
    for dim, column in enumerate(first.raw):
        share = (g.here(column) * x.slice(dim, dim + 1, 0)).floor()
        total = share if total is None else total + share
    assert total is not None
    total = total * first.raw_scale
    if t.frequencies:
        encoding = _encoding(g, model, x)
        total = total + g.gemm(g.here(first.weights), encoding, g.here(first.bias))
    else:
        total = total + g.here(first.bias)
    for layer in layers[1:]:
        assert first.phase is not None
        total = g.gemm(g.here(layer.weights), first.phase.sines(g, total), g.here(layer.bias))
        first = layer
    wrapped = total - ((total + 2.0**31) * 2.0**-32).floor() * 2.0**32
    if full is not None:
        return _samples(model, ((wrapped * full).clip(0.0, 1.0) * float(TOP[model.sample_type]) + 0.5).floor())
    f = 15 + model.scale_of(t.depth).q
    return _samples(model, (wrapped.clip(0.0, 2.0**f) * (TOP[model.sample_type] * 2.0**-f) + 0.5).floor())


def _encoding(g: Graph, model: QuantModel, x: Value) -> Value:
    """Sines and cosines of all dimensions plus LIFT, (dims * 2K, points): the order of layer 0's columns without the raw ones."""
    table, phase = _frequencies(model)
    quarter = np.tile([0.0, 16384.0], len(table) // 2).reshape(-1, 1)
    matrix, constant = g.constant(table * 2.0**-28), g.constant(quarter + phase.offset)
    return phase.sines(g, g.gemm(matrix, x, constant))


def _frequencies(model: QuantModel) -> tuple[np.ndarray, Phase]:
    """(dims * 2K, dims): the multiplier of each phase in the column of its dimension; and the bound on the phases in units of 2^-16 turn."""
    t = model.target
    multipliers = np.repeat(np.array(ladder_multipliers(t.ladder, t.frequencies), np.float64), 2)
    table = np.zeros((t.dims * len(multipliers), t.dims))
    for dim in range(t.dims):
        table[dim * len(multipliers) : (dim + 1) * len(multipliers), dim] = multipliers
    return table, Phase(8.0 * multipliers.max() + 2.0**15)  # X / 2^28 is below 8


def _samples(model: QuantModel, whole: Value) -> Value:
    if model.sample_type == "s16":
        whole = whole - 32768.0
    return whole.cast(OUTPUT_TYPE[model.sample_type]).transpose()


# the network in floating point


FloatLayer = tuple[np.ndarray, np.ndarray]


def float_layers(model: QuantModel, known: list[np.ndarray], dtype: type) -> list[FloatLayer]:
    """For each layer W (fan_out, fan_in) and b (fan_out, 1) in `dtype`, layer 0 in float32 at least, so that sin(W h + b) is the next h. The columns of
    layer 0: first the raw coordinates, in [-1, 1). Raises OnnxError where `dtype` cannot hold the weights."""
    t, turn = model.target, 2 * np.pi
    raw, encoded = columns(t)
    layers: list[FloatLayer] = []
    for layer, (w, b) in enumerate(zip(known, biases(model))):
        q, kind = model.scale_of(layer).q, np.float32 if layer == 0 else dtype
        w = w * 2.0**-q
        if layer == 0:
            w = np.concatenate([w[:, raw], w[:, encoded]], axis=1)
        unit = turn if layer < t.depth else 1.0
        bias = b * (turn * 2.0**-32) if layer < t.depth else b * 2.0 ** -(15 + q)
        most = np.abs(w).max() * unit
        if most > np.finfo(kind).max:
            raise OnnxError(f"weights of up to {most:.0f} do not fit {np.dtype(kind).name}: take another kind")
        layers.append(((w * unit).astype(kind), bias.reshape(-1, 1).astype(kind)))
    return layers


def _turns(g: Graph, t: Target, x: Value) -> Value:
    """Phases of the encoding, in turns and less whole ones, float32 (dims * 2K, points): x f / 2^44, and a quarter more for cosines.

    f = 4096 high + low. The turns of x high / 2^32 are what does not fit 32 bits: a narrowing cast drops them. Those of x low / 2^44 are below one half.
    The dimension that comes and goes between two casts is there on purpose, as in `wave_of_near`.
    """
    high, low = np.divmod(np.repeat(ladder_multipliers(t.ladder, t.frequencies), 2), 4096)
    rows = x.gather(g.ints(*np.repeat(np.arange(t.dims), len(high))))
    quarter = g.constant(np.tile([0, 1 << 30], t.dims * t.frequencies).reshape(-1, 1))
    whole = rows * g.constant(np.tile(high, t.dims).reshape(-1, 1)) + quarter
    turns = whole.cast(np.int32).unsqueeze(0).squeeze(0).cast(np.float32) * 2.0**-32
    if low.any():
        turns = turns + rows.cast(np.float32) * g.constant((np.tile(low, t.dims) * 2.0**-44).astype(np.float32).reshape(-1, 1))
    return turns


def float_network(g: Graph, model: QuantModel, layers: Sequence[FloatLayer | tuple[Value, Value]], x: Value) -> Value:
    """The same function of coordinates with real sines, without float64, which many runtimes lack."""
    t, turn = model.target, 2 * np.pi
    h = x.cast(np.float32) * 2.0**-31
    if t.frequencies:
        h = g.concat(h, (_turns(g, t, x) * turn).sin())

    def known(number: np.ndarray | Value, name: str) -> Value:
        return number if isinstance(number, Value) else g.constant(number, name)

    for layer, (w, b) in enumerate(layers):
        h = h.cast(w.dtype)
        h = g.gemm(known(w, f"weights_{layer}"), h, known(b, f"bias_{layer}"))
        h = h.sin() if layer < t.depth else h
    return _samples(model, (h.cast(np.float32).clip(0.0, 1.0) * float(TOP[model.sample_type]) + 0.5).floor())
