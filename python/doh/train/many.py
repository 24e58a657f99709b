"""Many trainings at the same time: on the CPU one for each core, on a GPU in stacks (doh.train.together)."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import torch

from doh.config import Config
from doh.train.engine import device_of
from doh.train.fit import Progress
from doh.train.gradient import Workers
from doh.train.interrupts import Terminated, interrupts_between_steps
from doh.train.projection import Projection
from doh.train.run import new_projection

T = TypeVar("T")

#: Seconds after which a Ctrl-C is noticed while nothing happens.
PATIENCE = 0.2


def forget_frames(error: BaseException) -> None:
    """Lets go of the variables that an error holds through its traceback: those of frames that have ended, and of their callers. Its lines stay.

    Else a signal that failed would stay in memory, with all of its training, for as long as its error does.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += [each.__cause__, each.__context__]
        traceback.clear_frames(each.__traceback__)
        frame = each.__traceback__.tb_frame if each.__traceback__ else None
        while frame := frame.f_back if frame else None:
            try:
                frame.clear()
            except RuntimeError:  # it is running, and so are its callers
                break


class Projections:
    """new_projection() for many runs: those with the same seed, number of latents and shapes share one, which is made once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.used: WeakValueDictionary[tuple[Any, ...], Projection] = WeakValueDictionary()
        self.latest: Projection | None = None  # kept for the next run, should no other hold it

    def __call__(self, *key: Any) -> Projection:
        with self.lock:
            found = self.used.get(key) or new_projection(*key)
            self.used[key] = self.latest = found
            return found


class Crew:
    """Shares cores among those at work: one for each, and to the first of them what is left over (the compiled step's threads serve one at a time).

    Results do not depend on the number of threads.
    """

    def __init__(self, cores: int, pool: ThreadPoolExecutor | None) -> None:
        self.cores, self.pool, self.lock = cores, pool, threading.Lock()
        self.working: list[Workers] = []

    def join(self) -> Workers:
        workers = Workers(1, self.pool)
        with self.lock:
            self.working.append(workers)
            self._share()
        return workers

    def leave(self, workers: Workers) -> None:
        with self.lock:
            self.working.remove(workers)
            workers.threads = 1
            self._share()

    def _share(self) -> None:
        for place, workers in enumerate(self.working):
            workers.threads = 1 if place else max(1, self.cores - len(self.working) + 1)


class Task:
    """What one of many works gets: its number, the `workers` to train on, `stop`, the `projection` of its run, and where to report."""

    def __init__(self, number: int, workers: Workers, stop: Callable[[], None], projection: Projections, report: Callable[[Progress], None]) -> None:
        self.number, self.workers, self.stop, self.projection, self.report = number, workers, stop, projection, report


Together = Callable[[list[Task], Callable[[int, T | Exception], None]], None]


class Many(Generic[T]):
    """Calls work(task) for the numbers 0 to count - 1, as many at a time as there are cores by config.threads, or one at a time on a GPU.

    together: instead of `work`, called once, in a thread of its own, with all tasks and the function that takes the number of each and its result.

    Threads are enough: nearly all of a step is compiled code without the interpreter's lock. Two signals of 4,500 latents on two cores took 3.15 s for
    what two processes did in 2.86 s (1,000 latents: 0.91 and 0.77 s), and a process would import torch, and make the projection, for itself.
    """

    def __init__(self, work: Callable[[Task], T], count: int, config: Config, together: Together[T] | None = None) -> None:
        self.work, self.count, self.together = work, count, together
        self.cores = config.cores if device_of(config.device).type == "cpu" else 1
        self.events: SimpleQueue[tuple[int, Any, bool]] = SimpleQueue()  # (number, Progress or result, whether it is the result)
        self.stopping = threading.Event()
        self.projections = Projections()
        self.failed: list[BaseException] = []

    def run(self, on_report: Callable[[int, Progress], None], on_result: Callable[[int, T | Exception], None]) -> None:
        """Returns when all have ended. Both functions are called in this thread; a result is what `work` returned or the Exception that it raised.

        After Ctrl-C no work begins, those at work stop between two steps (what is being finished is finished), then KeyboardInterrupt is raised. The
        same happens with an exception of on_report or on_result, after which neither is called again.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(1)

        def threads(count: int) -> ThreadPoolExecutor:
            return ThreadPoolExecutor(max(1, count), initializer=torch.set_num_threads, initargs=(1,))  # the number is a thread's own

        try:
            with threads(self.cores) as helpers, threads(min(self.cores, self.count)) as pool:
                crew = Crew(self.cores, helpers if self.cores > 1 else None)
                try:
                    if self.together and self.count:
                        pool.submit(self._all, self.together, crew)
                    else:
                        for number in range(self.count):
                            pool.submit(self._one, number, crew)
                    self._listen(on_report, on_result)
                finally:
                    self.stopping.set()  # before the pools wait for their threads
        finally:
            torch.set_num_threads(before)
            for error in self.failed:
                forget_frames(error)  # now that the threads have ended, those that led to the work too

    def _listen(self, on_report: Callable[[int, Progress], None], on_result: Callable[[int, T | Exception], None]) -> None:
        left = self.count
        interrupted: BaseException | None = None
        with interrupts_between_steps() as check_interrupt:
            while left:
                try:
                    if not interrupted:
                        check_interrupt()
                    number, what, ended = self.events.get(timeout=PATIENCE)
                except Empty:
                    continue
                except KeyboardInterrupt as error:
                    if interrupted:  # the second one
                        raise
                    interrupted = error
                    self.stopping.set()
                    continue
                left -= ended
                if not ended:
                    on_report(number, what)
                elif not isinstance(what, BaseException) or isinstance(what, Exception):
                    on_result(number, what)
                    if isinstance(what, Exception):  # which may have been raised there once more
                        forget_frames(what)
                        self.failed.append(what)
                else:
                    interrupted = interrupted or what
                    self.stopping.set()
        if interrupted:
            raise interrupted if isinstance(interrupted, Terminated) else KeyboardInterrupt

    def _one(self, number: int, crew: Crew) -> None:
        workers = crew.join()
        outcome: T | BaseException
        try:
            self._stop()
            outcome = self.work(self._task(number, workers))
        except BaseException as error:
            forget_frames(error)
            outcome = error
        crew.leave(workers)
        self.events.put((number, outcome, True))

    def _all(self, together: Together[T], crew: Crew) -> None:
        workers, left = crew.join(), set(range(self.count))

        def give(number: int, outcome: T | BaseException) -> None:
            if isinstance(outcome, BaseException):
                forget_frames(outcome)
            left.discard(number)
            self.events.put((number, outcome, True))

        try:
            together([self._task(number, workers) for number in range(self.count)], give)
            missing: BaseException = RuntimeError("nothing was made of this signal")
        except BaseException as error:
            missing = error
        crew.leave(workers)
        for number in sorted(left):
            give(number, missing)

    def _task(self, number: int, workers: Workers) -> Task:
        return Task(number, workers, self._stop, self.projections, lambda report: self.events.put((number, report, False)))

    def _stop(self) -> None:
        if self.stopping.is_set():
            raise KeyboardInterrupt
