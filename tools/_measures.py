"""What one cell of an experiment measures: trains, writes and decodes a file, or rounds a trained network, or counts its first weights. Needs torch.

Every function gives flat results, name -> number; docs/experiments.md says what each is.
"""

from __future__ import annotations

import bz2
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from _experiments import Cell, config_of, kept, tuning_of
from _runs import device_name, encode_on, first_step, say
from torch import Tensor

import doh
from doh.config import Config
from doh.container import unpack
from doh.files import write_atomic
from doh.metrics import bpp, chamfer, iou, psnr, snr, ssim
from doh.model import ON_TRELLIS, TOP, QuantModel
from doh.signal import Signal
from doh.signals.meshes import surface_points
from doh.signals.surface import surface
from doh.train.checkpoint import load
from doh.train.distil import point
from doh.train.fit import Progress
from doh.train.paper_quant import figures, parts_of, round_min_max, tensors_of
from doh.train.plan import plan
from doh.train.projection import DenseProjection, Projection
from doh.train.run import Run, new_projection
from doh.train.study import layer_variances, psnr_of, samples_of, train_on

#: Bits of rounding after training, where the options do not name others.
LEVELS = (16, 8, 6, 5, 4)
#: Of a record (docs/experiments.md).
SCHEMA = 1
#: Points on each surface that a Chamfer distance is taken of.
SURFACE_POINTS = 50_000


class Rademacher(DenseProjection):
    """A dense projection whose entries are -1 or 1: the signs of the uniform ones. It has no number in the file format, so its results are floats only."""

    def __init__(self, seed: int, n: int, shapes: Any) -> None:
        super().__init__(seed, n, shapes)
        self.unit = n**-0.5 / 255  # entries are +-255 units; Var(sum of n products of a sign and a U(-1, 1)) = n/3, wanted is 1/3

    def _entries(self) -> Tensor:
        return (super()._entries() >> 7) * 255

    def _kernels(self, device: Any) -> None:
        """None: those that make the matrix anew make the uniform one."""


def projection_of(generator: str) -> Callable[..., Projection]:
    """What Run is to make its projection with."""
    if generator != "rademacher":
        return new_projection
    return lambda _, seed, n, shapes, device: Rademacher(seed, n, shapes).to(device)


def measure(cell: Cell, signal: Signal, folder: Path, name: str, running: dict[str, Any]) -> dict[str, Any]:
    """The cell's record, without its key. Files that it makes lie in `folder` and begin with `name`. Raises EncodeError."""
    config = config_of(cell, signal, **running)
    device = device_name(config.device)
    started, processor = time.perf_counter(), time.process_time()
    found = MEASURES[cell.measure](cell, signal, config, folder, name)
    times = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - processor}
    origin = {"device": device, "threads": config.cores, "version": doh.__version__}
    return {"schema": SCHEMA, **cell.definition, **found, **times, **origin, "encoder_settings": kept(config)}


def sizes(run: Run) -> dict[str, Any]:
    target, n = run.plan.target, run.plan.latents
    network = {"width": target.width, "depth": target.depth, "frequencies": target.frequencies, "weights": target.weights, "biases": target.biases}
    return {"latents": n, **network, "parameters": n + target.biases, "steps": run.step, "points": run.points}


def quality(decoded: np.ndarray, signal: Signal) -> dict[str, float]:
    """psnr in dB; iou of occupancy, snr in dB of sounds."""
    found = {"psnr": psnr(decoded, signal.samples, TOP[signal.sample_type])}
    if signal.kind == "occupancy":
        found["iou"] = iou(decoded, signal.samples)
    if signal.kind == "audio":
        found["snr"] = snr(decoded, signal.samples)
    return found


def likeness(decoded: np.ndarray, signal: Signal) -> dict[str, float]:
    """What takes longer, of a file only and where the packages for it are there: ssim of images; chamfer of occupancy, both surfaces around the cells,
    in the coordinates of the cube, whose side is 2."""
    if signal.kind == "image" and min(decoded.shape[:2]) >= 11 and find_spec("skimage"):
        return {"ssim": ssim(decoded, signal.samples, TOP[signal.sample_type])}
    if signal.kind == "occupancy" and decoded.any() and find_spec("skimage") and find_spec("scipy"):
        meshes = [surface(lambda first, last, cells=cells: cells[first:last, ..., 0], cells.shape[:3]) for cells in (decoded, signal.samples)]
        return {"chamfer": chamfer(*(surface_points(*mesh, SURFACE_POINTS, seed) for seed, mesh in enumerate(meshes)))}
    return {}


def memory(path: Path, config: Config, parameters: int) -> dict[str, float]:
    """Of a file's numbers: bzip2_bytes, its codes through BZIP2, those of latents, biases and output biases each as bytes or as 16-bit integers;
    footprint_bytes, parameters times bits, where the settings give each number so many bits (step_rule = range), as COIN and the D'OH paper count."""
    model = unpack(path)
    networks = (model,) if isinstance(model, QuantModel) else model.models
    parts = [codes for m in networks for codes in (m.latent_codes >> bool(m.flags & ON_TRELLIS), m.bias_codes, m.output_bias_codes)]
    from_zero = [codes - codes.min() for codes in parts]
    found = {"bzip2_bytes": len(bz2.compress(b"".join(codes.astype("u1" if codes.max() < 256 else "<u2").tobytes() for codes in from_zero)))}
    return found | ({"footprint_bytes": parameters * config.bits / 8} if config.step_rule == "range" else {})


def resumed(make: Callable[[], Run], checkpoint: Path) -> tuple[Run, int]:
    """A run that has taken all its steps, from a checkpoint if there is one, which it leaves there; and the step that it went on from. Raises EncodeError."""
    run = make()
    if checkpoint.exists():
        try:
            load(run, checkpoint)
        except doh.EncodeError as error:
            say(f"begun anew: {error}")
            checkpoint.unlink()
            run = make()
    first = run.step
    return train_on(run, checkpoint), first


# Measures


def file(cell: Cell, signal: Signal, config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Encodes, writes, reads and decodes: the file's bytes and its quality. A cell that was stopped goes on from its checkpoint, which lies beside the file."""
    path, checkpoint, steps = folder / f"{name}.doh", folder / f"{name}.ckpt", [0, 0]

    def note(p: Progress) -> None:
        steps[:] = first_step(p), p.step

    write_atomic(path, encode_on(signal, config, checkpoint, note))
    checkpoint.unlink(missing_ok=True)
    info, size = doh.read_info(path), path.stat().st_size
    decoded, biases = doh.decode(path, threads=config.cores), info.depth * info.width + info.channels
    found = {"bytes": size, "bpp": bpp(size, info.points), **quality(decoded, signal), **likeness(decoded, signal)}
    found |= memory(path, config, info.latents + biases)
    network = {"width": info.width, "depth": info.depth, "frequencies": info.frequencies, "weights": info.weights, "biases": biases}
    about = {"latents": info.latents, **network, "parameters": info.latents + biases, "steps": steps[1], "points": info.points}
    return {"results": found, **about, "from_step": steps[0], "file": path.name}


def rounding(cell: Cell, signal: Signal, config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Trains in floating point, then rounds as the paper does (doh.train.paper_quant), to every number of bits in the option `levels`; 32 = not at all.

    For each: quality, `loss` (of PSNR, from floating point), `bpp` (the paper's memory, parameters times bits, for each point) and `bzip2`, bytes of the
    integers so packed, by those of the memory.
    """
    checkpoint, projection = folder / f"{name}.ckpt", projection_of(cell.settings.get("generator", ""))
    run, first = resumed(lambda: Run(signal, config.replace(finish=0), projection), checkpoint)
    levels = cell.options.get("levels", LEVELS)
    tensors, results = tensors_of(run), quality(samples_of(run), signal)
    found = {f"{key}_float": value for key, value in results.items()}
    for figure in figures(run, levels):
        rounded = {key: round_min_max(tensor, figure.bits).values for key, tensor in tensors.items()}
        now = quality(samples_of(run, *parts_of(run, rounded)), signal)
        now |= {"loss": results["psnr"] - now["psnr"], "bpp": figure.bpp, "bzip2": figure.bzip2 / figure.footprint}
        found |= {f"{key}_{figure.bits}": value for key, value in now.items()}
    found["bpp_float"] = 32 * (run.plan.latents + run.plan.target.biases) / run.points
    checkpoint.unlink(missing_ok=True)
    return {"results": found, **sizes(run), "from_step": first}


def variance(cell: Cell, signal: Signal, config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Variances of the first weights by what the supplement's Eq. 10 and 14 ask for: 1 is exact. No training."""
    found = plan(signal, config)
    layers = layer_variances(found.target, found.latents, config.generator, found.omega, "paper", config.seed)
    first, *hidden, output = (layer.generated / layer.wanted for layer in layers)
    t = found.target
    network = {"width": t.width, "depth": t.depth, "frequencies": t.frequencies, "weights": t.weights, "biases": t.biases}
    results = {"first": first, "hidden": sum(hidden) / len(hidden), "output": output}
    return {"results": results, "latents": found.latents, **network, "parameters": found.latents + t.biases, "steps": 0, "points": 0}


def distil(cell: Cell, signal: Signal, config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Algorithm 1: trains a plain network, inverts it to latents of each percentage of its weights in the option `shares`, and fine-tunes them.

    Options: `generator`, `epochs` of fine-tuning, and `tune`, its settings. All in floating point. A cell that was stopped has the plain network's checkpoint
    and the results of the percentages that are done, and goes on with the next one.
    """
    checkpoint, done = folder / f"{name}.ckpt", folder / f"{name}.json"
    mlp, _ = resumed(lambda: Run(signal, config.replace(finish=0)), checkpoint)
    options, weights = cell.options, mlp.plan.target.weights
    found = {"mlp": psnr_of(mlp), "mlp_parameters": weights + mlp.plan.target.biases}
    found |= json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}
    tune = tuning_of(cell, device=config.device, threads=config.threads)
    for share in options["shares"]:
        if f"tuned_{share}" in found:
            continue
        started = time.perf_counter()
        got = point(mlp, round(share / 100 * weights), options["generator"], tune, options["epochs"])
        now = {"inverted": got.psnr_inverted, "tuned": got.psnr_tuned, "parameters": got.parameters, "seconds": time.perf_counter() - started}
        found |= {f"{key}_{share}": value for key, value in now.items()}
        write_atomic(done, json.dumps(found).encode())
    checkpoint.unlink(missing_ok=True)
    done.unlink(missing_ok=True)
    return {"results": found, **sizes(mlp)}


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"file": file, "rounding": rounding, "variance": variance, "distil": distil}
