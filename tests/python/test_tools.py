"""tools/demo from anywhere, tools/gpu_check with parts that fail, tools/perceptual on pictures that cannot be compared, tools/bench_encode on mistakes."""

from __future__ import annotations

import json
import os
import sys

import _env
import numpy as np
import pytest
from _env import program
from PIL import Image

import doh

# demo


def test_demo_starts_from_any_folder(monkeypatch, tmp_path):
    """It goes on in .venv by its own full name, whatever it was called by."""
    demo = program("demo")
    started: list[list[str]] = []

    def execve(path, words, variables):
        started.append(words)
        raise SystemExit

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["../somewhere/demo", "--preset", "best"])
    monkeypatch.setattr(_env, "in_environment", lambda: False)
    monkeypatch.setattr(_env, "prepare", lambda: None)
    monkeypatch.setattr(_env, "build", lambda *targets, tests: None)
    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        demo.main()
    assert started == [[str(_env.PYTHON), str(_env.ROOT / "tools" / "demo"), "--preset", "best"]]


def test_demo_names_a_decoder_that_is_missing(monkeypatch, tmp_path):
    """In an activated .venv it builds what is missing; what is still missing then is named."""
    demo = program("demo")
    built: list[tuple] = []
    monkeypatch.setattr(_env, "BUILD", tmp_path)
    monkeypatch.setattr(_env, "in_environment", lambda: True)
    monkeypatch.setattr(_env, "build", lambda *targets, tests: built.append(targets))
    monkeypatch.setattr(demo, "show", lambda preset, fresh: demo.decode(tmp_path / "a.doh", tmp_path / "a.ppm"))
    monkeypatch.setattr(sys, "argv", ["demo"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="no doh-decode in"):
        demo.main()
    assert built == [("doh-decode",)]


# gpu_check


def test_a_part_that_fails_does_not_take_the_others_along(tmp_path, capsys):
    check, path = program("gpu_check"), tmp_path / "report.json"
    seen: list[list[str]] = []

    def fails(place):
        seen.append(list(json.loads(path.read_text())["parts"]))
        raise RuntimeError("CUDA error: out of memory\nmore about it")

    def good(place):
        return {"status": "run", "psnr": {"cpu": 30.0, "cuda": 29.5}[place]}

    def low(place):
        return {"status": "run", "psnr": {"cpu": 30.0, "cuda": 28.9}[place]}

    both = ("cpu", "cuda")
    found = check.check({"good": (good, both), "fails": (fails, ("cuda",)), "low": (low, both)}, path)
    assert {name: result["status"] for name, result in found.items()} == {
        "good on cpu": "run", "good on cuda": "run", "fails on cuda": "wrong", "low on cpu": "run", "low on cuda": "wrong"
    }  # fmt: skip
    assert found["fails on cuda"]["reason"] == "RuntimeError: CUDA error: out of memory"
    assert "28.90 dB, on the CPU 30.00 dB" in found["low on cuda"]["reason"] and found["low on cuda"]["psnr"] == 28.9
    assert seen == [["good on cpu", "good on cuda"]] and json.loads(path.read_text())["parts"] == found
    assert "fails on cuda: wrong, RuntimeError" in capsys.readouterr().out


# perceptual


def test_perceptual_wants_one_range_and_says_that_equal_pictures_have_no_psnr(monkeypatch, tmp_path, capsys):
    tool = program("perceptual")
    samples = np.random.default_rng(1).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(samples).save(tmp_path / "a.png")
    Image.fromarray(samples.astype(np.uint16) * 257).save(tmp_path / "b.png")
    assert doh.signals.read_signal(tmp_path / "b.png")[0].sample_type == "u16"
    monkeypatch.setattr(sys, "argv", ["perceptual", str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    with pytest.raises(SystemExit, match="0 to 255 and 0 to 65535"):
        tool.main()
    monkeypatch.setattr(sys, "argv", ["perceptual", str(tmp_path / "a.png"), str(tmp_path / "a.png")])
    tool.main()
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert figures["psnr"] is None and figures["ssim"] == pytest.approx(1) and "no psnr: the pictures are equal" in said.err


# bench_encode


def test_bench_encode_names_mistakes(monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    tool = program("bench_encode")
    monkeypatch.setattr(sys, "argv", ["bench_encode", "--only", "steps", "--engines", "doh,autgrad"])
    with pytest.raises(SystemExit) as stopped:
        tool.main()
    assert stopped.value.code == 2 and "unknown engine 'autgrad'; there are doh, " in capsys.readouterr().err
    (tmp_path / "no.png").write_text("no picture")
    for name in ("none.png", "no.png"):
        monkeypatch.setattr(sys, "argv", ["bench_encode", "--only", "encode", "--image", str(tmp_path / name)])
        with pytest.raises(SystemExit, match=f"bench_encode: .*{name}"):
            tool.main()


def test_bench_encode_takes_the_steps_that_it_is_told(monkeypatch, tmp_path):
    """Where the preset has epochs, too; and without --steps it says how many steps they are: 12 x 10 points in batches of 50 are three a pass."""
    pytest.importorskip("torch")
    tool = program("bench_encode")
    signal = doh.Signal(np.random.default_rng(1).integers(0, 256, (12, 10, 3), np.uint8), "image", "u8")
    config = tool.Config(epochs=2, batch=50, latents=20)
    monkeypatch.setattr(tool.Config, "from_preset", lambda name: config)
    assert [record["steps"] for record in tool.measure_encoding("noise", signal, "paper", 5, 1)] == [5, 5]
    assert [record["steps"] for record in tool.measure_encoding("noise", signal, "paper", 0, 1)] == [6, 6]


def test_bench_encode_compares_whole_training_steps(capsys):
    torch = pytest.importorskip("torch")
    tool = program("bench_encode")
    before = torch.get_num_threads()
    records = tool.measure_training(64, 1, 0.01)
    assert torch.get_num_threads() == before and len(capsys.readouterr().out.splitlines()) == 3
    assert {r["engine"] for r in records} == {"doh", "torch's calls", "hand-written"} and all(r["case"] == "training" and r["runs"] >= 5 for r in records)
