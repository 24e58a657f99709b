"""What the commands say: errors and remarks in one line each on stderr, and the exit codes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import NoReturn

import typer

from doh.errors import DohError, EncodeError, OnnxError


def say(message: str) -> None:
    """A remark for the person at the terminal; results go to stdout instead."""
    print(f"doh: {message}", file=sys.stderr, flush=True)


@contextmanager
def errors_in_one_line(path: str | PathLike[str] | None = None) -> Iterator[None]:
    """Turns every error that a user can bring about into one line and exit code 1, Ctrl-C into exit code 130. A bug keeps its traceback.

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
    except KeyboardInterrupt:
        print(file=sys.stderr)  # past the ^C that the terminal shows
        say("interrupted")
        raise typer.Exit(130) from None


def check_not_itself(source: Path, output: Path) -> None:
    """Raises EncodeError where the output would replace what it is made of."""
    if output.exists() and source.exists() and output.samefile(source):
        raise EncodeError(f"{output} is the very file that is read: give the output another name")


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 1."""
    say(" ".join(message.split()))
    raise typer.Exit(1) from None
