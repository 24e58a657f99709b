"""From a quantised model to an ONNX model: inputs, outputs, the loop over blocks of points, and what the file says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from doh import container
from doh.export import mosaic, network, weights
from doh.export.graph import DOMAIN, IR_VERSION, OPSET, Graph, Value, name_nodes
from doh.export.interface import FORMAT_VERSION, KINDS
from doh.export.ports import Box, Points, Ports
from doh.model import Mosaic, QuantModel


def build(source: container.Source, kind: str = "exact", points: bool = False, limits: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """The ONNX model of a .doh file (a path or its bytes): see export/README.md for its inputs and outputs.

    kind: `exact` (seed and codes inside), `exact-baked` (integer weights inside), `f32` or `f16` (floating point, not exact).
    points: coordinates go in, int32 (N, dims), and samples (N, channels) come out, instead of a grid. limits: as of doh.decode.
    Raises DohError, ValueError, OSError; OnnxError where float16 cannot hold the weights.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of an ONNX file is one of {', '.join(KINDS)}, not {kind!r}")
    data = bytes(container.load(source))
    model = container.unpack(data, limits)
    g = Graph()
    if isinstance(model, Mosaic):
        inputs, defaults, output = (mosaic.points if points else mosaic.grid)(g, model, kind)
        channels, more = model.models[0].target.channels, {"doh.parts": " ".join(map(str, model.parts))}
    else:
        inputs, defaults, output = (_points if points else _grid)(g, model, _renderer(g, data, model, kind, limits))
        channels, more = model.target.channels, {}
    name_nodes(g.nodes)
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
        "doh.channels": channels,
        "doh.source_bytes": len(data),
        "doh.source_sha256": hashlib.sha256(data).hexdigest(),
        "doh.samples_crc": f"{model.samples_crc:08x}",
        **more,
    }
    helper.set_model_props(result, {key: str(value) for key, value in properties.items()})
    return result


@dataclass(frozen=True)
class _Renderer:
    """Puts the network into a loop's body."""

    model: QuantModel
    exact: list[network.Layer]
    floats: list[network.FloatLayer]

    def __call__(self, body: Graph, x: Value) -> Value:
        if self.exact:
            return network.exact_network(body, self.model, self.exact, x)
        return network.float_network(body, self.model, self.floats, x)


def _renderer(g: Graph, data: bytes, model: QuantModel, kind: str, limits: Mapping[str, int] | None) -> _Renderer:
    known = weights.integer_weights(data, model, limits)
    if kind.startswith("exact"):
        baked = [g.constant(w.astype(np.int16), f"weights_{layer}") for layer, w in enumerate(known)] if kind == "exact-baked" else []
        values = [w.cast(np.float64) for w in baked] or weights.expand(g, model)
        return _Renderer(model, network.exact_layers(g, model, values, known), [])
    return _Renderer(model, [], network.float_layers(model, known, np.float16 if kind == "f16" else np.float32))


def _grid(g: Graph, model: QuantModel, render: _Renderer) -> Ports:
    box = Box(g, model.target.dims)
    size = box.block.min(box.count).max(1)
    steps = g.arange(size)
    body, turn = g.body()
    number = (turn * size + steps).min(box.count - 1)  # the last turn repeats the last point
    rows = []
    for dim in range(model.target.dims):
        x = box.centre(box.index(number, dim), dim) - (1 << 31)
        rows.append(x.reshape(1, -1))
    samples = render(body, body.concat(*rows))
    turns = (box.count + (size - 1)) // size
    return box.finish(g.loop(turns, body, turn, samples).reshape(-1, model.target.channels).first(box.count), model.target.channels)


def _points(g: Graph, model: QuantModel, render: _Renderer) -> Ports:
    points = Points(g, model.target.dims)
    size = points.block.min(points.count).max(1)
    steps = g.arange(size)
    body, turn = g.body()
    number = (turn * size + steps).min(points.count - 1)
    x = body.here(points.coordinates).gather(number).cast(np.int64).transpose()
    turns = (points.count + (size - 1)) // size
    stacked = g.loop(turns, body, turn, render(body, x)).reshape(-1, model.target.channels).first(points.count)
    return points.finish(stacked, model.target.channels)
