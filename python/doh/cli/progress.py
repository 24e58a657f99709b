"""Live progress of an encode on stderr: one line that is rewritten on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING

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

    with Live("starting ...", console=Console(stderr=True), transient=True, refresh_per_second=8) as live:
        yield lambda p: live.update(_row(p))


class PlainLines:
    """A line for the first report, for each new phase, and every PLAIN_SECONDS."""

    def __init__(self) -> None:
        self.due = 0.0
        self.phase = ""

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if p.phase != self.phase or now >= self.due:
            self.phase, self.due = p.phase, now + PLAIN_SECONDS
            print(describe(p), file=sys.stderr, flush=True)


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
