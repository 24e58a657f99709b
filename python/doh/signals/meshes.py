"""Closed triangle meshes <-> occupancy: PLY, OBJ, STL and OFF, read and written by trimesh (the extra `mesh`).

Reading fills a cube of cells (doh.signals.voxels); writing draws the surface around filled cells (doh.signals.surface). Samples are u1 of shape
(x, y, z, 1), so that the coordinates of the format are those of the mesh, once it is moved and scaled into the cube.
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from doh.errors import EncodeError
from doh.files import write_atomic
from doh.signal import Signal
from doh.signals import voxels
from doh.signals.libraries import contents, first_line, quietly
from doh.signals.surface import surface

if TYPE_CHECKING:
    from doh.signals import SampleInfo

#: Cells along a side of the cube where nothing else is said: as in the paper.
GRID = 512
READ_OPTIONS = ("grid",)
#: Bytes of a binary STL file: the header, whose last 4 are the number of triangles; a triangle.
_STL_HEADER, _STL_TRIANGLE = 84, 50


class Mesh(NamedTuple):
    """A mesh within the cube [-1, 1]^3: as the file has it, moved by `shift` and then scaled by `factor`."""

    vertices: np.ndarray  # (n, 3) float64
    faces: np.ndarray  # (m, 3) int64
    shift: np.ndarray  # (3,) float64
    factor: float


def read(path: Path, grid: int = GRID) -> tuple[Signal, list[str]]:
    """The cells of a grid x grid x grid cube that the mesh encloses, and a note on what is not kept. Raises EncodeError, FileError."""
    mesh = read_mesh(path)
    try:
        cells = voxels.occupancy(mesh.vertices, mesh.faces, grid)
    except EncodeError as error:
        raise EncodeError(f"{path}: {error}") from error
    except MemoryError:
        raise EncodeError(f"{path}: a grid of {grid} x {grid} x {grid} cells does not fit into memory") from None
    if not cells.any():
        raise EncodeError(f"{path}: it encloses no cell of a grid of {grid} x {grid} x {grid}: use a finer one")
    moved = ", ".join(f"{x:g}" for x in mesh.shift + 0.0)  # no -0
    note = f"{path}: only its shape is kept, on {grid} x {grid} x {grid} cells: moved by ({moved}), then scaled by {mesh.factor:g}"
    return Signal(cells[..., None], "occupancy", "u1"), [note]


def read_mesh(path: Path) -> Mesh:
    """The triangles in a file, moved and scaled into the cube. Raises EncodeError for what is no mesh, is damaged or flat, or without trimesh; FileError."""
    trimesh = _trimesh(path)
    data = contents(path)
    try:
        with quietly(logging.getLogger("trimesh")):
            # from memory, so that nothing that the file names is opened: materials, textures
            mesh = trimesh.load(io.BytesIO(data), file_type=path.suffix.lower()[1:], force="mesh", process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(getattr(mesh, "faces", ()), np.int64).reshape(-1, 3)
    except MemoryError:
        raise EncodeError(f"{path}: the mesh does not fit into memory") from None
    except ImportError as error:  # trimesh asks for what only some files need when it meets one: text that is not UTF-8
        raise _missing(path, (error.name or first_line(error)).replace("_", "-")) from error
    except Exception as error:  # the readers raise whatever a damaged file brings about
        _check_stl(path, data)
        raise EncodeError(f"{path}: not a mesh that can be read, or damaged ({first_line(error)})") from error
    if not len(faces):
        _check_stl(path, data)
    if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise EncodeError(f"{path}: {'triangles name vertices that are not there' if len(faces) else 'there are no triangles in it'}")
    if vertices.shape != (len(vertices), 3):
        raise EncodeError(f"{path}: its vertices do not have three coordinates")
    used, numbers = np.unique(faces, return_inverse=True)
    try:
        placed, shift, factor = voxels.normalised(vertices[used])
    except EncodeError as error:
        raise EncodeError(f"{path}: {error}") from error
    return Mesh(placed, numbers.reshape(-1, 3), shift, factor)


def _check_stl(path: Path, data: bytes) -> None:
    """Raises EncodeError for a binary STL file of another length than it says: trimesh takes such a file for text, and finds no triangles in it."""
    if path.suffix.lower() != ".stl" or b"\0" not in data:  # text has no zeros, a binary file has two after each triangle
        return
    if len(data) < _STL_HEADER:
        raise EncodeError(f"{path}: the file is cut short: {len(data)} bytes are there, where the header of a binary STL file alone has {_STL_HEADER}")
    (count,) = struct.unpack_from("<I", data, _STL_HEADER - 4)
    if len(data) != _STL_HEADER + _STL_TRIANGLE * count:
        size = f"{count:,} triangles are named, which take {_STL_HEADER + _STL_TRIANGLE * count:,} bytes"
        raise EncodeError(f"{path}: the file is damaged or cut short: {size}; it has {len(data):,}")


def write(path: Path, samples: np.ndarray, info: SampleInfo) -> None:
    """The surface around the cells (x, y, z, 1) that are 1, in the cube's coordinates. Raises EncodeError, FileError."""
    check(path, samples.shape[-1], info)
    if samples.ndim != 4:
        raise EncodeError(f"{path}: a mesh is the surface of something with three dimensions; these samples have {samples.ndim - 1}: use .npy")
    write_surface(path, lambda first, last: samples[first:last, ..., 0], samples.shape[:3])


def write_surface(path: Path, layers: Callable[[int, int], np.ndarray], shape: tuple[int, int, int]) -> tuple[int, int]:
    """As write(), of cells that are asked for a few layers at a time (see doh.signals.surface). Returns the numbers of vertices and triangles."""
    trimesh = _trimesh(path)
    try:
        vertices, faces = surface(layers, shape)
    except ImportError as error:
        raise _missing(path, "scikit-image") from error
    if not len(faces):
        raise EncodeError(f"{path}: no cell is filled, so there is no surface to write")
    kind = path.suffix.lower()[1:]
    options: dict[str, Any] = {"header": None} if kind == "obj" else {}
    data = trimesh.Trimesh(vertices, faces, process=False).export(file_type=kind, **options)
    write_atomic(path, data.encode() if isinstance(data, str) else data)
    return len(vertices), len(faces)


def check(path: Path, channels: int, info: SampleInfo, extent: tuple[int, ...] | None = None) -> None:
    """Raises EncodeError for anything but cells that are filled or not, and where the libraries are missing."""
    if (info.sample_type, channels) != ("u1", 1):
        raise EncodeError(f"{path}: a mesh holds one channel of u1 samples, not {channels} of {info.sample_type}; use .npy")
    if len(info.shape) != 3:
        raise EncodeError(f"{path}: a mesh is the surface of something with three dimensions; this signal has {len(info.shape)}")
    _trimesh(path)
    try:
        import skimage.measure  # noqa: F401
    except ImportError as error:
        raise _missing(path, "scikit-image") from error


def surface_points(vertices: np.ndarray, faces: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points (count, 3), float64, drawn evenly over the area of a mesh; the same for the same seed."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    rng = np.random.default_rng(seed)
    ends = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    chosen = np.searchsorted(ends, rng.random(count) * ends[-1], "right").clip(0, len(faces) - 1)
    u, v = rng.random((2, count, 1))
    fold = u + v > 1  # the other half of the parallelogram
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return np.asarray(a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen])


def _trimesh(path: Path) -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise _missing(path, "trimesh") from error
    return trimesh


def _missing(path: Path, package: str) -> EncodeError:
    return EncodeError(f"{path}: meshes need {package}, which is not installed: pip install 'doh[mesh]'")
