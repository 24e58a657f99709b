"""The fused step: outputs, errors and gradients against plain PyTorch in float64, for every kernel that this processor has."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fused_cases import BOUND, KERNELS, Case, check, grid_case, relative_error  # noqa: E402

from doh import EncodeError  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.signal import Signal  # noqa: E402
from doh.train import fused, run  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.siren import siren as plain_siren  # noqa: E402

_train = pytest.importorskip("doh._train")


def all_phases() -> np.ndarray:
    """Phases of all sizes, float32: around multiples of a quarter turn too, and beyond where the fast reduction ends (8,192 or 65,536)."""
    random = np.random.default_rng(5)
    quarters = np.arange(-3000, 3000) * (np.pi / 2)
    near = [quarters, np.nextafter(quarters.astype(np.float32), np.float32(9e9)), [8191.9, 8192.1, 65535.9, 65536.1, 1e6, -1e9, 3e38, 0.0, -0.0, 1e-30]]
    scales = [random.uniform(-s, s, 5000) for s in (1, 10, 300, 8192, 70000, 1e7)]
    return np.concatenate([*near, *scales]).astype(np.float32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_waves(kernel):
    phases = all_phases()
    sines, cosines = np.full_like(phases, np.nan), np.full_like(phases, np.nan)
    _train.waves(phases, sines, cosines, kernel)
    assert np.abs(sines - np.sin(phases.astype(np.float64))).max() < 1.2e-7
    assert np.abs(cosines - np.cos(phases.astype(np.float64))).max() < 1.2e-7


@pytest.mark.parametrize("kernel", KERNELS)
def test_waves_of_what_is_not_finite_are_not_numbers(kernel):
    phases = np.array([np.nan, 1, np.inf, -np.inf, 2], np.float32)
    sines, cosines = np.empty_like(phases), np.empty_like(phases)
    _train.waves(phases, sines, cosines, kernel)
    assert np.array_equal(np.isnan(sines), [True, False, True, True, False])
    assert np.array_equal(np.isnan(cosines), np.isnan(sines))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", [1, 7, 40, 64, 256])
@pytest.mark.parametrize("batch", [1, 63, 64, 65, 1000])
def test_widths_and_batches(kernel, width, batch):
    check(Case(inputs=5, width=width, depth=2, channels=3, batch=batch), kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [1, 3, 32])
@pytest.mark.parametrize("depth, inputs", [(1, 1), (1, 42), (9, 42), (3, 63)])
def test_depths_and_channels(kernel, channels, depth, inputs):
    check(Case(inputs, width=40, depth=depth, channels=channels, batch=777), kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_remainder_of_the_blocks(kernel):
    for width in range(1, 28):
        check(Case(inputs=29 - width, width=width, depth=2, channels=1 + width % 9, batch=50 + width), kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_widest(kernel):
    check(Case(inputs=3, width=1024, depth=2, channels=2, batch=300), kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("gain", [2**5, 2**10, 2**17, 2**24])
def test_extreme_phases(kernel, gain):
    """Phases far beyond pi, where a sloppy reduction shows. Inputs and weights are short numbers, so that float32 multiplies them without an error."""
    case = Case(inputs=1, width=16, depth=1, channels=2, batch=500)
    with torch.no_grad():
        case.weights[0].copy_((case.weights[0] * 16).round() / 16 * gain)
        case.inputs.copy_((case.inputs * 64).round() / 64)
        case.biases.zero_()
    check(case, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bias", [4095, 4097, 8191, 8193, 32767, 65537, 1e6, 1e30])
def test_far_phases_of_a_hidden_layer(kernel, bias):
    """A bias alone carries them there: all kernels' limits are between these, and a unit's weights of 0 keep its phase exact."""
    case = Case(inputs=5, width=12, depth=3, channels=2, batch=100)
    with torch.no_grad():
        case.weights[1][3] = 0
        case.biases[1, 3] = float(np.float32(bias))
    check(case, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_backward_pass_uses_the_cosine(kernel):
    """One unit, out = sin(w x + b): the gradients are known, and vanish where the cosine does."""
    phases = np.linspace(-7, 7, 1001).astype(np.float32)[:, None]
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    gradient, slope = np.empty(4, np.float32), np.empty_like(phases)
    _train.backward(phases, np.ones_like(phases), np.ones(2, np.float32), zero[None], zero, gradient, slope, 1, kernel)
    wide = phases.astype(np.float64)
    assert np.abs(slope - np.cos(wide)).max() < 1.2e-7
    for ours, terms in zip(gradient, (wide * np.cos(wide), np.sin(wide), np.cos(wide), np.ones_like(wide)), strict=True):
        assert abs(ours - terms.sum()) < 1e-7 * np.abs(terms).sum()  # terms cancel: what float32 can do is a share of their magnitudes
    quarter = np.float32([[np.pi / 2]])
    _train.backward(quarter, one[None], np.ones(2, np.float32), zero[None], zero, gradient, slope[:1], 1, kernel)
    assert abs(slope[0, 0]) < 1e-7


def test_float64_is_exact():
    check(Case(inputs=42, width=40, depth=9, channels=3, batch=200), None, np.float64, 1e-12)
    check(Case(inputs=3, width=7, depth=1, channels=32, batch=65, gain=1e6), None, np.float64, 1e-12)


def test_gradcheck():
    case = Case(inputs=3, width=5, depth=3, channels=2, batch=7)

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        *weights, biases, output_bias, inputs = tensors
        return fused.siren(inputs, weights, biases, output_bias)

    assert torch.autograd.gradcheck(function, [*case.parameters, case.inputs])


def test_autograd_function_is_pytorchs_in_float32():
    case = Case(inputs=9, width=24, depth=4, channels=3, batch=321)
    wanted_outputs, wanted = case.gradients()
    parameters = [p.detach().float().requires_grad_() for p in [*case.parameters, case.inputs]]
    *weights, biases, output_bias, inputs = parameters
    outputs = fused.siren(inputs, weights, biases, output_bias, threads=2)
    assert type(outputs.grad_fn).__name__ == "_SirenBackward"
    outputs.backward(case.output_gradient.detach().float())
    assert relative_error(outputs.detach(), wanted_outputs) <= BOUND
    for ours, theirs in zip(parameters, wanted, strict=True):
        assert relative_error(ours.grad, theirs) <= BOUND


def test_autograd_function_takes_views_and_expanded_gradients():
    case = Case(inputs=4, width=6, depth=2, channels=2, batch=33)
    wanted = torch.autograd.grad(plain_siren(case.inputs, case.weights, case.biases, case.output_bias).sum(), case.parameters)
    inputs = torch.stack([case.inputs.detach()] * 2, dim=-1)[..., 0]
    weights = [w.t().contiguous().t() for w in case.weights]
    assert not inputs.is_contiguous() and not weights[0].is_contiguous()
    ours = torch.autograd.grad(fused.siren(inputs, weights, case.biases, case.output_bias).sum(), case.parameters)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_plain_pytorch_where_the_step_cannot_be(monkeypatch):
    case = Case(inputs=4, width=6, depth=2, channels=2, batch=5)
    half = [p.detach().bfloat16() for p in [*case.weights, case.biases, case.output_bias, case.inputs]]
    assert fused.siren(half[-1], half[:-3], half[-3], half[-2]).dtype == torch.bfloat16
    monkeypatch.setattr(fused, "_train", None)
    assert not fused.available()
    outputs = fused.siren(case.inputs, case.weights, case.biases, case.output_bias)
    assert torch.equal(outputs, plain_siren(case.inputs, case.weights, case.biases, case.output_bias))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("first", [0, 3, 21])
def test_what_is_no_number_hides_no_far_phase(kernel, lanes, first):
    """Not in the same lane of the vector before, nor of the one after."""
    inputs = np.ones((48, 1), np.float32)
    for far, none in ((first, first + lanes), (first + lanes, first)):
        inputs[:] = 1
        inputs[far], inputs[none] = 3e8, np.nan
        one, outputs = np.ones(1, np.float32), np.empty_like(inputs)
        _train.forward(inputs, np.ones(2, np.float32), 0 * one[None], 0 * one, outputs, 1, kernel)
        assert np.array_equal(np.isnan(outputs), np.isnan(inputs))
        assert outputs[far, 0] == pytest.approx(np.sin(np.float64(inputs[far, 0])), abs=2e-7)


# errors


def test_wrong_shapes_are_clear_errors():
    case = Case(inputs=4, width=6, depth=2, channels=2, batch=5)
    w, b, o, x = case.weights, case.biases, case.output_bias, case.inputs
    with pytest.raises(ValueError, match=r"weights of shapes .* ask for \[\(6, 4\), \(6, 6\), \(2, 6\)\]"):
        fused.siren(x, w[:-1], b, o)
    with pytest.raises(ValueError, match="weights of shapes"):
        fused.siren(x[:, :3], w, b, o)
    with pytest.raises(ValueError, match="cannot be of shapes"):
        fused.siren(x[0], w, b, o)
    with pytest.raises(ValueError, match="a network has inputs"):
        fused.siren(x, w[-1:], b[:0], o)


def test_module_checks_shapes_types_and_points():
    target, encoding, samples, case = grid_case((6, 5), 3, np.uint8)
    tables, points = [t.numpy() for t in encoding.tables], np.arange(30)
    flat, biases, output_bias = case.arrays()
    gradient = np.empty(target.weights + biases.size + 3, np.float32)

    def step(**changes):
        words = {"points": points, "tables": tables, "samples": samples.numpy(), "weights": flat, "biases": biases}
        words |= {"output_bias": output_bias, "gradient": gradient, "low": 0, "top": 255, "factor": 1}
        return _train.grid_step(**(words | changes))

    assert step() > 0
    faults = {
        "numbers in weights": {"weights": flat[:-1]},
        "rows of samples: 29 where there must be 30": {"samples": samples.numpy()[:-1]},
        "columns of samples": {"samples": np.zeros((30, 2), np.uint8)},
        "numbers in gradient": {"gradient": gradient[1:]},
        "at least one row": {"tables": [tables[0], np.empty((0, 7), np.float32)]},
        "no such kernel": {"kernel": "none"},
        "numbers in importance: 29 where there must be 30": {"importance": np.ones(29, np.float32)},
    }
    for message, change in faults.items():
        with pytest.raises(ValueError, match=message):
            step(**change)
    for point in (-1, 30, 2**62, -(2**63)):
        with pytest.raises(IndexError, match="not of the grid"):
            step(points=np.array([0, point]))
    frozen = gradient.copy()
    frozen.flags.writeable = False
    strided = np.repeat(flat, 2)[::2]
    for change in ({"points": points.astype(np.int32)}, {"samples": samples.numpy().astype(np.float32)}, {"gradient": frozen}, {"weights": strided}):
        with pytest.raises(TypeError):
            step(**change)
    with pytest.raises(ValueError, match="rows of outputs"):
        _train.forward(np.zeros((4, target.inputs), np.float32), flat, biases, output_bias, np.zeros((5, 3), np.float32))
    with pytest.raises(ValueError, match="rows of output_gradient"):
        _train.backward(np.zeros((4, target.inputs), np.float32), np.zeros((5, 3), np.float32), flat, biases, output_bias, gradient)
    with pytest.raises(ValueError, match="one kernel for float64"):
        _train.waves(np.zeros(3), np.zeros(3), np.zeros(3), "avx2")


def test_types_of_the_module_are_its_own():
    """Names of functions and of their arguments, in order, in _train.pyi and as the module gives them."""
    stub = ast.parse(Path(fused.__file__).parents[1].joinpath("_train.pyi").read_text())
    written = {f.name: [a.arg for a in f.args.args] for f in stub.body if isinstance(f, ast.FunctionDef)}
    functions = {name: getattr(_train, name).__doc__.split("(", 1)[1] for name in dir(_train) if not name.startswith("__")}
    there = {name: re.findall(r"(?:^|, )(\w+):", re.sub(r"\[[^\]]*\]", "", text.split(") ->")[0])) for name, text in functions.items()}
    assert written == there


def test_empty_batch():
    case = Case(inputs=4, width=6, depth=2, channels=2, batch=0)
    gradient = np.full(sum(p.numel() for p in case.parameters), np.nan, np.float32)
    _train.backward(np.empty((0, 4), np.float32), np.empty((0, 2), np.float32), *case.arrays(), gradient)
    assert not gradient.any()
    assert fused.siren(case.inputs, case.weights, case.biases, case.output_bias).shape == (0, 2)


@pytest.mark.parametrize("kernel, status", [(KERNELS[-1], 0), ("none", 1)])
def test_environment_names_the_kernel(kernel, status):
    script = "import numpy as np; from doh import _train; a = np.zeros(3, np.float32); _train.waves(a, a.copy(), a.copy())"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "DOH_TRAIN_KERNEL": kernel}, capture_output=True, text=True)
    assert done.returncode == status
    assert ("DOH_TRAIN_KERNEL" in done.stderr) == bool(status)


# the encoder


def test_a_kernel_that_is_none_is_an_error_of_one_line(monkeypatch):
    signal, settings = Signal(np.zeros((8, 8, 1), np.uint8), "image", "u8"), {"latents": 100, "steps": 2, "device": "cpu"}
    monkeypatch.setenv("DOH_TRAIN_KERNEL", "foo")
    with pytest.raises(EncodeError, match=rf"^DOH_TRAIN_KERNEL is 'foo', which is no kernel, or not for this processor: there are {', '.join(KERNELS)}$"):
        run.Run(signal, Config(**settings))
    run.Run(signal, Config(**settings, engine="eager"))  # which asks for none
    for name in ("", KERNELS[-1]):
        monkeypatch.setenv("DOH_TRAIN_KERNEL", name)
        run.Run(signal, Config(**settings)).train(Workers(1, None))


def test_setting_chooses_the_step(monkeypatch):
    samples = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    signal, settings = Signal(samples, "image", "u8"), {"latents": 100, "steps": 2, "device": "cpu"}

    def chosen(word: str) -> bool:
        return run.Run(signal, Config(**settings, engine=word)).gradient.fused is not None

    assert chosen("auto") and chosen("fused") and not chosen("eager")
    monkeypatch.setattr(fused, "_train", None)
    assert not chosen("auto")
    with pytest.raises(EncodeError, match=r"engine = fused .* use auto"):
        chosen("fused")
