"""doh.metrics against hand-made figures and scikit-image."""

from __future__ import annotations

import json
from math import inf, log10

import numpy as np
import pytest

from doh import metrics


def test_psnr_by_hand():
    a = np.zeros((2, 2, 1), np.uint8)
    b = a.copy()
    b[0, 0] = 255
    assert metrics.psnr(a, b, 255) == pytest.approx(10 * log10(4))
    assert metrics.psnr(b, a, 255) == metrics.psnr(a, b, 255)
    assert metrics.psnr(a, a, 255) == inf


def test_psnr_of_wide_types_does_not_overflow():
    low, high = np.full((5, 3), -32768, np.int16), np.full((5, 3), 32767, np.int16)
    assert metrics.psnr(low, high, 65535) == pytest.approx(0)
    assert metrics.psnr(np.zeros((5, 3), np.uint16), np.full((5, 3), 65535, np.uint16), 65535) == pytest.approx(0)


def test_mse_in_blocks_is_exact():
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (1500, 401, 3), np.uint8) for _ in range(2))
    assert metrics.mse(a, b) == int(((a.astype(np.int64) - b) ** 2).sum()) / a.size
    assert metrics.mse(a[:, 0, 0], b[:, 0, 0]) == pytest.approx(((a[:, 0, 0].astype(float) - b[:, 0, 0]) ** 2).mean())


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes differ"):
        metrics.mse(np.zeros((2, 3)), np.zeros((3, 2)))


def test_bpp():
    assert metrics.bpp(3000, 768 * 512) == 24000 / 393216


def test_ssim():
    pytest.importorskip("skimage")
    rng = np.random.default_rng(2)
    a = rng.integers(0, 256, (32, 40, 3), np.uint8)
    b = np.clip(a + rng.integers(-20, 21, a.shape), 0, 255).astype(np.uint8)
    assert metrics.ssim(a, a, 255) == 1
    channels = [metrics.ssim(a[..., c : c + 1], b[..., c : c + 1], 255) for c in range(3)]
    assert metrics.ssim(a, b, 255) == pytest.approx(np.mean(channels))
    assert 0.5 < metrics.ssim(a, b, 255) < 1
    assert metrics.ssim(a.astype(np.uint16) * 257, b.astype(np.uint16) * 257, 65535) == pytest.approx(metrics.ssim(a, b, 255))
    json.dumps(metrics.ssim(a, b, 255))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        metrics.ssim(a[:10], b[:10], 255)
