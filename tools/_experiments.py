"""Experiments as data: tools/experiments/NAME.toml -> cells, each one measurement that a record is kept of. docs/experiments.md tells the keys. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from doh.config import Config, tomllib
from doh.errors import EncodeError
from doh.model import DTYPE
from doh.signal import Signal
from doh.signals import read_signal
from doh.train.plan import encoding_for, plan, target_for

FOLDER = Path(__file__).resolve().parent / "experiments"
#: An experiment may lack the second.
SCALES = ("quick", "medium", "full")
MEASURES = ("file", "rounding", "variance", "distil")
#: Settings that do not change what is measured; the seed is the cell's own.
APART = {"device", "threads", "checkpoint_seconds", "seed"}
_KEYS = {"title", "about", "measure", "metric", "baseline", "plot", "options", "variants", "picture", *SCALES}
_SCALE_KEYS = {"note", "signals", "seeds", "settings", "grid", "options", "variants", "plot"}


@dataclass(frozen=True)
class Cell:
    """One measurement. `settings` are overrides of the defaults, or of a preset that the key `preset` names; `latents` may be a share, "60 %",
    of the weights of a plain network of that width and depth without positional encoding."""

    variant: str
    point: tuple[tuple[str, Any], ...]  # where it is in the grid
    signal: str
    seed: int
    measure: str
    settings: dict[str, Any]
    options: dict[str, Any]

    @property
    def definition(self) -> dict[str, Any]:
        return {"measure": self.measure, "signal": self.signal, "seed": self.seed, "settings": self.settings, "options": self.options}

    def key(self, data: str) -> str:
        """Of its record: a hash of the definition and of the signal's samples (`data`, a digest)."""
        return hashlib.sha256(json.dumps([self.definition, data], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        return ", ".join([self.variant, *(f"{key} {value}" for key, value in self.point)])


@dataclass(frozen=True)
class Experiment:
    """An experiment at one scale."""

    name: str
    scale: str
    title: str
    about: str
    note: str  # what this scale is
    measure: str
    metric: str  # the column that variants are compared by
    baseline: str  # the variant that they are compared with; "" = none
    plot: tuple[str, str]
    picture: bool  # whether the report draws the decoded surfaces
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def signals(self) -> list[str]:
        return list(dict.fromkeys(cell.signal for cell in self.cells))


class NoImages(EncodeError):
    """Images were named for an experiment without any."""


class NoScale(EncodeError):
    """An experiment is not defined at this scale."""


def names(folder: Path = FOLDER) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.toml"))


def load(name: str, scale: str, *, folder: Path = FOLDER, seeds: int = 0, images: list[str] | None = None) -> Experiment:
    """The experiment of this name. seeds: so many instead of its own; images: these instead of its own images, as names or numbers (12 = kodim12).

    Raises EncodeError for a name that is none, and for a definition with a mistake, naming it; NoScale; OSError.
    """
    if name not in names(folder):
        close = get_close_matches(name, names(folder), 1, 0)
        raise EncodeError(f"unknown experiment {name!r}{f' (the nearest is {close[0]!r})' if close else ''}; there are {', '.join(names(folder)) or 'none'}")
    path = folder / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EncodeError(f"{path}: {error}") from error
    _known(path, table, _KEYS, {"title", "about", "measure", "metric", "variants", "quick", "full"})
    if table["measure"] not in MEASURES:
        raise EncodeError(f"{path}: measure must be one of {', '.join(MEASURES)}, not {table['measure']!r}")
    if scale not in table:
        raise NoScale(f"{name} has no scale {scale!r}; there are {', '.join(word for word in SCALES if word in table)}")
    own = table[scale]
    _known(path, own, _SCALE_KEYS, {"note", "signals", "seeds"})
    options = {**table.get("options", {}), **own.get("options", {})}
    signals = with_images(own["signals"], images)
    grid = own.get("grid", {})
    cells = []
    for variant in [*table["variants"], *own.get("variants", [])]:
        _known(path, variant, {"name", "settings", "options", "grid", *SCALES}, {"name"})
        axes = {**grid, **variant.get("grid", {})}
        for seed, signal, values in product(range(seeds or own["seeds"]), signals, product(*axes.values())):
            point: dict[str, Any] = {}
            for axis, value in zip(axes, values):
                point |= value if isinstance(value, dict) else {axis: value}
            settings = {**own.get("settings", {}), **point, **variant.get("settings", {}), **variant.get(scale, {})}
            cells.append(Cell(variant["name"], tuple(point.items()), signal, seed, table["measure"], settings, {**options, **variant.get("options", {})}))
    cells.sort(key=lambda cell: (cell.seed, signals.index(cell.signal)))  # so that a run that is cut short has whole comparisons
    baseline = table.get("baseline", "")
    if baseline and baseline not in {cell.variant for cell in cells}:
        raise EncodeError(f"{path}: the baseline {baseline!r} is none of its variants")
    plot = tuple(own.get("plot", table.get("plot", ("bytes", table["metric"]))))
    about = " ".join(table["about"].split())
    return Experiment(
        name, scale, table["title"], about, own["note"], table["measure"], table["metric"], baseline, plot, table.get("picture", False), tuple(cells)
    )


def _known(path: Path, table: dict[str, Any], keys: set[str], needed: set[str]) -> None:
    if unknown := sorted(set(table) - keys):
        raise EncodeError(f"{path}: unknown key {unknown[0]!r}; there are {', '.join(sorted(keys))}")
    if missing := sorted(needed - set(table)):
        raise EncodeError(f"{path}: {missing[0]!r} is missing")


def with_images(signals: list[str], images: list[str] | None) -> list[str]:
    """These images alone, each once, with the options of the first of the signals that is one; meshes and sounds are left out.

    Without `images` the signals as they are. Raises NoImages where there are no images among them.
    """
    if not images:
        return signals
    own = [signal for signal in signals if signal.split()[0].endswith(".png")]
    if not own:
        raise NoImages("--images has no meaning here: this experiment has no images")
    first, *options = own[0].split()
    stems = dict.fromkeys(f"kodim{int(word):02}" if word.isdigit() else word for word in images)
    return [" ".join([str(Path(first).with_name(f"{stem}.png")), *options]) for stem in stems]


# Signals


@lru_cache(maxsize=16)
def read(data: Path, words: str) -> Signal:
    """The signal that a line such as "kodak/kodim12.png crop=256" means: a file in the folder `data`, read, and changed by each of

    crop=N (N points of each dimension, from the middle), reduce=N (means of blocks of N points in each dimension), grid=N (cells of a mesh).
    Raises EncodeError, OSError.
    """
    name, *rest = words.split()
    options = dict(word.split("=") for word in rest)
    if unknown := sorted(set(options) - {"crop", "reduce", "grid"}):
        raise EncodeError(f"{words!r}: unknown option {unknown[0]!r}; there are crop, reduce and grid")
    if not (data / name).exists():
        raise EncodeError(f"{data / name} does not exist: --data is to name the folder that has {name}")
    signal = read_signal(data / name, **({"grid": int(options["grid"])} if "grid" in options else {}))[0]
    samples = signal.samples
    for option, value in options.items():
        if option == "crop":
            samples = cropped(samples, int(value))
        elif option == "reduce":
            samples = reduced(samples, int(value))
    return Signal(np.ascontiguousarray(samples, DTYPE[signal.sample_type]), signal.kind, signal.sample_type)


def cropped(samples: np.ndarray, points: int) -> np.ndarray:
    """At most so many points of each dimension, from the middle; channels come last."""
    starts = [max(0, (n - points) // 2) for n in samples.shape[:-1]]
    return samples[tuple(slice(start, start + points) for start in starts)]


def reduced(samples: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of factor points in each dimension, rounded; what is left over at the end of a dimension is dropped. float64."""
    *shape, channels = samples.shape
    blocks = [n // factor for n in shape]
    inner = samples[tuple(slice(0, n * factor) for n in blocks)]
    split = inner.reshape(*(part for n in blocks for part in (n, factor)), channels)
    return np.rint(split.mean(axis=tuple(range(1, 2 * len(shape), 2))))


def short(words: str) -> str:
    """The signal's name in a table: kodim12 reduce=2."""
    name, *options = words.split()
    return " ".join([Path(name).stem, *options])


# Settings

#: How the encoder rounded when the figures of docs/paper.md were made.
ROUNDED: dict[str, Any] = {"rounding": "nearest", "bits": 5.5, "finish": 0.15}  # 5.5: what 0 stands for then, as in their records


def config_of(cell: Cell, signal: Signal, **running: Any) -> Config:
    """The encoder's settings of a cell; `running` says where and how fast it runs (threads, device). Raises EncodeError for a mistake in them.

    One network for the whole signal, as networks are what is compared, Adam alone, batches that are drawn evenly (of occupancy as ever), as in the paper,
    all frequencies that an image's grid carries, and latents rounded to the nearest (ROUNDED), unless the preset or the cell says otherwise.
    """
    settings = dict(cell.settings)
    preset = settings.pop("preset", None)
    base = Config.from_preset(preset) if preset else Config()
    left_open = {key: value for key, value in ROUNDED.items() if getattr(base, key) == getattr(Config(), key)}
    base = base.replace(parts="1", alpha=0, **left_open)
    if base.sampling == "auto" and signal.kind != "occupancy":
        base = base.replace(sampling="random")
    settings["generator"] = {"rademacher": "dense"}.get(settings.get("generator", base.generator), settings.get("generator", base.generator))
    if isinstance(latents := settings.get("latents"), str):
        if not latents.endswith("%"):
            raise EncodeError(f'latents must be a number, or a share such as "60 %", not {latents!r}')
        target = target_for(signal, base.replace(**{**settings, "latents": 1, "frequencies": 0}), 1)
        settings["latents"] = max(1, round(float(latents[:-1]) / 100 * target.weights))
    return _carried(signal, base.replace(**settings, seed=cell.seed, **running))


def _carried(signal: Signal, config: Config) -> Config:
    """The settings with all frequencies that an image's grid carries, where they leave them open."""
    if signal.kind != "image" or config.frequencies >= 0:
        return config
    frequencies, ladder = encoding_for(signal, config)
    return config.replace(frequencies=frequencies, ladder=ladder)


def tuning_of(cell: Cell, **running: Any) -> Config:
    """The settings of the fine-tuning in a cell of `distil`: its option `tune`, of its option `preset`, with its options `generator` and `epochs`."""
    options = cell.options
    base = Config.from_preset(options["preset"]) if "preset" in options else Config()
    own = {"alpha": 0, **({"sampling": "random"} if base.sampling == "auto" else {}), **options.get("tune", {})}
    return base.replace(**{**own, "generator": options["generator"], "epochs": options["epochs"]}, seed=cell.seed, **running)


def kept(config: Config) -> dict[str, Any]:
    """The settings that are part of a record."""
    return {key: value for key, value in config.to_dict().items() if key not in APART}


def same(record: dict[str, Any], config: Config, signal: Signal) -> bool:
    """Whether a record was made with these settings, and with the network that they mean today, as far as the record says what it had.

    A setting that the record does not have yet counts as its default; there was one network for each signal then, Adam alone, `auto` drew evenly but of
    occupancy, and images had all frequencies that their grids carry.
    """
    default_config = Config(parts="1", alpha=0, **ROUNDED)
    old, default = dict(record["encoder_settings"]), kept(default_config)
    if old.get("sampling") == "auto" and signal.kind != "occupancy":
        old["sampling"] = "random"
    if (old.get("frequencies", -1), old.get("ladder", "auto")) == (-1, "auto"):
        carried = _carried(signal, default_config)
        old |= {"frequencies": carried.frequencies, "ladder": carried.ladder}
    if any(old.get(key, default[key]) != value for key, value in kept(config).items()):
        return False
    try:
        found = plan(signal, config)
    except EncodeError:  # such a cell can no longer be measured
        return False
    network = {"width": found.target.width, "depth": found.target.depth, "frequencies": found.target.frequencies, "latents": found.latents}
    return all(record.get(key, value) == value for key, value in network.items())


#: Seconds on one core: for a step, for one weight and point of it (forward and backward), and for an entry of a dense matrix (both products), measured here.
STEP_SECONDS, WEIGHT_SECONDS, ENTRY_SECONDS = 4e-4, 7e-11, 4e-9


def estimate(cell: Cell, signal: Signal) -> float:
    """About how many seconds of one core the cell takes; what inverts a network in `distil` is not counted."""
    config = config_of(cell, signal)
    if cell.measure == "variance":
        return 1.0
    found = plan(signal, config)
    seconds = _training(config, signal, found.target.weights, found.latents)
    if cell.measure == "distil" and cell.options["epochs"]:
        tune = tuning_of(cell)
        seconds += sum(_training(tune, signal, found.target.weights, round(share / 100 * found.target.weights)) for share in cell.options["shares"])
    return seconds


def _training(config: Config, signal: Signal, weights: int, latents: int) -> float:
    points = signal.samples.size // signal.channels
    batch = min(config.batch, points)
    steps = config.epochs * -(-points // batch) or config.steps
    entries = latents * weights if config.generator == "dense" else 0
    return steps * (STEP_SECONDS + batch * weights * WEIGHT_SECONDS + entries * ENTRY_SECONDS)
