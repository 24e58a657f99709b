"""Mesh files to occupancy and back: what is refused, what is lost; the whole way through a .doh file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from commands import QUICK, error_of, random_file, run, without_modules
from solids import CUBE, CUBE_FACES, centres, torus

import doh
from doh import container, metrics, reference, signals
from doh.errors import EncodeError
from doh.signals import voxels
from doh.signals.surface import surface

CELLS = SimpleNamespace(signal="occupancy", sample_type="u1", shape=(8, 8, 8))


def write_obj(path, vertices, faces) -> None:
    lines = [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in vertices] + [f"f {a} {b} {c}" for a, b, c in np.asarray(faces) + 1]
    path.write_text("\n".join(lines) + "\n")


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
        ("empty.stl", "the file is empty"),
        ("points.obj", "no triangles|not a mesh"),
        ("nan.obj", "not finite"),
        ("open.obj", "not closed: 3 of its edges"),
        ("flat.obj", "flat"),
        ("needle.obj", "encloses no cell"),
    ]:
        with pytest.raises(EncodeError, match=f"{name}: .*({message})") as caught:
            signals.read_signal(tmp_path / name, grid=8)
        assert "\n" not in str(caught.value)


def test_binary_stl_of_another_length_than_it_says(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    data = trimesh.Trimesh(CUBE, CUBE_FACES, process=False).export(file_type="stl")
    path, more = tmp_path / "a.stl", data[:80] + b"\xff" * 4 + data[84:]
    assert len(data) == 684
    for held, message in [
        (data[:500], "damaged or cut short: 12 triangles are named, which take 684 bytes; it has 500"),
        (b"solid" + data[5:500], "damaged or cut short: 12 triangles are named, which take 684 bytes; it has 500"),
        (data + b"\n", "damaged or cut short: 12 triangles are named, which take 684 bytes; it has 685"),
        (more, "damaged or cut short: 4,294,967,295 triangles are named, which take 214,748,364,834 bytes; it has 684"),
        (data[:83], "cut short: 83 bytes are there, where the header of a binary STL file alone has 84"),
        (data[:80] + bytes(4), "there are no triangles in it"),
        (b"solid x\nendsolid x\n", "there are no triangles in it"),
    ]:
        path.write_bytes(held)
        with pytest.raises(EncodeError, match=rf"a\.stl: .*{message}"):
            signals.read_signal(path, grid=4)


def test_what_trimesh_logs_is_not_printed(tmp_path, caplog):
    """A texture that is not there, a normal that is no number: a traceback, where nobody else takes what is logged."""
    trimesh = pytest.importorskip("trimesh")
    cube = trimesh.Trimesh(CUBE, CUBE_FACES, process=False)
    head, mark, body = cube.export(file_type="ply", encoding="ascii").decode().partition("element")
    (tmp_path / "a.ply").write_text(f"{head}comment TextureFile x.png\n{mark}{body}")
    (tmp_path / "a.stl").write_text(cube.export(file_type="stl_ascii").replace("-1.0 0.0 0.0\n", "-1,0 0 0\n", 1))
    for name in ("a.ply", "a.stl"):
        assert signals.read_signal(tmp_path / name, grid=4)[0].samples.all()
    assert caplog.records == []


@pytest.mark.parametrize("extension", [".obj", ".off"])
def test_text_that_is_not_utf_8(tmp_path, monkeypatch, extension):
    """A comment in Latin-1: read, or said what is missing; it is no damage."""
    trimesh = pytest.importorskip("trimesh")
    path = tmp_path / f"a{extension}"
    text = trimesh.Trimesh(CUBE, CUBE_FACES, process=False).export(file_type=extension[1:])
    at = text.index("\n") + 1
    path.write_bytes(text[:at].encode() + b"# caf\xe9\n" + text[at:].encode())
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "charset_normalizer", None)
        with pytest.raises(EncodeError, match=rf"a{extension}: meshes need charset-normalizer, which is not installed: pip install 'doh\[mesh\]'"):
            signals.read_signal(path, grid=8)
    pytest.importorskip("charset_normalizer")
    assert signals.read_signal(path, grid=8)[0].samples.all()


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
    assert "give one of them" in error_of(run("decode", source, "-o", tmp_path / "a.npy", "--grid", "9", "--scale", "1"))
    assert "--grid is for occupancy and volumes; this signal has 2 dimensions" in error_of(run("decode", picture, "-o", tmp_path / "a.png", "--grid", "9"))
    assert "'rate' has no meaning for .npy files" in error_of(run("decode", source, "-o", tmp_path / "a.npy", "--rate", "9"))
    pytest.importorskip("trimesh")
    assert "one channel of u1 samples, not 3 of u8" in error_of(run("decode", picture, "-o", tmp_path / "a.ply"))
    assert sorted(os.listdir(tmp_path)) == ["a.doh", "p.doh"]


def test_the_limits_hold_for_the_whole_of_a_mesh(tmp_path, monkeypatch):
    """Which is decoded 32 layers at a time, and its weights as often."""
    for module in ("trimesh", "skimage"):
        pytest.importorskip(module)
    from doh.cli import decode as command

    source = random_file(tmp_path / "a.doh", shape=(9, 10, 12), channels=1, sample_type="u1", kind="occupancy")
    for name in ("a.npy", "a.ply"):
        assert "LIMIT_SAMPLES" in error_of(run("decode", source, "-o", tmp_path / name, "--grid", "4096"))
    info = doh.read_info(source)
    points, once = 36 * 40 * 48, -(-info.weights // info.latents) * info.latents
    whole = once + points * (info.weights + 16 * info.depth * info.width)
    words = ["decode", source, "-o", tmp_path / "a.ply", "--grid", "48"]
    monkeypatch.setattr(command, "MAX_WORK", whole + once - 1)  # in two
    assert error_of(run(*words)).endswith("; if you trust the file: --no-limits") and not (tmp_path / "a.ply").exists()
    assert run(*words, "--no-limits").returncode == 0
    monkeypatch.setattr(command, "MAX_WORK", whole + info.latents + info.weights)
    assert run(*words).returncode == 0


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
    for scale in ("1", "1.0"):
        result = run("decode", source, "-o", tmp_path / "a.stl", "--scale", scale)
        assert "around 16 x 16 x 16 points" in result.stdout and result.stderr == ""
    assert error_of(run("decode", source, "-o", tmp_path / "b.stl", "--crop", "0,0,1,1")) == "doh: --crop is for images; this signal has 3 dimensions"
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
    figures = json.loads(run("eval", tmp_path / "a.doh", tmp_path / "torus.obj", "--json").stdout)
    assert f" dB, IoU {figures['iou']:.4f} decoded, " in result.stdout
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
