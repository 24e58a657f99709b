"""16-bit grey + alpha, RGB and RGBA in PNG (pypng) and TIFF (tifffile): the files that Pillow would cut to 8 bit.

Both are pure Python and small, and imported only for such files; imagecodecs or OpenCV would do the same at 25 to 60 MB.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from doh.errors import EncodeError
from doh.signals.libraries import quietly

if TYPE_CHECKING:
    import tifffile

PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
#: First bytes of a TIFF file -> its byte order, and whether it is a BigTIFF with offsets of 8 bytes. The last two are wrong, but Pillow reads such files.
_TIFF = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True), b"II\0*": ("<", False), b"MM*\0": (">", False)}
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # by type of a tag
_ORIENTATION, _SAMPLE_FORMAT = 274, 339
#: Values of the tag SampleFormat. 1 is unsigned, 4 says nothing.
_NOT_UNSIGNED = {2: "signed", 3: "float", 5: "complex", 6: "complex"}
#: Values of the tag ExtraSamples.
PREMULTIPLIED, _STRAIGHT = 1, 2
#: Compressed data may unpack to so much more than its samples take: some writers are careless about the end.
_SLACK = 1 << 16


class Depth(NamedTuple):
    bits: int
    channels: int


class Tiff(NamedTuple):
    """The first picture of a TIFF file."""

    samples: np.ndarray  # uint16 (height, width, 1 to 4)
    tags: frozenset[int]
    orientation: object  # what tag 274 says, whether it makes sense or not
    frames: int
    notes: list[str]  # what was converted or dropped


def sample_bits(data: bytes) -> Depth | None:
    """Bits for each sample and samples for each pixel of a PNG or TIFF file; None for any other or a damaged one."""
    if data.startswith(PNG) and len(data) >= 26:
        return Depth(data[24], _PNG_CHANNELS.get(data[25], 0))
    return _tiff_bits(data) if data[:4] in _TIFF else None


def _tiff_bits(data: bytes) -> Depth | None:
    """Tags 258 (BitsPerSample) and 277 (SamplesPerPixel) of the first directory."""
    found = _tiff_tags(data, (258, 277), 1)
    return None if found is None else Depth(*(found.get(tag, (1,))[0] for tag in (258, 277)))


def check_tiff(data: bytes) -> None:
    """Raises EncodeError for a TIFF file of signed or float samples or of more than 16 bits: some of them Pillow takes for others, without a word."""
    depth = _tiff_bits(data) if data[:4] in _TIFF else None
    if depth is None:
        return
    found = _tiff_tags(data, (_SAMPLE_FORMAT,), 16) or {}
    kinds = [_NOT_UNSIGNED[value] for value in found.get(_SAMPLE_FORMAT, ()) if value in _NOT_UNSIGNED]
    if kinds or depth.bits > 16:
        kind = f"{kinds[0]} samples" if kinds else "samples"
        raise EncodeError(f"{kind} of {depth.bits} bits cannot be coded; convert the picture to 8 or 16 bit grey or RGB, without a sign")


def _tiff_tags(data: bytes, tags: tuple[int, ...], most: int) -> dict[int, tuple[int, ...]] | None:
    """The first values, at most so many, of those of the tags that the first directory has; None where they are not in the file."""
    order, big = _TIFF[data[:4]]
    word = "Q" if big else "I"
    room = struct.calcsize(order + word)
    found = {}
    try:
        start, count, _ = next(_directories(data))
        entry = 4 + 2 * room
        for at in range(start, start + entry * count, entry):
            tag, kind, values = struct.unpack_from(order + "HH" + word, data, at)
            if tag in tags and kind in _TIFF_INTEGERS:
                place, form = at + 4 + room, _TIFF_INTEGERS[kind]
                if values * struct.calcsize(order + form) > room:
                    (place,) = struct.unpack_from(order + word, data, place)
                found[tag] = struct.unpack_from(f"{order}{max(1, min(values, most))}{form}", data, place)
    except (struct.error, OverflowError, StopIteration):
        return None
    return found


def _directories(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of every directory of a TIFF file, each once: where its entries start, how many there are, and where the next directory lies."""
    order, big = _TIFF[data[:4]]
    word, number, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + word, data, 8 if big else 4)
        while at and at not in seen:  # a damaged file may lead in a circle
            seen.add(at)
            (count,) = struct.unpack_from(order + number, data, at)
            start = at + struct.calcsize(order + number)
            (at,) = struct.unpack_from(order + word, data, start + entry * count)
            yield start, count, at
    except (struct.error, OverflowError):
        return


def read_png(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of a 16-bit PNG file: uint16 (height, width, channels). Raises EncodeError, and whatever pypng raises for a damaged file."""
    import png  # type: ignore[import-untyped]

    width, height = struct.unpack_from(">II", data, 16)
    _check_size(width, height, max_pixels)
    parts = (content for name, content in _png_chunks(data) if name == b"IDAT")
    # a byte more for each row; an interlaced picture has less than two rows for each, in seven passes
    _check_unpacked(parts, 2 * width * height * _PNG_CHANNELS.get(data[25], 0) + 2 * height + 7, "its data")
    reader = png.Reader(bytes=data)
    width, height, rows, info = reader.read()
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


def transparent_grey(data: bytes) -> int | None:
    """The grey that a PNG file calls transparent, as it is among samples of 8 or 16 bits: of 1 to 4 bits it is scaled as they are."""
    if not (data.startswith(PNG) and len(data) >= 26 and data[25] == 0):
        return None
    for name, content in _png_chunks(data):
        if name == b"tRNS" and len(content) >= 2:
            bits, (key,) = data[24], struct.unpack_from(">H", content)
            return int(key * 255 // ((1 << bits) - 1) if 0 < bits < 8 else key)
        if name == b"IDAT":
            break
    return None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    at = len(PNG)
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, memoryview(data)[at + 8 : at + 8 + size]
        at += 12 + size


def read_tiff(data: bytes, max_pixels: int) -> Tiff:
    """The first picture of a 16-bit TIFF file, grey or RGB, with or without alpha. Raises EncodeError, and whatever tifffile raises for a damaged file."""
    import tifffile

    with quietly(logging.getLogger("tifffile")), tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        _check_size(page.imagewidth, page.imagelength, max_pixels)
        many = page.samplesperpixel
        if page.dtype != np.uint16 or page.bitspersample != 16 or not 1 <= many <= 4:
            raise EncodeError(f"{many} samples of {page.dtype or f'{page.bitspersample} bits'} a pixel cannot be coded; 1 to 4 of uint8 or uint16 can")
        kind = _name(page.photometric)
        colours = {"RGB": 3, "MINISBLACK": 1, "MINISWHITE": 1}.get(kind, 0)
        if not colours or colours + len(page.extrasamples) > many or page.imagedepth != 1:
            raise EncodeError(f"16-bit TIFF with {kind} colours of {many} samples a pixel cannot be coded; convert it to RGB")
        _check_segments(page, data, max_pixels)
        try:
            planes = page.asarray().reshape(page.shaped)  # (separate samples, 1, height, width, samples together)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise EncodeError(_unreadable(page)) from error
        samples = np.moveaxis(planes[:, 0], 0, -2).reshape(page.imagelength, page.imagewidth, many)
        if kind == "MINISWHITE":
            samples[..., 0] = 65535 - samples[..., 0]
        samples, notes = _with_alpha(samples, colours, [int(value) for value in page.extrasamples])
        return Tiff(samples, frozenset(tag.code for tag in page.tags), page.tags.valueof(_ORIENTATION), sum(1 for _ in _directories(data)), notes)


def _check_segments(page: tifffile.TiffPage, data: bytes, max_pixels: int) -> None:
    """Raises EncodeError for a compression that cannot be read, for strips or tiles that are not there, and for one that unpacks to more than it should.

    tifffile makes room for what the header claims, and leaves black what is missing.
    """
    name, parts = _name(page.compression), list(zip(page.dataoffsets, page.databytecounts))
    if len(parts) < math.prod(page.chunked) or any(offset + size > len(data) for offset, size in parts):
        raise EncodeError("the image is damaged or cut short (strips or tiles of it are not there)")
    if name == "NONE":
        return
    if name not in ("ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZW") or page.fillorder != 1:
        raise EncodeError(_unreadable(page))
    limit = math.prod(page.chunks) * 2
    if limit > 8 * max_pixels:
        raise EncodeError(f"a strip or tile of it claims more than {max_pixels:,} pixels; such files are refused")
    for offset, size in parts:
        part = memoryview(data)[offset : offset + size]
        if name == "PACKBITS":
            _check_packbits(part, limit)
        elif name != "LZW":  # for which tifffile needs imagecodecs, which writes no further than the strip's samples go
            _check_unpacked([part], limit, "a strip or tile of it")


def _name(value: object) -> str:
    """Of one of tifffile's constants, or the number where it has no name."""
    return str(getattr(value, "name", value))


def _unreadable(page: tifffile.TiffPage) -> str:
    return f"16-bit TIFF with {_name(page.compression)} compression cannot be read; save it uncompressed or with Deflate"


def _check_unpacked(parts: Iterable[memoryview], limit: int, what: str) -> None:
    """Raises EncodeError where one zlib stream, in parts, unpacks to more than `limit` bytes: found out in little memory, as a library would not."""
    unpacker, size = zlib.decompressobj(), 0
    for part in parts:
        for at in range(0, len(part), 1 << 16):
            rest: memoryview | bytes = part[at : at + (1 << 16)]
            while rest and not unpacker.eof:
                size += len(unpacker.decompress(rest, 1 << 20))
                if size > limit + _SLACK:
                    raise EncodeError(f"{what} unpacks to more than the {limit:,} bytes that its samples take; such files are refused")
                rest = unpacker.unconsumed_tail


def _check_packbits(part: memoryview, limit: int) -> None:
    """The same of PackBits: a byte n is followed by n + 1 bytes, or by one that is repeated 257 - n times."""
    at = size = 0
    while at < len(part):
        n = part[at]
        size += n + 1 if n < 128 else 257 - n if n > 128 else 0
        at += n + 2 if n < 128 else 2 if n > 128 else 1
        if size > limit + _SLACK:
            raise EncodeError(f"a strip or tile of it unpacks to more than the {limit:,} bytes that its samples take; such files are refused")


def _with_alpha(samples: np.ndarray, colours: int, extra: list[int]) -> tuple[np.ndarray, list[str]]:
    """The colours and the first of the other samples that is said to be alpha, not premultiplied; and what was dropped or converted.

    samples: uint16 (height, width, colours and others). extra: what the others are, by the tag ExtraSamples; those that it does not name are anything.
    """
    many, notes = samples.shape[-1], []
    alpha = next((n for n, meaning in enumerate(extra) if meaning in (PREMULTIPLIED, _STRAIGHT)), None)
    kept = [*range(colours)] if alpha is None else [*range(colours), colours + alpha]
    if len(kept) < many:
        notes.append(not_explained(many - len(kept), many))
        samples = samples[..., kept]
    if alpha is not None and extra[alpha] == PREMULTIPLIED:
        notes.append(f"premultiplied alpha converted to 16-bit {'grey' if colours == 1 else 'RGBA'}")
        samples = samples.copy()
        for row in samples:  # one at a time: products take twice the room
            share = row[:, -1:].astype(np.uint32)
            full = (row[:, :-1] * np.uint32(65535) + share // 2) // np.maximum(share, 1)  # below 2^32
            row[:, :-1] = np.where(share > 0, np.minimum(full, 65535), 0)
    return samples, notes


def not_explained(dropped: int, many: int) -> str:
    """The remark on so many of a pixel's samples that are left out."""
    return f"{dropped} of {many} samples of each pixel not kept: the file does not say that they are colours or alpha"


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
        file.write(samples, photometric=kind, planarconfig="contig", extrasamples=extra, compression="zlib", predictor=True, metadata=None, software=False)
        file.close()
