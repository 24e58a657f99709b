"""`doh decode`: a file, or a box of it at any zoom, to an image, a sound, a mesh, a volume or an array."""

from __future__ import annotations

import os
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from doh import _core, container
from doh.cli.report import check_not_itself, say, show
from doh.errors import EncodeError
from doh.files import check_target, read_bytes
from doh.signals import check_signal, module_for, write_signal

if TYPE_CHECKING:
    import numpy as np

#: A mesh is drawn from no more points along the longest side where nothing is asked for: at 512 it has millions of triangles, all of one size.
MESH_GRID = 256
#: Work that is done without being asked to lift the limit: the decoder's default (docs/format.md, section 11).
MAX_WORK = 1 << 42
#: Characters of a --scale.
SCALE_LENGTH = 40


def run(
    source: Path,
    output: Path,
    scale: str | None,
    crop: str | None,
    threads: int | None,
    points: int | None = None,
    rate: int | None = None,
    no_limits: bool = False,
) -> None:
    """Decodes `source` to `output`, whose extension names the format.

    `crop` is "X,Y,W,H" in pixels of the stored size; it is zoomed along: at zoom S the result has S*W x S*H pixels, to the nearest.
    `points` is the number of points along the longest of three dimensions, in place of a scale. `rate` is that of the stored samples, in Hz, for a sound
    file: it is zoomed along, so that the sound stays as long. `no_limits`: whatever it takes; else the limits hold for what is decoded, not for the whole.
    """
    data = read_bytes(source)
    info = container.read_info(data, container.NO_LIMITS)
    limits = container.NO_LIMITS if no_limits else None
    check_signal(output, info.channels, info, rate=rate)
    check_target(output)
    check_not_itself(source, output)
    points = points or mesh_grid(output, info.shape, scale, crop)
    if points is not None:
        scale = scale_for(info.shape, points, scale, crop)
    grid, offset, extent = box(info.shape, scale, crop)
    rate = sound_rate(output, rate, info.shape, grid)
    check_signal(output, info.channels, info, extent, rate=rate)
    cores = threads or all_cores()
    size = " x ".join(str(n) for n in (extent[::-1] if len(extent) == 2 else extent))
    if is_mesh(output):
        vertices, triangles = write_mesh(output, data, info, grid, cores, limits)
        show(f"{output}: {vertices:,} vertices, {triangles:,} triangles around {size} points", sys.stdout)
        return
    samples = container.decode(data, grid=grid, offset=offset, extent=extent, limits=limits, threads=cores)
    write_signal(output, samples, info, rate=rate)
    show(f"{output}: {size}, {info.channels} channel{'s' if info.channels > 1 else ''}, {info.sample_type}", sys.stdout)


def is_mesh(output: Path) -> bool:
    return module_for(output).__name__ == "doh.signals.meshes"


def mesh_grid(output: Path, shape: tuple[int, ...], scale: str | None, crop: str | None) -> int | None:
    """The points along the longest side of which a mesh is drawn where nothing is asked for, said aloud; None: what is asked for, or as many as are stored."""
    if not is_mesh(output) or scale is not None or crop is not None or max(shape) <= MESH_GRID:
        return None
    say(f"the mesh is drawn from {MESH_GRID} of {max(shape)} stored points a side; all of them with --grid {max(shape)}")
    return MESH_GRID


def scale_for(shape: tuple[int, ...], points: int, scale: str | None, crop: str | None) -> str:
    """The --scale with which the longest dimension gets so many points. Raises EncodeError where that is not for this signal."""
    if len(shape) != 3:
        raise EncodeError(f"--grid is for occupancy and volumes; this signal has {len(shape)} dimension{'s' if len(shape) > 1 else ''}: use --scale")
    if scale is not None or crop is not None:
        raise EncodeError("--grid says how many points to decode, as --scale and --crop do: give one of them")
    return str(Fraction(points, max(shape)))


def write_mesh(output: Path, data: bytes, info: container.Info, grid: tuple[int, ...], threads: int, limits: dict[str, int] | None) -> tuple[int, int]:
    """Writes the surface of occupancy on a grid, decoded as the surface needs it; the stored grid as a whole, because only that has a checksum.

    Returns the numbers of vertices and triangles. Raises DohError, EncodeError, FileError.
    """
    from doh.signals import meshes

    whole = container.decode(data, limits=limits, threads=threads) if grid == info.shape else None
    if whole is None:
        check_layers(data, info, grid, limits)

    def layers(first: int, last: int) -> np.ndarray:
        if whole is not None:
            return whole[first:last, ..., 0]
        return container.decode(data, grid=grid, offset=(first, 0, 0), extent=(last - first, *grid[1:]), limits=limits, threads=threads)[..., 0]

    return meshes.write_surface(output, layers, (grid[0], grid[1], grid[2]))


def check_layers(data: bytes, info: container.Info, grid: tuple[int, ...], limits: dict[str, int] | None) -> None:
    """Holds the limits against the whole of a grid that is decoded some layers at a time: with the work of weights that are made anew each time, of a mosaic
    at the most. Raises DohError."""
    from doh.signals.surface import SLAB

    weights = 16 * info.latents * info.weights if info.generator == "dense" else info.latents + info.weights
    again = len(range(SLAB, grid[0], SLAB)) * weights
    limits = {"max_work": MAX_WORK, **(limits or {})}
    limits["max_work"] = max(1, limits["max_work"] - again)
    _core.check_region(data, limits=limits, grid=grid, offset=(0, 0, 0), extent=grid)


def sound_rate(output: Path, rate: int | None, shape: tuple[int, ...], grid: tuple[int, ...]) -> int | None:
    """The rate to write into a sound file, in Hz; None for other files. Says which one is taken where none is given."""
    if "rate" not in getattr(module_for(output), "WRITE_OPTIONS", ()):
        return None
    if rate is None:
        from doh.signals.audio import RATE

        rate = RATE
        say(f"the file does not hold the sampling rate: {rate:,} Hz is taken for it; say another with --rate")
    return round(Fraction(rate * grid[0], shape[0]))


def box(shape: tuple[int, ...], scale: str | None, crop: str | None) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(grid, offset, extent) that the two options ask for. Raises EncodeError, in the words of the options."""
    region = None
    scale = "1" if scale is None else scale
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
        if len(scale) > SCALE_LENGTH or any(len(digits) > 2 for digits in re.findall(r"[eE][+-]?(\d+)", scale)):  # Fraction takes its time for 1e9999999
            raise ValueError
        grid, offset, extent = container.zoomed_box(shape, scale, region)
    except ValueError:
        raise EncodeError(f"--scale takes a positive number or a fraction such as 3/2, not {scale[:SCALE_LENGTH]!r}") from None
    if max(grid) >= 1 << 31:
        raise EncodeError(f"--scale {scale} makes a grid of {' x '.join(map(str, grid))} points, where 2^31 - 1 a side are the most")
    return grid, offset, extent


def all_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
