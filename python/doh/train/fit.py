"""Training: one signal, one latent vector, steps of the optimiser (the paper's section 3); in the last part numbers are rounded, so that files lose little."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, log10
from os import PathLike

import torch

from doh.config import Config
from doh.container import pack
from doh.errors import EncodeError, warn
from doh.files import StateFile, check_target
from doh.model import Mosaic, QuantModel
from doh.signal import Signal
from doh.train import checkpoint as checkpoints
from doh.train.engine import device_of
from doh.train.gradient import Workers, workers_for
from doh.train.interrupts import interrupts_between_steps
from doh.train.mosaic import MosaicRun, run_for
from doh.train.pace import Pace
from doh.train.projection import Projection
from doh.train.run import Run, Start, new_projection

#: Seconds between progress reports.
REPORT_SECONDS = 0.25


@dataclass(frozen=True)
class Progress:
    """A report of fit(), a few times a second."""

    step: int
    steps: int  # with a time budget as many as are to be expected
    phase: str  # "fit", "finish" (while numbers are rounded) or "quantise"
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
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    started: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    start: Start | None = None,
) -> QuantModel | Mosaic:
    """Fits a network to a signal, or one to each of its parts (setting `parts`), and returns it quantised (samples_crc 0).

    With `checkpoint`, the state is saved there every config.checkpoint_seconds and on KeyboardInterrupt; with `resume`, training goes on from that
    file, if it exists, to the very same result. Without `resume` a file that lies there is renamed, with a warning (doh.files.StateFile). A state that
    cannot be saved is a warning, too. The result depends on the machine's floating point, not on the number of threads.
    With config.seconds it depends on the machine's speed too; that time began at `started` (now) by `clock`, in seconds.
    start: the latents and biases to begin at, instead of the seed's; one network then.
    Raises EncodeError for a budget out of reach, a device that is not there, no steps at all, or a checkpoint of something else; OSError, also where
    `checkpoint` is bound to be no file that can be written.
    """
    started = clock() if started is None else started
    with workers_for(device_of(config.device), config.threads) as workers:
        training = Training(signal, config, progress=progress, checkpoint=checkpoint, resume=resume, started=started, clock=clock, start=start)
        return training.alone(workers)


def warm_up(run: Run) -> None:
    """One gradient that is thrown away: on a GPU the first one compiles its kernels, which may take seconds. Nothing that is trained changes."""
    points = torch.zeros(run.batch, dtype=torch.int64)
    importance = torch.ones(run.batch) if run.sampler else None
    with torch.no_grad():
        weights = run.projection.split(run.projection.flat(run.unit_latents) * run.gain)
        loss, _ = run.gradient(points, weights, run.biases * run.omegas, run.output_bias, Workers(1, None), importance)
    loss.item()


class Training:
    """A run with its clock, its checkpoint and its reports. The arguments are those of fit(), and so are the errors; `projection` is Run's.

    name: what warnings call the signal; without one they do not name it.
    """

    def __init__(
        self,
        signal: Signal,
        config: Config,
        *,
        progress: Callable[[Progress], None] | None = None,
        checkpoint: str | PathLike[str] | None = None,
        resume: bool = False,
        started: float,
        clock: Callable[[], float] = time.monotonic,
        projection: Callable[..., Projection] = new_projection,
        start: Start | None = None,
        name: str = "",
    ) -> None:
        if not (config.steps or config.epochs or config.seconds):
            raise EncodeError("steps = 0 would train nothing: give steps, epochs or seconds")
        state = StateFile.at(checkpoint) if checkpoint is not None else None
        if state:
            check_target(state)
        #: Makes the same training once more, from its beginning.
        self.anew = partial(Training, signal, config, progress=progress, checkpoint=state, resume=resume, started=started, clock=clock)
        self.anew = partial(self.anew, projection=projection, start=start, name=name)
        self.progress, self.checkpoint, self.started, self.clock = progress, state, started, clock
        self.run: Run | MosaicRun = run_for(signal, config, projection, start)
        self.run.call(name)
        if state and resume and state.path.exists():
            checkpoints.load(self.run, state.path)
            state.mine = True
        if config.seconds and device_of(config.device).type == "cuda":
            for run in self.run.runs:
                warm_up(run)  # before the time that is left is shared out
        self.pace = Pace(self.run, started, clock) if config.seconds else None
        if state and (aside := state.make_room()):
            if checkpoints.is_checkpoint(aside):
                warn(f"{state} was there already: as long as this run lasts it is {aside}; to go on from it, rename it back and resume")
            else:
                warn(f"{state} was there already, and is no checkpoint of doh: it is {aside} now")
        self.first_step, self.before = self.run.step, self.run.elapsed
        self.unsaved = False  # whether the last attempt to write the checkpoint failed
        self.begin(clock())

    def begin(self, now: float) -> None:
        """From this moment on the time of the steps, of reports and of checkpoints is counted."""
        self.begun = self.reported = self.saved = now
        self.restarts = self.run.restarts

    def more(self) -> bool:
        """Whether there is another step to take."""
        return self.pace.more() if self.pace else self.run.step < self.run.steps

    def note(self, now: float) -> None:
        """After a step: reports and saves, if it is time to."""
        if self.run.restarts != self.restarts:
            self.first_step, self.begun, self.restarts = 0, now, self.run.restarts
        if now - self.reported >= REPORT_SECONDS:
            if self.pace:
                self.run.loss.item()  # on a GPU: waits until what was queued is done, as the clock does not
            self.report("finish" if self.run.rounding else "fit")
            self.reported = now
        if self.checkpoint and now - self.saved >= self.run.config.checkpoint_seconds:
            self.save(last=False)
            self.saved = now

    def finish(self) -> QuantModel | Mosaic:
        """After the last step: the model to be packed. Raises EncodeError."""
        self.report("quantise")
        return self.run.finished(self.pace.another) if self.pace else self.run.finished()

    def save(self, last: bool = True) -> None:
        """Writes the checkpoint, if there is to be one, and if the run is not amid a step. Where it cannot be written a warning says so; of several
        attempts that fail one after another, not the last, only that for the first."""
        if not self.checkpoint or not self.run.whole:
            return
        self.run.elapsed = self.before + self.clock() - self.started
        try:
            checkpoints.save(self.run, self.checkpoint.path)
            self.checkpoint.mine, self.unsaved = True, False
        except OSError as error:
            if last or not self.unsaved:
                warn(f"the state of the training is not saved: {error}")
            self.unsaved = True

    def file(self, model: QuantModel | Mosaic, threads: int, write: Callable[[bytes], object] | None = None) -> bytes:
        """The file of the model that finish() gave, once `write` has put it where it is to be. Whatever goes wrong, the state is saved before it is
        passed on: an interrupt, a full disk."""
        try:
            data = pack(model, threads)
            if write:
                write(data)
            return data
        except BaseException:
            self.save()
            raise

    def report(self, phase: str) -> None:
        if not self.progress:
            return
        run, elapsed, loss = self.run, self.clock() - self.begun, self.run.loss.item()
        rate = (run.step - self.first_step) / elapsed if elapsed else 0.0
        steps = run.steps if run.share is None else round(run.step / run.share) if run.share else run.step + 1
        left = self.pace.left() if self.pace else (run.steps - run.step) / rate if rate else 0.0
        psnr = -10 * log10(loss) if loss > 0 else inf
        self.progress(Progress(run.step, max(steps, run.step), phase, psnr, loss, rate, elapsed, left, run.budget))

    def alone(self, workers: Workers, stop: Callable[[], None] = lambda: None) -> QuantModel | Mosaic:
        """All steps and the end. `stop` is called between steps and may raise KeyboardInterrupt; the state is saved before that is passed on."""
        with interrupts_between_steps() as check_interrupt:
            try:
                while self.more() or not self.run.ends_well():
                    self.run.train(workers)
                    check_interrupt()
                    stop()
                    self.note(self.clock())
                model = self.finish()
                check_interrupt()
                return model
            except KeyboardInterrupt:
                self.save()
                raise
