"""A closed triangle mesh -> which cells of a cube it fills. numpy alone.

A cell is filled when a ray from its centre along the last axis crosses the surface an odd number of times: what encloses it may face either way.
All rays of a grid are cast at once, triangle by triangle, as a picture is drawn: which columns a triangle covers, and at which height.

Vertices are first rounded to 2^-16 of a cell. The columns of a triangle then follow from its three edges in exact integers, and an edge gives the
same answer to both triangles that share it; so every column is crossed an even number of times, rays through an edge or a corner included, and no
stripe can appear. Only the height of a crossing is a float.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from doh.errors import EncodeError

#: Free room on every side of the longest dimension of a mesh, in units in which the cube is [-1, 1].
MARGIN = 0.05
#: Cells along a side of the cube. The format could hold more, decoders take 2^30 samples by default.
MIN_GRID, MAX_GRID = 2, 1024
#: Rounding of vertices: units for each cell, a power of two. Products of two differences stay below 2^57 for MAX_GRID.
_UNIT = 1 << 16
#: Crossings of rays and triangles, and rows of cells that triangles reach, in all: half a minute of work. On 1024^3 cells a mesh of 100,000
#: triangles, the Stanford dragon, has 1.5 million; more come from large triangles one behind the other, by the hundred.
MAX_WORK = 1 << 26
#: Crossings that are worked on at a time: about 100 MB.
_BLOCK = 1 << 18


def normalised(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Vertices (n, 3), moved and scaled, alike in all dimensions, so that their box has its centre at 0 and its longest side ends at 1 - MARGIN.

    Returns them as float64, the shift (3,) and the factor: result = (vertices + shift) * factor.
    Raises EncodeError for vertices that are not finite or span no volume.
    """
    vertices = np.asarray(vertices, np.float64)
    if not len(vertices) or not np.isfinite(vertices).all():
        raise EncodeError("the mesh has no vertices" if not len(vertices) else "some vertices of the mesh are not finite numbers")
    low, high = vertices.min(0), vertices.max(0)
    middle = low / 2 + high / 2
    reach = (high - middle).max()
    if not (np.isfinite(reach) and (high > low).all()):
        raise EncodeError("the mesh is flat: it encloses no volume" if np.isfinite(reach) else "the mesh is too large for its coordinates")
    return (vertices - middle) / reach * (1 - MARGIN), -middle, float((1 - MARGIN) / reach)


def occupancy(vertices: np.ndarray, faces: np.ndarray, grid: int) -> np.ndarray:
    """The cells of the cube [-1, 1]^3 whose centres a closed mesh encloses: uint8 (grid, grid, grid), 0 or 1, indices along x, y, z.

    vertices: (n, 3), within the cube. faces: (m, 3) vertex numbers; their order does not matter, nor which way they face. Vertices at the same place
    are taken for one. Parts that overlap cancel each other: a cell in both of two balls is empty.

    Raises EncodeError for a surface that is not closed, naming the number of its open edges, for one that takes more than MAX_WORK, and for a grid
    out of range.
    """
    if not MIN_GRID <= grid <= MAX_GRID:
        raise EncodeError(f"the grid must have {MIN_GRID} to {MAX_GRID} cells along a side, not {grid}")
    corners, faces = _welded(np.rint((np.asarray(vertices, np.float64) + 1) / 2 * grid * _UNIT).astype(np.int64), np.asarray(faces, np.int64))
    count = open_edges(faces)
    if count:
        raise EncodeError(
            f"the surface is not closed: {count:,} of its edges do not belong to an even number of triangles, so there is no inside; "
            "close its holes first, as the repair functions of mesh programs do (MeshLab: Close Holes; trimesh: Trimesh.fill_holes())"
        )
    cells = np.zeros((grid, grid, grid), np.uint8)
    flat = cells.reshape(-1)
    triangles = corners[faces]
    _check_work(triangles)
    triangles = np.take_along_axis(triangles, triangles[:, :, 1].argsort(1, kind="stable")[:, :, None], 1)  # corners in the order of y
    for crossings in _crossings(triangles, grid):
        places, times = np.unique(crossings, return_counts=True)
        flat[places[times & 1 == 1]] ^= 1
    for layer in cells:  # each crossing turns over all cells behind it
        np.bitwise_xor.accumulate(layer, axis=1, out=layer)
    return cells


def open_edges(faces: np.ndarray) -> int:
    """Edges that belong to an odd number of the triangles (m, 3). A surface without any has an inside, even where more than two triangles meet."""
    if not len(faces):
        return 0
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, counts = np.unique(ends[:, 0] * (int(faces.max()) + 1) + ends[:, 1], return_counts=True)
    return int((counts & 1).sum())


def _welded(corners: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without vertices that lie at one place, triangles that have become lines, and pairs of the same triangle. (A closed surface stays closed.)

    A ray crosses the same triangle twice or not at all: of any number of them none is left, or one.
    """
    corners, number = np.unique(corners, axis=0, return_inverse=True)
    faces = number.reshape(-1)[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, first, times = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    return corners, faces[np.sort(first[times & 1 == 1])]


def _check_work(triangles: np.ndarray) -> None:
    """Raises EncodeError where the triangles (m, 3, 3) cover more than MAX_WORK columns and rows."""
    x, y, _ = (triangles[:, 1:] - triangles[:, :1]).transpose(2, 1, 0).astype(np.float64) / _UNIT  # two edges of each, in cells
    columns = abs(x[0] * y[1] - x[1] * y[0]).sum() / 2
    work = columns + np.ptp(triangles[:, :, 1], axis=1).sum() / _UNIT
    if work > MAX_WORK:
        raise EncodeError(
            f"its {len(triangles):,} triangles cover {columns:,.0f} columns of the grid, one behind the other, and {MAX_WORK:,} columns and rows are "
            "the most that is worked on: use a coarser grid, or a mesh with fewer surfaces within each other"
        )


def _crossings(triangles: np.ndarray, grid: int) -> Iterator[np.ndarray]:
    """The cells, as numbers in the row-major grid, before which a ray along z crosses a triangle (m, 3 corners sorted by y, 3): in blocks."""
    first, last = _centres_below(triangles[:, 0, 1]), _centres_below(triangles[:, 2, 1])
    for some in _blocks(last - first, _BLOCK):
        triangle, row = _expand(first[some], last[some])
        triangle += some.start
        low, middle, high = triangles[triangle].transpose(1, 0, 2)
        upper = row >= _centres_below(middle[:, 1])
        one = _column(low, high, row)
        other = _column(np.where(upper[:, None], middle, low), np.where(upper[:, None], high, middle), row)
        left, right = np.minimum(one, other).clip(0, grid), np.maximum(one, other).clip(0, grid)
        for part in _blocks(right - left, _BLOCK):
            span, column = _expand(left[part], right[part])
            span += part.start
            y = row[span]
            layer = _centres_below(_height(triangles[triangle[span]], column, y)).clip(0, grid).astype(np.int64)
            inside = (layer < grid) & (y >= 0) & (y < grid)
            yield ((column * grid + y) * grid + layer)[inside]


def _centres_below(position: np.ndarray) -> np.ndarray:
    """How many cells of a dimension have their centre below a position: the number of the first that has not."""
    below: np.ndarray = -((_UNIT // 2 - position) // _UNIT)
    return below


def _column(low: np.ndarray, high: np.ndarray, row: np.ndarray) -> np.ndarray:
    """How many columns of a row have their centre left of the edge from `low` to `high` (n, 3); low.y <= the row's centre < high.y. Exact."""
    rise = high[:, 1] - low[:, 1]
    run = (row * _UNIT + _UNIT // 2 - low[:, 1]) * (high[:, 0] - low[:, 0])
    left: np.ndarray = -(((_UNIT // 2 - low[:, 0]) * rise - run) // (_UNIT * rise))
    return left


def _height(triangles: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """z of the triangles (n, 3, 3) at the centres of columns and rows that they cover; never beyond their corners."""
    a, b, c = triangles.transpose(1, 2, 0).astype(np.float64)
    (ux, uy, uz), (vx, vy, vz) = b - a, c - a
    x, y = (column + 0.5) * _UNIT - a[0], (row + 0.5) * _UNIT - a[1]
    z = a[2] + ((uz * vy - uy * vz) * x + (ux * vz - uz * vx) * y) / (ux * vy - uy * vx)
    ends = triangles[:, :, 2]
    height: np.ndarray = np.clip(z, ends.min(1), ends.max(1))
    return height


def _expand(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (index, number) with first[index] <= number < last[index], as two int64 arrays."""
    counts = np.maximum(last - first, 0)
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index] + first[index]


def _blocks(counts: np.ndarray, limit: int) -> Iterator[slice]:
    """Slices that cover an array of counts, each with a sum of about `limit` at the most, and one count at the least."""
    ends = np.cumsum(np.maximum(counts, 0))
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + limit, "right")))
        yield slice(start, stop)
        start = stop
