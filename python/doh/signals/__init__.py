"""Files of samples <-> signals. Every kind of file is one module; this one picks it by the file name's extension.

A module of this package has

* `read(path) -> (Signal, warnings)`: the file's samples, and a sentence for everything that could not be kept;
* `write(path, samples, info)`: samples (*shape, channels) to a file, at once or not at all; `info` has `signal` and `sample_type`;
* `check(path, channels, info)`: raises EncodeError where write() could not: asked before a decode starts.

and is imported when it is first needed. To add a kind, write the module and name its extensions in MODULES.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from doh.errors import EncodeError
from doh.signal import Signal

#: Module -> the extensions that it reads and writes, in lower case.
MODULES: dict[str, tuple[str, ...]] = {
    "doh.signals.images": (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"),
    "doh.signals.arrays": (".npy",),
}


class SampleInfo(Protocol):
    """What a writer has to know about samples besides their shape (doh.container's Info is one)."""

    @property
    def signal(self) -> str: ...
    @property
    def sample_type(self) -> str: ...


def extensions() -> tuple[str, ...]:
    """Every extension that can be read and written."""
    return tuple(extension for known in MODULES.values() for extension in known)


def module_for(path: str | PathLike[str]) -> ModuleType:
    """The module that reads and writes files of this name. Raises EncodeError for an unknown extension."""
    suffix = Path(fspath(path)).suffix.lower()
    for name, known in MODULES.items():
        if suffix in known:
            return import_module(name)
    what = f"the extension {suffix}" if suffix else "a name without an extension"
    raise EncodeError(f"{path}: {what} is not one that doh knows; it knows {' '.join(extensions())}")


def read_signal(path: str | PathLike[str]) -> tuple[Signal, list[str]]:
    """The samples in a file, and one sentence for each thing in it that is not kept. Raises EncodeError, FileError."""
    signal, notes = module_for(path).read(Path(path))
    return signal, notes


def write_signal(path: str | PathLike[str], samples: np.ndarray, info: SampleInfo) -> None:
    """Writes samples (*shape, channels) to a file, at once or not at all. Raises EncodeError where the file cannot hold them, FileError."""
    module_for(path).write(Path(path), samples, info)


def check_signal(path: str | PathLike[str], channels: int, info: SampleInfo) -> None:
    """Raises EncodeError where a file of this name could not hold such samples."""
    module_for(path).check(Path(path), channels, info)
