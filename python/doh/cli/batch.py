"""`doh encode` of many inputs: DIR/<name>.doh for each, at the same time; what goes wrong with one stops no other; --resume does what is left."""

from __future__ import annotations

import time
import traceback
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from doh import container
from doh.cli.progress import show_board
from doh.cli.report import fail, say
from doh.cli.result import NO_LIMITS, tell
from doh.errors import DohError, EncodeError
from doh.files import FileError, check_target, read_bytes, write_atomic
from doh.signal import Signal
from doh.signals import extension_of, read_signal

if TYPE_CHECKING:
    from doh.cli.progress import Board
    from doh.config import Config


def run(sources: list[Path], folder: Path, config: Config, resume: bool, reading: dict[str, Any]) -> None:
    """Encodes every source, read with the options `reading`, into `folder`, which is made if need be (not its parents). Ends with exit code 1 if any failed.

    Each has a checkpoint beside its output, which goes once that is written. With `resume`, outputs that are complete are left as they are.
    Raises EncodeError for sources that would have the same output, FileError, and KeyboardInterrupt after saying how to go on.
    """
    outputs = [folder / f"{name}.doh" for name in names_of(sources)]
    made = make_folder(folder)
    try:
        for output in outputs:
            check_target(output)
        left = [number for number, output in enumerate(outputs) if not (resume and complete(output, config.cores))]
        batch = Batch([sources[number] for number in left], [outputs[number] for number in left], config, reading)
        if left:
            batch.encode(resume)
        parts = [f"{len(batch.psnrs)} file{'' if len(batch.psnrs) == 1 else 's'} written"]
        if batch.psnrs:
            parts += [f"{batch.bytes:,} bytes", f"mean {fmean(batch.psnrs):.2f} dB decoded"]
        kept = [f"{len(sources) - len(left)} left as they were"] if len(left) < len(sources) else []
        failed = [f"{batch.failed} failed"] if batch.failed else []
        print(f"{folder}: {', '.join([*parts, *kept, *failed, f'{time.monotonic() - batch.started:.1f} s'])}")
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
        return False
    if folder.exists():
        raise FileError(f"cannot write into {folder}: it is no folder")
    if not folder.parent.is_dir():
        raise FileError(f"cannot write into {folder}: the folder {folder.parent} does not exist")
    folder.mkdir()
    return True


def complete(output: Path, threads: int) -> bool:
    """Whether a file needs nothing more: it is there, undamaged, and no checkpoint of a newer run lies beside it. Says so."""
    if not output.exists() or checkpoint_of(output).exists():
        return False
    try:
        container.verify(read_bytes(output), NO_LIMITS, threads)
    except DohError as error:
        say(f"{output} is not a complete file ({error}): it is encoded again")
        return False
    say(f"{output} is complete: it is left as it is")
    return True


def checkpoint_of(output: Path) -> Path:
    return Path(f"{output}.ckpt")


class Batch:
    """One encode_many() and what comes of it."""

    def __init__(self, sources: list[Path], outputs: list[Path], config: Config, reading: dict[str, Any]) -> None:
        self.sources, self.outputs, self.config, self.reading = sources, outputs, config, reading
        self.started = time.monotonic()
        self.signals: dict[int, tuple[Signal, list[str], float]] = {}  # of those at work, with remarks and the time when they began
        self.psnrs: list[float] = []
        self.bytes = self.failed = 0

    def encode(self, resume: bool) -> None:
        from doh.codec import encode_many

        checkpoints = [checkpoint_of(output) for output in self.outputs]
        unused = [checkpoint for checkpoint in checkpoints if checkpoint.exists()]
        if unused and not resume:
            which = f"{unused[0]} and {len(unused) - 1} more" if len(unused) > 1 else f"{unused[0]}"
            say(f"not used: {which} of an interrupted run; to go on from there, add --resume")
        try:
            with show_board([source.name for source in self.sources]) as board:
                encode_many(
                    [partial(self.read, number) for number in range(len(self.sources))],
                    config=self.config,
                    progress=board.report,
                    checkpoints=checkpoints,
                    resume=resume,
                    on_result=partial(self.end, board),
                )
        except KeyboardInterrupt:
            states = sum(checkpoint.exists() for checkpoint in checkpoints)
            say(f"{len(self.psnrs)} written, {states} under way: the same command with --resume goes on from there")
            raise

    def read(self, number: int) -> Signal:
        started = time.monotonic()
        signal, notes = read_signal(self.sources[number], **self.reading)
        self.signals[number] = signal, notes, started
        return signal

    def end(self, board: Board, number: int, result: bytes | Exception) -> None:
        """Writes a result, or says what went wrong."""
        signal, notes, started = self.signals.pop(number, (None, [], 0.0))  # nothing of a source that could not be read
        for note in notes:
            say(note)
        failed = True
        try:
            if isinstance(result, Exception):
                raise result
            assert signal is not None
            self.write(number, result, signal, started)
            failed = False
        except (DohError, EncodeError, OSError, MemoryError) as error:
            message = " ".join(str(error).split()) or "not enough memory"
            named = str(self.sources[number]) in message or isinstance(result, bytes)  # what could not be written is named by its output
            say(message if named else f"{self.sources[number]}: {message}")
        except Exception as error:  # a bug: it keeps its traceback
            traceback.print_exception(error)
            say(f"{self.sources[number]}: not encoded, for the reason above")
        self.failed += failed
        board.end(number, failed)

    def write(self, number: int, data: bytes, signal: Signal, started: float) -> None:
        """Raises FileError."""
        output = self.outputs[number]
        write_atomic(output, data)
        checkpoint_of(output).unlink(missing_ok=True)
        seconds = time.monotonic() - started
        self.psnrs.append(tell(output, data, signal, seconds, self.config.cores))
        self.bytes += len(data)
