"""16-bit grey + alpha, RGB and RGBA in PNG (pypng) and TIFF (tifffile): the files that Pillow would cut to 8 bit.

Both are pure Python and small, and imported only for such files; imagecodecs or OpenCV would do the same at 25 to 60 MB.
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

import numpy as np

from doh.errors import EncodeError

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


class Depth(NamedTuple):
    bits: int
    channels: int


def sample_bits(data: bytes) -> Depth | None:
    """Bits for each sample and samples for each pixel of a PNG or TIFF file; None for any other or a damaged one."""
    if data.startswith(_PNG) and len(data) >= 26:
        return Depth(data[24], _PNG_CHANNELS.get(data[25], 0))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    return _tiff_bits(data, order) if order else None


def _tiff_bits(data: bytes, order: str) -> Depth | None:
    """Tags 258 (BitsPerSample) and 277 (SamplesPerPixel) of the first directory."""
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        bits, channels = 1, 1
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, values, offset = struct.unpack_from(order + "HHII", data, at)
            if tag == 258:
                (bits,) = struct.unpack_from(order + "H", data, at + 8 if values <= 2 else offset)
            elif tag == 277:
                (channels,) = struct.unpack_from(order + "H", data, at + 8)
        return Depth(bits, channels)
    except struct.error:
        return None


def read(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of a 16-bit colour file: uint16 (height, width, channels).

    Raises EncodeError, and whatever pypng and tifffile raise for a damaged file.
    """
    return _read_png(data, max_pixels) if data.startswith(_PNG) else _read_tiff(data, max_pixels)


def _read_png(data: bytes, max_pixels: int) -> np.ndarray:
    import png  # type: ignore[import-untyped]

    reader = png.Reader(bytes=data)
    width, height, rows, info = reader.read()
    _check_size(width, height, max_pixels)
    samples = np.empty((height, width * info["planes"]), np.uint16)
    filled = 0
    for filled, row in enumerate(rows, 1):
        samples[filled - 1] = row
    if filled != height:
        raise ValueError(f"{filled} of {height} rows")
    samples = samples.reshape(height, width, info["planes"])
    if reader.transparent is None:
        return samples
    opaque = (samples != np.array(reader.transparent, np.uint16)).any(-1, keepdims=True)
    return np.concatenate([samples, opaque * np.uint16(65535)], -1)


def _read_tiff(data: bytes, max_pixels: int) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        _check_size(page.imagewidth, page.imagelength, max_pixels)
        if page.dtype != np.uint16 or not 2 <= page.samplesperpixel <= 4:
            raise EncodeError(f"{page.samplesperpixel} samples of {page.bitspersample} bits a pixel cannot be coded; 1 to 4 of 8 or 16 bit can")
        colours = page.samplesperpixel - len(page.extrasamples)
        if page.photometric.name not in ("RGB", "MINISBLACK") or colours not in (1, 3):
            raise EncodeError(f"16-bit TIFF with {page.photometric.name} colours cannot be coded; convert it to RGB")
        try:
            samples = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise EncodeError(f"16-bit TIFF with {page.compression.name} compression cannot be read; save it uncompressed or with Deflate") from error
        return np.moveaxis(samples, 0, -1) if page.planarconfig.name == "SEPARATE" else samples


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise EncodeError(f"the picture claims more than {max_pixels:,} pixels; such files are refused")


def write(stream: io.BytesIO, samples: np.ndarray, name: str) -> None:
    """Writes uint16 samples (height, width, 2 to 4) as "PNG" or "TIFF", without loss."""
    height, width, channels = samples.shape
    if name == "PNG":
        import png

        writer = png.Writer(width, height, greyscale=channels == 2, alpha=channels in (2, 4), bitdepth=16)
        writer.write_packed(stream, (row.tobytes() for row in samples.astype(">u2")))
    else:
        import tifffile

        extra = ["unassalpha"] if channels in (2, 4) else None
        kind = "minisblack" if channels == 2 else "rgb"
        file = tifffile.TiffWriter(stream)
        file.write(
            samples, photometric=kind, planarconfig="contig", extrasamples=extra, compression="zlib", predictor=True, metadata=None, software=False
        )
        file.close()
