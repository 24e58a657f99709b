"""Training: one signal, one latent vector, Adam (the paper's section 3); the last part with rounded numbers, so that the file loses little."""

from __future__ import annotations

import signal as signals
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, log10
from pathlib import Path
from typing import Any

from doh.config import Config
from doh.model import QuantModel
from doh.signal import Signal
from doh.train import checkpoint as checkpoints
from doh.train.gradient import Workers, workers_for
from doh.train.pace import Pace
from doh.train.projection import Projection
from doh.train.run import Run, device_of, new_projection

#: Seconds between progress reports.
REPORT_SECONDS = 0.25


@dataclass(frozen=True)
class Progress:
    """A report of fit(), a few times a second."""

    step: int
    steps: int  # with a time budget as many as are to be expected
    phase: str  # "fit", "finish" (with rounded numbers) or "quantise"
    psnr: float  # dB, of recent batches; an estimate
    loss: float  # mean squared error of recent batches, on the scale [0, 1]
    rate: float  # steps a second
    elapsed_s: float
    remaining_s: float
    bytes: int  # the budget; 0 = none


def fit(
    signal: Signal,
    config: Config,
    *,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    started: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> QuantModel:
    """Fits a network to a signal and returns it quantised (samples_crc 0).

    With `checkpoint`, the state is saved there every config.checkpoint_seconds and on KeyboardInterrupt; with `resume`, training goes on from that
    file, if it exists, to the very same result. The result depends on the machine's floating point, not on the number of threads.
    With config.seconds it depends on the machine's speed too; that time began at `started` (now) by `clock`, in seconds.
    Raises EncodeError for a budget out of reach, a device that is not there, or a checkpoint of something else; OSError.
    """
    started = clock() if started is None else started
    with workers_for(device_of(config.device), config.threads) as workers:
        return train(signal, config, workers, progress=progress, checkpoint=checkpoint, resume=resume, started=started, clock=clock)


def train(
    signal: Signal,
    config: Config,
    workers: Workers,
    *,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    started: float,
    clock: Callable[[], float] = time.monotonic,
    stop: Callable[[], None] = lambda: None,
    projection: Callable[..., Projection] = new_projection,
) -> QuantModel:
    """fit() on workers that are there already. `stop` is called between steps and may raise KeyboardInterrupt; `projection` is Run's."""
    run = Run(signal, config, projection)
    if checkpoint and resume and Path(checkpoint).exists():
        checkpoints.load(run, Path(checkpoint))
    pace = Pace(run, started, clock) if config.seconds else None
    first_step, begun, before = run.step, clock(), run.elapsed
    reported = saved = begun

    def more() -> bool:
        return pace.more() if pace else run.step < run.steps

    def save() -> None:
        if checkpoint and run.whole:
            run.elapsed = before + clock() - started
            checkpoints.save(run, Path(checkpoint))

    def report(phase: str) -> None:
        if progress:
            elapsed, loss = clock() - begun, run.loss.item()
            rate = (run.step - first_step) / elapsed if elapsed else 0.0
            steps = run.steps if run.share is None else round(run.step / run.share) if run.share else run.step + 1
            left = pace.left() if pace else (run.steps - run.step) / rate if rate else 0.0
            psnr = -10 * log10(loss) if loss > 0 else inf
            progress(Progress(run.step, max(steps, run.step), phase, psnr, loss, rate, elapsed, left, run.plan.budget))

    with interrupts_between_steps() as check_interrupt:
        try:
            while more():
                run.train(workers)
                check_interrupt()
                stop()
                now = clock()
                if now - reported >= REPORT_SECONDS:
                    if pace:
                        run.loss.item()  # on a GPU: waits until what was queued is done, as the clock does not
                    report("finish" if run.quantisation else "fit")
                    reported = now
                if checkpoint and now - saved >= config.checkpoint_seconds:
                    save()
                    saved = now
            report("quantise")
            model = run.finished(pace.another) if pace else run.finished()
            check_interrupt()
            return model
        except KeyboardInterrupt:
            save()
            raise


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Holds Ctrl-C back until the yielded function is called: amid a step the state is not one to resume from. A second Ctrl-C is not held."""
    pending = False

    def note(*_: Any) -> None:
        nonlocal pending
        if pending:
            raise KeyboardInterrupt
        pending = True

    def check() -> None:
        if pending:
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread() and signals.getsignal(signals.SIGINT) is signals.default_int_handler
    if ours:
        signals.signal(signals.SIGINT, note)
    try:
        yield check
        check()
    finally:
        if ours:
            signals.signal(signals.SIGINT, signals.default_int_handler)
