"""doh.train.compiled: a step in compiled calls gives, bit for bit, what torch's calls give."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from doh import Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.train import fused, importance  # noqa: E402
from doh.train.checkpoint import _tensors as state_of  # noqa: E402
from doh.train.compiled import MOST_CHUNKS, CompiledStep  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.importance import ErrorSampler  # noqa: E402
from doh.train.projection import TiedProjection  # noqa: E402
from doh.train.quantise import round_through  # noqa: E402
from doh.train.run import Run  # noqa: E402
from doh.train.stack import Stack  # noqa: E402

pytestmark = pytest.mark.skipif(not fused.available(), reason="built without the compiled step")

RNG = np.random.default_rng(5)
IMAGE = Signal(RNG.integers(0, 256, (24, 31, 3), np.uint8), "image", "u8")
SOUND = Signal(RNG.integers(-9999, 9999, (900, 2), np.int16), "audio", "s16")
CUBE = Signal(RNG.integers(0, 2, (9, 10, 11, 1), np.uint8), "occupancy", "u1")
QUICK = {"latents": 301, "steps": 40, "batch": 100, "frequencies": 2, "finish": 0.5, "device": "cpu", "threads": 1}


@pytest.mark.parametrize("signal", [IMAGE, SOUND, CUBE], ids=lambda signal: signal.kind)
@pytest.mark.parametrize(
    "settings",
    [{}, {"rounding": "nearest"}, {"sampling": "errors"}, {"sampling": "epochs"}, {"bytes": 600, "latents": 0}, {"batch": 10**6}],
    ids=str,
)
@pytest.mark.parametrize("weights", [0.9, 1.15, 3.2])
def test_same_state_as_by_torch(signal, settings, weights, monkeypatch):
    monkeypatch.setattr(importance, "FIRST_MEASURED", 3)
    monkeypatch.setattr(importance, "MEASURED_EVERY", 10)
    config = Config(**{**QUICK, "weights_per_latent": weights, **settings})
    compiled, by_torch = Run(signal, config), Run(signal, config)
    assert isinstance(compiled.compiled, CompiledStep)
    by_torch.compiled = None
    for _ in range(config.steps):
        compiled.train(Workers(1, None))
        by_torch.train(Workers(1, None))
    assert compiled.quantisation == by_torch.quantisation is not None
    wanted = state_of(by_torch)
    assert {name: torch.equal(t, wanted[name]) for name, t in state_of(compiled).items()} == dict.fromkeys(wanted, True)


@pytest.mark.parametrize("happens", ["begins anew", "is stacked"])
def test_same_state_as_by_torch_when_a_training(happens):
    """The optimiser's state or the parameters are other tensors then, and what the compiled step holds of them is not to be the old ones'."""
    runs = [Run(IMAGE, Config(**QUICK)) for _ in range(2)]
    runs[1].compiled = None
    for run in runs:
        for _ in range(5):
            run.train(Workers(1, None))
        if happens == "begins anew":
            with pytest.warns(UserWarning, match="begins anew"):
                run.restart()
        else:
            Stack([run], threads=1)
        for _ in range(5):
            run.train(Workers(1, None))
    wanted = state_of(runs[1])
    assert {name: torch.equal(t, wanted[name]) for name, t in state_of(runs[0]).items()} == dict.fromkeys(wanted, True)


PLAIN = {"generator": "plain", "latents": 0}
OTHERS = [{"generator": "dense"}, {"l1": 0.1}, {"engine": "eager"}, {"weights_per_latent": MOST_CHUNKS + 1}]
OTHERS += [{**PLAIN, "step_rule": "range"}, {**PLAIN, "latent_scale": "weights", "lr_latents": 0.01}]


@pytest.mark.parametrize("settings", OTHERS, ids=str)
def test_what_it_does_not_know_is_left_to_torch(settings):
    run = Run(IMAGE, Config(**{**QUICK, **settings}))
    assert run.compiled is None
    run.train(Workers(1, None))
    assert run.step == 1 and torch.isfinite(run.latents).all()


@pytest.mark.parametrize("n, shapes", [(100, [(4, 6), (3, 4)]), (4841, [(40, 66), *[(40, 40)] * 8, (3, 40)]), (23, [(5, 6), (5, 5), (2, 5)])])
@pytest.mark.parametrize("step", [0.06, 1 / 3, 17.0])
def test_projection_and_its_gradient(n, shapes, step):
    projection = TiedProjection(3, n, shapes)
    weights = sum(projection.sizes)
    latents, gain, gradient = torch.randn(n, requires_grad=True), torch.rand(weights), torch.randn(weights)
    rounded = round_through(latents, step)
    flat = projection.flat(rounded) * gain
    (wanted,) = torch.autograd.grad(flat, latents, gradient)

    found, out, back = torch.empty(n), torch.empty(weights), torch.empty(n)
    fused._train.rounded(latents.detach(), step, found)
    fused._train.tied_weights(found, projection.index, projection.sign, gain, out)
    fused._train.tied_gradient(gradient, projection.inverse.view(-1, n), projection.sign, gain, back)
    assert torch.equal(found, rounded.detach()) and torch.equal(out, flat.detach()) and torch.equal(back, wanted)


@pytest.mark.parametrize("shape", [(1000,), (40, 56), (11, 13, 9), (7, 5, 6, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("batch", [1, 7, 500])
def test_same_draws_as_by_torch(shape, batch, monkeypatch):
    drawn = []
    for there in (True, False):
        monkeypatch.setattr(importance, "available", lambda there=there: there)
        sampler = ErrorSampler(shape, torch.Generator().manual_seed(4))
        first = sampler.draw(batch)
        sampler.measure(lambda points: points.to(torch.float32) ** 2)
        drawn.append([*first, *sampler.draw(batch), *sampler.draw(batch), sampler.generator.get_state()])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_wrong_arrays_are_errors():
    train, out = fused._train, torch.empty(4)
    index, sign, gain = torch.arange(4), torch.ones(4, dtype=torch.int8), torch.ones(4)
    with pytest.raises(ValueError, match="out"):
        train.rounded(torch.ones(3), 1.0, out)
    with pytest.raises(ValueError, match="sign"):
        train.tied_weights(torch.ones(4), index, sign[:3], gain, out)
    with pytest.raises(IndexError, match="latent"):
        train.tied_weights(torch.ones(3), index, sign, gain, out)
    with pytest.raises(IndexError, match="latent"):
        train.tied_weights(torch.ones(4), -index, sign, gain, out)
    with pytest.raises(IndexError, match="weight"):
        train.tied_gradient(torch.ones(4), index[None] + 2, sign, gain, out)
    with pytest.raises(ValueError, match="columns of inverse"):
        train.tied_gradient(torch.ones(4), index[None, :3], sign, gain, out)
    with pytest.raises(ValueError, match="row"):
        train.tied_gradient(torch.ones(4), index[None][:0], sign, gain, out)
    blocks = torch.tensor([0.5, 0.25, 1.0], dtype=torch.float64), torch.ones(3), torch.arange(3), [torch.ones(3, dtype=torch.int64)], [1]
    words, points = torch.zeros(1, 4, dtype=torch.int64), torch.empty(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="rise"):
        train.draw(*blocks, 0.5, words, points, out)
    with pytest.raises(ValueError, match="words"):
        train.draw(*blocks, 0.5, words[:0], points, out)
    with pytest.raises(ValueError, match="extent"):
        train.draw(*blocks[:3], [torch.ones(2, dtype=torch.int64)], [1], 0.5, words, points, out)
    empty = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="block"):
        train.draw(empty.double(), out[:0], empty, [empty], [1], 0.5, words, points, out)


@pytest.mark.parametrize("wrong", [lambda t: t.double(), lambda t: torch.stack([t, t], 1)[:, 0], lambda t: t[None]], ids=["type", "strides", "dimensions"])
def test_results_never_go_into_a_copy(wrong):
    train, out = fused._train, wrong(torch.ones(4))
    index, sign, gain = torch.arange(4), torch.ones(4, dtype=torch.int8), torch.ones(4)
    blocks = torch.ones(1, dtype=torch.float64), gain[:1], index[:1], [index[:1]], [1]
    calls = [
        lambda: train.rounded(gain, 1.0, out),
        lambda: train.tied_weights(gain, index, sign, gain, out),
        lambda: train.tied_gradient(gain, index[None], sign, gain, out),
        lambda: train.draw(*blocks, 0.5, index[None], torch.empty(4, dtype=torch.int64), out),
        lambda: train.draw(*blocks, 0.5, index[None], out, gain),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
