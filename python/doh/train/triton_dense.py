"""The dense projection as Triton kernels: the random matrix is made anew, from Philox words, wherever it is multiplied (docs/format.md, sections 4 and 5.2).

Vectors lie in another order in here: all numbers j of one j mod 16 side by side, so that neighbouring threads, each with the 16 bytes of one Philox call,
read neighbouring numbers.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
# Kernels are Triton's language, which has no types that mypy knows.

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from doh.train.triton_step import add_parts

#: Bytes of a Philox call, and calls side by side in a program: one for each thread of a warp.
CALL, CALLS = 16, 32
#: Vectors that one making of the matrix serves at most.
GROUP = 8
#: Matrix rows of a program, which is one warp.
ROWS = 4
#: The transposed product adds up parts of so many rows at least, and so many parts at most: part of what a result is.
PART_ROWS, PARTS = 64, 256


@triton.jit
def _philox(keys, block, row, layer):
    """The four words of Philox4x32-10 at the counter (block, row, layer, stream 0), whose parts are integers of shapes that go together."""
    key0, key1 = tl.load(keys).to(tl.uint32, bitcast=True), tl.load(keys + 1).to(tl.uint32, bitcast=True)
    c0, c1, c2 = block.to(tl.uint32), row.to(tl.uint32), layer.to(tl.uint32)
    c3 = tl.zeros_like(c2)
    for _ in tl.static_range(10):
        low0, low2 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        high0, high2 = tl.umulhi(c0, 0xD2511F53), tl.umulhi(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high2 ^ c1 ^ key0, low2, high0 ^ c3 ^ key1, low0
        key0, key1 = key0 + 0x9E3779B9, key1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def _entry(word, BYTE: tl.constexpr):
    """2u - 255, float32, for a byte u of a word. No conversion, which is slow: as a number the bits 0x4B000000 + 2u are 2^23 + 2u."""
    if BYTE == 0:
        twice = word << 1
    else:
        twice = word >> (8 * BYTE - 1)
    return ((twice & 0x1FE) | 0x4B000000).to(tl.float32, bitcast=True) - 8388863.0


@triton.jit
def _store_bytes(pointers, word, left, is_row):
    """Stores the bytes of a word where there are so many `left` in the row."""
    for byte in tl.static_range(4):
        tl.store(pointers + byte, ((word >> (8 * byte)) & 255).to(tl.uint8), mask=is_row & (left > byte))


@triton.jit
def _bytes(keys, rows, layers, out, count, n, ROWS: tl.constexpr, CALLS: tl.constexpr):
    i, block = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1) * CALLS + tl.arange(0, CALLS)
    is_row = (i < count)[:, None]
    row, layer = tl.load(rows + i, mask=i < count, other=0), tl.load(layers + i, mask=i < count, other=0)
    w0, w1, w2, w3 = _philox(keys, block[None, :], row[:, None], layer[:, None])
    to, left = out + i.to(tl.int64)[:, None] * n + block[None, :] * 16, n - block[None, :] * 16
    _store_bytes(to, w0, left, is_row)
    _store_bytes(to + 4, w1, left - 4, is_row)
    _store_bytes(to + 8, w2, left - 8, is_row)
    _store_bytes(to + 12, w3, left - 12, is_row)


@triton.jit
def _add_products(result, word, latents, blocks, mask):
    """result (GROUP, ROWS, CALLS) with the products of a word's four bytes added."""
    for byte in tl.static_range(4):
        z = tl.load(latents + byte * blocks, mask=mask, other=0.0)
        result += _entry(word, byte).to(z.dtype)[None, :, :] * z[:, None, :]
    return result


@triton.jit
def _product(keys, rows, layers, latents, out, count, blocks, signals, GROUP: tl.constexpr, ROWS: tl.constexpr, CALLS: tl.constexpr):
    """out (S, count) = the matrix times latents (S, 16, blocks)."""
    i, s = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1) * GROUP + tl.arange(0, GROUP)
    row, layer = tl.load(rows + i, mask=i < count, other=0)[:, None], tl.load(layers + i, mask=i < count, other=0)[:, None]
    result = tl.zeros((GROUP, ROWS, CALLS), latents.dtype.element_ty)
    for begin in range(0, blocks, CALLS):
        block = begin + tl.arange(0, CALLS)
        w0, w1, w2, w3 = _philox(keys, block[None, :], row, layer)
        z, mask = latents + (s * 16 * blocks)[:, None] + block[None, :], (s < signals)[:, None] & (block < blocks)[None, :]
        result = _add_products(result, w0, z, blocks, mask)
        result = _add_products(result, w1, z + 4 * blocks, blocks, mask)
        result = _add_products(result, w2, z + 8 * blocks, blocks, mask)
        result = _add_products(result, w3, z + 12 * blocks, blocks, mask)
    tl.store(out + s.to(tl.int64)[:, None] * count + i[None, :], tl.sum(result, 2), mask=(s < signals)[:, None] & (i < count)[None, :])


@triton.jit
def _add_word(r0, r1, r2, r3, word, g):
    """Four sums (GROUP, CALLS), of a word's bytes, with one more row of the matrix, whose gradients are g (GROUP, 1)."""
    r0 += _entry(word, 0).to(g.dtype)[None, :] * g
    r1 += _entry(word, 1).to(g.dtype)[None, :] * g
    r2 += _entry(word, 2).to(g.dtype)[None, :] * g
    r3 += _entry(word, 3).to(g.dtype)[None, :] * g
    return r0, r1, r2, r3


@triton.jit
def _store_word(r0, r1, r2, r3, to, blocks, mask):
    tl.store(to, r0, mask=mask)
    tl.store(to + blocks, r1, mask=mask)
    tl.store(to + 2 * blocks, r2, mask=mask)
    tl.store(to + 3 * blocks, r3, mask=mask)


@triton.jit
def _transposed(keys, rows, layers, grad, sums, count, per_part, blocks, signals, GROUP: tl.constexpr, CALLS: tl.constexpr):
    """sums (S, parts, 16, blocks) = for each part, `per_part` rows, these rows' transpose times what grad (S, count) says of them."""
    part, block, s = tl.program_id(0), tl.program_id(1) * CALLS + tl.arange(0, CALLS), tl.program_id(2) * GROUP + tl.arange(0, GROUP)
    zero = tl.zeros((GROUP, CALLS), grad.dtype.element_ty)
    a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
    c0, c1, c2, c3, d0, d1, d2, d3 = zero, zero, zero, zero, zero, zero, zero, zero
    for i in range(part * per_part, tl.minimum((part + 1) * per_part, count)):
        w0, w1, w2, w3 = _philox(keys, block, tl.load(rows + i), tl.load(layers + i))
        g = tl.load(grad + s.to(tl.int64) * count + i, mask=s < signals, other=0.0)[:, None]
        a0, a1, a2, a3 = _add_word(a0, a1, a2, a3, w0, g)
        b0, b1, b2, b3 = _add_word(b0, b1, b2, b3, w1, g)
        c0, c1, c2, c3 = _add_word(c0, c1, c2, c3, w2, g)
        d0, d1, d2, d3 = _add_word(d0, d1, d2, d3, w3, g)
    mask = (s < signals)[:, None] & (block < blocks)[None, :]
    to = sums + (s.to(tl.int64)[:, None] * tl.num_programs(0) + part) * 16 * blocks + block[None, :]
    _store_word(a0, a1, a2, a3, to, blocks, mask)
    _store_word(b0, b1, b2, b3, to + 4 * blocks, blocks, mask)
    _store_word(c0, c1, c2, c3, to + 8 * blocks, blocks, mask)
    _store_word(d0, d1, d2, d3, to + 12 * blocks, blocks, mask)


class DenseMatrix:
    """The matrices of all layers, (D, n) together, as products only: entries 2u - 255, the bytes u being those of `doh._core.dense_bytes`.

    sizes: rows of each layer. Vectors are float32 or float64, on `device`. Results depend on nothing but these vectors: neither on the GPU nor, each of S
    vectors, on the others.
    """

    def __init__(self, seed: int, n: int, sizes: Sequence[int], device: torch.device) -> None:
        self.n, self.blocks = n, triton.cdiv(n, CALL)
        keys = torch.tensor([seed & 0xFFFFFFFF, seed >> 32]).to(torch.int32)  # the same bits
        self.keys = keys.to(device)
        self.rows = torch.cat([torch.arange(size, dtype=torch.int32) for size in sizes]).to(device)
        self.layers = torch.repeat_interleave(torch.arange(len(sizes), dtype=torch.int32), torch.tensor(sizes)).to(device)

    def bytes(self, part: slice = slice(None)) -> Tensor:
        """The matrix itself as bytes u, uint8 (rows, n): for looking at it."""
        rows, layers = self.rows[part], self.layers[part]
        out = torch.empty(len(rows), self.n, dtype=torch.uint8, device=rows.device)
        grid = (triton.cdiv(len(rows), ROWS), triton.cdiv(self.blocks, CALLS))
        with torch.cuda.device_of(rows):
            _bytes[grid](self.keys, rows, layers, out, len(rows), self.n, ROWS=ROWS, CALLS=CALLS, num_warps=1, enable_fp_fusion=True)
        return out

    def times(self, latents: Tensor, part: slice = slice(None)) -> Tensor:
        """(S, rows): the matrix, or some rows of it, times each of latents (S, n)."""
        rows, layers, signals = self.rows[part], self.layers[part], len(latents)
        padded = torch.nn.functional.pad(latents, (0, self.blocks * CALL - self.n))
        ordered = padded.view(signals, self.blocks, CALL).transpose(1, 2).contiguous()
        out = latents.new_empty(signals, len(rows))
        group = min(GROUP, triton.next_power_of_2(signals))
        grid = (triton.cdiv(len(rows), ROWS), triton.cdiv(signals, group))
        settings = {"GROUP": group, "ROWS": ROWS, "CALLS": CALLS, "num_warps": 1, "enable_fp_fusion": True}
        with torch.cuda.device_of(rows):
            _product[grid](self.keys, rows, layers, ordered, out, len(rows), self.blocks, signals, **settings)
        return out

    def transposed_times(self, grad: Tensor, part: slice = slice(None)) -> Tensor:
        """(S, n): the matrix's transpose, or that of some rows, times each of grad (S, rows)."""
        rows, layers, signals = self.rows[part], self.layers[part], len(grad)
        per_part = max(PART_ROWS, triton.cdiv(len(rows), PARTS))
        parts = triton.cdiv(len(rows), per_part)
        sums = grad.new_empty(signals, parts, CALL * self.blocks)
        group = min(GROUP, triton.next_power_of_2(signals))
        grid = (parts, triton.cdiv(self.blocks, CALLS), triton.cdiv(signals, group))
        settings = {"GROUP": group, "CALLS": CALLS, "num_warps": 1, "enable_fp_fusion": True}
        with torch.cuda.device_of(rows):
            _transposed[grid](self.keys, rows, layers, grad.contiguous(), sums, len(rows), per_part, self.blocks, signals, **settings)
        return add_parts(sums).view(signals, CALL, self.blocks).transpose(1, 2).reshape(signals, -1)[:, : self.n]
