"""The command line, as a person runs it; in processes of its own where that matters. Encoding has files of its own (test_encode.py, test_batch.py)."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, closed, error_of, full_disk, random_file, run, run_alone, small_disk, without_modules
from PIL import Image

import doh
from doh import container, metrics
from doh.cli.decode import box
from doh.errors import EncodeError
from doh.signals import read_signal

# decode, info, verify, eval: no training


def test_decode_writes_the_samples(tmp_path):
    source = random_file(tmp_path / "a.doh")
    result = run_alone("decode", source, "-o", tmp_path / "a.png")
    assert result.returncode == 0 and result.stdout == f"{tmp_path}/a.png: 36 x 24, 3 channels, u8\n" and result.stderr == ""
    assert np.array_equal(read_signal(tmp_path / "a.png")[0].samples, doh.decode(source))
    assert np.ptp(doh.decode(source)) > 50  # a picture, not a constant


@pytest.mark.parametrize(("channels", "sample_type", "name"), [(1, "u8", "a.bmp"), (2, "u16", "a.tif"), (4, "u16", "a.png"), (3, "u16", "a.npy")])
def test_decode_to_other_formats(tmp_path, channels, sample_type, name):
    source = random_file(tmp_path / "a.doh", channels=channels, sample_type=sample_type)
    assert run("decode", source, "-o", tmp_path / name).returncode == 0
    assert np.array_equal(read_signal(tmp_path / name)[0].samples, doh.decode(source))


def test_decode_of_other_signals(tmp_path):
    source = random_file(tmp_path / "a.doh", shape=(50,), channels=2, sample_type="s16", kind="audio")
    assert run("decode", source, "-o", tmp_path / "a.npy", "--scale", "2").returncode == 0
    assert np.array_equal(np.load(tmp_path / "a.npy"), doh.decode(source, scale=2))
    assert "PNG cannot hold s16 samples; use .npy" in error_of(run("decode", source, "-o", tmp_path / "a.png"))
    assert "--crop is for images" in error_of(run("decode", source, "-o", tmp_path / "b.npy", "--crop", "0,0,1,1"))


def test_zoom_and_crop_are_a_part_of_the_whole(tmp_path):
    source = random_file(tmp_path / "a.doh")
    assert run("decode", source, "-o", tmp_path / "all.png", "--scale", "4").returncode == 0
    assert run("decode", source, "-o", tmp_path / "crop.png", "--scale", "4", "--crop", "5,7,10,6").returncode == 0
    whole, crop = (np.array(Image.open(tmp_path / name)) for name in ("all.png", "crop.png"))
    assert whole.shape == (96, 144, 3) and crop.shape == (24, 40, 3)
    assert np.array_equal(whole[28:52, 20:60], crop)


def test_box_of_scale_and_crop():
    assert box((24, 36), "1", None) == ((24, 36), (0, 0), (24, 36))
    assert box((24, 36), "1.5", "2,4,6,8") == ((36, 54), (6, 3), (12, 9))
    assert box((24, 36), "1/3", None) == ((8, 12), (0, 0), (8, 12))
    for scale in ("0", "-1", "big", "1/0", "nan", "inf"):
        with pytest.raises(EncodeError, match="--scale takes a positive number"):
            box((24, 36), scale, None)
    for crop in ("1,2,3", "a,b,c,d", "1,2,3,4,5", "1.5,2,3,4", ""):
        with pytest.raises(EncodeError, match="--crop takes four whole numbers"):
            box((24, 36), "1", crop)
    for crop in ("-1,0,4,4", "0,0,37,4", "0,0,4,25", "3,3,0,2", "36,0,1,1"):
        with pytest.raises(EncodeError, match="is not inside the image of 36 x 24 pixels"):
            box((24, 36), "1", crop)


def test_a_small_crop_of_a_gigantic_zoom_is_cheap(tmp_path):
    """The whole has more samples than the limits allow: only what is asked for is judged, and computed."""
    source = random_file(tmp_path / "a.doh")
    assert "LIMIT_SAMPLES" in error_of(run("decode", source, "-o", tmp_path / "a.npy", "--scale", "1000"))
    assert run("decode", source, "-o", tmp_path / "a.npy", "--scale", "1000", "--crop", "3,3,1,1").returncode == 0
    assert np.load(tmp_path / "a.npy").shape == (1000, 1000, 3)
    assert "LIMIT_" in error_of(run("decode", source, "-o", tmp_path / "a.npy", "--scale", "50000", "--crop", "3,3,1,1"))


def test_info(tmp_path):
    source = random_file(tmp_path / "a.doh")
    text = run("info", source).stdout
    for part in ("image, 36 x 24, 3 channels, u8", "2 sine layers of 8", "tied, 90 latents, seed 5"):
        assert part in text
    fields = json.loads(run("info", source, "--json").stdout)
    info = doh.read_info(source)
    assert fields["bytes"] == source.stat().st_size and fields["bpp"] == info.bpp and fields["shape"] == [24, 36]
    assert fields["samples_crc"] == info.samples_crc


def test_an_image_in_parts(tmp_path):
    source, output = tmp_path / "a.png", tmp_path / "a.doh"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)).save(source)
    volume = tmp_path / "v.npy"
    np.save(volume, np.zeros((4, 5, 6, 1), np.uint8))
    assert run("encode", source, "-o", output, "--bytes", "600", *QUICK, "--set", "parts=2x3").returncode == 0
    text = run("info", output).stdout
    assert "version 2" in text and "2x3 parts, each with one: up to 2 sine layers of 8" in text
    assert json.loads(run("info", output, "--json").stdout)["parts"] == [2, 3]
    assert run("verify", output).returncode == 0
    assert run("decode", output, "-o", tmp_path / "b.png", "--scale", "3/2", "--crop", "10,5,20,14").returncode == 0
    assert np.asarray(Image.open(tmp_path / "b.png")).shape == (21, 30, 3)
    assert "parts = 2x3 is for 2 dimensions" in error_of(run("encode", volume, "-o", output, "--set", "parts=2x3"))


def test_verify(tmp_path):
    source = random_file(tmp_path / "a.doh")
    result = run("verify", source)
    assert result.returncode == 0 and "good" in result.stdout
    data = bytearray(source.read_bytes())
    data[40] ^= 1
    source.write_bytes(data)
    assert error_of(run("verify", source)).startswith(f"doh: {source}: BAD_CHECKSUM: ")


def test_eval(tmp_path):
    source = random_file(tmp_path / "a.doh")
    samples = doh.decode(source)
    Image.fromarray(samples).save(tmp_path / "same.png")
    other = np.clip(samples.astype(int) + 3, 0, 255).astype(np.uint8)
    Image.fromarray(other).save(tmp_path / "other.png")
    result = json.loads(run("eval", source, tmp_path / "other.png", "--json").stdout)
    assert {"bytes", "bpp", "psnr", "ssim"} <= result.keys()
    assert result["bytes"] == source.stat().st_size and result["bpp"] == 8 * result["bytes"] / (24 * 36)
    assert result["psnr"] == metrics.psnr(samples, other, 255) and 0 < result["ssim"] < 1
    same = json.loads(run("eval", source, tmp_path / "same.png", "--json").stdout)
    assert same["psnr"] is None and same["identical"] and same["ssim"] == 1
    assert "dB, SSIM" in run("eval", source, tmp_path / "other.png").stdout
    Image.fromarray(other[:-1]).save(tmp_path / "small.png")
    assert "they cannot be compared" in error_of(run("eval", source, tmp_path / "small.png"))


def test_eval_without_scikit_image(tmp_path):
    source = random_file(tmp_path / "a.doh")
    assert run("decode", source, "-o", tmp_path / "a.png").returncode == 0
    result = without_modules("skimage", "eval", source, tmp_path / "a.png", "--json")
    assert json.loads(result.stdout)["ssim"] is None
    assert result.stderr == "doh: no SSIM: it needs scikit-image; install it with: pip install 'doh[bench]'\n"


def test_all_but_encoding_works_without_torch(tmp_path, photo):
    source = random_file(tmp_path / "a.doh")
    for words in (["decode", source, "-o", tmp_path / "a.png"], ["info", source], ["verify", source], ["eval", source, tmp_path / "a.png"]):
        result = without_modules("torch,safetensors", *words)
        assert result.returncode == 0, result.stderr
    message = error_of(without_modules("torch", "encode", photo, "-o", tmp_path / "b.doh"))
    assert message == 'doh: encoding needs torch, which is not installed: pip install "doh[train]"'


def test_looking_at_files_imports_little(tmp_path):
    source = random_file(tmp_path / "a.doh")
    script = "import sys\nfrom doh.cli import main\ntry:\n  main()\nfinally:\n  print(*sorted(sys.modules), file=sys.stderr)"
    for words in (["info", source], ["decode", source, "-o", tmp_path / "a.npy"]):
        result = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, timeout=60)
        modules = result.stderr.split()
        assert "doh._core" in modules and not {"torch", "skimage", "PIL", "doh.train", "png", "tifffile"} & set(modules)


def test_ctrl_c_is_looked_after_from_the_start():
    """What takes a while to import comes later, within main()."""
    script = "import sys, doh.cli\nassert not {'numpy', 'typer', 'torch', 'doh._core'} & set(sys.modules)\nassert doh.decode and doh.errors.DohError"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_version_and_usage():
    assert run("--version").stdout == f"doh {doh.__version__}\n"
    for words in ([], ["encode"], ["nonsense"], ["decode", "a.doh"]):
        assert run(*words).returncode == 2
    for budget in (["--bpp", "1", "--bytes", "9"], ["--latents", "5", "--bpp", "1"], ["--bpp", "0"], ["--bytes", "-3"], ["--latents", "x"]):
        assert run("encode", "a.png", "-o", "b.doh", *budget).returncode == 2
    for command in ("encode", "decode", "info", "verify", "eval"):
        assert run(command, "--help").returncode == 0


def test_threads_are_at_most_1024(tmp_path):
    source = random_file(tmp_path / "a.doh")
    for words in (["decode", source, "-o", tmp_path / "a.npy"], ["verify", source], ["eval", source, tmp_path / "a.npy"]):
        assert run(*words, "--threads", "1024").returncode == 0
        for many in ("0", "1025", "99999999999999999999"):
            result = run(*words, "--threads", many)
            assert result.returncode == 2 and "--threads" in result.stderr
    for words in (["encode", "a.png", "-o", "a.doh"], ["export", source, "-o", "a.onnx"], ["decode", "a.onnx", "-o", "a.png"]):
        assert run(*words, "--threads", "1025").returncode == 2


# One clear line


def test_an_empty_name_is_not_the_current_folder(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = random_file(tmp_path / "photo.doh")
    before = source.read_bytes()
    for words, what in [
        (["encode", photo, "-o", ""], "OUT"),
        (["encode", photo, "", "-o", "o.doh"], "IN"),
        (["encode", photo, "-o", "o.doh", "--config", ""], "--config"),
        (["decode", source, "-o", ""], "OUT"),
        (["decode", "", "-o", "o.png"], "IN"),
        (["export", source, "-o", ""], "OUT"),
        (["info", ""], "IN"),
        (["eval", source, ""], "REFERENCE"),
    ]:
        assert error_of(run(*words)) == f"doh: the name of {what} is empty: give that of a file"
    assert sorted(os.listdir()) == ["photo.doh", "photo.png"] and source.read_bytes() == before


@pytest.mark.parametrize("command", ["info", "verify", "decode"])
def test_not_a_doh_file(tmp_path, command):
    words = ["-o", tmp_path / "o.png"] if command == "decode" else []
    (tmp_path / "letter.doh").write_text("a letter, not a picture; long enough to have a header\n")
    (tmp_path / "empty.doh").touch()
    assert error_of(run(command, tmp_path / "letter.doh", *words)) == f"doh: {tmp_path}/letter.doh: BAD_MAGIC: this is not a .doh file"
    assert error_of(run(command, tmp_path / "empty.doh", *words)).startswith(f"doh: {tmp_path}/empty.doh: TRUNCATED: ")
    assert error_of(run(command, tmp_path / "none.doh", *words)) == f"doh: cannot read {tmp_path}/none.doh: No such file or directory"
    assert "Is a directory" in error_of(run(command, tmp_path, *words))
    assert sorted(os.listdir(tmp_path)) == ["empty.doh", "letter.doh"]


def test_a_side_that_the_output_cannot_hold_is_refused_before_the_decode(tmp_path, monkeypatch):
    source = random_file(tmp_path / "a.doh")
    monkeypatch.setattr(container, "decode", None)
    message = error_of(run("decode", source, "-o", tmp_path / "a.jpg", "--scale", "2000", "--crop", "0,0,33,1"))
    assert "JPEG cannot hold a side of 66,000 pixels: 65,500 are the most; use .png, " in message


def test_bad_targets_of_decode(tmp_path):
    source = random_file(tmp_path / "a.doh")
    assert "No space left on device" in error_of(run("decode", source, "-o", full_disk(tmp_path, "out.png")))
    assert "does not exist" in error_of(run("decode", source, "-o", tmp_path / "none" / "a.png"))
    assert "the extension .xyz is not one" in error_of(run("decode", source, "-o", tmp_path / "a.xyz"))
    assert "is a folder" in error_of(run("decode", source, "-o", folder(tmp_path / "b.png")))
    result = run_alone("decode", source, "-o", tmp_path / "c.png", preexec_fn=small_disk)
    assert error_of(result) == f"doh: cannot write {tmp_path}/c.png: File too large"
    assert sorted(os.listdir(tmp_path)) == ["a.doh", "b.png", "out.png"]


def test_names_that_stdout_cannot_encode(tmp_path):
    source = random_file(tmp_path / os.fsdecode(b"bad\xff.doh"))
    for encoding in ("utf-8:strict", "ascii", "ascii:surrogateescape"):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        assert run_alone("info", source, env=env).stdout.startswith(f"{tmp_path}/bad\\udcff.doh: .doh, version 1\n")
        done = run_alone("decode", source, "-o", tmp_path / "日.npy", env=env)
        assert done.returncode == 0 and "Traceback" not in done.stderr and done.stdout.endswith(": 36 x 24, 3 channels, u8\n")
        assert error_of(run_alone("info", tmp_path / os.fsdecode(b"n\xff"), env=env)) == f"doh: cannot read {tmp_path}/n\\udcff: No such file or directory"


@pytest.mark.parametrize("numbers", [(2,), (0, 2), (0, 1, 2)], ids=str)
def test_what_goes_to_a_closed_stream_goes_nowhere(numbers, tmp_path):
    source = random_file(tmp_path / "a.doh")

    def close():
        for number in numbers:
            os.close(number)

    done = run_alone("info", tmp_path / "none", preexec_fn=close)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert run_alone("info", "--nonsense", preexec_fn=close).returncode == 2
    done = run_alone("decode", source, "-o", tmp_path / "a.npy", preexec_fn=close)
    assert done.returncode == 0 and (done.stdout == "") == (1 in numbers) and np.array_equal(np.load(tmp_path / "a.npy"), doh.decode(source))


@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["verify"], ["decode", "-o", "a.npy"], ["eval", "a.npy"], ["--version"]], ids=str)
def test_results_that_nobody_can_have(words, tmp_path):
    """A full disk is an error, which names what is full; a reader who has seen enough is none. Remarks and errors may be lost."""
    source = random_file(tmp_path / "a.doh")
    np.save(tmp_path / "a.npy", doh.decode(source))
    command = [sys.executable, "-m", "doh.cli", words[0], *([] if words == ["--version"] else [str(source)]), *words[1:]]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60)
        assert (done.returncode, done.stderr) == (1, "doh: cannot write to standard output: No space left on device\n")
        assert subprocess.run(command, stdout=full, stderr=full, cwd=tmp_path, timeout=60).returncode == 1
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=full, cwd=tmp_path, timeout=60).returncode == 0
    nobody = closed()
    done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60)
    os.close(nobody)
    assert (done.returncode, done.stderr) == (0, "")


def test_decode_does_not_replace_its_source(tmp_path):
    source, before = random_file(tmp_path / "a.doh"), random_file(tmp_path / "a.png").read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    for path, output in ((source, tmp_path / "link.png"), (tmp_path / "a.png", tmp_path / "a.png")):
        assert error_of(run("decode", path, "-o", output)) == f"doh: {output} is the very file that is read: give the output another name"
        assert path.read_bytes() == before


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_bad_sources_of_encode(tmp_path, photo):
    (tmp_path / "letter.png").write_text("a letter, not a picture\n" * 9)
    (tmp_path / "letter.txt").write_text("a letter, not a picture\n" * 9)
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:-60])
    before = sorted(os.listdir(tmp_path))
    for name, message in [
        ("letter.png", "not an image that can be read"),
        ("letter.txt", "the extension .txt is not one that doh knows"),
        ("empty.png", "the file is empty"),
        ("cut.png", "the image is damaged or cut short"),
        ("none.png", "No such file or directory"),
    ]:
        assert message in error_of(run("encode", tmp_path / name, "-o", tmp_path / "o.doh", *QUICK))
    assert "does not exist" in error_of(run("encode", photo, "-o", tmp_path / "none" / "o.doh", *QUICK))
    assert "unknown setting 'stepps' (the nearest is 'steps')" in error_of(run("encode", photo, "-o", tmp_path / "o.doh", "--set", "stepps=3"))
    assert "unknown preset 'quick'" in error_of(run("encode", photo, "-o", tmp_path / "o.doh", "--preset", "quick"))
    assert "No such file" in error_of(run("encode", photo, "-o", tmp_path / "o.doh", "--config", tmp_path / "none.toml"))
    assert "photo.png is not a text file" in error_of(run("encode", photo, "-o", tmp_path / "o.doh", "--config", photo))
    assert sorted(os.listdir(tmp_path)) == before


def large_file(path: Path, shape=(40000, 50000)) -> Path:
    """A valid file beyond the default limits, whose samples_crc is wrong."""
    random_file(path)
    model = dataclasses.replace(container.unpack(path), shape=shape)
    path.write_bytes(container.pack_unsealed(model))
    return path


def test_files_beyond_the_limits_are_shown_and_decoded_in_part(tmp_path):
    source = large_file(tmp_path / "a.doh")
    assert "50000 x 40000" in run("info", source).stdout
    for more in (["--scale", "1/1000"], ["--crop", "70,80,50,40"]):
        assert run("decode", source, "-o", tmp_path / "a.png", *more).stdout.startswith(f"{tmp_path}/a.png: 50 x 40, ")
    for command in (["verify", source], ["decode", source, "-o", tmp_path / "b.png"]):
        assert error_of(run(*command)).endswith("LIMIT_SAMPLES: more samples than the limit allows; if you trust the file: --no-limits")


def test_no_limits(tmp_path, monkeypatch):
    """What the option lifts, with limits that are low enough for a test."""
    source = random_file(tmp_path / "a.doh")
    np.save(tmp_path / "a.npy", doh.decode(source))
    low = {"max_samples": 100}
    for name in ("decode", "verify"):
        whole = getattr(container, name)
        monkeypatch.setattr(container, name, lambda data, limits=None, *rest, whole=whole, **more: whole(data, *rest, limits=limits or low, **more))
    for words in (["verify", source], ["decode", source, "-o", tmp_path / "b.png"], ["eval", source, tmp_path / "a.npy"]):
        assert "LIMIT_SAMPLES" in error_of(run(*words))
        assert run(*words, "--no-limits").returncode == 0


@pytest.mark.parametrize("scale", ["1e10", "1e30", "1e9999999", "9" * 50, "1e+999/7", "0", "-1", "x", "1/0"])
def test_bad_scales(tmp_path, scale):
    assert error_of(run("decode", random_file(tmp_path / "a.doh"), "-o", tmp_path / "a.png", f"--scale={scale}")).startswith("doh: --scale ")
