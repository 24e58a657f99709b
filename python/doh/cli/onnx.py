"""`doh export`, and `doh decode` of what it wrote."""

from __future__ import annotations

import sys
import time
from math import prod
from pathlib import Path

from doh import container
from doh.cli.decode import all_cores, box, mesh_grid, scale_for, sound_rate
from doh.cli.report import check_not_itself, say, show
from doh.errors import OnnxError
from doh.export import describe, open_session, run_session
from doh.export import export as write
from doh.files import check_target, read_bytes
from doh.signals import check_signal, write_signal

PROGRESS_SECONDS = 5.0  # between two lines
#: Samples that are decoded without being asked to lift the limit: as the decoder of .doh files has it (docs/format.md, section 11).
MAX_SAMPLES = 1 << 30


def export(source: Path, output: Path, kind: str, points: bool, threads: int | None, no_limits: bool) -> None:
    """Writes the ONNX file and says what was compared."""
    check_not_itself(source, output)
    if output.suffix.lower() != ".onnx":
        raise OnnxError(f"{output}: the name of an ONNX file ends in .onnx, by which doh decode knows it")
    data = read_bytes(source)
    report = write(data, output, kind, points, threads or all_cores(), container.NO_LIMITS if no_limits else None)
    size = f"{output}: {kind}{' for points' if points else ''}, {report.bytes:,} bytes ({len(data):,} in the .doh)"
    if kind.startswith("exact"):
        show(f"{size}; ONNX Runtime gives the decoder's samples at all {report.checked:,} points", sys.stdout)
    else:
        show(f"{size}; {report.psnr:.2f} dB from the exact decode over {report.checked:,} points", sys.stdout)


def decode(
    source: Path,
    output: Path,
    scale: str | None,
    crop: str | None,
    threads: int | None,
    points: int | None,
    rate: int | None,
    provider: str,
    no_limits: bool,
) -> None:
    """As `doh decode` of the .doh file, by ONNX Runtime. Of the limits that of samples holds."""
    session = open_session(source, provider, threads or all_cores())
    about = describe(session)
    if about.inputs != "grid":
        raise OnnxError(f"{source} takes coordinates, as it was exported with --points: there is no grid to decode; export it without")
    check_signal(output, about.channels, about, rate=rate)
    check_target(output)
    check_not_itself(source, output)
    points = points or mesh_grid(output, about.shape, scale, crop)
    if points is not None:
        scale = scale_for(about.shape, points, scale, crop)
    grid, offset, extent = box(about.shape, scale, crop)
    if prod(extent) * about.channels > MAX_SAMPLES and not no_limits:
        raise OnnxError(f"{prod(extent) * about.channels:,} samples are more than {MAX_SAMPLES:,}; if there is room for them: --no-limits")
    rate = sound_rate(output, rate, about.shape, grid)
    check_signal(output, about.channels, about, extent, rate=rate)
    due = time.monotonic() + PROGRESS_SECONDS

    def progress(done: int, points: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PROGRESS_SECONDS
            say(f"{done:,} of {points:,} points")

    samples = run_session(session, grid=grid, offset=offset, extent=extent, provider=provider, progress=progress)
    write_signal(output, samples, about, rate=rate)
    size = " x ".join(str(n) for n in (extent[::-1] if len(extent) == 2 else extent))
    distance = "" if about.psnr_to_exact is None else f", {about.psnr_to_exact:.2f} dB from the exact decode"
    how = "exact" if about.exact else about.kind + distance
    show(f"{output}: {size}, {about.channels} channel{'s' if about.channels > 1 else ''}, {about.sample_type}; {provider}, {how}", sys.stdout)
