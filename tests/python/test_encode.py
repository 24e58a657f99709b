"""`doh encode` of one input, as a person runs it; in processes of its own where that matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, closed, error_of, full_disk, run, run_alone, small_disk
from conftest import ctrl_c_after, read_all
from PIL import Image

import doh
from doh import metrics
from doh.cli import encode as encode_module
from doh.reference import MAGIC

pytest.importorskip("torch")


def test_the_source_is_not_overwritten(tmp_path, photo):
    before = photo.read_bytes()
    (tmp_path / "link.png").symlink_to(photo)
    for source, output in [(photo, photo), (tmp_path / "link.png", photo), (photo, tmp_path / "link.png")]:
        assert "is the very file that is read" in error_of(run("encode", source, "-o", output, *QUICK, "--latents", "40"))
    assert photo.read_bytes() == before


def test_a_file_on_stdout_is_nothing_but_the_file(tmp_path, photo):
    words = ["encode", photo, "-o", "/dev/stdout", *QUICK, "--latents", "40"]
    result = subprocess.run([sys.executable, "-m", "doh.cli", *map(str, words)], capture_output=True, timeout=120)
    assert result.returncode == 0 and b"dB decoded" in result.stderr, result.stderr
    assert doh.decode(result.stdout).shape == (20, 28, 3)


def test_the_device_may_come_from_settings(tmp_path, photo):
    words = [word for word in QUICK if word not in ("--device", "cpu")]
    assert "device 'gpu7' cannot be used" in error_of(run("encode", photo, "-o", tmp_path / "o.doh", *words, "--set", "device=gpu7"))


def test_encode_and_everything_after_it(tmp_path, photo):
    output = tmp_path / "o.doh"
    result = run("encode", photo, "-o", output, *QUICK, "--latents", "60", "--seed", "3")
    assert result.returncode == 0, result.stderr
    samples, reference = doh.decode(output), np.array(Image.open(photo))
    info = doh.read_info(output)
    assert (info.latents, info.seed, info.width, info.depth) == (60, 3, 8, 2)
    psnr = metrics.psnr(samples, reference, 255)
    assert result.stdout.startswith(f"{output}: {output.stat().st_size:,} bytes, {info.bpp:.4f} bpp, {psnr:.2f} dB decoded, ")
    assert len(result.stdout.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["o.doh", "photo.png"]
    assert run("verify", output).returncode == 0
    assert json.loads(run("eval", output, photo, "--json").stdout)["bytes"] == output.stat().st_size
    again = run("encode", photo, "-o", tmp_path / "p.doh", *QUICK, "--latents", "60", "--seed", "3")
    assert again.returncode == 0 and (tmp_path / "p.doh").read_bytes() == output.read_bytes()


def test_settings_come_from_preset_then_file_then_options(tmp_path, photo):
    (tmp_path / "c.toml").write_text("depth = 3\nwidth = 9\nseed = 8\n")
    words = ["--preset", "fast", "--config", tmp_path / "c.toml", "--set", "width=7", "--set", "steps=5", "--latents", "40", "--device", "cpu"]
    assert run("encode", photo, "-o", tmp_path / "o.doh", *words).returncode == 0
    info = doh.read_info(tmp_path / "o.doh")
    assert (info.depth, info.width, info.seed, info.latents) == (3, 7, 8, 40)


@pytest.mark.parametrize(("option", "value", "limit"), [("--bytes", "300", 300), ("--bpp", "4.5", 4.5 * 20 * 28 / 8)])
def test_budgets_are_met_by_the_file(tmp_path, photo, option, value, limit):
    output = tmp_path / "o.doh"
    result = run("encode", photo, "-o", output, option, value, "--preset", "fast", "--set", "steps=60", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert 0.97 * limit <= output.stat().st_size <= limit


def test_warnings_of_the_source_are_shown(tmp_path, photo):
    Image.open(photo).convert("P").save(tmp_path / "p.png")
    result = run("encode", tmp_path / "p.png", "-o", tmp_path / "o.doh", *QUICK, "--latents", "40")
    assert result.returncode == 0 and f"doh: {tmp_path}/p.png: the palette converted to 8-bit RGB\n" in result.stderr


@pytest.mark.filterwarnings("default:training diverged")
def test_warnings_of_the_training_take_one_line_each(tmp_path, photo):
    wild = ["--set", "steps=240", "--set", "lr_latents=4", "--set", "depth=4", "--set", "batch=300"]
    result = run("encode", photo, "-o", tmp_path / "o.doh", *QUICK, *wild, "--latents", "90")
    lines = [line for line in result.stderr.splitlines() if "diverged" in line]
    assert lines and all(line.startswith("doh: training diverged before step ") for line in lines) and ".py" not in result.stderr


def test_a_full_disk_at_the_end(tmp_path, photo):
    """The file does not fit: one line, nothing half-written, and the target as it was."""
    target = tmp_path / "o.doh"
    target.write_bytes(MAGIC + b"old")
    result = run_alone("encode", photo, "-o", target, *QUICK, "--latents", "60", preexec_fn=small_disk)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.splitlines()[-1] == f"doh: cannot write {target}: File too large"
    assert f"doh: the state of the training is not saved: cannot write {target}.ckpt: File too large\n" in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["o.doh", "photo.png"] and target.read_bytes() == MAGIC + b"old"
    result = run("encode", photo, "-o", full_disk(tmp_path, "full.doh"), *QUICK, "--latents", "60")
    assert result.returncode == 1 and result.stderr.splitlines()[-1] == f"doh: cannot write {tmp_path}/full.doh: No space left on device"


def test_what_is_no_doh_file_is_not_replaced(tmp_path, photo):
    over, before = tmp_path / "over.png", photo.read_bytes()
    over.write_bytes(before)
    assert error_of(run("encode", photo, "-o", over, *QUICK)) == (
        f"doh: {over} is there already, and is no .doh file: give the output another name, or remove it"
    )
    assert over.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["over.png", "photo.png"]
    for content in (b"", MAGIC + b"damaged"):
        (tmp_path / "o.png").write_bytes(content)
        assert run("encode", photo, "-o", tmp_path / "o.png", *QUICK, "--latents", "40").returncode == 0
        assert doh.decode(tmp_path / "o.png").shape == (20, 28, 3)


# Interrupts and checkpoints

SLOW = [*QUICK, "--set", "steps=12000", "--latents", "60"]


def encoding(photo: Path, output: Path, *words: str) -> subprocess.Popen:
    """A process of its own that has begun to train."""
    command = [sys.executable, "-m", "doh.cli", "encode", str(photo), "-o", str(output), *SLOW, *words]
    hears = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, and not here alone
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears)
    while "/12,000" not in (line := process.stderr.readline()):
        assert line, "it ended before its first step"
    return process


@pytest.mark.parametrize(("number", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "ended by SIGTERM"), ("SIGHUP", 129, "ended by SIGHUP")])
def test_interrupt_and_resume(number, code, said, tmp_path, photo):
    """Ctrl-C, and signals that end a program: the code, no output, a checkpoint; --resume ends where an undisturbed run ends."""
    process = encoding(photo, tmp_path / "o.doh")
    process.send_signal(getattr(signal, number))
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code and output == "" and "Traceback" not in errors
    checkpoint = tmp_path / "o.doh.ckpt"
    assert f"the run's state is in {checkpoint}" in errors and errors.endswith(f"doh: {said}\n")
    assert sorted(os.listdir(tmp_path)) == ["o.doh.ckpt", "photo.png"]
    resumed = run("encode", photo, "-o", tmp_path / "o.doh", *SLOW, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(os.listdir(tmp_path)) == ["o.doh", "photo.png"]
    assert run("encode", photo, "-o", tmp_path / "p.doh", *SLOW).returncode == 0
    assert (tmp_path / "o.doh").read_bytes() == (tmp_path / "p.doh").read_bytes()


@pytest.mark.filterwarnings("default:.*was there already")
def test_a_fresh_start_does_not_lose_the_state_of_an_interrupted_run(tmp_path, photo):
    words = ["encode", photo, "-o", tmp_path / "o.doh", *QUICK, "--latents", "60", "--set", "checkpoint_seconds=0"]
    checkpoint, aside = tmp_path / "o.doh.ckpt", tmp_path / "o.doh.ckpt.old"
    with ctrl_c_after(11):
        assert run(*words).returncode == 130
    first = checkpoint.read_bytes()
    with ctrl_c_after(5):
        again = run(*words)
    said = f"doh: {checkpoint} was there already: as long as this run lasts it is {aside}; to go on from it, rename it back and resume\n"
    assert again.returncode == 130 and said in again.stderr and aside.read_bytes() == first != checkpoint.read_bytes()
    (tmp_path / "o.doh.ckpt.old2").write_text("a letter")
    assert run(*words, "--resume").returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["o.doh", "o.doh.ckpt.old2", "photo.png"]  # the letter is no checkpoint
    checkpoint.write_bytes(first)
    assert run(*words).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["o.doh", "o.doh.ckpt.old2", "photo.png"]


def test_the_state_lies_beside_the_file_that_is_written(tmp_path, photo):
    """Not beside a link to it, such as /dev/stdout; nowhere for a pipe."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.doh"
    link.symlink_to(tmp_path / "real" / "o.doh")
    with ctrl_c_after(11):
        assert run("encode", photo, "-o", link, *QUICK, "--latents", "60").returncode == 130
    assert os.listdir(tmp_path / "real") == ["o.doh.ckpt"] and sorted(os.listdir(tmp_path)) == ["link.doh", "photo.png", "real"]
    resumed = run("encode", photo, "-o", link, *QUICK, "--latents", "60", "--resume")
    assert resumed.returncode == 0 and "there is no" not in resumed.stderr and os.listdir(tmp_path / "real") == ["o.doh"]
    script = "import sys; from pathlib import Path; from doh.cli.output import state_of; sys.stderr.write(str(state_of(Path('/dev/stdout'))))"
    with open(tmp_path / "f.doh", "wb") as file:
        for stdout, where in ((file, f"{tmp_path}/f.doh.ckpt"), (subprocess.PIPE, "None"), (subprocess.DEVNULL, "None")):
            assert subprocess.run([sys.executable, "-c", script], stdout=stdout, stderr=subprocess.PIPE, text=True, check=True).stderr == where


def test_a_state_that_is_not_of_this_run_is_not_said_to_be(tmp_path, photo, monkeypatch):
    def read(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "o.doh.ckpt").write_text("of another run")
    monkeypatch.setattr(encode_module, "read_signal", read)
    for words in ([], ["--resume"]):
        result = run("encode", photo, "-o", tmp_path / "o.doh", *QUICK, *words)
        assert result.returncode == 130 and "state" not in result.stderr and result.stderr.endswith("doh: interrupted\n")
    assert (tmp_path / "o.doh.ckpt").read_text() == "of another run"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)], ids=["ctrl-c", "full disk"])
def test_what_was_trained_but_not_written_is_kept(error, code, tmp_path, photo, monkeypatch):
    def write(path, data):
        raise error

    words = ["encode", photo, "-o", tmp_path / "o.doh", *QUICK, "--latents", "60"]
    with monkeypatch.context() as patch:
        patch.setattr(encode_module, "write_atomic", write)
        result = run(*words)
    assert result.returncode == code and f"no file written; the run's state is in {tmp_path}/o.doh.ckpt" in result.stderr
    assert run(*words, "--resume").returncode == 0 and run("verify", tmp_path / "o.doh").returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["o.doh", "photo.png"]


def test_a_checkpoint_that_cannot_be_removed_is_a_remark(tmp_path, photo, monkeypatch):
    def clear(state):
        raise PermissionError(13, "Permission denied", str(state))

    monkeypatch.setattr("doh.train.checkpoint.clear", clear)
    result = run("encode", photo, "-o", tmp_path / "o.doh", *QUICK, "--latents", "60")
    assert result.returncode == 0 and "doh: the output is written, but a checkpoint beside it cannot be removed: [Errno 13]" in result.stderr


@pytest.mark.parametrize("module", ["typer", "doh.cli.app", "doh.cli.encode", "torch"])
def test_ctrl_c_amid_the_first_imports(module, photo):
    script = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from doh.cli import main
sys.argv = ["doh", "encode", sys.argv[2], "-o", sys.argv[2] + ".doh"]
main()
"""
    script = script.replace("name == sys.argv[1]", f"name == {module!r}")
    done = subprocess.run([sys.executable, "-c", script, module, str(photo)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and "Traceback" not in done.stderr, done


# Time, kernels, and nobody who listens


def test_the_time_includes_that_of_reading(tmp_path, photo, monkeypatch):
    from doh.train import fit

    times, read, begin = [], encode_module.read_signal, fit.Training.__init__

    def reading(*arguments, **options):
        times.append(time.monotonic())
        return read(*arguments, **options)

    def beginning(self, *arguments, started, **options):
        times.append(started)
        begin(self, *arguments, started=started, **options)

    monkeypatch.setattr(encode_module, "read_signal", reading)
    monkeypatch.setattr(fit.Training, "__init__", beginning)
    assert run("encode", photo, "-o", tmp_path / "o.doh", *QUICK, "--latents", "60").returncode == 0
    read_at, started = times
    assert started <= read_at


def test_a_kernel_that_is_none_takes_one_line(tmp_path, photo, monkeypatch):
    pytest.importorskip("doh._train")
    monkeypatch.setenv("DOH_TRAIN_KERNEL", "foo")
    assert error_of(run("encode", photo, "-o", tmp_path / "o.doh", *QUICK)).startswith("doh: DOH_TRAIN_KERNEL is 'foo', which is no kernel")


@pytest.mark.parametrize("streams", [["stdout"], ["stdout", "stderr"]], ids=len)
def test_a_file_is_written_whether_or_not_anybody_reads_of_it(streams, tmp_path, photo):
    nobody = closed()
    command = [sys.executable, "-m", "doh.cli", "encode", str(photo), "-o", str(tmp_path / "o.doh"), *QUICK, "--latents", "40"]
    done = subprocess.run(command, **{"stderr": subprocess.PIPE} | dict.fromkeys(streams, nobody), timeout=120)
    os.close(nobody)
    assert done.returncode == 0 and not (done.stderr and b"Broken pipe" in done.stderr), done
    assert run("verify", tmp_path / "o.doh").returncode == 0 and sorted(os.listdir(tmp_path)) == ["o.doh", "photo.png"]


@pytest.mark.parametrize("many", [False, True])
def test_stderr_may_be_closed_or_full(many, tmp_path, photo):
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["encode", photo, "-o", f"{folder}/" if many else folder / "photo.doh", *QUICK, "--latents", "40"]
    with open("/dev/full", "wb") as full:
        for options in ({"stderr": full}, {"stderr": None, "preexec_fn": partial(os.close, 2)}):
            command = [sys.executable, "-m", "doh.cli", *map(str, words)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, **options)
            assert done.returncode == 0 and "dB decoded" in done.stdout and "fit" not in done.stdout
            assert os.listdir(folder) == ["photo.doh"]


# Progress


def test_progress_lines():
    from types import SimpleNamespace

    from doh.cli.progress import clock, describe

    report = SimpleNamespace(phase="fit", step=1200, steps=8000, psnr=27.456, rate=41.4, remaining_s=164.4, bytes=5000)
    assert describe(report) == "fit 1,200/8,000, 27.46 dB, 41 steps/s, about 5,000 bytes, 2:44 left"
    start = SimpleNamespace(phase="fit", step=0, steps=8000, psnr=float("inf"), rate=0.0, remaining_s=0.0, bytes=0)
    assert describe(start) == "fit 0/8,000"
    assert [clock(s) for s in (0, 59.6, 3600, 7384)] == ["0:00", "1:00", "1:00:00", "2:03:04"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_live_progress_on_a_terminal(tmp_path, photo):
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "doh.cli", "encode", str(photo), "-o", str(tmp_path / "o.doh"), "--latents", "60"]
    process = subprocess.Popen(
        [*words, *QUICK, "--set", "steps=1500"], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    )
    os.close(theirs)
    seen = read_all(ours)
    assert process.wait(timeout=60) == 0 and b"starting " in seen and b"/1,500" in seen and b" left" in seen
    process.stdout.close()
