"""`doh export`, and `doh decode` of what it wrote."""

from __future__ import annotations

import time
from pathlib import Path

from doh.cli.decode import all_cores, box, scale_for, sound_rate
from doh.cli.report import check_not_itself, say
from doh.errors import OnnxError
from doh.export import describe, open_session
from doh.export import export as write
from doh.export import run as run_model
from doh.files import check_target, read_bytes
from doh.signals import check_signal, write_signal

PROGRESS_SECONDS = 5.0  # between two lines


def export(source: Path, output: Path, kind: str, points: bool, threads: int | None) -> None:
    """Writes the ONNX file and says what was compared."""
    check_not_itself(source, output)
    data = read_bytes(source)
    report = write(data, output, kind, points, threads or all_cores())
    size = f"{output}: {kind}{' for points' if points else ''}, {report.bytes:,} bytes ({len(data):,} in the .doh)"
    if kind.startswith("exact"):
        print(f"{size}; ONNX Runtime gives the decoder's samples at all {report.checked:,} points")
    else:
        print(f"{size}; {report.psnr:.2f} dB from the exact decode over {report.checked:,} points")


def decode(source: Path, output: Path, scale: str, crop: str | None, threads: int | None, points: int | None, rate: int | None, provider: str) -> None:
    """As `doh decode` of the .doh file, by ONNX Runtime."""
    model, threads = read_bytes(source), threads or all_cores()
    about = describe(open_session(model, provider, threads))
    if about.inputs != "grid":
        raise OnnxError(f"{source} takes coordinates, as it was exported with --points: there is no grid to decode; export it without")
    check_signal(output, about.channels, about, rate=rate)
    check_target(output)
    if points is not None:
        scale = scale_for(about.shape, points, scale, crop)
    grid, offset, extent = box(about.shape, scale, crop)
    due = time.monotonic() + PROGRESS_SECONDS

    def progress(done: int, points: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PROGRESS_SECONDS
            say(f"{done:,} of {points:,} points")

    samples = run_model(model, grid=grid, offset=offset, extent=extent, provider=provider, threads=threads, progress=progress)
    write_signal(output, samples, about, rate=sound_rate(output, rate, about.shape, grid))
    size = " x ".join(str(n) for n in (extent[::-1] if len(extent) == 2 else extent))
    distance = "" if about.psnr_to_exact is None else f", {about.psnr_to_exact:.2f} dB from the exact decode"
    how = "exact" if about.exact else about.kind + distance
    print(f"{output}: {size}, {about.channels} channel{'s' if about.channels > 1 else ''}, {about.sample_type}; {provider}, {how}")
