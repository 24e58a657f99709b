"""tools/experiment: definitions become cells, a killed run goes on without double work, records have their fields."""

from __future__ import annotations

import bz2
import json
import os
import signal as signals
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import ctrl_c_after

import doh
from doh import Signal
from doh.container import unpack
from doh.metrics import ssim

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import _experiments  # noqa: E402
from _experiments import config_of, cropped, load, names, read, reduced, with_images  # noqa: E402
from experiment_cases import ROUNDING, SIZES, experiment_program, fill, needs, records, words  # noqa: E402


@pytest.fixture
def program():
    return experiment_program()


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path)


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
    for named, text in (("kodak/kodim01.png half=2", "unknown option"), ("kodak/kodim09.png", "--data is to name")):
        with pytest.raises(doh.EncodeError, match=text):
            read(folder, named)
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
