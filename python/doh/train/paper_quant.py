"""Rounding as the paper does it (its supplement, 2): every tensor of a trained network to b bits between its least and its greatest value.

These are figures of networks in floating point, to be set beside the bytes and the PSNR of doh's own files; no file is made of them.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from doh.errors import EncodeError
from doh.train.run import Run
from doh.train.study import psnr_of

#: Bits of the paper's figures; 32 = the tensors as they are.
LEVELS = (4, 5, 6, 8, 16, 32)


@dataclass(frozen=True)
class Rounded:
    """A tensor as integers from 0 to 2^bits - 1, and the two values that they lie between."""

    codes: np.ndarray  # uint8 up to 8 bits, else uint16
    low: float
    high: float
    bits: int

    @property
    def values(self) -> np.ndarray:
        """float32, of the tensor's shape."""
        values: np.ndarray = (self.low + self.codes * ((self.high - self.low) / (2**self.bits - 1))).astype(np.float32)
        return values

    def to_bytes(self) -> bytes:
        """The integers and the two values, float32, all little-endian."""
        return self.codes.astype(self.codes.dtype.newbyteorder("<")).tobytes() + np.array([self.low, self.high], "<f4").tobytes()


def round_min_max(values: np.ndarray, bits: int) -> Rounded:
    """The nearest of 2^bits evenly spaced values from the least to the greatest. Raises EncodeError for bits other than 1 to 16."""
    if not 1 <= bits <= 16:
        raise EncodeError(f"a tensor is rounded to 1 to 16 bits, not {bits}")
    wide = values.astype(np.float64)
    low, high = (float(np.float32(v)) for v in (wide.min(), wide.max()))
    scale = (2**bits - 1) / (high - low) if high > low else 0.0
    codes = np.clip(np.rint((wide - low) * scale), 0, 2**bits - 1)
    return Rounded(codes.astype(np.uint8 if bits <= 8 else np.uint16), low, high, bits)


def tensors_of(run: Run) -> dict[str, np.ndarray]:
    """What a decoder would be sent: the latents, or a plain network's weights layer by layer; the biases of each sine layer, the output bias. float32."""
    if run.config.generator == "plain":
        tensors = {f"weight{layer}": w for layer, w in enumerate(run.weights)}
    else:
        tensors = {"latents": run.unit_latents}
    tensors |= {f"bias{layer}": b for layer, b in enumerate(run.biases)} | {"output_bias": run.output_bias}
    return {name: t.detach().float().cpu().numpy() for name, t in tensors.items()}


@dataclass(frozen=True)
class Figures:
    """A network at so many bits."""

    bits: int
    parameters: int  # latents or weights, and biases
    psnr: float  # dB, of the network in float32 with rounded values
    footprint: float  # bytes: parameters times bits
    bpp: float  # of the footprint
    bzip2: int  # bytes: BZIP2 over the integers of all tensors, their ranges and, with latents, the seed
    bzip2_bpp: float


def figures(run: Run, levels: Iterable[int] = LEVELS) -> list[Figures]:
    """One for each number of bits. Raises EncodeError for levels that are neither 1 to 16 nor 32."""
    tensors = tensors_of(run)
    parameters = sum(t.size for t in tensors.values())
    seed = b"" if run.config.generator == "plain" else run.config.seed.to_bytes(8, "little")
    found = []
    for bits in levels:
        rounded = {name: round_min_max(t, bits) for name, t in tensors.items()} if bits != 32 else {}
        values = {name: r.values for name, r in rounded.items()} or tensors
        raw = b"".join([r.to_bytes() for r in rounded.values()] or [t.astype("<f4").tobytes() for t in tensors.values()])
        packed, footprint = len(bz2.compress(raw + seed)), parameters * bits / 8
        quality = psnr_of(run, *parts_of(run, values))
        found.append(Figures(bits, parameters, quality, footprint, 8 * footprint / run.points, packed, 8 * packed / run.points))
    return found


def parts_of(run: Run, values: dict[str, np.ndarray]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Weights, biases and output bias from named tensors."""
    here = {name: torch.from_numpy(v).to(run.device) for name, v in values.items()}
    depth = run.plan.target.depth
    if "latents" in here:
        weights = run.projection.split(run.projection.flat(here["latents"]) * run.projection.spread(run.gains).to(run.device))
    else:
        weights = [here[f"weight{layer}"] for layer in range(depth + 1)]
    return weights, torch.stack([here[f"bias{layer}"] for layer in range(depth)]), here["output_bias"]
