"""Trainings that go out of bounds: that is noticed, said, and mended where it can be."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from training_cases import QUICK, smooth  # noqa: E402

import doh  # noqa: E402
from doh import EncodeError, Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import pack  # noqa: E402
from doh.metrics import psnr  # noqa: E402
from doh.reference import samples  # noqa: E402
from doh.train.fit import fit  # noqa: E402
from doh.train.run import Diverged, Run  # noqa: E402


def test_a_training_out_of_bounds_is_an_error():
    with pytest.warns(UserWarning, match="begins anew"), pytest.raises(EncodeError, match="smaller lr_latents"):
        fit(smooth(), QUICK.replace(lr_latents=1e6, steps=10).replace(lr_biases=1e6, omega=1e6))


@pytest.mark.parametrize(
    "changes",
    [{}, {"rounding": "nearest"}, {"generator": "plain", "latents": 0, "width": 10, "depth": 4, "latent_scale": "weights", "step_rule": "range"}],
)
@pytest.mark.parametrize("at", [100, 190])  # before and after the first rounding
def test_a_training_that_diverges_begins_anew_with_half_the_rates(changes, at, monkeypatch):
    config = QUICK.replace(steps=200, finish=0.2, lr_latents=0.08, **changes)
    wild = config.replace(lr_latents=2 * config.lr_latents, lr_biases=2 * config.lr_biases)
    begin, struck = Run.begin, []

    def lightning(run):
        if run.step == at and not struck:
            struck.append(run)
            raise Diverged("no end in sight")
        begin(run)

    signal = smooth(50, 60)  # of an omega that float32 does not hold
    wanted = pack(fit(signal, config))
    monkeypatch.setattr(Run, "begin", lightning)
    with pytest.warns(UserWarning, match=f"diverged before step {at}: it begins anew"):
        assert pack(fit(signal, wild)) == wanted
    assert struck[0].step == 200


def wild_config(rate: float) -> Config:
    return QUICK.replace(steps=400, latents=150, batch=256, lr_latents=rate, depth=4)


def test_what_diverges_is_recognised_and_trained_with_smaller_rates():
    signal = smooth(48, 48)
    flat = psnr(np.broadcast_to(signal.samples.mean((0, 1)), signal.samples.shape), signal.samples, 255)
    with pytest.warns(UserWarning, match=r"before step [1-4]00: it begins anew with learning rates 0\.\d+ times as large as at first"):
        model = fit(signal, wild_config(2.0))
    assert psnr(samples(model), signal.samples, 255) > flat + 4
    with pytest.warns(UserWarning), pytest.raises(EncodeError, match="out of bounds 5 times"):
        fit(signal, wild_config(1e4))


def test_what_diverges_amid_the_rounding_is_recognised_too():
    with pytest.warns(UserWarning, match="begins anew"):
        model = fit(smooth(48, 48), wild_config(2.0).replace(finish=1.0))
    assert psnr(samples(model), smooth(48, 48).samples, 255) > 12


def test_noise_and_one_colour_are_no_divergence(recwarn):
    noise = np.random.default_rng(2).integers(0, 256, (40, 40, 3), np.uint8)
    for samples_ in (noise, np.zeros_like(noise), np.full_like(noise, 255), noise // 255 * 255):
        fit(Signal(samples_, "image", "u8"), QUICK.replace(steps=1000, batch=512, finish=0.0))
    assert not recwarn.list


def test_time_goes_on_when_a_training_begins_anew():
    now, reports = [0.0], []

    def clock():
        now[0] += 0.01
        return now[0]

    with pytest.warns(UserWarning, match="begins anew"):
        fit(smooth(48, 48), wild_config(2.0).replace(seconds=20.0), progress=reports.append, clock=clock)
    assert now[0] <= 20 and all(r.rate >= 0 and r.remaining_s >= 0 and r.step <= r.steps for r in reports)


# after the last step


def thrown(monkeypatch, at: int, times: int = 1, which=lambda run: True) -> list[Run]:
    """Before a step, trainings lose all that they have learnt, so that they are worse than ever; at most so many times. Returns those that did."""
    struck = []

    def train(run, workers, do=Run.train):
        if run.step == at and len(struck) < times and which(run):
            struck.append(run)
            with torch.no_grad():
                run.latents.mul_(100.0)
                run.biases.add_(torch.linspace(0, 9, run.biases.numel()).view_as(run.biases))
        do(run, workers)

    monkeypatch.setattr(Run, "train", train)
    return struck


@pytest.mark.parametrize("finish", [0.0, 0.2])
def test_what_diverges_in_the_last_steps_begins_anew(finish, monkeypatch):
    """Course is judged before steps 1, 100, 200 ..., before the first one that rounds, and when all are done."""
    config = QUICK.replace(steps=240, finish=finish, lr_latents=0.01)
    wild = config.replace(lr_latents=2 * config.lr_latents, lr_biases=2 * config.lr_biases)
    wanted = pack(fit(smooth(), config))
    struck = thrown(monkeypatch, 150)
    with pytest.warns(UserWarning, match=f"training diverged before step {192 if finish else 200}: it begins anew"):
        assert pack(fit(smooth(), wild)) == wanted
    struck = thrown(monkeypatch, 210 if finish else 201)
    with pytest.warns(UserWarning, match="training diverged before step 240: it begins anew with learning rates 0.5 times as large as at first"):
        assert pack(fit(smooth(), wild)) == wanted
    assert len(struck) == 1 and struck[0].step == 240


def test_one_that_ends_by_the_clock_has_a_warning(monkeypatch):
    now, struck = [0.0], thrown(monkeypatch, 150)

    def clock():
        now[0] += 0.01
        return now[0]

    with pytest.warns(UserWarning, match="training diverged before its end, with no time left to begin anew: use a smaller lr_latents") as told:
        fit(smooth(), QUICK.replace(seconds=10.0, steps=190, finish=0.0), clock=clock, started=0.0)
    assert len(told) == len(struck) == 1 and struck[0].step == 190 and now[0] <= 10


def test_one_whose_numbers_are_gone_at_the_end_of_its_time_is_an_error(monkeypatch):
    now = iter(np.arange(0, 1e3, 0.01))

    def train(run, workers, do=Run.train):
        do(run, workers)
        run.loss.fill_(torch.nan if run.step > 120 else 1.0)

    monkeypatch.setattr(Run, "train", train)
    with pytest.raises(EncodeError, match="out of bounds before step 190"):
        fit(smooth(), QUICK.replace(seconds=10.0, steps=190, finish=0.0), clock=lambda: float(next(now)), started=0.0)


def test_a_part_that_diverges_in_its_last_steps_begins_anew_by_itself(monkeypatch):
    config = QUICK.replace(bytes=1500, steps=190, parts="1x2", finish=0.0)
    calm = fit(smooth(30, 60), config)
    struck = thrown(monkeypatch, 150, which=lambda run: run.name.startswith("part 2"))
    with pytest.warns(UserWarning, match=r"^part 2 of 2: training diverged before step 190: it begins anew"):
        model = fit(smooth(30, 60), config)
    assert [np.array_equal(a.latent_codes, b.latent_codes) for a, b in zip(model.models, calm.models)] == [True, False]
    assert len(struck) == 1 and struck[0].restarts == 1


# what is said of several


def test_of_many_each_is_named(monkeypatch):
    """All diverge at the same step, and Python shows a warning of the same words once."""
    thrown(monkeypatch, 50, 3, which=lambda run: not run.restarts)
    signals = [smooth(), smooth(), smooth()]
    with pytest.warns(UserWarning) as told:
        doh.encode_many(signals[:2], names=["a.png", "b.png"], config=QUICK.replace(steps=120))
        doh.encode_many(signals[2:], config=QUICK.replace(steps=120))
    assert sorted(str(w.message).split(": ")[0] for w in told) == ["a.png", "b.png", "signal 1"]
    with pytest.raises(EncodeError, match="1 names for 2 signals"):
        doh.encode_many(signals[:2], names=["a.png"], config=QUICK)


def test_of_several_times_each_is_told(monkeypatch):
    thrown(monkeypatch, 50, 2)
    with pytest.warns(UserWarning) as told:
        fit(smooth(), QUICK.replace(steps=120))
    assert len({str(w.message) for w in told}) == 2
