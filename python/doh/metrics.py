"""How close two signals are, and what they cost: PSNR, SSIM, bits per point. numpy alone; SSIM through scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log10

import numpy as np

#: Rows of the first axis that are compared at a time are chosen so that a block holds about this many samples (8 MiB of int64).
_BLOCK_SAMPLES = 1 << 20


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared difference over all samples, in squared sample units. Integer samples are summed exactly.

    Raises ValueError when the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    wide = np.int64 if a.dtype.kind in "iub" and b.dtype.kind in "iub" else np.float64
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    rows = max(1, _BLOCK_SAMPLES * len(a) // max(1, a.size))
    total = 0
    for start in range(0, len(a), rows):
        difference = a[start : start + rows].astype(wide) - b[start : start + rows]
        total += np.vdot(difference, difference).item()
    return total / a.size


def psnr(a: np.ndarray, b: np.ndarray, top: float) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(top^2 / mse), over all samples of all channels at once; inf when equal.

    `top` is the range of the samples: 255 for u8. Raises ValueError when the shapes differ.
    """
    error = mse(a, b)
    return 10 * log10(top * top / error) if error else inf


def ssim(a: np.ndarray, b: np.ndarray, top: float) -> float:
    """Mean structural similarity of two images (height, width, channels), the mean over channels; at most 1.

    The settings of Wang, Bovik, Sheikh, Simoncelli 2004: Gaussian windows of sigma 1.5 (11 x 11), K1 = 0.01, K2 = 0.03, population covariances.
    Raises ValueError when a side is shorter than 11 pixels, ImportError without scikit-image (the extra `bench`).
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"two images of one shape (height, width, channels) are needed, not {a.shape} and {b.shape}")
    if min(a.shape[:2]) < 11:
        raise ValueError("SSIM needs images of at least 11 x 11 pixels")
    from skimage.metrics import structural_similarity

    similarity: Callable[..., float] = structural_similarity
    return float(similarity(a, b, data_range=top, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False))


def bpp(size: int, points: int) -> float:
    """Bits per grid point (bits per pixel of an image) of a file of `size` bytes."""
    return 8 * size / points
