"""From the seed and the codes to integer weights, inside the graph (docs/format.md, sections 4 to 6).

Everything runs in loops, a few thousand weights a turn: memory stays flat, and no runtime can expand a matrix when it loads the model.
Random words are uint64 tensors, whose product of two 32-bit words is exact; sums are float64, exact below 2^53.
"""

from __future__ import annotations

import numpy as np

from doh import _core
from doh.export.graph import Function, Graph, Value
from doh.model import QuantModel

#: Matrix entries, or weights, in one turn of a loop.
DENSE_ENTRIES, TIED_WEIGHTS = 1 << 18, 1 << 12
MOST_ROWS = 64


def integer_weights(model: QuantModel) -> list[np.ndarray]:
    """W of every layer, int64 (fan_out, fan_in) within [-32767, 32767]: section 6 by numpy and the core's random words."""
    codes, shapes = model.latent_codes.astype(np.int64), model.target.layer_shapes
    if model.generator == "tied":
        index, sign = _core.tied_map(model.seed, len(codes), model.target.weights)
        sums = codes[index] * sign
    else:
        sums = np.concatenate([_dense_rows(model.seed, layer, o * i, codes) for layer, (o, i) in enumerate(shapes)])
    layers = np.split(sums, np.cumsum([o * i for o, i in shapes])[:-1])
    return [_rounded(part, model, layer).reshape(shape) for layer, (part, shape) in enumerate(zip(layers, shapes))]


def _rounded(sums: np.ndarray, model: QuantModel, layer: int) -> np.ndarray:
    s = model.scale_of(layer)
    return np.clip((sums * (2048 + s.m) + ((1 << s.r) >> 1)) >> s.r, -32767, 32767)


def _dense_rows(seed: int, layer: int, rows: int, codes: np.ndarray) -> np.ndarray:
    step, n = max(1, (1 << 22) // len(codes)), len(codes)
    parts = [np.asarray(_core.dense_bytes(seed, layer, first, min(step, rows - first), n)) for first in range(0, rows, step)]
    exact = codes.astype(np.float64)  # sums stay below 2^37
    return np.concatenate([2 * (part.astype(np.float64) @ exact).astype(np.int64) for part in parts]) - 255 * codes.sum()


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
    """Philox4x32-10: four counter words, broadcast, and two key words to four random words, all below 2^32 and held in uint64 (section 4)."""
    f = Function("Philox", c0=np.uint64, c1=np.uint64, c2=np.uint64, c3=np.uint64, k0=np.uint64, k1=np.uint64)
    c0, c1, c2, c3, k0, k1 = f.inputs.values()
    low = 0xFFFFFFFF
    for i in range(10):
        if i:
            k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & low, (p0 >> 32) ^ c3 ^ k1, p0 & low
    return f.returns(c0, c1, c2, c3)


def _words(g: Graph, model: QuantModel, block: Value, row: Value, layer: Value, stream: int) -> list[Value]:
    key = [g.constant(np.array(k, np.uint64), name) for k, name in ((model.seed & 0xFFFFFFFF, "seed_low"), (model.seed >> 32, "seed_high"))]
    return g.call(philox(), *(x.cast(np.uint64) for x in (block, row, layer)), g.constant(np.array(stream, np.uint64)), *key)


def _interleave(g: Graph, parts: list[Value]) -> Value:
    """Tensors (rows, count) to (rows, count * len(parts)), taken in turn."""
    return g.concat(*(g.op("Unsqueeze", part, g.ints(2)) for part in parts), axis=2).reshape(0, -1)


def _tied(g: Graph, model: QuantModel) -> Value:
    """All D sums, float64: in each chunk of n weights a permutation of the codes, with signs (section 5.1)."""
    n, weights = len(model.latent_codes), model.target.weights
    chunks = -(-weights // n)
    together = min(chunks, max(1, TIED_WEIGHTS // n))
    codes = g.constant(model.latent_codes.astype(np.int16), "latent_codes").cast(np.float64)
    body, turn = g.body()
    place = body.arange(n)
    chunk = body.arange(together).reshape(-1, 1) + turn * together
    zero = body.constant(np.array([[0]], np.int64))

    keys = _interleave(body, _words(body, model, body.arange(-(-n // 4)).reshape(1, -1), chunk, zero, 1)).slice(0, n, 1)
    ordered = ((keys >> 1) * (1 << 32) + place.cast(np.uint64)).cast(np.int64)
    count = body.ints(n)
    order = body.ops("TopK", [ordered, count], [np.int64, np.int64], axis=1, largest=0, sorted=1)[1]

    number = chunk * n + place
    words = _words(body, model, number // 128, zero, zero, 2)
    bit = number % 128
    four = body.concat(*(body.op("Unsqueeze", w, body.ints(2)) for w in words), axis=2)
    word = body.op("GatherElements", four, body.op("Unsqueeze", bit // 32, body.ints(2)), axis=2).reshape(0, -1)
    sign = 1 - ((word >> (bit % 32).cast(np.uint64)) & 1).cast(np.float64) * 2
    turns = g.constant(np.array(-(-chunks // together), np.int64))
    return g.loop(turns, body, turn, body.here(codes).gather(order) * sign).reshape(-1).slice(0, weights, 0)


def _dense(g: Graph, model: QuantModel) -> Value:
    """All D sums, float64: each a row of random bytes times the codes (section 5.2). Rows are numbered over all layers."""
    n, sizes = len(model.latent_codes), [o * i for o, i in model.target.layer_shapes]
    blocks, weights = -(-n // 16), sum(sizes)
    rows = min(MOST_ROWS, weights, max(1, DENSE_ENTRIES // n))
    padded = np.zeros(blocks * 16, np.int16)
    padded[:n] = model.latent_codes
    codes = g.constant(padded, "latent_codes").cast(np.float64)
    ends = np.cumsum(sizes)
    body, turn = g.body()
    number = (body.arange(rows) + turn * rows).min(weights - 1)  # the last turn repeats the last row
    ended = body.op("GreaterOrEqual", number.reshape(-1, 1), body.constant(ends[:-1].reshape(1, -1)), dtype=np.bool_)
    layer = ended.cast(np.int64).sum(1)
    row = number.reshape(-1, 1) - body.constant(np.concatenate([[0], ends[:-1]])).gather(layer.reshape(-1)).reshape(-1, 1)
    words = _words(body, model, body.arange(blocks).reshape(1, -1), row, layer, 0)
    entries = _interleave(body, [(word >> shift).cast(np.uint8) for word in words for shift in (0, 8, 16, 24)])
    dots = body.op("MatMul", entries.cast(np.float64), body.here(codes))
    turns = g.constant(np.array(-(-weights // rows), np.int64))
    sums = g.loop(turns, body, turn, dots).reshape(-1).slice(0, weights, 0)
    return sums * 2 - 255 * float(model.latent_codes.astype(np.int64).sum())
