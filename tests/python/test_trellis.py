"""Latents on the trellis: the nearest ones, and a training in which they settle one after another."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from doh import Signal, reference  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import decode_unsealed, pack_unsealed, unpack  # noqa: E402
from doh.model import ON_TRELLIS  # noqa: E402
from doh.train import fused, trellis  # noqa: E402
from doh.train.checkpoint import load, save  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.run import Run  # noqa: E402
from doh.train.trellis import BEGIN, END, Settling, nearest, nearest_by_numpy, portion, state_after  # noqa: E402

RNG = np.random.default_rng(3)
IMAGE = Signal(RNG.integers(0, 256, (24, 31, 3), np.uint8), "image", "u8")
QUICK = {"latents": 301, "steps": 60, "batch": 100, "frequencies": 2, "finish": 0.5, "device": "cpu", "threads": 1}
ALONE = Workers(1, None)


def gaussian(n: int, spread: float = 1.0) -> np.ndarray:
    return (spread * np.random.default_rng(n).standard_normal(n)).astype(np.float32)


def allowed(latents: np.ndarray, state: int = 0) -> bool:
    """Whether they are on the trellis."""
    for latent in latents.tolist():
        if (latent ^ state) & 1:
            return False
        state = trellis.advance(state, latent)
    return True


def test_the_reference_decoder_gives_these_latents():
    latents = nearest(gaussian(500), 0.1)
    codes = (latents >> 1).tolist()
    assert reference.latents_on_trellis(codes) == latents.tolist() and allowed(latents)


@pytest.mark.parametrize("state", [0, 1, 129, 255])
def test_no_sequence_is_nearer(state):
    for values in (gaussian(6, 3.0), gaussian(7, 0.4)):
        found = nearest(values, 1.0, state)
        assert allowed(found, state)
        near = [range(int(np.floor(v)) - 2, int(np.floor(v)) + 4) for v in values[:-1]]

        def error(latents, values=values) -> float:
            return float(np.square(np.array(latents) - values.astype(np.float64)).sum())

        best = np.inf
        for latents in product(*near):
            if allowed(np.array(latents), state):
                odd = state_after(latents, state) & 1
                last = 2 * round((float(values[-1]) - odd) / 2) + odd
                best = min(best, error((*latents, last)))
        assert error(found) == pytest.approx(best, abs=1e-5)


@pytest.mark.skipif(not fused.available(), reason="built without the compiled step")
@pytest.mark.parametrize("step", [0.04, 0.5, 1e-9, 1e9])
@pytest.mark.parametrize("state", [0, 200])
def test_compiled_and_numpy_find_the_same(step, state, monkeypatch):
    values = gaussian(400)
    by_numpy = nearest_by_numpy(values, step, state)
    assert np.array_equal(nearest(values, step, state), by_numpy)
    monkeypatch.setattr(trellis, "_train", None)
    assert np.array_equal(nearest(values, step, state), by_numpy)


def test_values_that_no_file_holds_become_some_that_it_does():
    values = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0], np.float32)
    for find in (nearest, nearest_by_numpy):
        found = find(values, 1.0)
        assert allowed(found) and abs(found).max() <= 32767


def test_values_on_the_trellis_are_found_again():
    latents = nearest(gaussian(2000), 0.03)
    assert np.array_equal(nearest(latents * np.float32(0.7), 0.7), latents)


def test_the_error_is_what_the_specification_says():
    """1.3 dB less than rounding at the same entropy: half the step, and a code for every second integer."""
    values, step = gaussian(40_000), 0.1
    gain = np.square(np.rint(values / step) * step - values).mean() / np.square(nearest(values, step / 2) * (step / 2) - values).mean()
    assert 10 * np.log10(gain) == pytest.approx(1.33, abs=0.05)


def test_portions():
    counts = [portion(over, 301) for over in np.linspace(0, 1, 2001)]
    assert counts == sorted(counts) and counts[0] == portion(BEGIN, 301) == 0 and portion(END, 301) == counts[-1] == 301
    assert max(np.diff(counts)) <= 2


def trained(run: Run, until: int | None = None) -> Run:
    while run.step < (run.steps if until is None else until):
        run.train(ALONE)
    return run


def by_torch(config: Config) -> Run:
    run = Run(IMAGE, config)
    run.compiled = None
    return run


OTHERS = [{}, {"generator": "dense"}, {"bytes": 500, "latents": 0}]
OTHERS += [{"generator": "plain", "latents": 0, "width": 12, "depth": 2, "latent_scale": "weights", "lr_latents": 0.01}]


@pytest.mark.parametrize("settings", OTHERS, ids=str)
def test_latents_that_have_settled_stay(settings):
    run = Run(IMAGE, Config(**{**QUICK, **settings}))
    trained(run, run.finish_from)
    assert run.settling is None
    known: np.ndarray = np.empty(0, np.int32)
    while run.step < run.steps:
        run.train(ALONE)
        count, step = run.settling.count, run.quantisation.latent
        here = run.unit_latents.detach().numpy() / np.float32(step)
        now = np.rint(here[:count]).astype(np.int64)
        assert np.abs(here[:count] - now).max(initial=0) < 1e-2 and allowed(now)
        assert np.array_equal(now[: len(known)], known)
        known = now
    assert len(known) == len(run.latents)
    model = run.finished()
    assert model.flags & ON_TRELLIS and np.array_equal(model.latent_codes, known)
    assert not settings.get("bytes") or 0.97 * settings["bytes"] <= len(pack_unsealed(model)) <= settings["bytes"]


@pytest.mark.skipif(not fused.available(), reason="built without the compiled step")
def test_others_make_up_for_what_has_settled():
    """The loss at the end is below that of rounding all at once."""
    y, x = np.mgrid[0:40, 0:50]
    picture = Signal((127 + 80 * np.sin(x / 5)[..., None] * np.cos(y[..., None] / np.array([4, 6, 9]))).astype(np.uint8), "image", "u8")
    config = Config(latents=400, steps=1500, batch=500, bits=3.0, device="cpu", threads=1)
    errors = {}
    for finish in (0.0, 0.25):
        model = trained(Run(picture, config.replace(finish=finish))).finished()
        decoded = decode_unsealed(pack_unsealed(model), model)
        errors[finish] = np.square(decoded.astype(float) - picture.samples).mean()
    assert errors[0.25] < 0.8 * errors[0.0]


@pytest.mark.parametrize("settings", OTHERS, ids=str)
def test_a_training_that_is_resumed_amid_it_ends_the_same(settings, tmp_path):
    config = Config(**{**QUICK, **settings})
    whole = trained(Run(IMAGE, config)).finished()
    first = Run(IMAGE, config)
    trained(first, first.finish_from + 15)
    assert 0 < first.settling.count < len(first.latents)
    save(first, tmp_path / "x.ckpt")
    second = Run(IMAGE, config)
    load(second, tmp_path / "x.ckpt")
    assert (second.settling.count, second.settling.state) == (first.settling.count, first.settling.state)
    assert pack_unsealed(trained(second).finished()) == pack_unsealed(whole)


def test_a_restart_forgets_what_had_settled():
    run = Run(IMAGE, Config(**QUICK))
    trained(run, run.finish_from + 15)
    with pytest.warns(UserWarning, match="begins anew"):
        run.restart()
    assert run.settling is None and run.step == 0
    trained(run, 5)


def test_settling_by_portions_takes_the_nearest_path():
    latents = torch.from_numpy(gaussian(300))
    settling = Settling(latents, None, 0.1)
    values = latents.numpy().copy()
    for count in (1, 1, 40, 41, 200, 300):
        settling.go_on(latents, count)
    found = np.rint(latents.numpy() / np.float32(0.1)).astype(np.int64)
    assert allowed(found) and settling.count == 300
    best = nearest(values, 0.1)
    assert np.square(found * 0.1 - values).sum() <= 1.02 * np.square(best * 0.1 - values).sum()


@pytest.mark.parametrize("rounding", ["nearest", "trellis"])
def test_a_range_of_levels_is_meant_for_codes(rounding):
    settings = {"generator": "plain", "latents": 0, "width": 12, "depth": 2, "step_rule": "range", "bits": 6.0, "rounding": rounding}
    model = trained(Run(IMAGE, Config(**{**QUICK, **settings, "finish": 0.0}))).finished()
    shapes = model.target.layer_shapes
    ends = np.cumsum([o * i for o, i in shapes])
    weights = np.concatenate([w.reshape(-1) for w in reference.weight_sums(model)])
    for layer in np.split(weights, ends[:-1]):
        levels = (np.ptp(layer) + 1) / (2 if rounding == "trellis" else 1)
        assert 60 <= levels <= 66


def test_files_go_round():
    model = trained(Run(IMAGE, Config(**QUICK))).finished()
    data = pack_unsealed(model)
    again = unpack(data)
    assert again.flags == model.flags == ON_TRELLIS and np.array_equal(again.latent_codes, model.latent_codes)
    assert pack_unsealed(again) == data
    ours = reference.read_model(data)
    assert np.array_equal(ours.latent_codes, model.latent_codes)
