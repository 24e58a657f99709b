"""encode_many: the very files of encode, one projection for all, failures apart, and an end that loses nothing."""

from __future__ import annotations

import gc
import json
import signal
import sys
import threading
import traceback
import weakref

import numpy as np
import pytest

import doh
from doh import EncodeError

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402

from doh.config import Config  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train import many as many_module  # noqa: E402
from doh.train import together  # noqa: E402
from doh.train.many import Crew, Many, Projections  # noqa: E402
from doh.train.run import Run  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (10, 14, 3), np.uint8) for _ in range(5)]
QUICK = {"latents": 60, "steps": 25, "batch": 64, "device": "cpu"}


@pytest.fixture
def no_gc():
    """What refers to itself stays."""
    doh.encode(IMAGES[0], **QUICK)  # torch leaves some such things behind when it is first used
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_very_files_of_encode(threads, engine):
    others = [RNG.integers(0, 256, shape, np.uint8) for shape in ((9, 8), (90, 60, 1))]
    images = [*IMAGES[:2], *others]
    files = doh.encode_many(images, threads=threads, engine=engine, **(QUICK | {"batch": 5000}))
    assert files == [doh.encode(image, threads=1, engine=engine, **(QUICK | {"batch": 5000})) for image in images]


@pytest.mark.parametrize("changes", [{"latents": 0, "bytes": 250}, {"generator": "dense"}], ids=str)
def test_the_very_files_with_other_settings(changes):
    settings = QUICK | changes
    assert doh.encode_many(IMAGES[:3], **settings) == [doh.encode(image, **settings) for image in IMAGES[:3]]


def test_failures_stay_apart(tmp_path):
    def lost():
        raise RuntimeError("it is gone")

    sources = [IMAGES[0], tmp_path / "none.png", np.zeros(3), lost, lambda: IMAGES[1]]
    heard = {}
    results = doh.encode_many(sources, on_result=heard.__setitem__, **QUICK)
    assert results[0] == doh.encode(IMAGES[0], **QUICK) and results[4] == doh.encode(IMAGES[1], **QUICK)
    assert [type(r) for r in results[1:4]] == [doh.files.FileError, EncodeError, RuntimeError]
    assert [heard[i] for i in range(5)] == results


FULL = QUICK | {"latents": 0, "bytes": 300, "width": 6, "depth": 2, "frequencies": 2}  # a little more than 114 latents can use


@pytest.mark.parametrize("stacks", [False, True])
def test_signals_that_failed_leave_memory_while_the_others_train(stacks, monkeypatch, no_gc):
    runs, alive, noted, made = [], [], [], Run.__init__

    def making(run, *arguments):
        made(run, *arguments)
        runs.append(weakref.ref(run))

    def hear(number, result):
        mine = np.zeros(5)
        noted.append(weakref.ref(mine))
        alive.append(sum(run() is not None for run in runs))
        with pytest.raises(EncodeError, match="more than this network can use"):
            raise result

    monkeypatch.setattr(Run, "__init__", making)
    if stacks:
        monkeypatch.setattr(together, "in_stacks", lambda config: True)
        monkeypatch.setattr(together, "STACK", 2)
    results = doh.encode_many([lambda i=i: IMAGES[i].copy() for i in range(5)], threads=1, on_result=hear, **FULL)
    assert len(runs) == 5 and max(alive) <= (4 if stacks else 2)  # those that train, and those whose results were on their way
    assert not any(run() for run in runs) and not any(mine() is not None for mine in noted)
    assert [traceback.extract_tb(result.__traceback__)[-1].name for result in results] == ["finished"] * 5


def test_errors_let_go_of_variables_and_keep_their_lines(no_gc):
    held = []

    class Large:
        def __init__(self):
            held.append(weakref.ref(self))

    def first():
        mine = Large()
        raise KeyError(id(mine))

    def second():
        mine = Large()
        try:
            first()
        except KeyError as error:
            raise ValueError(id(mine)) from error

    def third():
        mine = Large()
        try:
            second()
        except ValueError as error:
            return error, id(mine)

    error = third()[0]
    assert [one() is not None for one in held] == [True] * 3
    many_module.forget_frames(error)
    assert not any(one() for one in held)
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["third", "second"]
    assert [frame.name for frame in traceback.extract_tb(error.__cause__.__traceback__)] == ["second", "first"]


def test_settings_are_those_of_encode(tmp_path):
    with pytest.raises(EncodeError, match=r"'widht'.*'width'"):
        doh.encode_many(IMAGES, widht=5)
    with pytest.raises(EncodeError, match="1 checkpoints for 5 signals"):
        doh.encode_many(IMAGES, checkpoints=[None], **QUICK)
    assert doh.encode_many([], **QUICK) == []
    assert doh.read_info(doh.encode_many(iter(IMAGES[:1]), width=5, depth=2, seed=9, **QUICK)[0]).seed == 9


def test_without_torch(monkeypatch):
    monkeypatch.delattr(doh, "train", raising=False)
    for name in [m for m in sys.modules if m.startswith("doh.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EncodeError, match=r"doh\[train\]"):
        doh.encode_many(IMAGES, **QUICK)


@pytest.mark.parametrize("threads", [1, 3])
def test_one_projection_for_all_of_a_size(threads, monkeypatch):
    made, kept = [], []

    def counted(*key, make=many_module.new_projection):
        made.append(key)
        kept.append(make(*key))  # or one that no run holds for a moment would rightly be made again
        return kept[-1]

    monkeypatch.setattr(many_module, "new_projection", counted)
    doh.encode_many([*IMAGES, IMAGES[0][:4, :4]], threads=threads, **QUICK)
    assert len(made) == 2 and made[0] != made[1]  # a smaller picture carries fewer frequencies


def test_projections_are_forgotten():
    shared = Projections()
    keys = [("tied", seed, 40, ((5, 6), (3, 5)), torch.device("cpu")) for seed in (1, 2)]
    first = shared(*keys[0])
    assert shared(*keys[0]) is first and shared(*keys[1]) is not first
    del first
    assert len(shared.used) == 1


def test_cores_are_shared():
    crew = Crew(4, None)
    alone = crew.join()
    assert alone.threads == 4
    others = [crew.join() for _ in range(2)]
    assert [w.threads for w in (alone, *others)] == [2, 1, 1]
    crew.leave(alone)
    assert [w.threads for w in others] == [3, 1]
    more = [crew.join() for _ in range(3)]
    assert [w.threads for w in (*others, *more)] == [1] * 5


def test_as_many_at_a_time_as_there_are_cores():
    barrier = threading.Barrier(3, timeout=20)
    at_work, most = set(), []

    def work(task):
        at_work.add(task.number)
        most.append(len(at_work))
        if task.number < 3:
            barrier.wait()  # breaks unless three are here together
        at_work.remove(task.number)
        return task.number * 10, torch.get_num_threads()

    results = {}
    before = torch.get_num_threads()
    Many(work, 7, Config(device="cpu", threads=3)).run(lambda number, report: None, results.__setitem__)
    assert results == {i: (i * 10, 1) for i in range(7)} and max(most) == 3
    assert torch.get_num_threads() == before


def test_reports_come_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(fit_module, "REPORT_SECONDS", 0)
    reports, threads = {}, set()

    def note(number, report):
        threads.add(threading.current_thread())
        reports.setdefault(number, []).append(report)

    doh.encode_many(IMAGES[:3], progress=note, on_result=lambda number, result: threads.add(threading.current_thread()), **QUICK)
    assert threads == {threading.current_thread()} and sorted(reports) == [0, 1, 2]
    assert all([r.step for r in of] == [*range(1, 26), 25] and of[-1].phase == "quantise" for of in reports.values())


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_saves_all_and_resumes_to_the_same_files(threads, tmp_path, monkeypatch):
    settings = QUICK | {"steps": 400, "threads": threads}
    checkpoints = [tmp_path / f"{i}.ckpt" for i in range(3)]
    wanted = doh.encode_many(IMAGES[:3], **settings)
    train, listen, together, many, results = Run.train, Many._listen, threading.Barrier(threads, timeout=20), [], {}

    def listening(self, *functions):
        many.append(self)
        listen(self, *functions)

    def stopping(run, workers):
        if run.step == 100:
            together.wait()
            signal.raise_signal(signal.SIGINT)
            assert many[0].stopping.wait(20)  # until the main thread has heard of it
        train(run, workers)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Many, "_listen", listening)
        patch.setattr(Run, "train", stopping)
        doh.encode_many(IMAGES[:3], checkpoints=checkpoints, on_result=results.__setitem__, **settings)
    assert results == {} and [c.exists() for c in checkpoints] == [True, threads == 2, False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    steps = []
    monkeypatch.setattr(fit_module, "REPORT_SECONDS", 0)
    resumed = doh.encode_many(IMAGES[:3], checkpoints=checkpoints, resume=True, progress=lambda i, p: steps.append((i, p.step)), **settings)
    assert resumed == wanted and {number: min(step for i, step in steps if i == number) for number in range(3)} == {0: 102, 1: 102 if threads == 2 else 1, 2: 1}


def test_what_a_callback_raises_stops_all(tmp_path):
    def full(number, result):
        raise OSError("disk full")

    checkpoints = [tmp_path / f"{i}.ckpt" for i in range(2)]
    sources = [IMAGES[0], RNG.integers(0, 256, (64, 64, 3), np.uint8)]  # one batch in a pass, and 30
    settings = QUICK | {"steps": 0, "epochs": 200, "batch": 140}
    with pytest.raises(OSError, match="disk full"):
        doh.encode_many(sources, checkpoints=checkpoints, on_result=full, threads=2, **settings)
    with safe_open(checkpoints[1], "pt") as file:
        assert json.loads(file.metadata()["doh"])["networks"][0]["step"] < 6000
    assert not checkpoints[0].exists()  # it was done
