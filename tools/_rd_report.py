"""What tools/rd_kodak says in the end: mean curves, Bjøntegaard deltas, tables (Markdown), JSON and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from _bd import Curve, delta, published

from doh.cli.progress import clock

KODAK, KODAK_PIXELS = {f"kodim{number:02}" for number in range(1, 25)}, 768 * 512
#: What a plot shows at least, (bpp, dB), so that plots of several runs can be compared; what it shows beyond doh's points, a factor and dB.
WINDOW, MARGIN = ((0.042, 0.75), (22.0, 37.5)), (1.25, 1.5)


@dataclass(frozen=True)
class Rival:
    """A codec that was run here, or was not (`missing` says what to install)."""

    key: str
    name: str
    settings: str
    version: str = ""
    missing: str = ""


@dataclass
class Results:
    """What has been measured. `own` and `matched` go by (image, rate): doh's file, and by rival the best file that is no larger."""

    title: str
    images: list[str]  # those that were asked for
    rates: list[float]  # bpp that were asked for
    rivals: list[Rival]
    own: dict[tuple[str, float], dict]
    matched: dict[tuple[str, float], dict[str, dict]]
    curves: dict[str, dict[tuple[str, float], dict]]  # rival -> (image, fixed rate) -> its best file

    @property
    def complete(self) -> list[str]:
        """The images that have all rates."""
        return [image for image in self.images if all((image, rate) in self.own for rate in self.rates)]


def mean_curve(name: str, points: dict[tuple[str, float], dict], images: Sequence[str]) -> Curve | None:
    """Mean bpp and mean PSNR over the images, at each rate at which every one of them has a file; None with fewer than two such rates."""
    rates = sorted({rate for _, rate in points})
    rows = [[points.get((image, rate), {}) for image in images] for rate in rates]
    rows = [row for row in rows if row and all(point.get("bytes") for point in row)]
    if len(rows) < 2:
        return None
    return Curve(name, tuple(fmean(p["bpp"] for p in row) for row in rows), tuple(fmean(p["psnr"] for p in row) for row in rows))


def summarise(results: Results) -> dict:
    """Everything that the report says, as plain data for JSON. Curves that break Curve's rules are named under "problems"."""
    images = results.complete
    problems: list[str] = []

    def curve(name: str, points: dict, over: Sequence[str]) -> Curve | None:
        try:
            return mean_curve(name, points, over)
        except ValueError as error:
            problems.append(str(error))
            return None

    own = curve("doh", results.own, images)
    rivals = [curve(rival.name, results.curves.get(rival.key, {}), images or results.images) for rival in results.rivals if not rival.missing]
    live = [rival for rival in rivals if rival]
    all_24 = _all_kodak(images or results.images, results)
    deltas = []
    for anchor, source in [(c, "here") for c in live] + [(c, "published") for c in published()]:
        if own:
            about = {"against": anchor.name, "curve": source, "same_pictures": source == "here" or all_24, "kind": anchor.kind, "source": anchor.source}
            deltas.append(about | asdict(delta(anchor, own)))
    return {
        "title": results.title,
        "images": images,
        "unfinished": [image for image in results.images if image not in images],
        "rates": results.rates,
        "all_24": all_24,
        "curves": [asdict(c) for c in ([own] if own else []) + live],
        "bd": deltas,
        "problems": problems,
        "not_run": {rival.name: rival.missing for rival in results.rivals if rival.missing},
        "rivals": [asdict(rival) for rival in results.rivals if not rival.missing],
        "files": [results.own[key] | {"rivals": results.matched.get(key, {})} for key in sorted(results.own)],
    }


def _all_kodak(images: Sequence[str], results: Results) -> bool:
    """Whether these are the 24 images, by name and size: other pictures of these names are not what was published."""
    files = [*results.own.values(), *(point for points in results.curves.values() for point in points.values() if point.get("bytes"))]
    return set(images) == KODAK and all(round(8 * file["bytes"] / file["bpp"]) == KODAK_PIXELS for file in files)


# Markdown


def markdown(summary: dict, results: Results) -> str:
    parts = [f"# {summary['title']}", _opening(summary, results)]
    if summary["images"]:
        parts += ["## Mean over the images", _mean_table(summary, results)]
    parts += ["## Bjøntegaard deltas", _deltas(summary)]
    if results.own:
        parts += ["## Every file", _file_table(results)]
    parts += ["## The other codecs", _rivals(summary, results)]
    return "\n\n".join(parts) + "\n"


def _opening(summary: dict, results: Results) -> str:
    count = len(summary["images"])
    if not results.own:
        over = f"{len(results.images)} images" if len(results.images) == 24 else ", ".join(results.images)
        return "\n".join([f"The other codecs' curves alone, over {over}; doh has no file here with these settings.", *summary["problems"]])
    lines = [
        f"{count} image{'s' * (count != 1)} at {len(summary['rates'])} rates{': ' + ', '.join(summary['images']) if 0 < count < 24 else ''}. "
        "Bytes are those of real files; PSNR is of the decoded file, over RGB."
    ]
    if summary["unfinished"]:
        lines.append(f"Not finished, so not in any mean: {', '.join(summary['unfinished'])}.")
    encodes = [results.own[image, rate] for image in summary["images"] for rate in summary["rates"]]
    if encodes:
        image_seconds = sum(whole_seconds(record) for record in encodes) / count
        where = ", ".join(sorted({record["device"] for record in encodes}))
        lines.append(
            f"Encoding one image at all rates took {clock(image_seconds)} on average ({where}); 24 such images would take {clock(24 * image_seconds)}."
        )
        if len({record["encoder"] for record in encodes}) > 1:
            lines.append("**These files come from more than one state of the encoder's sources.**")
        if any(record["from_step"] for record in encodes):
            lines.append("Times of encodes that were interrupted are scaled up from their last part.")
    return "\n".join(lines + summary["problems"])


def whole_seconds(record: dict, key: str = "seconds") -> float:
    """Of an encode; if it was resumed, as if its last part had been all of it."""
    done = record["steps"] - record.get("from_step", 0)
    return record[key] * (record["steps"] / done if done else 1)


def _mean_table(summary: dict, results: Results) -> str:
    rivals = [r for r in results.rivals if not r.missing]
    head = ["bpp asked", "bytes", "bpp", "doh dB", *(f"{r.name} dB (bytes)" for r in rivals), "encode s", "processor s"]
    rows = []
    for rate in summary["rates"]:
        own = [results.own[image, rate] for image in summary["images"]]
        others = []
        for rival in rivals:
            found = [results.matched.get((image, rate), {}).get(rival.key, {}) for image in summary["images"]]
            files = [f for f in found if f.get("bytes")]
            lacking = {"not measured": sum(not f for f in found), "do not fit": sum(bool(f) and not f["bytes"] for f in found)}
            short = ", ".join(f"{count} of {len(own)} {what}" for what, count in lacking.items() if count)
            others.append(short or f"{fmean(f['psnr'] for f in files):.2f} ({fmean(f['bytes'] for f in files):,.0f})")
        figures = [f"{rate:g}", f"{fmean(p['bytes'] for p in own):,.0f}", f"{fmean(p['bpp'] for p in own):.4f}", f"{fmean(p['psnr'] for p in own):.2f}"]
        times = [f"{fmean(whole_seconds(p, key) for p in own):.0f}" for key in ("seconds", "processor_seconds")]
        rows.append([*figures, *others, *times])
    return table(head, rows) + "\n\nBeside doh: each codec's best file of every image that is no larger than doh's."


def _deltas(summary: dict) -> str:
    if not summary["bd"]:
        return "None: they take a curve of doh, of two rates or more."
    parts = ["BD-rate: percent of bytes at equal PSNR, negative saves; BD-PSNR: dB at equal rate."]
    for curve, title in (("here", "Run here, on the same pictures:"), ("published", "Published, means over the 24 Kodak images:")):
        rows = [_delta_row(d) for d in summary["bd"] if d["curve"] == curve]
        if rows and curve == "published" and not summary["all_24"]:
            title = f"**Published, means over all 24 Kodak images; here {len(summary['images'])} ran: other pictures, so these lines are no result:**"
        if rows:
            parts += [title, table(["against", "what it is", "BD-rate", "BD-PSNR", "shared PSNR, dB"], rows)]
    return "\n\n".join(parts)


def _delta_row(d: dict) -> list[str]:
    rate = f"{d['rate']:+.1f} %" if d["rate"] is not None else "no PSNR in common"
    psnr = f"{d['psnr']:+.2f} dB" if d["psnr"] is not None else "no rate in common"
    low_high = d["shared_psnr"]
    return [d["against"], d["kind"] or "classical", rate, psnr, f"{low_high[0]:.2f} to {low_high[1]:.2f}" if low_high else "-"]


def _file_table(results: Results) -> str:
    rivals = [r for r in results.rivals if not r.missing]
    head = ["image", "bpp asked", "bytes", "bpp", "doh dB", "latents", "parts", "width x depth", "steps", "encode s", *(f"{r.name} dB (bytes)" for r in rivals)]
    rows = []
    for (image, rate), own in sorted(results.own.items()):
        found = results.matched.get((image, rate), {})
        parts = " x ".join(map(str, own.get("parts", [1, 1])))  # of several networks the largest width and depth
        network = [f"{own['latents']:,}", parts, f"{own['width']} x {own['depth']}", f"{own['steps']:,}", f"{whole_seconds(own):.0f}"]
        figures = [image, f"{rate:g}", f"{own['bytes']:,}", f"{own['bpp']:.4f}", f"{own['psnr']:.2f}"]
        rows.append([*figures, *network, *(_cell(found.get(r.key)) for r in rivals)])
    return table(head, rows)


def _cell(found: dict | None) -> str:
    if not found:
        return "not measured"
    return f"{found['psnr']:.2f} ({found['bytes']:,})" if found.get("bytes") else f"none below {found['smallest']:,}"


def _rivals(summary: dict, results: Results) -> str:
    lines = []
    for rival in results.rivals:
        if rival.missing:
            lines.append(f"* {rival.name}: **not run**: {rival.missing}")
            continue
        chosen = [p["choice"].split()[0] for p in results.curves.get(rival.key, {}).values() if p.get("bytes")]
        counts = ", ".join(f"{variant} {chosen.count(variant)} times" for variant in sorted(set(chosen)))
        lines.append(f"* {rival.name}: {rival.version}; {rival.settings}" + (f"; better at the fixed rates: {counts}" if counts else ""))
    curves = {c["name"]: c for c in summary["curves"] if c["name"] != "doh"}
    body = table(["codec", "mean curve: dB @ bpp"], [[n, ", ".join(f"{q:.2f} @ {r:.4f}" for r, q in zip(c["bpp"], c["psnr"]))] for n, c in curves.items()])
    note = "Curves hold only the rates at which every image has a file that is small enough."
    return "\n".join(lines) + (f"\n\n{body}\n\n{note}" if curves else "")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *map(list, rows)])


# Plot


#: Colour and line of each kind; published curves are thin, what was run here is thick.
STYLES = {
    "coordinate network": ("#c0392b", "-"),
    "prior from other images": ("#8e44ad", (0, (1, 1.5))),
    "latent grid": ("#2e8b57", "-"),
    "classical": ("#8a8a8a", (0, (4, 2))),
}
LIVE = {"JPEG": "#b8860b", "JPEG 2000": "#d2691e", "WebP": "#3b7a57", "AVIF": "#4b3f72", "HEIC": "#a0527a"}
OWN = "#1f5fbf"


def plot(summary: dict, path: Path) -> None:
    """PSNR over bits per pixel (logarithmic). Every line is named at its right end. Raises ImportError without matplotlib (the extra `bench`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, NullFormatter

    shown = [Curve(c["name"], tuple(c["bpp"]), tuple(c["psnr"])) for c in summary["curves"]]
    own_curve = next((c for c in shown if c.name == "doh"), None)
    window = _window(own_curve)
    figure, axes = pyplot.subplots(figsize=(11, 7.8), dpi=150)
    labels: list[tuple[float, float, str, str, bool]] = []
    for curve in published():
        colour, line = STYLES[curve.kind]
        axes.plot(curve.bpp, curve.psnr, color=colour, linestyle=line, linewidth=1, alpha=0.75)
        labels += _label(curve, colour, window, False)
    for curve in shown:
        own = curve.name == "doh"
        colour = OWN if own else LIVE.get(curve.name, "black")
        axes.plot(curve.bpp, curve.psnr, color=colour, linewidth=2.6 if own else 1.5, marker="o", markersize=5.5 if own else 3, zorder=5 if own else 3)
        labels += _label(curve, colour, window, True)
    axes.set_xscale("log")
    axes.set_xlim(*window[0])
    axes.set_ylim(*window[1])
    ticks = [t for t in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2, 3, 5) if window[0][0] <= t <= window[0][1]]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("bits per pixel, whole files (published curves: as each source counts)")
    axes.set_ylabel("PSNR over RGB, mean over images, dB")
    _write_labels(axes, labels, window)
    count = len(summary["images"] or summary["all_images"])
    axes.set_title(summary["title"], loc="left", fontsize=13, fontweight="bold", pad=46)
    if not summary["all_24"]:
        text = f"Thick lines: {count} image{'s' * (count != 1)}. Thin lines: published means over all 24 Kodak images, so not of the same pictures."
    else:
        text = "Thick lines: run here. Thin lines: published. All are means over the 24 Kodak images."
    axes.text(0, 1.06, text, transform=axes.transAxes, fontsize=9.5, color="#444444")
    key = [Line2D([], [], color=OWN, linewidth=2.6, marker="o", label="doh")] if own_curve else []
    key += [Line2D([], [], color=colour, linestyle=line, linewidth=1.2, label=f"{kind}, published") for kind, (colour, line) in STYLES.items()]
    if len(shown) > bool(own_curve):
        key.append(Line2D([], [], color="black", linewidth=1.5, marker="o", markersize=3, label="bold names: other codecs, run here"))
    axes.legend(handles=key, loc="lower right", fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


Window = tuple[tuple[float, float], tuple[float, float]]


def _window(own: Curve | None) -> Window:
    (left, right), (bottom, top) = WINDOW
    if own is None:
        return WINDOW
    factor, room = MARGIN
    return (min(left, own.bpp[0] / factor), max(right, own.bpp[-1] * factor)), (min(bottom, own.psnr[0] - room), max(top, own.psnr[-1] + room))


def _label(curve: Curve, colour: str, window: Window, bold: bool) -> list[tuple[float, float, str, str, bool]]:
    """Where the curve leaves the window, or ends in it: [(bpp, dB, text, colour, bold)], or [] where it is not seen."""
    import numpy as np

    (left, right), (bottom, top) = window
    rates = np.geomspace(max(curve.bpp[0], left), max(min(curve.bpp[-1], right), left), 400)
    psnrs = np.interp(np.log(rates), np.log(curve.bpp), curve.psnr)
    seen = (rates >= left) & (rates <= right) & (psnrs >= bottom) & (psnrs <= top) & (rates >= curve.bpp[0])
    if not seen.any():
        return []
    last = np.flatnonzero(seen)[-1]
    return [(float(rates[last]), float(psnrs[last]), curve.name, colour, bold)]


def _write_labels(axes, labels: list[tuple[float, float, str, str, bool]], window: Window) -> None:
    """Names of lines that leave at the right: in a column there, by height, apart by a line of text. Other names: where the line ends or leaves."""
    (_, right), (bottom, top) = window
    height = (top - bottom) / 28
    column = sorted((label for label in labels if label[0] > right * 0.99), key=lambda label: label[1])
    places = [label[1] for label in column]
    for _ in range(200):  # push neighbours apart until none touch
        for i in range(len(places) - 1):
            if (lack := height - (places[i + 1] - places[i])) > 0:
                places[i] -= lack / 2
                places[i + 1] += lack / 2
        places = [min(max(p, bottom + height * (i + 0.5)), top - height * (len(places) - i - 0.5)) for i, p in enumerate(places)]
    for (bpp, psnr, name, colour, bold), place in zip(column, places):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 2, "shrinkB": 1, "relpos": (0, 0.5)}
        axes.annotate(name, (bpp, psnr), (right * 1.05, place), va="center", annotation_clip=False, arrowprops=leader, **_font(colour, bold))
    for bpp, psnr, name, colour, bold in labels:
        if bpp > right * 0.99:
            continue
        if psnr > top - height / 2:  # above the frame, slanted, as such lines lie close together
            axes.annotate(name, (bpp, top), (0, 3), textcoords="offset points", rotation=35, rotation_mode="anchor", **_font(colour, bold))
        else:
            back = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
            axes.annotate(name, (bpp, psnr), (7, -2), textcoords="offset points", bbox=back, zorder=6, va="center", **_font(colour, bold))


def _font(colour: str, bold: bool) -> dict:
    return {"color": colour, "fontsize": 9.5 if bold else 8.5, "fontweight": "bold" if bold else "normal"}
