"""The programs behind the documents' figures, on small things: rivals do the work that doh does, records hold what is said of them. No time is judged."""

from __future__ import annotations

import json
import subprocess
import sys

import _env
import numpy as np
import pytest
from conftest import VECTORS

import doh
from doh.metrics import psnr

TIED = VECTORS / "valid" / "tied-40x9-n4500.doh"


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_rivals_of_the_decoder_decode_the_same_picture(engine):
    rivals = pytest.importorskip("_rivals")
    pytest.importorskip(engine)
    pytest.importorskip("onnx")
    data = TIED.read_bytes()
    wanted = doh.decode(data)
    network, points = rivals.FloatNetwork.of(data), rivals.coordinates(wanted.shape[:-1])
    chunk = rivals.onnxruntime_chunk(network, 1, False) if engine == "onnxruntime" else rivals.torch_chunk(network, 1, False)
    found = np.empty((len(points), wanted.shape[-1]), np.uint8)
    rivals.run_in_chunks(chunk, 100, points, found)
    assert psnr(found.reshape(wanted.shape), wanted, 255) > 45


def test_bench_onnx(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    command = [sys.executable, _env.ROOT / "tools" / "bench_onnx", "--seconds", "0.01", "--providers", "cpu", "--json", tmp_path / "x.json", TIED]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = json.loads((tmp_path / "x.json").read_text())
    assert "time in multiples of the f32 graph's: exact " in printed
    assert {(r["engine"], r["kind"]) for r in records} == {("doh", None), *(("onnxruntime", kind) for kind in ("exact", "exact-baked", "f32", "f16"))}
    said = {"case", "engine", "kind", "provider", "threads", "seconds", "processor_seconds", "runs", "mpixel_per_s"}
    of_files = {"load_seconds", "start_mb", "loaded_mb", "peak_mb", "bytes"}
    for record in records:
        exact = record["kind"] in (None, "exact", "exact-baked")
        assert set(record) == said | (of_files if record["kind"] else set()) | (set() if exact else {"psnr_to_exact"})


def test_bench_encode_compares_steps(capsys):
    pytest.importorskip("torch")
    tool = _env.program("bench_encode")
    engines = ["doh", "hand-written", "autograd", "module"]
    records = tool.measure_case(tool.Case(256, 16), 1, engines, 0.01, 1e9)
    assert [r["engine"] for r in records] == engines
    errors = [r["gradient_error"] for r in records]
    assert all(0 < e < 1e-5 for e in errors[:3]) and 0 < errors[3] < 1e-4  # the module's encodings are float32, of phases up to 1,600
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == engines


def test_gpu_checks_on_the_cpu():
    """All but the kernels: torch's step beside float64, and signals in one step beside signals alone."""
    torch = pytest.importorskip("torch")
    checks = pytest.importorskip("_gpu_training")
    cpu = torch.device("cpu")
    steps = checks.steps(cpu, [(64, 16)], ["eager"], 32)
    assert steps["status"] == "run" and steps["records"][0]["gradient_error"] < checks.BOUND and steps["records"][0]["same_twice"]
    groups = checks.groups(cpu, 32, 16, ["eager"])
    assert groups["status"] == "run" and groups["records"][0]["difference_from_alone"] < checks.BOUND


def test_time_of_an_encode_that_was_resumed():
    report = pytest.importorskip("_rd_report")
    assert report.whole_seconds({"seconds": 10.0, "steps": 100, "from_step": 75}) == 40.0
    assert report.whole_seconds({"seconds": 10.0, "steps": 100}) == 10.0
