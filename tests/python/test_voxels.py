"""Closed meshes to filled cells, in every position of the rays, and filled cells to closed surfaces."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from solids import CUBE, CUBE_FACES, centres, torus

from doh import metrics
from doh.errors import EncodeError
from doh.signals import voxels
from doh.signals.surface import surface

OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
OCTAHEDRON_FACES = np.array([[a, b, c] for a in (0, 1) for b in (2, 3) for c in (4, 5)])


def turn(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


# What is inside


@pytest.mark.parametrize("seed", range(6))
def test_a_turned_cube_is_filled_where_its_planes_say(seed):
    q = turn(seed)
    cells = voxels.occupancy(CUBE * 0.5 @ q, CUBE_FACES, 29)
    depth = abs(centres(29) @ q.T).max(-1)
    clear = abs(depth - 0.5) > 1e-4  # but for cells that the rounding of vertices may move
    assert clear.mean() > 0.99 and np.array_equal(cells[clear], (depth < 0.5)[clear])


def test_the_winding_number_says_the_same():
    """Against the sum of solid angles, on a torus: an independent definition of inside."""
    vertices, faces = torus()
    vertices = vertices @ turn(3)
    cells = voxels.occupancy(vertices, faces, 16)
    a, b, c = (vertices[faces[:, k]][None] - centres(16).reshape(-1, 1, 3) for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    volume = (a * np.cross(b, c)).sum(-1)
    angle = 2 * np.arctan2(volume, la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb)
    inside = abs(angle.sum(-1)) > 2 * np.pi
    assert 0.05 < inside.mean() < 0.5 and np.array_equal(cells.reshape(-1), inside)


def test_trimesh_says_the_same():
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("rtree", reason="trimesh casts rays with it")
    vertices, faces = torus()
    vertices = vertices @ turn(5)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert np.array_equal(voxels.occupancy(vertices, faces, 14).reshape(-1), mesh.contains(centres(14).reshape(-1, 3)))


@pytest.mark.parametrize("grid", [4, 5, 8, 9, 16, 31])
def test_rays_through_edges_and_corners_leave_no_stripes(grid):
    """An octahedron and a cube with corners and edges just where rays run: no cell is filled beyond them, and every one well inside is."""
    x = abs(centres(grid))
    ray = (2 * (grid // 2) + 1) / grid - 1  # a row of cell centres near the middle
    for vertices, faces, size in ((OCTAHEDRON, OCTAHEDRON_FACES, x.sum(-1)), (CUBE, CUBE_FACES, x.max(-1))):
        for scale in (0.5, (2 * (3 * grid // 4) + 1) / grid - 1):
            cells = voxels.occupancy(vertices * scale, faces, grid)
            assert not cells[size > scale + 1e-9].any() and cells[size < scale - 1e-9].all()
        moved = voxels.occupancy(vertices * 0.4 + ray, faces, grid)  # the octahedron's middle, corners and edges all on centres
        middle = centres(grid) - ray
        size = abs(middle).sum(-1) if faces is OCTAHEDRON_FACES else abs(middle).max(-1)
        assert not moved[size > 0.4 + 1e-4].any() and moved[size < 0.4 - 1e-4].all()


def test_a_surface_through_cell_centres_splits_them_once():
    """Two boxes that share a wall made of cell centres: every cell belongs to exactly one."""
    grid = 10
    wall = (2 * 6 + 1) / grid - 1
    for axis in range(3):
        low, high = np.full(3, -0.83), np.full(3, 0.83)
        low_of, high_of = low.copy(), high.copy()
        high_of[axis] = low_of[axis] = wall
        boxes = [(CUBE + 1) / 2 * (top - bottom) + bottom for bottom, top in ((low, high_of), (low_of, high), (low, high))]
        one, other, both = (voxels.occupancy(box, CUBE_FACES, grid) for box in boxes)
        assert np.array_equal(one + other, both) and one.any() and other.any()


def test_blocks_are_no_different_from_the_whole(monkeypatch):
    vertices, faces = torus()
    whole = voxels.occupancy(vertices, faces, 40)
    monkeypatch.setattr(voxels, "_BLOCK", 7)
    assert np.array_equal(voxels.occupancy(vertices, faces, 40), whole)


def test_memory_is_bounded_by_the_grid():
    """A hundred boxes within each other, up to 200 crossings in every column, 1.7 million in all, on a grid of 0.9 MB."""
    script = """
import resource
import numpy as np
from doh.signals.voxels import occupancy
cube = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
faces = np.array(FACES)
shells = 0.95 - 0.002 * np.arange(100)
occupancy(cube, faces, 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cells = occupancy((shells[:, None, None] * cube).reshape(-1, 3), (np.arange(100)[:, None, None] * 8 + faces).reshape(-1, 3), 96)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, cells.sum())
"""
    script = script.replace("FACES", repr(CUBE_FACES.tolist()))
    words = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120).stdout.split()
    layers = abs(centres(96)).max(-1)
    inside = 100 - np.searchsorted(0.752 + 0.002 * np.arange(100), layers, "right") & 1
    assert int(words[1]) == inside.sum() and int(words[0]) < 150_000  # kB


def test_hollow_and_overlapping_parts():
    """A hole within is empty; where two parts overlap, they cancel, as the documentation says."""
    faces = np.concatenate([CUBE_FACES, CUBE_FACES + 8])
    hollow = voxels.occupancy(np.concatenate([CUBE * 0.8, CUBE * 0.4]), faces, 20)
    size = abs(centres(20)).max(-1)
    assert np.array_equal(hollow == 1, (size < 0.8) & (size > 0.4))


def test_seams_of_texture_and_repeated_vertices_are_closed():
    """Every triangle with vertices of its own, as in STL, and one that is a line."""
    vertices = np.concatenate([CUBE[CUBE_FACES].reshape(-1, 3) * 0.7, [[0, 0, 0]]])
    faces = np.concatenate([np.arange(36).reshape(-1, 3), [[0, 0, 5], [36, 36, 36]]])
    assert np.array_equal(voxels.occupancy(vertices, faces, 12), voxels.occupancy(CUBE * 0.7, CUBE_FACES, 12))


def test_triangles_that_occur_more_than_once_cancel(monkeypatch):
    """41 times the same is once, 40 times is never, in whatever order and sense; and no more work than once."""
    drawn = []
    crossings = voxels._crossings
    monkeypatch.setattr(voxels, "_crossings", lambda triangles, grid: drawn.append(len(triangles)) or crossings(triangles, grid))
    rng = np.random.default_rng(0)
    corners, small = CUBE * 0.7 @ turn(1), CUBE * 0.3 @ turn(2)
    for count in (41, 40):
        many = rng.permuted(rng.permutation(np.concatenate([np.repeat(CUBE_FACES, count, axis=0), CUBE_FACES + 8])), axis=1)
        cells = voxels.occupancy(np.concatenate([corners, small]), many, 24)
        inner, outer = voxels.occupancy(small, CUBE_FACES, 24), voxels.occupancy(corners, CUBE_FACES, 24)
        assert np.array_equal(cells, inner ^ outer if count == 41 else inner) and inner.any() and (outer > inner).any()
    assert drawn == [24, 12, 12, 12, 12, 12]
    assert not voxels.occupancy(corners, np.repeat(CUBE_FACES, 2, axis=0), 24).any()


def test_too_much_work_is_refused():
    """99 boxes within each other, each a little smaller, on the finest grid; the same on a coarse one is little work."""
    shells = (0.95 - 0.001 * np.arange(99))[:, None, None] * CUBE
    faces = (np.arange(99)[:, None, None] * 8 + CUBE_FACES).reshape(-1, 3)
    with pytest.raises(EncodeError, match=r"its 1,188 triangles cover 1[0-9]{2},[0-9,]+ columns of the grid, one behind the other, and 67,108,864 col"):
        voxels.occupancy(shells.reshape(-1, 3), faces, voxels.MAX_GRID)
    assert voxels.occupancy(shells.reshape(-1, 3), faces, 32).any()
    walls = shells * (1e-5, 1, 1)  # that cover no column, but many rows
    many = (np.arange(50_000)[:, None, None] * 1e-7 + walls[:1]).reshape(-1, 3)
    faces = (np.arange(50_000)[:, None, None] * 8 + CUBE_FACES).reshape(-1, 3)
    with pytest.raises(EncodeError, match="columns and rows are the most"):
        voxels._check_work(np.rint((many + 1) * 512 * voxels._UNIT).astype(np.int64)[faces])


def test_an_open_surface_is_refused_with_the_number_of_its_edges():
    with pytest.raises(EncodeError, match=r"not closed: 3 of its edges .*fill_holes"):
        voxels.occupancy(CUBE * 0.5, CUBE_FACES[1:], 8)
    assert voxels.open_edges(CUBE_FACES) == 0 and voxels.open_edges(CUBE_FACES[2:]) == 4
    for grid in (1, 0, -3, 1025):
        with pytest.raises(EncodeError, match="2 to 1024 cells"):
            voxels.occupancy(CUBE * 0.5, CUBE_FACES, grid)


def test_normalised():
    vertices = CUBE * (3, 1, 2) + (100, -50, 7)
    placed, shift, factor = voxels.normalised(vertices)
    assert np.allclose(placed, CUBE * (0.95, 0.95 / 3, 0.95 * 2 / 3)) and np.allclose((vertices + shift) * factor, placed)
    for bad, message in [(CUBE * (1, 0, 1), "flat"), (CUBE * np.nan, "not finite"), (CUBE[:0], "no vertices"), (CUBE * 1e308, None)]:
        if message:
            with pytest.raises(EncodeError, match=message):
                voxels.normalised(bad)
        else:
            assert np.isfinite(voxels.normalised(bad)[0]).all()


# The surface of cells


def triangles_of(vertices, faces) -> Counter:
    """Every triangle with its sense, from whichever corner."""
    places = [tuple(p) for p in np.round(vertices, 9).tolist()]
    return Counter(tuple(p[i:] + p[:i]) for p in ([places[n] for n in face] for face in faces) for i in (p.index(min(p)),))


@pytest.mark.parametrize("share", [0.03, 0.3, 0.5, 0.9])
def test_surface_in_slabs(share):
    """Noise, the worst case: closed, no double vertices, the same for all slabs."""
    pytest.importorskip("skimage")
    cells = (np.random.default_rng(1).random((11, 7, 9)) < share).astype(np.uint8)
    asked = []

    def layers(first, last):
        asked.extend(range(first, last))
        return cells[first:last]

    vertices, faces = surface(layers, cells.shape, slab=4)
    assert asked == list(range(11))
    assert voxels.open_edges(faces) == 0 and len(np.unique(vertices, axis=0)) == len(vertices) == faces.max() + 1
    halves = (vertices + 1) * cells.shape - 1  # twice the indices
    assert abs(halves - np.rint(halves)).max() < 1e-9 and set((np.rint(halves) % 2).sum(1)) <= {1, 3}  # between two neighbours, or in the middle of 8
    whole = surface(lambda first, last: cells[first:last], cells.shape, slab=11)
    assert triangles_of(vertices, faces) == triangles_of(*whole)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert (a * np.cross(b, c)).sum() / 6 > 0  # the triangles face outwards


def test_surface_of_one_cell_of_all_and_of_none():
    pytest.importorskip("skimage")
    cell = np.zeros((4, 5, 6), np.uint8)
    cell[1, 2, 3] = 1
    vertices, faces = surface(lambda first, last: cell[first:last], cell.shape)
    middle = (2 * np.array([1, 2, 3]) + 1) / (4, 5, 6) - 1
    assert len(faces) == 8 and np.allclose(sorted(abs((vertices - middle) * (4, 5, 6)).max(1)), [1] * 6)  # half a cell away on every side
    full = np.ones((3, 3, 3), np.uint8)
    vertices, faces = surface(lambda first, last: full[first:last], full.shape, slab=1)
    assert voxels.open_edges(faces) == 0 and np.allclose(abs(vertices).max(), 1)
    empty = surface(lambda first, last: full[first:last] * 0, full.shape)
    assert empty[0].shape == empty[1].shape == (0, 3)


def test_a_mesh_comes_back_from_its_cells():
    pytest.importorskip("skimage")
    vertices, faces = torus()
    cells = voxels.occupancy(vertices, faces, 48)
    again = voxels.occupancy(*surface(lambda first, last: cells[first:last], cells.shape), 48)
    assert np.array_equal(again, cells)
    finer = voxels.occupancy(*surface(lambda first, last: cells[first:last], cells.shape), 96)
    assert metrics.iou(finer, voxels.occupancy(vertices, faces, 96)) > 0.93
