"""Checkpoints: a resumed training ends at the very same bytes, and one of something else is refused."""

from __future__ import annotations

import signal

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file  # noqa: E402

from doh import EncodeError, Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import pack  # noqa: E402
from doh.train import checkpoint, importance  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train.fit import fit  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.run import Run  # noqa: E402

SIGNAL = Signal(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8), "image", "u8")
CONFIG = Config(steps=30, latents=90, batch=32, threads=1, checkpoint_seconds=0.0)


class Stop(Exception):
    pass


def interrupted(path, at: int, config: Config, monkeypatch, error: type[BaseException] = Stop) -> None:
    """A training that is stopped before step `at`."""
    train = Run.train

    def stopping(run, workers):
        if run.step == at:
            raise error
        train(run, workers)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", stopping)
        with pytest.raises(error):
            fit(SIGNAL, config, checkpoint=path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"generator": "dense"},
        {"rounding": "nearest"},
        {"sampling": "epochs"},
        {"sampling": "random"},
        {"latents": 0, "bytes": 300},
        {"schedule": "exponential", "latent_scale": "paper", "lr_latents": 0.08},
    ],
    ids=lambda c: "-".join(map(str, c.values())) or "plain",
)
@pytest.mark.parametrize("at", [1, 13, 25, 27])
def test_resumed_training_ends_at_the_same_bytes(changes, at, tmp_path, monkeypatch):
    config = CONFIG.replace(**changes)
    path = tmp_path / "state.safetensors"
    for name, value in (("BLOCK_POINTS", 4), ("FIRST_MEASURED", 4), ("MEASURED_EVERY", 9)):  # before steps 4, 13 and 22
        monkeypatch.setattr(importance, name, value)
    interrupted(path, at, config, monkeypatch)
    reports = []
    monkeypatch.setattr(fit_module, "REPORT_SECONDS", 0)
    resumed = fit(SIGNAL, config, checkpoint=path, resume=True, progress=reports.append)
    assert reports[0].step == at + 1
    assert pack(resumed) == pack(fit(SIGNAL, config))


def test_a_training_that_began_anew_is_resumed_with_its_smaller_rates(tmp_path, monkeypatch):
    config = CONFIG.replace(steps=240, batch=100, depth=4, lr_latents=0.7, alpha=0)
    with pytest.warns(UserWarning, match="diverged"):
        whole = pack(fit(SIGNAL, config))
        interrupted(tmp_path / "state", 150, config, monkeypatch)
    assert pack(fit(SIGNAL, config, checkpoint=tmp_path / "state", resume=True)) == whole


def test_ctrl_c_waits_for_the_step_and_saves(tmp_path, monkeypatch):
    config = CONFIG.replace(checkpoint_seconds=1e6)
    path = tmp_path / "state"
    draw = Run.draw

    def drawing(run):
        if run.step == 20:
            signal.raise_signal(signal.SIGINT)
        return draw(run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "draw", drawing)
        fit(SIGNAL, config, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    resumed = Run(SIGNAL, config)
    checkpoint.load(resumed, path)
    assert resumed.step == 21
    assert pack(fit(SIGNAL, config, checkpoint=path, resume=True)) == pack(fit(SIGNAL, config))


def test_ctrl_c_at_the_very_end_saves_too(tmp_path, monkeypatch):
    config = CONFIG.replace(checkpoint_seconds=1e6)
    path = tmp_path / "state"

    def finishing(run, *arguments):
        signal.raise_signal(signal.SIGINT)
        return finished(run, *arguments)

    finished = Run.finished
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "finished", finishing)
        fit(SIGNAL, config, checkpoint=path)
    resumed = Run(SIGNAL, config)
    checkpoint.load(resumed, path)
    assert resumed.step == config.steps
    assert pack(fit(SIGNAL, config, checkpoint=path, resume=True)) == pack(fit(SIGNAL, config))


def test_a_caller_may_stop_a_training(tmp_path):
    run_until = iter([None] * 7 + [KeyboardInterrupt])

    def stop():
        if error := next(run_until):
            raise error

    with pytest.raises(KeyboardInterrupt):
        fit_module.Training(SIGNAL, CONFIG, checkpoint=tmp_path / "state", started=0.0).alone(Workers(1, None), stop)
    resumed = Run(SIGNAL, CONFIG)
    checkpoint.load(resumed, tmp_path / "state")
    assert resumed.step == 8


def test_another_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    with pytest.raises(EncodeError, match="checkpoint of another version of doh"):
        fit(SIGNAL, CONFIG, checkpoint=path, resume=True)


def test_an_interrupt_from_elsewhere_saves_only_whole_steps(tmp_path, monkeypatch):
    config = CONFIG.replace(checkpoint_seconds=1e6)
    interrupted(tmp_path / "whole", 20, config, monkeypatch, KeyboardInterrupt)
    assert (tmp_path / "whole").exists()

    def torn(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "draw", torn)
    with pytest.raises(KeyboardInterrupt):
        fit(SIGNAL, config, checkpoint=tmp_path / "torn")
    assert not (tmp_path / "torn").exists()


def test_without_resume_a_checkpoint_is_not_read(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"something else")
    fit(SIGNAL, CONFIG, checkpoint=path)
    assert load_file(path)["0.latents"].shape == (90,)


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    assert pack(fit(SIGNAL, CONFIG, checkpoint=tmp_path / "none", resume=True)) == pack(fit(SIGNAL, CONFIG))


def test_other_settings_are_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    for changes in ({"seed": 9}, {"lr_latents": 0.5}, {"bpp": 5.0}):
        with pytest.raises(EncodeError, match=f"with {'latents' if 'bpp' in changes else next(iter(changes))} = "):
            fit(SIGNAL, CONFIG.replace(**changes), checkpoint=path, resume=True)
    fit(SIGNAL, CONFIG.replace(threads=2, checkpoint_seconds=3.0), checkpoint=path, resume=True)


def test_another_signal_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    other = SIGNAL.samples.copy()
    other[0, 0, 0] ^= 1
    for another in (Signal(other, "image", "u8"), Signal(SIGNAL.samples, "array", "u8")):
        with pytest.raises(EncodeError, match="another signal"):
            fit(another, CONFIG, checkpoint=path, resume=True)


def test_damage_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    good = path.read_bytes()
    for bad in (b"", good[:100], good[:-1], b"\0" * 200, good.replace(b'"0.latents"', b'"0.latentz"')):
        path.write_bytes(bad)
        with pytest.raises(EncodeError, match="checkpoint"):
            fit(SIGNAL, CONFIG, checkpoint=path, resume=True)
