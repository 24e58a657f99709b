"""ONNX export: every vector through ONNX Runtime, compared with == ; the float twins by their distance."""

from __future__ import annotations

import subprocess
import sys
import venv
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import onnx.inliner
import onnx.reference
import onnxruntime as ort
import pytest
from conftest import VECTORS, table
from onnx_cases import EXACT, command, sizes, vector
from typer.testing import CliRunner

import doh
from doh import _core, container, reference
from doh.cli.app import app
from doh.errors import OnnxError
from doh.export import build, describe, export, open_session, run, weights
from doh.export.graph import OPSET, Graph, Value
from doh.export.interface import KINDS

VALID = [row[0] for row in table(VECTORS / "valid" / "expected.tsv")]
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL")


def settings(level: str = "ENABLE_ALL", threads: int = 1, **entries: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for key, value in {"session.intra_op.allow_spinning": "0", **entries}.items():
        options.add_session_config_entry(key.replace("__", "."), value)
    return options


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("name", VALID)
def test_every_vector_at_every_setting(name, kind):
    data = vector(name)
    wanted = doh.decode(data)
    assert np.array_equal(reference.decode(data), wanted)
    model = build(data, kind)
    onnx.checker.check_model(model, full_check=True)
    serialised, feeds = model.SerializeToString(), sizes(wanted.shape[:-1])
    mosaic = name.startswith("mosaic-")  # graphs that take longer to load: at both ends
    options = [settings(level) for level in (LEVELS[:1] if mosaic else LEVELS)]
    options += [] if mosaic else [settings(threads=2), settings(session__x64quantprecision="1")]
    options.append(settings(optimization__enable_cast_chain_elimination="1"))
    for option in options:
        found = open_session(serialised, options=option).run(None, feeds)[0]
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("name", ["image-1x1-grey-n1.doh", "array-1d.doh", "mosaic-two-pixels.doh"])
def test_the_reference_evaluator_agrees(name, kind):
    """A second engine, in numpy, by the authors of ONNX. It knows no default inputs, so all are given."""
    data = vector(name)
    wanted = doh.decode(data)
    dims = wanted.ndim - 1
    feeds = {**sizes(wanted.shape[:-1]), "offset": np.zeros(dims, np.int64), "extent": np.array(wanted.shape[:-1], np.int64), "block": np.array(64, np.int64)}
    assert np.array_equal(onnx.reference.ReferenceEvaluator(build(data, kind)).run(None, feeds)[0], wanted)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("row", table(VECTORS / "valid" / "regions.tsv")[::9], ids=lambda row: "-".join(row[:4]))
def test_regions_of_other_grids(row, kind):
    name, grid, offset, extent = row[0], *(tuple(map(int, text.split(","))) for text in row[1:4])
    data = vector(name)
    wanted = doh.decode(data, grid=grid, offset=offset, extent=extent)
    assert np.array_equal(run(build(data, kind).SerializeToString(), grid=grid, offset=offset, extent=extent), wanted)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(
    "name", ["image-prime-31x29.doh", "audio-stereo.doh", "video-3d.doh", "array-4d.doh", "dense.doh", "mosaic-different-scales.doh", "mosaic-dense.doh"]
)
def test_points_in_any_order(name, kind):
    data = vector(name)
    wanted = doh.decode(data)
    shape = wanted.shape[:-1]
    index = np.stack(np.unravel_index(np.random.default_rng(1).permutation(int(np.prod(shape))), shape), axis=1)
    points = ((2 * index + 1) * 2**31 // np.array(shape) - 2**31).astype(np.int32)
    model = build(data, kind, points=True)
    onnx.checker.check_model(model, full_check=True)
    found = run(model.SerializeToString(), coordinates=points, block=50)
    assert np.array_equal(found, wanted[tuple(index.T)])


#: Parts that divide the shape and that do not, all numbers of dimensions, both generators, networks of different sizes, parts of one point.
MOSAICS = ("1x2-grey", "1x300", "2x3-of-19x23", "6-of-9", "array-4d", "audio-stereo-7-of-97", "dense", "part-for-each-point", "volume-3x2x2-u16")


@pytest.mark.parametrize("name, kind", [*product(MOSAICS, ["exact-baked"]), *product(MOSAICS[4:7], ["exact"])])
def test_mosaics_on_every_grid(name, kind):
    """All boxes of the table: at borders, on odd, coarse and the finest grids, where parts have no points; by grids and by points."""
    name = f"mosaic-{name}.doh"
    data = vector(name)
    grids, points = (open_session(build(data, kind, points=points).SerializeToString()) for points in (False, True))
    rows = [row for row in table(VECTORS / "valid" / "regions.tsv") if row[0] == name]
    assert len(rows) > 4
    for row in rows:
        grid, offset, extent = (tuple(map(int, text.split(","))) for text in row[1:4])
        wanted = doh.decode(data, grid=grid, offset=offset, extent=extent)
        feeds = {**sizes(grid), "offset": np.array(offset, np.int64), "extent": np.array(extent, np.int64), "block": np.array(7, np.int64)}
        assert np.array_equal(grids.run(None, feeds)[0], wanted)
        index = np.stack(np.unravel_index(np.arange(np.prod(extent))[::-1], extent), axis=1) + offset
        coordinates = ((2 * index + 1) * 2**31 // np.array(grid) - 2**31).astype(np.int32)
        found = points.run(None, {"coordinates": coordinates, "block": np.array(5, np.int64)})[0]
        assert np.array_equal(found, wanted.reshape(-1, wanted.shape[-1])[::-1])


def test_points_at_the_borders_of_parts():
    """Against the network of each part alone, in a file of its own: at both ends of the signal, beside and on every border, and anywhere."""
    data = vector("mosaic-6-of-9.doh")
    mosaic = container.unpack(data)
    ends = [-(-(p << 32) // 6) - 2**31 for p in range(7)]
    near = np.array([e + step for e in ends for step in (-1, 0, 1)] + [-(2**31), 2**31 - 1])
    x = np.concatenate([near[(near >= -(2**31)) & (near < 2**31)], np.random.default_rng(2).integers(-(2**31), 2**31, 200)])
    part, inside = np.divmod((x + 2**31) * 6, 2**32)
    found = run(build(data, points=True).SerializeToString(), coordinates=x.astype(np.int32).reshape(-1, 1), block=16)
    assert set(part) == set(range(6))
    for i, model in enumerate(mosaic.models):
        alone = run(build(container.pack(model), points=True).SerializeToString(), coordinates=(inside[part == i] - 2**31).astype(np.int32).reshape(-1, 1))
        assert np.array_equal(found[part == i], alone)


def test_mosaics_that_an_encoder_makes(tmp_path):
    """An image in two parts, through files and the command line."""
    rng = np.random.default_rng(5)
    image = np.clip(np.add.outer(np.arange(40), np.arange(60))[..., None] * 2 + rng.integers(0, 20, (40, 60, 3)), 0, 255).astype(np.uint8)
    data = doh.encode(image, bytes=900, preset="fast", steps=30, parts="1x2")
    assert container.read_info(data).parts == (1, 2)
    (tmp_path / "x.doh").write_bytes(data)
    for kind, least in (("exact", np.inf), ("exact-baked", np.inf), ("f32", 45.0), ("f16", 35.0)):
        for points in (False, True):
            report = export(data, tmp_path / f"{kind}.onnx", kind, points=points)
            about = describe(open_session(tmp_path / f"{kind}.onnx"))
            assert report.psnr >= least and about.parts == (1, 2) and about.source_bytes == len(data)
    assert command("export", tmp_path / "x.doh", "-o", tmp_path / "x.onnx")[0] == 0
    for source in ("x.doh", "x.onnx"):
        assert command("decode", tmp_path / source, "-o", tmp_path / f"{source}.png", "--scale", "3/2", "--crop", "15,5,20,20")[0] == 0
    assert (tmp_path / "x.doh.png").read_bytes() == (tmp_path / "x.onnx.png").read_bytes()


def test_blocks_and_bands_do_not_matter(monkeypatch):
    data = vector("image-prime-31x29.doh")
    model, wanted = build(data).SerializeToString(), doh.decode(data, scale=3)
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr("doh.export.session.BAND", 1000)
    for block in (7, 977, 8091, 1 << 20):
        found = run(model, grid=wanted.shape[:2], block=block, progress=lambda *step: steps.append(step))
        assert np.array_equal(found, wanted)
    assert steps[-1] == (8091, 8091) and len(steps) > 20


def test_minimum_of_large_numbers():
    """Value.min, where ONNX Runtime's Min of int64 fails."""
    g = Graph()
    a, b = (Value(g, name, np.dtype(np.int64)) for name in "ab")
    least = a.min(b)
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, None) for n in ("a", "b", least.name)]
    graph = onnx.helper.make_graph(g.nodes, "g", infos[:2], infos[2:], list(g.initializers.values()))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9)
    numbers = np.array([0, 1, 3, 2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**40, 2**62], np.int64)
    x, y = (m.ravel() for m in np.meshgrid(numbers, numbers))
    assert np.array_equal(open_session(model.SerializeToString()).run(None, {"a": x, "b": y})[0], np.minimum(x, y))


def test_philox_function():
    f = weights.philox()
    names = list(f.inputs)
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, None) for n in (*names, *"wxyz")]
    node = onnx.helper.make_node("Philox", names, list("wxyz"), domain="doh")
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("doh", 1)]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:6], infos[6:]), opset_imports=opsets, ir_version=9, functions=[f.proto])
    session = open_session(model.SerializeToString())
    for seed, stream, layer, row, block in [(0, 0, 0, 0, 0), (2**64 - 1, 4, 9, 2**20, 77), (0x0123456789ABCDEF, 1, 2, 3, 2**32 - 4)]:
        counter = [np.arange(block, block + 4, dtype=np.int64), *(np.array(n, np.int64) for n in (row, layer, stream, seed & 0xFFFFFFFF, seed >> 32))]
        found = np.stack(session.run(None, dict(zip(names, counter))), axis=-1)
        assert np.array_equal(found, _core.philox(seed, stream, layer, row, block, 4))


@pytest.mark.parametrize("name", ["tied-40x9-n4500.doh", "dense.doh", "extreme-weights-clamp.doh"])
def test_integer_weights(name):
    data = vector(name)
    for ours, theirs in zip(weights.integer_weights(data, container.unpack(data)), reference.integer_weights(reference.read_model(data)), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kind, least", [("f32", 50.0), ("f16", 40.0)])
@pytest.mark.parametrize("name", ["tied-40x9-n4500.doh", "mosaic-2x3-of-19x23.doh"])
def test_float_twins_are_near(name, kind, least, tmp_path):
    data = vector(name)
    report = export(data, tmp_path / "x.onnx", kind)
    session = open_session(tmp_path / "x.onnx")
    assert report.psnr > least and describe(session).psnr_to_exact == pytest.approx(report.psnr, abs=0.01)
    error = doh.decode(data).astype(float) - run(tmp_path / "x.onnx")
    assert report.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)))


def test_metadata_and_size(tmp_path):
    data = vector("tied-40x9-n4500.doh")
    for kind in KINDS:
        report = export(data, tmp_path / f"{kind}.onnx", kind)
        about = describe(open_session(tmp_path / f"{kind}.onnx"))
        assert about.kind == kind and about.shape == container.read_info(data).shape and about.source_bytes == len(data)
        assert about.exact == (about.psnr_to_exact is None)
        if kind == "exact":
            assert report.bytes <= 3 * len(data) + 40_000


def test_the_same_file_each_time():
    script = "import sys, hashlib; from doh.export import build; print(hashlib.sha256(build(sys.argv[1]).SerializeToString(deterministic=True)).hexdigest())"
    path = str(VECTORS / "valid" / "image-rgba.doh")
    hashes = {subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout for _ in range(3)}
    assert len(hashes) == 1 and len(hashes.pop()) == 65


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this machine has the provider")
def test_cuda_is_never_replaced_by_the_cpu(tmp_path):
    data = vector("image-rgba.doh")
    with pytest.raises(OnnxError, match="onnx-gpu"):
        run(build(data).SerializeToString(), provider="cuda")
    export(data, tmp_path / "x.onnx")
    result = CliRunner().invoke(app, ["decode", str(tmp_path / "x.onnx"), "-o", str(tmp_path / "x.png"), "--provider", "cuda"])
    assert result.exit_code == 1 and "onnx-gpu" in result.output and not (tmp_path / "x.png").exists()


def test_what_is_written_for_points_is_what_was_run(tmp_path, monkeypatch):
    from doh.export import model

    def moved(graph, quantised, render, points=model._points):
        return points(graph, quantised, lambda body, x: render(body, x * 0))

    monkeypatch.setattr(model, "_points", moved)
    with pytest.raises(OnnxError, match="nothing was written"):
        export(vector("image-rgba.doh"), tmp_path / "p.onnx", points=True)
    assert not (tmp_path / "p.onnx").exists()


def test_expansion_is_not_done_at_load(tmp_path):
    """A dense file of 10 million matrix entries: loading takes little memory, which folding at load would not (about 46 bytes an entry)."""
    script = """
import resource, sys
import onnxruntime as ort
options = ort.SessionOptions(); options.log_severity_level = 3; options.intra_op_num_threads = 1
ort.InferenceSession(sys.argv[1], options)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ort.InferenceSession(sys.argv[2], options)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    model = reference.read_model(vector("dense.doh"))
    target = container.Target(2, 3, 24, 4, 4)
    rng = np.random.default_rng(3)
    large = container.QuantModel(
        "image", "u8", (8, 8), target, "dense", 7, rng.integers(-9, 9, 4500).astype(np.int32), model.scales, model.bias_scale,
        np.zeros((4, 24), np.int32), np.zeros(3, np.int32))  # fmt: skip
    assert target.weights * 4500 > 10_000_000
    data = container.pack(large)
    (tmp_path / "small.onnx").write_bytes(build(vector("dense.doh")).SerializeToString())
    (tmp_path / "large.onnx").write_bytes(build(data).SerializeToString())
    command = [sys.executable, "-c", script, str(tmp_path / "small.onnx"), str(tmp_path / "large.onnx")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 16 * 1024  # KiB
    assert np.array_equal(run(tmp_path / "large.onnx"), doh.decode(data))


#: The first ONNX Runtime that knows opset 20, and one of those which need nodes with names, with a numpy for each.
OLD = {"1.17.3": "numpy<2", "1.20.1": "numpy>=2"}
RUNNER = """
import sys
import numpy as np, onnxruntime as ort
options = ort.SessionOptions(); options.log_severity_level = 3; options.intra_op_num_threads = 1
for path in sys.argv[1:]:
    wanted = np.load(path + ".npz")
    found = ort.InferenceSession(path, options).run(None, {key: wanted[key] for key in wanted.files if key != "samples"})[0]
    assert found.dtype == wanted["samples"].dtype and np.array_equal(found, wanted["samples"]), path
print(ort.__version__, len(sys.argv) - 1)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the oldest ONNX Runtime with opset 20 has no build for this Python")
@pytest.mark.parametrize("version", OLD)
def test_old_runtimes(tmp_path, version):
    """All vectors in old releases of ONNX Runtime."""
    paths = []
    for name in VALID:
        data = vector(name)
        for kind in EXACT:
            path = tmp_path / f"{name}.{kind}.onnx"
            path.write_bytes(build(data, kind).SerializeToString())
            samples = doh.decode(data)
            np.savez(f"{path}.npz", samples=samples, **sizes(samples.shape[:-1]))
            paths.append(str(path))
    venv.create(tmp_path / "venv", with_pip=True)
    python = Path(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--only-binary", ":all:", f"onnxruntime=={version}", OLD[version]], check=True)
    result = subprocess.run([python, "-c", RUNNER, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [version, str(2 * len(VALID))]
