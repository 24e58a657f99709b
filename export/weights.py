"""From the seed and the codes to integer weights, inside the graph (docs/format.md, sections 4 to 6).

Everything runs in loops, a few thousand weights a turn: memory stays flat, and no runtime can expand a matrix when it loads the model.
Random words are int64 tensors; sums are float64, exact below 2^53.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from doh import _core
from doh.export.graph import Function, Graph, Value
from doh.model import QuantModel

#: Matrix entries, or weights, in one turn of a loop.
DENSE_ENTRIES, TIED_WEIGHTS = 1 << 18, 1 << 12
MOST_ROWS = 64


def integer_weights(data: bytes, model: QuantModel, limits: Mapping[str, int] | None = None) -> list[np.ndarray]:
    """W of every layer of a file's model, int64 (fan_out, fan_in) within [-32767, 32767] (section 6). Raises DohError."""
    return [w.astype(np.int64).reshape(shape) for w, shape in zip(_core.integer_weights(data, dict(limits or {})), model.target.layer_shapes)]


def expand(g: Graph, model: QuantModel) -> list[Value]:
    """The same in the graph: float64 integers of shape (fan_out, fan_in) for every layer."""
    sums = (_tied if model.generator == "tied" else _dense)(g, model)
    result, start = [], 0
    for layer, (o, i) in enumerate(model.target.layer_shapes):
        s = model.scale_of(layer)
        part = sums.slice(start, start + o * i, 0)
        whole = (part * (2048 + s.m) + ((1 << s.r) >> 1)) * 2.0**-s.r  # an integer below 2^49, and its exact quotient
        result.append(whole.floor().clip(-32767, 32767).reshape(o, i))
        start += o * i
    return result


def philox() -> Function:
    """Philox4x32-10: four counter words, broadcast, and two key words to four random words, all below 2^32 and held in int64 (section 4).

    Older runtimes multiply no unsigned integers. So p = c * M, M a word, is c * (M - 2^32) + c * 2^32, of which int64 holds the first term; its
    high half comes from a shift, which is for unsigned integers only.
    """
    f = Function("Philox", **dict.fromkeys(("c0", "c1", "c2", "c3", "k0", "k1"), np.int64))
    c0, c1, c2, c3, k0, k1 = f.inputs.values()
    low = 0xFFFFFFFF

    def product(c: Value, multiplier: int) -> tuple[Value, Value]:
        """The halves of c * multiplier; the high one plus a multiple of 2^32."""
        term = c * (multiplier - (1 << 32))
        return (term.cast(np.uint64) >> 32).cast(np.int64) + c, term & low

    for i in range(10):
        if i:
            k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
        (high0, low0), (high1, low1) = product(c0, 0xD2511F53), product(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = (high1 ^ c1 ^ k0) & low, low1, (high0 ^ c3 ^ k1) & low, low0
    return f.returns(c0, c1, c2, c3)


def _words(g: Graph, model: QuantModel, block: Value, row: Value, layer: Value, stream: int) -> list[Value]:
    key = [g.constant(np.array(k, np.int64), name) for k, name in ((model.seed & 0xFFFFFFFF, "seed_low"), (model.seed >> 32, "seed_high"))]
    return g.call(philox(), block, row, layer, g.constant(np.array(stream, np.int64)), *key)


def _single(number: int | Value) -> int | Value:
    return number.scalar() if isinstance(number, Value) else number


def _interleave(g: Graph, parts: list[Value]) -> Value:
    """Tensors (rows, count) to (rows, count * len(parts)), taken in turn."""
    return g.concat(*(part.unsqueeze(2) for part in parts), axis=2).reshape(0, -1)


def _tied(g: Graph, model: QuantModel) -> Value:
    """All D sums, float64: in each chunk of n weights a permutation of the codes, with signs (section 5.1)."""
    n, weights = len(model.latent_codes), model.target.weights
    chunks = -(-weights // n)
    together = min(chunks, max(1, TIED_WEIGHTS // n))
    codes = g.constant(model.latent_codes.astype(np.int16), "latent_codes").cast(np.float64)
    body, turn = g.body()
    sums = tied_chunks(body, model, codes, n, turn, together)
    turns = g.constant(np.array(-(-chunks // together), np.int64))
    return g.loop(turns, body, turn, sums).reshape(-1).slice(0, weights, 0)


def tied_chunks(body: Graph, model: QuantModel, codes: Value, n: int | Value, turn: Value, together: int | Value) -> Value:
    """The sums of chunks turn * together and on, float64 (together, n). Numbers may be values of `body`, (1,); of `model` the seed counts."""
    place = body.arange(_single(n))
    chunk = body.arange(_single(together)).reshape(-1, 1) + turn * together
    zero = body.constant(np.array([[0]], np.int64))

    blocks = body.arange(_single((n + 3) // 4)).reshape(1, -1)
    keys = _interleave(body, _words(body, model, blocks, chunk, zero, 1)).slice(0, n, 1)
    ordered = (keys & 0xFFFFFFFE) * (1 << 31) + place  # below 2^63
    order = body.sort(ordered, 1, n)[1]

    number = chunk * n + place
    words = _words(body, model, number // 128, zero, zero, 2)
    bit = number % 128
    four = body.concat(*(w.unsqueeze(2) for w in words), axis=2)
    word = body.op("GatherElements", four, (bit // 32).unsqueeze(2), axis=2).reshape(0, -1)
    sign = 1 - ((word.cast(np.uint64) >> (bit % 32).cast(np.uint64)) & 1).cast(np.float64) * 2
    return body.here(codes).gather(order) * sign


def _dense(g: Graph, model: QuantModel) -> Value:
    """All D sums, float64: each a row of random bytes times the codes (section 5.2). Rows are numbered over all layers."""
    n, weights = len(model.latent_codes), model.target.weights
    rows = min(MOST_ROWS, weights, max(1, DENSE_ENTRIES // n))
    codes = g.constant(padded(model.latent_codes), "latent_codes").cast(np.float64)
    ends = layer_ends(model)[:-1]
    body, turn = g.body()
    dots = dense_rows(body, model, codes, -(-n // 16), turn, rows, weights, ends.reshape(1, -1), np.concatenate([[0], ends]))
    turns = g.constant(np.array(-(-weights // rows), np.int64))
    sums = g.loop(turns, body, turn, dots).reshape(-1).slice(0, weights, 0)
    return sums * 2 - dense_offset(model)


def padded(codes: np.ndarray) -> np.ndarray:
    """The codes, int16, with zeros up to a multiple of 16: a block of random words makes the bytes of so many entries."""
    return np.concatenate([codes, np.zeros(-len(codes) % 16, np.int32)]).astype(np.int16)


def layer_ends(model: QuantModel) -> np.ndarray:
    """Number of the row behind each layer's last."""
    return np.cumsum([o * i for o, i in model.target.layer_shapes])


def dense_offset(model: QuantModel) -> float:
    return 255 * float(model.latent_codes.astype(np.int64).sum())


def dense_rows(
    body: Graph, model: QuantModel, codes: Value, blocks: int | Value, turn: Value, rows: int | Value, weights: int | Value,
    ends: np.ndarray | Value, starts: np.ndarray | Value,
) -> Value:  # fmt: skip
    """The bytes of rows turn * rows and on times the padded codes, float64 (rows,). `ends`: (1, layers - 1), where a row's layer is past it; `starts`: the
    first row of each layer. Numbers may be values of `body`, (1,); of `model` the seed counts."""

    def known(table: np.ndarray | Value) -> Value:
        return table if isinstance(table, Value) else body.constant(table)

    number = (body.arange(_single(rows)) + turn * rows).min(weights - 1)  # the last turn repeats the last row
    ended = body.op("GreaterOrEqual", number.reshape(-1, 1), known(ends), dtype=np.bool_)
    layer = ended.cast(np.int64).sum(1)
    row = number.reshape(-1, 1) - known(starts).gather(layer.reshape(-1)).reshape(-1, 1)
    unsigned = [word.cast(np.uint64) for word in _words(body, model, body.arange(_single(blocks)).reshape(1, -1), row, layer, 0)]
    entries = _interleave(body, [(word >> shift).cast(np.uint8) for word in unsigned for shift in (0, 8, 16, 24)])
    return body.op("MatMul", entries.cast(np.float64), body.here(codes))
