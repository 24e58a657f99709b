"""A training that ends by the clock: how its time is shared out between the steps and what has to be done after the last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

from doh.container import decode_unsealed, pack_unsealed
from doh.errors import EncodeError
from doh.metrics import psnr
from doh.model import TOP
from doh.train.mosaic import MosaicRun
from doh.train.result import STEP_FACTORS
from doh.train.run import Run
from doh.train.sampling import judged_rows

#: The end is measured on this share of the grid, or on so many points if that is more.
SAMPLE_SHARE, SAMPLE_POINTS = 1 / 16, 1 << 16
#: Files that the bisection for a budget makes, at most.
BISECTIONS = 20
#: Share of the time that measuring several quantisation steps may take; share that is left over, for writing the file and for surprises.
TRIAL_SHARE, MARGIN = 0.1, 0.02
#: What cannot be left out at the end takes so many times what was measured, at most: the codes are others by then.
CAUTION = 1.2


class Pace:
    """The clock of one training. `started` is when its time began, on `clock`; a resumed run goes on with what was left.

    The share that is over is that of the time, not of the steps, whose speed may change at any moment: so the schedule never jumps, and ends in time.
    Raises EncodeError where there is no time for a single step.
    """

    def __init__(self, run: Run | MosaicRun, started: float, clock: Callable[[], float]) -> None:
        self.run, self.clock, self.limit = run, clock, run.config.epochs * run.pass_steps or run.config.steps
        self.seconds = run.config.seconds
        self.origin = started - run.elapsed
        self.trial, self.trials, self.closing = self._measure()
        end = CAUTION * self.closing + self.trials * self.trial
        self.end = self.origin + self.seconds * (1 - MARGIN) - end
        self.before, self.restarts = run.share or 0.0, run.restarts
        self.began = self.last = clock()
        if not run.step and self.began >= self.end:
            used = self.began - self.origin
            raise EncodeError(f"{self.seconds:g} s are too few for this signal: {used:.1f} s went before the first step, {end:.1f} s go after the last one")

    def more(self) -> bool:
        """Whether there is time for another step; if so, the run is told where it stands."""
        run, now = self.run, self.clock()
        if run.restarts != self.restarts:
            self.before, self.restarts = 0.0, run.restarts
        if run.step <= 1 and not self.before:
            self.began = now  # the first step is slower, and says nothing of the others
        span, latest = self.end - self.began, now - self.last
        over = (now - self.began) / span if span > 0 else 1.0
        share = max(self.before + (1 - self.before) * over, run.step / self.limit if self.limit else 0.0, run.share or 0.0)
        if run.step and (share >= 1 or now + latest > self.end):
            return False
        self.last = now
        run.pace(min(share, 1.0))
        return True

    def another(self) -> bool:
        """Whether there is time to measure another quantisation step at the end."""
        return self.trials > 1 and self.clock() + self.trial + self.closing <= self.origin + self.seconds * (1 - MARGIN)

    def left(self) -> float:
        """Seconds until the file is to be there."""
        return max(0.0, self.origin + self.seconds - self.clock())

    def _measure(self) -> tuple[float, int, float]:
        """Seconds to make, decode and compare one file; how many to compare at the end; seconds for what follows in any case."""
        trial, last = map(sum, zip(*(self._measured(run) for run in self.run.runs)))
        if self.run.budget:
            return trial, 0, last
        trials = min(len(STEP_FACTORS), int(TRIAL_SHARE * self.seconds / trial)) if trial > 0 else len(STEP_FACTORS)
        return trial, trials if trials > 1 and self.run.config.step_rule == "rate" and not self.run.config.settles else 0, last

    def _measured(self, run: Run) -> tuple[float, float]:
        """The first and the last of these for one network."""
        clock = self.clock
        start, step = clock(), run.preferred_step()
        model = run.model(run.quantiser.steps(step))
        pack_unsealed(model)
        packed = clock()
        rows = ceil(model.shape[0] * min(1.0, max(SAMPLE_SHARE, SAMPLE_POINTS / run.points)))
        part = replace(model, shape=(rows, *model.shape[1:]))
        psnr(decode_unsealed(pack_unsealed(part), part, run.config.cores), run.signal.samples[:rows], TOP[run.signal.sample_type])
        row = (clock() - packed) / rows
        last = packed - start + row * model.shape[0]
        if run.budget:
            start = clock()
            run.size(step)
            last += BISECTIONS * (clock() - start)
        return packed - start + row * sum(part.stop - part.start for part in judged_rows(model.shape)), last
