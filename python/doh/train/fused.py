"""The fused training step of doh._train: what `siren` and its gradients give, several times faster on the CPU (docs/training-speed.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from doh.errors import EncodeError
from doh.model import Target
from doh.train.siren import Encoding
from doh.train.siren import siren as plain_siren

try:
    from doh import _train as _train
except ImportError:  # built without it
    _train = None  # type: ignore[assignment]

_TYPES = (torch.float32, torch.float64)


def available() -> bool:
    """Whether this installation has the compiled step."""
    return _train is not None


def check_kernel() -> None:
    """Raises EncodeError where the variable DOH_TRAIN_KERNEL names a kernel that the compiled step does not have, or that does not run here."""
    name = os.environ.get("DOH_TRAIN_KERNEL")
    if name and name not in _train.kernels():
        raise EncodeError(f"DOH_TRAIN_KERNEL is {name!r}, which is no kernel, or not for this processor: there are {', '.join(_train.kernels())}")


def siren(inputs: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, *, threads: int = 0) -> Tensor:
    """Outputs (batch, channels) of doh.train.siren.siren, with gradients for all arguments, once differentiable.

    inputs (batch, F); weights (fan_out, fan_in), biases (depth, width) and output_bias (channels,) are in radians. Keeps no activations: the backward
    pass computes them again. `threads` = 0 means torch's own number; results do not depend on it. Plain PyTorch does it all where the compiled step is
    missing, and for tensors that are not float32 or float64 on the CPU, all of one type. Raises ValueError for shapes that do not fit together.
    """
    _check(inputs, weights, biases, output_bias)
    tensors = [inputs, *weights, biases, output_bias]
    alike = all(t.device.type == "cpu" and t.dtype == inputs.dtype and t.layout == torch.strided for t in tensors)
    if _train is None or not alike or inputs.dtype not in _TYPES:
        return plain_siren(inputs, weights, biases, output_bias)
    return _Siren.apply(threads or torch.get_num_threads(), inputs, biases, output_bias, *weights)  # type: ignore[no-untyped-call]


def _check(inputs: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor) -> None:
    if inputs.dim() != 2 or biases.dim() != 2 or output_bias.dim() != 1:
        found = ", ".join(str(tuple(t.shape)) for t in (inputs, biases, output_bias))
        raise ValueError(f"inputs (batch, F), biases (depth, width) and output_bias (channels,) cannot be of shapes {found}")
    depth, width = biases.shape
    fans = [inputs.shape[1], *[width] * depth, len(output_bias)]
    wanted, found_shapes = list(zip(fans[1:], fans)), [tuple(w.shape) for w in weights]
    if not depth or not all(fans):
        raise ValueError("a network has inputs, units, sine layers and channels")
    if found_shapes != wanted:
        raise ValueError(f"weights of shapes {found_shapes} where inputs, biases and output_bias ask for {wanted}")


class _Siren(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, threads: int, inputs: Tensor, biases: Tensor, output_bias: Tensor, *weights: Tensor) -> Tensor:
        inputs, biases, output_bias = inputs.contiguous(), biases.contiguous(), output_bias.contiguous()
        flat = _flat(weights)
        outputs = inputs.new_empty(len(inputs), len(output_bias))
        _train.forward(inputs.numpy(), flat.numpy(), biases.numpy(), output_bias.numpy(), outputs.numpy(), threads)
        ctx.save_for_backward(inputs, flat, biases, output_bias)
        ctx.threads, ctx.shapes = threads, [w.shape for w in weights]
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, flat, biases, output_bias = ctx.saved_tensors
        gradient = flat.new_empty(flat.numel() + biases.numel() + output_bias.numel())
        input_gradient = torch.empty_like(inputs) if ctx.needs_input_grad[1] else None
        into = None if input_gradient is None else input_gradient.numpy()
        parameters = flat.numpy(), biases.numpy(), output_bias.numpy()
        _train.backward(inputs.numpy(), output_gradient.contiguous().numpy(), *parameters, gradient.numpy(), into, ctx.threads)
        *parts, bias_part, output_part = gradient.split([*(shape.numel() for shape in ctx.shapes), biases.numel(), output_bias.numel()])
        grads = [part.view(shape) for part, shape in zip(parts, ctx.shapes)]
        return None, input_gradient, bias_part.view_as(biases), output_part, *grads


class FusedGradient:
    """Mean squared error over a batch of grid points and its gradients. Neither depends on the number of threads.

    samples: (points, channels) uint8, int16 or int32, as stored; (sample - low) / top is what the network is to give. All on the CPU.
    """

    def __init__(self, target: Target, encoding: Encoding, samples: Tensor, low: float, top: float) -> None:
        self.target, self.low, self.top = target, low, top
        self.tables = [table.numpy() for table in encoding.tables]
        self.samples = samples.contiguous().numpy()

    def __call__(
        self, points: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, threads: int, importance: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The loss, and its gradients for all weights (D,), biases (depth, width) and output bias, over row-major point numbers int64 (batch,).

        importance: what the squared errors of each point count, float32 (batch,); without it 1.
        """
        total = len(points) * self.target.channels
        flat = _flat(weights)
        gradient = flat.new_empty(flat.numel() + biases.numel() + output_bias.numel())
        parameters = (flat.numpy(), biases.contiguous().numpy(), output_bias.numpy())
        counts = None if importance is None else importance.numpy()
        data = points.numpy(), self.tables, self.samples, self.low, self.top, 1 / total
        error = _train.grid_step(*data, *parameters, gradient.numpy(), threads, importance=counts)
        parts = gradient.split([flat.numel(), biases.numel(), output_bias.numel()])
        return torch.tensor(error / total, dtype=torch.float32), [parts[0], parts[1].view_as(biases), parts[2]]

    def outputs(self, points: Tensor, flat: Tensor, biases: Tensor, output_bias: Tensor, threads: int) -> Tensor:
        """What the network gives at row-major point numbers int64 (n,), float32 (n, channels); all weights (D,). No gradients."""
        outputs = torch.empty(len(points), self.target.channels)
        _train.grid_forward(points.numpy(), self.tables, flat.numpy(), biases.contiguous().numpy(), output_bias.numpy(), outputs.numpy(), threads)
        return outputs


def _flat(weights: Sequence[Tensor]) -> Tensor:
    return torch.cat([w.detach().reshape(-1) for w in weights])
