"""Several runs of one shape that take their steps together: what is the same work for all is done in one go."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import torch
from torch import Tensor

from doh.train.ademamix import AdEMAMix
from doh.train.engine import steps_for
from doh.train.gradient import backpropagate
from doh.train.group import GroupGradient
from doh.train.mosaic import MosaicRun
from doh.train.run import Run


def kin(run: Run | MosaicRun) -> Hashable:
    """Runs where this is equal fit into one stack: their grids may differ, their networks, settings and steps may not. One of several networks has no kin."""
    if isinstance(run, MosaicRun):
        return id(run)
    plan, config = run.plan, run.config
    schedule = run.steps, run.finish_from, run.step, run.share, run.pass_steps if config.schedule == "exponential" else 0
    return config, plan.target, plan.latents, plan.alpha, run.batch, schedule, run.restarts, run.quantisation is None, run.samples.dtype, run.device


class Stack:
    """Trains S runs in lockstep: one product for the projection of all latents, one launch for all gradients, and the optimiser's for all numbers.

    Latents, biases and output biases are rows of tensors (S, n), (S, depth, width) and (S, channels), which the runs' own are views of, and the optimiser's
    state is that of the runs, for each row by itself. So what a run does alone (its quantisation steps, its checkpoints, its end) it does as ever.
    With the compiled step and tied weights results are the very same as alone. With other steps they are so to rounding, as products of other sizes add up
    in other orders.

    Raises ValueError for runs that are not kin, RuntimeError and the like for what the device cannot do. Runs in a stack are trained by it alone.
    """

    def __init__(self, runs: Sequence[Run], threads: int = 1) -> None:
        if len({kin(run) for run in runs}) != 1:
            raise ValueError("runs of one network, of the same settings and at the same step go into a stack")
        self.runs, self.threads, self.projection = list(runs), threads, runs[0].projection
        for run in runs:
            if not run.optimiser.state:
                run.optimiser.start()
        self._stack()

    def train(self) -> list[tuple[Run, Exception]]:
        """One step for all. A run that fails leaves the stack, and is returned with its error: the others train on as if it had not been there."""
        failed: list[tuple[Run, Exception]] = []
        for run in self.runs:
            try:
                run.begin()
            except Exception as error:
                failed.append((run, error))
        self.leave([run for run, _ in failed])
        if not self.runs:
            return failed
        if any(run.quantisation is not known for run, known in zip(self.runs, self.quantisations)):
            self._settle()
        points, importance = self._draw()
        losses = backpropagate(self, self.rounding, lambda w, b, o: self.gradient(points, w, b, o, importance))
        for whole, rows in self.rows:
            assert whole.grad is not None
            for row, grad in zip(rows, whole.grad):
                row.grad = grad
            whole.grad = None
        for group, one in zip(self.optimiser.param_groups, self.runs[0].optimiser.param_groups):
            group.update({name: one[name] for name in ("lr", "betas", "alpha")})
        self.optimiser.step()
        for run in self.runs:
            run.hold()
        self.losses.lerp_(losses, max(0.02, 1 / (1 + self.runs[0].step)))
        for run in self.runs:
            run.step += 1
            run.whole = True
        return failed

    def leave(self, runs: Collection[object]) -> None:
        """Takes runs out of the stack."""
        if runs:
            self.runs = [run for run in self.runs if run not in runs]
            if self.runs:
                self._stack()

    def _stack(self) -> None:
        """All tensors of the runs that are there now."""
        runs, first = self.runs, self.runs[0]
        self.rows: list[tuple[Tensor, list[Tensor]]] = []
        self.latents, self.biases, self.output_bias = (self._rows(name) for name in ("latents", "biases", "output_bias"))
        self.losses = torch.stack([run.loss for run in runs])
        for run, loss in zip(runs, self.losses):
            run.loss = loss
        self.omegas = torch.stack([run.omegas for run in runs])
        groups = [dict(group) for group in first.optimiser.param_groups]
        for which, group in enumerate(groups):
            group["params"] = [p for run in runs for p in run.optimiser.param_groups[which]["params"]]
        self.optimiser = AdEMAMix(groups)
        for run in runs:
            self.optimiser.state.update(run.optimiser.state)  # the runs' own, which their checkpoints hold
        ranges = [(run.gradient.low, run.gradient.top) for run in runs]
        names = steps_for(first.config.engine, first.device, first.plan.target)
        self.gradient = GroupGradient(first.plan.target, [run.encoding for run in runs], [run.samples for run in runs], ranges, names, self.threads)
        self._find_twins()
        self._settle()

    def _rows(self, name: str) -> Tensor:
        """A leaf (S, ...) that holds the parameters of this name, which become views of it."""
        whole = torch.stack([getattr(run, name).detach() for run in self.runs]).requires_grad_()
        rows = [whole.detach()[i].requires_grad_() for i in range(len(self.runs))]
        for run, row in zip(self.runs, rows):
            old = getattr(run, name)
            setattr(run, name, row)
            run.optimiser.state[row] = run.optimiser.state.pop(old)
            for group in run.optimiser.param_groups:
                group["params"] = [row if p is old else p for p in group["params"]]
        self.rows.append((whole, rows))
        return whole

    def _settle(self) -> None:
        """The gains, scales and quantisation steps that the runs have now."""
        self.quantisations = [run.quantisation for run in self.runs]
        self.gain = torch.stack([run.gain for run in self.runs])
        self.worth, self.l1 = (_together([getattr(run, name) for run in self.runs]) for name in ("worth", "l1"))
        steps = [(q.latent, q.bias) for q in self.quantisations if q]
        latent, bias = torch.tensor(steps, device=self.gain.device).reshape(-1, 2).unbind(1)
        self.rounding = (None if self.runs[0].settling else latent[:, None], bias[:, None, None]) if steps else None

    # points: runs of one seed draw the same numbers for grids of one size, which it takes to draw once

    def _find_twins(self) -> None:
        """For each run the first that draws the same points from now on: often itself. They share its generator."""
        self.firsts: list[Run] = []
        for run in self.runs:
            twin = next((first for first in self.firsts if _draw_alike(first, run)), run)
            run.generator = twin.generator
            self.firsts.append(twin)

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        """Numbers of grid points, int64 (S, batch), and their importance, float32 (S, batch), where it is not 1 for all."""
        drawn: dict[Run, tuple[Tensor, Tensor | None]] = {}
        for run, first in zip(self.runs, self.firsts):
            if first is run:
                drawn[run] = run.draw()
            else:
                run.order = first.order
        points, importance = zip(*(drawn[first] for first in self.firsts))
        some = any(each is not None for each in importance)
        return torch.stack(points), torch.stack([torch.ones(p.shape) if i is None else i for p, i in zip(points, importance)]) if some else None


def _together(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [t for t in tensors if t is not None]
    return torch.stack(there) if there else None


def _draw_alike(a: Run, b: Run) -> bool:
    if a.points != b.points or a.sampler or b.sampler:
        return False
    return torch.equal(a.order, b.order) and torch.equal(a.generator.get_state(), b.generator.get_state())
