"""What the commands say: errors and remarks in one line each on stderr, and the exit codes."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EIO, EPIPE
from os import PathLike
from pathlib import Path
from typing import NoReturn, TextIO

import typer

from doh.errors import DohError, EncodeError, OnnxError
from doh.files import FileError


def say(message: str) -> None:
    """A remark for the person at the terminal; results go to stdout instead."""
    show(f"doh: {message}", sys.stderr)


def show(text: str, stream: TextIO) -> None:
    """Prints lines at once. Where that fails the stream is given up, as what is done meanwhile does not depend on it: nobody reads of it any more (`| head`, a
    terminal that was closed), or the disk is full. Raises FileError where results are lost to another cause than a reader's."""
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # ValueError: a stream that is no file
            os.dup2(nowhere.fileno(), stream.fileno())
        if stream is sys.stdout and error.errno not in (EPIPE, EIO):
            raise FileError(f"cannot write to standard output: {error.strerror or error}") from error


@contextmanager
def errors_in_one_line(path: str | PathLike[str] | None = None) -> Iterator[None]:
    """Turns every error that a user can bring about into one line and exit code 1, Ctrl-C into exit code 130, and a signal that ends the program as that
    does into 128 and its number. A bug keeps its traceback.

    `path` is the .doh file that is being read, which a DohError does not know. Warnings are shown in one line, too.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *rest, **more: say(" ".join(str(message).split()))
            yield
    except DohError as error:
        hint = "; if you trust the file: --no-limits" if error.name in ("LIMIT_SAMPLES", "LIMIT_WORK") else ""
        fail(f"{path}: {error}{hint}" if path else str(error))
    except (EncodeError, OnnxError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError:
        fail("not enough memory")
    except KeyboardInterrupt as error:
        show("", sys.stderr)  # past the ^C that the terminal shows
        number = getattr(error, "number", signal.SIGINT)  # doh.train.interrupts.Terminated
        say("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        raise typer.Exit(128 + number) from None


def check_not_itself(source: Path, output: Path) -> None:
    """Raises EncodeError where the output would replace what it is made of."""
    if output.exists() and source.exists() and output.samefile(source):
        raise EncodeError(f"{output} is the very file that is read: give the output another name")


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 1."""
    say(" ".join(message.split()))
    raise typer.Exit(1) from None
