"""numpy's .npy files: any signal at all, without loss."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from doh.errors import EncodeError
from doh.files import write_atomic
from doh.signal import Signal
from doh.signals.libraries import contents, first_line

_TYPES = {np.dtype(np.bool_): "u1", np.dtype(np.uint8): "u8", np.dtype(np.uint16): "u16", np.dtype(np.int16): "s16"}


def read(path: Path) -> tuple[Signal, list[str]]:
    """The array in a .npy file: bool, uint8, uint16 or int16. Pickled objects are refused. Raises EncodeError, FileError.

    (height, width) and (height, width, 1 to 4) of uint8 or uint16 are images; anything else is a signal of kind `array`.
    The last axis is the channels; only an array of one axis, and one of two axes that is not int16, has none: it has one channel.
    """
    data = contents(path)
    if data.startswith(b"PK\x03\x04"):
        raise EncodeError(f"{path}: an archive of arrays; doh reads a single array")
    if not data.startswith(np.lib.format.MAGIC_PREFIX):  # numpy would take it for pickled objects, and advise to load them
        raise EncodeError(f"{path}: not a .npy file: it does not begin as they do")
    try:
        samples = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy raises half a dozen kinds for a damaged header
        if "allow_pickle" in str(error):
            raise EncodeError(f"{path}: an array of Python objects; doh stores bool, uint8, uint16 and int16") from error
        raise EncodeError(f"{path}: not a readable .npy file ({first_line(error)})") from error
    sample_type = _TYPES.get(samples.dtype.newbyteorder("="))
    if sample_type is None:
        raise EncodeError(f"{path}: samples of type {samples.dtype}; doh stores bool, uint8, uint16 and int16: scale and convert them first")
    samples = np.ascontiguousarray(samples, np.uint8 if sample_type == "u1" else samples.dtype.newbyteorder("="))
    if samples.ndim == 1 or (samples.ndim == 2 and sample_type != "s16"):
        samples = samples[..., None]
    image = sample_type in ("u8", "u16") and samples.ndim == 3 and samples.shape[-1] <= 4
    try:
        return Signal(samples, "image" if image else "array", sample_type), []
    except EncodeError as error:
        raise EncodeError(f"{path}: {error}") from error


def write(path: Path, samples: np.ndarray, info: object) -> None:
    """The samples as they are, channel axis included. Raises FileError."""
    stream = io.BytesIO()
    np.save(stream, samples, allow_pickle=False)
    write_atomic(path, stream.getbuffer())


def check(path: Path, channels: int, info: object, extent: tuple[int, ...] | None = None) -> None:
    """A .npy file holds every signal."""
