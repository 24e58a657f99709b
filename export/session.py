"""Running exported files with ONNX Runtime: on the processor asked for or not at all, in bands where the work is long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from os import PathLike, fspath
from typing import Any

import numpy as np

from doh.container import whole_numbers
from doh.errors import OnnxError
from doh.export.interface import BLOCK, FORMAT_VERSION, KINDS, SIZES
from doh.model import DTYPE

#: Points in one call of the runtime, about: between two of them progress is reported and Ctrl-C is heard.
BAND = 1 << 20
#: Points in one turn of the graph's loop on a GPU, where each operator is a launch.
GPU_BLOCK = 1 << 18
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself (its metadata_props)."""

    kind: str
    inputs: str  # grid or points
    signal: str
    sample_type: str
    shape: tuple[int, ...]
    channels: int
    source_bytes: int
    source_sha256: str
    psnr_to_exact: float | None  # dB; None for the exact kinds
    parts: tuple[int, ...]  # networks along each dimension; 1s for one network

    @property
    def exact(self) -> bool:
        return self.kind.startswith("exact")


def open_session(source: str | PathLike[str] | bytes, provider: str = "cpu", threads: int = 1, options: Any = None) -> Any:
    """An onnxruntime.InferenceSession on `provider`, cpu or cuda. Raises OnnxError where the provider or onnxruntime is missing, or the file is no model.

    On CUDA TF32 is off: it would take 13 bits from float32 products. `options`: onnxruntime.SessionOptions, instead of the usual ones.
    """
    ort = _onnxruntime()
    if provider not in PROVIDERS:
        raise OnnxError(f"the provider is cpu or cuda, not {provider!r}")
    if PROVIDERS[provider] not in ort.get_available_providers():
        raise OnnxError("this onnxruntime has no CUDA provider: pip uninstall onnxruntime, then pip install 'doh[onnx-gpu]'")
    if options is None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider == "cuda" and hasattr(ort, "preload_dlls"):  # from 1.21 on: finds CUDA and cuDNN where pip put them
        ort.preload_dlls()
    chosen: list[Any] = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"] if provider == "cuda" else ["CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(source if isinstance(source, bytes) else fspath(source), options, providers=chosen)
    except OSError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        name = "the model" if isinstance(source, bytes) else source
        raise OnnxError(f"ONNX Runtime cannot load {name}: {_first_line(error)}") from error
    if session.get_providers()[0] != PROVIDERS[provider]:  # it falls back to the CPU with no more than a log line
        raise OnnxError("ONNX Runtime could not start its CUDA provider: are the NVIDIA driver, CUDA and cuDNN of the versions that it wants?")
    return session


def describe(session: Any) -> Description:
    """Raises OnnxError for a model that doh did not write, or a newer doh."""
    about = session.get_modelmeta().custom_metadata_map
    try:
        version = int(about["doh.format_version"])
        if version != FORMAT_VERSION:  # of another one no more than that is known
            raise OnnxError(f"this ONNX file is of version {version}; this doh knows {FORMAT_VERSION}")
        shape = tuple(map(int, about["doh.shape"].split()))
        distance = about.get("doh.psnr_to_exact")
        found = Description(
            about["doh.kind"], about["doh.inputs"], about["doh.signal"], about["doh.sample_type"], shape,
            int(about["doh.channels"]), int(about["doh.source_bytes"]), about["doh.source_sha256"], None if distance is None else float(distance),
            tuple(map(int, about.get("doh.parts", "1 " * len(shape)).split())),
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise OnnxError(f"this ONNX file was not made by doh export ({error})") from error
    if found.kind not in KINDS or found.inputs not in ("grid", "points") or found.sample_type not in DTYPE:
        raise OnnxError(f"this ONNX file was not made by doh export (kind {found.kind!r}, inputs {found.inputs!r}, samples {found.sample_type!r})")
    return found


def run(
    source: str | PathLike[str] | bytes,
    *,
    grid: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    extent: Sequence[int] | None = None,
    coordinates: np.ndarray | None = None,
    provider: str = "cpu",
    threads: int = 1,
    block: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Samples from an exported file (a path or its bytes): (*extent, channels) of a box of a grid, by default the stored grid.

    A file for point queries takes `coordinates` instead, int32 (N, dims): U - 2^31 of docs/format.md, section 7, whatever the parts; it gives (N, channels).
    `provider` is cpu or cuda, and nothing else is ever used in its place. `block`: points in one turn of the graph's loop.
    `progress(done, points)` is called between bands. Raises OnnxError, also for the kind `exact` on cuda, which lacks some of its operators; ValueError for
    a box outside the grid and for what are no whole numbers; OSError.
    """
    return run_session(
        open_session(source, provider, threads),
        provider=provider, grid=grid, offset=offset, extent=extent, coordinates=coordinates, block=block, progress=progress,
    )  # fmt: skip


def run_session(
    session: Any,
    *,
    provider: str = "cpu",
    grid: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    extent: Sequence[int] | None = None,
    coordinates: np.ndarray | None = None,
    block: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """`run`, of a session of `open_session` on that provider."""
    about = describe(session)
    if provider == "cuda" and about.kind == "exact":
        raise OnnxError("the kind exact has operators that CUDA lacks: export the file with --kind exact-baked, which gives the same samples")
    if (coordinates is not None) != (about.inputs == "points"):
        raise ValueError(f"this file takes {'coordinates' if about.inputs == 'points' else 'a grid'}")
    if block is not None and block < 1:
        raise ValueError(f"block is a number of points, at least 1, not {block}")
    feeds = {"block": np.array(block or (GPU_BLOCK if provider == "cuda" else BLOCK), np.int64)}
    if coordinates is not None:
        if coordinates.ndim != 2 or coordinates.shape[1] != len(about.shape) or coordinates.dtype != np.int32:
            raise ValueError(f"coordinates are int32 of shape (N, {len(about.shape)}), not {coordinates.dtype} {coordinates.shape}")
        if not len(coordinates):
            raise ValueError("there are no coordinates")
        bands = [{"coordinates": coordinates[at : at + BAND]} for at in range(0, len(coordinates), BAND)]
        total = len(coordinates)
    else:
        grid = whole_numbers("grid", grid) if grid is not None else about.shape
        offset = whole_numbers("offset", offset) if offset is not None else (0,) * len(grid)
        extent = whole_numbers("extent", extent) if extent is not None else tuple(g - o for g, o in zip(grid, offset))
        if not len(grid) == len(offset) == len(extent) == len(about.shape):
            raise ValueError(f"grid, offset and extent have {len(about.shape)} numbers each")
        if any(not (1 <= g < 1 << 31 and 0 <= o < o + e <= g) for g, o, e in zip(grid, offset, extent)):
            raise ValueError(f"the box at {offset} of size {extent} is not inside the grid {grid}")
        feeds |= {name: np.array(size, np.int64) for name, size in zip(SIZES[len(grid)], grid)}
        rows, total = max(1, BAND // prod(extent[1:])), prod(extent)
        bands = [
            {"offset": np.array((offset[0] + at, *offset[1:]), np.int64), "extent": np.array((min(rows, extent[0] - at), *extent[1:]), np.int64)}
            for at in range(0, extent[0], rows)
        ]
    parts, done = [], 0
    for band in bands:
        parts.append(_bound(session, {**feeds, **band}, provider))
        done += parts[-1].size // about.channels
        if progress:
            progress(done, total)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _bound(session: Any, feeds: dict[str, np.ndarray], provider: str) -> np.ndarray:
    """One call. On a GPU the inputs are bound where they are and the samples come back in one copy. Raises OnnxError."""
    try:
        if provider == "cpu":
            return session.run(["samples"], feeds)[0]
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output("samples", "cuda")
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        raise OnnxError(f"ONNX Runtime could not run the model: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise OnnxError("this needs ONNX Runtime: pip install 'doh[onnx]', or 'doh[onnx-gpu]' on a machine with an NVIDIA GPU, not both") from None
    return onnxruntime
