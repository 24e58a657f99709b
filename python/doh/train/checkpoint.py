"""The state of a training, on disk: safetensors with a JSON note, and the SHA-256 of both. Resuming gives the very bytes of a training without a break."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from doh import _core
from doh.errors import EncodeError
from doh.files import StateFile, write_atomic
from doh.signal import Signal
from doh.train.ademamix import MEANS
from doh.train.importance import ErrorSampler

if TYPE_CHECKING:
    from doh.train.mosaic import MosaicRun
    from doh.train.run import Run

VERSION = 8
#: The release of doh, which may train otherwise than another.
RELEASE = _core.version()
#: Settings that may be others when a training goes on. Only `device` changes the result, by rounding: whoever moves to another machine knows that.
FREE = {"device", "threads", "checkpoint_seconds"}


def signal_hash(signal: Signal) -> str:
    """SHA-256 of a signal's kind, sample type, shape and samples."""
    h = hashlib.sha256(repr((signal.kind, signal.sample_type, signal.samples.shape)).encode())
    h.update(np.ascontiguousarray(signal.samples).data)
    return h.hexdigest()


def save(run: Run | MosaicRun, path: Path) -> None:
    """Writes the state at once or not at all (a temporary name, then a rename). Raises OSError."""
    fields = {
        "version": VERSION,
        "doh": RELEASE,
        "config": run.config.to_dict(),
        "signal": signal_hash(run.signal),
        "elapsed": run.elapsed,
        "share": run.share,
        "networks": [_note(each) for each in run.runs],
    }
    tensors = {f"{number}.{name}": t.detach().cpu().contiguous() for number, each in enumerate(run.runs) for name, t in _tensors(each).items()}
    note = json.dumps(fields)
    write_atomic(path, to_bytes(tensors, {"doh": note, "sha256": _digest(note, tensors)}))


def _digest(note: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that a checkpoint says: of its note, and of each tensor's name, type, shape and numbers."""
    h = hashlib.sha256(note.encode())
    for name, tensor in sorted(tensors.items()):
        h.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        h.update(tensor.numpy().reshape(-1).view(np.uint8).data)
    return h.hexdigest()


def _note(run: Run) -> dict[str, Any]:
    """What is no tensor of the state of one network's training."""
    return {
        "step": run.step,
        "gains": run.gains if run.settled else None,
        "latent_step": run.quantisation.latent if run.quantisation else None,
        "settled_latents": run.settling.count if run.settling else 0,
        "restarts": run.restarts,
        "best_loss": run.best_loss,
        "known_size": run.known_size,
        "schedule": [run.steps, run.finish_from],
    }


def load(run: Run | MosaicRun, path: Path) -> None:
    """Brings a fresh run to the state in a file.

    Raises EncodeError when it is no checkpoint, a damaged one, or one of another signal, of other settings (saying which) or of another doh; OSError.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable itself)
        note = json.loads(about["doh"])
        if note["version"] != VERSION:
            raise EncodeError(f"{path} is a checkpoint of another version of doh: remove it, or do not resume")
        if about["sha256"] != _digest(about["doh"], stored):
            raise EncodeError(f"{path} is a damaged checkpoint: its numbers do not match their checksum; remove it, or do not resume")
        _check(run, note, path)
        _load_all(run, note, stored, path)
    except EncodeError:
        raise
    except (SafetensorError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise EncodeError(f"{path} is no checkpoint of doh, or a damaged checkpoint ({type(error).__name__}: {text})") from error


def clear(state: StateFile) -> None:
    """Once the result is in its place: removes the state of its training, and the states that were set aside for it. What is no checkpoint stays.

    Raises OSError.
    """
    if state.mine:
        state.path.unlink(missing_ok=True)
        state.mine = False
    for path in state.set_aside():
        if is_checkpoint(path):
            path.unlink()


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one of doh's, of any version."""
    try:
        with safe_open(path, "pt") as file:
            return "doh" in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def _load_all(run: Run | MosaicRun, note: dict[str, Any], stored: dict[str, Tensor], path: Path) -> None:
    if len(note["networks"]) != len(run.runs):
        raise EncodeError(f"{path} is a damaged checkpoint: it has {len(note['networks'])} networks, not {len(run.runs)}")
    run.elapsed, run.share = note["elapsed"], note["share"]
    for number, (each, own) in enumerate(zip(run.runs, note["networks"])):
        each.share = run.share
        prefix = f"{number}."
        _load(each, own, {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}, path)


def _load(run: Run, note: dict[str, Any], stored: dict[str, Tensor], path: Path) -> None:
    """The same for one network."""
    if run.config.sampling == "epochs":
        run.order = torch.empty(len(stored.get("order", ())), dtype=torch.int64)
    run.optimiser.start()
    for name, tensor in _tensors(run).items():
        if name not in stored or stored[name].shape != tensor.shape or stored[name].dtype != tensor.dtype:
            raise EncodeError(f"{path} is a damaged checkpoint: {name} does not fit")
        with torch.no_grad():
            tensor.copy_(stored[name])
    run.generator.set_state(stored["generator"])
    if isinstance(run.sampler, ErrorSampler):
        run.sampler.restore(stored["errors"])
    run.step = note["step"]
    for state in run.optimiser.state.values():
        state["step"] = run.step
    run.restarts, run.best_loss, run.known_size = note["restarts"], note["best_loss"], note["known_size"]
    run.steps, run.finish_from = note["schedule"]
    if note.get("gains"):
        run.scale_layers(note["gains"])
    if note["latent_step"]:
        run.quantise_at(note["latent_step"], note["settled_latents"])


def _check(run: Run | MosaicRun, note: dict[str, Any], path: Path) -> None:
    if note["doh"] != RELEASE:
        raise EncodeError(f"{path} is a checkpoint of doh {note['doh']}, this is {RELEASE}: go on with that one, or do not resume")
    if note["signal"] != signal_hash(run.signal):
        raise EncodeError(f"{path} is a checkpoint of another signal: remove it, or do not resume")
    for key, value in run.config.to_dict().items():
        if key not in FREE and note["config"].get(key) != value:
            raise EncodeError(f"{path} is a checkpoint with {key} = {note['config'].get(key)!r}, not {value!r}: remove it, or do not resume")


def _tensors(run: Run) -> dict[str, Tensor]:
    tensors = {"latents": run.latents, "biases": run.biases, "output_bias": run.output_bias, "loss": run.loss, "order": run.order}
    for name in ("latents", "biases", "output_bias"):
        state = run.optimiser.state.get(tensors[name], {})
        for mean in MEANS:
            tensors[f"{name}.{mean}"] = state.get(mean, torch.zeros_like(tensors[name]))
    if isinstance(run.sampler, ErrorSampler):
        tensors["errors"] = run.sampler.errors
    return {**tensors, "generator": run.generator.get_state()}
