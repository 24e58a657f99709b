"""`doh export`, and `doh decode` of what it wrote."""

from __future__ import annotations

import time
from pathlib import Path

from doh.cli.decode import all_cores, box
from doh.cli.report import say
from doh.export import describe, open_session
from doh.export import export as write
from doh.export import run as run_model
from doh.files import check_target, read_bytes
from doh.signals import check_signal, write_signal

PROGRESS_SECONDS = 5.0  # between two lines


def export(source: Path, output: Path, kind: str, points: bool, threads: int | None) -> None:
    """Writes the ONNX file and says what was compared."""
    data = read_bytes(source)
    report = write(data, output, kind, points, threads or all_cores())
    size = f"{output}: {kind}{' for points' if points else ''}, {report.bytes:,} bytes ({len(data):,} in the .doh)"
    if kind.startswith("exact"):
        print(f"{size}; ONNX Runtime gives the decoder's samples at all {report.checked:,} points")
    else:
        print(f"{size}; {report.psnr:.2f} dB from the exact decode over {report.checked:,} points")


def decode(source: Path, output: Path, scale: str, crop: str | None, threads: int | None, provider: str) -> None:
    """As `doh decode` of the .doh file, by ONNX Runtime."""
    model, threads = read_bytes(source), threads or all_cores()
    about = describe(open_session(model, provider, threads))
    check_signal(output, about.channels, about)
    check_target(output)
    grid, offset, extent = box(about.shape, scale, crop)
    due = time.monotonic() + PROGRESS_SECONDS

    def progress(done: int, points: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PROGRESS_SECONDS
            say(f"{done:,} of {points:,} points")

    samples = run_model(model, grid=grid, offset=offset, extent=extent, provider=provider, threads=threads, progress=progress)
    write_signal(output, samples, about)
    size = " x ".join(str(n) for n in (extent[::-1] if len(extent) == 2 else extent))
    how = "exact" if about.exact else f"{about.kind}, {about.psnr_to_exact:.2f} dB from the exact decode"
    print(f"{output}: {size}, {about.channels} channel{'s' if about.channels > 1 else ''}, {about.sample_type}; {provider}, {how}")
