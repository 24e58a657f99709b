"""Many trainings on a GPU: signals of one shape in stacks (doh.train.stack), stack after stack, the others one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar, cast

import torch

from doh.config import Config
from doh.errors import warn
from doh.train.engine import device_of
from doh.train.fit import Training
from doh.train.many import Task, forget_frames
from doh.train.mosaic import MosaicRun
from doh.train.run import Diverged, Run
from doh.train.stack import Stack, kin

T = TypeVar("T")
Member = tuple[Task, Training]
Give = Callable[[int, T | Exception], None]

#: Signals in a stack at most; outputs of sine layers that its step makes at most: 2 GiB of float32, and torch's step holds about three times as much.
STACK, STACK_OUTPUTS = 8, 1 << 29
#: Signals, and bytes of their samples and of the tables of their encodings, that are read ahead at most in search of some that go together.
AHEAD, AHEAD_BYTES = 32, 1 << 30


def in_stacks(config: Config) -> bool:
    """Whether signals with these settings train in stacks: on a GPU, where one alone leaves most of it idle.

    Not by the clock (`seconds`), as each signal has its time for itself there, nor with rounding = adaround, which moves latents by itself.
    Raises EncodeError for an unknown device.
    """
    return device_of(config.device).type == "cuda" and not config.seconds and config.rounding != "adaround"


def train_in_stacks(tasks: Iterable[Task], begin: Callable[[Task], Training], finish: Callable[[Task, Training], T], give: Give[T]) -> None:
    """Calls give(number, outcome) for each task: with what `finish` makes of it and its training once all steps are done, or the error that it ended with.

    begin: makes a task's training; called in the order of the tasks, somewhat before its steps begin.
    An error of one signal is no other's. Where the first step of a stack fails its signals are trained one by one, after a warning, or where memory is full
    in stacks of half the size; where a later one does, that is the error of all of them. When a task's stop() raises KeyboardInterrupt, those that are
    under way are saved between two steps before it is passed on.
    """
    waiting: dict[Hashable, list[Member]] = {}
    failures: list[Exception] = []

    def note(number: int, outcome: T | Exception) -> None:
        if isinstance(outcome, Exception):
            failures.append(outcome)
        give(number, outcome)

    def train(key: Hashable) -> None:
        _train(waiting.pop(key), finish, note)
        while failures:
            forget_frames(failures.pop())  # now that those which handed them on have ended

    for task in tasks:
        task.stop()
        try:
            try:
                training = begin(task)
            except torch.cuda.OutOfMemoryError:
                if not waiting:
                    raise
                while waiting:  # those that wait hold memory
                    train(next(iter(waiting)))
                training = begin(task)
        except Exception as error:
            give(task.number, error)
            continue
        key = kin(training.run)
        limit = most(training.run)
        waiting.setdefault(key, []).append((task, training))
        del training  # the stack alone holds it
        if len(waiting[key]) >= limit:
            train(key)
        elif _enough(waiting):
            train(next(iter(waiting)))  # those that have waited longest
    while waiting:
        train(next(iter(waiting)))


def most(run: Run | MosaicRun) -> int:
    """How many runs of this shape may go into a stack."""
    if isinstance(run, MosaicRun):
        return 1
    target = run.plan.target
    return max(1, min(STACK, STACK_OUTPUTS // (run.batch * target.width * target.depth)))


def _enough(waiting: dict[Hashable, list[Member]]) -> bool:
    runs = [training.run for members in waiting.values() for _, training in members]
    return len(runs) >= AHEAD or sum(map(_bytes, runs)) >= AHEAD_BYTES


def _bytes(run: Run | MosaicRun) -> int:
    """Of the samples, and of the tables of encodings, which may be far larger: those of a sound have a row for each sample."""
    return run.signal.samples.nbytes + sum(table.nbytes for each in run.runs for table in each.encoding.tables)


def _train(members: list[Member], finish: Callable[[Task, Training], T], give: Give[T]) -> None:
    """All steps and the end of runs that are kin. Takes them out of `members`."""
    again: list[list[tuple[Task, Callable[[], Training]]]] = []  # stacks, or signals alone, that begin anew

    def end(member: Member, outcome: T | Exception) -> None:
        members.remove(member)
        give(member[0].number, outcome)

    def leave(member: Member, failure: Exception) -> None:
        forget_frames(failure)  # one of them holds the stack
        if isinstance(failure, Diverged):  # alone it begins anew, and with smaller steps, which no stack would take with it, where it diverges there too
            members.remove(member)
            again.append([(member[0], member[1].anew)])
        else:
            end(member, failure)

    try:
        _steps(members, leave)
        while members:  # each is let go of before the next one
            members[0][0].stop()
            outcome: T | Exception
            try:
                outcome = finish(*members[0])
            except Exception as error:
                outcome = error
            end(members[0], outcome)
    except Exception as error:
        if len(members) > 1 and all(training.run.step == training.first_step for _, training in members):
            text = (str(error).strip().splitlines() or [""])[0]
            size = (len(members) + 1) // 2 if isinstance(error, torch.cuda.OutOfMemoryError) else 1
            how = "one by one" if size == 1 else f"{size} at a time"
            warn(f"{len(members)} signals cannot train together here, they go {how} ({type(error).__name__}: {text})")
            afresh: list[tuple[Task, Callable[[], Training]]] = [(task, training.anew) for task, training in members]
            again += [afresh[at : at + size] for at in range(0, len(afresh), size)]
            members.clear()  # and what they hold of the device's memory
        while members:
            end(members[0], error)
    except KeyboardInterrupt:
        for member in list(members):
            member[1].save()
        raise
    for group in again:
        for task, anew in group:
            task.stop()
            try:
                members.append((task, anew()))
            except Exception as error:
                give(task.number, error)
        if members:
            _train(members, finish, give)


def _steps(left: list[Member], end: Callable[[Member, Exception], None]) -> None:
    """All steps; calls `end`, which takes it out of `left`, for what fails, or has diverged when all are done."""
    clock, task, training = time.monotonic, *left[0]
    stack = Stack([cast(Run, training.run) for _, training in left], task.workers.threads) if len(left) > 1 else None
    now = clock()
    for _, each in left:
        each.begin(now)
    while left and (left[0][1].more() or not (stack or training.run.ends_well())):
        if stack:
            for run, failure in stack.train():
                end(next(member for member in left if member[1].run is run), failure)
        else:
            training.run.train(task.workers)
        task.stop()
        now = clock()
        for _, each in left:
            each.note(now)
    for member in list(left) if stack else ():
        try:
            cast(Run, member[1].run).judge_end()
        except Diverged as error:
            end(member, error)
