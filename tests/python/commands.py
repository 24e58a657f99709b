"""The command line as tests run it, within the process and in one of its own, and what they have it meet."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from doh import container
from doh.cli import main
from doh.model import BiasScale, QuantModel, Scale, Target

#: A short training, for tests of all else.
QUICK = ["--preset", "fast", "--set", "steps=30", "--set", "width=8", "--set", "depth=2", "--device", "cpu", "--threads", "1"]


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*words: object) -> Result:
    """`doh WORDS`, within this process: torch is imported once."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["doh", *map(str, words)])
        main()
    return Result(end.value.code or 0, out.getvalue(), err.getvalue())


def run_alone(*words: object, **options) -> subprocess.CompletedProcess:
    """The same in a process of its own."""
    return subprocess.run([sys.executable, "-m", "doh.cli", *map(str, words)], capture_output=True, text=True, timeout=120, **options)


def error_of(result: Result | subprocess.CompletedProcess, code: int = 1) -> str:
    """The one line that a failed command leaves on stderr."""
    assert result.returncode == code and result.stdout == "", result
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("doh: "), result.stderr
    return lines[0]


def random_file(path: Path, shape=(24, 36), channels=3, sample_type="u8", kind="image") -> Path:
    """A valid file of a random network: no training needed."""
    rng = np.random.default_rng(7)
    target = Target(len(shape), channels, width=8, depth=2, frequencies=2)
    model = QuantModel(
        signal=kind,
        sample_type=sample_type,
        shape=shape,
        target=target,
        generator="tied",
        seed=5,
        latent_codes=rng.integers(-100, 101, 90).astype(np.int32),
        scales=(Scale(100, 5, 14), Scale(100, 5, 14), Scale(0, 7, 14)),
        bias_scale=BiasScale(0, 10),
        bias_codes=rng.integers(-100, 101, (2, 8)).astype(np.int32),
        output_bias_codes=np.full(channels, 2048, np.int32),
    )
    path.write_bytes(container.pack(model))
    return path


def without_modules(modules: str, *words: object) -> subprocess.CompletedProcess:
    """Runs a command where some modules (separated by commas) cannot be imported."""
    script = f"import sys\nfor m in {modules!r}.split(','): sys.modules[m] = None\nfrom doh.cli import main\nmain()"
    return subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, timeout=60)


def full_disk(tmp_path: Path, name: str) -> Path:
    """A name that stands for the device on which every write finds the disk full."""
    (tmp_path / name).symlink_to("/dev/full")
    return tmp_path / name


def closed() -> int:
    """The writing end of a pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


def small_disk() -> None:
    """In a new process: no file may grow over 20 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
