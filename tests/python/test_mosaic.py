"""Signals that are cut into parts: which parts, what each of them gets, and their training as one."""

from __future__ import annotations

import signal as signals
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import log10, prod
from time import sleep

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import doh  # noqa: E402
from doh import EncodeError, Signal, container, reference  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.metrics import psnr  # noqa: E402
from doh.model import Mosaic, QuantModel  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train import mosaic  # noqa: E402
from doh.train.fit import Training, fit  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.mosaic import MosaicRun, at_least, run_for  # noqa: E402
from doh.train.parts import cut, cut_out, parts_for, places, shares  # noqa: E402
from doh.train.plan import MAX_WEIGHTS, budget_of, plan  # noqa: E402
from doh.train.run import Diverged, Run  # noqa: E402

RNG = np.random.default_rng(0)
NOISE = Signal(RNG.integers(0, 256, (12, 11, 3), np.uint8), "image", "u8")
CONFIG = Config(steps=40, bytes=600, batch=32, threads=1, parts="2x2", checkpoint_seconds=0.0)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth on the left, busy on the right."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    busy = 60 * np.sin(90 * x * (1 + y)) * np.sin(70 * y) * (x > 0.5)
    return (np.stack([128 + 50 * y + busy, 100 + 60 * x + busy, 150 - 40 * x * y + 0 * busy], -1)).clip(0, 255).astype(np.uint8)


# parts


@pytest.mark.parametrize(
    ("shape", "parts", "wanted"),
    [
        ((512, 768), 1.4, (1, 1)),
        ((512, 768), 2, (1, 2)),
        ((768, 512), 2, (2, 1)),
        ((512, 768), 3.6, (2, 2)),
        ((512, 768), 6.2, (2, 3)),
        ((3, 1000), 8, (1, 8)),
        ((2, 2), 1000, (2, 2)),
        ((90000,), 5, (5,)),
        ((64, 64, 64), 8, (2, 2, 2)),
        ((3, 10, 100000), 8, (1, 1, 8)),
    ],
)
def test_boxes_are_near_to_cubes_and_as_many_as_wanted(shape, parts, wanted):
    assert cut(shape, parts) == wanted


def test_an_image_is_cut_by_its_rate():
    image = Signal(np.zeros((512, 768, 3), np.uint8), "image", "u8")

    def parts(**settings):
        return parts_for(image, Config(**settings))

    found = [prod(parts(bpp=bpp)) for bpp in (0.05, 0.1, 0.2, 0.35, 0.6)]
    assert found == [1, 1, 2, 4, 6]
    assert parts() == parts(latents=4500) == (1, 1) and parts(latents=24000) == (2, 2)
    assert parts(bpp=0.6, parts="1") == parts(bpp=0.6, width=40) == parts(bpp=0.6, generator="dense") == (1, 1)
    assert parts(parts="3x2") == (3, 2)
    assert parts_for(Signal(image.samples, "array", "u8"), Config(bpp=0.6)) == (1, 1)


@pytest.mark.parametrize(("parts", "what"), [("2", "2 is for 1 dimensions"), ("2x2x2", "3 dimensions"), ("13x1", "too many"), ("1x12", "too many")])
def test_parts_that_do_not_fit_are_refused(parts, what):
    with pytest.raises(EncodeError, match=what):
        parts_for(NOISE, Config(parts=parts))


@pytest.mark.parametrize("parts", ["0", "2x0", "x", "2x", "many", "1x1x1x1x1", "-1", "02", ""])
def test_parts_that_are_none_are_refused(parts):
    with pytest.raises(EncodeError, match="parts must be"):
        Config(parts=parts)


@pytest.mark.parametrize(("points", "parts"), [(1, 1), (12, 5), (9, 6), (7, 7), (1000, 3), (768, 3), (100003, 64)])
def test_points_lie_where_the_decoder_has_them(points, parts):
    part, x = places(points, parts)
    wanted = reference.places(0, points, points, parts)
    assert np.array_equal(part, wanted[0]) and np.array_equal(x, wanted[1])


def test_parts_cover_the_signal():
    samples = RNG.integers(0, 256, (7, 10, 2), np.uint8)
    pieces = cut_out(Signal(samples), (3, 4))
    seen = np.zeros((7, 10), int)
    for piece in pieces:
        seen[piece.box] += 1
        assert np.array_equal(piece.signal.samples, samples[piece.box])
        assert [len(axis) for axis in piece.axes] == list(piece.signal.shape)
        assert all(axis.min() >= -1 and axis.max() < 1 and (np.diff(axis) > 0).all() for axis in piece.axes)
    assert len(pieces) == 12 and (seen == 1).all()


# shares


def test_bytes_go_where_the_detail_is():
    pieces = cut_out(Signal(picture(96, 128), "image", "u8"), (1, 2))
    smooth, busy = shares(pieces, 8 * 1500)
    assert smooth + busy == pytest.approx(1) and busy > 2 * smooth and smooth >= 0.09
    alike = shares(cut_out(Signal(np.tile(RNG.integers(0, 256, (32, 32, 3), np.uint8), (2, 2, 1)), "image", "u8"), (2, 2)), 8 * 1000)
    assert alike == pytest.approx([0.25] * 4)
    assert shares(cut_out(Signal(np.full((32, 32, 3), 7, np.uint8)), (2, 2)), 8000) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("shape", [(4000,), (16, 3), (9, 10, 11), (3, 4, 5, 6), (1, 2)])
@pytest.mark.parametrize("sample_type", ["u8", "s16", "u1"])
def test_any_signal_can_be_shared_out(shape, sample_type):
    low, high, dtype = {"u8": (0, 256, np.uint8), "s16": (-32768, 32768, np.int16), "u1": (0, 2, np.uint8)}[sample_type]
    signal = Signal(RNG.integers(low, high, (*shape, 2), dtype), "array", sample_type)
    found = shares(cut_out(signal, (1,) * (len(shape) - 1) + (2,)), 100)
    assert sum(found) == pytest.approx(1) and min(found) >= 0.09


# training


def test_the_file_is_what_was_trained():
    """The borders of the parts do not lie between points here: their coordinates must be those of the decoder."""
    image = picture(50, 70)
    reports = []
    rounding = {"rounding": "nearest", "bits": 5.5, "finish": 0.15}  # while latents settle, the loss changes, and its mean is behind
    config = Config(steps=400, bytes=2000, batch=1024, parts="3x4", threads=2, **rounding)
    model = fit(Signal(image, "image", "u8"), config, progress=reports.append)
    assert isinstance(model, Mosaic) and model.parts == (3, 4) and len(model.models) == 12 and model.shape == (50, 70)
    data = container.pack(model)
    assert 2000 * 0.97 <= len(data) <= 2000
    decoded = container.decode(data)
    assert np.array_equal(decoded, reference.decode(data))
    quality = psnr(decoded, image, 255)
    assert quality > 26 and abs(quality - reports[-1].psnr) < 1
    # a part by itself, decoded as a file of its own, is the same but for the rounding of coordinates
    pieces = cut_out(Signal(image, "image", "u8"), (3, 4))
    errors = [container.decode(container.pack(replace(m, shape=p.signal.shape))).astype(float) - p.signal.samples for m, p in zip(model.models, pieces)]
    alone = -10 * log10(sum(float(np.square(e).sum()) for e in errors) / image.size / 255**2)
    assert quality > alone - 0.05


def test_results_do_not_depend_on_threads_or_on_what_else_is_encoded():
    settings = {"steps": 40, "bytes": 600, "batch": 32, "parts": "2x2"}
    alone = doh.encode(NOISE, threads=1, **settings)
    assert doh.encode(NOISE, threads=2, **settings) == doh.encode(NOISE, threads=3, engine="auto", **settings) == alone
    other = Signal(NOISE.samples[::-1].copy(), "image", "u8")
    assert doh.encode_many([other, NOISE, other], threads=2, **settings)[1] == alone


def test_without_a_budget_the_latents_are_shared_out():
    model = fit(Signal(picture(64, 96), "image", "u8"), Config(steps=10, latents=3000, parts="1x2", threads=1))
    counts = [len(each.latent_codes) for each in model.models]
    assert abs(sum(counts) - 3000) <= 2 and counts[1] > 1.5 * counts[0]


@pytest.mark.parametrize("at, ahead", [(1, 1), (20, 1), (37, 1), (16, 8)])
def test_a_resumed_training_ends_at_the_same_bytes(at, ahead, tmp_path, monkeypatch):
    path, train = tmp_path / "state", MosaicRun.train
    wanted = container.pack(fit(NOISE, CONFIG))
    monkeypatch.setattr(mosaic, "AHEAD", 4 * ahead)

    def stopping(run, workers):
        if run.step == at:
            signals.raise_signal(signals.SIGINT)
        train(run, workers)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MosaicRun, "train", stopping)
        fit(NOISE, CONFIG, checkpoint=path)
    reports = []
    monkeypatch.setattr(fit_module, "REPORT_SECONDS", 0)
    resumed = fit(NOISE, CONFIG, checkpoint=path, resume=True, progress=reports.append)
    assert reports[0].step == at + 2 * ahead
    assert container.pack(resumed) == wanted
    for changes, what in (({"parts": "1x2"}, "parts = '2x2', not '1x2'"), ({"bytes": 610}, "bytes")):
        with pytest.raises(EncodeError, match=what):
            fit(NOISE, CONFIG.replace(**changes), checkpoint=path, resume=True)


def test_a_part_that_diverges_begins_anew_by_itself(monkeypatch):
    judge, fallen = Run.judge, []

    def judging(run):
        judge(run)
        if run.step == 1 and run.signal.shape == (6, 5) and not run.restarts:
            fallen.append(run)
            raise Diverged("once")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="diverged"):
        patch.setattr(Run, "judge", judging)
        model = fit(NOISE, CONFIG)
    calm = fit(NOISE, CONFIG)
    same = [np.array_equal(a.latent_codes, b.latent_codes) for a, b in zip(model.models, calm.models)]
    assert len(fallen) == same.count(False) > 0 and True in same
    container.decode(container.pack(model))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_part_that_begins_anew_catches_up_alone(threads, monkeypatch):
    """Eight steps at most between two looks at Ctrl-C and the clock, whatever a part has to do again."""
    monkeypatch.setattr(mosaic, "AHEAD", 32)
    run, seen = MosaicRun(NOISE, CONFIG, (2, 2)), []
    with ThreadPoolExecutor(threads) as pool:
        workers = Workers(threads, pool if threads > 1 else None)
        run.train(workers)
        run.train(workers)
        with pytest.warns(UserWarning, match="diverged"):
            run.runs[1].restart()
        while run.step < CONFIG.steps:
            run.train(workers)
            seen.append([each.step for each in run.runs])
    assert seen == [[16, 8, 16, 16], [16] * 4, [24] * 4, [32] * 4, [40] * 4]


def test_an_error_in_one_part_stops_the_others(monkeypatch):
    run, train, failed = MosaicRun(NOISE, CONFIG, (2, 2)), Run.train, threading.Event()
    assert run.ahead == mosaic.AHEAD // 4 > 3

    def failing(each, workers):
        if each.step == 2 and each is run.by_work[0]:
            failed.set()
            raise EncodeError("no more")
        if each.step == 2:  # or the others might be done before it fails
            assert failed.wait(60)
        if failed.is_set():
            sleep(0.05)
        train(each, workers)

    monkeypatch.setattr(Run, "train", failing)
    with ThreadPoolExecutor(2) as pool, pytest.raises(EncodeError, match="no more"):
        run.train(Workers(2, pool))
    assert max(each.step for each in run.runs) < run.ahead and not run.whole


def test_parts_of_large_steps_take_few_of_them_before_they_meet(monkeypatch):
    monkeypatch.setattr(mosaic, "AHEAD_WORK", 1)
    assert MosaicRun(NOISE, CONFIG, (2, 2)).ahead == 1


def test_by_the_clock_all_parts_end_together(monkeypatch):
    clock = iter(np.arange(0, 1e6, 0.05)).__next__
    model = fit(NOISE, CONFIG.replace(seconds=20.0), clock=lambda: float(clock()), started=0.0)
    assert isinstance(model, Mosaic)
    assert 600 * 0.97 <= len(container.pack(model)) <= 600


def test_one_network_is_what_it_was():
    model = fit(NOISE, CONFIG.replace(parts="1"))
    assert isinstance(model, QuantModel) and container.pack(model)[4] == 1
    assert container.pack(fit(NOISE, CONFIG.replace(parts="auto"))) == container.pack(model)
    assert isinstance(run_for(NOISE, CONFIG.replace(parts="1")), Run)


def test_too_small_a_budget_is_named():
    with pytest.raises(EncodeError, match="90 bytes are too few for parts = 2x2: the smallest file is about "):
        fit(NOISE, CONFIG.replace(bytes=90))


def test_an_easy_part_gets_what_its_smallest_network_takes():
    assert at_least([10.0, 30.0, 60.0], [20, 10, 10]) == pytest.approx([20, 30 - 10 * 20 / 70, 60 - 10 * 50 / 70])
    assert at_least([10.0, 30.0], [10, 1]) == [10.0, 30.0]
    signal = Signal(picture(64, 96), "image", "u8")
    data = container.pack(fit(signal, CONFIG.replace(steps=20, bytes=400)))  # by its difficulty alone one of them would get 35 bytes
    assert 400 * 0.97 <= len(data) <= 400


def test_networks_of_parts_are_not_larger_in_all_than_decoders_take():
    signal = Signal(np.zeros((64, 64, 3), np.uint8), "image", "u8")
    long = {"steps": 1_000_000, "batch": 8192}
    for settings in ({"latents": 1_000_000}, {"bytes": 900_000}, {"latents": 1_000_000, **long}, {"bytes": 400_000, **long}, {"bytes": 900_000, **long}):
        configs = MosaicRun._configs(bare(signal, CONFIG.replace(**settings)), cut_out(signal, (2, 2)))
        weights = sum(plan(Signal(signal.samples[:32, :32], "image", "u8"), config).target.weights for config in configs)
        assert 0.9 * MAX_WEIGHTS < weights <= MAX_WEIGHTS
    for settings, what in (({"latents": 1_000, "width": 700, "depth": 2}, "4 networks of"), ({"bytes": 4_000_000}, "4 networks of")):
        with pytest.raises(EncodeError, match=what):
            MosaicRun._configs(bare(signal, CONFIG.replace(**settings)), cut_out(signal, (2, 2)))


@pytest.mark.parametrize(
    ("settings", "weights"),  # for each latent: 1.15 in short trainings
    [
        ({"steps": 1000, "batch": 4096}, 1.15),
        ({"steps": 3000, "batch": 4096}, 2.25),
        ({"steps": 4500, "batch": 4096}, 2.25 * (4500 * 4096 / (600 * 8 * 8000 / 4.7) / 1.9) ** 0.5),
        ({"steps": 4000, "batch": 4096, "bytes": 32000}, 1.15),
        ({"steps": 2500, "batch": 4096, "bytes": 0, "latents": 9000}, 2.25),
        ({"seconds": 10.0}, 1.15),
        ({"seconds": 20.0, "steps": 0}, 2.25),
        ({"seconds": 600.0, "steps": 0}, 3.0),
        ({"epochs": 20}, 1.15),
        ({"epochs": 5000}, 3.0),
        ({"steps": 100, "batch": 1 << 28}, 1.15),
        ({"steps": 1000, "generator": "plain", "width": 20, "depth": 3}, 1.15),
        ({"steps": 3000, "generator": "plain", "width": 20, "depth": 3}, 2.25),
    ],
)
def test_networks_of_parts_are_larger_in_long_trainings(settings, weights):
    signal = Signal(np.zeros((128, 128, 3), np.uint8), "image", "u8")
    config = Config(bytes=8000, parts="2x2").replace(**settings)
    configs = MosaicRun._configs(bare(signal, config), cut_out(signal, (2, 2)))
    long = weights > 2
    assert [each.weights_per_latent for each in configs] == pytest.approx([weights] * 4)
    assert {each.batch for each in configs} == {config.batch // 2 if long else config.batch}
    assert {each.sampling for each in configs} == {"auto" if long else "random"}
    own = config.replace(weights_per_latent=1.5, sampling="errors")
    configs = MosaicRun._configs(bare(signal, own), cut_out(signal, (2, 2)))
    assert {(each.weights_per_latent, each.batch, each.sampling) for each in configs} == {(1.5, config.batch, "errors")}


def test_networks_of_many_parts_are_no_larger_in_longer_trainings():
    signal = Signal(np.zeros((128, 192, 3), np.uint8), "image", "u8")
    config = Config(bytes=8000, seconds=600.0, steps=0)
    for parts, weights in (((2, 2), 3.0), ((2, 3), 2.25)):
        configs = MosaicRun._configs(bare(signal, config.replace(parts="2x2")), cut_out(signal, parts))
        assert [each.weights_per_latent for each in configs] == [weights] * len(configs)


def test_cells_in_parts_are_drawn_near_their_surface():
    signal = Signal(np.zeros((16, 16, 16, 1), np.uint8), "occupancy", "u1")
    config = CONFIG.replace(parts="1x2x2")
    (one, *_) = MosaicRun._configs(bare(signal, config), cut_out(signal, (1, 2, 2)))
    assert one.sampling == "auto"


def bare(signal: Signal, config: Config) -> MosaicRun:
    """A run without its networks."""
    run = MosaicRun.__new__(MosaicRun)
    run.signal, run.config, run.parts, run.budget = signal, config, (2, 2), budget_of(signal, config)
    return run


@pytest.mark.parametrize("settings", [{"width": 10, "depth": 2}, {}])
def test_plain_networks_in_parts_need_no_budget(settings):
    model = fit(NOISE, Config(steps=5, generator="plain", parts="2x2", threads=1, batch=32, **settings))
    assert [len(each.latent_codes) for each in model.models] == [each.target.weights for each in model.models]
    assert not settings or {(each.target.width, each.target.depth) for each in model.models} == {(10, 2)}
    container.decode(container.pack(model))


def test_no_checkpoint_while_threads_are_at_work(tmp_path):
    """After a second Ctrl-C between the steps of two parts."""

    class Interrupted(Workers):
        def run(self, work, count):
            super().run(work, count)
            raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        training = Training(NOISE, CONFIG, checkpoint=tmp_path / "state", started=0.0)
        with pytest.raises(KeyboardInterrupt):
            training.run.train(Interrupted(2, pool))
        training.save()
        assert not training.run.whole and not (tmp_path / "state").exists()
        training.run.train(Workers(2, pool))
        assert training.run.whole
