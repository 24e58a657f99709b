"""The command line, `doh`: one module for each command; app.py names them and their options."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Runs `doh`. Exits with 0, 1 after an error (one line on stderr), 2 for a wrong option, 130 after Ctrl-C."""
    prepare_streams()
    try:
        from doh.cli.app import app

        app(prog_name="doh")
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"doh: the command line needs {error.name}; install it with: pip install typer rich")
    except KeyboardInterrupt:
        sys.exit(130)


def prepare_streams() -> None:
    """A name that a stream cannot encode is shown with backslashes; what goes to a closed stream (2>&-) goes nowhere, and not into the next file opened."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
