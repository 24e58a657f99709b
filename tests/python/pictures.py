"""Pictures, and files of them, that several tests of images make."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from doh import signals
from doh.errors import EncodeError
from doh.signals import images


def picture(channels: int, dtype=np.uint8, size=(13, 17)) -> np.ndarray:
    """Noise over the full range, both ends included."""
    rng = np.random.default_rng(channels)
    a = rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels), dtype)
    a[0, 0], a[-1, -1] = 0, np.iinfo(dtype).max
    return a


def read(path):
    signal, warnings = signals.read_signal(path)
    assert signal.kind == "image"
    return signal.samples, warnings


def save(path, mode="RGB", **options) -> Image.Image:
    image = Image.fromarray(picture(3)).convert(mode)
    image.save(path, **options)
    return image


def write_tiff(path, samples, **options) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, samples, **{"metadata": None, "software": False, "photometric": "rgb" if samples.ndim > 2 else "minisblack", **options})


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def tiff(data: bytes, **changes: int | tuple[int, ...]) -> bytes:
    """A little-endian TIFF file of 4 x 4 16-bit RGB pixels with its data in one strip; tags by their numbers: t259=8."""
    tags: dict[str, int | tuple[int, ...]] = {"t256": 4, "t257": 4, "t258": (16, 16, 16), "t259": 1, "t262": 2, "t273": 8, "t277": 3, "t278": 4, "t284": 1}
    body, rows = bytearray(b"II*\0" + bytes(4) + data), b""
    for name, value in sorted({**tags, "t279": len(data), **changes}.items()):
        if isinstance(value, int):
            rows += struct.pack("<HHII", int(name[1:]), 4, 1, value)
        else:
            rows += struct.pack("<HHII", int(name[1:]), 4, len(value), len(body))
            body += struct.pack(f"<{len(value)}I", *value)
    body[4:8] = struct.pack("<I", len(body))
    return bytes(body + struct.pack("<H", len(rows) // 12) + rows + bytes(4))


def refused_in_little_memory(path, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(EncodeError, match=message):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def read_first(tmp_path) -> None:
    """Imports what reads such files: modules are no part of what a file takes."""
    for name in ("a.png", "a.tif"):
        images.write_image(tmp_path / name, picture(3, np.uint16), "u16")
        read(tmp_path / name)
