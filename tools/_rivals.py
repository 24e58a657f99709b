"""The network of a .doh file in float32, in ONNX Runtime and in PyTorch: what tools/bench_decode measures doh against.

Each takes coordinates in [-1, 1) and gives 8-bit samples, some rows at a time; the encoding of the coordinates is part of the network, as it is of doh's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from doh import _core

Chunk = Callable[[np.ndarray, np.ndarray], None]  # coordinates float32 [rows, dims], samples uint8 [rows, channels] to fill


@dataclass(frozen=True)
class FloatNetwork:
    """The decoded numbers of a file in float32. Layer 0 sees [x, sin(x F), cos(x F)], F the frequencies (block-diagonal); sines are of radians."""

    frequencies: np.ndarray  # [dims, dims * K], radians for each unit of coordinate
    weights: list[np.ndarray]  # [fan_in, fan_out] each
    biases: list[np.ndarray]  # [fan_out]
    top: int  # of the samples

    @classmethod
    def of(cls, data: bytes) -> FloatNetwork:
        """From a file of octaves, one scale for each class of layer."""
        fields = _core.unpack(data)
        dims, depth, count = len(fields["shape"]), fields["depth"], fields["frequencies"]
        frequencies = np.zeros((dims, dims * count))
        for t in range(dims):
            frequencies[t, t * count : (t + 1) * count] = np.pi * 2.0 ** np.arange(count)
        per_dim = 1 + 2 * count
        raw = [t * per_dim for t in range(dims)]
        sines, cosines = ([t * per_dim + 1 + 2 * k + part for t in range(dims) for k in range(count)] for part in (0, 1))
        scales, (m, e) = fields["scales"], fields["bias_scale"]
        weights, biases = [], []
        for layer, integers in enumerate(_core.integer_weights(data)):
            q = scales[0 if layer == 0 else -1 if layer == depth else 1][2]
            unit = 1.0 if layer == depth else 2 * np.pi  # turns to radians
            columns = integers[:, raw + sines + cosines] if layer == 0 else integers
            weights.append((columns.T * (unit / 2**q)).astype(np.float32))
            codes = fields["output_bias_codes"] / 2**12 if layer == depth else fields["bias_codes"][layer] * (((2048 + m) << e) / 2**32 * unit)
            biases.append(np.asarray(codes, np.float32))
        return cls(frequencies.astype(np.float32), weights, biases, 1 if fields["sample_type"] == "u1" else 255)


def coordinates(shape: tuple[int, ...]) -> np.ndarray:
    """Centres of the cells of a grid: float32 [points, dims]."""
    axes = [(2 * np.arange(n) + 1) / n - 1 for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape)).astype(np.float32)


def run_in_chunks(chunk: Chunk, rows: int, points: np.ndarray, samples: np.ndarray) -> None:
    """All points, `rows` at a time; the last rows are taken once more where a chunk would run over the end, so that all chunks are alike."""
    for start in range(0, len(points), rows):
        first = max(0, min(start, len(points) - rows))
        chunk(points[first : first + rows], samples[first : first + rows])


def onnx_model(network: FloatNetwork):
    """The network as an ONNX graph: xy [rows, dims] -> samples uint8 [rows, channels]."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(kind: str, *inputs: str, **attributes) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    phases = node("MatMul", "xy", constant("F", network.frequencies))
    x = node("Concat", "xy", node("Sin", phases), node("Cos", phases), axis=1)
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases)):
        x = node("Add", node("MatMul", x, constant(f"W{layer}", weight)), constant(f"b{layer}", bias))
        if layer + 1 < len(network.weights):
            x = node("Sin", x)
    x = node("Clip", x, constant("zero", np.float32(0)), constant("one", np.float32(1)))
    x = node("Add", node("Mul", x, constant("top", np.float32(network.top))), constant("half", np.float32(0.5)))
    nodes.append(helper.make_node("Cast", [x], ["samples"], to=TensorProto.UINT8))
    graph = helper.make_graph(
        nodes,
        "siren",
        [helper.make_tensor_value_info("xy", TensorProto.FLOAT, [None, network.frequencies.shape[0]])],
        [helper.make_tensor_value_info("samples", TensorProto.UINT8, [None, network.weights[-1].shape[1]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def onnxruntime_chunk(network: FloatNetwork, threads: int, spinning: bool) -> Chunk:
    """A session on the processor; `spinning`: whether idle threads wait busily, which is faster on an idle machine only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    session = onnxruntime.InferenceSession(onnx_model(network).SerializeToString(), options, providers=["CPUExecutionProvider"])

    def chunk(points: np.ndarray, samples: np.ndarray) -> None:
        samples[...] = session.run(None, {"xy": points})[0]

    return chunk


def torch_chunk(network: FloatNetwork, threads: int, compiled: bool) -> Chunk:
    """PyTorch, eager or through torch.compile (made when the first chunk runs, for its size)."""
    import torch

    torch.set_num_threads(threads)
    frequencies = torch.from_numpy(network.frequencies)
    layers = [(torch.from_numpy(np.ascontiguousarray(w.T)), torch.from_numpy(b)) for w, b in zip(network.weights, network.biases)]

    def forward(x: torch.Tensor) -> torch.Tensor:
        phases = x @ frequencies
        x = torch.cat([x, phases.sin(), phases.cos()], 1)
        for weight, bias in layers[:-1]:
            x = torch.nn.functional.linear(x, weight, bias).sin()
        return (torch.nn.functional.linear(x, *layers[-1]).clamp(0, 1) * network.top + 0.5).to(torch.uint8)

    if compiled:
        torch._dynamo.reset()  # what was compiled for another number of threads would be used again
        forward = torch.compile(forward, dynamic=False)

    def chunk(points: np.ndarray, samples: np.ndarray) -> None:
        with torch.inference_mode():
            samples[...] = forward(torch.from_numpy(points)).numpy()

    return chunk
