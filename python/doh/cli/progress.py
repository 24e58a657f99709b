"""Live progress of an encode, or of many, on stderr: lines that are rewritten on a terminal, plain lines now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING

from doh.cli.report import show

if TYPE_CHECKING:
    from rich.table import Table

    from doh.train.fit import Progress

#: Seconds between two plain lines.
PLAIN_SECONDS = 15.0


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Gives the function that an encoder calls with each Progress; the line goes away at the end."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.live import Live

    phase = ""
    with Live("starting ...", console=Console(stderr=True), transient=True, refresh_per_second=8) as live:

        def show(p: Progress) -> None:
            nonlocal phase
            live.update(_row(p), refresh=p.phase != phase)  # a new phase is shown at once, however short it is
            phase = p.phase

        yield show


class PlainLines:
    """A line for the first report, for each new phase, and every PLAIN_SECONDS."""

    def __init__(self) -> None:
        self.due = 0.0
        self.phase = ""

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if p.phase != self.phase or now >= self.due:
            self.phase, self.due = p.phase, now + PLAIN_SECONDS
            show(describe(p), sys.stderr)


def describe(p: Progress) -> str:
    """One line: phase, step, PSNR of the network in training, rate, size, time left; what is not known yet is left out."""
    parts = [f"{p.phase} {p.step:,}/{p.steps:,}"]
    if isfinite(p.psnr):
        parts.append(f"{p.psnr:.2f} dB")
    if p.rate:
        parts.append(f"{p.rate:.0f} steps/s")
    if p.bytes:
        parts.append(f"about {p.bytes:,} bytes")
    if p.rate:
        parts.append(f"{clock(p.remaining_s)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:03:04."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _row(p: Progress) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=max(1, p.steps), completed=p.step, width=24), describe(p))
    return row


class Board:
    """Where many encodes stand. `names` are those of the inputs, by number."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.names, self.clock = names, clock
        self.started: float | None = None  # when the first training began
        self.active: dict[int, Progress] = {}  # in the order in which they began
        self.before: dict[int, float] = {}  # share that was done already in an earlier run
        self.done = self.failed = 0
        self.show: Callable[[bool], None] = lambda news: None  # news: one has begun or ended

    def report(self, number: int, p: Progress) -> None:
        if self.started is None:
            self.started = self.clock() - p.elapsed_s
        self.before.setdefault(number, _share(p) * (1 - p.rate * p.elapsed_s / max(1, p.step)))
        news = number not in self.active
        self.active[number] = p
        self.show(news)

    def end(self, number: int, failed: bool, earlier: bool = False) -> None:
        """earlier: it was done already, in an earlier run."""
        self.active.pop(number, None)
        if failed:
            self.failed += 1
            self.before.pop(number, None)
        else:
            self.done += 1
        if earlier:
            self.before[number] = 1.0
        self.show(True)

    def whole(self) -> str:
        """One line on all together: how many are done, time left if it can be told."""
        under_way = sum(_share(p) for p in self.active.values())
        worked = self.done + under_way - sum(self.before.values())
        parts = [f"{self.done} of {len(self.names)} done", *([f"{self.failed} failed"] if self.failed else [])]
        if worked > 0.01 and self.started is not None:
            left = len(self.names) - self.failed - self.done - under_way
            parts.append(f"{clock((self.clock() - self.started) * left / worked)} left")
        return ", ".join(parts)

    def lines(self) -> list[str]:
        """One line for each that is at work."""
        return [f"{self.names[number]}: {describe(p)}" for number, p in self.active.items()]


def _share(p: Progress) -> float:
    return p.step / max(1, p.steps)


@contextmanager
def show_board(names: Sequence[str]) -> Iterator[Board]:
    """A Board that shows itself, until the end. What is printed meanwhile appears above it."""
    board = Board(names)
    if not sys.stderr.isatty():
        due = 0.0

        def print_lines(_: bool) -> None:
            nonlocal due
            if board.clock() >= due:
                due = board.clock() + PLAIN_SECONDS
                show("\n".join([*board.lines(), board.whole()]), sys.stderr)

        board.show = print_lines
        yield board
        return
    from rich.console import Console
    from rich.live import Live

    # results are for stdout, which may be a file: only on the same terminal are they drawn by rich
    with Live("starting ...", console=Console(stderr=True), transient=True, refresh_per_second=8, redirect_stdout=sys.stdout.isatty()) as live:
        board.show = lambda news: live.update(_rows(board), refresh=news)  # news are shown at once, however soon the next comes
        yield board


def _rows(board: Board) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    rows = Table.grid(padding=(0, 1))
    rows.add_row(
        ProgressBar(total=max(1, len(board.names) - board.failed), completed=board.done + sum(map(_share, board.active.values())), width=24), board.whole()
    )
    for line, p in zip(board.lines(), board.active.values()):
        rows.add_row(ProgressBar(total=max(1, p.steps), completed=p.step, width=24), line)
    return rows
