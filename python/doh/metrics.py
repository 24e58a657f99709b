"""How close two signals are, and what they cost. numpy alone, but for SSIM (scikit-image) and Chamfer distances (scipy).

All: PSNR, bits per point. Images: SSIM. Occupancy: IoU; their surfaces: Chamfer distance. Sounds: signal-to-noise ratio, log-spectral distance.
What needs torch (MS-SSIM, LPIPS) is in tools/perceptual, which needs the extra `perceptual`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, log10
from typing import Any

import numpy as np

#: Rows of the first axis that are compared at a time are chosen so that a block holds about this many samples (8 MiB of int64).
_BLOCK_SAMPLES = 1 << 20


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared difference over all samples, in squared sample units. Integer samples are summed exactly.

    Raises ValueError when the shapes differ.
    """
    wide = np.int64 if a.dtype.kind in "iub" and b.dtype.kind in "iub" else np.float64
    total = 0
    for x, y in _blocks(a, b):
        difference = x.astype(wide) - y
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


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two occupancy fields of one shape: points that are not 0 in both, for each that is not 0 in one or both.

    1 where both are empty. Raises ValueError when the shapes differ.
    """
    both = either = 0
    for x, y in _blocks(a, b):
        both += np.count_nonzero((x != 0) & (y != 0))
        either += np.count_nonzero((x != 0) | (y != 0))
    return both / either if either else 1.0


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """Chamfer distance of two sets of points (n, 3) and (m, 3): the mean distance to the nearest point of the other set, of a's points and of b's,
    the two means averaged; in the unit of the coordinates (not squared).

    Raises ValueError for a set without points, ImportError without scipy (it comes with the extra `mesh`).
    """
    if not len(a) or not len(b):
        raise ValueError("a Chamfer distance needs points in both sets")
    from scipy.spatial import cKDTree

    tree: Callable[[np.ndarray], Any] = cKDTree
    return float(tree(b).query(a)[0].mean() + tree(a).query(b)[0].mean()) / 2


def snr(a: np.ndarray, reference: np.ndarray) -> float:
    """Signal-to-noise ratio in dB: 10 log10(power of the reference / power of the difference), over all samples of all channels; inf when equal.

    -inf for a silent reference. Unlike PSNR it asks how loud the reference is. Raises ValueError when the shapes differ.
    """
    error = mse(a, reference)
    power = mse(reference, np.zeros_like(reference))
    return inf if not error else 10 * log10(power / error) if power else -inf


#: The spectra that log_spectral_distance() compares: Hann windows of so many frames (46 ms at 44.1 kHz), each a quarter of that after the last.
WINDOW, HOP = 2048, 512
#: Added to every power, 100 dB below that of a full-scale sine: what is inaudible in both counts for nothing.
POWER_FLOOR = 1e-10


def log_spectral_distance(a: np.ndarray, b: np.ndarray, top: float) -> float:
    """How far the short-time spectra of two sounds (frames, channels) lie apart, in dB: the root of the mean square of the difference of
    10 log10(power + POWER_FLOOR) over the frequencies of a window; of that the mean over windows and channels. 0 when equal.

    `top` is the range of the samples: 65535 for s16. A full-scale sine has a power of 1. The ends are padded with half a window of silence.
    Raises ValueError when the shapes differ or are not (frames, channels).
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two sounds of one shape (frames, channels) are needed, not {a.shape} and {b.shape}")
    distances = [
        np.sqrt(((x - y) ** 2).mean(1)) for channel in range(a.shape[1]) for x, y in zip(_log_spectra(a[:, channel], top), _log_spectra(b[:, channel], top))
    ]
    return float(np.concatenate(distances).mean())


def _log_spectra(samples: np.ndarray, top: float) -> Iterator[np.ndarray]:
    """10 log10 of the power spectra of one channel's windows, (windows, WINDOW / 2 + 1), 256 windows at a time."""
    window = np.hanning(WINDOW + 1)[:-1]
    ends = np.zeros(WINDOW // 2)
    padded = np.concatenate([ends, samples / (top / 2), ends])
    padded = np.pad(padded, (0, -(len(padded) - WINDOW) % HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    for start in range(0, len(frames), 256):
        spectrum = np.fft.rfft(frames[start : start + 256] * window, axis=1) / (window.sum() / 2)
        yield 10 * np.log10(spectrum.real**2 + spectrum.imag**2 + POWER_FLOOR)


def bpp(size: int, points: int) -> float:
    """Bits per grid point (bits per pixel of an image) of a file of `size` bytes."""
    return 8 * size / points


def _blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Two arrays a few rows at a time. Raises ValueError when their shapes differ."""
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    rows = max(1, _BLOCK_SAMPLES * len(a) // max(1, a.size))
    for start in range(0, len(a), rows):
        yield a[start : start + rows], b[start : start + rows]
