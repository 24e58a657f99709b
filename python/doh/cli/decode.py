"""`doh decode`: a file, or a box of it at any zoom, to an image or array."""

from __future__ import annotations

import os
from pathlib import Path

from doh import container
from doh.errors import EncodeError
from doh.files import check_target, read_bytes
from doh.signals import check_signal, write_signal


def run(source: Path, output: Path, scale: str, crop: str | None, threads: int | None) -> None:
    """Decodes `source` to `output`, whose extension names the format.

    `crop` is "X,Y,W,H" in pixels of the stored size; it is zoomed along: at zoom S the result has S*W x S*H pixels, to the nearest.
    """
    data = read_bytes(source)
    info = container.read_info(data)
    check_signal(output, info.channels, info)
    check_target(output)
    grid, offset, extent = box(info.shape, scale, crop)
    samples = container.decode(data, grid=grid, offset=offset, extent=extent, threads=threads or all_cores())
    write_signal(output, samples, info)
    size = " x ".join(str(n) for n in (extent[::-1] if len(extent) == 2 else extent))
    print(f"{output}: {size}, {info.channels} channel{'s' if info.channels > 1 else ''}, {info.sample_type}")


def box(shape: tuple[int, ...], scale: str, crop: str | None) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(grid, offset, extent) that the two options ask for. Raises EncodeError, in the words of the options."""
    region = None
    if crop is not None:
        if len(shape) != 2:
            raise EncodeError(f"--crop is for images; this signal has {len(shape)} dimension{'s' if len(shape) > 1 else ''}")
        try:
            x, y, width, height = (int(n) for n in crop.split(","))
        except ValueError:
            raise EncodeError(f"--crop takes four whole numbers X,Y,W,H, not {crop!r}") from None
        if not (0 <= x < x + width <= shape[1] and 0 <= y < y + height <= shape[0]):
            raise EncodeError(f"--crop {crop} is not inside the image of {shape[1]} x {shape[0]} pixels")
        region = (y, x, height, width)
    try:
        return container.zoomed_box(shape, scale, region)
    except ValueError:
        raise EncodeError(f"--scale takes a positive number or a fraction such as 3/2, not {scale!r}") from None


def all_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
