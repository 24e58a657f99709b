"""The fused step over grid points, and its threads: errors and gradients against plain PyTorch, the same results for any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from math import prod

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fused_cases import BOUND, KERNELS, Case, grid_case, relative_error  # noqa: E402

from doh.train.gradient import BatchGradient, Workers  # noqa: E402
from doh.train.siren import siren as plain_siren  # noqa: E402

_train = pytest.importorskip("doh._train")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1000,), (23, 41), (7, 11, 13)])
@pytest.mark.parametrize("channels, dtype, low, top", [(1, np.uint8, 0.0, 255.0), (3, np.int16, -32768.0, 65535.0), (32, np.int32, 0.0, 65535.0)])
@pytest.mark.parametrize("weighed", [False, True])
def test_grids(kernel, shape, channels, dtype, low, top, weighed):
    _, encoding, samples, case = grid_case(shape, channels, dtype)
    points = torch.randint(prod(shape), (777,), generator=torch.Generator().manual_seed(2))
    outputs = plain_siren(encoding(points).double(), case.weights, case.biases, case.output_bias)
    importance = torch.rand(777, generator=torch.Generator().manual_seed(3)) * 3 if weighed else torch.ones(777)
    error = ((outputs - (samples[points].double() - low) / top).square() * importance[:, None]).sum()
    wanted = torch.autograd.grad(error * 0.25, case.parameters)
    gradient = np.full(sum(p.numel() for p in case.parameters), np.nan, np.float32)
    tables = [table.numpy() for table in encoding.tables]
    counts = importance.numpy() if weighed else None
    found = _train.grid_step(points.numpy(), tables, samples.numpy(), low, top, 0.25, *case.arrays(), gradient, 2, kernel, counts)
    assert found == pytest.approx(float(error.detach()), rel=1e-6)
    for ours, theirs in zip(np.split(gradient, np.cumsum([p.numel() for p in case.parameters])[:-1]), wanted, strict=True):
        assert relative_error(ours, theirs) <= BOUND


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1000,), (23, 41), (7, 11, 13)])
@pytest.mark.parametrize("count", [50, 5000])  # the first layer's sums by sample, and by dimension
def test_outputs_at_grid_points(kernel, shape, count):
    _, encoding, _, case = grid_case(shape, 3, np.uint8)
    points = torch.randint(prod(shape), (count,), generator=torch.Generator().manual_seed(2))
    wanted = plain_siren(encoding(points).double(), case.weights, case.biases, case.output_bias).detach()
    outputs = np.full((count, 3), np.nan, np.float32)
    _train.grid_forward(points.numpy(), [table.numpy() for table in encoding.tables], *case.arrays(), outputs, 2, kernel)
    assert relative_error(outputs, wanted) <= BOUND
    with pytest.raises(ValueError, match="rows of outputs"):
        _train.grid_forward(points.numpy()[1:], [table.numpy() for table in encoding.tables], *case.arrays(), outputs, 2, kernel)
    with pytest.raises(IndexError, match="not of the grid"):
        _train.grid_forward(points.numpy() + prod(shape), [table.numpy() for table in encoding.tables], *case.arrays(), outputs, 2, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [0, 1234, 4999])
@pytest.mark.parametrize("threads", [1, 2, 9, 64])
def test_one_point_beyond_the_grid(kernel, bad, threads):
    _, encoding, samples, case = grid_case((23, 41), 3, np.uint8)
    tables, points = [table.numpy() for table in encoding.tables], np.arange(5000) % (23 * 41)
    outputs, gradient = np.empty((5000, 3), np.float32), np.empty(sum(p.numel() for p in case.parameters), np.float32)
    for point in (-1, 23 * 41):
        points[bad] = point
        with pytest.raises(IndexError, match="not of the grid"):
            _train.grid_forward(points, tables, *case.arrays(), outputs, threads, kernel)
        with pytest.raises(IndexError, match="not of the grid"):
            _train.grid_step(points, tables, samples.numpy(), 0.0, 255.0, 1.0, *case.arrays(), gradient, threads, kernel)


@pytest.mark.parametrize("importance", [None, torch.rand(6144, generator=torch.Generator().manual_seed(3)) * 3], ids=["all alike", "weighed"])
def test_batch_gradient_is_the_eager_one(importance):
    target, encoding, samples, case = grid_case((64, 96), 3, np.uint8)
    weights, biases, output_bias = [w.detach().float() for w in case.weights], case.biases.detach().float(), case.output_bias.detach().float()
    points = torch.arange(6144)
    steps = [BatchGradient(target, encoding, samples, 0.0, 255.0, 6144, fused=f) for f in (False, True)]
    (loss, gradients), (fused_loss, fused_gradients) = (step(points, weights, biases, output_bias, Workers(1, None), importance) for step in steps)
    torch.testing.assert_close(fused_loss, loss)
    for ours, theirs in zip(fused_gradients, gradients, strict=True):
        assert ours.shape == theirs.shape and relative_error(ours, theirs.double()) <= 2 * BOUND


# threads


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("batch", [1, 100, 5000])
def test_results_do_not_depend_on_the_number_of_threads(kernel, batch):
    case = Case(inputs=8, width=40, depth=3, channels=3, batch=batch)
    inputs, output_gradient = (t.detach().numpy().astype(np.float32) for t in (case.inputs, case.output_gradient))
    results = set()
    for threads in (0, 1, 2, 3, 7, 64, 100000):
        gradient, slope, outputs = np.empty(sum(p.numel() for p in case.parameters), np.float32), np.empty_like(inputs), np.empty_like(output_gradient)
        _train.backward(inputs, output_gradient, *case.arrays(), gradient, slope, threads, kernel)
        _train.forward(inputs, *case.arrays(), outputs, threads, kernel)
        results.add(gradient.tobytes() + slope.tobytes() + outputs.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("kernel", [*KERNELS, None])
@pytest.mark.parametrize("batch", [1200, 3000, 20000])
def test_results_on_a_grid_do_not_depend_on_the_number_of_threads(kernel, batch):
    """Errors too; without a kernel's name in float64. Six threads cannot share eight units evenly, nor 40 without their tiles."""
    dtype = np.float32 if kernel else np.float64
    _, encoding, samples, case = grid_case((64, 96), 3, np.uint8)
    points, tables = np.arange(batch) * 31 % 6144, [table.numpy().astype(dtype) for table in encoding.tables]
    results = set()
    for threads in (1, 3, 6, 8, 9, 40):
        gradient = np.empty(sum(p.numel() for p in case.parameters), dtype)
        error = _train.grid_step(points, tables, samples.numpy(), 0.0, 255.0, 1.0, *case.arrays(dtype), gradient, threads, kernel)
        results.add((error, gradient.tobytes()))
    assert len(results) == 1


def test_concurrent_callers():
    """Beside another caller the pool is busy, and each works alone: with the same result."""
    case = Case(inputs=8, width=40, depth=3, channels=3, batch=3000)
    inputs, output_gradient = (t.detach().numpy().astype(np.float32) for t in (case.inputs, case.output_gradient))
    results: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            gradient = np.empty(sum(p.numel() for p in case.parameters), np.float32)
            _train.backward(inputs, output_gradient, *case.arrays(), gradient, None, 3)
            results.append(gradient.tobytes())

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 80 and len(set(results)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_has_threads_of_its_own():
    script = """
import os, numpy as np
from doh import _train
def step():
    gradient = np.empty(8 * 4 + 2 * 8 + 8 + 2, np.float32)
    x = np.linspace(-1, 1, 4000, dtype=np.float32).reshape(1000, 4)
    _train.backward(x, np.ones((1000, 2), np.float32), np.full(48, 0.5, np.float32), np.ones((1, 8), np.float32), np.ones(2, np.float32), gradient, None, 2)
    return gradient.tobytes()
before = step()
child = os.fork()
if child == 0:
    os._exit(step() != before)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
