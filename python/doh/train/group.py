"""Loss and gradients of several signals at once, each with a network of its own of one common shape: one batched step instead of one each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from doh.model import Target
from doh.train.engine import FirstThatRuns
from doh.train.fused import FusedGradient
from doh.train.graphs import Graphed
from doh.train.siren import Encoding, siren_gradient

Step = Callable[..., tuple[Tensor, list[Tensor]]]
Ranges = Sequence[tuple[float, float]]


class GroupGradient:
    """Mean squared errors of S signals, over a batch of grid points each, and their gradients.

    encodings: of each signal's grid; grids may differ in size. samples: each (points, channels) as stored, all of one type and device, and ranges: (low,
    top) for each, where (sample - low) / top is what the network is to give. steps: those to try, from doh.train.engine.steps_for. With "compiled" (CPU)
    signals are taken in turn and have just the results that they have alone; so they have with "triton"; with torch's steps they have them to rounding.

    The projections of doh.train.projection take stacked latents (S, n) too, if the signals share a seed:

        flat = projection.flat(latents) * gain                                    # (S, D), gain (D,) or (S, D)
        losses, gradients = group(points, flat.detach(), biases.detach(), output_bias.detach())
        torch.autograd.backward([flat, biases, output_bias], gradients)
    """

    def __init__(
        self,
        target: Target,
        encodings: Sequence[Encoding],
        samples: Sequence[Tensor],
        ranges: Ranges,
        steps: Sequence[str] = ("eager",),
        threads: int = 1,
    ) -> None:
        if not len(encodings) == len(samples) == len(ranges) > 0:
            raise ValueError(f"{len(encodings)} encodings, {len(samples)} arrays of samples and {len(ranges)} ranges: one of each for every signal")
        if len({(s.dtype, s.device) for s in samples}) > 1:
            raise ValueError("the signals of a group have samples of one type on one device")
        # the makers do not know this object: what refers to itself is freed late
        data = target, encodings, samples, ranges
        makers: dict[str, Callable[[], Step]] = {
            "compiled": partial(_compiled, *data, threads),
            "triton": partial(_triton, *data),
            "graph": partial(_graph, *data),
            "eager": lambda: partial(_eager, *data),
        }
        self.step = FirstThatRuns([(name, makers[name]) for name in steps])

    def __call__(self, points: Tensor, weights: Tensor, biases: Tensor, output_bias: Tensor, importance: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Losses (S,), and their gradients for weights (S, D), biases (S, depth, width) and output biases (S, channels), all float32.

        points: row-major numbers of grid points, int64 (S, batch); importance: what the squared errors of each count, float32 (S, batch), without it 1.
        A later call may overwrite what this one returns.
        """
        return self.step(points, weights, biases, output_bias, importance)


def _triton(target: Target, encodings: Sequence[Encoding], samples: Sequence[Tensor], ranges: Ranges) -> Step:
    from doh.train.triton_step import TritonGroup

    return TritonGroup(target, encodings, samples, ranges)


def _compiled(target: Target, encodings: Sequence[Encoding], samples: Sequence[Tensor], ranges: Ranges, threads: int) -> Step:
    alone = [FusedGradient(target, e, s, *r) for e, s, r in zip(encodings, samples, ranges)]

    def step(points: Tensor, weights: Tensor, biases: Tensor, output_bias: Tensor, importance: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        counts: Sequence[Tensor | None] = [None] * len(points) if importance is None else list(importance)
        results = [one(p, [w], b, o, threads, c) for one, p, w, b, o, c in zip(alone, points, weights, biases, output_bias, counts)]
        return torch.stack([loss for loss, _ in results]), [torch.stack(parts) for parts in zip(*(grads for _, grads in results))]

    return step


def _graph(target: Target, encodings: Sequence[Encoding], samples: Sequence[Tensor], ranges: Ranges) -> Step:
    graph, device = Graphed(partial(_eager, target, encodings, samples, ranges)), samples[0].device

    def step(points: Tensor, weights: Tensor, biases: Tensor, output_bias: Tensor, importance: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        counts = torch.ones(points.shape, device=device) if importance is None else importance
        return graph(points.to(device, non_blocking=True), weights, biases, output_bias, counts.to(device, non_blocking=True))

    return step


def _eager(
    target: Target,
    encodings: Sequence[Encoding],
    samples: Sequence[Tensor],
    ranges: Ranges,
    points: Tensor,
    weights: Tensor,
    biases: Tensor,
    output_bias: Tensor,
    importance: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    points = points.to(samples[0].device, non_blocking=True)
    importance = None if importance is None else importance.to(points.device, non_blocking=True)
    inputs = torch.stack([encoding(p) for encoding, p in zip(encodings, points)])
    wanted = torch.stack([(s[p].to(torch.float32) - low) / top for s, p, (low, top) in zip(samples, points, ranges)])
    parts = weights.split([prod(shape) for shape in target.layer_shapes], 1)
    matrices = [part.view(len(points), *shape) for part, shape in zip(parts, target.layer_shapes)]
    factor = 1 / (points.shape[1] * target.channels)
    losses, grads, bias_grad, output_grad = siren_gradient(inputs, wanted, matrices, biases, output_bias, factor, importance)
    return losses, [torch.cat([g.flatten(1) for g in grads], 1), bias_grad, output_grad]
