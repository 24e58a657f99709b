"""Seeded projections from one latent vector to all weights of a network, as torch modules (the paper's Eq. 2; docs/format.md, sections 4 and 5).

Latents z' have unit scale (uniform in [-1, 1] at the start) where the paper's are z = z'/n. A projection has *unit gain*: at the start its weights
have the variance of U(-1, 1), which is 1/3. A layer's weights are its gain times that, so that Var(W_l) is what the layer's initialisation asks for
(Eq. 3), whatever n is.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from doh import _core

if TYPE_CHECKING:
    from doh.train.triton_dense import DenseMatrix

#: Entries of a dense matrix that are held in floating point at one time; on a GPU, where each part of the matrix is some launches.
CHUNK_ENTRIES, GPU_CHUNK_ENTRIES = 1 << 20, 1 << 26
INITIAL_LATENTS_STREAM = 3

Shapes = Sequence[tuple[int, ...]]


def initial_latents(seed: int, n: int) -> Tensor:
    """The latents that training starts from: float32 (n,), uniform in [-1, 1], from random words w as (2w + 1 - 2^32) / 2^32."""
    words = _core.philox(seed, INITIAL_LATENTS_STREAM, 0, 0, 0, -(-n // 4)).reshape(-1)[:n]
    return torch.from_numpy((words.astype(np.float64) * 2 + (1 - 2.0**32)) / 2.0**32).to(torch.float32)


class Projection(nn.Module, ABC):
    """What both kinds share: the split of D = sum of prod(shape) weights, layer by layer and row-major, into tensors of the layers' shapes."""

    #: What files call it (doh.model.GENERATORS).
    name: str
    #: What one unit of W_int, the decoder's integer sum, is worth with latents of step 1.
    unit: float

    def __init__(self, seed: int, n: int, shapes: Shapes) -> None:
        super().__init__()
        self.seed, self.n, self.shapes = seed, n, tuple(tuple(s) for s in shapes)
        self.sizes = [prod(s) for s in self.shapes]

    @abstractmethod
    def flat(self, latents: Tensor) -> Tensor:
        """All D weights at unit gain from latents (n,), in the latents' dtype; (S, D) from latents (S, n), the same to rounding as one by one."""

    @abstractmethod
    def part(self, latents: Tensor, layer: int) -> Tensor:
        """The weight tensor of one layer at unit gain, without making the others. Latents (S, n) give S of it."""

    def rows(self, layer: int) -> slice:
        """Where a layer's weights lie among all D."""
        start = sum(self.sizes[:layer])
        return slice(start, start + self.sizes[layer])

    @abstractmethod
    def flat_sums(self, codes: Tensor) -> Tensor:
        """All D integer sums W_int, int64, of integer codes (n,)."""

    def split(self, flat: Tensor) -> list[Tensor]:
        return [part.view(*flat.shape[:-1], *shape) for part, shape in zip(flat.split(self.sizes, -1), self.shapes)]

    def forward(self, latents: Tensor, gain: Tensor | float = 1.0) -> list[Tensor]:
        """One weight tensor for each layer. `gain` is a number, or (D,) for a gain of each layer's own (see `spread`)."""
        return self.split(self.flat(latents) * gain)

    def spread(self, gains: Sequence[float]) -> Tensor:
        """(D,): each layer's gain repeated for each of its weights."""
        return torch.repeat_interleave(torch.tensor(gains, dtype=torch.float64), torch.tensor(self.sizes)).to(torch.float32)

    def weight_sums(self, codes: np.ndarray | Tensor) -> list[Tensor]:
        """W_int of every layer (docs/format.md, section 5), int64: exactly the decoder's."""
        return self.split(self.flat_sums(torch.as_tensor(codes)))


class TiedProjection(Projection):
    """Each weight is one latent with a sign, each latent serves floor(D/n) or ceil(D/n) weights (docs/format.md, section 5.1)."""

    name, unit = "tied", 1.0
    index: Tensor  # int64 (D,)
    sign: Tensor  # int8 (D,)
    inverse: Tensor  # int64: for each chunk and latent the weight that it serves; D for none

    def __init__(self, seed: int, n: int, shapes: Shapes) -> None:
        super().__init__(seed, n, shapes)
        index, sign = (torch.from_numpy(np.array(a)) for a in _core.tied_map(seed, n, sum(self.sizes)))
        places = -(-len(index) // n) * n  # the last chunk padded to a whole permutation
        inverse = torch.full((places,), len(index))
        inverse[torch.arange(len(index)) // n * n + index] = torch.arange(len(index))
        self.register_buffer("index", index.to(torch.int64), persistent=False)
        self.register_buffer("sign", sign.to(torch.int8), persistent=False)
        self.register_buffer("inverse", inverse, persistent=False)

    def flat(self, latents: Tensor) -> Tensor:
        return _Tied.apply(latents, self.index, self.sign, self.inverse)

    def part(self, latents: Tensor, layer: int) -> Tensor:
        rows = self.rows(layer)
        return (latents[..., self.index[rows]] * self.sign[rows]).view(*latents.shape[:-1], *self.shapes[layer])

    def flat_sums(self, codes: Tensor) -> Tensor:
        return self.sign.to(torch.int64) * codes.to(torch.int64)[self.index]


class _Tied(torch.autograd.Function):
    """sign * z[index]. Backward gathers too: every chunk of n weights is a permutation, so nothing is scattered and the sum's order is fixed."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, index: Tensor, sign: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(sign, inverse)
        ctx.shape = latents.shape
        return latents[..., index] * sign

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        sign, inverse = ctx.saved_tensors
        padded = torch.nn.functional.pad(grad * sign, (0, 1))
        return padded[..., inverse].view(*ctx.shape[:-1], -1, ctx.shape[-1]).sum(-2), None, None, None


def makes_anew(device: torch.device) -> bool:
    """Whether the dense matrix is made anew in every product, and stored nowhere: on GPUs where Triton is installed."""
    return device.type == "cuda" and find_spec("triton") is not None


class DenseProjection(Projection):
    """The paper's fixed random matrix B_l for each layer (Eq. 2), as bytes u; an entry is (2u - 255)/256, uniform in (-1, 1) (section 5.2).

    They are held in memory, but on a GPU with Triton every product makes them anew.
    """

    name = "dense"
    stored: Tensor | None  # the entries, once they have been made

    def __init__(self, seed: int, n: int, shapes: Shapes) -> None:
        super().__init__(seed, n, shapes)
        self.matrix: DenseMatrix | None = None
        self.register_buffer("stored", None, persistent=False)  # made by .to(), which says where, or at first use
        self.here = torch.empty(0)  # on the device that the matrix is meant to be on
        self.unit = sqrt(3 / n) / 256  # Var(sum of n products of two U(-1, 1)) = n/9, wanted is 1/3

    @property
    def entries(self) -> Tensor | None:
        """uint8 (D, n); None where every product makes them anew."""
        if self.stored is None and self.matrix is None:
            self.stored = self._entries()
        return self.stored

    def _entries(self) -> Tensor:
        """uint8 (D, n)."""
        entries = torch.empty(sum(self.sizes), self.n, dtype=torch.uint8)
        for layer, size in enumerate(self.sizes):
            whole, step = entries[self.rows(layer)].numpy(), max(1, CHUNK_ENTRIES // self.n)
            for first in range(0, size, step):
                count = min(step, size - first)
                whole[first : first + count] = _core.dense_bytes(self.seed, layer, first, count, self.n)
        return entries

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> DenseProjection:
        """What .to() calls. The bytes stay behind where they are not needed."""
        self.here = function(self.here)
        device = self.here.device  # .to() may be of a dtype alone
        self.matrix = self._kernels(device) if makes_anew(device) else None
        if self.matrix:
            self.stored = None
        elif self.stored is None:
            self.stored = self._entries()
        super()._apply(function, recurse)
        return self

    def _kernels(self, device: torch.device) -> DenseMatrix | None:
        """The kernels' view of the matrix; none, and a warning, where they do not run, which the first launches show."""
        try:
            from doh.train.triton_dense import DenseMatrix

            matrix, row = DenseMatrix(self.seed, self.n, self.sizes, device), slice(0, 1)
            for dtype in (torch.float32, torch.float64):  # in training, and for the file
                matrix.transposed_times(matrix.times(torch.zeros(1, self.n, dtype=dtype, device=device), row), row)
        except Exception as error:
            text = (str(error).strip().splitlines() or [""])[0]
            warnings.warn(f"the dense matrix is stored, as its kernels cannot run here ({type(error).__name__}: {text})", stacklevel=4)
            return None
        return matrix

    def _times(self, latents: Tensor, rows: slice = slice(None)) -> Tensor:
        if self.matrix:
            wide = latents.to(torch.promote_types(latents.dtype, torch.float32))
            return _Anew.apply(wide, self.matrix, rows).to(latents.dtype)
        entries = self.entries
        assert entries is not None
        return _Dense.apply(latents, entries[rows])

    def flat(self, latents: Tensor) -> Tensor:
        return self._times(latents) * self.unit

    def part(self, latents: Tensor, layer: int) -> Tensor:
        return (self._times(latents, self.rows(layer)) * self.unit).view(*latents.shape[:-1], *self.shapes[layer])

    def flat_sums(self, codes: Tensor) -> Tensor:
        # exact in float64: every partial sum is an integer below 2^36
        return self._times(codes.to(torch.float64)).to(torch.int64)


class _Dense(torch.autograd.Function):
    """sum_j (2 u_j - 255) z_j for every row of bytes, and its transpose, a few rows at a time: the matrix never exists in floating point."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, entries: Tensor) -> Tensor:
        ctx.save_for_backward(entries)
        total = 255 * latents.sum(-1, keepdim=True)
        return torch.cat([2 * (latents @ rows.to(latents.dtype).t()) - total for rows in _chunks(entries)], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (entries,) = ctx.saved_tensors
        result = grad.new_zeros(*grad.shape[:-1], entries.shape[1])
        for rows, part in zip(_chunks(entries), _chunks(grad, entries.shape[1])):
            result += part @ rows.to(grad.dtype)
        return 2 * result - 255 * grad.sum(-1, keepdim=True), None


class _Anew(torch.autograd.Function):
    """The same by the kernels of doh.train.triton_dense."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, matrix: DenseMatrix, rows: slice) -> Tensor:
        ctx.matrix, ctx.rows = matrix, rows
        return matrix.times(latents.reshape(-1, latents.shape[-1]), rows).view(*latents.shape[:-1], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        found = ctx.matrix.transposed_times(grad.reshape(-1, grad.shape[-1]), ctx.rows)
        return found.view(*grad.shape[:-1], -1), None, None


def _chunks(tensor: Tensor, row_length: int = 0) -> tuple[Tensor, ...]:
    entries = GPU_CHUNK_ENTRIES if tensor.is_cuda else CHUNK_ENTRIES
    return tensor.split(max(1, entries // (row_length or tensor.shape[1])), 0 if not row_length else -1)


KINDS: dict[str, type[Projection]] = {kind.name: kind for kind in (TiedProjection, DenseProjection)}
