"""What a training leaves: the model to be packed, at a quantisation step that fits the budget or, where there is none, serves the file best."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import TYPE_CHECKING

import numpy as np
import torch

from doh.container import decode_unsealed, pack_unsealed
from doh.errors import EncodeError
from doh.metrics import psnr
from doh.model import TOP, QuantModel
from doh.train.plan import FILL
from doh.train.sampling import judged_rows
from doh.train.steering import back_to_fitting, fits

if TYPE_CHECKING:
    from doh.train.run import Run

#: Without a budget these multiples of the step are tried; dB that a file of twice the size must bring to be worth it: about what more latents bring.
STEP_FACTORS, DB_PER_DOUBLING = (1.0, 0.84, 0.92, 1.09, 1.19), 2.5


def finished(run: Run, another: Callable[[], bool]) -> QuantModel:
    """The model to be packed: at the best step by measurement, or the one that fits the budget. Raises EncodeError when none does.

    another: whether there is time to measure another step.
    """
    run.check_finite()
    at_once = not run.quantisation
    if at_once:
        run.settle_layers()
    step = run.quantisation.latent if run.quantisation else run.preferred_step()
    budget = run.plan.budget
    met = not budget or fits(run, step)
    if not met and run.fitting:
        back_to_fitting(run)
    elif not met:
        step = run.fitting_step(budget, step)
        size = run.size(step)
        if size > budget:
            raise EncodeError(f"{budget} bytes are too few for this signal: the smallest file with this network is {size} bytes")
        if size < budget * FILL:
            advice = "give it a larger width, or none" if run.config.width else "ask for fewer"
            raise EncodeError(f"{budget} bytes are more than this network can use ({size} bytes): {advice}")
    if at_once and run.config.rounding == "adaround":
        return _rounded_adaptively(run, step)
    if not budget and run.config.step_rule == "rate" and not (run.settling and run.settling.count):
        step = best_step(run, step, another)
    return _model_at(run, step)


def _rounded_adaptively(run: Run, step: float) -> QuantModel:
    """The model with latents that adaround chose at this step. The run stays as it is: a checkpoint of rounded latents would end in another file."""
    latents, run.whole = run.latents.detach().clone(), False
    try:
        run.quantise_at(step)
        run.round_adaptively()
        return _model_at(run, step)
    finally:
        with torch.no_grad():
            run.latents.copy_(latents)
        run.quantisation, run.gain = None, run.projection.spread(run.quantiser.radians).to(run.device)
        run.whole = True


def _model_at(run: Run, step: float) -> QuantModel:
    return run.model(run.quantiser.steps(max(step, run.quantiser.finest(run.unit_latents))))


def best_step(run: Run, step: float, another: Callable[[], bool] = lambda: True) -> float:
    """Of some steps around `step` the one with the best file: decoded by the integer decoder, PSNR weighed against bytes (DB_PER_DOUBLING)."""
    parts = judged_rows(run.signal.shape)
    wanted = np.concatenate([run.signal.samples[rows] for rows in parts])

    def merit(candidate: float) -> float:
        model = run.model(run.quantiser.steps(candidate))
        data = pack_unsealed(model)
        decoded = np.concatenate([decode_unsealed(data, model, run.config.cores, rows) for rows in parts])
        return psnr(decoded, wanted, TOP[run.signal.sample_type]) - DB_PER_DOUBLING * log2(len(data))

    finest = run.quantiser.finest(run.unit_latents)
    return max((max(step * factor, finest) for factor in STEP_FACTORS if another()), key=merit, default=step)
