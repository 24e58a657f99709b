"""doh.metrics against hand-made figures and scikit-image."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from math import inf, log10

import _env
import numpy as np
import pytest
from PIL import Image

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


def test_iou_by_hand():
    a, b = np.zeros((2, 4, 5, 6, 1), np.uint8)
    assert metrics.iou(a, b) == 1
    a[:2], b[1:] = 1, 1
    assert metrics.iou(a, b) == 1 / 4 and metrics.iou(a, a) == 1 and metrics.iou(a, 1 - a) == 0
    assert metrics.iou(a * 255, b) == metrics.iou(a, b)
    with pytest.raises(ValueError, match="shapes differ"):
        metrics.iou(a, b[:3])


def test_iou_in_blocks(monkeypatch):
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 2, (2, 9, 8, 7), np.uint8)
    monkeypatch.setattr(metrics, "_BLOCK_SAMPLES", 60)
    assert metrics.iou(a, b) == (a & b).sum() / (a | b).sum()


def test_chamfer():
    pytest.importorskip("scipy")
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(70, 3))
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    assert metrics.chamfer(a, b) == pytest.approx((apart.min(1).mean() + apart.min(0).mean()) / 2)
    assert metrics.chamfer(a, a) == 0 and metrics.chamfer(b, a) == pytest.approx(metrics.chamfer(a, b))
    for x, y in ((a[:0], b), (a, b[:0])):
        with pytest.raises(ValueError, match="points in both"):
            metrics.chamfer(x, y)


def test_points_on_a_surface_are_drawn_by_area():
    from doh.signals.meshes import surface_points

    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]], float)
    faces = np.array([[0, 1, 2], [3, 4, 5]])  # of areas 3 and 1
    points = surface_points(vertices, faces, 20_000)
    low = points[points[:, 2] == 0]
    assert abs(len(low) / 20_000 - 0.75) < 0.015 and set(points[:, 2].round(9)) == {0.0, 5.0}
    assert (low >= 0).all() and (low[:, 0] / 3 + low[:, 1] / 2 <= 1 + 1e-12).all()
    assert np.allclose(low.mean(0), [1, 2 / 3, 0], atol=0.03)  # the centroid
    assert np.array_equal(points, surface_points(vertices, faces, 20_000)) and not np.array_equal(points, surface_points(vertices, faces, 20_000, seed=1))


def test_snr_by_hand():
    reference = np.array([[1000, -1000], [3000, 1000]], np.int16)
    assert metrics.snr(reference + np.int16(10), reference) == pytest.approx(10 * log10(12e6 / 4 / 100))
    assert metrics.snr(reference, reference) == inf
    assert metrics.snr(reference, np.zeros_like(reference)) == -inf
    low, high = np.full((9, 1), -32768, np.int16), np.full((9, 1), 32767, np.int16)
    assert metrics.snr(high, low) == pytest.approx(10 * log10(32768**2 / 65535**2))


def spectra_by_definition(samples: np.ndarray, top: float) -> list[list[float]]:
    """log_spectral_distance's spectra of one channel, by sums over its definition."""
    n = metrics.WINDOW
    padded = [0.0] * (n // 2) + [2 * s / top for s in samples.tolist()] + [0.0] * (n // 2)
    padded += [0.0] * (-(len(padded) - n) % metrics.HOP)
    t = np.arange(n)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * t / n)
    out = []
    for start in range(0, len(padded) - n + 1, metrics.HOP):
        frame = np.array(padded[start : start + n]) * window
        parts = [abs((frame * np.exp(-2j * np.pi * k * t / n)).sum()) / (window.sum() / 2) for k in range(n // 2 + 1)]
        out.append([10 * log10(p * p + metrics.POWER_FLOOR) for p in parts])
    return out


def test_log_spectral_distance_is_its_definition():
    rng = np.random.default_rng(7)
    a = rng.integers(-3000, 3000, (1500, 2)).astype(np.int16)
    b = (a * 0.7 + rng.integers(-200, 200, a.shape)).astype(np.int16)
    distances = []
    for channel in range(2):
        for x, y in zip(spectra_by_definition(a[:, channel], 65535), spectra_by_definition(b[:, channel], 65535), strict=True):
            distances.append(np.mean((np.array(x) - y) ** 2) ** 0.5)
    assert metrics.log_spectral_distance(a, b, 65535) == pytest.approx(np.mean(distances))
    assert metrics.log_spectral_distance(a, a, 65535) == 0


def test_log_spectral_distance_of_loud_quiet_and_short_sounds():
    noise = np.random.default_rng(8).integers(-30000, 30000, (20_000, 1))
    a, b = noise.astype(np.int16), (noise // 10).astype(np.int16)
    assert metrics.log_spectral_distance(a, b, 65535) == pytest.approx(20, abs=0.05)  # a tenth: 20 dB everywhere
    sine = np.rint(32767 * np.sin(2 * np.pi * 100 * np.arange(8192) / 2048))[:, None].astype(np.int16)
    peak = max(x.max() for x in metrics._log_spectra(sine[:, 0], 65535))
    assert peak == pytest.approx(0, abs=0.01)  # a full-scale sine: 0 dB
    silence = np.zeros((1, 1), np.int16)
    assert metrics.log_spectral_distance(silence, silence, 65535) == 0
    assert metrics.log_spectral_distance(silence, silence + np.int16(1), 65535) < 1  # inaudible
    for x, y in ((a, b[:-1]), (a[:, 0], b[:, 0])):
        with pytest.raises(ValueError, match="two sounds of one shape"):
            metrics.log_spectral_distance(x, y, 65535)


def test_metrics_import_no_torch():
    script = "import sys, doh.metrics\nassert not {'torch', 'scipy', 'skimage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.fixture(scope="module")
def perceptual():
    """The program tools/perceptual, as a module."""
    return _env.program("perceptual")


def pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    a = np.cumsum(np.cumsum(rng.normal(size=(side, side, 3)), 0), 1)
    a = np.clip((a - a.min()) / np.ptp(a) * 255, 0, 255).astype(np.uint8)
    return a, np.clip(a + rng.integers(-25, 26, a.shape), 0, 255).astype(np.uint8)


def test_ms_ssim(perceptual):
    pytest.importorskip("pytorch_msssim")
    a, b = pictures(176)
    assert perceptual.ms_ssim(a, a, 255) == pytest.approx(1)
    assert 0 < metrics.ssim(a, b, 255) < perceptual.ms_ssim(a, b, 255) < 1  # noise goes away on the coarser scales
    wide = perceptual.ms_ssim(a.astype(np.uint16) * 257, b.astype(np.uint16) * 257, 65535)
    assert wide == pytest.approx(perceptual.ms_ssim(a, b, 255))
    with pytest.raises(ValueError, match="at least 161"):
        perceptual.ms_ssim(a[:160], b[:160], 255)


def test_what_perceptual_metrics_say_is_missing(perceptual, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    a, b = pictures(176)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    if find_spec("lpips") and find_spec("torchvision"):
        with pytest.raises(perceptual.Missing, match=f"put {perceptual.ALEXNET} into {tmp_path}"):
            perceptual.lpips(a, b, 255)
    for name in ("lpips", "pytorch_msssim"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(perceptual.Missing, match="pip install torch torchvision lpips"):
        perceptual.lpips(a, b, 255)
    with pytest.raises(perceptual.Missing, match="pip install torch pytorch-msssim"):
        perceptual.ms_ssim(a, b, 255)
    for function in (perceptual.lpips, perceptual.ms_ssim):
        with pytest.raises(ValueError, match="two pictures of one shape"):
            function(a, b[:-1], 255)
    assert not list(tmp_path.rglob("*.pth"))


def test_the_program_compares_a_file_with_a_picture(perceptual, monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    a, b = pictures(176)
    Image.fromarray(a).save(tmp_path / "a.png")
    Image.fromarray(b).save(tmp_path / "b.png")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["perceptual", str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    perceptual.main()
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert figures["psnr"] == metrics.psnr(a, b, 255) and figures["lpips"] is None and "no lpips: LPIPS needs" in said.err
    if find_spec("pytorch_msssim"):
        assert figures["ms_ssim"] == perceptual.ms_ssim(a, b, 255)
    Image.fromarray(b[:-1]).save(tmp_path / "b.png")
    with pytest.raises(SystemExit, match="two pictures of one shape"):
        perceptual.main()
