"""The command line, `doh`: one module for each command; app.py names them and their options."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `doh`. Exits with 0, 1 after an error (one line on stderr), 2 for a wrong option, 130 after Ctrl-C."""
    try:
        from doh.cli.app import app

        app(prog_name="doh")
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"doh: the command line needs {error.name}; install it with: pip install typer rich")
    except KeyboardInterrupt:
        sys.exit(130)
