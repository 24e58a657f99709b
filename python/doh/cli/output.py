"""Where an encoded file goes: what it may replace, and the checkpoint beside it."""

from __future__ import annotations

import os
from pathlib import Path

from doh.cli.report import check_not_itself, say
from doh.errors import EncodeError
from doh.files import StateFile, check_target, read_bytes
from doh.reference import MAGIC


def check_output(source: Path, output: Path) -> None:
    """Raises FileError where nothing can be written, EncodeError where the source itself, or what is no .doh file, would be replaced."""
    check_target(output)
    check_not_itself(source, output)
    if output.is_file() and read_bytes(output, len(MAGIC)) not in (b"", MAGIC):
        raise EncodeError(f"{output} is there already, and is no .doh file: give the output another name, or remove it")


def state_of(output: Path) -> StateFile | None:
    """Where the state of its training is kept, OUT.doh.ckpt; beside the file itself where OUT is a link to it, as /dev/stdout may be; none beside a device."""
    if os.path.exists(output) and not os.path.isfile(output):
        return None
    return StateFile(f"{os.path.realpath(output) if os.path.islink(output) else output}.ckpt")


def clear(state: StateFile | None) -> None:
    """Once the output is written: removes the state of its training, and those that were set aside for it; says so where that is not possible."""
    from doh.train.checkpoint import clear as remove

    try:
        if state:
            remove(state)
    except OSError as error:
        say(f"the output is written, but a checkpoint beside it cannot be removed: {error}")
