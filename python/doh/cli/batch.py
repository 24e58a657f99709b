"""`doh encode` of many inputs: DIR/<name>.doh for each, at the same time; what goes wrong with one stops no other; --resume does what is left."""

from __future__ import annotations

import os
import sys
import time
import traceback
from functools import partial
from math import prod
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from doh import container
from doh.cli.output import check_output, clear, state_of
from doh.cli.progress import show_board
from doh.cli.report import fail, say, show
from doh.cli.result import tell
from doh.errors import DohError, EncodeError
from doh.files import FileError, read_bytes, write_atomic
from doh.signal import Signal
from doh.signals import extension_of, read_signal

if TYPE_CHECKING:
    from doh.cli.progress import Board
    from doh.config import Config


class Complete(Exception):
    """The output of a source needs nothing more."""


def run(sources: list[Path], folder: Path, config: Config, resume: bool, reading: dict[str, Any]) -> None:
    """Encodes every source, read with the options `reading`, into `folder`, which is made if need be (not its parents). Ends with exit code 1 if any failed.

    Each has a checkpoint beside its output, which goes once that is written. With `resume`, outputs that are complete are left as they are.
    Raises EncodeError for sources that would have the same output, FileError, and KeyboardInterrupt after saying how to go on.
    """
    outputs = [folder / f"{name}.doh" for name in names_of(sources)]
    made = make_folder(folder)
    try:
        batch = Batch(sources, outputs, config, resume, reading)
        batch.encode()
        parts = [f"{batch.written} file{'' if batch.written == 1 else 's'} written"]
        if batch.psnrs:
            parts += [f"{batch.bytes:,} bytes", f"mean {fmean(batch.psnrs):.2f} dB decoded"]
        kept = [f"{batch.kept} left as they were"] if batch.kept else []
        failed = [f"{batch.failed} failed"] if batch.failed else []
        show(f"{folder}: {', '.join([*parts, *kept, *failed, f'{time.monotonic() - batch.started:.1f} s'])}", sys.stdout)
        if batch.failed:
            fail(f"{batch.failed} of {len(sources)} could not be encoded")
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def names_of(sources: list[Path]) -> list[str]:
    """Their names without extension. Raises EncodeError where two are the same."""
    names: dict[str, Path] = {}
    for source in sources:
        name = source.name[: len(source.name) - len(extension_of(source))] or source.name
        if name in names:
            raise EncodeError(f"{names[name]} and {source} would both become {name}.doh: rename one, or encode it on its own")
        names[name] = source
    return list(names)


def make_folder(folder: Path) -> bool:
    """Whether it had to be made. Raises FileError."""
    if folder.is_dir():
        if not os.access(folder, os.W_OK):
            raise FileError(f"cannot write into {folder}: it is not writable")
        return False
    if folder.exists():
        raise FileError(f"cannot write into {folder}: it is no folder")
    if not folder.parent.is_dir():
        raise FileError(f"cannot write into {folder}: the folder {folder.parent} does not exist")
    folder.mkdir()
    return True


def lacking(output: Path, signal: Signal, config: Config) -> str:
    """Why the file of an earlier run is not what encoding the signal with these settings would make; empty where nothing speaks against it.

    What is looked at: whether the file is undamaged, the kind and the size of the signal, and the budget. It is decoded last: one of another signal might
    take any time and memory. Raises FileError.
    """
    data = read_bytes(output)
    try:
        info = container.read_info(data, container.NO_LIMITS)
    except DohError as error:
        return f"is not a complete file ({error})"
    found, wanted = (info.signal, info.sample_type, info.shape, info.channels), (signal.kind, signal.sample_type, signal.shape, signal.channels)
    if found != wanted:
        return f"holds another signal ({_in_words(*found)}, not {_in_words(*wanted)})"
    if off := _off_budget(info, signal, config):
        return off
    try:
        container.verify(data, container.NO_LIMITS, config.cores)
    except DohError as error:
        return f"is not a complete file ({error})"
    return ""


def _in_words(kind: str, sample_type: str, shape: tuple[int, ...], channels: int) -> str:
    return f"{kind} {' x '.join(map(str, shape))} x {channels} of {sample_type}"


def _off_budget(info: container.Info, signal: Signal, config: Config) -> str:
    from doh.train.plan import FILL, budget_of

    budget, parts = budget_of(signal, config), prod(info.parts)
    if budget and not budget * FILL - 2 * parts <= info.bytes <= budget:  # 2: a part has a budget of its own, in whole bytes
        return f"has {info.bytes:,} bytes, not the {budget:,} that are asked for"
    if config.latents and abs(info.latents - config.latents) >= parts:
        return f"has {info.latents:,} latents, not the {config.latents:,} that are asked for"
    return ""


class Batch:
    """One encode_many() and what comes of it."""

    def __init__(self, sources: list[Path], outputs: list[Path], config: Config, resume: bool, reading: dict[str, Any]) -> None:
        self.sources, self.outputs, self.config, self.resume, self.reading = sources, outputs, config, resume, reading
        self.states = [state_of(output) for output in outputs]
        self.started = time.monotonic()
        self.signals: dict[int, tuple[Signal, list[str], float]] = {}  # of those at work, with remarks and the time when they began
        self.psnrs: list[float] = []
        self.written = self.kept = self.bytes = self.failed = 0

    def encode(self) -> None:
        from doh.codec import encode_many

        try:
            with show_board([source.name for source in self.sources]) as board:
                encode_many(
                    [partial(self.read, number) for number in range(len(self.sources))],
                    config=self.config,
                    progress=board.report,
                    checkpoints=self.states,
                    resume=self.resume,
                    names=[str(source) for source in self.sources],
                    write=self.write,
                    on_result=partial(self.end, board),
                )
        except KeyboardInterrupt:
            states = sum(state is not None and state.mine for state in self.states)
            say(f"{self.written} written, {states} under way: the same command with --resume goes on from there")
            raise

    def read(self, number: int) -> Signal:
        """In a thread of its training. Raises Complete where there is nothing to be done."""
        started, source, output, state = time.monotonic(), self.sources[number], self.outputs[number], self.states[number]
        check_output(source, output)
        signal, notes = read_signal(source, **self.reading)
        if self.resume and state and output.exists() and not state.path.exists():  # a checkpoint is that of a newer run
            why = lacking(output, signal, self.config)
            if not why:
                raise Complete
            say(f"{output} {why}: it is encoded again")
        self.signals[number] = signal, notes, started
        return signal

    def write(self, number: int, data: bytes) -> None:
        """In a thread of its training. Raises FileError."""
        write_atomic(self.outputs[number], data)
        clear(self.states[number])

    def end(self, board: Board, number: int, result: bytes | Exception) -> None:
        """Says what was written, or what went wrong."""
        source, output = self.sources[number], self.outputs[number]
        signal, notes, started = self.signals.pop(number, (None, [], 0.0))  # nothing of a source that could not be read
        for note in notes:
            say(note)
        if isinstance(result, bytes):
            assert signal is not None
            self.written += 1
            self.bytes += len(result)
            try:
                self.psnrs.append(tell(output, result, signal, time.monotonic() - started, self.config.cores))
            except (DohError, OSError, MemoryError) as error:
                say(f"{output} is written, but could not be looked at ({' '.join(str(error).split()) or 'not enough memory'})")
        elif isinstance(result, Complete):
            self.kept += 1
            say(f"{output} is complete: it is left as it is")
        else:
            self.failed += 1
            self.explain(source, output, result)
        board.end(number, failed=isinstance(result, Exception) and not isinstance(result, Complete), earlier=isinstance(result, Complete))

    def explain(self, source: Path, output: Path, error: Exception) -> None:
        """Says why there is no file."""
        if not isinstance(error, (DohError, EncodeError, OSError, MemoryError)):  # a bug: it keeps its traceback
            traceback.print_exception(error)
            say(f"{source}: not encoded, for the reason above")
            return
        message = " ".join(str(error).split()) or "not enough memory"
        say(message if str(source) in message or str(output) in message else f"{source}: {message}")
