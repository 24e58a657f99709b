"""Checkpoints: a resumed training ends at the very same bytes, and one of something else is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file  # noqa: E402

from doh import EncodeError, Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import pack  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train.fit import Run, fit  # noqa: E402

SIGNAL = Signal(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8), "image", "u8")
CONFIG = Config(steps=30, latents=90, batch=32, threads=1, checkpoint_seconds=0.0)


class Stop(Exception):
    pass


def interrupted(path, at: int, config: Config, monkeypatch, error: type[BaseException] = Stop) -> None:
    """A training that is stopped before step `at`."""
    train = Run.train

    def stopping(run, sum_gradient):
        if run.step == at:
            raise error
        train(run, sum_gradient)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", stopping)
        with pytest.raises(error):
            fit(SIGNAL, config, checkpoint=path)


@pytest.mark.parametrize(
    "changes",
    [{}, {"generator": "dense"}, {"sampling": "epochs"}, {"latents": 0, "bytes": 300}, {"schedule": "exponential", "latent_scale": "paper"}],
    ids=lambda c: "-".join(map(str, c.values())) or "plain",
)
@pytest.mark.parametrize("at", [1, 13, 27])
def test_resumed_training_ends_at_the_same_bytes(changes, at, tmp_path, monkeypatch):
    config = CONFIG.replace(**changes)
    path = tmp_path / "state.safetensors"
    interrupted(path, at, config, monkeypatch)
    reports = []
    monkeypatch.setattr(fit_module, "REPORT_SECONDS", 0)
    resumed = fit(SIGNAL, config, checkpoint=path, resume=True, progress=reports.append)
    assert reports[0].step == at + 1
    assert pack(resumed) == pack(fit(SIGNAL, config))


def test_keyboard_interrupt_saves_first(tmp_path, monkeypatch):
    config = CONFIG.replace(checkpoint_seconds=1e6)
    path = tmp_path / "state"
    interrupted(path, 20, config, monkeypatch, KeyboardInterrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert pack(fit(SIGNAL, config, checkpoint=path, resume=True)) == pack(fit(SIGNAL, config))


def test_without_resume_a_checkpoint_is_not_read(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"something else")
    fit(SIGNAL, CONFIG, checkpoint=path)
    assert load_file(path)["latents"].shape == (90,)


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
    for signal in (Signal(other, "image", "u8"), Signal(SIGNAL.samples, "array", "u8")):
        with pytest.raises(EncodeError, match="another signal"):
            fit(signal, CONFIG, checkpoint=path, resume=True)


def test_damage_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    good = path.read_bytes()
    for bad in (b"", good[:100], good[:-1], b"\0" * 200, good.replace(b'"latents"', b'"latentz"')):
        path.write_bytes(bad)
        with pytest.raises(EncodeError, match="checkpoint"):
            fit(SIGNAL, CONFIG, checkpoint=path, resume=True)
