"""ONNX files made from .doh files, and their use with ONNX Runtime. Needs the extra `onnx` or `onnx-gpu`; reads files only, never the trainer.

`build` makes a model, `export` a file, `run` decodes one; export/README.md tells what is inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from os import PathLike
from typing import Any

import numpy as np

from doh import container
from doh.errors import OnnxError
from doh.export.session import Description, describe, open_session, run, run_session
from doh.files import check_target, write_atomic
from doh.model import TOP

__all__ = ["Description", "Report", "build", "describe", "export", "open_session", "run", "run_session"]


def __getattr__(name: str) -> object:
    """`build`, and with it the package onnx, is imported when it is asked for: running a file needs ONNX Runtime alone."""
    if name != "build":
        raise AttributeError(f"module 'doh.export' has no attribute {name!r}")
    try:
        from doh.export.model import build
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise OnnxError("this needs the package onnx: pip install 'doh[onnx]', or 'doh[onnx-gpu]' on a machine with an NVIDIA GPU, not both") from None
    return build


@dataclass(frozen=True)
class Report:
    """What was written. `checked`: points of the stored grid that ONNX Runtime's decode was compared at; `psnr`: its distance to the exact one in dB."""

    kind: str
    bytes: int
    checked: int
    psnr: float


def _stored_points(shape: tuple[int, ...]) -> np.ndarray:
    """Coordinates of the stored grid's points, row-major, int32 (N, dims): docs/format.md, section 7."""
    axes = [(((2 * np.arange(g, dtype=np.int64) + 1) << 31) // g - (1 << 31)).astype(np.int32) for g in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))


def export(
    source: container.Source,
    output: str | PathLike[str],
    kind: str = "exact",
    points: bool = False,
    threads: int = 1,
    limits: Mapping[str, int] | None = None,
) -> Report:
    """Writes the ONNX file of a .doh file (a path or its bytes), after it has been run and compared with the decoder on the stored grid.

    An exact kind that differs in one sample is not written. The distance of a float kind is kept in its metadata, `doh.psnr_to_exact`; that of f16 is of
    float16 weights in float32 arithmetic, as ONNX Runtime computes on a CPU. limits: as of doh.decode.
    Raises DohError, OnnxError, ValueError for an unknown kind, OSError.
    """
    make: Any = __getattr__("build")
    check_target(output)
    data = bytes(container.load(source))
    info = container.read_info(data, limits)
    model = make(data, kind, points, limits)
    wanted = container.decode(data, limits=limits, threads=threads)
    found = run(model.SerializeToString(), coordinates=_stored_points(info.shape) if points else None, threads=threads).reshape(wanted.shape)
    exact = bool(np.array_equal(found, wanted))
    error = float(np.mean((found.astype(np.float64) - wanted) ** 2)) if not exact else 0.0
    psnr = 10 * np.log10(TOP[info.sample_type] ** 2 / error) if error else inf
    if kind.startswith("exact"):
        if not exact:
            raise OnnxError(f"ONNX Runtime decodes {int((found != wanted).sum())} samples otherwise than doh: nothing was written; please report this")
    else:
        entry = model.metadata_props.add()
        entry.key, entry.value = "doh.psnr_to_exact", f"{psnr:.2f}"
    payload = model.SerializeToString()
    write_atomic(output, payload)
    return Report(kind, len(payload), info.points, float(psnr))
