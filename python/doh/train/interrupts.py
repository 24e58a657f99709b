"""Ctrl-C, and the other signals that ask a program to end, amid a training: they wait for the end of a step. No torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Signals that ask a program to end, as far as the system has them.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """What another signal than that of Ctrl-C raises where it is to end a program as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def terminate(number: int, frame: FrameType | None = None) -> None:
    """A handler of signals that raises Terminated."""
    raise Terminated(number)


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated meanwhile, unless the program that started this one (nohup) or this one has other plans for them."""
    ours = [number for number in _ENDING if _main() and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Holds KeyboardInterrupts of Ctrl-C and of terminate() back until the yielded function is called: amid a step the state is not one to resume from.
    A second signal is not held."""
    pending: int | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pending
        if pending is not None:
            before[number](number, frame)
        pending = number

    def check() -> None:
        if pending is not None:
            before[pending](pending, None)

    handlers = {number: signal.getsignal(number) for number in _ENDING} if _main() else {}
    before = {number: handler for number, handler in handlers.items() if handler in (signal.default_int_handler, terminate)}
    for number in before:
        signal.signal(number, note)
    try:
        yield check
        check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
