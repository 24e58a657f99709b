"""Checkpoints: a resumed training ends at the very same bytes, and one of something else is refused."""

from __future__ import annotations

import json
import signal

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import save as to_bytes  # noqa: E402
from training_cases import NOISE  # noqa: E402

import doh  # noqa: E402
from doh import EncodeError, Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import pack  # noqa: E402
from doh.train import checkpoint, importance  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train.fit import fit  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.run import Run  # noqa: E402

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
            fit(NOISE, config, checkpoint=path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"generator": "dense"},
        {"rounding": "nearest"},
        {"sampling": "epochs"},
        {"sampling": "random"},
        {"latents": 0, "bytes": 300},
        {"schedule": "exponential", "latent_scale": "paper", "lr_latents": 0.0008},
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
    resumed = fit(NOISE, config, checkpoint=path, resume=True, progress=reports.append)
    assert reports[0].step == at + 1
    assert pack(resumed) == pack(fit(NOISE, config))


def test_a_training_that_began_anew_is_resumed_with_its_smaller_rates(tmp_path, monkeypatch):
    config = CONFIG.replace(steps=240, batch=100, depth=4, lr_latents=0.7, alpha=0)
    with pytest.warns(UserWarning, match="diverged"):
        whole = pack(fit(NOISE, config))
        interrupted(tmp_path / "state", 150, config, monkeypatch)
    assert pack(fit(NOISE, config, checkpoint=tmp_path / "state", resume=True)) == whole


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
        fit(NOISE, config, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    resumed = Run(NOISE, config)
    checkpoint.load(resumed, path)
    assert resumed.step == 21
    assert pack(fit(NOISE, config, checkpoint=path, resume=True)) == pack(fit(NOISE, config))


def test_ctrl_c_at_the_very_end_saves_too(tmp_path, monkeypatch):
    config = CONFIG.replace(checkpoint_seconds=1e6)
    path = tmp_path / "state"

    def finishing(run, *arguments):
        signal.raise_signal(signal.SIGINT)
        return finished(run, *arguments)

    finished = Run.finished
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "finished", finishing)
        fit(NOISE, config, checkpoint=path)
    resumed = Run(NOISE, config)
    checkpoint.load(resumed, path)
    assert resumed.step == config.steps
    assert pack(fit(NOISE, config, checkpoint=path, resume=True)) == pack(fit(NOISE, config))


def test_a_caller_may_stop_a_training(tmp_path):
    run_until = iter([None] * 7 + [KeyboardInterrupt])

    def stop():
        if error := next(run_until):
            raise error

    with pytest.raises(KeyboardInterrupt):
        fit_module.Training(NOISE, CONFIG, checkpoint=tmp_path / "state", started=0.0).alone(Workers(1, None), stop)
    resumed = Run(NOISE, CONFIG)
    checkpoint.load(resumed, tmp_path / "state")
    assert resumed.step == 8


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VERSION", checkpoint.VERSION + 1, "checkpoint of another version of doh"),
        ("RELEASE", "0.0.9", "checkpoint of doh [0-9.]+, this is 0.0.9: go on"),
    ],
)
def test_another_version_is_refused(name, value, message, tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    monkeypatch.setattr(checkpoint, name, value)
    with pytest.raises(EncodeError, match=message):
        fit(NOISE, CONFIG, checkpoint=path, resume=True)


def test_a_checkpoint_says_which_doh_wrote_it(tmp_path, monkeypatch):
    interrupted(tmp_path / "state", 5, CONFIG, monkeypatch)
    with safe_open(tmp_path / "state", "pt") as file:
        assert json.loads(file.metadata()["doh"])["doh"] == doh.__version__


def test_an_interrupt_from_elsewhere_saves_only_whole_steps(tmp_path, monkeypatch):
    config = CONFIG.replace(checkpoint_seconds=1e6)
    interrupted(tmp_path / "whole", 20, config, monkeypatch, KeyboardInterrupt)
    assert (tmp_path / "whole").exists()

    def torn(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "draw", torn)
    with pytest.raises(KeyboardInterrupt):
        fit(NOISE, config, checkpoint=tmp_path / "torn")
    assert not (tmp_path / "torn").exists()


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    assert pack(fit(NOISE, CONFIG, checkpoint=tmp_path / "none", resume=True)) == pack(fit(NOISE, CONFIG))


def test_other_settings_are_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    for changes in ({"seed": 9}, {"lr_latents": 0.5}, {"bpp": 5.0}):
        with pytest.raises(EncodeError, match=f"with {'latents' if 'bpp' in changes else next(iter(changes))} = "):
            fit(NOISE, CONFIG.replace(**changes), checkpoint=path, resume=True)
    fit(NOISE, CONFIG.replace(threads=2, checkpoint_seconds=3.0), checkpoint=path, resume=True)


def test_another_signal_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    other = NOISE.samples.copy()
    other[0, 0, 0] ^= 1
    for another in (Signal(other, "image", "u8"), Signal(NOISE.samples, "array", "u8")):
        with pytest.raises(EncodeError, match="another signal"):
            fit(another, CONFIG, checkpoint=path, resume=True)


def test_damage_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 5, CONFIG, monkeypatch)
    good = path.read_bytes()
    for bad in (b"", good[:100], good[:-1], b"\0" * 200, good.replace(b'"0.latents"', b'"0.latentz"')):
        path.write_bytes(bad)
        with pytest.raises(EncodeError, match="checkpoint"):
            fit(NOISE, CONFIG, checkpoint=path, resume=True)


def test_every_flipped_bit_is_noticed(tmp_path, monkeypatch):
    """In the tensors, in the note, wherever: each is an EncodeError that names the file, and none another result."""
    path = tmp_path / "state"
    interrupted(path, 25, CONFIG, monkeypatch)
    good, run = path.read_bytes(), Run(NOISE, CONFIG)
    checkpoint.load(run, path)
    for place in range(0, len(good), 7):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(EncodeError, match=r"state is .*checkpoint"):
            checkpoint.load(run, path)


def test_damage_is_called_so(tmp_path, monkeypatch):
    """A key of the note, and a number."""
    path = tmp_path / "state"
    interrupted(path, 25, CONFIG, monkeypatch)
    good = path.read_bytes()
    numbers = bytearray(good)
    numbers[-20] ^= 4
    for bad in (good.replace(b"best_loss", b"best_lass"), bytes(numbers)):
        assert bad != good
        path.write_bytes(bad)
        with pytest.raises(EncodeError, match=r"state is a damaged checkpoint"):
            fit(NOISE, CONFIG, checkpoint=path, resume=True)


def test_a_note_that_lacks_something_is_damage_even_if_its_checksum_is_right(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted(path, 25, CONFIG, monkeypatch)
    monkeypatch.setattr(checkpoint, "_digest", lambda note, tensors: "of whatever it is")
    for change in (lambda note: note.pop("networks"), lambda note: note["networks"][0].pop("schedule"), lambda note: note.update(config=7)):
        with safe_open(path, "pt") as file:
            note, tensors = json.loads(file.metadata()["doh"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(note)
        (tmp_path / "bad").write_bytes(to_bytes(tensors, {"doh": json.dumps(note), "sha256": "of whatever it is"}))
        with pytest.raises(EncodeError, match="damaged checkpoint"):
            fit(NOISE, CONFIG, checkpoint=tmp_path / "bad", resume=True)
