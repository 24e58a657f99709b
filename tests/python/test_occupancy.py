"""Meshes to occupancy and back: what is inside, in every position of the rays; what is refused; the whole way through a .doh file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from test_cli import QUICK, error_of, random_file, run, without_modules

import doh
from doh import container, metrics, reference, signals
from doh.errors import EncodeError
from doh.signals import voxels
from doh.signals.surface import surface

CELLS = SimpleNamespace(signal="occupancy", sample_type="u1", shape=(8, 8, 8))
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
#: Two triangles a side, their order and their sense mixed up: inside does not depend on them.
CUBE_FACES = np.array(
    [[0, 1, 3], [0, 2, 3], [4, 5, 7], [6, 4, 7], [0, 1, 5], [4, 0, 5], [2, 3, 7], [2, 6, 7], [0, 2, 6], [0, 4, 6], [1, 3, 7], [1, 5, 7]]
)
OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
OCTAHEDRON_FACES = np.array([[a, b, c] for a in (0, 1) for b in (2, 3) for c in (4, 5)])


def torus(around: int = 24, across: int = 16, hole: float = 0.6, thick: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a closed torus, seen from all sides, with curvature of both signs."""
    u, v = np.meshgrid(np.arange(around) / around * 2 * np.pi, np.arange(across) / across * 2 * np.pi, indexing="ij")
    ring = hole + thick * np.cos(v)
    vertices = np.stack([ring * np.cos(u), ring * np.sin(u), thick * np.sin(v)], -1).reshape(-1, 3)
    i, j = (n.reshape(-1) for n in np.meshgrid(np.arange(around), np.arange(across), indexing="ij"))
    a, b = i * across + j, (i + 1) % around * across + j
    c, d = (i + 1) % around * across + (j + 1) % across, i * across + (j + 1) % across
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def centres(grid: int) -> np.ndarray:
    """(grid, grid, grid, 3): the coordinates of the cells, docs/format.md, section 7."""
    x = (2 * np.arange(grid) + 1) / grid - 1
    return np.stack(np.meshgrid(x, x, x, indexing="ij"), -1)


def turn(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def write_obj(path, vertices, faces) -> None:
    lines = [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in vertices] + [f"f {a} {b} {c}" for a, b, c in np.asarray(faces) + 1]
    path.write_text("\n".join(lines) + "\n")


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


# Files


@pytest.mark.parametrize("extension", [".ply", ".obj", ".stl", ".off", ".STL"])
def test_files_keep_the_cells(tmp_path, extension):
    """Written and read again, the surface encloses the cells that it was made of: they fill the cube as far as a mesh is made to."""
    for module in ("trimesh", "skimage"):
        pytest.importorskip(module)
    grid = 40
    cells = voxels.occupancy(torus()[0] * 0.95 / 0.9, torus()[1], grid)  # the torus as read() places it
    path = tmp_path / f"a{extension}"
    signals.write_signal(path, cells[..., None], CELLS)
    assert os.listdir(tmp_path) == [path.name]
    signal, notes = signals.read_signal(path, grid=grid)
    assert (signal.kind, signal.sample_type, signal.samples.shape) == ("occupancy", "u1", (grid, grid, grid, 1))
    assert metrics.iou(signal.samples[..., 0], cells) > 0.9
    assert len(notes) == 1 and f"{path}: only its shape is kept, on 40 x 40 x 40 cells" in notes[0]


def test_placing_a_mesh(tmp_path):
    pytest.importorskip("trimesh")
    write_obj(tmp_path / "a.obj", CUBE * (10, 5, 5) + (1, 2, 3), CUBE_FACES)
    signal, notes = signals.read_signal(tmp_path / "a.obj", grid=32)
    assert "moved by (-1, -2, -3), then scaled by 0.095" in notes[0]
    x = abs(centres(32))
    assert np.array_equal(signal.samples[..., 0] == 1, (x < (0.95, 0.475, 0.475)).all(-1))
    from doh.signals.meshes import GRID

    assert GRID == 512


def test_what_is_no_mesh(tmp_path):
    pytest.importorskip("trimesh")
    (tmp_path / "letter.ply").write_text("a letter, not a mesh\n" * 20)
    (tmp_path / "letter.obj").write_text("a letter, not a mesh\n" * 20)
    (tmp_path / "empty.stl").touch()
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 1\n")
    (tmp_path / "nan.obj").write_text("v 0 0 0\nv 1 0 nan\nv 0 1 1\nf 1 2 3\n")
    write_obj(tmp_path / "open.obj", CUBE, CUBE_FACES[:-1])
    write_obj(tmp_path / "flat.obj", CUBE * (1, 1, 0), CUBE_FACES)
    write_obj(tmp_path / "needle.obj", CUBE * (1e-3, 1e-3, 1), CUBE_FACES)
    for name, message in [
        ("letter.ply", "not a mesh that can be read"),
        ("letter.obj", "triangles|not a mesh"),
        ("empty.stl", "triangles|not a mesh"),
        ("points.obj", "no triangles|not a mesh"),
        ("nan.obj", "not finite"),
        ("open.obj", "not closed: 3 of its edges"),
        ("flat.obj", "flat"),
        ("needle.obj", "encloses no cell"),
    ]:
        with pytest.raises(EncodeError, match=f"{name}: .*({message})") as caught:
            signals.read_signal(tmp_path / name, grid=8)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extension", [".ply", ".stl", ".off", ".obj"])
def test_damaged_meshes(tmp_path, extension):
    """Cut short or changed at random: one clear error, or a mesh that still has an inside."""
    for module in ("trimesh", "skimage"):
        pytest.importorskip(module)
    path = tmp_path / f"a{extension}"
    cells = np.zeros((8, 8, 8, 1), np.uint8)
    cells[2:6, 3:5, 2:7] = 1
    signals.write_signal(path, cells, CELLS)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    files = [data[:length] for length in range(0, len(data), len(data) // 15)]
    for _ in range(30):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        files.append(bytes(damaged))
    refused = 0
    for file in files:
        path.write_bytes(file)
        try:
            assert signals.read_signal(path, grid=8)[0].samples.shape == (8, 8, 8, 1)
        except EncodeError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 15


def test_what_a_mesh_cannot_hold(tmp_path):
    pytest.importorskip("trimesh")
    for channels, sample_type, shape, message in [
        (1, "u8", (4, 4, 4), "one channel of u1 samples, not 1 of u8"),
        (2, "u1", (4, 4, 4), "one channel of u1 samples, not 2 of u1"),
        (1, "u1", (4, 4), "three dimensions; this signal has 2"),
    ]:
        with pytest.raises(EncodeError, match=message):
            signals.check_signal(tmp_path / "a.ply", channels, SimpleNamespace(signal="array", sample_type=sample_type, shape=shape))
    pytest.importorskip("skimage")
    with pytest.raises(EncodeError, match="no cell is filled"):
        signals.write_signal(tmp_path / "a.ply", np.zeros((8, 8, 8, 1), np.uint8), CELLS)
    assert os.listdir(tmp_path) == []


def test_options_are_for_their_own_kinds(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 4, 4, 1), bool))
    with pytest.raises(EncodeError, match=r"a.npy: 'grid' has no meaning for .npy files"):
        signals.read_signal(tmp_path / "a.npy", grid=8)
    assert signals.read_signal(tmp_path / "a.npy", grid=None)[0].kind == "array"
    assert signals.read_signal(tmp_path / "a.npy", occupancy=True)[0].kind == "occupancy"
    np.save(tmp_path / "b.npy", np.array([0, 7, 7, 0, 7, 0, 7, 7], np.uint8).reshape(2, 2, 2, 1))
    signal, _ = signals.read_signal(tmp_path / "b.npy", occupancy=True)
    assert signal.samples.reshape(-1).tolist() == [0, 1, 1, 0, 1, 0, 1, 1] and signal.sample_type == "u1"
    np.save(tmp_path / "n.npy", np.array([0, -3], np.int16).reshape(2, 1, 1, 1))
    assert signals.read_signal(tmp_path / "n.npy", occupancy=True)[0].samples.reshape(-1).tolist() == [0, 1]
    np.save(tmp_path / "c.npy", np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1))
    np.save(tmp_path / "d.npy", np.ones((4, 4), bool))
    for name, message in [("c", "this file has more"), ("d", "three dimensions and one channel")]:
        with pytest.raises(EncodeError, match=message):
            signals.read_signal(tmp_path / f"{name}.npy", occupancy=True)


# Through .doh files


def test_decode_to_meshes(tmp_path):
    for module in ("trimesh", "skimage"):
        pytest.importorskip(module)
    source = random_file(tmp_path / "a.doh", shape=(9, 10, 12), channels=1, sample_type="u1", kind="occupancy")
    cells = doh.decode(source)[..., 0]
    assert 0.05 < cells.mean() < 0.95
    result = run("decode", source, "-o", tmp_path / "a.ply")
    vertices, faces = surface(lambda first, last: cells[first:last], cells.shape)
    assert result.stdout == f"{tmp_path}/a.ply: {len(vertices):,} vertices, {len(faces):,} triangles around 9 x 10 x 12 points\n"
    import trimesh

    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    assert np.allclose(mesh.vertices, vertices, atol=1e-6) and np.array_equal(mesh.faces, faces)
    finer = run("decode", source, "-o", tmp_path / "b.ply", "--grid", "48")
    assert finer.returncode == 0 and "around 36 x 40 x 48 points" in finer.stdout
    cells = doh.decode(source, scale=4)[..., 0]
    assert len(trimesh.load(tmp_path / "b.ply", process=False).faces) == len(surface(lambda first, last: cells[first:last], cells.shape)[1])
    assert run("decode", source, "-o", tmp_path / "c.npy", "--grid", "24").returncode == 0
    assert np.array_equal(np.load(tmp_path / "c.npy"), doh.decode(source, scale=2))


def test_grid_of_decode(tmp_path):
    source = random_file(tmp_path / "a.doh", shape=(6, 6, 6), channels=1, sample_type="u1", kind="occupancy")
    picture = random_file(tmp_path / "p.doh")
    assert "give one of them" in error_of(run("decode", source, "-o", tmp_path / "a.npy", "--grid", "9", "--scale", "2"))
    assert "--grid is for occupancy and volumes; this signal has 2 dimensions" in error_of(run("decode", picture, "-o", tmp_path / "a.png", "--grid", "9"))
    assert "'rate' has no meaning for .npy files" in error_of(run("decode", source, "-o", tmp_path / "a.npy", "--rate", "9"))
    pytest.importorskip("trimesh")
    assert "one channel of u1 samples, not 3 of u8" in error_of(run("decode", picture, "-o", tmp_path / "a.ply"))
    assert sorted(os.listdir(tmp_path)) == ["a.doh", "p.doh"]


def test_a_large_field_is_drawn_smaller_unless_asked(tmp_path, monkeypatch):
    for module in ("trimesh", "skimage"):
        pytest.importorskip(module)
    from doh.cli import decode as command

    monkeypatch.setattr(command, "MESH_GRID", 8)
    source = random_file(tmp_path / "a.doh", shape=(16, 16, 16), channels=1, sample_type="u1", kind="occupancy")
    result = run("decode", source, "-o", tmp_path / "a.stl")
    assert "around 8 x 8 x 8 points" in result.stdout and result.stderr.endswith("drawn from 8 of 16 stored points a side; all of them with --grid 16\n")
    result = run("decode", source, "-o", tmp_path / "a.stl", "--grid", "16")
    assert "around 16 x 16 x 16 points" in result.stdout and result.stderr == ""
    data = bytearray(source.read_bytes())
    data[-8] ^= 1  # of samples_crc, which a decode of the whole checks
    data[-4:] = doh._core.crc32c(bytes(data[:-4])).to_bytes(4, "little")
    source.write_bytes(data)
    assert "BAD_SAMPLES" in error_of(run("decode", source, "-o", tmp_path / "b.stl", "--grid", "16"))
    assert not (tmp_path / "b.stl").exists()


def test_encode_decode_and_eval(tmp_path, monkeypatch):
    """A torus through a real encode, by the numpy decoder and the C++ one alike, and what eval says of it."""
    for module in ("torch", "trimesh", "skimage"):
        pytest.importorskip(module)
    from doh.cli import look

    monkeypatch.setattr(look, "CHAMFER_POINTS", 5000)
    write_obj(tmp_path / "torus.obj", *torus())
    signal, _ = signals.read_signal(tmp_path / "torus.obj", grid=20)
    data = doh.encode(signal, latents=60, preset="fast", steps=200, device="cpu", threads=1)
    info = doh.read_info(data)
    assert (info.signal, info.sample_type, info.shape, info.channels) == ("occupancy", "u1", (20, 20, 20), 1)
    samples = doh.decode(data)
    assert np.array_equal(reference.decode(data), samples)
    box = {"grid": (31, 17, 40), "offset": (3, 0, 11), "extent": (9, 17, 5)}
    assert np.array_equal(reference.decode(data, **box), container.decode(data, **box))
    (tmp_path / "torus.doh").write_bytes(data)
    result = json.loads(run("eval", tmp_path / "torus.doh", tmp_path / "torus.obj", "--json").stdout)
    assert result["iou"] == metrics.iou(samples, signal.samples) and 0.6 < result["iou"] < 1
    assert result["psnr"] == metrics.psnr(samples, signal.samples, 1) and 0 < result["chamfer"] < 0.1 and result["ssim"] is result["snr"] is None
    finer = json.loads(run("eval", tmp_path / "torus.doh", tmp_path / "torus.obj", "--json", "--grid", "31").stdout)
    held = signals.read_signal(tmp_path / "torus.obj", grid=31)[0].samples
    assert finer["iou"] == metrics.iou(container.decode(data, grid=(31, 31, 31)), held)
    assert ", IoU 0." in run("eval", tmp_path / "torus.doh", tmp_path / "torus.obj").stdout
    np.save(tmp_path / "cells.npy", signal.samples)
    same = json.loads(run("eval", tmp_path / "torus.doh", tmp_path / "cells.npy", "--json").stdout)
    assert same["iou"] == result["iou"] and same["chamfer"] is None
    assert "--grid is for occupancy that is compared with a mesh" in error_of(run("eval", tmp_path / "torus.doh", tmp_path / "cells.npy", "--grid", "8"))


def test_options_of_encode(tmp_path):
    """--grid for meshes, one or many; --occupancy for arrays."""
    for module in ("torch", "trimesh"):
        pytest.importorskip(module)
    write_obj(tmp_path / "torus.obj", *torus())
    write_obj(tmp_path / "cube.obj", CUBE, CUBE_FACES)
    result = run("encode", tmp_path / "torus.obj", "-o", tmp_path / "a.doh", "--grid", "12", *QUICK, "--latents", "40")
    assert result.returncode == 0 and "only its shape is kept, on 12 x 12 x 12 cells" in result.stderr
    info = doh.read_info(tmp_path / "a.doh")
    assert (info.signal, info.shape) == ("occupancy", (12, 12, 12))
    result = run("encode", tmp_path / "torus.obj", tmp_path / "cube.obj", "-o", tmp_path / "all", "--grid", "10", *QUICK, "--latents", "40")
    assert result.returncode == 0, result.stderr
    assert {path.name: doh.read_info(path).shape for path in (tmp_path / "all").iterdir()} == {"torus.doh": (10, 10, 10), "cube.doh": (10, 10, 10)}
    np.save(tmp_path / "cells.npy", np.pad(np.ones((3, 4, 5, 1), np.uint8) * 9, ((2, 2), (2, 2), (2, 2), (0, 0))))
    assert run("encode", tmp_path / "cells.npy", "-o", tmp_path / "b.doh", "--occupancy", *QUICK, "--latents", "40").returncode == 0
    info = doh.read_info(tmp_path / "b.doh")
    assert (info.signal, info.sample_type, info.shape) == ("occupancy", "u1", (7, 8, 9))
    assert "'grid' has no meaning for .npy files" in error_of(run("encode", tmp_path / "cells.npy", "-o", tmp_path / "c.doh", "--grid", "12", *QUICK))
    write_obj(tmp_path / "open.obj", CUBE, CUBE_FACES[1:])
    assert "not closed: 3 of its edges" in error_of(run("encode", tmp_path / "open.obj", "-o", tmp_path / "c.doh", "--grid", "12", *QUICK))
    assert not (tmp_path / "c.doh").exists()


def test_without_the_libraries(tmp_path):
    source = random_file(tmp_path / "a.doh", shape=(6, 6, 6), channels=1, sample_type="u1", kind="occupancy")
    write_obj(tmp_path / "a.obj", CUBE, CUBE_FACES)
    hint = "which is not installed: pip install 'doh[mesh]'"
    assert error_of(without_modules("trimesh", "decode", source, "-o", tmp_path / "a.ply")).endswith(f"a.ply: meshes need trimesh, {hint}")
    assert error_of(without_modules("trimesh", "eval", source, tmp_path / "a.obj")).endswith(f"a.obj: meshes need trimesh, {hint}")
    pytest.importorskip("trimesh")
    assert error_of(without_modules("skimage", "decode", source, "-o", tmp_path / "a.ply")).endswith(f"a.ply: meshes need scikit-image, {hint}")
    result = without_modules("skimage", "eval", source, tmp_path / "a.obj", "--json")
    figures = json.loads(result.stdout)
    assert figures["iou"] is not None and figures["chamfer"] is None and "no Chamfer distance: it needs scikit-image and scipy" in result.stderr


def test_reading_meshes_imports_no_torch(tmp_path):
    pytest.importorskip("trimesh")
    write_obj(tmp_path / "a.obj", CUBE, CUBE_FACES)
    script = "import sys, doh.signals\ndoh.signals.read_signal(sys.argv[1], grid=8)\nassert not {'torch', 'skimage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.obj"], check=True, timeout=60)


