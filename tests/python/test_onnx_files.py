"""ONNX files as people use them: what is refused, the command line, sounds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from conftest import VECTORS
from onnx_cases import command
from typer.testing import CliRunner

import doh
from doh.cli.app import app
from doh.errors import OnnxError
from doh.export import build, export, open_session, run, run_session


def test_refusals(tmp_path):
    data = (VECTORS / "valid" / "image-rgba.doh").read_bytes()
    model = build(data).SerializeToString()
    with pytest.raises(ValueError, match="kind"):
        build(data, "int8")
    with pytest.raises(doh.DohError, match="LIMIT_SAMPLES"):
        build(data, limits={"max_samples": 10})
    with pytest.raises(doh.DohError, match="BAD_CHECKSUM"):
        build(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="not inside"):
        run(model, grid=(4, 4), offset=(2, 2), extent=(3, 1))
    with pytest.raises(ValueError, match="takes a grid"):
        run(model, coordinates=np.zeros((1, 2), np.int32))
    with pytest.raises(OnnxError, match="cannot load"):
        run(b"no model")
    with pytest.raises(ValueError, match="whole numbers"):
        run(model, grid=(8.5, 9))
    with pytest.raises(OnnxError, match="exact-baked"):
        run_session(open_session(model), provider="cuda")
    with pytest.raises(OnnxError, match="provider is cpu or cuda"):
        run(model, provider="tpu")
    (tmp_path / "there.onnx").write_bytes(b"as it was")
    with pytest.raises(doh.DohError):
        export(data[:40], tmp_path / "there.onnx")
    assert (tmp_path / "there.onnx").read_bytes() == b"as it was" and len(list(tmp_path.iterdir())) == 1
    other = onnx.load_from_string(model)
    about = {entry.key: entry for entry in other.metadata_props}
    about["doh.kind"].value = "f64"
    with pytest.raises(OnnxError, match=r"not made by doh export .kind 'f64'"):
        run(other.SerializeToString())
    about["doh.format_version"].value, about["doh.shape"].value = "2", "of another kind"
    with pytest.raises(OnnxError, match="is of version 2; this doh knows 1"):
        run(other.SerializeToString())
    del other.metadata_props[:]
    with pytest.raises(OnnxError, match="not made by doh"):
        run(other.SerializeToString())


def test_command_line(tmp_path):
    source, files = VECTORS / "valid" / "image-rgba.doh", CliRunner()
    png = ["-o", tmp_path / "x.png", "--scale", "2"]
    for arguments in (
        ["export", source, "-o", tmp_path / "x.onnx", "--kind", "exact-baked"],
        ["decode", tmp_path / "x.onnx", *png],
        ["decode", source, "-o", tmp_path / "y.png", "--scale", "2"],
    ):
        result = files.invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    for wrong in (["decode", source, "-o", tmp_path / "z.png", "--provider", "cuda"], ["export", source, "-o", tmp_path / "z.onnx", "--kind", "f8"]):
        assert files.invoke(app, list(map(str, wrong))).exit_code == 2


def test_the_command_line_refuses_in_one_line(tmp_path):
    source = VECTORS / "valid" / "image-rgba.doh"
    assert command("export", source, "-o", tmp_path / "p.onnx", "--points")[0] == 0
    code, text = command("decode", tmp_path / "p.onnx", "-o", tmp_path / "x.png")
    assert code == 1 and "was exported with --points: there is no grid to decode" in text
    assert command("export", source, "-o", tmp_path / "g.onnx")[0] == 0
    code, text = command("decode", tmp_path / "g.onnx", "-o", tmp_path / "x.png", "--scale", "1e10")
    assert code == 1 and text.startswith("doh: --scale 1e10 makes a grid of")
    code, text = command("decode", tmp_path / "g.onnx", "-o", tmp_path / "x.png", "--scale", "2000")
    assert code == 1 and "samples are more than 1,073,741,824" in text and "--no-limits" in text
    code, text = command("export", source, "-o", tmp_path / "g")
    assert code == 1 and "ends in .onnx" in text and not (tmp_path / "g").exists()
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "g.onnx").read_bytes()[:1000])
    code, text = command("decode", tmp_path / "cut.onnx", "-o", tmp_path / "x.png")
    assert code == 1 and f"cannot load {tmp_path / 'cut.onnx'}" in text
    (tmp_path / "g.png").symlink_to(tmp_path / "g.onnx")
    before = (tmp_path / "g.onnx").read_bytes()
    code, text = command("decode", tmp_path / "g.onnx", "-o", tmp_path / "g.png")
    assert code == 1 and "is the very file that is read" in text and (tmp_path / "g.onnx").read_bytes() == before
    mine = tmp_path / "a.doh"
    mine.write_bytes(source.read_bytes())
    code, text = command("export", mine, "-o", mine)
    assert code == 1 and "is the very file that is read" in text and mine.read_bytes() == source.read_bytes()


def test_a_mesh_is_drawn_from_as_many_points_as_from_the_doh_file(tmp_path, monkeypatch):
    pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    monkeypatch.setattr("doh.cli.decode.MESH_GRID", 5)
    source = VECTORS / "valid" / "occupancy.doh"
    assert max(doh.read_info(source).shape) > 5 and command("export", source, "-o", tmp_path / "m.onnx", "--no-limits")[0] == 0
    for name in ("m.ply", "n.ply"):
        code, text = command("decode", source if name == "m.ply" else tmp_path / "m.onnx", "-o", tmp_path / name)
        assert code == 0 and "the mesh is drawn from 5 of" in text
    assert (tmp_path / "m.ply").read_bytes() == (tmp_path / "n.ply").read_bytes()


def test_a_sound_has_the_rate_that_it_has_from_the_doh_file(tmp_path, monkeypatch):
    pytest.importorskip("soundfile")
    source = VECTORS / "valid" / "audio-stereo.doh"
    assert command("export", source, "-o", tmp_path / "a.onnx")[0] == 0
    for more in ([], ["--rate", "16000"], ["--scale", "2"], ["--scale", "2", "--rate", "8000"]):
        for kind, file in (("doh", source), ("onnx", tmp_path / "a.onnx")):
            code, text = command("decode", file, "-o", tmp_path / f"{kind}.wav", *more)
            assert code == 0 and ("44,100 Hz is taken for it" in text) == ("--rate" not in more), text
        assert (tmp_path / "doh.wav").read_bytes() == (tmp_path / "onnx.wav").read_bytes()
    monkeypatch.setattr("doh.cli.onnx.run_session", None)  # what cannot be written is refused before
    code, text = command("decode", tmp_path / "a.onnx", "-o", tmp_path / "b.wav", "--scale", "100", "--rate", "44100")
    assert code == 1 and "b.wav: a rate of 4,410,000 Hz cannot be written" in text
