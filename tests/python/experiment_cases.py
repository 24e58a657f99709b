"""Small experiments for the tests of tools/experiment: definitions, signals, and records as if they had been measured."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import _env
import _experiments
import numpy as np
import pytest
from _experiments import read
from PIL import Image

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


def experiment_program() -> ModuleType:
    """tools/experiment as a module."""
    return _env.program("experiment")


def fill(tmp_path: Path) -> Path:
    """Two small pictures, and definitions of two experiments with them, in the folder that it returns."""
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
