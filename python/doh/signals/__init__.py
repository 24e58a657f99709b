"""Files of samples <-> signals. Every kind of file is one module; this one picks it by the file name's extension.

A module of this package has

* `read(path) -> (Signal, warnings)`: the file's samples, and a sentence for everything that could not be kept;
* `write(path, samples, info)`: samples (*shape, channels) to a file, at once or not at all; `info` has `signal` and `sample_type`;
* `check(path, channels, info, extent)`: raises EncodeError where write() could not: asked before a decode starts. `extent`: points of each dimension
  that are to be written, None where that is not known yet. What write() takes more, check() takes too;

and is imported when it is first needed. Where read() or write() takes more, as keywords, the module names it in READ_OPTIONS or WRITE_OPTIONS.
To add a kind, write the module and name its extensions in MODULES.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from doh.errors import EncodeError
from doh.signal import Signal

#: Module -> the extensions that it reads and writes, in lower case.
MODULES: dict[str, tuple[str, ...]] = {
    "doh.signals.images": (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"),
    "doh.signals.arrays": (".npy",),
    "doh.signals.audio": (".wav", ".flac", ".aiff", ".aif"),
    "doh.signals.meshes": (".ply", ".obj", ".stl", ".off"),
    "doh.signals.volumes": (".vtk", ".nii", ".nii.gz"),
}


class SampleInfo(Protocol):
    """What a writer has to know about samples besides their shape (doh.container's Info is one)."""

    @property
    def signal(self) -> str: ...
    @property
    def sample_type(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


def extensions() -> tuple[str, ...]:
    """Every extension that can be read and written."""
    return tuple(extension for known in MODULES.values() for extension in known)


def extension_of(path: str | PathLike[str]) -> str:
    """The extension of a file's name in lower case, with its dot; ".nii.gz" is one. Empty where there is none."""
    suffixes = [suffix.lower() for suffix in Path(fspath(path)).suffixes]
    double = "".join(suffixes[-2:])
    return double if double in extensions() else suffixes[-1] if suffixes else ""


def module_for(path: str | PathLike[str]) -> ModuleType:
    """The module that reads and writes files of this name. Raises EncodeError for an unknown extension."""
    suffix = extension_of(path)
    for name, known in MODULES.items():
        if suffix in known:
            return import_module(name)
    what = f"the extension {suffix}" if suffix else "a name without an extension"
    raise EncodeError(f"{path}: {what} is not one that doh knows; it knows {' '.join(extensions())}")


def read_signal(path: str | PathLike[str], *, occupancy: bool = False, **options: Any) -> tuple[Signal, list[str]]:
    """The samples in a file, and one sentence for each thing in it that is not kept. Raises EncodeError, FileError.

    options: what the reader of this kind of file takes beside the path: `grid` for meshes. None means not given.
    occupancy: whatever the file is, its samples say which points of a volume are filled: those that are not 0, of at most two values.
    """
    module = module_for(path)
    signal, notes = module.read(Path(path), **_taken(path, module, "READ_OPTIONS", options))
    return (_as_occupancy(path, signal) if occupancy else signal), notes


def write_signal(path: str | PathLike[str], samples: np.ndarray, info: SampleInfo, **options: Any) -> None:
    """Writes samples (*shape, channels) to a file, at once or not at all. Raises EncodeError where the file cannot hold them, FileError.

    options: what the writer of this kind of file takes beside these: `rate` for sounds. None means not given.
    """
    module = module_for(path)
    module.write(Path(path), samples, info, **_taken(path, module, "WRITE_OPTIONS", options))


def check_signal(path: str | PathLike[str], channels: int, info: SampleInfo, extent: tuple[int, ...] | None = None, **options: Any) -> None:
    """Raises EncodeError where a file of this name could not hold such samples, or its writer does not take the options.

    extent: points of each dimension that are to be written; None: not known yet.
    """
    module = module_for(path)
    module.check(Path(path), channels, info, extent, **_taken(path, module, "WRITE_OPTIONS", options))


def _taken(path: str | PathLike[str], module: ModuleType, which: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are given. Raises EncodeError for one that the module does not take."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in getattr(module, which, ()):
            raise EncodeError(f"{path}: {name!r} has no meaning for {extension_of(path)} files")
    return given


def _as_occupancy(path: str | PathLike[str], signal: Signal) -> Signal:
    """The same points, as filled or not. Raises EncodeError for what cannot be meant so."""
    if len(signal.shape) != 3 or signal.channels != 1:
        raise EncodeError(f"{path}: occupancy has three dimensions and one channel, this has {len(signal.shape)} and {signal.channels}")
    filled = signal.samples != 0
    values = signal.samples[filled]
    if (values != values[:1]).any():
        raise EncodeError(f"{path}: occupancy has two values, 0 and another; this file has more: compare its samples with a threshold first")
    return Signal(filled.astype(np.uint8), "occupancy", "u1")
