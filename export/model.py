"""From a quantised model to an ONNX model: inputs, outputs, the loop over blocks of points, and what the file says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from doh import container
from doh.export import network, weights
from doh.export.graph import DOMAIN, IR_VERSION, OPSET, Graph, Value, onnx_type
from doh.export.interface import BLOCK, FORMAT_VERSION, KINDS, SIZES
from doh.model import QuantModel


def build(source: container.Source, kind: str = "exact", points: bool = False) -> onnx.ModelProto:
    """The ONNX model of a .doh file (a path or its bytes): see export/README.md for its inputs and outputs.

    kind: `exact` (seed and codes inside), `exact-baked` (integer weights inside), `f32` or `f16` (floating point, not exact).
    points: coordinates go in, int32 (N, dims), and samples (N, channels) come out, instead of a grid.
    Raises DohError, ValueError, OSError; OnnxError where float16 cannot hold the weights.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of an ONNX file is one of {', '.join(KINDS)}, not {kind!r}")
    data = bytes(container.load(source))
    model = container.unpack(data)
    g = Graph()
    render = _renderer(g, data, model, kind)
    inputs, defaults, output = (_points if points else _grid)(g, model, render)
    proto = helper.make_graph(
        g.nodes, "doh", [*inputs, *defaults], [output], [*g.initializers.values()], doc_string=f"{model.signal}, {'x'.join(map(str, model.shape))}"
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(DOMAIN, 1)] if g.functions else [])]
    result = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="doh", functions=list(g.functions.values()))
    properties = {
        "doh.format_version": FORMAT_VERSION,
        "doh.kind": kind,
        "doh.inputs": "points" if points else "grid",
        "doh.signal": model.signal,
        "doh.sample_type": model.sample_type,
        "doh.shape": " ".join(map(str, model.shape)),
        "doh.channels": model.target.channels,
        "doh.source_bytes": len(data),
        "doh.source_sha256": hashlib.sha256(data).hexdigest(),
        "doh.samples_crc": f"{model.samples_crc:08x}",
    }
    helper.set_model_props(result, {key: str(value) for key, value in properties.items()})
    return result


@dataclass(frozen=True)
class _Renderer:
    """Puts the network into a loop's body."""

    model: QuantModel
    layers: list[network.Layer] | None  # of the exact kinds
    known: list[np.ndarray]
    dtype: type

    def __call__(self, body: Graph, x: Value) -> Value:
        if self.layers:
            return network.exact_network(body, self.model, self.layers, x)
        return network.float_network(body, self.model, self.known, x, self.dtype)


def _renderer(g: Graph, data: bytes, model: QuantModel, kind: str) -> _Renderer:
    known = weights.integer_weights(data, model)
    if kind.startswith("exact"):
        baked = [g.constant(w.astype(np.int16), f"weights_{layer}") for layer, w in enumerate(known)] if kind == "exact-baked" else []
        values = [w.cast(np.float64) for w in baked] or weights.expand(g, model)
        return _Renderer(model, network.exact_layers(g, model, values, known), known, np.float64)
    return _Renderer(model, None, known, np.float16 if kind == "f16" else np.float32)


def _input(g: Graph, name: str, shape: list[int | str], default: np.ndarray | None = None) -> tuple[Value, onnx.ValueInfoProto]:
    if default is not None:
        g.constant(default, name)
    return Value(g, name, np.dtype(np.int64)), helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)


def _grid(g: Graph, model: QuantModel, render: _Renderer) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto], onnx.ValueInfoProto]:
    """A box of a grid, row-major. Without `offset` and `extent`, all of it."""
    dims = model.target.dims
    sizes, inputs = zip(*(_input(g, name, []) for name in SIZES[dims]))
    offset, offset_info = _input(g, "offset", [dims], np.zeros(dims, np.int64))
    extent, extent_info = _input(g, "extent", [dims], np.full(dims, (1 << 31) - 1, np.int64))
    block, block_info = _input(g, "block", [], np.array(BLOCK, np.int64))
    grid = g.concat(*(size.reshape(1) for size in sizes))
    box = extent.min(grid - offset)

    def scalar(vector: Value, dim: int) -> Value:
        return vector.gather(g.constant(np.array(dim, np.int64)))

    strides, count = [], g.constant(np.array(1, np.int64)) * 1
    for dim in reversed(range(dims)):
        strides.insert(0, count)
        count = scalar(box, dim) * count
    size = block.min(count)
    steps = g.arange(size)
    body, turn = g.body()
    number = (turn * size + steps).min(count - 1)  # the last turn repeats the last point
    rows = []
    for dim in range(dims):
        index = number // strides[dim]
        if dim:
            index = index % scalar(box, dim)
        index = index + scalar(offset, dim)
        cell = (index * 2 + 1) * (1 << 31) // scalar(grid, dim) - (1 << 31)  # section 7; below 2^63
        rows.append(cell.cast(np.float64).reshape(1, -1))
    samples = render(body, body.concat(*rows))
    turns = (count + (size - 1)) // size
    stacked = g.loop(turns, body, turn, samples).reshape(-1, model.target.channels).first(count)
    shaped = stacked.reshape_to(g.concat(box, g.ints(model.target.channels)))
    output = _named(g, shaped, [f"box_{n}" for n in SIZES[dims]] + [model.target.channels])
    return list(inputs), [offset_info, extent_info, block_info], output


def _points(g: Graph, model: QuantModel, render: _Renderer) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto], onnx.ValueInfoProto]:
    """Coordinates of section 7, any points in any order."""
    dims = model.target.dims
    coordinates = Value(g, "coordinates", np.dtype(np.int32))
    info = helper.make_tensor_value_info("coordinates", onnx.TensorProto.INT32, ["points", dims])
    block, block_info = _input(g, "block", [], np.array(BLOCK, np.int64))
    count = g.op("Shape", coordinates, dtype=np.int64).slice(0, 1, 0).reshape_to(g.constant(np.zeros(0, np.int64)))
    size = block.min(count)
    steps = g.arange(size)
    body, turn = g.body()
    number = (turn * size + steps).min(count - 1)
    x = body.here(coordinates).gather(number).cast(np.float64).transpose()
    turns = (count + (size - 1)) // size
    stacked = g.loop(turns, body, turn, render(body, x)).reshape(-1, model.target.channels).first(count)
    return [info], [block_info], _named(g, stacked, ["points", model.target.channels])


def _named(g: Graph, value: Value, shape: list[str | int]) -> onnx.ValueInfoProto:
    g.nodes.append(helper.make_node("Identity", [value.name], ["samples"]))
    return helper.make_tensor_value_info("samples", onnx_type(value.dtype), shape)
