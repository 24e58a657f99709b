"""A training that ends by the clock: how its time is shared out between the steps and what has to be done after the last one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from statistics import median

from doh.container import decode_unsealed, pack_unsealed
from doh.errors import EncodeError
from doh.metrics import psnr
from doh.model import TOP
from doh.train.mosaic import MosaicRun
from doh.train.result import STEP_FACTORS
from doh.train.run import Run
from doh.train.sampling import judged_rows
from doh.train.steering import keep_fitting, steerings_left, steers

#: The end is measured on this share of the grid, or on so many points if that is more.
SAMPLE_SHARE, SAMPLE_POINTS = 1 / 16, 1 << 16
#: Files that the bisection for a budget makes, at most.
BISECTIONS = 20
#: Share of the time that measuring several quantisation steps may take; share that is left over, for writing the file and for surprises.
TRIAL_SHARE, MARGIN = 0.1, 0.02
#: What cannot be left out takes so many times what was measured, at most: the codes are others by then.
CAUTION = 1.2
#: The next step takes as long as the median of so many: one that is slow by chance says nothing, two in a row do.
RECENT = 3
#: While there is no time left for a bisection, it is so often made sure that the end will not need one.
CHECKS = 3


class Pace:
    """The clock of one training. `started` is when its time began, on `clock`; a resumed run goes on with what was left.

    The share that is over is that of the time, not of the steps, whose speed may change at any moment: so the schedule never jumps, and ends in time.
    The time in which quantisation steps are set is not counted in it: that would be taken from the finish.
    Raises EncodeError where there is no time for a single step.
    """

    def __init__(self, run: Run | MosaicRun, started: float, clock: Callable[[], float]) -> None:
        self.run, self.clock, self.limit = run, clock, run.config.epochs * run.pass_steps or run.config.steps
        self.seconds = run.config.seconds
        self.origin = started - run.elapsed
        self.trial, self.trials, self.closing, bisection = self._measure()
        #: Seconds that the end takes if it has to look for the quantisation step that fits the budget; until when there may be steps if it has not.
        self.search = CAUTION * bisection
        self.end = self.origin + self.seconds * (1 - MARGIN) - CAUTION * self.closing - self.trials * self.trial
        self.before, self.restarts = run.share or 0.0, run.restarts
        self.began = clock()
        if not run.step and self.began >= self.end - self.search:
            used, end = self.began - self.origin, self.origin + self.seconds * (1 - MARGIN) - self.end + self.search
            raise EncodeError(f"{self.seconds:g} s are too few for this signal: {used:.1f} s went before the first step, {end:.1f} s go after the last one")
        self.latest: float | None = None  # when the step under way began
        self.recent: deque[float] = deque(maxlen=RECENT)  # seconds of steps
        self.steered = False  # whether the step under way is one before which the quantisation step is set
        self.check = 0.0  # when to make sure the next time
        self.steerings = run.runs[0].steerings  # how often it would be set if there were time enough
        self.steering = self._plan_finish()  # seconds of setting it once

    def _plan_finish(self) -> float:
        """Says how often the quantisation step is set in the finish, at most: in no more time than it would have for steps. Without enough for once there is
        no finish. Returns the seconds that it takes once, at most; parts of a signal share cores, more or less."""
        each, runs = self.search / CAUTION, self.run.runs
        if not each:
            return 0.0
        times = min(self.steerings, int(self.run.config.finish * (self.end - self.began) / each))
        for run in runs:
            run.steerings = max(1, times)
        if not times and not self.run.rounding:
            self.end, self.search = self.end - self.search, 0.0
            for run in runs:
                run.finish = 0.0
        return each

    def more(self) -> bool:
        """Whether there is time for another step; if so, the run is told where it stands."""
        run, now = self.run, self.clock()
        if run.restarts != self.restarts:
            self.before, self.restarts, self.began = 0.0, run.restarts, now
            self.steering = self._plan_finish()
        self._note(now)
        if run.step <= 1 and not self.before:
            self.began = now  # the first step is slower, and says nothing of the others
        span = self.end - max(map(steerings_left, run.runs)) * self.steering - self.began
        over = (now - self.began) / span if span > 0 else 1.0
        share = max(self.before + (1 - self.before) * over, run.step / self.limit if self.limit else 0.0, run.share or 0.0)
        if run.step and share >= 1:
            if self.search and now + self.search <= self.end:  # all steps are done before the time is over
                self._fits(else_forget=True)
            return False
        run.pace(min(share, 1.0))
        if run.step and not self._room(now):
            return False
        self.latest, self.steered = self.clock(), self._steers()
        return True

    def _note(self, now: float) -> None:
        """What the step took that has just ended, if there was one."""
        if self.latest is None:
            return
        if not self.steered:
            self.recent.append(now - self.latest)
            return
        self.steering = max(0.0, now - self.latest - self._step())
        self.began += self.steering

    def _step(self) -> float:
        """Seconds that a step takes, but for setting the quantisation step."""
        return median(self.recent) if self.recent else 0.0

    def _room(self, now: float) -> bool:
        """Whether there is time for a step and then for the end. After the last moment at which the end could look for a quantisation step, something has to
        be at hand that fits the budget."""
        until = now + self._step()
        if self._steers():
            if until + CAUTION * self.steering <= self.end:
                return True  # after which it fits
            for run in self.run.runs:
                run.steerings = 0  # none of those that are to come
        if until <= self.end - self.search or until > self.end or now < self.check:
            return until <= self.end
        in_time = now + self.search <= self.end
        fits = self._fits(else_forget=in_time)
        taken = self.clock() - now
        self.check = now + taken + max(self.search / CHECKS, taken)
        return until + taken <= self.end and (fits or (not in_time and all(run.fitting for run in self.run.runs)))

    def _steers(self) -> bool:
        """Whether the quantisation step is set before the next step."""
        return any(map(steers, self.run.runs))

    def _fits(self, else_forget: bool) -> bool:
        """keep_fitting() of all networks."""
        found = [keep_fitting(run, else_forget) for run in self.run.runs]
        return all(found)

    def another(self) -> bool:
        """Whether there is time to measure another quantisation step at the end."""
        return self.trials > 1 and self.clock() + self.trial + self.closing <= self.origin + self.seconds * (1 - MARGIN)

    def left(self) -> float:
        """Seconds until the file is to be there."""
        return max(0.0, self.origin + self.seconds - self.clock())

    def _measure(self) -> tuple[float, int, float, float]:
        """Seconds to make, decode and compare one file; how many to compare at the end; seconds for what follows in any case; those for a bisection."""
        trial, last, bisection = map(sum, zip(*(self._measured(run) for run in self.run.runs)))
        if self.run.budget:
            return trial, 0, last, bisection
        trials = min(len(STEP_FACTORS), int(TRIAL_SHARE * self.seconds / trial)) if trial > 0 else len(STEP_FACTORS)
        return trial, trials if trials > 1 and self.run.config.step_rule == "rate" and not self.run.config.settles else 0, last, 0.0

    def _measured(self, run: Run) -> tuple[float, float, float]:
        """The first, the third and the last of these for one network."""
        clock = self.clock
        start, step = clock(), run.preferred_step()
        model = run.model(run.quantiser.steps(step))
        pack_unsealed(model)
        packed = clock()
        rows = ceil(model.shape[0] * min(1.0, max(SAMPLE_SHARE, SAMPLE_POINTS / run.points)))
        part = replace(model, shape=(rows, *model.shape[1:]))
        psnr(decode_unsealed(pack_unsealed(part), part, run.config.cores), run.signal.samples[:rows], TOP[run.signal.sample_type])
        row = (clock() - packed) / rows
        last, bisection = packed - start + row * model.shape[0], 0.0
        if run.budget:
            start = clock()
            run.size(step)
            size = clock() - start
            last, bisection = last + 2 * size, BISECTIONS * size  # two: whether it fits, at the end and before it
        return packed - start + row * sum(part.stop - part.start for part in judged_rows(model.shape)), last, bisection
