"""What the tests of ONNX files share: vectors, inputs, the command line."""

from __future__ import annotations

import numpy as np
from conftest import VECTORS
from typer.testing import CliRunner

from doh.cli.app import app
from doh.export.interface import SIZES

#: Kinds whose results are the decoder's, bit for bit.
EXACT = ("exact", "exact-baked")


def vector(name: str) -> bytes:
    return (VECTORS / "valid" / name).read_bytes()


def sizes(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: np.array(n, np.int64) for name, n in zip(SIZES[len(shape)], shape)}


def command(*words) -> tuple[int, str]:
    """`doh WORDS`: its exit status and all that it prints."""
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, result.output
