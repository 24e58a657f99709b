"""The training step as Triton kernels: what `siren` and its gradients give, for S signals that share one network, in one launch (docs/training-speed.md).

A program takes one signal and every `parts`-th tile of its batch. It keeps the sines and cosines of a tile in memory of its own, and adds gradients to a
sum of its own; a second kernel adds these sums up in a fixed order. Nothing is atomic, so that results depend neither on the GPU nor on the other signals.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
# Kernels are Triton's language, which has no types that mypy knows.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from doh.model import Target
from doh.train.engine import TRITON_WIDTH
from doh.train.siren import Encoding

#: Programs, and so sums, of one signal at most: part of what a result is, so the same for every GPU.
PARTS = 128
#: Terms that one product adds up, and rows of a weight gradient: the least that every Triton multiplies in one go, so that odd widths waste little.
BLOCK = 16


@triton.jit
def _accumulate(pointers, values, mask, later):
    """Adds to a program's own sums; the first tile (not `later`) finds no numbers there yet."""
    if later:
        values += tl.load(pointers, mask=mask, other=0.0)
    tl.store(pointers, values, mask=mask)


@triton.jit
def _grid_step(
    points, tables, grids, samples, starts, ranges, weights, biases, output_bias, scratch, sums, importance, batch, depth, factor,
    DIMS: tl.constexpr, ENCODED: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr,
    E: tl.constexpr, W: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr, WEIGHED: tl.constexpr,
):  # fmt: skip
    """ENCODED inputs come from each of DIMS dimensions; E, W and C are powers of two that ENCODED, WIDTH and CHANNELS are padded to.

    What lies in the padding is masked wherever it is read: its weights, sines and cosines count as 0, so that no gradient comes from there.
    """
    part, parts, signal = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    INPUTS: tl.constexpr = DIMS * ENCODED
    PLANE: tl.constexpr = ROWS * WIDTH
    hidden = WIDTH * INPUTS  # where the second layer's weights begin
    last = hidden + (depth - 1) * WIDTH * WIDTH
    count = last + CHANNELS * WIDTH
    every = count + depth * WIDTH + CHANNELS + 1
    weights += signal * count
    biases += signal * depth * WIDTH
    output_bias += signal * CHANNELS
    sums += (signal * parts + part) * every
    sines = scratch + (signal * parts + part) * 2 * depth * PLANE
    cosines = sines + depth * PLANE  # which gradients of phases replace
    start, low, top = tl.load(starts + signal), tl.load(ranges + signal * 2), tl.load(ranges + signal * 2 + 1)

    rows, units, terms, channels, encoded = tl.arange(0, ROWS), tl.arange(0, W), tl.arange(0, STEP), tl.arange(0, C), tl.arange(0, E)
    is_unit, is_channel = (units < WIDTH)[None, :], (channels < CHANNELS)[None, :]
    at = rows[:, None] * WIDTH + units[None, :]

    squares = tl.zeros((ROWS, C), tl.float32)
    for tile in range(part, tl.cdiv(batch, ROWS), parts):
        later = tile > part
        live = tile * ROWS + rows < batch
        point = tl.load(points + signal * batch + tile * ROWS + rows, mask=live, other=0)

        # layer 0: rows of the tables are its inputs
        phase = tl.zeros((ROWS, W), tl.float32)
        rest = point
        for dim in tl.static_range(DIMS - 1, -1, -1):
            grid = grids + (signal * DIMS + dim) * 2
            table = tables + tl.load(grid + 1) + rest % tl.load(grid) * ENCODED
            rest = rest // tl.load(grid)
            for begin in range(0, ENCODED, STEP):
                k = begin + terms
                x = tl.load(table[:, None] + k[None, :], mask=(k < ENCODED)[None, :], other=0.0)
                w = tl.load(weights + units[None, :] * INPUTS + (dim * ENCODED + k)[:, None], mask=(k < ENCODED)[:, None] & is_unit, other=0.0)
                phase = tl.dot(x, w, phase, input_precision=PRECISION)
        phase += tl.load(biases + units[None, :], mask=is_unit, other=0.0)
        tl.store(sines + at, tl.sin(phase), mask=is_unit)
        tl.store(cosines + at, tl.cos(phase), mask=is_unit)
        tl.debug_barrier()  # here and below: threads read what others of this program have written

        for layer in range(1, depth):
            matrix = weights + hidden + (layer - 1) * WIDTH * WIDTH
            phase = tl.zeros((ROWS, W), tl.float32)
            for begin in range(0, WIDTH, STEP):
                k = begin + terms
                x = tl.load(sines + (layer - 1) * PLANE + rows[:, None] * WIDTH + k[None, :], mask=(k < WIDTH)[None, :], other=0.0)
                w = tl.load(matrix + units[None, :] * WIDTH + k[:, None], mask=(k < WIDTH)[:, None] & is_unit, other=0.0)
                phase = tl.dot(x, w, phase, input_precision=PRECISION)
            phase += tl.load(biases + layer * WIDTH + units[None, :], mask=is_unit, other=0.0)
            tl.store(sines + layer * PLANE + at, tl.sin(phase), mask=is_unit)
            tl.store(cosines + layer * PLANE + at, tl.cos(phase), mask=is_unit)
            tl.debug_barrier()

        # output layer and error
        h = tl.load(sines + (depth - 1) * PLANE + at, mask=is_unit, other=0.0)
        outputs = tl.zeros((ROWS, C), tl.float32)
        for begin in range(0, WIDTH, STEP):
            k = begin + terms
            x = tl.load(sines + (depth - 1) * PLANE + rows[:, None] * WIDTH + k[None, :], mask=(k < WIDTH)[None, :], other=0.0)
            w = tl.load(weights + last + channels[None, :] * WIDTH + k[:, None], mask=(k < WIDTH)[:, None] & is_channel, other=0.0)
            outputs = tl.dot(x, w, outputs, input_precision=PRECISION)
        counts = live[:, None] & is_channel
        outputs += tl.load(output_bias + channels[None, :], mask=is_channel, other=0.0)
        wanted = (tl.load(samples + start + point[:, None] * CHANNELS + channels[None, :], mask=counts, other=0).to(tl.float32) - low) / top
        error = tl.where(counts, outputs - wanted, 0.0)
        counted = error
        if WEIGHED:
            counted *= tl.load(importance + signal * batch + tile * ROWS + rows, mask=live, other=0.0)[:, None]
        squares += error * counted
        slope = counted * (2 * factor)
        bias_sums = sums + count
        _accumulate(bias_sums + depth * WIDTH + channels, tl.sum(slope, 0), channels < CHANNELS, later)
        output_at = last + channels[:, None] * WIDTH + units[None, :]
        is_output = (channels < CHANNELS)[:, None] & is_unit
        _accumulate(sums + output_at, tl.dot(tl.trans(slope), h, input_precision=PRECISION), is_output, later)
        gradient = tl.dot(slope, tl.load(weights + output_at, mask=is_output, other=0.0), input_precision=PRECISION)

        # backwards; `gradient` is that of a layer's sines
        for reverse in range(1, depth):
            layer = depth - reverse
            phases = cosines + layer * PLANE
            gradient *= tl.load(phases + at, mask=is_unit, other=0.0)
            tl.debug_barrier()
            tl.store(phases + at, gradient, mask=is_unit)
            tl.debug_barrier()
            _accumulate(bias_sums + layer * WIDTH + units, tl.sum(gradient, 0), units < WIDTH, later)
            h = tl.load(sines + (layer - 1) * PLANE + at, mask=is_unit, other=0.0)
            offset = hidden + (layer - 1) * WIDTH * WIDTH
            gradient = tl.zeros((ROWS, W), tl.float32)
            for begin in range(0, WIDTH, STEP):
                k = begin + terms
                g = tl.load(phases + rows[:, None] * WIDTH + k[None, :], mask=(k < WIDTH)[None, :], other=0.0)
                matrix_at = offset + k[:, None] * WIDTH + units[None, :]
                is_weight = (k < WIDTH)[:, None] & is_unit
                _accumulate(sums + matrix_at, tl.dot(tl.trans(g), h, input_precision=PRECISION), is_weight, later)
                w = tl.load(weights + matrix_at, mask=is_weight, other=0.0)
                gradient = tl.dot(g, w, gradient, input_precision=PRECISION)

        gradient *= tl.load(cosines + at, mask=is_unit, other=0.0)
        tl.debug_barrier()
        tl.store(cosines + at, gradient, mask=is_unit)
        tl.debug_barrier()
        _accumulate(bias_sums + units, tl.sum(gradient, 0), units < WIDTH, later)
        rest = point
        for dim in tl.static_range(DIMS - 1, -1, -1):
            grid = grids + (signal * DIMS + dim) * 2
            table = tables + tl.load(grid + 1) + rest % tl.load(grid) * ENCODED
            rest = rest // tl.load(grid)
            inputs = tl.load(table[:, None] + encoded[None, :], mask=(encoded < ENCODED)[None, :], other=0.0)
            for begin in range(0, WIDTH, STEP):
                k = begin + terms
                g = tl.load(cosines + rows[:, None] * WIDTH + k[None, :], mask=(k < WIDTH)[None, :], other=0.0)
                input_at = k[:, None] * INPUTS + dim * ENCODED + encoded[None, :]
                is_input = (k < WIDTH)[:, None] & (encoded < ENCODED)[None, :]
                _accumulate(sums + input_at, tl.dot(tl.trans(g), inputs, input_precision=PRECISION), is_input, later)
        tl.debug_barrier()  # before the next tile's sines
    tl.store(sums + every - 1, tl.sum(tl.sum(squares, 1), 0) * factor)


@triton.jit
def _add_parts(sums, total, parts, every, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """total (S, every) = the sum over the parts of sums (S, parts, every), in an order that depends on their number only."""
    signal = tl.program_id(1).to(tl.int64)
    rows, columns = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    sums += signal * parts * every
    result = tl.zeros((COLUMNS,), sums.dtype.element_ty)
    for begin in range(0, parts, ROWS):
        part = begin + rows
        found = tl.load(sums + part[:, None].to(tl.int64) * every + columns[None, :], mask=(part < parts)[:, None] & (columns < every)[None, :], other=0.0)
        result += tl.sum(found, 0)
    tl.store(total + signal * every + columns, result, mask=columns < every)


def add_parts(sums: Tensor) -> Tensor:
    """The sum over the second dimension of (S, parts, numbers), float32 or float64, in a fixed order."""
    signals, parts, every = sums.shape
    total = sums.new_empty(signals, every)
    with torch.cuda.device_of(sums):
        _add_parts[(triton.cdiv(every, 128), signals)](sums, total, parts, every, ROWS=16, COLUMNS=128, num_warps=4, enable_fp_fusion=True)
    return total


def padded(number: int) -> int:
    """The least power of two that is no smaller, and no smaller than what Triton multiplies."""
    return max(BLOCK, int(triton.next_power_of_2(number)))


def tile(target: Target) -> int:
    """Samples that a program works on at a time; fewer where a layer of 64 would not fit into the registers. Part of what a result is."""
    return 64 if target.width <= 128 else 32


def warps(target: Target) -> int:
    """Warps of a program: so many that what a thread holds of a layer fits into its registers, as far as can be."""
    return {16: 4, 32: 4, 64: 8}.get(padded(target.width), 16)


def settings(target: Target, precision: str, weighed: bool = False) -> dict[str, Any]:
    """What a network's kernel is compiled with; `weighed`: whether points differ in importance."""
    encoded = target.inputs // target.dims
    sizes = {"DIMS": target.dims, "ENCODED": encoded, "WIDTH": target.width, "CHANNELS": target.channels}
    powers = {"E": padded(encoded), "W": padded(target.width), "C": padded(target.channels)}
    return {**sizes, **powers, "ROWS": tile(target), "STEP": BLOCK, "PRECISION": precision, "WEIGHED": weighed}


class TritonGroup:
    """Mean squared errors of S signals over a batch of grid points each, and their gradients; S networks of one shape, each with weights of its own.

    encodings: of each signal's grid, which may differ in size. samples: each (points, channels) uint8, int16 or int32, as stored, of one type and device;
    ranges: (low, top) for each, where (sample - low) / top is what the network is to give. `precision` is Triton's for products: "ieee" is float32
    throughout, "tf32x3" uses the tensor cores three times. Raises ValueError for a network that is too wide.
    """

    def __init__(
        self, target: Target, encodings: Sequence[Encoding], samples: Sequence[Tensor], ranges: Sequence[tuple[float, float]], precision: str = "ieee"
    ) -> None:
        if target.width > TRITON_WIDTH:
            raise ValueError(f"{target.width} units are more than the kernels take ({TRITON_WIDTH})")
        self.target, self.signals, self.precision = target, len(samples), precision
        self.device = samples[0].device
        tables = [table.reshape(-1) for encoding in encodings for table in encoding.tables]
        lengths = [len(table) for encoding in encodings for table in encoding.tables]
        offsets = [0, *torch.tensor([len(table) for table in tables]).cumsum(0).tolist()]
        self.tables = (tables[0] if len(tables) == 1 else torch.cat(tables)).to(self.device)
        self.grids = torch.tensor(list(zip(lengths, offsets)), dtype=torch.int64, device=self.device)  # (length, where its table begins)
        starts = torch.tensor([0, *(s.numel() for s in samples[:-1])])
        self.starts = starts.cumsum(0).to(self.device)
        self.samples = samples[0].reshape(-1) if len(samples) == 1 else torch.cat([s.reshape(-1) for s in samples])
        self.ranges = torch.tensor(ranges, dtype=torch.float32, device=self.device)
        self.sizes = [target.weights, target.depth * target.width, target.channels, 1]
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, points: Tensor, weights: Tensor, biases: Tensor, output_bias: Tensor, importance: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Losses (S,), and their gradients for weights (S, D), biases (S, depth, width) and output biases (S, channels), all float32.

        points: row-major numbers of grid points, int64 (S, batch), which are not checked; importance: what the squared errors of each count, float32
        (S, batch), without it 1.
        """
        target, signals, batch = self.target, self.signals, points.shape[1]
        rows = tile(target)
        parts = min(PARTS, triton.cdiv(batch, rows))
        if parts not in self.kept:
            scratch = torch.empty(signals * parts * 2 * target.depth * rows * target.width, device=self.device)
            self.kept[parts] = scratch, torch.empty(signals, parts, sum(self.sizes), device=self.device)
        scratch, sums = self.kept[parts]
        parameters = [t.contiguous() for t in (weights, biases, output_bias)]
        points = points.to(self.device, non_blocking=True).contiguous()
        counts = self.ranges if importance is None else importance.to(self.device, non_blocking=True).contiguous()  # the former is not read
        with torch.cuda.device_of(self.samples):
            _grid_step[(parts, signals)](
                points, self.tables, self.grids, self.samples, self.starts, self.ranges, *parameters, scratch, sums, counts,
                batch, target.depth, 1 / (batch * target.channels),
                **settings(target, self.precision, importance is not None), num_warps=warps(target), enable_fp_fusion=True,
            )  # fmt: skip
        *grads, losses = add_parts(sums).split(self.sizes, 1)
        return losses[:, 0], [grads[0], grads[1].view(signals, target.depth, target.width), grads[2]]


class TritonGradient:
    """The same for one signal, called like FusedGradient."""

    def __init__(self, target: Target, encoding: Encoding, samples: Tensor, low: float, top: float) -> None:
        self.group = TritonGroup(target, [encoding], [samples], [(low, top)])

    def __call__(
        self, points: Tensor, weights: Sequence[Tensor], biases: Tensor, output_bias: Tensor, importance: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The loss, and its gradients for all weights (D,), biases (depth, width) and output bias, over row-major point numbers int64 (batch,)."""
        flat = torch.cat([w.detach().reshape(-1) for w in weights])
        losses, grads = self.group(points[None], flat[None], biases[None], output_bias[None], None if importance is None else importance[None])
        return losses[0], [g[0] for g in grads]
