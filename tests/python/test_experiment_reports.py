"""tools/experiment report: tables, plots and pages say what the records say."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import _experiments
import pytest
from _experiments import load
from experiment_cases import ROUNDING, SIZES, experiment_program, fill, needs, record_by_hand, words


@pytest.fixture
def program():
    return experiment_program()


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path)


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
    assert (folder / "out" / "sizes-quick.md").read_text(encoding="utf-8") == text.rstrip("\n") + "\n"
    html = (folder / "out" / "all-quick.html").read_text(encoding="utf-8")
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
