"""Shared by the Python tests: where the vectors and known answers lie."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# These are tests of the CPU, wherever they run: what a GPU does is for tools/gpu_check. Before torch is imported.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# A background job starts with Ctrl-C ignored, and so would the programs under test, which inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).resolve().parent.parent
VECTORS = TESTS / "vectors"
KAT = TESTS / "kat"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small picture in a file."""
    y, x = np.mgrid[0:20, 0:28]
    Image.fromarray(np.stack([x * 9, y * 12, x * y // 3], -1).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def table(path: Path) -> list[list[str]]:
    """Rows of a tab-separated file; lines that start with # are comments."""
    return [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]


@contextmanager
def ctrl_c_after(step: int, number: int | None = None) -> Iterator[None]:
    """Ctrl-C in every doh.codec.encode() once so many steps are taken, or the signal of this number. Their progress is reported after each."""
    import doh.codec
    import doh.train.fit

    encode = doh.codec.encode

    def stopped(*args, progress, **kwargs):
        def interrupt(p):
            progress(p)
            if p.step == step and number is None:
                raise KeyboardInterrupt
            if p.step == step:
                os.kill(os.getpid(), number)

        return encode(*args, progress=interrupt, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doh.train.fit, "REPORT_SECONDS", 0)
        patch.setattr(doh.codec, "encode", stopped)
        yield


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
