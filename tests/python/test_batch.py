"""`doh encode` of many inputs, and with a budget of time."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import QUICK, closed, error_of, full_disk, run, run_alone
from conftest import read_all
from PIL import Image

import doh
from doh import container
from doh.cli import batch as batch_module
from doh.cli import output as output_module
from doh.cli.batch import names_of
from doh.cli.encode import choose
from doh.cli.progress import Board
from doh.errors import EncodeError
from doh.files import FileError

pytest.importorskip("torch")

from doh.train import many
from doh.train.run import Run

SETTINGS = [*QUICK, "--latents", "60"]


@pytest.fixture
def inputs(tmp_path) -> list[Path]:
    """Two pictures and an array."""
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 256, shape, np.uint8) for shape in ((20, 28, 3), (24, 16), (12, 12, 3))]
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.npy")]
    for array, path in zip(arrays[:2], paths):
        Image.fromarray(array).save(path)
    np.save(paths[2], arrays[2])
    return paths


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_each_file_is_the_one_that_a_command_of_its_own_writes(tmp_path, inputs, threads):
    folder = tmp_path / "out"
    result = run("encode", *inputs, "-o", f"{folder}/", *SETTINGS, "--threads", threads)
    assert result.returncode == 0, result.stderr
    assert listed(folder) == ["a.doh", "b.doh", "c.doh"]
    files = {}
    for path in inputs:
        output = folder / f"{path.stem}.doh"
        single = run("encode", path, "-o", tmp_path / "one.doh", *SETTINGS)
        assert output.read_bytes() == (tmp_path / "one.doh").read_bytes()
        files[str(output)] = single.stdout.split(": ", 1)[1].rsplit(",", 1)[0]
    *lines, summary = result.stdout.splitlines()
    assert {line.rsplit(",", 1)[0] for line in lines} == {f"{name}: {rest}" for name, rest in files.items()}
    mean = np.mean([float(rest.rsplit(" ", 3)[1]) for rest in files.values()])
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert summary.startswith(f"{folder}: 3 files written, {total:,} bytes, mean ") and abs(float(summary.split("mean ")[1].split()[0]) - mean) < 0.011


def test_when_the_output_is_a_folder(tmp_path, inputs):
    folder = tmp_path / "there"
    folder.mkdir()
    assert run("encode", inputs[0], "-o", folder, *SETTINGS).returncode == 0 and listed(folder) == ["a.doh"]
    assert run("encode", inputs[0], "-o", f"{tmp_path}/made/", *SETTINGS).returncode == 0 and listed(tmp_path / "made") == ["a.doh"]
    assert run("encode", *inputs[:2], "-o", tmp_path / "new", *SETTINGS).returncode == 0 and listed(tmp_path / "new") == ["a.doh", "b.doh"]
    assert run("encode", inputs[0], "-o", tmp_path / "file", *SETTINGS).returncode == 0 and (tmp_path / "file").is_file()
    assert "3 inputs do not go into one file" in error_of(run("encode", *inputs, "-o", tmp_path / "all.doh", *SETTINGS))
    assert "it is no folder" in error_of(run("encode", *inputs, "-o", tmp_path / "file", *SETTINGS))
    assert f"the folder {tmp_path}/no does not exist" in error_of(run("encode", *inputs, "-o", f"{tmp_path}/no/where/", *SETTINGS))


def test_names():
    paths = [Path(name) for name in ("x/a.png", "b.tar.JPG", "scan.nii.gz", "plain", ".hidden")]
    assert names_of(paths) == ["a", "b.tar", "scan", "plain", ".hidden"]
    with pytest.raises(EncodeError, match=r"x/a.png and y/a.npy would both become a.doh"):
        names_of([Path("x/a.png"), Path("y/a.npy")])


def test_equal_names_are_refused_before_anything_starts(tmp_path, inputs):
    twin = shutil.copy(inputs[0], tmp_path / "b.bmp")
    before = listed(tmp_path)
    assert "would both become b.doh" in error_of(run("encode", *inputs, twin, "-o", tmp_path / "out", *SETTINGS))
    assert listed(tmp_path) == before


def test_one_that_fails_stops_no_other(tmp_path, inputs):
    (tmp_path / "letter.png").write_text("a letter, not a picture\n" * 9)
    np.save(tmp_path / "large.npy", np.zeros((500, 500, 40), np.uint8))
    folder = tmp_path / "out"
    folder.mkdir()
    full_disk(folder, "b.doh")
    sources = [tmp_path / "letter.png", inputs[0], tmp_path / "none.png", inputs[1], tmp_path / "large.npy", inputs[2]]
    result = run("encode", *sources, "-o", folder, *SETTINGS)
    assert result.returncode == 1 and listed(folder) == ["a.doh", "b.doh", "c.doh"]
    for name in ("a", "c"):
        doh.verify(folder / f"{name}.doh")
    errors = [line for line in result.stderr.splitlines() if line.startswith("doh: ")]
    assert any(line.startswith(f"doh: {tmp_path}/letter.png: not an image") for line in errors)
    assert f"doh: cannot read {tmp_path}/none.png: No such file or directory" in errors
    assert f"doh: cannot write {folder}/b.doh: No space left on device" in errors
    assert any(line.startswith(f"doh: {tmp_path}/large.npy: ") for line in errors)
    assert errors[-1] == "doh: 4 of 6 could not be encoded" and len(errors) == 5
    assert result.stdout.splitlines()[-1].startswith(f"{folder}: 2 files written, ") and ", 4 failed, " in result.stdout.splitlines()[-1]


def test_nothing_is_left_where_all_fail(tmp_path):
    result = run("encode", tmp_path / "none.png", "-o", f"{tmp_path}/out/", *SETTINGS)
    assert result.returncode == 1 and result.stdout.startswith(f"{tmp_path}/out: 0 files written, 1 failed, ") and listed(tmp_path) == []


def test_a_bug_keeps_its_traceback_and_stops_no_other(tmp_path, inputs, monkeypatch):
    def read(path, do=batch_module.read_signal):
        if path.name == "b.png":
            raise RuntimeError("a bug")
        return do(path)

    monkeypatch.setattr(batch_module, "read_signal", read)
    result = run("encode", *inputs, "-o", tmp_path / "out", *SETTINGS)
    assert result.returncode == 1 and "Traceback" in result.stderr and "RuntimeError: a bug" in result.stderr and listed(tmp_path / "out") == ["a.doh", "c.doh"]


def test_remarks_name_the_source(tmp_path, inputs):
    Image.open(inputs[0]).convert("P").save(tmp_path / "p.png")
    result = run("encode", inputs[1], tmp_path / "p.png", "-o", tmp_path / "out", *SETTINGS)
    assert result.returncode == 0 and f"doh: {tmp_path}/p.png: the palette converted to 8-bit RGB\n" in result.stderr


def test_resume_leaves_what_is_complete(tmp_path, inputs):
    folder = tmp_path / "out"
    assert run("encode", *inputs, "-o", folder, *SETTINGS).returncode == 0
    wanted = {path: path.read_bytes() for path in folder.iterdir()}
    (folder / "b.doh").write_bytes(wanted[folder / "b.doh"][:-3])
    (folder / "c.doh").unlink()
    before = (folder / "a.doh").stat().st_mtime_ns
    result = run("encode", *inputs, "-o", folder, *SETTINGS, "--resume")
    assert result.returncode == 0 and {path: path.read_bytes() for path in folder.iterdir()} == wanted
    assert (folder / "a.doh").stat().st_mtime_ns == before
    assert f"doh: {folder}/a.doh is complete: it is left as it is" in result.stderr and f"doh: {folder}/b.doh is not a complete file (" in result.stderr
    assert "2 files written, " in result.stdout and ", 1 left as they were, " in result.stdout
    nothing = run("encode", *inputs, "-o", folder, *SETTINGS, "--resume")
    assert nothing.returncode == 0 and nothing.stdout.startswith(f"{folder}: 0 files written, 3 left as they were, ")
    again = run("encode", *inputs, "-o", folder, *SETTINGS, "--seed", "5")
    assert again.returncode == 0 and {doh.read_info(path).seed for path in folder.iterdir()} == {5}


def test_a_checkpoint_is_newer_than_the_file_beside_it(tmp_path, inputs):
    folder = tmp_path / "out"
    assert run("encode", *inputs[:2], "-o", folder, *SETTINGS).returncode == 0
    (folder / "a.doh.ckpt").touch()
    result = run("encode", *inputs[:2], "-o", folder, *SETTINGS, "--resume")
    assert f"{folder}/a.doh.ckpt is no checkpoint of doh, or a damaged checkpoint" in result.stderr and f"{folder}/b.doh is complete" in result.stderr


def test_resume_looks_whether_a_file_is_of_its_source_and_of_the_budget(tmp_path, inputs):
    """Another picture of that name, another kind, another rate: each is said, and encoded again."""
    folder = tmp_path / "out"
    words = [*QUICK, "--resume"]
    assert run("encode", *inputs, "-o", folder, *words, "--latents", "60").returncode == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "b.doh").write_bytes(before["a.doh"])
    np.save(inputs[2], np.zeros((12, 12, 12, 2), np.uint8))
    again = run("encode", *inputs, "-o", folder, *words, "--latents", "60")
    assert again.returncode == 0 and "2 files written" in again.stdout and "1 left as they were" in again.stdout
    assert f"doh: {folder}/b.doh holds another signal (image 20 x 28 x 3 of u8, not image 24 x 16 x 1 of u8): it is encoded again\n" in again.stderr
    assert f"doh: {folder}/c.doh holds another signal (image 12 x 12 x 3 of u8, not array 12 x 12 x 12 x 2 of u8): it is encoded again\n" in again.stderr
    assert (folder / "b.doh").read_bytes() == before["b.doh"] and (folder / "a.doh").read_bytes() == before["a.doh"]
    fewer = run("encode", inputs[0], "-o", f"{folder}/", *words, "--latents", "50")
    assert f"doh: {folder}/a.doh has 60 latents, not the 50 that are asked for: it is encoded again\n" in fewer.stderr and fewer.returncode == 0
    wide = ["--preset", "fast", "--set", "steps=30", "--device", "cpu", "--threads", "1", "--resume"]
    for size, said in (
        ("300", "it is encoded again"),
        ("300", "is complete"),
        ("301", "is complete"),
        ("280", "not the 280 that"),
        ("400", "not the 400 that"),
    ):
        budget = run("encode", inputs[0], "-o", f"{folder}/", *wide, "--bytes", size)
        assert budget.returncode == 0 and said in budget.stderr, (size, budget)
    parts = [*words, "--set", "parts=2x2", "--latents", "200"]
    assert run("encode", inputs[0], "-o", f"{folder}/", *parts).returncode == 0 and "is complete" in run("encode", inputs[0], "-o", f"{folder}/", *parts).stderr


def test_resume_does_not_decode_what_is_no_file_of_the_source(tmp_path, inputs, monkeypatch):
    """A small file of a gigantic signal; and samples that do not match their checksum are still found."""
    folder = tmp_path / "out"
    assert run("encode", *inputs[:2], "-o", folder, *SETTINGS).returncode == 0
    wanted = (folder / "a.doh").read_bytes()
    (folder / "a.doh").write_bytes(container.pack_unsealed(dataclasses.replace(container.unpack(wanted), shape=(1 << 19, 1 << 19))))
    (folder / "b.doh").write_bytes(container.pack_unsealed(dataclasses.replace(container.unpack(folder / "b.doh"), samples_crc=5)))
    result = run("encode", *inputs[:2], "-o", folder, *SETTINGS, "--resume")
    assert result.returncode == 0 and (folder / "a.doh").read_bytes() == wanted
    said = "holds another signal (image 524288 x 524288 x 3 of u8, not image 20 x 28 x 3 of u8): it is encoded again"
    assert f"doh: {folder}/a.doh {said}\n" in result.stderr and f"doh: {folder}/b.doh is not a complete file (BAD_SAMPLES: " in result.stderr


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=str)
def test_an_output_that_cannot_be_used_fails_alone(resume, tmp_path, inputs, monkeypatch):
    folder = tmp_path / "out"
    (folder / "a.doh").mkdir(parents=True)
    (folder / "b.doh").write_text("a letter")
    result = run("encode", *inputs, "-o", folder, *SETTINGS, *resume)
    assert result.returncode == 1 and listed(folder) == ["a.doh", "b.doh", "c.doh"]
    assert f"doh: cannot write {folder}/a.doh: it is a folder\n" in result.stderr
    assert f"doh: {folder}/b.doh is there already, and is no .doh file: give the output another name, or remove it\n" in result.stderr
    assert result.stderr.endswith("doh: 2 of 3 could not be encoded\n") and doh.verify(folder / "c.doh")

    def unreadable(path, *rest, do=output_module.read_bytes):
        if path.name == "c.doh":
            raise FileError(f"cannot read {path}: Permission denied")
        return do(path, *rest)

    monkeypatch.setattr(output_module, "read_bytes", unreadable)
    shutil.rmtree(folder / "a.doh")
    result = run("encode", *inputs, "-o", folder, *SETTINGS, *resume)
    assert result.returncode == 1 and f"doh: cannot read {folder}/c.doh: Permission denied\n" in result.stderr and "1 file written" in result.stdout


def test_interrupt_and_resume(tmp_path, inputs):
    """Ctrl-C: code 130, a checkpoint for each that is at work; --resume ends where an undisturbed run ends."""
    folder = tmp_path / "out"
    settings = [*SETTINGS, "--set", "steps=6000", "--threads", "2"]
    words = [sys.executable, "-m", "doh.cli", "encode", *map(str, inputs), "-o", f"{folder}/", *settings]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "/6,000" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and output == "" and "Traceback" not in errors
    states = [name for name in listed(folder) if name.endswith(".ckpt")]
    assert errors.splitlines()[-3] == f"doh: 0 written, {len(states)} under way: the same command with --resume goes on from there"
    assert errors.endswith("doh: interrupted\n") and states[0] == "a.doh.ckpt" and states == listed(folder)
    resumed = run("encode", *inputs, "-o", folder, *settings, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert run("encode", *inputs, "-o", tmp_path / "again", *settings).returncode == 0
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()}


@pytest.mark.filterwarnings("default:.*was there already")
def test_states_of_an_earlier_run_are_kept_until_the_files_are_written_and_are_not_counted(tmp_path, inputs, monkeypatch):
    """Ctrl-C amid the second of three."""
    folder, held = tmp_path / "out", []
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.doh.ckpt").write_text(f"state of {name}")

    def listen(self, *functions, do=many.Many._listen):
        held.append(self)
        do(self, *functions)

    def train(run, workers, do=Run.train):
        if run.step == 10 and run.signal.channels == 1:
            signal.raise_signal(signal.SIGINT)
            assert held[0].stopping.wait(20)
        do(run, workers)

    with monkeypatch.context() as patch:
        patch.setattr(many.Many, "_listen", listen)
        patch.setattr(Run, "train", train)
        result = run("encode", *inputs, "-o", f"{folder}/", *SETTINGS)
    assert result.returncode == 130 and "doh: 1 written, 1 under way: the same command with --resume goes on from there\n" in result.stderr
    said = f"doh: {folder}/b.doh.ckpt was there already, and is no checkpoint of doh: it is {folder}/b.doh.ckpt.old now\n"
    assert said in result.stderr and (folder / "b.doh.ckpt.old").read_text() == "state of b" and (folder / "b.doh.ckpt").stat().st_size > 1000
    assert (folder / "c.doh.ckpt").read_text() == "state of c"  # its turn did not come


def test_what_was_trained_but_not_written_is_kept(tmp_path, inputs, monkeypatch):
    folder = tmp_path / "out"

    def write(path, data, do=batch_module.write_atomic):
        if path.name == "b.doh":
            raise FileError(f"cannot write {path}: No space left on device")
        do(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(batch_module, "write_atomic", write)
        result = run("encode", *inputs, "-o", folder, *SETTINGS)
    assert result.returncode == 1 and listed(folder) == ["a.doh", "b.doh.ckpt", "c.doh"]
    assert f"doh: cannot write {folder}/b.doh: No space left on device\n" in result.stderr
    again = run("encode", *inputs, "-o", folder, *SETTINGS, "--resume")
    assert again.returncode == 0 and "1 file written" in again.stdout and listed(folder) == ["a.doh", "b.doh", "c.doh"]


def test_files_count_as_written_whether_or_not_anybody_reads_of_it(tmp_path, inputs):
    nobody = closed()
    command = [sys.executable, "-m", "doh.cli", "encode", *map(str, inputs), "-o", f"{tmp_path}/out/", *SETTINGS]
    done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(nobody)
    assert done.returncode == 0 and "failed" not in done.stderr and "pipe" not in done.stderr, done
    assert listed(tmp_path / "out") == ["a.doh", "b.doh", "c.doh"]


def test_a_name_that_stdout_cannot_encode_stops_nothing(tmp_path, inputs):
    strange = inputs[0].rename(tmp_path / os.fsdecode(b"bad\xff.png"))
    done = run_alone("encode", strange, inputs[1], "-o", f"{tmp_path}/out/", *SETTINGS, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0 and f"{tmp_path}/out/bad\\udcff.doh: " in done.stdout, done
    assert listed(tmp_path / "out") == ["b.doh", os.fsdecode(b"bad\xff.doh")]


def test_a_name_that_is_too_long_stops_no_other(tmp_path, inputs):
    result = run("encode", tmp_path / ("a" * 253), inputs[1], "-o", tmp_path / "out", *SETTINGS)
    assert result.returncode == 1 and listed(tmp_path / "out") == ["b.doh"] and "a.doh: File name too long\n" in result.stderr


def test_a_report_that_fails_is_no_failure_of_the_file(tmp_path, inputs, monkeypatch):
    def tell(output, *rest):
        raise MemoryError

    monkeypatch.setattr(batch_module, "tell", tell)
    result = run("encode", inputs[0], "-o", f"{tmp_path}/out/", *SETTINGS)
    assert result.returncode == 0 and result.stdout.startswith(f"{tmp_path}/out: 1 file written, ")
    assert f"doh: {tmp_path}/out/a.doh is written, but could not be looked at (not enough memory)\n" in result.stderr


def test_what_diverges_is_named(tmp_path, inputs):
    """Two that do so at the same step; with the filters that Python has by itself."""
    shutil.copy(inputs[0], tmp_path / "twin.png")
    wild = ["--set", "steps=240", "--set", "lr_latents=4", "--set", "depth=4", "--set", "batch=300", "--latents", "90"]
    result = run_alone("encode", inputs[0], tmp_path / "twin.png", "-o", tmp_path / "out", *QUICK, *wild)
    said = [line.split(": ")[1] for line in result.stderr.splitlines() if "training diverged before step 1" in line or "out of bounds" in line]
    assert {str(inputs[0]), f"{tmp_path}/twin.png"} <= set(said), result.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize("results", ["terminal", "file"])
def test_live_progress_on_a_terminal(tmp_path, inputs, results):
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "doh.cli", "encode", *map(str, inputs), "-o", f"{tmp_path}/out/", *SETTINGS, "--set", "steps=6000", "--threads", "2"]
    with open(tmp_path / "stdout", "wb") as file:
        process = subprocess.Popen(
            words, stdout=theirs if results == "terminal" else file, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "160"}
        )
    os.close(theirs)
    seen = read_all(ours)
    assert process.wait(timeout=60) == 0
    for text in (b"0 of 3 done", b"2 of 3 done", b"a.png: fit ", b"b.png: fit ", b"/6,000", b" left"):
        assert text in seen, text
    results_at = seen if results == "terminal" else (tmp_path / "stdout").read_bytes()
    assert results_at.count(b"dB decoded") == 4 and (results == "terminal" or seen.count(b"dB decoded") == 0)


def report(step: int, steps: int = 100, rate: float = 10.0, elapsed: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(phase="fit", step=step, steps=steps, psnr=float("inf"), rate=rate, remaining_s=(steps - step) / rate, elapsed_s=elapsed, bytes=0)


def test_the_whole_of_many():
    now = 50.0
    board = Board(["a", "b", "c", "d", "e"], lambda: now)
    assert board.whole() == "0 of 5 done" and board.lines() == []
    now += 1
    board.report(0, report(10))
    assert board.whole() == "0 of 5 done, 0:49 left"  # a tenth of one in a second
    board.report(1, report(60))  # of which 50 in an earlier run
    assert board.whole() == "0 of 5 done, 0:22 left" and board.lines() == ["a: fit 10/100, 10 steps/s, 0:09 left", "b: fit 60/100, 10 steps/s, 0:04 left"]
    board.end(0, failed=True)
    assert board.whole() == "0 of 5 done, 1 failed, 0:34 left"
    board.end(1, failed=False)
    assert board.whole() == "1 of 5 done, 1 failed, 0:06 left" and board.lines() == []


# A budget of time


def test_time_clears_the_steps_that_are_not_set_with_it(tmp_path):
    (tmp_path / "c.toml").write_text("steps = 77\n")
    assert choose("fast", tmp_path / "c.toml", [], {"seconds": 5.0}).steps == 0 == choose("paper", None, [], {"seconds": 5.0}).epochs
    limited = choose("fast", None, ["steps=70", "width=8"], {"seconds": 5.0, "latents": 3})
    assert (limited.seconds, limited.steps, limited.width, limited.latents) == (5.0, 70, 8, 3)
    assert choose("fast", None, ["steps=70"], {"seconds": None}).seconds == 0


def test_time_on_the_command_line(tmp_path, inputs):
    for bad in ("0", "-3", "nan", "soon"):
        assert run("encode", inputs[0], "-o", tmp_path / "a.doh", "--time", bad).returncode == 2
    result = run("encode", *inputs, "-o", tmp_path / "out", "--time", "2", "--preset", "fast", "--latents", "60", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert all(container.verify(path).latents == 60 for path in (tmp_path / "out").iterdir()) and len(listed(tmp_path / "out")) == 3
    single = run("encode", inputs[0], "-o", tmp_path / "a.doh", "--time", "1.5", "--preset", "fast", "--bytes", "300", "--device", "cpu")
    assert single.returncode == 0 and 291 <= (tmp_path / "a.doh").stat().st_size <= 300
    assert json.loads(run("info", tmp_path / "a.doh", "--json").stdout)["bytes"] <= 300
