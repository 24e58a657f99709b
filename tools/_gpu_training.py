"""Training's checks on a GPU, for tools/gpu_check: the steps beside each other and beside float64, eight signals in one step, the dense projection's products.

Every function takes a device, so that all but the CUDA graph can be tried on the CPU with TRITON_INTERPRET=1, where times mean nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from doh import _core
from doh.model import Target
from doh.train.gradient import BatchGradient, Workers
from doh.train.group import GroupGradient
from doh.train.projection import DenseProjection, _Dense
from doh.train.siren import Encoding, siren

SHAPE, DEPTH, FREQUENCIES = (512, 768), 9, 10
CASES = ((8192, 40), (65536, 40), (8192, 16), (8192, 64), (8192, 128), (8192, 256))  # points, units
STEPS = ("triton", "graph", "eager")
LATENTS, GROUP = 4500, 8
BOUND = 1e-5  # of the error of all gradients together, relative to float64
RUNS = 20


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(call: Callable[[], Any], device: torch.device, runs: int = RUNS) -> float:
    """The median over some runs of several calls each, without the first ones."""
    times = []
    for _ in range(3):
        call()
    for _ in range(runs):
        finish(device)
        start = time.perf_counter()
        for _ in range(5):
            call()
        finish(device)
        times.append((time.perf_counter() - start) * 200)
    return statistics.median(times)


def peak(device: torch.device, side: int) -> float:
    """Float32 multiply-adds in a second, by torch's matrix product without TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    return side**3 / milliseconds(lambda: a @ b, device, 5) * 1000


class Case:
    """Random networks of one shape, as training begins with them, and points of noise, which differ in importance."""

    def __init__(self, batch: int, width: int, device: torch.device, signals: int = 1) -> None:
        torch.manual_seed(0)
        self.device, self.signals, self.batch = device, signals, batch
        self.target = Target(dims=2, channels=3, width=width, depth=DEPTH, frequencies=FREQUENCIES)
        self.encoding = Encoding(SHAPE, FREQUENCIES, "octaves", device)
        self.samples = [torch.randint(256, (prod(SHAPE), 3), dtype=torch.uint8).to(device) for _ in range(signals)]
        self.points = torch.randint(prod(SHAPE), (signals, batch)).to(device)
        self.importance = (0.5 + torch.rand(signals, batch)).to(device)
        gains = [1 / self.target.inputs] + [sqrt(6 / width)] * DEPTH
        parts = [(torch.rand(signals, o * i) * 2 - 1) * gain for (o, i), gain in zip(self.target.layer_shapes, gains, strict=True)]
        self.weights = torch.cat(parts, 1).to(device)
        self.biases, self.output_bias = torch.randn(signals, DEPTH, width).to(device), torch.full((signals, 3), 0.5).to(device)

    @property
    def multiply_adds(self) -> int:
        """Of one signal's step; padding, sines and cosines are not counted."""
        first = prod(self.target.layer_shapes[0])
        return self.batch * (3 * self.target.weights - first)

    def matrices(self, flat: Tensor) -> list[Tensor]:
        shapes = self.target.layer_shapes
        return [w.view(s) for w, s in zip(flat.split([prod(s) for s in shapes]), shapes, strict=True)]

    def loss(self, signal: int, flat: Tensor, biases: Tensor, output_bias: Tensor) -> Tensor:
        inputs = self.encoding(self.points[signal]).to(flat.dtype)
        wanted = self.samples[signal][self.points[signal]].to(flat.dtype) / 255
        errors = (siren(inputs, self.matrices(flat), biases, output_bias) - wanted).square()
        return (errors * self.importance[signal, :, None]).mean()

    def autograd(self, signal: int, kind: torch.dtype, loss: Callable[..., Tensor] | None = None) -> list[Tensor]:
        parameters = [p[signal].to(kind).requires_grad_() for p in (self.weights, self.biases, self.output_bias)]
        return list(torch.autograd.grad((loss or self.loss)(signal, *parameters), parameters))

    def step(self, name: str, signal: int) -> Callable[[], tuple[Tensor, list[Tensor]]]:
        gradient = BatchGradient(self.target, self.encoding, self.samples[signal], 0.0, 255.0, self.batch, fused=[name])
        weights, workers = self.matrices(self.weights[signal]), Workers(1, None)
        return lambda: gradient(self.points[signal], weights, self.biases[signal], self.output_bias[signal], workers, self.importance[signal])

    def group(self, name: str) -> Callable[[], tuple[Tensor, list[Tensor]]]:
        gradient = GroupGradient(self.target, [self.encoding] * self.signals, self.samples, [(0.0, 255.0)] * self.signals, [name])
        return lambda: gradient(self.points, self.weights, self.biases, self.output_bias, self.importance)


def together(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def attempt(make: Callable[[], dict]) -> dict:
    """The record, or what stood in its way. A missing Triton is no fault."""
    try:
        return make()
    except ModuleNotFoundError as error:
        return {"status": "not run", "reason": str(error)}
    except Exception as error:
        return {"status": "wrong", "reason": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"}


def summary(records: list[dict]) -> dict:
    wrong = [r for r in records if r["status"] == "wrong"]
    reason = {"reason": f"{len(wrong)} of {len(records)} records are wrong; the first: {wrong[0]}"} if wrong else {}
    return {"status": "wrong" if wrong else "run", **reason, "records": records}


def steps(device: torch.device, cases: Sequence[tuple[int, int]] = CASES, names: Sequence[str] = (*STEPS, "torch.compile"), side: int = 8192) -> dict:
    """Each step's gradients beside float64, whether they come out the same twice, their time and share of the float32 peak."""
    best, records = peak(device, side), []
    for batch, width in cases:
        case = Case(batch, width, device)
        right = together(case.autograd(0, torch.float64))

        def one(name: str, case: Case = case, right: Tensor = right) -> dict:
            if name == "torch.compile":
                if device.type == "cuda" and not find_spec("triton"):
                    raise ModuleNotFoundError("torch.compile needs Triton, which is not installed")
                torch.compiler.reset()  # else it would make one program for the shapes of all cases
                compiled = torch.compile(case.loss)
                call = lambda: case.autograd(0, torch.float32, compiled)  # noqa: E731
                found = [together(call()).clone() for _ in range(2)]
            else:
                step = call = case.step(name, 0)
                found = [together(step()[1]).clone() for _ in range(2)]
            error = float((found[0].double() - right).norm() / right.norm())
            took, same = milliseconds(call, device), torch.equal(*found)
            good = error <= BOUND and (same or name == "torch.compile")
            share = case.multiply_adds / took * 1000 / best
            return {"status": "run" if good else "wrong", "gradient_error": error, "same_twice": same, "milliseconds": took, "share_of_peak": share}

        for name in names:
            records.append({"step": name, "batch": batch, "width": width, **attempt(lambda name=name, one=one: one(name))})
    return {**summary(records), "peak_multiply_adds_per_second": best}


def groups(device: torch.device, batch: int = 8192, width: int = 40, names: Sequence[str] = STEPS) -> dict:
    """Eight signals in one step beside one signal, and beside the results that each has alone."""
    case, records = Case(batch, width, device, GROUP), []

    def one(name: str) -> dict:
        group, alone = case.group(name), [case.step(name, i) for i in range(GROUP)]
        together_found = [g.clone() for g in group()[1]]
        error = 0.0
        for i, step in enumerate(alone):
            own = together(step()[1])
            error = max(error, float((together([g[i] for g in together_found]) - own).norm() / own.norm()))
        limit = 0.0 if name == "triton" else BOUND
        took, took_one = milliseconds(group, device), milliseconds(alone[0], device)
        times = {"milliseconds": took, "milliseconds_of_one": took_one, "ratio": took / took_one}
        return {"status": "run" if error <= limit else "wrong", "difference_from_alone": error, **times}

    for name in names:
        records.append({"step": name, "signals": GROUP, "batch": batch, "width": width, **attempt(lambda name=name: one(name))})
    return summary(records)


def dense(device: torch.device, latents: int = LATENTS, width: int = 40) -> dict:
    """The dense projection's kernels: their matrix beside the decoder's, their products beside float64 ones, and times beside those of the stored bytes."""
    target = Target(dims=2, channels=3, width=width, depth=DEPTH, frequencies=FREQUENCIES)
    stored = DenseProjection(3, latents, target.layer_shapes)
    entries = stored._entries().to(device)

    def one(signals: int) -> dict:
        from doh.train.triton_dense import DenseMatrix

        matrix = DenseMatrix(3, latents, stored.sizes, device)
        last = len(stored.sizes) - 1
        rows = np.array(_core.dense_bytes(3, last, 0, stored.sizes[last], latents))
        same = bool(np.array_equal(matrix.bytes(stored.rows(last)).cpu().numpy(), rows)) and torch.equal(matrix.bytes(), entries)
        z, g = torch.randn(signals, latents, device=device), torch.randn(signals, target.weights, device=device)
        wide_z, wide_g = z.double().requires_grad_(), g.double()
        wanted = _Dense.apply(wide_z, entries)
        wanted_back = torch.autograd.grad((wanted * wide_g).sum(), wide_z)[0]
        wanted = wanted.detach()
        errors = [float((a.double() - b).norm() / b.norm()) for a, b in ((matrix.times(z), wanted), (matrix.transposed_times(g), wanted_back))]
        times = {
            "milliseconds": milliseconds(lambda: matrix.times(z), device),
            "milliseconds_transposed": milliseconds(lambda: matrix.transposed_times(g), device),
            "milliseconds_of_stored_bytes": milliseconds(lambda: _Dense.apply(z, entries), device),
        }
        good = same and max(errors) <= BOUND
        return {"status": "run" if good else "wrong", "bytes_equal": same, "error": errors[0], "error_transposed": errors[1], **times}

    return summary([{"signals": s, "latents": latents, "weights": target.weights, **attempt(lambda s=s: one(s))} for s in (1, GROUP)])
