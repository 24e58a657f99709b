"""tools/experiment: definitions become cells, a killed run goes on without double work, records have their fields, reports say what the records say."""

from __future__ import annotations

import base64
import bz2
import json
import os
import re
import signal as signals
import subprocess
import sys
import time
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path

import numpy as np
import pytest
from conftest import ctrl_c_after
from PIL import Image

import doh
from doh import Signal
from doh.container import unpack
from doh.metrics import ssim

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import _experiments  # noqa: E402
from _experiments import config_of, cropped, load, names, read, reduced, with_images  # noqa: E402

needs = {name: pytest.mark.skipif(not find_spec(name), reason=f"{name} not installed") for name in ("torch", "matplotlib", "scipy")}

SIZES = """
title = "Two sizes"
about = "A plain network and a projected one."
measure = "file"
metric = "psnr"
baseline = "plain"
[[variants]]
name = "plain"
settings = { generator = "plain" }
[[variants]]
name = "projected"
settings = { weights_per_latent = 2 }
[quick]
note = "tiny"
signals = ["kodak/kodim01.png", "kodak/kodim02.png crop=20"]
seeds = 2
settings = { steps = 6 }
grid = { bytes = [300] }
[full]
note = "larger"
signals = ["kodak/kodim01.png"]
seeds = 1
settings = { steps = 60 }
grid = { bytes = [300, 600] }
"""
ROUNDING = """
title = "Rounding"
about = "Levels."
measure = "rounding"
metric = "loss_4"
plot = ["bits", "loss"]
options = { levels = [8, 4] }
[[variants]]
name = "plain"
settings = { generator = "plain", frequencies = 0 }
[[variants]]
name = "projected"
settings = { latents = "50 %", frequencies = 3 }
[[variants]]
name = "signs"
settings = { latents = 40, generator = "rademacher" }
[quick]
note = "tiny"
signals = ["kodak/kodim01.png"]
seeds = 1
settings = { steps = 60 }
grid = { target = [{ width = 8, depth = 2 }] }
[full]
note = "none"
signals = []
seeds = 1
"""


@pytest.fixture
def program():
    loader = SourceFileLoader("experiment", str(TOOLS / "experiment"))
    module = module_from_spec(spec_from_loader("experiment", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "kodak").mkdir()
    (tmp_path / "defined").mkdir()
    (tmp_path / "defined" / "sizes.toml").write_text(SIZES)
    (tmp_path / "defined" / "rounding.toml").write_text(ROUNDING)
    y, x = np.mgrid[0:24, 0:32]
    for number in (1, 2):
        samples = np.stack([127 + 80 * np.sin(x / (5 + number)), 5 * y + x, 4 * (31 - x)], -1)
        Image.fromarray(samples.astype(np.uint8)).save(tmp_path / "kodak" / f"kodim0{number}.png")
    read.cache_clear()
    return tmp_path


def words(folder: Path, command: str, name: str, *more: str) -> list[str]:
    device = ["--device", "cpu", "--threads", "1"] if command == "run" else []
    return [command, name, "--data", str(folder), "--out", str(folder / "out"), "--experiments", str(folder / "defined"), *device, *more]


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out" / "records.jsonl").read_text().splitlines()]


# Definitions


def test_every_definition_of_the_project_can_be_read():
    assert len(names()) >= 10
    for name in names():
        for scale in _experiments.SCALES:
            try:
                experiment = load(name, scale)
            except _experiments.NoScale:
                assert scale == "medium"
                continue
            assert experiment.cells and len({json.dumps([c.definition, c.variant], sort_keys=True) for c in experiment.cells}) == len(experiment.cells)
            fitted = [c for c in experiment.cells if c.measure == experiment.measure and c.settings.get("latents") != 0]
            assert fitted and all(key == "preset" or key in _experiments.Config().to_dict() for c in fitted for key in c.settings), name


def test_an_experiment_may_lack_the_medium_scale(folder):
    with pytest.raises(_experiments.NoScale, match="sizes has no scale 'medium'; there are quick, full"):
        load("sizes", "medium", folder=folder / "defined")


def test_batches_are_drawn_evenly_unless_a_cell_says_otherwise(folder):
    cell = load("sizes", "quick", folder=folder / "defined").cells[0]
    image, field = read(folder, cell.signal), Signal(np.zeros((4, 4, 4, 1), np.uint8), "occupancy", "u1")
    errors, paper = (replace(cell, settings=cell.settings | more) for more in ({"sampling": "errors"}, {"preset": "paper"}))
    assert [config_of(c, image).sampling for c in (cell, errors, paper)] == ["random", "errors", "epochs"]
    assert config_of(cell, field).sampling == "auto"
    assert [(c.frequencies, c.ladder) for c in (config_of(cell, image), config_of(paper, image), config_of(cell, field))] == [
        _experiments.encoding_for(image, doh.Config()),  # all that the grid carries, whatever the picture
        (10, "octaves"),
        (-1, "auto"),
    ]


def test_cells_of_a_grid(folder):
    experiment = load("sizes", "full", folder=folder / "defined", seeds=3)
    assert [(c.seed, c.variant, c.settings) for c in experiment.cells[:4]] == [
        (0, "plain", {"steps": 60, "bytes": 300, "generator": "plain"}),
        (0, "plain", {"steps": 60, "bytes": 600, "generator": "plain"}),
        (0, "projected", {"steps": 60, "bytes": 300, "weights_per_latent": 2}),
        (0, "projected", {"steps": 60, "bytes": 600, "weights_per_latent": 2}),
    ]
    assert len(experiment.cells) == 12
    first = experiment.cells[0]
    assert first.key("data") != first.key("other data") and len({c.key("data") for c in experiment.cells}) == 12


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("metric =", "metrik =", "unknown key 'metrik'"),
        ('title = "Two sizes"', "", "'title' is missing"),
        ('measure = "file"', 'measure = "fil"', "measure must be one of"),
        ('baseline = "plain"', 'baseline = "none"', "none of its variants"),
        ("[quick]", "[quick", "sizes.toml"),
        ("seeds = 2", "", "'seeds' is missing"),
    ],
)
def test_mistakes_in_a_definition_are_named(folder, old, new, word):
    path = folder / "defined" / "sizes.toml"
    assert old in SIZES
    path.write_text(SIZES.replace(old, new, 1))
    with pytest.raises(doh.EncodeError, match=word):
        load("sizes", "quick", folder=folder / "defined")


def test_signals(folder):
    samples = np.arange(5 * 4 * 1).reshape(5, 4, 1)
    assert cropped(samples, 2)[..., 0].tolist() == [[5, 6], [9, 10]]
    assert reduced(samples, 2)[..., 0].tolist() == [[2, 4], [10, 12]]  # 2.5, 4.5: halves go to the even
    assert read(folder, "kodak/kodim01.png crop=20 reduce=4").samples.shape == (5, 5, 3)
    for words, text in (("kodak/kodim01.png half=2", "unknown option"), ("kodak/kodim09.png", "--data is to name")):
        with pytest.raises(doh.EncodeError, match=text):
            read(folder, words)
    assert with_images(["kodak/kodim01.png reduce=2"], ["7", "kodim11"]) == ["kodak/kodim07.png reduce=2", "kodak/kodim11.png reduce=2"]
    assert with_images(["meshes/a.obj", "kodak/kodim01.png"], ["1", "kodim01", "1", "2"]) == ["kodak/kodim01.png", "kodak/kodim02.png"]  # each once
    with pytest.raises(doh.EncodeError, match="no images"):
        with_images(["audio/a.wav"], ["7"])


# Runs


@needs["torch"]
def test_unknown_experiment_and_missing_data(program, folder, capsys):
    assert program.main(words(folder, "run", "size")) == 1
    assert "unknown experiment 'size' (the nearest is 'sizes')" in capsys.readouterr().err
    assert program.main([*words(folder, "run", "sizes"), "--data", str(folder / "none")]) == 1 and "--data is to name" in capsys.readouterr().err
    assert program.main(words(folder, "run", "sizes", "--seeds", "-1")) == 1 and "positive" in capsys.readouterr().err


@needs["torch"]
def test_killed_run_goes_on_without_double_work(program, folder, monkeypatch):
    """SIGKILL after the first record, in any place; what was recorded is not measured again, what was not is."""
    import _measures

    (folder / "defined" / "sizes.toml").write_text(SIZES.replace("steps = 6 ", "steps = 150 "))
    path, command = folder / "out" / "records.jsonl", [sys.executable, str(TOOLS / "experiment"), *words(folder, "run", "sizes")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 60
        while not (path.exists() and path.read_bytes().count(b"\n")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signals.SIGKILL)
    kept = path.read_bytes()
    before = [json.loads(line)["key"] for line in kept.splitlines(keepends=True) if line.endswith(b"\n")]
    assert 1 <= len(before) < 8, "killed too early or too late"
    path.write_bytes(kept + b'{"key": "cut sh')  # as a crash of the machine would leave it
    measured = []
    real = _measures.measure

    def measure(cell, signal, files, name, running):
        measured.append(name)
        return real(cell, signal, files, name, running)

    monkeypatch.setattr(_measures, "measure", measure)
    assert program.main(words(folder, "run", "sizes")) == 0
    assert len(measured) == 8 - len(before) and not set(measured) & set(before)
    assert path.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1]) and [r["key"] for r in records(folder)] == before + measured
    assert program.main(words(folder, "run", "sizes")) == 0 and len(measured) == 8 - len(before)
    # another definition is other cells, and so is another number of seeds
    (folder / "defined" / "sizes.toml").write_text(SIZES.replace("steps = 6 ", "steps = 5 "))
    assert program.main(words(folder, "run", "sizes", "--seeds", "1")) == 0 and len(measured) == 12 - len(before)


@needs["torch"]
def test_records_hold_what_the_files_are(program, folder):
    assert program.main(words(folder, "run", "sizes", "--seeds", "1")) == 0
    found = records(folder)
    assert len(found) == 4
    for record in found:
        check_schema(record)
        path = folder / "out" / "files" / record["file"]
        samples = read(folder, record["signal"]).samples
        error = np.mean((doh.decode(path).astype(float) - samples) ** 2)
        assert record["results"]["bytes"] == path.stat().st_size <= 300
        assert record["results"]["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
        assert record["encoder_settings"]["steps"] == 6 and record["parameters"] == record["latents"] + record["biases"]
        assert 8 < record["results"]["bzip2_bytes"] < 2 * record["parameters"] + 100 and "footprint_bytes" not in record["results"]
        if find_spec("skimage"):
            assert record["results"]["ssim"] == ssim(doh.decode(path), samples, 255)
        assert (record["latents"] == record["weights"]) == (record["settings"].get("generator") == "plain")


@needs["torch"]
def test_memory_of_files(program, folder):
    """The integers of a file through BZIP2, one byte each where that is enough; parameters times bits where the settings have bits for each parameter."""
    text = SIZES.replace("grid = { bytes = [300] }", "grid = { width = [8] }").replace("steps = 6 ", 'steps = 6, depth = 2, step_rule = "range", bits = 7 ')
    (folder / "defined" / "sizes.toml").write_text(text.replace("weights_per_latent = 2", "latents = 40, bits = 12"))
    assert program.main(words(folder, "run", "sizes", "--seeds", "1", "--images", "1")) == 0
    for record, bits in zip(records(folder), (7, 12)):
        model = unpack(folder / "out" / "files" / record["file"])
        from_zero = [codes.ravel() - codes.min() for codes in (model.latent_codes, model.bias_codes, model.output_bias_codes)]
        raw = b"".join(codes.astype("u1" if codes.max() < 256 else "<u2").tobytes() for codes in from_zero)
        assert record["results"]["bzip2_bytes"] == len(bz2.compress(raw)) and (max(from_zero[0]) < 256) == (bits == 7)
        assert record["results"]["footprint_bytes"] == record["parameters"] * bits / 8


@needs["torch"]
@pytest.mark.skipif(not (find_spec("skimage") and find_spec("scipy")), reason="scikit-image or scipy not installed")
def test_surfaces_are_compared():
    """Two balls, the second a cell further: equal ones are 0 apart, but for the points that are drawn; empty cells have no surface."""
    from _measures import likeness

    z, y, x = np.mgrid[0:20, 0:20, 0:20]
    ball = [((z - 9) ** 2 + (y - 9) ** 2 + (x - shift) ** 2 < 36)[..., None].astype(np.uint8) for shift in (9, 10)]
    signal = doh.Signal(ball[0], "occupancy", "u1")
    same, moved = likeness(ball[0], signal)["chamfer"], likeness(ball[1], signal)["chamfer"]
    assert same < 0.012 and same < moved < 0.1 and likeness(np.zeros_like(ball[0]), signal) == {}


#: Field -> type, as docs/experiments.md has them.
FIELDS = {"key": str, "schema": int, "measure": str, "signal": str, "seed": int, "settings": dict, "options": dict, "results": dict, "encoder_settings": dict}
FIELDS |= dict.fromkeys(("latents", "width", "depth", "frequencies", "weights", "biases", "parameters", "steps", "points", "threads"), int)
FIELDS |= {"seconds": float, "processor_seconds": float, "device": str, "version": str, "encoder": str}


def check_schema(record: dict) -> None:
    more = {"file": {"file", "from_step"}, "rounding": {"from_step"}}.get(record["measure"], set())
    assert set(record) == {*FIELDS, *more} and record["schema"] == 1
    for field, kind in FIELDS.items():
        assert type(record[field]) is kind, field
    assert all(type(value) in (int, float) for value in record["results"].values())


def test_every_field_is_documented():
    text = (TOOLS.parent / "docs" / "experiments.md").read_text()
    for field in [*FIELDS, "file", "from_step"]:
        assert f"`{field}`" in text, field


@needs["torch"]
def test_stopped_cell_goes_on(program, folder, capsys):
    """Ctrl-C inside an encode: the same command goes on from its checkpoint, to the bytes of a run in one piece. What is no checkpoint of it is dropped."""
    command, files = words(folder, "run", "sizes", "--seeds", "1", "--images", "1"), folder / "out" / "files"
    with ctrl_c_after(4):
        assert program.main(command) == 130
    assert [path.suffix for path in files.iterdir()] == [".ckpt"]
    assert program.main(command) == 0
    first, second = records(folder)
    assert (first["from_step"], first["steps"], second["from_step"], second["steps"]) == (4, 6, 0, 6)
    assert {path.suffix for path in files.iterdir()} == {".doh"}
    cells = load("sizes", "quick", folder=folder / "defined", seeds=1, images=["1"]).cells
    signal = read(folder, cells[0].signal)
    assert (files / first["file"]).read_bytes() == doh.encode(signal, config=_experiments.config_of(cells[0], signal, device="cpu"))
    # something else under that name
    (folder / "out" / "records.jsonl").unlink()
    (files / f"{first['key']}.ckpt").write_bytes(b"nonsense")
    capsys.readouterr()
    assert program.main(command) == 0 and "begun anew: " in capsys.readouterr().err
    assert [record["from_step"] for record in records(folder)] == [0, 0]


@needs["torch"]
def test_steps_are_those_that_were_taken(program, folder):
    """Of passes too: 24 x 32 points in batches of 300 are three steps a pass. The processor may be named with its number."""
    path = folder / "defined" / "sizes.toml"
    path.write_text(SIZES.replace("steps = 6 ", "epochs = 2, batch = 300, steps = 99 "))
    assert program.main([*words(folder, "run", "sizes", "--seeds", "1", "--images", "1"), "--device", "cpu:0"]) == 0
    assert [record["steps"] for record in records(folder)] == [6, 6] and all(record["device"] for record in records(folder))


@needs["torch"]
def test_a_device_that_is_not_there_is_named_before_the_training(program, folder, monkeypatch, capsys):
    import doh.codec

    monkeypatch.setattr(doh.codec, "encode", lambda *_, **__: pytest.fail("trained"))
    assert program.main([*words(folder, "run", "sizes"), "--device", "cuda:77"]) == 1 and "cuda:77" in capsys.readouterr().err


def test_estimates_of_distil_count_the_fine_tuning(folder):
    """100 steps of the network, then 50 of each share, whose dense matrices cost more the more latents there are."""
    text = ROUNDING.replace('measure = "rounding"', 'measure = "distil"').replace("steps = 60", "steps = 100")
    options = 'options = { shares = [50, 100], generator = "dense", epochs = 25, tune = { batch = 400 } }'
    (folder / "defined" / "distil.toml").write_text(text.replace("options = { levels = [8, 4] }", options))
    cell = load("distil", "quick", folder=folder / "defined").cells[0]
    signal = read(folder, cell.signal)
    weights = 2 * 8 + 8 * 8 + 8 * 3
    step = [_experiments.STEP_SECONDS + batch * weights * _experiments.WEIGHT_SECONDS for batch in (768, 400)]
    wanted = 100 * step[0] + 2 * 50 * step[1] + 50 * (52 + 104) * weights * _experiments.ENTRY_SECONDS
    assert _experiments.estimate(cell, signal) == pytest.approx(wanted)


@needs["torch"]
def test_rounding(program, folder):
    assert program.main(words(folder, "run", "rounding")) == 0
    plain, projected, signs = records(folder)
    for record in (plain, projected, signs):
        check_schema(record)
        results = record["results"]
        assert results["loss_4"] == pytest.approx(results["psnr_float"] - results["psnr_4"]) and results["loss_4"] > results["loss_8"] > -1
        assert results["bpp_8"] == 8 * record["parameters"] / (24 * 32)
    assert plain["latents"] == plain["weights"] == 2 * 8 + 8 * 8 + 8 * 3 and projected["latents"] == 52 and projected["weights"] > plain["weights"]


@needs["torch"]
@pytest.mark.parametrize("measure", ["rounding", "distil"])
def test_a_stopped_cell_of_another_measure_goes_on(program, folder, monkeypatch, capsys, measure):
    """To the results of one in one piece; `distil` keeps what it has of each percentage too."""
    from doh.train.run import Run

    if measure == "distil":
        options = 'options = { shares = [50, 100], generator = "tied", epochs = 20, tune = { batch = 400 } }'
        text = ROUNDING.replace('measure = "rounding"', 'measure = "distil"').replace("options = { levels = [8, 4] }", options)
        (folder / "defined" / "rounding.toml").write_text(text)
    command, files, taken, train = words(folder, "run", "rounding"), folder / "out" / "files", [], Run.train
    assert program.main(command) == 0
    wanted = [without_times(record) for record in records(folder)]
    (folder / "out" / "records.jsonl").unlink()

    def counted(run, workers):
        taken.append(run)
        if len(taken) in stops:
            raise KeyboardInterrupt
        train(run, workers)

    stops = {40, 110} if measure == "rounding" else {40, 80, 110}  # of distil: in the plain network, in the fine-tuning to 50 % and to 100 %
    monkeypatch.setattr(Run, "train", counted)
    for _ in stops:
        assert program.main(command) == 130 and any(path.suffix == ".ckpt" for path in files.iterdir())
    steps = len(taken)
    assert program.main(command) == 0 and not list(files.iterdir())
    assert [without_times(record) for record in records(folder)] == wanted
    if measure == "rounding":  # 60 steps each: the first was stopped after 39, the second after 48
        assert [record["from_step"] for record in records(folder)] == [39, 48, 0]
    assert steps == max(stops)


@needs["torch"]
def test_what_is_no_checkpoint_of_a_network_is_dropped(program, folder, capsys):
    assert program.main(words(folder, "run", "rounding")) == 0
    wanted = [without_times(record) for record in records(folder)]
    path = folder / "out" / "files" / f"{wanted[0]['key']}.ckpt"
    (folder / "out" / "records.jsonl").unlink()
    path.write_bytes(b"nonsense")
    capsys.readouterr()
    assert program.main(words(folder, "run", "rounding")) == 0 and "begun anew: " in capsys.readouterr().err
    assert [without_times(record) for record in records(folder)] == wanted and not path.exists()


@needs["torch"]
def test_an_interrupt_amid_a_step_waits_for_its_end(folder, tmp_path):
    """Ctrl-C comes as a signal, at any moment of a step, and the checkpoint is of the step's end."""
    from doh.train.checkpoint import load as load_state
    from doh.train.run import Run
    from doh.train.study import train_on

    cell = load("sizes", "quick", folder=folder / "defined").cells[0]
    signal = read(folder, cell.signal)
    run = Run(signal, config_of(cell, signal, device="cpu").replace(steps=50))
    draw = run.draw

    def interrupting():
        if run.step == 20:
            os.kill(os.getpid(), signals.SIGINT)
        return draw()

    run.draw = interrupting
    with pytest.raises(KeyboardInterrupt):
        train_on(run, tmp_path / "state.ckpt")
    resumed = Run(signal, run.config)
    load_state(resumed, tmp_path / "state.ckpt")
    assert resumed.step == run.step == 21


def without_times(record: dict) -> dict:
    """What a record says of the network and its quality."""
    results = {key: value for key, value in record["results"].items() if not key.startswith("seconds")}
    return {key: record[key] for key in ("key", "weights", "parameters", "steps")} | {"results": results}


@needs["torch"]
def test_rademacher_projection():
    import torch
    from _measures import Rademacher

    projection = Rademacher(5, 64, [(30, 40)])
    assert set(projection.entries.unique().tolist()) == {0, 255} and abs(projection.entries.float().mean() / 255 - 0.5) < 0.02
    one = torch.zeros(64)
    one[3] = 1
    assert projection.flat(one).abs().unique().tolist() == pytest.approx([1 / 8])  # +-1 / sqrt(n)
    latents = torch.rand(64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert projection.flat(latents).var() == pytest.approx(latents.square().mean().item(), rel=0.15)


# Reports


def record_by_hand(folder: Path, cell: _experiments.Cell, psnr: float, **results: float) -> None:
    """A record of the cell, as if it had been measured."""
    from _records import Records
    from _runs import digest

    (folder / "out").mkdir(exist_ok=True)
    signal = read(folder, cell.signal)
    config = _experiments.config_of(cell, signal)
    found = _experiments.plan(signal, config)
    record = {"width": found.target.width, "depth": found.target.depth, "frequencies": found.target.frequencies, "latents": found.latents}
    record |= {"weights": found.target.weights, "parameters": found.latents + found.target.biases, "steps": 6, "processor_seconds": 1.0, "encoder": "e"}
    record |= {"results": results or {"bytes": 290, "psnr": psnr}, **cell.definition, "encoder_settings": _experiments.kept(config), "file": "none"}
    Records(folder / "out" / "records.jsonl").add(cell.key(digest(signal.samples.tobytes())), record)


@needs["matplotlib"]
@needs["scipy"]
def test_report_from_records(program, folder, capsys):
    """Records made by hand: means and intervals by the formula, differences seed by seed, and a page that needs no other file."""
    experiment = load("sizes", "quick", folder=folder / "defined")
    values = {("plain", 0): 20.0, ("plain", 1): 21.0, ("projected", 0): 22.0, ("projected", 1): 23.5}
    for cell in experiment.cells:
        if "crop" not in cell.signal:
            record_by_hand(folder, cell, values[cell.variant, cell.seed])
    assert program.main(words(folder, "report", "all")) == 0
    text = capsys.readouterr().out
    # two seeds: t(0.975, 1) = 12.706, s / sqrt(2) = half their difference
    assert f"20.50 ± {12.7062 * 0.5:.2f}" in text and f"22.75 ± {12.7062 * 0.75:.2f}" in text
    assert f"| projected, bytes 300 | +2.25 ± {12.7062 * 0.25:.2f} | - | +2.25 |" in text
    assert "4 measurements, 4 not there yet" in text
    assert (folder / "out" / "sizes-quick.md").read_text() == text.rstrip("\n") + "\n"
    html = (folder / "out" / "all-quick.html").read_text()
    sources = re.findall(r'src="([^"]*)"', html)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources) and "<link" not in html and "http" not in html
    assert base64.b64decode(sources[0].split(",")[1]) == (folder / "out" / "sizes-quick.png").read_bytes()
    # a record of other settings does not count, nor one of a network that the planner would not choose today
    lines = (folder / "out" / "records.jsonl").read_text()
    for old in ("omega", "width", "depth", "frequencies", "latents"):
        (folder / "out" / "records.jsonl").write_text(re.sub(rf'("{old}": )\d', r"\g<1>91", lines))
        assert program.main(words(folder, "report", "sizes")) == 1 and "nothing to report" in capsys.readouterr().err, old
    (folder / "out" / "records.jsonl").write_text(lines.replace('"width": ', '"breadth": '))  # of an older program that did not say it
    assert experiment.cells and program._known(program._records(folder / "out", repair=False), experiment.cells[0], folder)


@needs["matplotlib"]
@needs["scipy"]
def test_report_of_rounding(program, folder, capsys):
    """What docs/paper.md has tables of: losses, quality at the memory of each number of bits, means over signals with their own interval, BZIP2 over all."""
    text = ROUNDING.replace('signals = ["kodak/kodim01.png"]', 'signals = ["kodak/kodim01.png", "kodak/kodim02.png"]').replace("seeds = 1", "seeds = 2", 1)
    (folder / "defined" / "rounding.toml").write_text(text)
    for cell in load("rounding", "quick", folder=folder / "defined").cells:
        if cell.variant == "plain" or (cell.variant, cell.signal, cell.seed) == ("projected", "kodak/kodim01.png", 0):
            number, loss = int(cell.signal[11:13]), 2.0 * int(cell.signal[11:13]) + cell.seed  # 2 and 3, 4 and 5
            floats = {"psnr_float": 30.0, "bpp_float": 4.0, "psnr_8": 29.75, "loss_8": 0.25, "bpp_8": 1.0, "bzip2_8": 1.25}
            record_by_hand(folder, cell, 0, **floats, psnr_4=30 - loss, loss_4=loss, bpp_4=0.5, bzip2_4=0.75 + 0.1 * number)
    assert program.main(words(folder, "report", "rounding")) == 0
    text = capsys.readouterr().out
    name = "plain, width 8, depth 2"
    assert f"| {name} | 8 x 2 | 104 | 104 | 123 | 30.00 ± 0.00 | 0.25 ± 0.00 | 2.50 ± {12.7062 * 0.5:.2f} |" in text
    assert f"| {name} | 29.75 ± 0.00 at 1.00 | 27.50 ± {12.7062 * 0.5:.2f} at 0.500 |" in text
    means = text.partition("## Means over signals")[2].partition("##")[0]
    assert f"| {name} | 123 | 30.00 ± 0.00 | 0.25 ± 0.00 | 3.50 ± {12.7062 * 1:.2f} |" in means and "projected" not in means  # which lacks a signal
    assert "| 8 | 1.25 | 1.25 | 1.25 |" in text and "| 4 | 0.85 | 0.89 | 0.95 |" in text


def test_lines_of_a_plot(folder):
    """One for each network where the axis has the levels of rounding, or Algorithm 1's parameters; else one for each variant, through the grid."""
    from _experiment_report import _lines

    cells = [_experiments.Cell("a", (("width", width),), "s", 0, "rounding", {}, {}) for width in (8, 16)]
    psnr = {"psnr_8": 30.0, "psnr_4": 20.0, "psnr_float": 31.0}
    levels = [(cell, {"results": {**psnr, "bpp_8": size, "bpp_4": size / 2}}) for cell, size in zip(cells, (1.0, 1.5))]
    assert list(_lines(levels, "bits", "psnr")) == [[(0.5, [20.0]), (1.0, [30.0])], [(0.75, [20.0]), (1.5, [30.0])]]
    files = [(cell, {"results": {"bytes": size, "psnr": 30.0}, "parameters": 9}) for cell, size in zip(cells, (700, 600))]
    assert list(_lines(files, "bytes", "psnr")) == [[(600, [30.0]), (700, [30.0])]]
    assert list(_lines(files, "parameters", "psnr")) == [[(9, [30.0]), (9, [30.0])]]
    point = {"mlp": 25.0, "mlp_parameters": 90, "tuned_25": 20.0, "parameters_25": 30, "tuned_50": 22.0, "parameters_50": 50}
    distil = [(cells[0], {"results": point, "parameters": 90})]
    assert list(_lines(distil, "parameters", "tuned")) == [[(30, [20.0]), (50, [22.0])]]
    assert list(_lines(distil, "parameters", "mlp")) == [[(30, [25.0]), (50, [25.0]), (90, [25.0])]]


def test_a_scale_may_have_a_plot_of_its_own(folder):
    path = folder / "defined" / "sizes.toml"
    path.write_text(SIZES.replace("[full]", '[full]\nplot = ["bpp", "psnr"]'))
    assert [load("sizes", scale, folder=folder / "defined").plot for scale in ("quick", "full")] == [("bytes", "psnr"), ("bpp", "psnr")]


@needs["matplotlib"]
@needs["scipy"]
def test_comparisons_are_made_at_one_point_of_the_grid(program, folder, capsys):
    """A point that the baseline lacks is not compared with another of its points; one that it has alone stands for all. Seeds are counted in each table."""
    path, grid = folder / "defined" / "sizes.toml", "grid = { bytes = [300] }"
    path.write_text(SIZES.replace(grid, "grid = { bytes = [300, 600] }"))
    values = {("plain", 300): 20, ("plain", 600): 25, ("projected", 300): 22, ("projected", 600): 26}

    def fill(*lacking: tuple) -> str:
        (folder / "out" / "records.jsonl").unlink(missing_ok=True)
        for cell in load("sizes", "quick", folder=folder / "defined").cells:
            place = cell.variant, dict(cell.point)["bytes"]
            if (*place, cell.seed, "crop" in cell.signal) not in lacking:
                record_by_hand(folder, cell, values[place] + cell.seed)
        assert program.main(words(folder, "report", "sizes")) == 0
        return capsys.readouterr().out

    text = fill()
    assert "| projected, bytes 300 | +2.00 ± 0.00 | +2.00" in text and "| projected, bytes 600 | +1.00 ± 0.00 | +1.00" in text
    assert text.count("Means over 2 seeds.") == 2
    text = fill(*(("plain", 300, seed, crop) for seed in (0, 1) for crop in (False, True)), ("plain", 600, 1, True))
    assert "projected, bytes 300 |" not in text.partition("## Against plain")[2] and "| projected, bytes 600 | +1.00 ± 0.00 | +1.00 |" in text
    assert text.count("Means over 2 seeds.") == 1 and text.count("Means over 1 to 2 seeds.") == 1
    only = 'settings = { generator = "plain" }\ngrid = { bytes = [300] }'
    path.write_text(SIZES.replace(grid, "grid = { bytes = [300, 600] }").replace('settings = { generator = "plain" }', only))
    text = fill()
    assert "| projected, bytes 300 | +2.00 ± 0.00 |" in text and "| projected, bytes 600 | +6.00 ± 0.00 |" in text


@needs["matplotlib"]
@needs["scipy"]
def test_report_of_what_there_is(program, folder, capsys):
    """An experiment whose signals are missing does not keep the others' reports back; a line that a run is writing at the moment is left as it is."""
    (folder / "defined" / "earlier.toml").write_text(SIZES.replace("kodim01", "kodim09"))
    for cell in load("sizes", "quick", folder=folder / "defined").cells:
        record_by_hand(folder, cell, 20)
    path = folder / "out" / "records.jsonl"
    with open(path, "ab") as stream:
        stream.write(b'{"key": "cut sh')
    before = path.read_bytes()
    assert program.main(words(folder, "report", "all")) == 0
    printed = capsys.readouterr()
    assert "earlier: no report: " in printed.err and "kodim09" in printed.err and "# Two sizes" in printed.out and (folder / "out" / "all-quick.html").exists()
    assert path.read_bytes() == before and "1 line(s) cut short" in printed.err
    assert program.main(words(folder, "report", "earlier")) == 1 and "kodim09" in capsys.readouterr().err
