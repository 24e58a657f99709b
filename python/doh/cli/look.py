"""`doh info`, `doh verify`, `doh eval`: everything that only looks at a file."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from math import isfinite, isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doh import container, metrics
from doh.cli.decode import all_cores
from doh.cli.report import fail, say, show
from doh.files import read_bytes
from doh.model import TOP
from doh.signals import module_for, read_signal

if TYPE_CHECKING:
    import numpy as np


def show_info(source: Path, as_json: bool) -> None:
    """The header, as lines for people or as one JSON object."""
    info = container.read_info(read_bytes(source), container.NO_LIMITS)
    if as_json:
        show(json.dumps({**asdict(info), "bpp": info.bpp}, indent=2), sys.stdout)
        return
    size = " x ".join(str(n) for n in (info.shape[::-1] if len(info.shape) == 2 else info.shape))
    checksums = info.bytes - info.header_bytes - info.payload_bytes
    encoding = f"{info.frequencies} frequencies ({info.ladder})" if info.frequencies else "no positional encoding"
    parts = "x".join(map(str, info.parts))
    network = f"{info.depth} sine layers of {info.width}, {encoding}, {info.weights:,} weights"
    if max(info.parts) > 1:
        network = f"{parts} parts, each with one: up to {info.depth} sine layers of {info.width}, {encoding}, {info.weights:,} weights in all"
    rows = [
        ("signal", f"{info.signal}, {size}, {info.channels} channel{'s' if info.channels > 1 else ''}, {info.sample_type}"),
        ("file", f"{info.bytes:,} bytes, {info.bpp:.4f} bits per point"),
        ("bytes", f"header {info.header_bytes}, codes {info.payload_bytes:,}, checksums {checksums}"),
        ("network", network),
        ("generator", f"{info.generator}, {info.latents:,} latents, seed {info.seed}"),
        ("decoding", f"work of about {info.work:,} multiply-adds, {info.samples_bytes:,} bytes of samples"),
        ("checksums", f"file {info.file_crc:08x}, samples {info.samples_crc:08x} (CRC-32C)"),
    ]
    show("\n".join([f"{source}: .doh, version {info.version}", *(f"  {name:<10} {text}" for name, text in rows)]), sys.stdout)


def verify(source: Path, threads: int | None, no_limits: bool = False) -> None:
    """Both checksums: of the bytes, and of the samples that this machine decodes."""
    info = container.verify(read_bytes(source), limits=container.NO_LIMITS if no_limits else None, threads=threads or all_cores())
    checksums = f"the {info.bytes:,} bytes match their checksum {info.file_crc:08x}, the decoded samples theirs {info.samples_crc:08x}"
    show(f"{source}: good: {checksums}", sys.stdout)


def evaluate(source: Path, reference: Path, as_json: bool, threads: int | None, points: int | None = None, no_limits: bool = False) -> None:
    """Bytes, bits per point and PSNR of the decoded file against the original; SSIM of images, IoU and Chamfer distance of occupancy, SNR and
    log-spectral distance of sounds. `points`: compare on a grid of so many points a side instead of the stored one; for a mesh.

    In JSON, a figure that does not apply is null; psnr and snr are so for identical samples, and one whose library is missing (with a remark).
    """
    data = read_bytes(source)
    info = container.read_info(data, container.NO_LIMITS)
    filled = info.sample_type == "u1" and len(info.shape) == 3 and info.channels == 1
    mesh = module_for(reference).__name__ == "doh.signals.meshes"
    grid = info.shape
    if points is not None and not (filled and mesh):
        fail("--grid is for occupancy that is compared with a mesh")
    if filled and mesh:
        if len(set(grid)) > 1:
            fail(f"{source} has a grid of {grid}; a mesh can be compared on grids with equal sides only")
        grid = (points or grid[0],) * 3
    signal, notes = read_signal(reference, occupancy=filled and not mesh, grid=grid[0] if filled and mesh else None)
    for note in notes:
        say(note)
    mine, other = (f"{kind.channels} channels of {kind.sample_type} on a grid of {shape}" for kind, shape in ((info, grid), (signal, signal.shape)))
    if mine != other:
        fail(f"{source} holds {mine}, {reference} has {other}: they cannot be compared")
    limits = container.NO_LIMITS if no_limits else None
    samples = container.decode(data, threads=threads or all_cores(), grid=None if grid == info.shape else grid, limits=limits)
    top = TOP[info.sample_type]
    psnr = metrics.psnr(samples, signal.samples, top)
    result: dict[str, Any] = {
        "bytes": info.bytes,
        "bpp": info.bpp,
        "psnr": _finite(psnr),
        "ssim": None,
        "iou": metrics.iou(samples, signal.samples) if filled else None,
        "chamfer": _chamfer(samples, reference) if filled and mesh else None,
        "snr": None,
        "lsd": None,
        "identical": isinf(psnr),
        "points": info.points,
        "channels": info.channels,
    }
    if info.signal == "image":
        result["ssim"] = _ssim(samples, signal.samples, top)
    if info.sample_type == "s16" and len(info.shape) == 1:
        result["snr"] = _finite(metrics.snr(samples, signal.samples))
        result["lsd"] = metrics.log_spectral_distance(samples, signal.samples, top)
    if as_json:
        show(json.dumps(result, indent=2), sys.stdout)
        return
    parts = [f"{info.bytes:,} bytes", f"{info.bpp:.4f} bpp", "identical" if result["identical"] else f"{psnr:.2f} dB"]
    parts += [text.format(result[key]) for key, text in _FIGURES.items() if result[key] is not None]
    show(f"{source}: {', '.join(parts)}", sys.stdout)


_FIGURES = {"ssim": "SSIM {:.4f}", "iou": "IoU {:.4f}", "chamfer": "Chamfer {:.5f}", "snr": "SNR {:.2f} dB", "lsd": "log-spectral distance {:.2f} dB"}
#: Points on each of two surfaces whose Chamfer distance is measured.
CHAMFER_POINTS = 200_000


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _ssim(samples: np.ndarray, reference: np.ndarray, top: float) -> float | None:
    try:
        return metrics.ssim(samples, reference, top)
    except ValueError as error:
        say(f"no SSIM: {error}")
    except ImportError:
        say("no SSIM: it needs scikit-image; install it with: pip install 'doh[bench]'")
    return None


def _chamfer(samples: np.ndarray, reference: Path) -> float | None:
    """Between the surface of the decoded cells and that in the file, in the coordinates of the cube, whose side is 2."""
    from doh.signals.meshes import read_mesh, surface_points
    from doh.signals.surface import surface

    try:
        vertices, faces = surface(lambda first, last: samples[first:last, ..., 0], samples.shape[:3])
        if not len(faces):
            say("no Chamfer distance: the decoded cells are all empty")
            return None
        mesh = read_mesh(reference)
        return metrics.chamfer(surface_points(vertices, faces, CHAMFER_POINTS, 0), surface_points(mesh.vertices, mesh.faces, CHAMFER_POINTS, 1))
    except ImportError:
        say("no Chamfer distance: it needs scikit-image and scipy; install them with: pip install 'doh[mesh]'")
        return None
