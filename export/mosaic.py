"""A mosaic in the graph: which points belong to which part, and turns of a loop of which each is for points of one part (docs/format.md, sections 2.1 and 7).

Points are counted part by part. A graph for grids computes how many points of the box each part has, so a part is a box of its own in it; one for points
sorts them by part. Then the turns follow: each has equally many points, the last of a part repeats its last point. At last the samples are gathered into
the order that was asked for. So every point goes through one network, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from doh.export.graph import Graph, Value
from doh.export.parts import Networks
from doh.export.ports import Box, Points, Ports
from doh.model import Mosaic

#: (body, part in the order of the turns (1,), numbers of points in it (points,)) to their coordinates, int64 (dims, points).
Place = Callable[[Graph, Value, Value], Value]


def grid(g: Graph, mosaic: Mosaic, kind: str) -> Ports:
    """A box of a grid, row-major."""
    box, networks = Box(g, len(mosaic.parts)), Networks(g, mosaic, kind)
    dims, channels = len(mosaic.parts), mosaic.models[0].target.channels
    parts = np.unravel_index(networks.order, mosaic.parts)
    firsts, lengths = zip(*(_cuts(box, dim, k) for dim, k in enumerate(mosaic.parts)))  # along each dimension, (parts[dim],)
    # of each part, in the order of the turns
    first, length = ([table.gather(g.ints(*part)) for table, part in zip(tables, parts)] for tables in (firsts, lengths))
    counts = reduce(lambda a, b: a * b, length)

    def place(body: Graph, part: Value, number: Value) -> Value:
        rows: list[Value] = []
        for dim in reversed(range(dims)):
            own, index = body.here(length[dim]).gather(part), number
            if dim:
                index, number = number % own, number // own
            u = box.centre(index + body.here(first[dim]).gather(part), dim)
            k = mosaic.parts[dim]
            x = u * k - body.constant((parts[dim] << 32) + (1 << 31)).gather(part) if k > 1 else u - (1 << 31)
            rows.insert(0, x.reshape(1, -1))
        return body.concat(*rows)

    samples, begin = _samples(g, networks, counts, box.block, place)
    begin = begin.gather(g.ints(*np.argsort(networks.order)))  # row-major

    size = box.block.min(box.count).max(1)
    steps = g.arange(size)
    body, turn = g.body()
    number = (turn * size + steps).min(box.count - 1)
    part, own = None, None  # of each point: the part, row-major, and the point's number in it
    for dim, k in enumerate(mosaic.parts):
        index = box.index(number, dim)
        if k > 1:
            along = box.centre(index, dim) * k // (1 << 32)
            part = along if part is None else part * k + along
            index, count = index - body.here(firsts[dim]).gather(along), body.here(lengths[dim]).gather(along)
        else:
            index, count = index - firsts[dim], lengths[dim]
        own = index if own is None else own * count + index
    assert part is not None and own is not None
    turns = (box.count + (size - 1)) // size
    ordered = g.loop(turns, body, turn, body.here(samples).gather(body.here(begin).gather(part) + own))
    return box.finish(ordered.reshape(-1, channels).first(box.count), channels)


def points(g: Graph, mosaic: Mosaic, kind: str) -> Ports:
    """Coordinates in the whole signal, any points in any order."""
    inputs, networks = Points(g, len(mosaic.parts)), Networks(g, mosaic, kind)
    dims, channels, all_parts = len(mosaic.parts), mosaic.models[0].target.channels, len(mosaic.models)
    parts = np.unravel_index(networks.order, mosaic.parts)
    position = None  # of each point's part, row-major
    for dim, k in enumerate(mosaic.parts):
        if k > 1:
            x = inputs.coordinates.slice(dim, dim + 1, 1).reshape(-1).cast(np.int64)
            along = (x + (1 << 31)) * k // (1 << 32)
            position = along if position is None else position * k + along
    assert position is not None
    part = g.constant(np.argsort(networks.order)).gather(position)  # in the order of the turns
    # Sorted with a mark before each part, and one behind the last: the place of a mark tells where its part begins.
    marks = g.constant(np.arange(all_parts + 1) << 32)
    keys = g.concat(marks, part * (1 << 32) + (g.arange(inputs.count) + 1))
    order = g.sort(keys)[1]
    rank = g.sort(order)[1]
    mark = rank.slice(0, all_parts + 1, 0)
    counts = mark.slice(1, all_parts + 1, 0) - mark.slice(0, all_parts, 0) - 1

    factors = g.constant(np.array(mosaic.parts).reshape(-1, 1))
    shifts = np.stack([(k << 31) - (of << 32) - (1 << 31) for k, of in zip(mosaic.parts, parts)], axis=1)  # X of the part = X * k + this

    def place(body: Graph, part: Value, number: Value) -> Value:
        which = body.here(order).gather(body.here(mark).gather(part) + number + 1) - (all_parts + 1)
        x = body.here(inputs.coordinates).gather(which).transpose().cast(np.int64)
        return x * factors + body.constant(shifts).gather(part).reshape(dims, 1)

    samples, begin = _samples(g, networks, counts, inputs.block, place)
    own = rank.slice(all_parts + 1, (1 << 63) - 1, 0) - mark.gather(part) - 1
    return inputs.finish(samples.gather(begin.gather(part) + own), channels)


def _cuts(box: Box, dim: int, parts: int) -> tuple[Value, Value]:
    """Of each part along a dimension the first index in the grid, and how many there are of its indices in the box, (parts,).

    The first index of part p is the least i with floor((2i + 1) 2^31 / g) parts >= p 2^32, so with 2i + 1 >= T g / 2^31, T = ceil(p 2^32 / parts).
    """
    g = box.g
    least = -(-(np.arange(parts + 1) << 32) // parts)  # T
    ends = (g.constant(least) * box.of(box.grid, dim) + ((1 << 31) - 1)) // (1 << 31) // 2  # below 2^63 on the way
    low = box.of(box.offset, dim)
    ends = ends.max(low).min(low + box.of(box.extent, dim))
    first = ends.slice(0, parts, 0)
    return first, ends.slice(1, parts + 1, 0) - first


def _samples(g: Graph, networks: Networks, counts: Value, block: Value, place: Place) -> tuple[Value, Value]:
    """Samples of all points, part by part with gaps between, (.., channels), and where those of each part begin, (P,). `counts`: points of each part."""
    many = (block.min(1) * (1 << 32)).reshape(1)
    networks.expand(counts, many)
    most = g.largest(counts)
    rounds = ((most + (block - 1)) // block).max(1)
    size = ((most + (rounds - 1)) // rounds).max(1)
    turns = (counts + (size - 1)) // size
    ends = g.running_sum(turns)
    begin, steps, stacks = ends - turns, g.arange(size), []
    for family in networks.families:
        last = family.first + len(family.models)
        own_ends, before = ends.slice(family.first, last, 0).untold(many), begin.slice(family.first, family.first + 1, 0).untold(many)
        total = (ends.slice(last - 1, last, 0) - before).scalar()
        body, turn = g.body()
        number = turn + before  # of the turn, over all families
        part = body.op("Greater", number + 1, own_ends, dtype=np.bool_).cast(np.int64).sum(0).untold(many)  # how many have ended
        of_all = part + family.first
        point = (number - body.here(begin).gather(of_all)) * size + steps
        point = point.min(body.here(counts).gather(of_all) - 1)  # the last turn of a part repeats its last point
        samples = networks.samples(body, family, part, place(body, of_all, point))
        stacks.append(g.loop(total, body, turn, samples).reshape(-1, family.models[0].target.channels))
    return g.concat(*stacks), begin * size
