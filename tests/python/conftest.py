"""Shared by the Python tests: where the vectors and known answers lie."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# A background job starts with Ctrl-C ignored, and so would the programs under test, which inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).resolve().parent.parent
VECTORS = TESTS / "vectors"
KAT = TESTS / "kat"


def table(path: Path) -> list[list[str]]:
    """Rows of a tab-separated file; lines that start with # are comments."""
    return [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]


def read_all(terminal: int) -> bytes:
    """Everything that is written to a pseudo-terminal until its other end is closed; then this end is closed too."""
    seen = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(terminal)
    return seen
