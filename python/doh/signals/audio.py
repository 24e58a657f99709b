"""Sound files <-> samples (frames, channels) of 16 bits: WAV, FLAC and AIFF through soundfile (the extra `audio`).

A .doh file does not hold the sampling rate: whoever writes a sound file from one has to know it.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from doh.errors import EncodeError
from doh.files import write_atomic
from doh.signal import Signal
from doh.signals.libraries import contents, first_line

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
#: libsndfile's names of what is read. It knows more, whatever a file is called, and of some formats it reads what is there of a truncated file.
_READ = ("WAV", "WAVEX", "RF64", "FLAC", "AIFF")
#: Frames that are read at a time: what a header claims is never believed.
_BLOCK = 1 << 16
#: A file may not unpack to more, at 16 bits: as many samples as decoders take by default. FLAC makes gigabytes of silence from a megabyte.
MAX_BYTES = 1 << 31
#: Bytes of samples that a WAV or AIFF file holds: its size is of 32 bits, headers included.
_MAX_WRITTEN = (1 << 32) - (1 << 16)
#: What libsndfile calls the number of frames where the header does not say it.
_UNKNOWN = (1 << 63) - 1
#: A size of 32 bits where there is none, or another of 64.
_LONG = (1 << 32) - 1


def read(path: Path) -> tuple[Signal, list[str]]:
    """The samples of a sound file, int16 (frames, channels), and notes: the sampling rate, and what was rounded or clipped.

    24-bit, 32-bit and float samples are rounded to the nearest of 16 bits. Raises EncodeError for what is no sound file or damaged, and without
    soundfile; FileError.
    """
    soundfile = _soundfile(path)
    data = contents(path)
    _check_length(path, data)
    blocks, got, clipped = [], 0, 0
    try:
        with soundfile.SoundFile(_Stream(data)) as file:
            if file.format not in _READ:
                raise EncodeError(f"{path}: its format is {file.format}, whatever it is called; doh reads WAV, FLAC and AIFF: convert it first")
            rate, subtype, frames, channels = file.samplerate, file.subtype, file.frames, file.channels
            if frames == _UNKNOWN:
                raise EncodeError(f"{path}: its length is not in its header, as in FLAC files that were written to a pipe: write it again, to a file")
            if channels > 32:
                raise EncodeError(f"{path}: {channels} channels; a signal has at most 32")
            dtype = "int16" if subtype in _EXACT else "int32" if subtype in _INTEGERS else "float64"
            while len(block := file.read(_BLOCK, dtype=dtype, always_2d=True)):
                samples, beyond = _to_16_bit(block, path)
                blocks.append(samples)
                got, clipped = got + len(samples), clipped + beyond
                if got * channels * 2 > MAX_BYTES:
                    raise EncodeError(f"{path}: it unpacks to more than {MAX_BYTES:,} bytes; such files are refused")
    except EncodeError:
        raise
    except MemoryError:
        raise EncodeError(f"{path}: the sound does not fit into memory") from None
    except Exception as error:  # soundfile's own errors, and what its readers of broken headers raise
        cause = getattr(error, "error_string", "") or first_line(error)  # libsndfile's words, without the file's name, which here is that of an object
        raise EncodeError(f"{path}: not a sound file that can be read (WAV, FLAC or AIFF), or damaged ({cause})") from error
    if not got:
        raise EncodeError(f"{path}: there are no samples in it")
    if got < frames:
        raise EncodeError(f"{path}: the file is cut short: {got:,} of {frames:,} frames can be read")
    hint = f": decode with --rate {rate}" if rate <= MAX_RATE else f", nor can a sound be written with it: {MAX_RATE:,} Hz are the most"
    notes = [f"{path}: its rate of {rate:,} Hz is not kept{hint}"]
    if dtype != "int16":
        clips = f"; {clipped:,} of them were clipped" if clipped else ""
        notes.append(f"{path}: {subtype} samples rounded to 16 bit{clips}")
    return Signal(np.concatenate(blocks), "audio", "s16"), notes


def write(path: Path, samples: np.ndarray, info: SampleInfo, rate: int = RATE) -> None:
    """Writes samples (frames, channels) as 16-bit PCM, without loss. Raises EncodeError where the file cannot hold them, FileError."""
    if samples.ndim != 2:
        raise EncodeError(f"{path}: a sound file holds one dimension; these samples have {samples.ndim - 1}: use .npy")
    check(path, samples.shape[-1], info, samples.shape[:-1], rate)
    soundfile = _soundfile(path)
    stream = io.BytesIO()
    try:
        soundfile.write(stream, samples, rate, format=_FORMATS[path.suffix.lower()][0], subtype="PCM_16")
    except (RuntimeError, ValueError) as error:
        raise EncodeError(f"{path}: {len(samples):,} frames at {rate:,} Hz cannot be written ({first_line(error)})") from error
    write_atomic(path, stream.getbuffer())


def check(path: Path, channels: int, info: SampleInfo, extent: tuple[int, ...] | None = None, rate: int = RATE) -> None:
    """Raises EncodeError for anything but a sound, for too many channels, a rate or a length that cannot be written, and without soundfile."""
    name, most = _FORMATS[path.suffix.lower()]
    if info.sample_type != "s16" or len(info.shape) != 1:
        raise EncodeError(f"{path}: {name} holds s16 samples of one dimension, not {info.sample_type} of {len(info.shape)}; use .npy")
    if channels > most:
        raise EncodeError(f"{path}: {name} cannot hold {channels} channels; use {'.wav or ' if channels <= 32 else ''}.npy")
    if not 1 <= rate <= MAX_RATE:
        raise EncodeError(f"{path}: a rate of {rate:,} Hz cannot be written: 1 to {MAX_RATE:,} can")
    if extent is not None and name != "FLAC" and extent[0] * channels * 2 > _MAX_WRITTEN:
        raise EncodeError(f"{path}: {extent[0]:,} frames are more than the 4 GiB of {name}; use .flac or .npy")
    _soundfile(path)


def _check_length(path: Path, data: bytes) -> None:
    """Raises EncodeError for a WAV, RF64 or AIFF file that is shorter than it says: libsndfile reads what is there, without a word.

    The chunk of the samples decides; where it is not there or was written before its length was known, the whole file's size does.
    """
    order = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"FORM": ">"}.get(data[:4])
    if order is None or len(data) < 12:
        return
    (size,) = struct.unpack_from(order + "I", data, 4)
    long = samples = 0  # RF64's: the sizes of 64 bits that 2^32 - 1 in place of one of 32 stands for
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from(order + "4sI", data, at)
        if name == b"ds64" and at + 24 <= len(data):
            long, samples = struct.unpack_from(order + "QQ", data, at + 8)
        if name in (b"data", b"SSND"):
            length = samples if length == _LONG else length
            if not _streamed(length):
                _check_end(path, data, at + 8 + length)
                return
            break
        at += 8 + length + length % 2
    size = long if size == _LONG else size
    if not _streamed(size):
        _check_end(path, data, 8 + size, 1)  # some leave out the last byte where it only makes the length even


def _check_end(path: Path, data: bytes, end: int, less: int = 0) -> None:
    if len(data) < end - less:
        raise EncodeError(f"{path}: the file is truncated: {len(data):,} of {end:,} bytes are there")


def _streamed(size: int) -> bool:
    """Whether a program that did not know the size of what was to come wrote this."""
    return size in (0, _LONG, (1 << 64) - 1) or 0x7FFFF000 <= size <= 0x7FFFFFFF


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
