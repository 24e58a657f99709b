"""What is said of a file that was encoded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from doh import container, metrics
from doh.cli.report import show
from doh.model import TOP
from doh.signal import Signal


def tell(output: Path, data: bytes, signal: Signal, seconds: float, threads: int) -> float:
    """One line on stdout, or on stderr if the file is stdout: its size, and the distortion of what it decodes to; of occupancy IoU, of sound SNR too.

    Returns the PSNR.
    """
    # an output of our own making is decoded whatever its size
    samples = container.decode(data, limits=container.NO_LIMITS, threads=threads)
    psnr = metrics.psnr(samples, signal.samples, TOP[signal.sample_type])
    quality = f"{psnr:.2f} dB"
    if signal.sample_type == "u1":
        quality += f", IoU {metrics.iou(samples, signal.samples):.4f}"
    if signal.kind == "audio":
        quality += f", SNR {metrics.snr(samples, signal.samples):.2f} dB"
    text = f"{output}: {len(data):,} bytes, {container.read_info(data, container.NO_LIMITS).bpp:.4f} bpp, {quality} decoded, {seconds:.1f} s"
    show(text, sys.stderr if _is_stdout(output) else sys.stdout)
    return psnr


def _is_stdout(path: Path) -> bool:
    """Whether what is printed would end up in the file itself."""
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False
