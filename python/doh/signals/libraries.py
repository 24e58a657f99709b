"""What the libraries that read and write files are given, and what they have to say: errors in one line, remarks not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doh.errors import EncodeError, no_warnings
from doh.files import read_bytes


def contents(path: Path) -> bytes:
    """All bytes of a file. Raises EncodeError where there are none, of which each library says something else; FileError."""
    data = read_bytes(path)
    if not data:
        raise EncodeError(f"{path}: the file is empty")
    return data


def first_line(error: Exception) -> str:
    """What another library's error says, in one line; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def quietly(logger: logging.Logger) -> Iterator[None]:
    """Without a library's warnings and log lines on odd but readable files."""
    with no_warnings():  # one thread at a time: what is said of warnings goes for the level too
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
