"""The quantisation step of a run, set in its finish so that the file meets its budget; and what does so already, for an end that has no time to search."""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING

import torch

from doh.train.plan import FILL
from doh.train.quantise import wrap
from doh.train.trellis import BEGIN

if TYPE_CHECKING:
    from doh.train.run import Run

#: With a budget, the quantisation step is set anew so many times, evenly, in the first part of the finish; the share of the budget that is aimed at.
STEERINGS, STEER_UNTIL, STEER_AIM = 10, 0.7, 0.99
#: The same where latents settle after that.
SETTLE_STEERINGS, SETTLE_AIM = 3, 0.995
#: Bytes that a file of a few hundred may grow by after that; a smaller one has what FILL leaves.
SPARE_BYTES = 4


def steering_steps(run: Run, length: float) -> range:
    """The steps of a finish of this length, counted from its first one, before which the quantisation steps are set."""
    until = length * (BEGIN if run.quantiser.on_trellis else STEER_UNTIL) if run.plan.budget else 1
    steps = range(0, max(1, ceil(until)), max(1, int(until / max(1, run.steerings))))
    return steps if run.share is None else steps[: run.steerings]


def steers(run: Run) -> bool:
    """Whether the next step is one of them."""
    return run.step - run.finish_from in steering_steps(run, run.steps - run.finish_from)


def steerings_left(run: Run) -> int:
    """How many of them are to come, in a training that ends by the clock."""
    if run.rounding:
        return sum(since >= run.step - run.finish_from for since in steering_steps(run, run.steps - run.finish_from))
    return len(steering_steps(run, run.steps * run.finish)) if run.finish else 0


def steer(run: Run) -> None:
    """Sets the quantisation steps of a run in its finish, if it is time to. Raises EncodeError, Diverged."""
    if not steers(run):
        return
    run.check_finite()
    if run.step == run.finish_from:
        run.best_loss = inf  # rounding makes the loss larger, at once
        if run.quantiser.on_trellis:  # or little by little
            run.known_size = max(run.known_size, run.latents_size())
        with torch.no_grad():
            run.biases.copy_(wrap(run.biases * run.omegas) / run.omegas)
        run.settle_layers()
    step = run.preferred_step()
    if budget := run.plan.budget:
        aim = SETTLE_AIM if run.quantiser.on_trellis else STEER_AIM
        step = run.fitting_step(max(ceil(budget * FILL), min(int(budget * aim), budget - SPARE_BYTES)), step)
    run.quantise_at(step)
    if budget and run.share is not None:
        _keep(run)
    run.round_adaptively()


def fits(run: Run, step: float) -> bool:
    """Whether the file with this step meets the budget."""
    return run.plan.budget * FILL <= run.size(step) <= run.plan.budget


def keep_fitting(run: Run, else_forget: bool) -> bool:
    """Whether the file meets the budget as it is now, with the step that is set. If so what is trained is kept, else what was kept before may be forgotten."""
    found = run.quantisation is not None and fits(run, run.quantisation.latent)
    if found:
        _keep(run)
    elif else_forget:
        run.fitting = None
    return found


def _keep(run: Run) -> None:
    run.fitting = [t.detach().clone() for t in (run.latents, run.biases, run.output_bias)]


@torch.no_grad()
def back_to_fitting(run: Run) -> None:
    """To what was kept."""
    for now, kept in zip((run.latents, run.biases, run.output_bias), run.fitting or ()):
        now.copy_(kept)
