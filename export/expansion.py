"""From the seed and the codes of a mosaic to the sums of all its networks, inside the graph (docs/format.md, sections 4 and 5)."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from doh.export.graph import Graph, Value
from doh.export.weights import DENSE_ENTRIES, MOST_ROWS, TIED_WEIGHTS, dense_offset, dense_rows, layer_ends, padded, tied_chunks
from doh.model import QuantModel

#: Where the rows of a layer begin that a network has not.
NEVER = 1 << 62


def expand_all(g: Graph, models: list[QuantModel], counts: Value, many: Value) -> tuple[Value, np.ndarray]:
    """The sums of all networks behind one another, float64, and where those of each begin, (P,). `counts`, (P,): those of networks without points are 0.
    `many`: see Value.untold.

    A loop over networks, and in it one over what weights.py takes in a turn. A loop's results have one size: so networks of nearly equal D have a loop of
    their own, and none is filled up to more than twice its size.
    """
    starts, pieces, end = np.zeros(len(models), np.int64), [], 0
    codes = [padded(model.latent_codes) for model in models]
    begin = np.cumsum([0, *map(len, codes)])[:-1]
    flat = g.constant(np.concatenate(codes), "latent_codes").cast(np.float64)
    by_size = sorted(range(len(models)), key=lambda i: (models[i].target.weights.bit_length(), i))
    for _, group in groupby(by_size, key=lambda i: models[i].target.weights.bit_length()):
        which = list(group)
        most = max(models[i].target.weights for i in which)
        pieces.append(_loop(g, [models[i] for i in which], flat, begin[which], counts.gather(g.ints(*which)).min(1), most, many))
        starts[which] = end + np.arange(len(which)) * most
        end += len(which) * most
    return g.concat(*pieces), starts


def _loop(g: Graph, models: list[QuantModel], codes: Value, begin: np.ndarray, wanted: Value, most: int, many: Value) -> Value:
    """The sums of these, each filled up to `most`. `wanted`: 1 or 0 for each."""
    zeros = g.op("Expand", g.constant(np.zeros(1)), g.ints(most))
    body, turn = g.body()
    number = turn.reshape(1).untold(many)

    def of(table: np.ndarray) -> Value:
        return body.constant(np.asarray(table)).gather(number)

    n, weights = of(np.array([len(m.latent_codes) for m in models])), of(np.array([m.target.weights for m in models]))
    first = of(begin)
    inner, again = body.body()
    tied = models[0].generator == "tied"
    if tied:
        own = body.here(codes).slice(first, first + n, 0)
        chunks = (weights + (n - 1)) // n
        together = (body.constant(np.array(TIED_WEIGHTS, np.int64)) // n).max(1).min(chunks)
        turns = (chunks + (together - 1)) // together
        sums = tied_chunks(inner, models[0], own, inner.here(n), again, inner.here(together))
    else:
        blocks = (n + 15) // 16
        own = body.here(codes).slice(first, first + blocks * 16, 0)
        rows = (body.constant(np.array(DENSE_ENTRIES, np.int64)) // n).max(1).min(MOST_ROWS).min(weights)
        turns = (weights + (rows - 1)) // rows
        table = _layer_table(models)
        numbers = [inner.here(v) for v in (rows, weights, of(table[:, 1:]), of(table).reshape(-1))]
        sums = dense_rows(inner, models[0], own, inner.here(blocks), again, *numbers)
    turns = turns * body.here(wanted).gather(number)
    own = body.loop(turns.scalar(), inner, again, sums).reshape(-1).slice(0, weights, 0)
    if not tied:
        own = own * 2 - of(np.array([dense_offset(m) for m in models]))
    filled = body.concat(own, body.here(zeros)).slice(0, most, 0)
    return g.loop(g.constant(np.array(len(models), np.int64)), body, turn, filled).reshape(-1)


def _layer_table(models: list[QuantModel]) -> np.ndarray:
    """The first row of each layer; rows are numbered over all layers."""
    ends = [layer_ends(model)[:-1] for model in models]
    table = np.full((len(models), 1 + max(map(len, ends))), NEVER)
    table[:, 0] = 0
    for row, own in zip(table, ends):
        row[1 : 1 + len(own)] = own
    return table
