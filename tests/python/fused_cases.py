"""Networks and batches for the tests of the fused step, and what its results are compared with."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doh.model import Target  # noqa: E402
from doh.train.siren import Encoding  # noqa: E402
from doh.train.siren import siren as plain_siren  # noqa: E402

_train = pytest.importorskip("doh._train")

KERNELS = _train.kernels()
BOUND = 1e-5  # of the gradients' relative error, in float32


class Case:
    """A random network and batch, float64 as PyTorch sees it, with numbers that float32 holds."""

    def __init__(self, inputs: int, width: int, depth: int, channels: int, batch: int, gain: float = 1.0, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        fans = [inputs, *[width] * depth, channels]
        spread = [gain * np.sqrt(6 / inputs), *[np.sqrt(6 / width)] * depth]
        self.weights = [self._of(random.uniform(-s, s, shape)) for s, shape in zip(spread, zip(fans[1:], fans[:-1], strict=True), strict=True)]
        self.biases = self._of(random.normal(size=(depth, width)))
        self.output_bias = self._of(random.normal(size=channels))
        self.inputs = self._of(random.uniform(-1, 1, (batch, inputs)))
        self.output_gradient = self._of(random.normal(size=(batch, channels)))

    @staticmethod
    def _of(numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(numbers.astype(np.float32).astype(np.float64)).requires_grad_()

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [*self.weights, self.biases, self.output_bias]

    def arrays(self, dtype: type = np.float32) -> list[np.ndarray]:
        """All weights, biases and output biases, as the module takes them."""
        flat = torch.cat([w.detach().reshape(-1) for w in self.weights])
        return [t.detach().numpy().astype(dtype) for t in (flat, self.biases, self.output_bias)]

    def gradients(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """PyTorch's outputs, and gradients of all parameters and the inputs."""
        outputs = plain_siren(self.inputs, self.weights, self.biases, self.output_bias)
        return outputs.detach(), list(torch.autograd.grad((outputs * self.output_gradient).sum(), [*self.parameters, self.inputs]))


def relative_error(ours: np.ndarray | torch.Tensor, theirs: torch.Tensor) -> float:
    """The norm of the difference, in units of the norm of what is right."""
    difference = torch.as_tensor(ours, dtype=torch.float64).reshape(theirs.shape) - theirs
    return float(difference.norm() / theirs.norm())


def check(case: Case, kernel: str | None, dtype: type = np.float32, bound: float = BOUND, threads: int = 2) -> None:
    """Both passes of a kernel against PyTorch's, tensor by tensor."""
    wanted_outputs, wanted = case.gradients()
    inputs, output_gradient = (t.detach().numpy().astype(dtype) for t in (case.inputs, case.output_gradient))
    outputs, input_gradient = np.full(output_gradient.shape, np.nan, dtype), np.full(inputs.shape, np.nan, dtype)
    gradient = np.full(sum(p.numel() for p in case.parameters), np.nan, dtype)
    _train.forward(inputs, *case.arrays(dtype), outputs, threads, kernel)
    _train.backward(inputs, output_gradient, *case.arrays(dtype), gradient, input_gradient, threads, kernel)
    assert relative_error(outputs, wanted_outputs) <= bound
    parts = np.split(gradient, np.cumsum([p.numel() for p in case.parameters])[:-1])
    for ours, theirs in zip([*parts, input_gradient], wanted, strict=True):
        assert relative_error(ours, theirs) <= bound


def grid_case(shape: tuple[int, ...], channels: int, dtype: type, seed: int = 1) -> tuple[Target, Encoding, torch.Tensor, Case]:
    target = Target(dims=len(shape), channels=channels, width=12, depth=3, frequencies=3)
    encoding = Encoding(shape, 3, "octaves")
    low, high = {np.uint8: (0, 256), np.int16: (-32768, 32768), np.int32: (0, 65536)}[dtype]
    samples = np.random.default_rng(seed).integers(low, high, (prod(shape), channels)).astype(dtype)
    return target, encoding, torch.from_numpy(samples), Case(target.inputs, 12, 3, channels, 1)
