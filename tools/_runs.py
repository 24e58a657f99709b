"""What programs share that measure for hours and can be stopped: progress on stderr, one run in a folder, and what a record says about where it is from."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import doh
from doh.codec import Source
from doh.config import Config

if TYPE_CHECKING:
    from doh.train.fit import Progress


def say(text: str) -> None:
    """A line on stderr, in place of a line of progress."""
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


@contextmanager
def alone(out: Path, who: str = "program") -> Iterator[None]:
    """Two runs would write the same files. Other requests to end than Ctrl-C are as Ctrl-C meanwhile. Raises OSError."""
    from doh.train.interrupts import as_ctrl_c

    with open(out / "lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another {who} is at work in {out}") from None
        with as_ctrl_c():
            yield


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def encoder_digest() -> str:
    """Of the sources of the encoder, so that a report can tell when they changed on the way."""
    package = Path(doh.__file__).parent
    paths = [package / "codec.py", package / "config.py", *sorted((package / "train").glob("*.py"))]
    compiled = find_spec("doh._train")  # the fused training step, where it was built
    if compiled and compiled.origin:
        paths.append(Path(compiled.origin))
    return digest(b"".join(path.read_bytes() for path in paths))


def encode_on(source: Source, config: Config, checkpoint: Path, progress: Callable[[Progress], None]) -> bytes:
    """doh.encode() that goes on from `checkpoint` if it lies there; one of another training is dropped, with a remark. Raises EncodeError, OSError."""
    from doh.codec import encode

    try:
        return encode(source, config=config, progress=progress, checkpoint=checkpoint, resume=True)
    except doh.EncodeError as error:
        if not str(error).startswith(str(checkpoint)):  # every error of a checkpoint names it first
            raise
        say(f"begun anew: {error}")
    checkpoint.unlink()
    return encode(source, config=config, progress=progress, checkpoint=checkpoint, resume=True)


def first_step(p: Progress) -> int:
    """Where the training that gives this report began: 0, or the step of the checkpoint that it went on from."""
    return p.step - round(p.rate * p.elapsed_s)


def device_name(name: str) -> str:
    """In words, of a setting `device`. Raises EncodeError for one that is not there."""
    import torch

    from doh.train.engine import device_of

    device = device_of(name)
    if device.type == "cpu":
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        except (OSError, StopIteration):
            return platform.machine()
    return torch.cuda.get_device_name(device)
