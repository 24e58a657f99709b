"""encode(), encode_many(): signals to the bytes of .doh files. The one place where signals, training and the container meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from doh.config import RATES, Config
from doh.errors import EncodeError
from doh.signal import Signal

if TYPE_CHECKING:
    from doh.model import Mosaic, QuantModel
    from doh.train.fit import Progress, Training
    from doh.train.many import Task

Source = np.ndarray | Signal | str | PathLike[str]


def encode(
    source: Source | Callable[[], Source],
    *,
    latents: int | None = None,
    bpp: float | None = None,
    bytes: int | None = None,
    preset: str = "balanced",
    config: Config | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    write: Callable[[bytes], object] | None = None,
    **overrides: Any,
) -> bytes:
    """Encodes a signal and returns the complete .doh file, sealed with the checksum of its decoded samples.

    source: an image as an array (height, width) or (height, width, channels) of uint8 or uint16, a Signal, or a path to a file of samples; or a function
        that returns one of these.
    latents, bpp, bytes: at most one of them says how large the file is to be: the number n of latents, or a size (bits for each grid point, or bytes
        in all) that the file meets from below within 3 %. A large image, of about 10,500 latents and more, is cut into parts with a network each
        (setting `parts`).
    preset: one of doh.config.PRESETS; `config` replaces it. `seed`, `device`, `threads` and every other setting of doh.config.Config by
        name change single ones.
        `seconds` is a budget of time, counted from the call to its return: the schedule is stretched to fill it, and the number of steps follows from
        the speed of the machine, so that the result does too. `steps` given along with it is then the most that are taken.
    checkpoint: a file for the state of the training, written every minute and when something goes wrong afterwards, up to the end of `write`; remove it
        once the result is in a safe place. A state that cannot be written is a warning. With `resume`, training goes on from it, if it exists, to the very
        same bytes (with `seconds`: for what was left of the time). Without, what lies there is not replaced: after a warning it is CHECKPOINT.old
        (or .old2 ...).
    write: called with the file, to put it in a safe place: what it raises is passed on once the state is saved.

    Raises EncodeError for an input, a setting or a budget that cannot be encoded, and where torch is missing; OSError.
    """
    started = time.monotonic()
    signal = signal_of(source() if callable(source) else source)
    changes = {"latents": latents, "bpp": bpp, "bytes": bytes, "seed": seed, "device": device, "threads": threads}
    settings = _settings(preset, config, changes, overrides)
    _need_torch()
    from doh.train.engine import device_of
    from doh.train.fit import Training
    from doh.train.gradient import workers_for

    with workers_for(device_of(settings.device), settings.threads) as workers:
        training = Training(signal, settings, progress=progress, checkpoint=checkpoint, resume=resume, started=started)
        return training.file(training.alone(workers), settings.cores, write)


def encode_many(
    sources: Iterable[Source | Callable[[], Source]],
    *,
    latents: int | None = None,
    bpp: float | None = None,
    bytes: int | None = None,
    preset: str = "balanced",
    config: Config | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Callable[[int, Progress], None] | None = None,
    checkpoints: Sequence[str | PathLike[str] | None] | None = None,
    resume: bool = False,
    names: Sequence[str] | None = None,
    write: Callable[[int, bytes], object] | None = None,
    on_result: Callable[[int, bytes | Exception], None] | None = None,
    **overrides: Any,
) -> list[bytes | Exception]:
    """Encodes many signals at the same time, and returns for each in its place the file or the exception that it ended with.

    All have the same seed, and those of equal size the same projection, which is made once. One that cannot be encoded does not stop the others.
    On the CPU one is trained on each core, and a file is the very one that encode() makes of the same signal with the same settings, unless they have
    `seconds`, which is the time for each signal. On a GPU signals whose networks have one shape are trained in stacks of up to 8 (doh.train.together),
    with the result of encode() up to rounding in their sums; with `seconds` one after the other.

    sources: as encode() takes them, or functions that return such a thing: they are called when its turn comes, in another thread, as paths are
        read then; so that not all signals need be in memory. On a GPU up to 32 are, or 1 GiB with their tables, in search of some that make a stack.
    checkpoints: a file (or None) for each source.
    names: what warnings call the sources; without them the path, or its number, counted from 1.
    write: called with the number of a source and its file, in another thread and at the same time as other calls: what it raises is the result of this
        source, once the state of its training is saved.
    threads: cores in all; one that is left over helps one of the last signals.
    progress, on_result: called with the number of a source and its Progress, and its result as soon as it is there, one call at a time and in the thread
        that called encode_many(). What they raise stops all trainings, as Ctrl-C does (checkpoints are written), and is raised again.
    All other settings are those of encode().

    Raises EncodeError for settings that are none, and where torch is missing.
    """
    todo = list(sources)
    changes = {"latents": latents, "bpp": bpp, "bytes": bytes, "seed": seed, "device": device, "threads": threads}
    settings = _settings(preset, config, changes, overrides)
    paths = [None] * len(todo) if checkpoints is None else list(checkpoints)
    if len(paths) != len(todo):
        raise EncodeError(f"{len(paths)} checkpoints for {len(todo)} signals: give one, or None, for each")
    if names is not None and len(names) != len(todo):
        raise EncodeError(f"{len(names)} names for {len(todo)} signals: give one for each")
    called = names or [str(source) if isinstance(source, (str, PathLike)) else f"signal {number}" for number, source in enumerate(todo, 1)]
    _need_torch()
    from doh.train import together
    from doh.train.engine import device_of, pinned
    from doh.train.fit import Training
    from doh.train.many import Many

    settings = settings.replace(device=pinned(settings.device))
    stacks = together.in_stacks(settings)
    # of one signal: what does not share `task.workers`; on a GPU there is one at a time
    own = settings.replace(threads=1) if device_of(settings.device).type == "cpu" else settings

    def begin(task: Task) -> Training:
        started, source = time.monotonic(), todo[task.number]
        return Training(
            signal_of(source() if callable(source) else source),
            own,
            progress=task.report if progress else None,
            checkpoint=paths[task.number],
            resume=resume,
            started=started,
            projection=task.projection,
            name=called[task.number],
        )

    def file(task: Task, training: Training, model: QuantModel | Mosaic) -> Any:
        return training.file(model, own.cores, partial(write, task.number) if write else None)

    def alone(task: Task) -> Any:
        training = begin(task)
        return file(task, training, training.alone(task.workers, task.stop))

    def all_together(tasks: list[Task], give: Callable[[int, Any], None]) -> None:
        together.train_in_stacks(tasks, begin, lambda task, training: file(task, training, training.finish()), give)

    results: list[Any] = [None] * len(todo)

    def keep(number: int, result: Any) -> None:
        results[number] = result
        if on_result:
            on_result(number, result)

    Many(alone, len(todo), settings, all_together if stacks else None).run(progress or (lambda number, report: None), keep)
    return results


def _settings(preset: str, config: Config | None, changes: dict[str, Any], overrides: dict[str, Any]) -> Config:
    """`config`, or else the preset, with changes that are not None. Raises EncodeError."""
    if config is not None and not isinstance(config, Config):
        raise EncodeError(f"config is a doh.Config, not a {type(config).__name__}: name a preset by preset=, and single settings by their names")
    given = {key: value for key, value in changes.items() if value is not None}
    settings = (config or Config.from_preset(preset)).replace(**given, **overrides)
    rates = [key for key in RATES if key in given and not (key == "latents" and settings.generator == "plain")]  # which has none to be given
    if rates and not any(getattr(settings, key) for key in RATES):  # beside another one a 0 means "not this one"
        raise EncodeError(f"{rates[0]} must be more than 0: leave it out for a file of the usual size")
    return settings


def _need_torch() -> None:
    try:
        import doh.train.fit  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise EncodeError(f'encoding needs {error.name}, which is not installed: pip install "doh[train]"') from error


def signal_of(source: Source) -> Signal:
    """The signal that a source means: itself, the samples in a file, or an array as an image. Raises EncodeError, OSError."""
    if isinstance(source, Signal):
        return source
    if isinstance(source, (str, PathLike)):
        from doh.signals import read_signal

        return read_signal(source)[0]
    if not isinstance(source, np.ndarray) or source.ndim not in (2, 3) or source.dtype not in (np.uint8, np.uint16):
        what = f"an array {source.shape} of {source.dtype}" if isinstance(source, np.ndarray) else f"a {type(source).__name__}"
        raise EncodeError(f"an image is an array (height, width[, channels]) of uint8 or uint16, not {what}; wrap anything else in doh.Signal")
    samples = source[..., None] if source.ndim == 2 else source
    return Signal(samples, "image", "u8" if source.dtype == np.uint8 else "u16")
