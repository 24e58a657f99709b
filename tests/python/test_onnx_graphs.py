"""ONNX graphs by their nodes: which operators and types they have, and what comes of odd inputs."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import onnx
import onnx.defs
import onnx.inliner
import pytest
from conftest import KAT
from onnx_cases import EXACT, sizes, vector

from doh.errors import OnnxError
from doh.export import build, open_session, run
from doh.export.graph import OPSET
from doh.export.interface import KINDS


def nodes_with_types(graph: onnx.GraphProto, known: dict[str, int] | None):
    """The nodes of a graph and of all within, with the element types of their inputs; without `known` (of graphs that call functions) no types."""
    known = known if known is None else {**known, **{v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}}
    if known is not None:
        known |= {t.name: t.data_type for t in graph.initializer}
    for node in graph.node:
        yield node, [] if known is None else [known[name] for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_with_types(attribute.g, known)


@pytest.mark.parametrize("kind", ["exact-baked", "f32", "f16"])
@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize(
    "name", ["tied-40x9-n4500.doh", "video-3d.doh", "extreme-precision-0.doh", "audio-1d-s16.doh", "no-encoding.doh", "mosaic-different-scales.doh"]
)
def test_every_node_has_a_cuda_kernel(name, points, kind):
    if (name, kind) == ("extreme-precision-0.doh", "f16"):
        with pytest.raises(OnnxError, match="do not fit float16"):
            build(vector(name), kind, points)
        return
    kernels = json.loads((KAT / "cuda_kernels.json").read_text())["kernels"]
    model = onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(build(vector(name), kind, points)), strict_mode=True)
    seen = set()
    for node, types in nodes_with_types(model.graph, {}):
        if node.op_type == "Constant":
            continue
        kernel = kernels[node.op_type]
        first, last = kernel["versions"]
        since = onnx.defs.get_schema(node.op_type, OPSET).since_version
        assert first <= since <= last if last else since == first, node.op_type
        element = onnx.TensorProto.DataType.Name(types[0]).lower()
        assert element in kernel["types"], (node.op_type, element)
        seen.add(node.op_type)
    assert {"Loop", "Gemm", "Cast"} <= seen


def test_no_cast_meets_another():
    """ONNX Runtime's cast-chain elimination takes a narrowing cast and the next for nothing."""
    for name, kind in product(["dense.doh", "tied-40x9-n4500.doh", "powers-of-1.4.doh", "mosaic-dense.doh"], KINDS):
        model = onnx.inliner.inline_local_functions(build(vector(name), kind))
        casts = set()
        for node, _ in nodes_with_types(onnx.shape_inference.infer_shapes(model, strict_mode=True).graph, {}):
            if node.op_type == "Cast":
                casts.add(node.output[0])
                assert node.input[0] not in casts
        assert len(casts) > (10 if kind in EXACT else 3)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("name", ["tied-40x9-n4500.doh", "no-encoding.doh", "mosaic-different-scales.doh"])
def test_float_twins_need_no_float64(name, kind, points):
    model = onnx.inliner.inline_local_functions(build(vector(name), kind, points))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    assert all(onnx.TensorProto.DOUBLE not in types for _, types in nodes_with_types(inferred, {}))


@pytest.mark.parametrize("name", ["tied-40x9-n4500.doh", "audio-1d-s16.doh", "mosaic-2x3-of-19x23.doh"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_node_has_a_name_of_its_own(name, kind):
    """Without one, ONNX Runtime 1.18 to 1.21 names two nodes alike when it fuses others, and then refuses the file."""
    names = [node.name for node, _ in nodes_with_types(onnx.shape_inference.infer_shapes(build(vector(name), kind)).graph, None)]
    assert all(names) and len(set(names)) == len(names)


@pytest.mark.parametrize("kind", ["exact-baked", "f32"])
@pytest.mark.parametrize("name", ["image-prime-31x29.doh", "mosaic-2x3-of-19x23.doh"])
def test_nothing_asked_for_is_nothing_given(name, kind):
    """No points, an empty grid or a box beyond it, and blocks of no points: runtimes up to 1.22 end the process where an integer is divided by zero."""
    data, one, none = vector(name), np.array(1, np.int64), np.array(0, np.int64)
    grids, points = (open_session(build(data, kind, points=points).SerializeToString()) for points in (False, True))
    for feeds in ({"height": none, "width": one}, {"height": one, "width": one, "offset": np.array([1, 0], np.int64)}):
        assert grids.run(None, feeds)[0].size == 0
    for of in ({"extent": np.array([-5, -5], np.int64)}, {"offset": np.array([-5, -5], np.int64)}):
        try:  # whatever that is
            grids.run(None, {"height": none, "width": none, **of})
        except Exception as error:
            assert "by zero" not in str(error)
    assert points.run(None, {"coordinates": np.zeros((0, 2), np.int32)})[0].shape == (0, 3)
    wanted = run(build(data, kind).SerializeToString(), grid=(5, 4))
    assert np.array_equal(grids.run(None, {**sizes((5, 4)), "block": none})[0], wanted)


def test_parts_cost_bytes_and_no_nodes():
    """A graph for 300 parts has the nodes of one for two."""

    def nodes(name: str) -> int:
        return sum(1 for _ in nodes_with_types(onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(build(vector(name), "f32"))).graph, {}))

    assert nodes("mosaic-1x300.doh") <= nodes("mosaic-1x2-grey.doh")
