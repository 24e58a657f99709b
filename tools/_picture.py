"""What tools/demo shows beside doh: the best JPEG of a given size, and one sheet with all pictures."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from doh.metrics import psnr

#: JPEG is also tried on the picture made so many times smaller, and enlarged again after decoding.
SHRINKS = (1, 2, 3, 4, 6, 8)
_BICUBIC, _LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS


class Jpeg(NamedTuple):
    name: str
    data: bytes
    samples: np.ndarray  # of the original's size
    psnr: float  # dB
    encode_seconds: float
    decode_seconds: float


def best_jpegs(picture: np.ndarray, budget: int) -> list[Jpeg]:
    """Of the JPEG files within `budget` bytes the best at full size, where there is one, and the best of a smaller picture.

    `picture` is 8-bit RGB; the files are optimised and progressive, of any quality from 1 to 95, with and without subsampled colours.
    """
    full = [jpeg for jpeg in (_best(picture, budget, 1, sampling) for sampling in (0, 2)) if jpeg]
    small = [jpeg for jpeg in (_best(picture, budget, shrink, sampling) for shrink in SHRINKS[1:] for sampling in (0, 2)) if jpeg]
    return [max(group, key=lambda jpeg: jpeg.psnr) for group in (full, small) if group]


def _best(picture: np.ndarray, budget: int, shrink: int, sampling: int) -> Jpeg | None:
    """The largest quality that fits, by halving; None where not even the lowest does."""
    height, width = picture.shape[:2]
    size = (max(1, width // shrink), max(1, height // shrink))
    low, high, found = 1, 95, None
    while low <= high:
        quality = (low + high) // 2
        started = time.perf_counter()
        image = Image.fromarray(picture)
        image = image if shrink == 1 else image.resize(size, _LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, subsampling=sampling, optimize=True, progressive=True)
        seconds = time.perf_counter() - started
        if len(stream.getvalue()) <= budget:
            found, low = (quality, stream.getvalue(), seconds), quality + 1
        else:
            high = quality - 1
    if not found:
        return None
    started = time.perf_counter()
    image = Image.open(io.BytesIO(found[1]))
    image.load()
    samples = np.array(image if shrink == 1 else image.resize((width, height), _BICUBIC))
    seconds = time.perf_counter() - started
    name = f"JPEG quality {found[0]}" + (f" at 1/{shrink} size" if shrink > 1 else "")
    return Jpeg(name, found[1], samples, psnr(samples, picture, 255), found[2], seconds)


def side_by_side(picture: np.ndarray, shown: Sequence[tuple[str, np.ndarray, np.ndarray | None]], crop: tuple[int, int, int, int], zoom: int) -> Image.Image:
    """One sheet: above the original and every (caption, samples, enlarged crop), below the square `crop` = x, y, width, height enlarged.

    A picture that has no enlarged crop of its own (None) is interpolated.
    """
    x, y, width, height = crop
    gap, line = 8, 28
    tile_height, tile_width = picture.shape[:2]
    columns = [("original", picture, None), *shown]
    large = (width * zoom, height * zoom)
    column = max(tile_width, large[0])
    sheet = Image.new("RGB", (len(columns) * (column + gap) + gap, line + tile_height + gap + large[1] + gap), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    for i, (caption, samples, enlarged) in enumerate(columns):
        left, top = gap + i * (column + gap), line
        draw.text((left, 4), caption, "black", font)
        sheet.paste(Image.fromarray(samples), (left, top))
        draw.rectangle((left + x - 1, top + y - 1, left + x + width, top + y + height), outline="white")
        square = Image.fromarray(samples[y : y + height, x : x + width]).resize(large, _BICUBIC) if enlarged is None else Image.fromarray(enlarged)
        sheet.paste(square, (left, top + tile_height + gap))
    return sheet
