"""`doh encode`: an image or array to a .doh file, with live progress, a checkpoint beside the output, and a summary measured on the written file."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doh.cli.output import check_output, clear, state_of
from doh.cli.progress import show_progress
from doh.cli.report import say
from doh.cli.result import tell
from doh.errors import EncodeError
from doh.files import write_atomic
from doh.signal import Signal
from doh.signals import read_signal

if TYPE_CHECKING:
    from doh.config import Config


def run(
    sources: list[Path],
    output: str,
    preset: str | None,
    config: Path | None,
    settings: list[str],
    resume: bool,
    options: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    """Encodes one source to `output`, or several into it: it is a folder if there are several sources, if it ends with a slash, or if it is one already.

    `options` holds the configuration's keys that have an option of their own, `reading` what read_signal() is told; None and False = not given.
    """
    if not output:  # which would be the current folder
        raise EncodeError("the name of OUT is empty: give that of a file")
    reading = {key: value for key, value in reading.items() if value}
    choice = choose(preset, config, settings, options)
    folder = output.endswith(tuple(filter(None, (os.sep, os.altsep)))) or Path(output).is_dir()
    if len(sources) > 1 and not folder and Path(output).suffix == ".doh":
        raise EncodeError(f"{len(sources)} inputs do not go into one file: name a folder instead of {output}")
    if folder or len(sources) > 1:
        from doh.cli.batch import run as run_many

        run_many(sources, Path(output), choice, resume, reading)
    else:
        run_one(sources[0], Path(output), choice, resume, reading)


def run_one(source: Path, output: Path, choice: Config, resume: bool, reading: dict[str, Any]) -> None:
    """Encodes `source`, read with the options `reading`, to `output`.

    The checkpoint lies beside the output, as OUT.doh.ckpt, and goes once the file is written. What stops the run is passed on after saying where that is.
    """
    check_output(source, output)
    state = state_of(output)
    if resume and not (state and state.path.exists()):
        say(f"there is no {state or f'{output}.ckpt'} to resume from: starting at the beginning")
    started, signals = time.monotonic(), []

    def read() -> Signal:
        signal, notes = read_signal(source, **reading)
        for note in notes:
            say(note)
        signals.append(signal)
        return signal

    try:
        with show_progress() as progress:
            from doh.codec import encode

            data = encode(read, config=choice, progress=progress, checkpoint=state, resume=resume, write=partial(write_atomic, output))
    except (KeyboardInterrupt, OSError, MemoryError):
        if state and state.mine:
            say(f"no file written; the run's state is in {state}: the same command with --resume goes on from there")
        raise
    clear(state)
    tell(output, data, signals[0], time.monotonic() - started, choice.cores)


def choose(preset: str | None, config: Path | None, settings: list[str], options: dict[str, Any]) -> Config:
    """The configuration: the preset, then the file, then --set, then the options of their own. Raises EncodeError, OSError.

    --time goes with --set: it clears the steps of the preset and of the file, but not those that --set gives with it.
    """
    from doh.config import Config

    choice = Config.from_preset(preset or "balanced")
    if config is not None:
        choice = Config.from_toml(config, choice)
    given = {key: value for key, value in options.items() if value is not None}
    if "seconds" in given:
        settings = [f"seconds={given.pop('seconds')}", *settings]
    return choice.set(settings).replace(**given)
