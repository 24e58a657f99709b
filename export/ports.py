"""Inputs and outputs of the graphs: a box of a grid, or points."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from doh.export.graph import Graph, Value, onnx_type
from doh.export.interface import BLOCK, SIZES

Infos = list[onnx.ValueInfoProto]
#: Inputs, inputs with a default, the output.
Ports = tuple[Infos, Infos, onnx.ValueInfoProto]


class Box:
    """A box of a grid, row-major. Without `offset` and `extent`, all of it."""

    def __init__(self, g: Graph, dims: int) -> None:
        self.g, self.dims = g, dims
        sizes, self.inputs = zip(*(_input(g, name, []) for name in SIZES[dims]))
        self.offset, offset_info = _input(g, "offset", [dims], np.zeros(dims, np.int64))
        extent, extent_info = _input(g, "extent", [dims], np.full(dims, (1 << 31) - 1, np.int64))
        self.block, block_info = _block(g)
        self.defaults = [offset_info, extent_info, block_info]
        self.grid = g.concat(*(size.reshape(1) for size in sizes))
        self.divisors = self.grid.max(1)  # as of `_block`
        self.extent = extent.min(self.grid - self.offset).max(0)
        self.strides: list[Value] = []
        self.count = g.constant(np.array(1, np.int64)) * 1
        for dim in reversed(range(dims)):
            self.strides.insert(0, self.count)
            self.count = self.of(self.extent, dim) * self.count

    def of(self, vector: Value, dim: int) -> Value:
        """An entry of `grid`, `offset` or `extent`, as a scalar."""
        return vector.gather(self.g.constant(np.array(dim, np.int64)))

    def index(self, number: Value, dim: int) -> Value:
        """The index in the grid of points that are counted through the box."""
        index = number // self.strides[dim]
        if dim:
            index = index % self.of(self.extent, dim)
        return index + self.of(self.offset, dim)

    def centre(self, index: Value, dim: int) -> Value:
        """U of section 7: of a point with this index, the centre as a fraction of 2^32. Below 2^63 on the way."""
        return (index * 2 + 1) * (1 << 31) // self.of(self.divisors, dim)

    def finish(self, samples: Value, channels: int) -> Ports:
        """`samples`: (points of the box, channels)."""
        shaped = samples.reshape_to(self.g.concat(self.extent, self.g.ints(channels)))
        output = _named(self.g, shaped, [f"box_{n}" for n in SIZES[self.dims]] + [channels])
        return list(self.inputs), self.defaults, output


class Points:
    """Coordinates of section 7 in version 1, X = U - 2^31: any points in any order."""

    def __init__(self, g: Graph, dims: int) -> None:
        self.g = g
        self.coordinates = Value(g, "coordinates", np.dtype(np.int32))
        self.info = helper.make_tensor_value_info("coordinates", onnx.TensorProto.INT32, ["points", dims])
        self.block, self.block_info = _block(g)
        self.count = g.op("Shape", self.coordinates, dtype=np.int64).slice(0, 1, 0).scalar()

    def finish(self, samples: Value, channels: int) -> Ports:
        """`samples`: (points, channels)."""
        return [self.info], [self.block_info], _named(self.g, samples, ["points", channels])


def _input(g: Graph, name: str, shape: list[int | str], default: np.ndarray | None = None) -> tuple[Value, onnx.ValueInfoProto]:
    if default is not None:
        g.constant(default, name)
    return Value(g, name, np.dtype(np.int64)), helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)


def _block(g: Graph) -> tuple[Value, onnx.ValueInfoProto]:
    """At least 1: ONNX Runtime up to 1.22 ends the process where an integer is divided by zero, so nothing is, whatever comes in."""
    block, info = _input(g, "block", [], np.array(BLOCK, np.int64))
    return block.max(1), info


def _named(g: Graph, value: Value, shape: list[str | int]) -> onnx.ValueInfoProto:
    g.nodes.append(helper.make_node("Identity", [value.name], ["samples"]))
    return helper.make_tensor_value_info("samples", onnx_type(value.dtype), shape)
