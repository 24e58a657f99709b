"""What becomes of checkpoints: none is lost to another run, none is missing when the work is done but not yet written, and none that fails stops a training."""

from __future__ import annotations

import signal
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file  # noqa: E402
from training_cases import NOISE, step_of  # noqa: E402

import doh  # noqa: E402
from doh import container  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.errors import EncodeError  # noqa: E402
from doh.files import FileError, StateFile  # noqa: E402
from doh.train import checkpoint, many  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train.fit import fit  # noqa: E402
from doh.train.run import Run  # noqa: E402

CONFIG = Config(steps=30, latents=90, batch=32, threads=1, checkpoint_seconds=1e6)


def stopped(path, at: int, config: Config = CONFIG, **options) -> None:
    """A training with Ctrl-C before step `at`."""

    def train(run, workers, do=Run.train):
        if run.step == at:
            raise KeyboardInterrupt
        do(run, workers)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "train", train)
        doh.encode(NOISE, config=config, checkpoint=path, **options)


# a checkpoint of another run


def test_a_fresh_start_keeps_the_state_of_the_run_before(tmp_path):
    path = tmp_path / "state"
    stopped(path, 21)
    first = path.read_bytes()
    with pytest.warns(UserWarning, match=r"state was there already: as long as this run lasts it is .*state\.old; to go on from it, rename it back"):
        stopped(path, 3)
    assert step_of(path) == 3 and (tmp_path / "state.old").read_bytes() == first
    with pytest.warns(UserWarning, match=r"it is .*state\.old2;"):
        stopped(path, 5, CONFIG.replace(checkpoint_seconds=0.0))
    assert [step_of(tmp_path / name) for name in ("state.old", "state.old2", "state")] == [21, 3, 5]
    (tmp_path / "state.old").replace(path)
    assert doh.encode(NOISE, config=CONFIG, checkpoint=path, resume=True) == doh.encode(NOISE, config=CONFIG)


def test_a_file_of_something_else_is_not_lost_either(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"something else")
    with pytest.warns(UserWarning, match=r"state was there already, and is no checkpoint of doh: it is .*state\.old now"):
        fit(NOISE, CONFIG.replace(checkpoint_seconds=0.0), checkpoint=path)
    assert step_of(path) == 30 and (tmp_path / "state.old").read_bytes() == b"something else"


def test_what_a_run_wrote_itself_it_may_replace(tmp_path):
    path = tmp_path / "state"
    stopped(path, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped(path, 21, CONFIG.replace(checkpoint_seconds=0.0), resume=True)
        training = fit_module.Training(NOISE, CONFIG, checkpoint=tmp_path / "other", started=0.0)
        training.save()
        training.anew().save()
    assert step_of(path) == 21 and sorted(p.name for p in tmp_path.iterdir()) == ["other", "state"]


def test_no_state_is_touched_by_a_run_that_cannot_begin(tmp_path):
    path = tmp_path / "state"
    stopped(path, 21)
    before = path.read_bytes()
    for changes in ({"sampling": "surface"}, {"steps": 0, "seconds": 1e-6}):
        with pytest.raises(EncodeError):
            fit(NOISE, CONFIG.replace(**changes), checkpoint=path)
    with pytest.raises(EncodeError, match="checkpoint with seed"):
        fit(NOISE, CONFIG.replace(seed=3), checkpoint=path, resume=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["state"]


def test_many_keep_the_states_of_runs_before(tmp_path):
    paths = [tmp_path / f"{i}" for i in range(2)]
    stopped(paths[1], 21)
    before = paths[1].read_bytes()
    with pytest.warns(UserWarning, match=r"1 was there already"):
        doh.encode_many([NOISE, NOISE], checkpoints=paths, config=CONFIG.replace(checkpoint_seconds=0.0))
    assert [step_of(path) for path in paths] == [30, 30] and (tmp_path / "1.old").read_bytes() == before


def test_states_that_are_not_needed_any_more_are_removed(tmp_path):
    state = StateFile(tmp_path / "state")
    for path in (state.path, tmp_path / "state.old", tmp_path / "state.old3"):
        save_file({}, path, {"doh": "{}"})
    (tmp_path / "state.old2").write_bytes(b"something else")
    checkpoint.clear(state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state", "state.old2"]  # which is not of this run, and no checkpoint
    state.mine = True
    checkpoint.clear(state)
    assert [p.name for p in tmp_path.iterdir()] == ["state.old2"] and not state.mine


# a checkpoint that cannot be written


class FullDisk:
    """From some attempt on, checkpoints find no space."""

    def __init__(self, monkeypatch, attempts: range) -> None:
        self.attempts, self.count, self.save = attempts, 0, checkpoint.save
        monkeypatch.setattr(checkpoint, "save", self)

    def __call__(self, run, path) -> None:
        self.count += 1
        if self.count in self.attempts:
            raise FileError(f"cannot write {path}: No space left on device")
        self.save(run, path)


def test_a_checkpoint_that_cannot_be_written_ends_no_training(tmp_path, monkeypatch):
    disk = FullDisk(monkeypatch, range(4, 1000))
    config = CONFIG.replace(checkpoint_seconds=0.0)
    with pytest.warns(UserWarning) as told:
        data = container.pack(fit(NOISE, config, checkpoint=tmp_path / "state"))
    assert [str(w.message) for w in told] == [f"the state of the training is not saved: cannot write {tmp_path}/state: No space left on device"]
    assert disk.count == 30 and step_of(tmp_path / "state") == 3
    assert data == container.pack(fit(NOISE, config))


def test_it_is_said_again_after_one_that_could(tmp_path, monkeypatch):
    FullDisk(monkeypatch, range(2, 1000, 2))
    with pytest.warns(UserWarning) as told:
        fit(NOISE, CONFIG.replace(checkpoint_seconds=0.0), checkpoint=tmp_path / "state")
    assert len(told) == 15


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_ctrl_c_is_ctrl_c_where_no_state_can_be_saved(seconds, tmp_path, monkeypatch):
    FullDisk(monkeypatch, range(1000))
    with pytest.warns(UserWarning, match="the state of the training is not saved") as told:
        stopped(tmp_path / "state", 7, CONFIG.replace(checkpoint_seconds=seconds))
    assert len(told) == (2 if seconds == 0 else 1) and list(tmp_path.iterdir()) == []


def test_where_no_checkpoint_can_be_is_known_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "train", None)
    for encode in (lambda path: fit(NOISE, CONFIG, checkpoint=path), lambda path: doh.encode(NOISE, config=CONFIG, checkpoint=path)):
        with pytest.raises(FileError, match=r"the folder .*none does not exist"):
            encode(tmp_path / "none" / "state")
        with pytest.raises(FileError, match="it is a folder"):
            encode(tmp_path)
    (failed,) = doh.encode_many([NOISE], config=CONFIG, checkpoints=[tmp_path / "none" / "state"])
    assert isinstance(failed, FileError)


# after the last step


def failing(error: BaseException):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError("no space")], ids=repr)
@pytest.mark.parametrize("where", ["pack", "write"])
def test_work_that_is_done_is_not_lost_before_it_is_written(error, where, tmp_path, monkeypatch):
    path, wanted = tmp_path / "state", doh.encode(NOISE, config=CONFIG)
    fail = failing(error)
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        if where == "pack":
            patch.setattr(fit_module, "pack", fail)
        doh.encode(NOISE, config=CONFIG, checkpoint=path, write=fail)
    assert step_of(path) == 30
    written = []
    assert doh.encode(NOISE, config=CONFIG, checkpoint=path, resume=True, write=written.append) == wanted == written[0]


@pytest.mark.parametrize("where", ["pack", "write"])
def test_nor_is_that_of_one_of_many(where, tmp_path, monkeypatch):
    paths, fail = [tmp_path / f"{i}" for i in range(3)], failing(OSError("no space"))
    wanted, written = doh.encode(NOISE, config=CONFIG), {}

    def pack(model, threads, do=fit_module.pack):
        return fail() if len(written) == 1 else do(model, threads)

    def write(number, data):
        written[number] = data
        if where == "write" and number == 1:
            fail()

    with monkeypatch.context() as patch:
        if where == "pack":
            patch.setattr(fit_module, "pack", pack)
        results = doh.encode_many([NOISE] * 3, config=CONFIG, checkpoints=paths, write=write)
    assert results[0] == wanted and str(results[1]) == "no space" and step_of(paths[1]) == 30
    assert written[0] == wanted and not paths[0].exists()
    assert doh.encode_many([NOISE], config=CONFIG, checkpoints=paths[1:2], resume=True) == [wanted]


def test_a_second_ctrl_c_while_the_state_is_saved_is_still_one(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "save", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        doh.encode(NOISE, config=CONFIG, checkpoint=tmp_path / "state", write=failing(OSError()))
    assert list(tmp_path.iterdir()) == []


# other signals than Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_to_end_waits_for_the_step_as_ctrl_c_does(number, ignored, tmp_path):
    """Also where Ctrl-C is ignored, as it is in the background jobs of a script."""
    from doh.train.interrupts import Terminated, as_ctrl_c

    def draw(run, do=Run.draw):
        if run.step == 20:
            signal.raise_signal(number)
        return do(run)

    handler = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    outer = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Terminated) as ended, as_ctrl_c():
            patch.setattr(Run, "draw", draw)
            doh.encode(NOISE, config=CONFIG, checkpoint=tmp_path / "state")
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.signal(number, outer)
    assert ended.value.number == number and step_of(tmp_path / "state") == 21


def test_so_do_those_of_many(tmp_path, monkeypatch):
    from doh.train.interrupts import Terminated, as_ctrl_c

    held = []

    def listen(self, *functions, do=many.Many._listen):
        held.append(self)
        do(self, *functions)

    def train(run, workers, do=Run.train):
        if run.step == 20:
            signal.raise_signal(signal.SIGTERM)
            assert held[0].stopping.wait(20)
        do(run, workers)

    monkeypatch.setattr(many.Many, "_listen", listen)
    monkeypatch.setattr(Run, "train", train)
    with pytest.raises(Terminated), as_ctrl_c():
        doh.encode_many([NOISE], config=CONFIG, checkpoints=[tmp_path / "state"])
    assert step_of(tmp_path / "state") == 21


def test_signals_that_have_another_meaning_keep_it():
    """nohup has SIGHUP ignored; a program may have a handler of its own."""
    from doh.train.interrupts import as_ctrl_c, interrupts_between_steps

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        kept = signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)
        with as_ctrl_c(), interrupts_between_steps():
            assert (signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)) == kept
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGTERM), before):
            signal.signal(number, handler)
