"""Whole files in and out. A file is written under a temporary name and then renamed, so that a reader never sees half of one."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path


class FileError(OSError):
    """A file that cannot be read or written; str() is one line that names the file and the cause."""


def _cause(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def read_bytes(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """All bytes of a file, or the first of them, at most so many. Raises FileError."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise FileError(f"cannot read {path}: {_cause(error)}") from error


def check_target(path: str | os.PathLike[str]) -> None:
    """Raises FileError where write_atomic() is bound to fail: asked before long work starts, so that it is not lost at its end."""
    path = Path(path)
    if _is_device(path):
        if not os.access(path, os.W_OK):
            raise FileError(f"cannot write {path}: it is not writable")
        return
    target = Path(os.path.realpath(path))
    try:
        folder = target.is_dir()
    except OSError as error:  # a name that is too long
        raise FileError(f"cannot write {path}: {_cause(error)}") from error
    if folder:
        raise FileError(f"cannot write {path}: it is a folder")
    if not target.parent.is_dir():
        raise FileError(f"cannot write {path}: the folder {_folder_of(path)} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise FileError(f"cannot write {path}: the folder {_folder_of(path)} is not writable")


def write_atomic(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Writes the file at once or not at all: a temporary name beside it, fsync, rename.

    A symbolic link is followed and keeps pointing where it did; an existing file's permissions are kept.
    A device or a pipe (/dev/stdout) is written straight.
    On any failure, an interrupt included, the old file is as it was and nothing new is left behind. Raises FileError.
    """
    try:
        if _is_device(Path(path)):  # asked of the given name: /dev/stdout resolves to a name that does not exist
            with open(path, "wb", buffering=0) as stream:
                _write_all(stream.fileno(), data)
            return
        _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        parent = _folder_of(Path(path))
        cause = f"the folder {parent} does not exist" if isinstance(error, FileNotFoundError) and not parent.is_dir() else _cause(error)
        raise FileError(f"cannot write {path}: {cause}") from error


def _folder_of(path: Path) -> Path:
    """Where the file lies: as given, or, of a link, where that points to."""
    return Path(os.path.realpath(path)).parent if os.path.islink(path) else path.parent


def _is_device(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _replace(target: Path, data: bytes | memoryview) -> None:
    if target.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    temporary = target.with_name(f".doh-{secrets.token_hex(8)}.tmp")  # short: the target's name may be as long as the disk allows
    try:
        # 0o666 and the umask: the permissions of any newly made file (mkstemp would give 0o600).
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _write_all(handle, data)
            os.fsync(handle)
            if mode is not None:
                os.chmod(temporary, mode)
        finally:
            os.close(handle)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):  # it was not made, or is renamed already
            os.unlink(temporary)
        raise


class StateFile(os.PathLike[str]):
    """A file for the state of a run, which is not to replace that of another run, nor anything else that lies there.

    mine: whether what lies there is this run's own, which wrote it or went on from it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.mine = Path(path), False

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> StateFile:
        """The state file of that path; one that is one already is returned as it is."""
        return path if isinstance(path, StateFile) else cls(path)

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    def make_room(self) -> Path | None:
        """Renames a file that lies there and is not this run's to PATH.old, or PATH.old2 and so on where that is taken, and returns that name.

        Raises FileError.
        """
        if self.mine or not self.path.is_file():  # a device is written as it is
            return None
        aside = next(name for name in self._names() if not os.path.lexists(name))
        try:
            return self.path.rename(aside)
        except OSError as error:
            raise FileError(f"cannot rename {self.path} to {aside}: {_cause(error)}") from error

    def set_aside(self) -> Iterator[Path]:
        """The files that make_room() has renamed, now or in an earlier run, and that are still there."""
        for name in self._names():
            if not os.path.lexists(name):
                return
            yield name

    def _names(self) -> Iterator[Path]:
        return (Path(f"{self.path}.old{number if number > 1 else ''}") for number in count(1))


def _write_all(handle: int, data: bytes | memoryview) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(handle, rest) :]
