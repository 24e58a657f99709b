"""A small builder of ONNX graphs: values with operators, so that a graph reads like the arithmetic that it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: The newest operator set whose every operator used here has a CUDA kernel in ONNX Runtime, and the file version that goes with it.
OPSET, IR_VERSION = 20, 9
DOMAIN = "doh"  # of the functions inside the model

Number = int | float


class Value:
    """A tensor in a graph, with its name and dtype. Operators take values or numbers; a number becomes a constant of the same dtype."""

    def __init__(self, graph: Graph, name: str, dtype: np.dtype) -> None:
        self.graph, self.name, self.dtype = graph, name, dtype

    def _binary(self, op: str, a: Value | Number, b: Value | Number) -> Value:
        return self.graph.op(op, *(x if isinstance(x, Value) else self.graph.constant(np.array(x, self.dtype)) for x in (a, b)))

    def __add__(self, other: Value | Number) -> Value:
        return self._binary("Add", self, other)

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary("Sub", self, other)

    def __rsub__(self, other: Number) -> Value:
        return self._binary("Sub", other, self)

    def __mul__(self, other: Value | Number) -> Value:
        return self._binary("Mul", self, other)

    def __floordiv__(self, other: Value | Number) -> Value:
        """Integer division, of non-negative numbers only: ONNX's Div truncates."""
        return self._binary("Div", self, other)

    def __mod__(self, other: Value | Number) -> Value:
        return self._binary("Mod", self, other)

    def __rshift__(self, other: Value | Number) -> Value:
        a, b = (x if isinstance(x, Value) else self.graph.constant(np.array(x, self.dtype)) for x in (self, other))
        return self.graph.op("BitShift", a, b, direction="RIGHT")

    def __and__(self, other: Value | Number) -> Value:
        return self._binary("BitwiseAnd", self, other)

    def __xor__(self, other: Value | Number) -> Value:
        return self._binary("BitwiseXor", self, other)

    def __abs__(self) -> Value:
        return self.graph.op("Abs", self)

    def floor(self) -> Value:
        return self.graph.op("Floor", self)

    def sin(self) -> Value:
        return self.graph.op("Sin", self)

    def min(self, other: Value | Number) -> Value:
        """By comparison: ONNX Runtime's own Min of int64 goes wrong from 2^31 on (seen in 1.31.1, AVX-512)."""
        return self - self._exceeds(other) * (self - other)

    def max(self, other: Value | Number) -> Value:
        """By comparison, as `min`."""
        return (self - other) * self._exceeds(other) + other

    def _exceeds(self, other: Value | Number) -> Value:
        b = other if isinstance(other, Value) else self.graph.constant(np.array(other, self.dtype))
        return self.graph.op("Greater", self, b, dtype=np.bool_).cast(self.dtype)

    def clip(self, low: Number, high: Number) -> Value:
        return self.graph.op("Clip", self, *(self.graph.constant(np.array(x, self.dtype)) for x in (low, high)))

    def cast(self, dtype: Any) -> Value:
        """The same numbers in another dtype. Integers keep their low bits; floating point must fit, and loses its fraction."""
        if self.dtype == np.dtype(dtype):
            return self
        return self.graph.op("Cast", self, dtype=dtype, to=onnx_type(dtype))

    def reshape(self, *shape: int) -> Value:
        return self.graph.op("Reshape", self, self.graph.ints(*shape))

    def reshape_to(self, shape: Value) -> Value:
        """A size of 0 means 0 here: without points there are no samples."""
        return self.graph.op("Reshape", self, shape, allowzero=1)

    def unsqueeze(self, axis: int) -> Value:
        return self.graph.op("Unsqueeze", self, self.graph.ints(axis))

    def squeeze(self, axis: int) -> Value:
        return self.graph.op("Squeeze", self, self.graph.ints(axis))

    def slice(self, start: int | Value, stop: int | Value, axis: int) -> Value:
        return self.graph.op("Slice", self, self.graph.vector(start), self.graph.vector(stop), self.graph.ints(axis))

    def scalar(self) -> Value:
        """The one number in it, without a dimension."""
        return self.reshape_to(self.graph.constant(np.zeros(0, np.int64)))

    def untold(self, many: Value) -> Value:
        """The same, with a first dimension that no shape inference can tell; `many`, (1,): a large number that is not known before the graph runs.

        ONNX Runtime up to 1.18 plans to use memory again for tensors of equal known shapes, and in a loop's body goes wrong with it from the second turn on.
        """
        return self.graph.op("Slice", self, self.graph.ints(0), many, self.graph.ints(0))

    def first(self, count: Value) -> Value:
        """The first `count` (a scalar) along axis 0."""
        return self.graph.op("Slice", self, self.graph.ints(0), count.reshape(1), self.graph.ints(0))

    def gather(self, indices: Value, axis: int = 0) -> Value:
        return self.graph.op("Gather", self, indices, axis=axis)

    def columns(self, *indices: int) -> Value:
        return self.gather(self.graph.ints(*indices), axis=1)

    def transpose(self) -> Value:
        return self.graph.op("Transpose", self, perm=[1, 0])

    def sum(self, axis: int) -> Value:
        """The sum along an axis, which stays as one of size 1."""
        return self.graph.op("ReduceSum", self, self.graph.ints(axis))


class Graph:
    """Nodes in the order in which they are added. `parent`: the graph around a loop's body, which sees the parent's values and constants."""

    def __init__(self, parent: Graph | None = None) -> None:
        self.parent = parent
        self.root: Graph = parent.root if parent else self
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.functions: dict[str, onnx.FunctionProto] = {}
        self.names = 0

    def new_name(self, hint: str) -> str:
        self.root.names += 1
        return f"{hint}_{self.root.names}"

    def op(self, op: str, *inputs: Value, dtype: Any = None, **attributes: Any) -> Value:
        """Adds a node with one output, of the first input's dtype if nothing else is said."""
        return self.ops(op, inputs, [dtype or inputs[0].dtype], **attributes)[0]

    def ops(self, op: str, inputs: Any, dtypes: Any, domain: str = "", **attributes: Any) -> list[Value]:
        """Adds a node with an output for each dtype."""
        outputs = [Value(self, self.new_name(op.lower()), np.dtype(d)) for d in dtypes]
        self.nodes.append(helper.make_node(op, [v.name for v in inputs], [v.name for v in outputs], domain=domain, **attributes))
        return outputs

    def here(self, value: Value) -> Value:
        """A value of an outer graph, to be used in this one."""
        return Value(self, value.name, value.dtype)

    def constant(self, array: np.ndarray, name: str | None = None) -> Value:
        """An initialiser of the outermost graph; equal ones are kept once."""
        array = np.asarray(array)
        key = name or _key(array)
        if key not in self.root.initializers:
            self.root.initializers[key] = numpy_helper.from_array(array, key)
        return Value(self, key, array.dtype)

    def ints(self, *numbers: int) -> Value:
        return self.constant(np.array(numbers, np.int64))

    def vector(self, number: int | Value) -> Value:
        """A number as int64 (1,), which a value already is."""
        return number if isinstance(number, Value) else self.ints(number)

    def concat(self, *values: Value, axis: int = 0) -> Value:
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def arange(self, count: Value | int) -> Value:
        """0 .. count - 1 as int64."""
        zero, one = (self.constant(np.array(n, np.int64)) for n in (0, 1))
        return self.op("Range", zero, count if isinstance(count, Value) else self.constant(np.array(count, np.int64)), one)

    def gemm(self, a: Value, b: Value, c: Value) -> Value:
        """a @ b + c."""
        return self.op("Gemm", a, b, c)

    def sort(self, values: Value, axis: int = 0, count: int | Value | None = None) -> list[Value]:
        """The values along an axis from the smallest up, and where they were, int64; `count`: how many there are, if it is known."""
        return self.ops(
            "TopK",
            [values, self.vector(count) if count is not None else self.op("Shape", values, dtype=np.int64)],
            [values.dtype, np.int64],
            axis=axis,
            largest=0,
            sorted=1,
        )

    def largest(self, values: Value) -> Value:
        """The largest of the values, a scalar."""
        return self.ops("TopK", [values, self.ints(1)], [values.dtype, np.int64], axis=0, largest=1, sorted=1)[0].scalar()

    def running_sum(self, values: Value) -> Value:
        """For each value the sum of all up to it, that included."""
        return self.op("CumSum", values, self.constant(np.array(0, np.int64)))

    def call(self, function: Function, *inputs: Value) -> list[Value]:
        self.root.functions.setdefault(function.name, function.proto)
        return self.ops(function.name, inputs, function.output_types, domain=DOMAIN)

    def loop(self, count: Value, body: Graph, index: Value, output: Value) -> Value:
        """Runs `body` `count` (a scalar) times; the outputs stacked along a new first axis. Nothing is carried from turn to turn."""
        go, still = body.root.constant(np.array(True)), body.new_name("go")
        going = body.new_name("go")
        body.nodes.append(helper.make_node("Identity", [going], [still]))
        inputs = [helper.make_tensor_value_info(index.name, onnx.TensorProto.INT64, []), helper.make_tensor_value_info(going, onnx.TensorProto.BOOL, [])]
        outputs = [helper.make_tensor_value_info(still, onnx.TensorProto.BOOL, []), helper.make_tensor_value_info(output.name, onnx_type(output.dtype), None)]
        proto = helper.make_graph(body.nodes, body.new_name("body"), inputs, outputs)
        return self.op("Loop", count, go, dtype=output.dtype, body=proto)

    def body(self) -> tuple[Graph, Value]:
        """A graph for `loop`, and the number of the turn in it, int64."""
        inner = Graph(self)
        return inner, Value(inner, inner.new_name("turn"), np.dtype(np.int64))


def name_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    """Names each node by its first output. Fusions of ONNX Runtime 1.18 to 1.21 give nodes without names the same name twice."""
    for node in nodes:
        node.name = node.output[0]
        for attribute in node.attribute:
            name_nodes(attribute.g.node)


class Function(Graph):
    """A function inside the model (ONNX calls it model-local): written once, called in many places. Constants are nodes of its own."""

    def __init__(self, name: str, **inputs: Any) -> None:
        super().__init__()
        self.name = name
        self.inputs = {key: Value(self, key, np.dtype(dtype)) for key, dtype in inputs.items()}

    def constant(self, array: np.ndarray, name: str | None = None) -> Value:
        array = np.asarray(array)
        key = _key(array)
        if key not in self.initializers:
            self.initializers[key] = numpy_helper.from_array(array, key)
            self.nodes.append(helper.make_node("Constant", [], [key], value=self.initializers[key]))
        return Value(self, key, array.dtype)

    def returns(self, *outputs: Value) -> Function:
        self.output_types = [v.dtype for v in outputs]
        opsets = [helper.make_opsetid("", OPSET)]
        self.proto = helper.make_function(DOMAIN, self.name, list(self.inputs), [v.name for v in outputs], self.nodes, opsets)
        return self


def onnx_type(dtype: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _key(array: np.ndarray) -> str:
    """The name of a constant: equal for equal arrays only."""
    numbers = str(array.item()) if array.size == 1 else hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
    return f"c_{array.dtype}_{'x'.join(map(str, array.shape))}_{numbers}"
