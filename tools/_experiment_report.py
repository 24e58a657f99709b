"""What tools/experiment says of its records: tables with means and 95 % confidence intervals (Student's t), plots, one page of HTML with all of it inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from _experiments import Cell, Experiment, short
from _rd_report import table as markdown_table
from _rd_report import whole_seconds

import doh
from doh.signal import Signal

Found = list[tuple[Cell, dict]]
COLOURS = ("#1f5fbf", "#c0392b", "#2e8b57", "#8e44ad", "#d2691e", "#4b4b4b", "#008b8b", "#b8860b")
UNITS = {"psnr": "PSNR, dB", "loss": "PSNR lost, dB", "snr": "SNR, dB", "iou": "IoU", "bytes": "bytes", "bpp": "bits per point", "bits": "bits per point"}
UNITS |= {"share": "latents, % of the weights", "mlp": "PSNR, dB"}
DIGITS = {"mlp": 2, "inverted": 2, "tuned": 2, "parameters": 0, "seconds": 0, "iou": 4, "bytes": 0, "bpp": 4, "psnr": 2, "loss": 2, "snr": 2}
DIGITS |= {"ssim": 4, "chamfer": 5, "footprint": 0, "bzip2": 0}
#: Axes that have a place for each level of a record's results, so that a line joins the levels of one network.
LEVELLED = ("bits", "share")


@dataclass
class Result:
    """The report of one experiment: blocks of (kind, content) that Markdown and HTML are made of."""

    name: str
    blocks: list[tuple] = field(default_factory=list)

    def markdown(self) -> str:
        parts = []
        for kind, *content in self.blocks:
            if kind == "table":
                parts.append(markdown_table(*content))
            elif kind == "image":
                parts.append(f"![{content[1]}]({content[0].name})")
            else:
                parts.append({"title": "# ", "heading": "## "}.get(kind, "") + content[0])
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        parts = []
        for kind, *content in self.blocks:
            if kind == "table":
                head, *rows = [[html.escape(str(cell)) for cell in row] for row in [content[0], *content[1]]]
                body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
                parts.append(f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>")
            elif kind == "image":
                data = base64.b64encode(content[0].read_bytes()).decode()
                parts.append(f'<img alt="{html.escape(content[1])}" src="data:image/png;base64,{data}">')
            else:
                tag = {"title": "h1", "heading": "h2"}.get(kind, "p")
                parts.append(f"<{tag}>{html.escape(content[0])}</{tag}>")
        return "\n".join(parts)


def page(results: Sequence[Result]) -> str:
    """One HTML file that needs no other."""
    style = "body{font:15px sans-serif;max-width:1100px;margin:2em auto}img{max-width:100%}"
    style += "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:3px 8px}"
    body = "\n".join(result.html() for result in results)
    head = f'<meta charset="utf-8"><title>doh: experiments</title><style>{style}</style>'
    return f'<!doctype html>\n<html lang="en">{head}\n{body}\n</html>\n'


# Figures of several measurements


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % confidence interval by Student's t; None of a single value. Raises ImportError without scipy."""
    if len(values) < 2:
        return fmean(values), None
    from scipy.stats import t

    return fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))


def written(values: Sequence[float], digits: int, sign: bool = False) -> str:
    mean, half = interval(values)
    text = f"{mean:{'+' if sign else ''},.{digits}f}"
    return f"{text} ± {half:,.{digits}f}" if half is not None else text


def digits_of(column: str) -> int:
    return 0 if column.endswith(("parameters", "bytes")) else DIGITS.get(column.split("_")[0], 3)


def columns_of(experiment: Experiment, found: Found, levels: bool = True) -> list[str]:
    """The results to show: all, but of `rounding` the own figure (PSNR where that is a loss) in floating point, the losses of PSNR, and, if `levels`, the own
    figure at each level."""
    keys = list(dict.fromkeys(key for _, record in found for key in record["results"]))
    if experiment.measure == "rounding":
        figure = experiment.metric.split("_")[0]
        shown = {figure} if figure == "iou" or (levels and figure != "loss") else {"loss"}
        keys = [key for key in keys if key.split("_")[0] in shown or key == f"{'psnr' if figure == 'loss' else figure}_float"]
        keys = [key for key in keys if levels or key.endswith("_float") or key.startswith("loss")]
    return keys


def build(experiment: Experiment, found: Found, out: Path, signal_of: Callable[[str], Signal]) -> Result:
    """The report of what was found; plots are written to `out`. Raises ImportError without matplotlib and scipy."""
    result = Result(experiment.name)
    missing = len(experiment.cells) - len(found)
    result.blocks += [
        ("title", f"{experiment.title}"),
        ("text", experiment.about),
        ("text", f"Scale {experiment.scale}: {experiment.note}. {len(found)} measurements, {missing} not there yet. ± is half a 95 % confidence interval."),
    ]
    if len({record["encoder"] for _, record in found}) > 1:
        result.blocks.append(("text", "These records come from more than one state of the encoder's sources."))
    for words in experiment.signals:
        mine = [(cell, record) for cell, record in found if cell.signal == words]
        if mine:
            result.blocks += [("heading", short(words)), ("text", f"Means over {_seeds(mine)}."), _table(mine, columns_of(experiment, mine, levels=False))]
            if experiment.measure == "rounding":
                result.blocks += [("text", "At the paper's memory, parameters times bits, in bits per point:"), _in_bits(mine)]
    result.blocks += _over_signals(experiment, found)
    if experiment.measure == "rounding":
        about = "Bytes of the rounded numbers after BZIP2, by parameters times bits, of all measurements."
        result.blocks += [("heading", "BZIP2"), ("text", about), _bzip2(found)]
    if experiment.baseline:
        result.blocks += _comparison(experiment, found)
    result.blocks.append(("image", plot(experiment, found, out / f"{experiment.name}-{experiment.scale}.png"), f"{experiment.name}: {experiment.title}"))
    if experiment.picture and (drawn := surfaces(experiment, found, out, signal_of)):
        result.blocks.append(("image", drawn, "decoded surfaces"))
    return result


def _seeds(found: Found) -> str:
    """How many the rows of a table have: 3 seeds, or 1 to 3 seeds."""
    counts = {len(row) for row in _rows(found).values()}
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds" if low < high else f"{high} seed{'s' * (high != 1)}"


def _rows(found: Found) -> dict[str, Found]:
    """By variant and point of the grid, as the definition has them."""
    rows: dict[str, Found] = {}
    for cell, record in found:
        rows.setdefault(cell.label, []).append((cell, record))
    return rows


def _table(found: Found, columns: list[str]) -> tuple:
    head = ["variant", "width x depth", "weights", "latents", "parameters", *columns, "processor s"]
    rows = []
    for label, mine in _rows(found).items():
        about = mine[0][1]
        network = [f"{about['width']} x {about['depth']}", *(f"{about[key]:,}" for key in ("weights", "latents", "parameters"))]
        figures = [[record["results"][column] for _, record in mine if column in record["results"]] for column in columns]
        cells = [written(values, digits_of(column)) if values else "-" for column, values in zip(columns, figures)]
        rows.append([label, *network, *cells, f"{fmean(whole_seconds(record, 'processor_seconds') for _, record in mine):.0f}"])
    return ("table", head, rows)


def _levels(found: Found) -> list[int]:
    """The numbers of bits that records of `rounding` have, from the most on."""
    keys = {key.removeprefix("bpp_") for _, record in found for key in record["results"] if key.startswith("bpp_")}
    return sorted((int(bits) for bits in keys - {"float"}), reverse=True)


def _in_bits(found: Found) -> tuple:
    """IoU where there is one, else PSNR, at each number of bits, and the memory that it takes."""
    figure = "iou" if any("iou_float" in record["results"] for _, record in found) else "psnr"
    levels, rows = _levels(found), []
    for label, mine in _rows(found).items():
        results, cells = [record["results"] for _, record in mine], []
        for bits in levels:
            values, memory = [r[f"{figure}_{bits}"] for r in results if f"bpp_{bits}" in r], results[0].get(f"bpp_{bits}", 0)
            cells.append(f"{written(values, digits_of(figure))} at {memory:#.3g}" if values else "-")
        rows.append([label, *cells])
    return ("table", ["variant", *(f"{figure}, {bits} bits" for bits in levels)], rows)


def _bzip2(found: Found) -> tuple:
    rows = []
    for bits in _levels(found):
        values = [record["results"][f"bzip2_{bits}"] for _, record in found if f"bzip2_{bits}" in record["results"]]
        rows.append([str(bits), f"{min(values):.2f}", f"{fmean(values):.2f}", f"{max(values):.2f}"])
    return ("table", ["bits", "least", "mean", "most"], rows)


def _over_signals(experiment: Experiment, found: Found) -> list[tuple]:
    """Means over the signals of one kind, where there are several, each signal's mean counting once; of rows that all of them have."""
    blocks = []
    for kind in dict.fromkeys(Path(words.split()[0]).suffix for words in experiment.signals):
        mine = [(cell, record) for cell, record in found if Path(cell.signal.split()[0]).suffix == kind]
        signals = list(dict.fromkeys(cell.signal for cell, _ in mine))
        if len(signals) < 2:
            continue
        columns, rows = columns_of(experiment, mine), []
        for label, own in _rows(mine).items():
            each = [[record["results"] for cell, record in own if cell.signal == words] for words in signals]
            if all(each):
                cells = [[fmean(r[column] for r in results) for results in each] if all(column in r for rs in each for r in rs) else [] for column in columns]
                figures = [written(means, digits_of(column)) if means else "-" for column, means in zip(columns, cells)]
                rows.append([label, f"{own[0][1]['parameters']:,}", *figures])
        text = f"Means of {len(signals)} signals: {', '.join(short(words) for words in signals)}; ± is over the signals."
        blocks += [("heading", "Means over signals"), ("text", text), ("table", ["variant", "parameters", *columns], rows)] if rows else []
    return blocks


def _comparison(experiment: Experiment, found: Found) -> list[tuple]:
    """Every variant less the baseline in the experiment's figure, seed by seed, at the same point of the grid; over several signals the mean of their means.

    A baseline that the definition has at one point only is what all points are compared with.
    """
    metric, base = experiment.metric, {}
    single = len({cell.point for cell in experiment.cells if cell.variant == experiment.baseline}) == 1
    for cell, record in found:
        if cell.variant == experiment.baseline and metric in record["results"]:
            base[cell.signal, cell.seed, () if single else cell.point] = record["results"][metric]
    rows = []
    for label, mine in _rows(found).items():
        if mine[0][0].variant == experiment.baseline:
            continue
        differences: dict[str, list[float]] = {}
        for cell, record in mine:
            own = base.get((cell.signal, cell.seed, () if single else cell.point))
            if own is not None and metric in record["results"]:
                differences.setdefault(cell.signal, []).append(record["results"][metric] - own)
        if differences:
            digits = digits_of(metric) if digits_of(metric) else 0
            each = [written(differences[words], digits, True) if words in differences else "-" for words in experiment.signals]
            means = [fmean(values) for values in differences.values()]
            rows.append([label, *each, *([written(means, digits, True)] if len(experiment.signals) > 1 else [])])
    if not rows:
        return []
    head = ["variant", *(short(words) for words in experiment.signals), *(["mean of the signals"] if len(experiment.signals) > 1 else [])]
    text = f"{metric} less that of {experiment.baseline!r}, seed by seed."
    return [("heading", f"Against {experiment.baseline}"), ("text", text), ("table", head, rows)]


# Plots


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot(experiment: Experiment, found: Found, path: Path) -> Path:
    """One panel for each signal, a line for each variant; error bars are 95 % confidence intervals over seeds."""
    pyplot = _pyplot()
    from matplotlib import ticker

    x, y = experiment.plot
    signals = [words for words in experiment.signals if any(cell.signal == words for cell, _ in found)]
    columns = min(3, len(signals))
    rows = -(-len(signals) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(1.2 + 4.4 * columns, 0.6 + 3.5 * rows), dpi=100, squeeze=False)
    variants = list(dict.fromkeys(cell.variant for cell in experiment.cells))
    for panel in panels.flat[len(signals) :]:
        panel.set_visible(False)
    names = y.split("+")
    side_by_side = x == "bytes" and len({cell.point for cell, _ in found}) == 1  # files of one size: their last bytes are no axis
    for words, panel in zip(signals, panels.flat):
        labels, networks, spread = set(), [], []
        for number, variant in enumerate(variants):
            mine = [(cell, record) for cell, record in found if cell.signal == words and cell.variant == variant]
            for which, name in enumerate(names):
                label = name if name == "mlp" else variant if len(names) == 1 else f"{variant}: {name}"
                style = {"color": COLOURS[number % len(COLOURS)], "linestyle": ("-", "--", ":")[(len(names) - 1 - which) % 3]}
                for points in _lines(mine, x, name):
                    if name == "mlp":  # of `distil`: the trained network, which variants may have in common
                        if points[-1] in networks:
                            continue
                        networks.append(points[-1])
                        style["color"] = "black"
                    places, means, halves = zip(*((at, *interval(values)) for at, values in points))
                    spread.extend(places)
                    places = [number] if side_by_side else places
                    style |= {"linewidth": 1.4, "markersize": 4.5, "capsize": 2, "marker": "os^Dvx+*"[number % 8]}
                    panel.errorbar(places, means, [half or 0 for half in halves], label="" if label in labels else label, **style)
                    labels.add(label)
        panel.set_title(short(words), fontsize=10)
        panel.set_xlabel(UNITS.get(x, x), fontsize=9)
        panel.set_ylabel(UNITS.get(y.split("_")[0].split("+")[0], y.replace("+", ", ")), fontsize=9)
        panel.grid(True, color="#e6e6e6", linewidth=0.8)
        panel.tick_params(labelsize=8)
        if x == "bits":
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        elif side_by_side:
            panel.set_xticks([])
            panel.set_xlabel(f"{min(spread):,.0f} to {max(spread):,.0f} bytes", fontsize=9)
    legend = {label: handle for panel in panels.flat for handle, label in zip(*panel.get_legend_handles_labels())}
    width = max(1, int(figure.get_figwidth() / (0.8 + 0.062 * max(map(len, legend), default=1))))
    below = 0.1 + 0.17 * -(-len(legend) // width)  # inches
    figure.set_figheight(figure.get_figheight() + below)
    figure.legend(legend.values(), legend, loc="lower center", ncol=width, fontsize=7.5, frameon=False, handlelength=3)
    figure.tight_layout(rect=(0, below / figure.get_figheight(), 1, 1))
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _lines(mine: Found, x: str, y: str) -> Iterable[list[tuple[float, list[float]]]]:
    """The points of each line of a variant, from left to right: one line, or one for each network where the axis has its levels."""
    levelled = x in LEVELLED or any(f"{x}_" in key for _, record in mine for key in record["results"])
    for group in _rows(mine).values() if levelled else [mine]:
        if points := sorted(_points(group, x, y), key=lambda point: point[0]):
            yield points


def _points(mine: Found, x: str, y: str) -> Iterable[tuple[float, list[float]]]:
    """(x, values of all seeds). For x = "bits" one point for each level of rounding, at its memory; for "share" one for each percentage of latents, and so for
    "parameters" of `distil`, where the trained network has one more, at its own."""
    for records in _rows(mine).values():
        first = records[0][1]["results"]
        levels = list(dict.fromkeys(key.split("_")[1] for key in first if key.rpartition("_")[2].isdigit()))
        if x in LEVELLED or (levels and f"{x}_{levels[0]}" in first):
            base = y.split("_")[0]
            for level in levels:
                values = [found[f"{base}_{level}"] if f"{base}_{level}" in found else found[base] for found in (record["results"] for _, record in records)]
                yield first[f"bpp_{level}"] if x == "bits" else float(level) if x == "share" else first[f"{x}_{level}"], values
            if f"{y}_{x}" in first:
                yield first[f"{y}_{x}"], [record["results"][y] for _, record in records]
            continue
        values = [record["results"][y] for _, record in records if y in record["results"]]
        places = [record["results"].get(x, record.get(x, dict(cell.point).get(x))) for cell, record in records]
        if values and all(isinstance(place, (int, float)) for place in places):
            yield fmean(places), values


def surfaces(experiment: Experiment, found: Found, out: Path, signal_of: Callable[[str], Signal]) -> Path | None:
    """The original's surface and those of the files of seed 0, side by side; None where there are none."""
    cells = [(cell, record) for cell, record in found if cell.seed == 0 and "iou" in record["results"] and record.get("file")]
    if not cells:
        return None
    pyplot = _pyplot()
    words = cells[0][0].signal
    shown = [("original", signal_of(words).samples)]
    shown += [
        (f"{cell.label}: {record['results']['bytes']:,} bytes, IoU {record['results']['iou']:.3f}", doh.decode(out / "files" / record["file"]))
        for cell, record in cells
        if cell.signal == words
    ]
    figure = pyplot.figure(figsize=(5 * len(shown), 4.4), dpi=90)
    for number, (title, samples) in enumerate(shown, 1):
        panel = figure.add_subplot(1, len(shown), number, projection="3d")
        _draw(panel, samples[..., 0])
        panel.set_title(title, fontsize=9)
    figure.tight_layout()
    path = out / f"{experiment.name}-{experiment.scale}-surfaces.png"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _draw(panel, cells: np.ndarray) -> None:
    """The surface around filled cells, smoothed by half a cell so that its normals are not those of cubes."""
    from matplotlib.colors import LightSource
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection
    from scipy.ndimage import gaussian_filter
    from skimage import measure

    vertices, faces = measure.marching_cubes(gaussian_filter(np.pad(cells.astype(np.float32), 2), 0.8), 0.5)[:2]
    corners = vertices[faces][:, :, [0, 2, 1]]  # y points up
    light = LightSource(azdeg=225, altdeg=50)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    towards = np.abs(normals / np.maximum(lengths, 1e-9) @ light.direction)
    shade = 0.25 + 0.75 * towards[:, None] * np.array([[0.62, 0.72, 0.85]])
    panel.add_collection3d(Poly3DCollection(corners, facecolors=np.clip(shade, 0, 1), edgecolors="none", antialiased=False))
    side = max(cells.shape) + 4
    panel.set(xlim=(0, side), ylim=(0, side), zlim=(0, side))
    panel.set_box_aspect((1, 1, 1), zoom=1.5)
    panel.view_init(elev=12, azim=-75)
    panel.set_axis_off()
