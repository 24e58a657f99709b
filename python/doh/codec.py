"""encode(): a signal to the bytes of a .doh file. The one place where signals, training and the container meet."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from doh import container
from doh.config import Config
from doh.errors import EncodeError
from doh.signal import Signal

if TYPE_CHECKING:
    from doh.train.fit import Progress

Source = np.ndarray | Signal | str | PathLike[str]


def encode(
    source: Source,
    *,
    latents: int | None = None,
    bpp: float | None = None,
    bytes: int | None = None,
    preset: str = "balanced",
    config: Config | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    **overrides: Any,
) -> bytes:
    """Encodes a signal and returns the complete .doh file, sealed with the checksum of its decoded samples.

    source: an image as an array (height, width) or (height, width, channels) of uint8 or uint16, a Signal, or a path to a file of samples.
    latents, bpp, bytes: at most one of them says how large the file is to be: the number n of latents, or a size (bits for each grid point, or bytes
        in all) that the file meets from below within 3 %.
    preset: "fast", "balanced", "best" or "paper"; `config` replaces it. `seed`, `device`, `threads` and every other setting of doh.config.Config by
        name change single ones.
    checkpoint: a file for the state of the training, written every minute; remove it once the result is in a safe place. With `resume`, training
        goes on from it, if it exists, to the very same bytes.

    Raises EncodeError for an input, a setting or a budget that cannot be encoded, and where torch is missing; OSError.
    """
    signal = signal_of(source)
    changes = {"latents": latents, "bpp": bpp, "bytes": bytes, "seed": seed, "device": device, "threads": threads}
    given = {key: value for key, value in changes.items() if value is not None}
    settings = (config or Config.from_preset(preset)).replace(**given, **overrides)
    try:
        from doh.train.fit import fit
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise EncodeError(f'encoding needs {error.name}, which is not installed: pip install "doh[train]"') from error
    path = Path(checkpoint) if checkpoint is not None else None
    return container.pack(fit(signal, settings, progress=progress, checkpoint=path, resume=resume), threads=settings.threads or 1)


def signal_of(source: Source) -> Signal:
    """The signal that a source means: itself, the samples in a file, or an array as an image. Raises EncodeError, OSError."""
    if isinstance(source, Signal):
        return source
    if isinstance(source, (str, PathLike)):
        from doh.signals import read_signal

        return read_signal(source)[0]
    if not isinstance(source, np.ndarray) or source.ndim not in (2, 3) or source.dtype not in (np.uint8, np.uint16):
        what = f"an array {source.shape} of {source.dtype}" if isinstance(source, np.ndarray) else f"a {type(source).__name__}"
        raise EncodeError(f"an image is an array (height, width[, channels]) of uint8 or uint16, not {what}; wrap anything else in doh.Signal")
    samples = source[..., None] if source.ndim == 2 else source
    return Signal(samples, "image", "u8" if source.dtype == np.uint8 else "u16")
