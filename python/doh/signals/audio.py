"""Sound files <-> samples (frames, channels) of 16 bits: WAV, FLAC and AIFF through soundfile (the extra `audio`).

A .doh file does not hold the sampling rate: whoever writes a sound file from one has to know it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from doh.errors import EncodeError
from doh.files import read_bytes, write_atomic
from doh.signal import Signal
from doh.signals.libraries import first_line

if TYPE_CHECKING:
    from doh.signals import SampleInfo

#: Samples per second that a written file claims where nobody says what is right.
RATE = 44_100
MAX_RATE = 655_350  # FLAC's
WRITE_OPTIONS = ("rate",)
#: Extension -> libsndfile's name of the format, the most channels.
_FORMATS = {".wav": ("WAV", 32), ".flac": ("FLAC", 8), ".aiff": ("AIFF", 32), ".aif": ("AIFF", 32)}
#: Encodings that libsndfile gives as 16-bit samples without loss.
_EXACT = {"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"}
_INTEGERS = {"PCM_24", "PCM_32"}
#: Frames that are read at a time: what a header claims is never believed.
_BLOCK = 1 << 16


def read(path: Path) -> tuple[Signal, list[str]]:
    """The samples of a sound file, int16 (frames, channels), and notes: the sampling rate, and what was rounded or clipped.

    24-bit, 32-bit and float samples are rounded to the nearest of 16 bits. Raises EncodeError for what is no sound file or damaged, and without
    soundfile; FileError.
    """
    soundfile = _soundfile(path)
    data = read_bytes(path)
    try:
        with soundfile.SoundFile(_Stream(data)) as file:
            rate, subtype, frames, channels = file.samplerate, file.subtype, file.frames, file.channels
            dtype = "int16" if subtype in _EXACT else "int32" if subtype in _INTEGERS else "float64"
            blocks = []
            while len(block := file.read(_BLOCK, dtype=dtype, always_2d=True)):
                blocks.append(block)
    except MemoryError:
        raise EncodeError(f"{path}: the sound does not fit into memory") from None
    except Exception as error:  # soundfile's own errors, and what its readers of broken headers raise
        raise EncodeError(f"{path}: not a sound file that can be read (WAV, FLAC or AIFF), or damaged ({first_line(error)})") from error
    got = sum(map(len, blocks))
    if not got:
        raise EncodeError(f"{path}: there are no samples in it")
    if got < frames:
        raise EncodeError(f"{path}: the file is cut short: {got:,} of {frames:,} frames can be read")
    if channels > 32:
        raise EncodeError(f"{path}: {channels} channels; a signal has at most 32")
    notes = [f"{path}: its rate of {rate:,} Hz is not kept: decode with --rate {rate}"]
    samples, clipped = _to_16_bit(np.concatenate(blocks), path)
    if dtype != "int16":
        clips = f"; {clipped:,} of them were clipped" if clipped else ""
        notes.append(f"{path}: {subtype} samples rounded to 16 bit{clips}")
    return Signal(samples, "audio", "s16"), notes


def write(path: Path, samples: np.ndarray, info: SampleInfo, rate: int = RATE) -> None:
    """Writes samples (frames, channels) as 16-bit PCM, without loss. Raises EncodeError where the file cannot hold them, FileError."""
    if samples.ndim != 2:
        raise EncodeError(f"{path}: a sound file holds one dimension; these samples have {samples.ndim - 1}: use .npy")
    check(path, samples.shape[-1], info)
    if not 1 <= rate <= MAX_RATE:
        raise EncodeError(f"{path}: a rate of {rate:,} Hz cannot be written: 1 to {MAX_RATE:,} can")
    soundfile = _soundfile(path)
    stream = io.BytesIO()
    try:
        soundfile.write(stream, samples, rate, format=_FORMATS[path.suffix.lower()][0], subtype="PCM_16")
    except (RuntimeError, ValueError) as error:
        raise EncodeError(f"{path}: {len(samples):,} frames at {rate:,} Hz cannot be written ({first_line(error)})") from error
    write_atomic(path, stream.getbuffer())


def check(path: Path, channels: int, info: SampleInfo) -> None:
    """Raises EncodeError for anything but a sound, for too many channels, and without soundfile."""
    name, most = _FORMATS[path.suffix.lower()]
    if info.sample_type != "s16" or len(info.shape) != 1:
        raise EncodeError(f"{path}: {name} holds s16 samples of one dimension, not {info.sample_type} of {len(info.shape)}; use .npy")
    if channels > most:
        raise EncodeError(f"{path}: {name} cannot hold {channels} channels; use {'.wav or ' if channels <= 32 else ''}.npy")
    _soundfile(path)


class _Stream(io.BytesIO):
    """Bytes that a damaged header may ask for at a negative place: the position stays, libsndfile notices, and no traceback is printed on the way."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _to_16_bit(samples: np.ndarray, path: Path) -> tuple[np.ndarray, int]:
    """int16, int32 or float64 samples as int16, to the nearest, and how many lay outside of its range. 1.0 is 2^15, as in libsndfile."""
    if samples.dtype == np.int16:
        return samples, 0
    if samples.dtype == np.int32:
        wide = (samples.astype(np.int64) + (1 << 15)) >> 16
    else:
        if not np.isfinite(samples).all():
            raise EncodeError(f"{path}: some samples are not finite numbers")
        wide = np.rint(samples * 32768)
    return np.clip(wide, -32768, 32767).astype(np.int16), int((abs(wide) > 32768).sum())  # full scale itself loses no more than rounding does


def _soundfile(path: Path) -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, its library is not
        raise EncodeError(f"{path}: sound files need soundfile, which is not installed: pip install 'doh[audio]'") from error
    return soundfile
