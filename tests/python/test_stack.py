"""Signals that train in one stack: each ends as alone, whatever the others are and whatever becomes of them, and its checkpoints serve both ways."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import doh
from doh import EncodeError

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from training_cases import step_of  # noqa: E402

from doh.config import Config  # noqa: E402
from doh.container import pack  # noqa: E402
from doh.train import fused, importance, together  # noqa: E402
from doh.train.fit import Training  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.many import Projections, Task  # noqa: E402
from doh.train.run import Diverged, Run  # noqa: E402
from doh.train.stack import Stack, kin  # noqa: E402

RNG = np.random.default_rng(3)
SHAPES = [(20, 30, 3), (30, 20, 3), (20, 30, 3), (25, 24, 3), (20, 30, 3)]
IMAGES = [RNG.integers(0, 256, shape, np.uint8) // (1 + i) for i, shape in enumerate(SHAPES)]
QUICK = {"latents": 70, "steps": 60, "batch": 100, "frequencies": 2, "finish": 0.3, "device": "cpu", "threads": 1}
needs_compiled = pytest.mark.skipif(not fused.available(), reason="built without the compiled step")


@pytest.fixture
def sizes(monkeypatch):
    """Trains in stacks on the CPU; gives the list of the stacks' sizes as they are made."""
    made = []

    class Counted(Stack):
        def __init__(self, runs, threads):
            made.append(len(runs))
            super().__init__(runs, threads)

    monkeypatch.setattr(together, "in_stacks", lambda config: True)
    monkeypatch.setattr(together, "Stack", Counted)
    return made


@pytest.fixture(autouse=True)
def errors_measured_early(monkeypatch):
    for name, value in (("BLOCK_POINTS", 9), ("FIRST_MEASURED", 7), ("MEASURED_EVERY", 12)):
        monkeypatch.setattr(importance, name, value)


def runs_of(images, **changes):
    config, projections = Config.from_preset("balanced").replace(**(QUICK | changes)), Projections()
    return [Run(doh.Signal(image, "image", "u8"), config, projections) for image in images]


def steps_alone(run, count):
    for _ in range(count):
        run.train(Workers(1, None))
    return run


OTHERS = [
    {},
    {"rounding": "nearest"},
    {"bytes": 400, "latents": 0},
    {"sampling": "epochs", "l1": 1e-4},
    {"sampling": "random"},
    {"batch": 600, "schedule": "exponential", "decay": 0.9},
    {"generator": "plain", "latents": 0, "width": 9, "depth": 3, "step_rule": "range", "latent_scale": "weights", "lr_latents": 0.003},
]


@needs_compiled
@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_each_file_is_the_one_of_the_signal_alone(changes, sizes):
    settings = QUICK | changes
    images = IMAGES if "bytes" not in changes else IMAGES[::2]  # the plan for a budget depends on the shape
    assert doh.encode_many(images, **settings) == [doh.encode(image, **settings) for image in images]
    assert sizes == [len(images)]


@pytest.mark.parametrize("changes", [{"engine": "eager"}, {"generator": "dense"}, {"generator": "dense", "rounding": "nearest"}], ids=str)
def test_with_other_steps_it_ends_as_alone_up_to_rounding(changes):
    count = 25
    changes = {"steps": 30, "finish": 0.4} | changes
    runs = runs_of(IMAGES[:3], **changes)
    stack = Stack(runs)
    for _ in range(count):
        assert stack.train() == []
    for run, image in zip(runs, IMAGES, strict=False):
        (alone,) = runs_of([image], **changes)
        start = alone.latents.detach().clone()
        steps_alone(alone, count)
        assert run.step == count and run.quantisation and float((alone.latents.detach() - start).norm()) > 1
        for name in ("latents", "biases", "output_bias", "loss"):
            torch.testing.assert_close(getattr(run, name), getattr(alone, name), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("changes", [{"engine": "eager"}, {"generator": "dense"}], ids=str)
def test_it_does_not_matter_which_the_others_are(changes):
    found = []
    for others in ([1, 2], [3, 4]):
        runs = runs_of([IMAGES[0], *(IMAGES[i] for i in others)], **changes)
        stack = Stack(runs)
        for _ in range(50):
            stack.train()
        found.append(runs[0])
    assert torch.equal(found[0].latents, found[1].latents) and torch.equal(found[0].biases, found[1].biases)


def test_rows_are_the_runs_own():
    runs = runs_of(IMAGES[:2])
    stack = Stack(runs)
    with torch.no_grad():
        runs[1].biases.fill_(2)
    assert torch.equal(stack.biases[1], torch.full_like(runs[0].biases, 2)) and not stack.biases[0].any()
    stack.train()
    assert all(torch.equal(stack.latents[i], run.latents) for i, run in enumerate(runs)) and not torch.equal(runs[0].latents, runs[1].latents)
    assert runs[0].optimiser.state[runs[0].latents]["step"] == 1 and len(runs[0].optimiser.state) == 3
    steps_alone(runs[0], 1)  # which its optimiser still knows how to do
    assert runs[0].optimiser.state[runs[0].latents]["step"] == 2


def test_points_for_grids_of_one_size_are_drawn_once(monkeypatch):
    drawn, draw = [], Run.draw
    monkeypatch.setattr(Run, "draw", lambda run: drawn.append(run) or draw(run))
    runs = runs_of(IMAGES, sampling="random")  # all have 600 points
    stack = Stack(runs)
    stack.train()
    stack.leave(runs[:1])
    stack.train()
    assert drawn == runs[:2]
    two = runs_of([IMAGES[0], IMAGES[0][:19]], steps=5, sampling="random")
    Stack(two).train()
    assert drawn[2:] == two
    del drawn[:]
    runs = runs_of(IMAGES)  # points for each where its errors are
    Stack(runs).train()
    assert drawn == runs


def test_runs_that_are_no_kin_are_refused():
    a, b = runs_of([IMAGES[0], IMAGES[0][..., :1]])
    with pytest.raises(ValueError, match="one network"):
        Stack([a, b])
    later = steps_alone(runs_of(IMAGES[:1])[0], 1)
    assert kin(a) != kin(later) and kin(a) == kin(runs_of([IMAGES[1]])[0])
    with pytest.raises(ValueError, match="at the same step"):
        Stack([a, later])
    deep = Run(doh.Signal(IMAGES[0].astype(np.uint16) * 257, "image", "u16"), a.config)  # what is stored is read in one launch for all
    assert kin(deep) != kin(a)
    grey = np.ascontiguousarray(IMAGES[0][..., :1])
    an_image, an_array = (Run(doh.Signal(grey, kind, "u8"), Config(**QUICK)) for kind in ("image", "array"))  # the optimiser's slow mean is for images
    assert an_image.plan.target == an_array.plan.target and kin(an_image) != kin(an_array)
    with pytest.raises(ValueError, match="one network"):
        Stack([a, deep])


# the way from signals to files


def in_stacks(images, checkpoints=None, resume=False, stop=lambda trainings: None, **changes):
    """train_in_stacks() with files or errors by number. stop: called with the trainings so far, wherever a task's stop() is."""
    config, projections, trainings, found = Config.from_preset("balanced").replace(**(QUICK | changes)), Projections(), [], {}

    def begin(task):
        checkpoint = checkpoints[task.number] if checkpoints else None
        signal = doh.Signal(images[task.number], "image", "u8")
        trainings.append(Training(signal, config, checkpoint=checkpoint, resume=resume, started=time.monotonic(), projection=projections))
        return trainings[-1]

    tasks = [Task(number, Workers(1, None), lambda: stop(trainings), projections, lambda report: None) for number in range(len(images))]
    together.train_in_stacks(tasks, begin, lambda task, training: pack(training.finish()), found.__setitem__)
    return found


@needs_compiled
@pytest.mark.parametrize("sick", [0, 1, 2])
def test_a_signal_that_goes_out_of_bounds_is_trained_once_more_alone(sick, sizes):
    def stop(trainings):
        if len(trainings) == 3 and trainings[0].run.step == 20:
            with torch.no_grad():
                trainings[sick].run.latents[3] = torch.nan

    found = in_stacks(IMAGES[:3], stop=stop)
    assert sizes == [3] and list(found)[-1] == sick
    assert found == {i: doh.encode(IMAGES[i], **QUICK) for i in range(3)}


@needs_compiled
def test_one_that_has_diverged_when_all_steps_are_done_is_trained_once_more_alone(sizes, monkeypatch):
    def judging(run, do=Run.judge):
        do(run)
        if run.step == 60 and run.signal.samples is IMAGES[1] and len(judged) < 2:
            judged.append(run)
            raise Diverged("wild")

    judged = []
    monkeypatch.setattr(Run, "judge", judging)
    with pytest.warns(UserWarning, match="diverged before step 60"):
        found = in_stacks(IMAGES[:3])
    assert sizes == [3] and list(found) == [0, 2, 1] and [run.restarts for run in judged] == [0, 1]
    assert {i: found[i] for i in (0, 2)} == {i: doh.encode(IMAGES[i], **QUICK) for i in (0, 2)}


@needs_compiled
def test_a_signal_that_diverges_ends_as_alone(sizes):
    wild = {"steps": 240, "batch": 300, "lr_latents": 2.0, "depth": 4}
    with pytest.warns(UserWarning, match="diverged"):
        alone = [doh.encode(image, **(QUICK | wild)) for image in IMAGES[:2]]
    with pytest.warns(UserWarning, match="diverged"):
        assert in_stacks(IMAGES[:2], **wild) == dict(enumerate(alone))
    assert sizes == [2]


@needs_compiled
@pytest.mark.parametrize("at", [1, 30, 50, 60])
def test_checkpoints_of_a_stack_serve_signals_alone(at, tmp_path):
    paths = [tmp_path / f"{i}.ckpt" for i in range(3)]

    def stop(trainings):
        if len(trainings) == 3 and trainings[0].run.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_stacks(IMAGES[:3], paths, stop=stop)
    assert [step_of(path) for path in paths] == [at] * 3
    for i, (image, path) in enumerate(zip(IMAGES, paths, strict=False)):
        assert doh.encode(image, checkpoint=path, resume=True, **QUICK) == doh.encode(image, **QUICK), i


@needs_compiled
def test_checkpoints_of_signals_alone_serve_a_stack(tmp_path, sizes):
    paths = [tmp_path / f"{i}.ckpt" for i in range(5)]
    for i, at in ((0, 50), (1, 50), (3, 17)):
        calls = iter([None] * (at - 1) + [KeyboardInterrupt])

        def stop(calls=calls):
            if error := next(calls):
                raise error

        with pytest.raises(KeyboardInterrupt):
            config = Config.from_preset("balanced").replace(**QUICK)
            Training(doh.Signal(IMAGES[i], "image", "u8"), config, checkpoint=paths[i], started=0.0).alone(Workers(1, None), stop)
    assert [step_of(paths[i]) for i in (0, 1, 3)] == [50, 50, 17]
    assert doh.encode_many(IMAGES, checkpoints=paths, resume=True, **QUICK) == [doh.encode(image, **QUICK) for image in IMAGES]
    assert sizes == [2, 2]  # 0 and 1, 2 and 4; 3 is alone at its step


@needs_compiled
def test_checkpoints_now_and_then_and_one_that_cannot_be_written(tmp_path):
    paths = [tmp_path / "0.ckpt", tmp_path / "none" / "1.ckpt", tmp_path / "2.ckpt"]
    found = in_stacks(IMAGES[:3], paths, checkpoint_seconds=0.0)
    assert isinstance(found[1], OSError)  # as its folder is not there
    assert [found[i] for i in (0, 2)] == [doh.encode(IMAGES[i], **QUICK) for i in (0, 2)]
    assert [step_of(paths[i]) for i in (0, 2)] == [60, 60]


@needs_compiled
def test_what_goes_together(sizes, monkeypatch):
    monkeypatch.setattr(together, "STACK", 2)
    grey = [image[..., :1] for image in IMAGES[:3]]
    mixed = [IMAGES[0], grey[0], np.zeros(3), IMAGES[1], IMAGES[2], grey[1], grey[2], lambda: IMAGES[3]]
    results = doh.encode_many(mixed, **QUICK)
    assert isinstance(results.pop(2), EncodeError)
    assert results == [doh.encode(image() if callable(image) else image, **QUICK) for i, image in enumerate(mixed) if i != 2]
    assert sizes == [2, 2, 2]  # the third grey one is alone


def test_reading_ahead_has_an_end(monkeypatch):
    begun, stacks = [], []
    monkeypatch.setattr(together, "_train", lambda members, finish, give: stacks.append(([task.number for task, _ in members], len(begun))))
    tasks = [Task(number, Workers(1, None), lambda: None, Projections(), lambda report: None) for number in range(7)]

    def begin(task):
        begun.append(task.number)
        run = runs_of([IMAGES[0][..., : 1 + 2 * (task.number % 3 == 1)]])[0]
        return type("Begun", (), {"run": run})

    def go(**limits):
        begun.clear()
        stacks.clear()
        with monkeypatch.context() as patch:
            for name, value in limits.items():
                patch.setattr(together, name, value)
            together.train_in_stacks(tasks, begin, None, None)
        return list(stacks)

    assert go() == [([0, 2, 3, 5, 6], 7), ([1, 4], 7)]
    assert go(STACK=3) == [([0, 2, 3], 4), ([1, 4], 7), ([5, 6], 7)]
    assert go(AHEAD=4) == [([0, 2, 3], 4), ([1, 4], 7), ([5, 6], 7)]
    assert go(AHEAD_BYTES=2400)[0] == ([0], 2)  # 600 and 1,800 bytes
    target = runs_of([IMAGES[0][..., :1]])[0].plan.target
    assert go(STACK_OUTPUTS=2 * 100 * target.width * target.depth)[0] == ([0, 2], 3)


@pytest.mark.parametrize("at", [0, 1])
def test_a_stack_that_cannot_take_a_step(at, monkeypatch):
    """At first its signals go one by one; later it is an error of all of them. Other stacks are not concerned."""
    grey = [image[..., :1] for image in IMAGES[:2]]
    train = Stack.train

    def full(stack):
        if len(stack.runs) == 3 and stack.runs[0].step == at:
            stack.runs[0].draw()
            raise RuntimeError("out of memory\nand more")
        return train(stack)

    monkeypatch.setattr(Stack, "train", full)
    wanted = {i: doh.encode(image, **QUICK) for i, image in enumerate([*IMAGES[:3], *grey])}
    with nullcontext() if at else pytest.warns(UserWarning, match=r"^3 signals cannot .* one by one \(RuntimeError: out of memory\)$"):
        found = in_stacks([*IMAGES[:3], *grey])
    if at:
        assert [str(found.pop(i)) for i in range(3)] == ["out of memory\nand more"] * 3
    assert found == {i: wanted[i] for i in found} and len(found) == 2 + 3 * (not at)


def test_a_stack_that_memory_does_not_hold(monkeypatch):
    """It is halved until it fits."""
    train, sizes = Stack.train, []

    def full(stack):
        if len(stack.runs) > 2:
            raise torch.cuda.OutOfMemoryError("full")
        sizes.append(len(stack.runs))
        return train(stack)

    monkeypatch.setattr(Stack, "train", full)
    images = [*IMAGES[:3], *IMAGES[:2]]
    wanted = [doh.encode(image, **QUICK) for image in IMAGES[:3]]
    with pytest.warns(UserWarning, match=r"signals cannot train together here, they go . at a time \(OutOfMemoryError: full\)$") as said:
        found = in_stacks(images)
    assert [str(each.message).split()[0] for each in said] == ["5", "3"] and set(sizes) == {2}
    assert [found[i] for i in range(5)] == [*wanted, *wanted[:2]]


def test_reports_and_an_exception_of_a_callback(sizes, tmp_path, monkeypatch):
    monkeypatch.setattr("doh.train.fit.REPORT_SECONDS", 0)
    paths = [tmp_path / f"{i}.ckpt" for i in range(3)]
    reports = {}

    def note(number, report):
        reports.setdefault(number, []).append((report.step, report.phase))
        if report.step == 30 and number == 2:
            raise OSError("no screen")

    doh.encode_many(IMAGES[:2], progress=note, **QUICK)
    assert set(reports) == {0, 1}
    for of in reports.values():
        assert [step for step, _ in of] == [*range(1, 61), 60] and [phase for _, phase in of[40:]] == ["fit", "fit", *["finish"] * 18, "quantise"]
    with pytest.raises(OSError, match="no screen"):
        doh.encode_many(IMAGES[:3], progress=note, checkpoints=paths, **(QUICK | {"steps": 100000}))
    assert len({step_of(path) for path in paths}) == 1 and step_of(paths[0]) >= 30


def test_where_there_are_stacks(monkeypatch):
    config = Config.from_preset("fast")
    assert not together.in_stacks(config.replace(device="cpu"))
    monkeypatch.setattr(together, "device_of", lambda name: torch.device("cuda"))
    assert together.in_stacks(config)
    assert not any(together.in_stacks(config.replace(**changes)) for changes in ({"seconds": 5.0}, {"rounding": "adaround"}))


def test_memory_that_signals_hold_while_they_wait(monkeypatch):
    """One that does not fit beside them begins after they have been trained; one that does not fit alone has failed."""
    given, begun = {}, []

    def train(members, finish, give):
        for task, _ in members:
            give(task.number, "trained")

    def begin(task):
        begun.append(task.number)
        if task.number == 3 or (task.number == 2 and 1 not in given):
            raise torch.cuda.OutOfMemoryError("full")
        return SimpleNamespace(run=None)

    for name, stand_in in {"_train": train, "kin": lambda run: "alike", "most": lambda run: 8, "_enough": lambda waiting: False}.items():
        monkeypatch.setattr(together, name, stand_in)
    tasks = [SimpleNamespace(number=number, stop=lambda: None) for number in range(4)]
    together.train_in_stacks(tasks, begin, lambda task, training: None, given.__setitem__)
    assert begun == [0, 1, 2, 2, 3, 3] and [given[number] for number in range(3)] == ["trained"] * 3
    assert isinstance(given[3], torch.cuda.OutOfMemoryError)
