"""Other image codecs, through Pillow: the best file of a picture that is no larger than a budget.

Each codec is tried in its variants (subsampled colours or not) and the one with the higher PSNR counts. Sizes are those of whole files.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from math import ceil, log

import numpy as np
from PIL import Image, features

from doh.metrics import psnr


@dataclass(frozen=True)
class Codec:
    """`save` takes (picture, stream, variant, level); of a higher level the file is larger, by and large."""

    name: str
    suffix: str
    settings: str  # said in reports
    variants: tuple[str, ...]
    levels: Callable[[int], int]  # pixels -> the highest level; the lowest is 0
    save: Callable[[Image.Image, io.BytesIO, str, int], None]
    missing: Callable[[], str]  # what to install, or ""
    version: Callable[[], str]  # of the library


@dataclass(frozen=True)
class Found:
    """The best file within a budget; where none fits, `data` is None and `smallest` says how large the smallest one is."""

    data: bytes | None
    psnr: float = 0.0  # dB, decoded from `data`
    choice: str = ""  # variant and level
    smallest: int = 0


@dataclass
class Search:
    """Files of one picture (uint8 RGB) by one codec; what was encoded for one budget serves the next."""

    codec: Codec
    picture: np.ndarray
    _files: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def best(self, budget: int) -> Found:
        """Of the files of at most `budget` bytes, as large as they can be in their variant, the best."""
        fitting = [(variant, level) for variant in self.codec.variants for level in self._largest(variant, budget)]
        if not fitting:
            return Found(None, smallest=min(len(self.file(variant, 0)) for variant in self.codec.variants))
        quality, (variant, level) = max((self._psnr(self.file(*key)), key) for key in fitting)
        return Found(self.file(variant, level), quality, f"{variant} {level}")

    def file(self, variant: str, level: int) -> bytes:
        key = variant, level
        if key not in self._files:
            stream = io.BytesIO()
            self.codec.save(Image.fromarray(self.picture), stream, variant, level)
            self._files[key] = stream.getvalue()
        return self._files[key]

    def _largest(self, variant: str, budget: int) -> list[int]:
        """The level that halving ends at, from what is known; as sizes do not rise strictly, also those of the next two that fit."""
        top = self.codec.levels(self.picture.shape[0] * self.picture.shape[1])
        if len(self.file(variant, 0)) > budget:
            return []
        known = {level: len(data) for (v, level), data in self._files.items() if v == variant}
        low = max((level for level, size in known.items() if size <= budget), default=0)
        high = min((level for level, size in known.items() if size > budget and level > low), default=top + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(self.file(variant, middle)) <= budget else (low, middle)
        return [level for level in range(low, min(low + 2, top) + 1) if len(self.file(variant, level)) <= budget]

    def _psnr(self, data: bytes) -> float:
        with Image.open(io.BytesIO(data)) as image:
            return psnr(np.array(image.convert("RGB")), self.picture, 255)


# The codecs

#: JPEG 2000 is asked for so many bytes: J2K_FIRST * J2K_STEP^level.
J2K_FIRST, J2K_STEP = 64, 1.0025


def _jpeg(image: Image.Image, stream: io.BytesIO, variant: str, level: int) -> None:
    tables, chroma = variant.split("-")
    how = {"qtables": [[flat_step(level)] * 64] * 2} if tables == "flat" else {"quality": level + 1}
    image.save(stream, "JPEG", subsampling=chroma, optimize=True, progressive=True, **how)


def flat_step(level: int) -> int:
    """Of a flat quantisation table: 255 at level 0, 3 at 94."""
    return round(255 * (3 / 255) ** (level / 94))


def _jpeg2000(image: Image.Image, stream: io.BytesIO, variant: str, level: int) -> None:
    ratio = image.width * image.height * 3 / (J2K_FIRST * J2K_STEP**level)
    options = {"irreversible": True, "mct": 1, "no_jp2": True}  # mct: luma and chroma; Pillow codes R, G and B each by itself unless asked
    image.save(stream, "JPEG2000", quality_mode="rates", quality_layers=[max(1.0, ratio)], **options)


#: libwebp's settings beside quality and method. Its own default spends bytes where they are seen, which costs decibels: sns_strength is that.
WEBP = {
    "default": {},
    "psnr": {"sns_strength": 0, "autofilter": 1},
    "psnr-one-segment": {"sns_strength": 0, "autofilter": 1, "segments": 1},
}


def _webp(image: Image.Image, stream: io.BytesIO, variant: str, level: int) -> None:
    """By the package webp, as Pillow has no word for these settings."""
    import webp

    config = webp.WebPConfig.new(quality=level / 4)
    for key, value in {"method": 6, **WEBP[variant]}.items():
        setattr(config.ptr, key, value)
    stream.write(bytes(webp.WebPPicture.from_pil(image).encode(config).buffer()))


def _avif(image: Image.Image, stream: io.BytesIO, variant: str, level: int) -> None:
    image.save(stream, "AVIF", quality=level, subsampling=variant, speed=4, codec="aom", advanced={"tune": "psnr"})


def _heic(image: Image.Image, stream: io.BytesIO, variant: str, level: int) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    chroma = variant.replace(":", "")
    image.save(stream, "HEIF", quality=level, chroma=chroma, enc_params={"preset": "slow", "tune": "psnr"})


def _pillow(feature: str, library: str) -> dict[str, Callable[[], str]]:
    """What tells whether this Pillow has a codec, and in which version."""
    return {
        "missing": lambda: "" if features.check(feature) else f'pillow with {library}: pip install "pillow>=11.3"',
        "version": lambda: f"{library} {features.version(feature)}",
    }


def _heif_version() -> str:
    import pillow_heif

    info = pillow_heif.libheif_info()
    encoder = next(iter(info.get("encoders", {}).values()), "")
    return f"libheif {info['libheif']} ({encoder})" if encoder else f"libheif {info['libheif']}"


def _jpeg_version() -> str:
    turbo = features.version("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"


BOTH = ("4:2:0", "4:4:4")
CODECS = {
    "jpeg": Codec(
        "JPEG",
        ".jpg",
        "quality 1 to 95 with the usual quantisation tables, or flat ones, which have more PSNR; progressive, optimised Huffman tables; 4:2:0 or 4:4:4",
        tuple(f"{tables}-{chroma}" for tables in ("usual", "flat") for chroma in BOTH),
        lambda pixels: 94,
        _jpeg,
        **{**_pillow("jpg", "libjpeg"), "version": _jpeg_version},
    ),
    "jpeg2000": Codec(
        "JPEG 2000",
        ".j2k",
        "9/7 wavelet, colour transform, one layer, 4:4:4 (Pillow offers no other), a bare codestream without the JP2 container's 85 bytes",
        ("4:4:4",),
        lambda pixels: ceil(log(3 * pixels / J2K_FIRST, J2K_STEP)),
        _jpeg2000,
        **_pillow("jpg_2000", "OpenJPEG"),
    ),
    "webp": Codec(
        "WebP",
        ".webp",
        "method 6, quality 0 to 100 in quarters, tuned as by default or for PSNR (sns 0, autofilter, one segment or four); 4:2:0 (it has no other)",
        tuple(WEBP),
        lambda pixels: 400,
        _webp,
        missing=lambda: "" if find_spec("webp") and features.check("webp") else 'pip install webp "pillow>=11.3"',
        version=lambda: f"webp {version('webp')}",
    ),
    "avif": Codec("AVIF", ".avif", "aom, speed 4, tune psnr, quality 0 to 100; 4:2:0 or 4:4:4", BOTH, lambda pixels: 100, _avif, **_pillow("avif", "libavif")),
    "heic": Codec(
        "HEIC",
        ".heic",
        "x265, preset slow, tune psnr, quality 0 to 100; 4:2:0 or 4:4:4",
        BOTH,
        lambda pixels: 100,
        _heic,
        missing=lambda: "" if find_spec("pillow_heif") else "pip install pillow-heif",
        version=_heif_version,
    ),
}
