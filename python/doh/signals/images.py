"""Image files <-> samples (height, width, channels): PNG, JPEG, WebP, TIFF and BMP; grey, grey + alpha, RGB, RGBA; 8 and 16 bit.

Pillow reads and writes everything but 16-bit colour, which it cuts to 8 bit without a word; doh.signals.deep does that.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from doh.errors import EncodeError
from doh.files import write_atomic
from doh.model import TOP
from doh.signal import Signal
from doh.signals import deep
from doh.signals.libraries import contents, first_line, quietly

if TYPE_CHECKING:
    from doh.signals import SampleInfo

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
_ORIENTATION, _PHOTOMETRIC, _SAMPLES, _EXTRA = 0x0112, 0x0106, 277, 338
_SRGB_GAMMA = 0.45455  # as PNG stores it: what everybody assumes anyway
#: Tags of a TIFF file that say something about the picture; the others describe how the file is laid out.
_TIFF_LOST: dict[str, Set[int]] = {
    "ICC colour profile": {34675},
    "EXIF metadata": {270, 271, 272, 305, 306, 315, 316, 33432, 33723, 34665, 34853},
    "XMP metadata": {700},
    "Photoshop data": {34377},
}

#: Pillow mode -> what it is turned into, and the name by which a warning calls it (None: nothing is lost).
_MODES = {
    "1": ("L", "1-bit samples"),
    "P": ("RGB", "the palette"),
    "PA": ("RGBA", "the palette"),
    "CMYK": ("RGB", "CMYK colours"),
    "YCbCr": ("RGB", "YCbCr colours"),
    "HSV": ("RGB", "HSV colours"),
    "RGBX": ("RGB", None),
    "RGBa": ("RGBA", "premultiplied alpha"),
    "La": ("LA", "premultiplied alpha"),
}


class _Writer(NamedTuple):
    format: str  # Pillow's name
    channels: tuple[int, ...]
    sample_types: tuple[str, ...]
    side: int  # pixels, at most
    options: dict[str, Any]


_SIDE = (1 << 31) - 1
#: Extension -> what it holds, and how it is written.
_WRITERS = {
    ".png": _Writer("PNG", (1, 2, 3, 4), ("u1", "u8", "u16"), _SIDE, {"compress_level": 3}),  # of 9, the knee: a tenth larger in a twentieth of the time
    ".tif": _Writer("TIFF", (1, 2, 3, 4), ("u1", "u8", "u16"), _SIDE, {"compression": "tiff_adobe_deflate"}),
    ".webp": _Writer("WEBP", (1, 3, 4), ("u1", "u8"), 16383, {"lossless": True, "exact": True}),  # a grey image becomes three equal channels
    ".bmp": _Writer("BMP", (1, 3), ("u1", "u8"), _SIDE, {}),
    ".jpg": _Writer("JPEG", (1, 3), ("u1", "u8"), 65500, {"quality": 95, "subsampling": 0}),  # libjpeg's side, a little below the format's
}
_WRITERS[".tiff"], _WRITERS[".jpeg"] = _WRITERS[".tif"], _WRITERS[".jpg"]
_MODE_OF = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def read_image(path: Path | str) -> tuple[Signal, list[str]]:
    """The picture in a file, turned as its EXIF orientation says: samples (height, width, 1 to 4) of uint8 or uint16.

    Also returns one sentence for everything that is converted or not kept: palette, 1-bit, CMYK; colour profile, metadata, further frames.
    Raises EncodeError for what is no image, is damaged or too large to be true, FileError for what cannot be read.
    """
    path = Path(path)
    data = contents(path)
    try:
        with quietly(logging.getLogger("PIL")):  # Pillow's remarks on odd but readable files; bombs above its hard limit still raise
            samples, notes = _read(data)
    except EncodeError as error:
        raise EncodeError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise EncodeError(f"{path}: not an image that can be read (PNG, JPEG, WebP, TIFF or BMP)") from error
    except Image.DecompressionBombError as error:
        raise EncodeError(f"{path}: the picture claims more than {_max_pixels():,} pixels; such files are refused") from error
    except ImportError as error:
        raise EncodeError(f"{path}: 16-bit colour needs {error.name}, which is not installed: pip install pypng tifffile") from error
    except MemoryError:
        raise EncodeError(f"{path}: the picture does not fit into memory") from None
    except Exception as error:  # the decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more for damaged files
        raise EncodeError(f"{path}: the image is damaged or cut short ({first_line(error)})") from error
    return Signal(samples, "image", "u16" if samples.dtype == np.uint16 else "u8"), [f"{path}: {note}" for note in notes]


def write_image(path: Path | str, samples: np.ndarray, sample_type: str) -> None:
    """Writes samples (height, width, channels) in the format that the extension names, at once or not at all. 1-bit samples become black and white.

    PNG, TIFF, WebP and BMP are lossless, JPEG is written at quality 95. Raises EncodeError where the format cannot hold the samples, FileError.
    """
    path = Path(path)
    if samples.ndim != 3:
        raise EncodeError(f"{path}: an image file holds two dimensions; these samples have {samples.ndim - 1}: use .npy")
    check_image(path, samples.shape[-1], sample_type, samples.shape[:2])
    writer = _WRITERS[path.suffix.lower()]
    name = writer.format
    stream = io.BytesIO()
    try:
        if sample_type == "u16" and samples.shape[-1] > 1:
            deep.write(stream, samples, name)
        else:
            values = samples * np.uint8(255) if TOP[sample_type] == 1 else samples
            Image.fromarray(np.ascontiguousarray(values.squeeze(-1) if values.shape[-1] == 1 else values)).save(stream, name, **writer.options)
    except (OSError, ValueError) as error:  # more than 4 GiB
        size = f"{samples.shape[1]} x {samples.shape[0]}"
        raise EncodeError(f"{path}: a picture of {size} pixels cannot be written as {name} ({first_line(error)})") from error
    write_atomic(path, stream.getbuffer())


def check_image(path: Path | str, channels: int, sample_type: str, extent: tuple[int, ...] | None = None) -> None:
    """Raises EncodeError where a file of this name cannot hold so many channels of that sample type, or (height, width) of so many pixels."""
    writer, side = _WRITERS[Path(path).suffix.lower()], max(extent or (1,))
    if channels not in writer.channels:
        what = {2: "grey with alpha", 4: "alpha"}.get(channels, f"{channels} channels")
    elif sample_type not in writer.sample_types:
        what = f"{sample_type} samples"
    elif side > writer.side:
        what = f"a side of {side:,} pixels: {writer.side:,} are the most"
    else:
        return
    able = [name for name, other in _WRITERS.items() if channels in other.channels and sample_type in other.sample_types and side <= other.side]
    raise EncodeError(f"{path}: {writer.format} cannot hold {what}; use {', '.join([*able, '.npy'])}")


def read(path: Path) -> tuple[Signal, list[str]]:
    return read_image(path)


def write(path: Path, samples: np.ndarray, info: SampleInfo) -> None:
    write_image(path, samples, info.sample_type)


def check(path: Path, channels: int, info: SampleInfo, extent: tuple[int, ...] | None = None) -> None:
    """Raises EncodeError for anything but two dimensions, and where the format cannot hold the samples."""
    check_image(path, channels, info.sample_type, extent)
    if len(info.shape) != 2:
        raise EncodeError(f"{path}: an image file holds two dimensions; this signal has {len(info.shape)}: use .npy")


def _read(data: bytes) -> tuple[np.ndarray, list[str]]:
    deep.check_tiff(data)
    depth = deep.sample_bits(data)
    if depth is not None and depth.bits > 8 and depth.channels > 1:
        return _read_deep(data)
    image: Image.Image
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        if depth is None or depth.bits <= 8:
            raise
        return _read_deep(data)  # 16-bit grey that Pillow does not know, such as big-endian with white as 0
    with image:
        notes = _frames(getattr(image, "n_frames", 1))
        if notes:
            image.seek(0)
        image.load()
        lost, notes = _lost(image), notes + _extra_samples(image)
        white_is_0 = image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]
        key = deep.transparent_grey(data)
        if key is not None:
            image.info.pop("transparency", None)  # what Pillow makes of it depends on the depth and on its release
        image = ImageOps.exif_transpose(image)
        image, changed = _plain(image)
        notes += changed
        samples = np.array(image)
    samples = samples.astype(np.uint16) if samples.dtype.itemsize > 1 else samples
    if white_is_0:
        samples = 65535 - samples  # Pillow does so for 8 bits only
    if key is not None:
        samples = np.stack([samples, np.where(samples == key, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)], -1)
        notes.append("the transparent colour converted to an alpha channel")
    return samples if samples.ndim == 3 else samples[..., None], notes + _not_kept(lost)


def _read_deep(data: bytes) -> tuple[np.ndarray, list[str]]:
    """16-bit colour. Of PNG files Pillow is still asked for what it knows: the orientation, the metadata."""
    if data.startswith(deep.PNG):
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            orientation, lost, notes = image.getexif().get(_ORIENTATION, 1), _lost(image), _frames(getattr(image, "n_frames", 1))
        samples = deep.read_png(data, _max_pixels())
    else:
        tiff = deep.read_tiff(data, _max_pixels())
        samples, orientation, lost, notes = tiff.samples, tiff.orientation, _lost_tags(tiff.tags), _frames(tiff.frames) + tiff.notes
    return _turn(samples, orientation), notes + _not_kept(lost)


def _frames(count: int) -> list[str]:
    return [f"only the first of {count} frames is kept"] if count > 1 else []


def _not_kept(lost: list[str]) -> list[str]:
    return [f"not kept: {', '.join(lost)}"] if lost else []


def _plain(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image in one of the modes L, LA, RGB, RGBA, I;16, and what was converted on the way."""
    notes: list[str] = []
    if image.mode.startswith("I;16"):
        return image, notes
    if image.mode == "I":  # 16-bit grey, in older releases of Pillow
        samples = np.array(image)
        if samples.min() >= 0 and samples.max() <= 65535:
            return Image.fromarray(samples.astype(np.uint16)), notes
    if image.mode in _MODES:
        target, name = _MODES[image.mode]
        if "transparency" in image.info and target == "RGB":
            target = "RGBA"
        if name:
            notes.append(f"{name} converted to 8-bit {'grey' if target in ('L', 'LA') else target}")
        image = image.convert(target)
    elif "transparency" in image.info and image.mode == "RGB":
        notes.append("the transparent colour converted to an alpha channel")
        image = image.convert("RGBA")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise EncodeError(f"samples of Pillow's mode {image.mode} cannot be coded; convert the picture to 8 or 16 bit grey or RGB")
    return image, notes


def _extra_samples(image: Image.Image) -> list[str]:
    """What Pillow does, without a word, with the samples of an 8-bit TIFF file that are no colours."""
    if image.format != "TIFF":
        return []
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    many, kept = tags.get(_SAMPLES, 1), 3 if image.mode == "RGBX" else len(image.getbands())
    notes = [deep.not_explained(many - kept, many)] if many > kept else []
    if image.mode == "RGBA" and tags.get(_EXTRA, ())[:1] == (deep.PREMULTIPLIED,):
        notes.append("premultiplied alpha converted to 8-bit RGBA")
    return notes


def _lost(image: Image.Image) -> list[str]:
    """What the file says besides its pixels, by name."""
    info = image.info
    if image.format == "TIFF":
        return _lost_tags(set(image.tag_v2))  # type: ignore[attr-defined]
    lost = []
    if info.get("icc_profile"):
        lost.append("ICC colour profile")
    if set(image.getexif()) - {_ORIENTATION}:
        lost.append("EXIF metadata")
    if info.get("xmp"):
        lost.append("XMP metadata")
    if info.get("photoshop"):
        lost.append("Photoshop data")
    if info.get("comment") or getattr(image, "text", None):
        lost.append("text")
    if abs(info.get("gamma", _SRGB_GAMMA) - _SRGB_GAMMA) > 1e-4:
        lost.append("gamma")
    if info.get("dpi") and (image.format == "PNG" or info.get("jfif_unit")):  # the other formats have to have one, whether it means anything or not
        lost.append("resolution")
    return lost


def _lost_tags(tags: Set[int]) -> list[str]:
    """The same of a TIFF file, by the numbers of its tags."""
    return [name for name, those in _TIFF_LOST.items() if tags & those]


def _turn(samples: np.ndarray, orientation: object) -> np.ndarray:
    """Samples (height, width, channels) as the EXIF orientation says they are to be seen; as they are, where it is none of 1 .. 8."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples)


def _max_pixels() -> int:
    """Pillow's own hard limit: above it a file is taken for a decompression bomb."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 1 << 62)
