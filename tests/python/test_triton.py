"""The Triton kernels of the training step and the dense projection: in Triton's interpreter, on the CPU, against plain PyTorch in float64.

The interpreter must be chosen before triton is imported, so a Python of its own runs most of this file. Nothing here runs on a GPU: tools/gpu_check does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton", reason="triton is not installed: it is for Linux on x86-64, and comes with the extra dev")

from doh import _core  # noqa: E402
from doh.model import Target  # noqa: E402
from doh.train import projection as P  # noqa: E402
from doh.train.gradient import BatchGradient, Workers  # noqa: E402
from doh.train.group import GroupGradient  # noqa: E402
from doh.train.siren import Encoding  # noqa: E402
from doh.train.siren import siren as plain_siren  # noqa: E402

TOOLS = Path(__file__).resolve().parents[2] / "tools"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BOUND = 1e-5  # of the gradients' relative error


def interpreted(test):
    """Leaves the test out where this is not the interpreter: test_in_the_interpreter runs it."""
    return test if INTERPRETED else None


def outside(test):
    return None if INTERPRETED else test


def version(module):
    return tuple(int(number) for number in module.__version__.split(".")[:2])


@outside
@pytest.mark.skipif(version(np) >= (2, 4) and version(triton) < (3, 7), reason="the interpreter of Triton before 3.7 cannot work with NumPy 2.4")
def test_in_the_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore:Conversion of an array", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


class Case:
    """Random networks of one shape and batches of points of random signals, of different sizes."""

    def __init__(self, shapes, channels=3, width=7, depth=2, frequencies=2, batch=70, kind=torch.uint8, seed=0):
        random = torch.Generator().manual_seed(seed)
        self.target = Target(len(shapes[0]), channels, width, depth, frequencies)
        self.encodings = [Encoding(shape, frequencies, "octaves") for shape in shapes]
        low, high = {torch.uint8: (0, 256), torch.int16: (-32768, 32768), torch.int32: (0, 65536)}[kind]
        self.ranges = [(float(min(low, 0)), float(high - low - 1))] * len(shapes)
        self.samples = [torch.randint(low, high, (prod(s), channels), generator=random, dtype=kind) for s in shapes]
        self.points = torch.stack([torch.randint(prod(s), (batch,), generator=random) for s in shapes])
        gains = [(6 / self.target.inputs) ** 0.5] + [(6 / width) ** 0.5] * depth
        parts = [(torch.rand(len(shapes), o * i, generator=random) * 2 - 1) * gain for (o, i), gain in zip(self.target.layer_shapes, gains, strict=True)]
        self.weights = torch.cat(parts, 1)
        self.biases = torch.randn(len(shapes), depth, width, generator=random)
        self.output_bias = torch.randn(len(shapes), channels, generator=random)

    def group(self, of=slice(None)):
        from doh.train.triton_step import TritonGroup

        return TritonGroup(self.target, self.encodings[of], self.samples[of], self.ranges[of])

    def arguments(self, of=slice(None)):
        return self.points[of], self.weights[of], self.biases[of], self.output_bias[of]

    def wanted(self, i, importance=None):
        """Loss of signal i and its gradients, by autograd in float64."""
        points, *numbers = (argument[i] for argument in self.arguments())
        flat, biases, output_bias = (t.double().requires_grad_() for t in numbers)
        matrices = [w.view(s) for w, s in zip(flat.split([prod(s) for s in self.target.layer_shapes]), self.target.layer_shapes, strict=True)]
        low, top = self.ranges[i]
        inputs, samples = self.encodings[i](points).double(), (self.samples[i][points].double() - low) / top
        counts = torch.ones(len(points)) if importance is None else importance[i]
        loss = ((plain_siren(inputs, matrices, biases, output_bias) - samples).square() * counts[:, None]).mean()
        grads = torch.autograd.grad(loss, [*matrices, biases, output_bias])
        return loss.detach(), [*(g.reshape(-1) for g in grads[: len(matrices)]), *grads[-2:]]

    def check(self, importance=None):
        losses, (weights, biases, output_bias) = self.group()(*self.arguments(), importance)
        for i, found in enumerate(losses):
            loss, wanted = self.wanted(i, importance)
            assert float(found) == pytest.approx(float(loss), rel=1e-6)
            ours = [*weights[i].split([prod(s) for s in self.target.layer_shapes]), biases[i], output_bias[i]]
            for ours_of, theirs in zip(ours, wanted, strict=True):
                assert relative_error(ours_of, theirs) <= BOUND


def relative_error(ours, theirs):
    return float((ours.double() - theirs).norm() / theirs.norm())


@interpreted
@pytest.mark.parametrize("points, frequency", [(40, 1.5), (100, 7.0)])
def test_gradient_goes_through_the_cosine(points, frequency):
    """One unit, one input x: out = v sin(w x + b) + c. Its gradients are known; without the cosine they would be far off."""
    case = Case([(points,)], channels=1, width=1, depth=1, frequencies=0, batch=points)
    case.points, case.weights = torch.arange(points)[None], torch.tensor([[frequency, 0.5]])
    loss, (weights, biases, output_bias) = case.group()(*case.arguments())
    x = case.encodings[0](case.points[0])[:, 0].double()
    phase = frequency * x + case.biases[0, 0].double()
    error = 0.5 * phase.sin() + case.output_bias[0].double() - case.samples[0][:, 0].double() / 255
    slope = 2 * error / points
    right = torch.stack([(slope * 0.5 * phase.cos() * x).sum(), (slope * phase.sin()).sum(), (slope * 0.5 * phase.cos()).sum(), slope.sum()])
    found = torch.cat([weights[0], biases[0, 0], output_bias[0]])
    assert relative_error(found, right) < 1e-6 and float(loss[0]) == pytest.approx(float(error.square().mean()), rel=1e-6)
    wrong = torch.stack([(slope * 0.5 * x).sum(), right[1], (slope * 0.5).sum(), right[3]])
    assert relative_error(wrong, right) > 0.1


@interpreted
@pytest.mark.parametrize(
    "shapes, width, depth, channels, frequencies, batch",
    [
        ([(50,)], 7, 1, 1, 0, 50),
        ([(20, 30), (11, 13), (40, 7)], 7, 2, 3, 3, 130),
        ([(9, 30)], 16, 9, 3, 4, 100),
        ([(4, 5, 6), (7, 7, 7), (3, 20, 2)], 40, 2, 1, 2, 65),
        ([(64, 48)], 40, 9, 3, 10, 70),
        ([(30, 30)], 100, 2, 3, 4, 64),
        ([(1000,), (70,), (333,)], 100, 1, 3, 16, 63),
        ([(5, 6, 7)], 33, 1, 32, 1, 1),
        ([(3, 4, 3, 4)], 16, 3, 3, 2, 129),
    ],
)
def test_step(shapes, width, depth, channels, frequencies, batch):
    Case(shapes, channels, width, depth, frequencies, batch).check()


@interpreted
@pytest.mark.parametrize("batch", [64, 130])
def test_step_with_points_of_different_importance(batch):
    importance = torch.rand(3, batch, generator=torch.Generator().manual_seed(3)) * 3
    Case([(20, 30), (11, 13), (40, 7)], batch=batch).check(importance)


@interpreted
@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
def test_step_of_other_samples(kind):
    Case([(9, 8), (20, 3)], kind=kind).check()


@interpreted
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_programs_that_take_several_tiles(monkeypatch, parts):
    monkeypatch.setattr("doh.train.triton_step.PARTS", parts)
    Case([(20, 30), (11, 13)], batch=300).check()


@interpreted
def test_results_depend_neither_on_memory_nor_on_the_other_signals():
    case = Case([(20, 30), (11, 13), (40, 7)], width=12, depth=3, batch=100)
    group = case.group()
    losses, grads = group(*case.arguments())
    for kept in (t for pair in group.kept.values() for t in pair):
        kept.fill_(float("nan"))
    again = group(*case.arguments())
    assert torch.equal(losses, again[0]) and all(map(torch.equal, grads, again[1]))
    for i in range(3):
        alone = case.group(slice(i, i + 1))(*case.arguments(slice(i, i + 1)))
        assert torch.equal(alone[0][0], losses[i]) and all(torch.equal(a[0], g[i]) for a, g in zip(alone[1], grads, strict=True))


@interpreted
def test_steps_by_name():
    case = Case([(20, 30), (11, 13)], width=12, depth=2, batch=100)
    points, weights, biases, output_bias = case.arguments()
    found = GroupGradient(case.target, case.encodings, case.samples, case.ranges, ["triton"])(*case.arguments())
    eager = GroupGradient(case.target, case.encodings, case.samples, case.ranges)(*case.arguments())
    step = BatchGradient(case.target, case.encodings[1], case.samples[1], *case.ranges[1], 100, fused=["triton", "eager"])
    shapes = case.target.layer_shapes
    matrices = [w.view(s) for w, s in zip(weights[1].split([prod(s) for s in shapes]), shapes, strict=True)]
    alone = step(points[1], matrices, biases[1], output_bias[1], Workers(1, None))
    counts = torch.full((100,), 0.5)
    half, _ = step(points[1], matrices, biases[1], output_bias[1], Workers(1, None), counts)
    assert float(half) == pytest.approx(float(alone[0]) / 2, rel=1e-6)
    assert step.step.name == "triton" and torch.equal(alone[0], found[0][1])
    for one, ours, theirs in zip(alone[1], found[1], eager[1], strict=True):
        assert torch.equal(one, ours[1]) and relative_error(ours, theirs.double()) < BOUND


@interpreted
def test_a_training_with_the_kernels_is_one_without(monkeypatch):
    from doh.config import Config
    from doh.signal import Signal
    from doh.train import run
    from doh.train.gradient import workers_for

    y, x = np.mgrid[:12, :12] / 12
    signal = Signal(np.round(127 + 100 * np.sin(5 * x + y))[..., None].astype(np.uint8), "image", "u8")
    results = []
    for steps in (("triton",), ("eager",)):
        monkeypatch.setattr(run, "steps_for", lambda *_, steps=steps: steps)
        training = run.Run(signal, Config(latents=60, steps=8, device="cpu", width=8, depth=2))
        with workers_for(torch.device("cpu"), 1) as workers:
            for _ in range(5):
                training.train(workers)
        results.append(training.latents.detach())
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


@interpreted
def test_too_wide():
    with pytest.raises(ValueError, match="300 units are more than the kernels take"):
        Case([(5,)], width=300).group()


# the dense projection

SIZES = [5, 8, 2]


def dense(seed, n):
    from doh.train.triton_dense import DenseMatrix

    return DenseMatrix(seed, n, SIZES, torch.device("cpu"))


def entries(seed, n):
    """The matrix, float64, by the decoder's code."""
    u = np.concatenate([_core.dense_bytes(seed, layer, 0, size, n) for layer, size in enumerate(SIZES)])
    return 2 * torch.from_numpy(u).double() - 255


@interpreted
@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**63 + 12345, 2**64 - 1])
@pytest.mark.parametrize("n", [1, 16, 39, 530])
def test_words_are_the_decoders(seed, n):
    found = dense(seed, n).bytes()
    assert found.dtype == torch.uint8 and torch.equal(2 * found.double() - 255, entries(seed, n))
    assert torch.equal(dense(seed, n).bytes(slice(4, 9)), found[4:9])


@interpreted
@pytest.mark.parametrize("signals, n, kind, bound", [(1, 39, torch.float32, 1e-6), (3, 530, torch.float32, 1e-6), (11, 17, torch.float64, 1e-14)])
def test_products(monkeypatch, signals, n, kind, bound):
    torch.manual_seed(1)
    monkeypatch.setattr("doh.train.triton_dense.PART_ROWS", 4)  # so that there are several parts
    matrix, right = dense(3, n), entries(3, n)
    z, g = torch.randn(signals, n, dtype=kind), torch.randn(signals, sum(SIZES), dtype=kind)
    assert relative_error(matrix.times(z), z.double() @ right.t()) < bound
    assert relative_error(matrix.transposed_times(g), g.double() @ right) < bound
    rows = slice(3, 12)
    assert relative_error(matrix.times(z, rows), z.double() @ right[rows].t()) < bound
    assert relative_error(matrix.transposed_times(g[:, rows], rows), g[:, rows].double() @ right[rows]) < bound
    assert torch.equal(matrix.times(z)[-1:], matrix.times(z[-1:]))


@interpreted
def test_dense_projection_uses_the_kernels(monkeypatch):
    shapes = [(3, 2), (3, 2), (1, 3)]
    stored = P.DenseProjection(2, 21, shapes)
    monkeypatch.setattr(P, "makes_anew", lambda device: True)
    anew = P.DenseProjection(2, 21, shapes).to("cpu")
    assert anew.entries is None and not list(anew.buffers())
    torch.manual_seed(1)
    codes = torch.randint(-32768, 32768, (21,))
    assert torch.equal(anew.flat_sums(codes), stored.flat_sums(codes))
    for lead in ((), (3,)):
        z, slope = torch.randn(*lead, 21), torch.randn(*lead, sum(stored.sizes))
        grads = []
        for p in (anew, stored):
            latents = z.clone().requires_grad_()
            grads.append(torch.autograd.grad((p.flat(latents) * slope).sum(), latents)[0])
        torch.testing.assert_close(anew.flat(z), stored.flat(z), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(anew.part(z, 1), stored.part(z, 1), rtol=1e-5, atol=1e-6)
    assert anew.flat(z.bfloat16()).dtype == torch.bfloat16
    monkeypatch.setattr(P, "makes_anew", lambda device: False)
    assert torch.equal(anew.to("cpu").entries, stored.entries)


@interpreted
def test_dense_projection_stores_its_matrix_where_the_kernels_fail(monkeypatch):
    from doh.train.triton_dense import DenseMatrix

    def fails(*_):
        raise RuntimeError("no C compiler\nat all")

    monkeypatch.setattr(P, "makes_anew", lambda device: True)
    monkeypatch.setattr(DenseMatrix, "times", fails)
    p = P.DenseProjection(2, 21, [(3, 2)])
    with pytest.warns(UserWarning, match=r"the dense matrix is stored, as its kernels cannot run here \(RuntimeError: no C compiler\)"):
        p.to("cpu")
    assert p.entries.shape == (6, 21) and p.flat(torch.randn(21)).shape == (6,)


# what the kernels become on an NVIDIA H100, which needs Triton's compiler and no GPU


@outside
def test_machine_code(tmp_path):
    script = """
import _triton_code as code
from doh.model import Target
step = code.step(Target(2, 3, 40, 9, 10))
names = step.names()
assert names["FFMA"] > 1000 and not [n for n in names if "MMA" in n and n != "FFMA"], names      # float32: no tensor cores, so no TF32
assert not [n for n in names if n.startswith(("ATOM", "RED"))], names                           # fixed order
assert "sin.approx" not in step.ptx and "cos.approx" not in step.ptx                            # reduced by the library, not by the hardware's fast path
assert step.shared <= 99 * 1024
for make, entries in ((code.product, code.ENTRIES), (code.transposed, 16)):
    one, eight = make(1).loop(), make(8).loop()
    assert one["FFMA"] == entries and eight["FFMA"] == 8 * entries, (one, eight)                # no product is done twice
    assert eight.total() < 3 * one.total(), (one.total(), eight.total())                        # the matrix is made once for eight signals
"""
    environment = {**os.environ, "PYTHONPATH": str(TOOLS), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
