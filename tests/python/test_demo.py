"""What tools/demo and tools/test rest on: the JPEG search, the sheet, the environment's stamp. The scripts themselves are run by people and CI."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import _env
import _picture
import numpy as np
import pytest
from PIL import Image

from doh.metrics import psnr


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[0:96, 0:128]
    waves = np.stack([np.sin(x / 9 + y / 31), np.sin(y / 7), np.cos((x - y) / 5)], -1)
    return np.round(127 + 120 * waves).astype(np.uint8)


def test_jpegs_fit_and_are_as_good_as_can_be(picture):
    full, small = _picture.best_jpegs(picture, 3000)
    assert full.name.startswith("JPEG quality ") and "at 1/" in small.name
    for found in (full, small):
        assert len(found.data) <= 3000 and found.samples.shape == picture.shape
        assert Image.open(io.BytesIO(found.data)).format == "JPEG"
    every = [data for quality in range(1, 96) for sampling in (0, 2) if len(data := jpeg(picture, quality, sampling)) <= 3000]
    assert full.psnr == max(psnr(np.array(Image.open(io.BytesIO(data))), picture, 255) for data in every)


def test_no_jpeg_is_small_enough(picture):
    assert _picture.best_jpegs(picture, 100) == []
    smallest = min(len(jpeg(picture, 1, subsampling)) for subsampling in (0, 2))
    assert all("at 1/" in found.name for found in _picture.best_jpegs(picture, smallest - 1))


def jpeg(picture: np.ndarray, quality: int, subsampling: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=subsampling, optimize=True, progressive=True)
    return stream.getvalue()


def test_sheet(picture):
    enlarged = np.full((64, 128, 3), 9, np.uint8)
    sheet = np.array(_picture.side_by_side(picture, [("doh", picture, enlarged), ("JPEG", picture, None)], (10, 20, 32, 16), 4))
    assert sheet.shape == (28 + 96 + 8 + 64 + 8, 3 * 136 + 8, 3)
    assert np.array_equal(sheet[28:124, 8:136][:15], picture[:15])
    assert np.array_equal(sheet[132:196, 144:272], enlarged)
    assert np.ptp(sheet[132:196, 280:408]) > 100


def test_scripts_are_programs():
    for name in ("tools/demo", "tools/test", ".ci/run"):
        assert os.access(_env.ROOT / name, os.X_OK), name
    demo = _env.program("demo")
    x, y, width, height = demo.CROP
    assert x + width <= 512 and y + height <= 512
    result = subprocess.run([sys.executable, _env.ROOT / "tools" / "demo", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "side-by-side.png" in result.stdout


def test_digest_follows_names_and_contents(tmp_path, monkeypatch):
    monkeypatch.setattr(_env, "ROOT", tmp_path)
    (tmp_path / "a").write_text("1")
    first = _env.digest(tmp_path.rglob("*"))
    assert first == _env.digest([tmp_path / "a"])
    (tmp_path / "b").write_text("")
    second = _env.digest(tmp_path.rglob("*"))
    (tmp_path / "a").write_text("2")
    assert len({first, second, _env.digest(tmp_path.rglob("*"))}) == 3


def test_missing_packages_are_named_to_a_user(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(_env.shutil, "which", lambda name: None)
    monkeypatch.setattr(_env.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(_env, "_importable", lambda module: False)
    with pytest.raises(SystemExit, match=r"lacks python3-venv, (python3-dev, )?g\+\+ .*: apt-get install -y --no-install-recommends python3-venv"):
        _env._system_packages()


def test_nothing_is_installed_twice(tmp_path, monkeypatch):
    """With a stamp of these very sources prepare() does nothing; after a change of C++ it only builds the extension."""
    (tmp_path / "cpp").mkdir()
    for name in ("pyproject.toml", "CMakeLists.txt", "cpp/a.cpp", "python"):
        (tmp_path / name).write_text("[project]\n")
    done: list[str] = []
    for name in ("ROOT", "VENV", "PYTHON", "STAMP"):
        monkeypatch.setattr(_env, name, tmp_path / {"ROOT": "", "STAMP": "stamp.json"}.get(name, name.lower()))
    monkeypatch.setattr(_env, "_system_packages", lambda: done.append("system"))
    monkeypatch.setattr(_env, "_install", lambda fresh: done.append("install"))
    monkeypatch.setattr(_env, "_pip", lambda *words: done.append("build"))
    _env.prepare()
    assert done == ["system", "install"]
    _env.prepare()
    assert done == ["system", "install"]
    (tmp_path / "cpp" / "a.cpp").write_text("changed")
    _env.prepare()
    assert done == ["system", "install", "system", "build"]
    (tmp_path / "pyproject.toml").write_text("changed")
    _env.prepare()
    assert done[4:] == ["system", "install"]
    (tmp_path / "link").symlink_to(_env.base_python())  # another name of the same interpreter changes nothing, another interpreter does
    for python, then in (("link", []), ("python", ["system", "install"])):
        stamp = json.loads((tmp_path / "stamp.json").read_text())
        stamp["python"] = f"{tmp_path / python} {sys.version.split()[0]}"
        (tmp_path / "stamp.json").write_text(json.dumps(stamp))
        _env.prepare()
        assert done[6:] == then


#: prepare() in a project of its own, where nothing is downloaded.
PREPARE = """
import sys
sys.path.insert(0, sys.argv[1] + "/tools")
import _env
real = _env.run
_env.run = lambda *words, **more: real(*words, "--without-pip", **more)
_env._pip = _env._system_packages = lambda *words: None
_env.prepare()
print(_env.PYTHON.exists(), flush=True)
"""


def test_an_activated_environment_does_not_delete_itself(tmp_path):
    """From a shell in which .venv is activated its own Python prepares it: nothing changes. Where it has to be made anew, that works from within too."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "cpp").mkdir()
    shutil.copy(_env.ROOT / "tools" / "_env.py", tmp_path / "tools")
    (tmp_path / "pyproject.toml").write_text("[build-system]\nrequires = []\n[project]\ndependencies = []\n[project.optional-dependencies]\ndev = []\n")
    (tmp_path / "prepare.py").write_text(PREPARE)

    def prepare(python: str | Path) -> str:
        result = subprocess.run([python, tmp_path / "prepare.py", tmp_path], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "making a Python environment" in prepare(_env.base_python())
    mark = tmp_path / ".venv" / "mark"
    mark.touch()
    inner = tmp_path / ".venv" / "bin" / "python"
    for name in ("python", "python3"):
        assert prepare(inner.with_name(name)) == "True\n" and mark.exists()
    (tmp_path / ".venv" / "doh-installed.json").unlink()
    assert "making a Python environment" in prepare(inner) and not mark.exists() and inner.exists()


# What the pages say


def blocks(language: str) -> list[str]:
    """The fenced examples of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (_env.ROOT / "README.md").read_text(), re.M | re.S)


def test_python_examples_of_the_readme(monkeypatch):
    """As they stand, but with next to no training in the encoder."""
    pytest.importorskip("torch")
    import doh

    monkeypatch.setattr(doh, "encode", functools.partial(doh.encode, steps=8, device="cpu"), raising=False)
    monkeypatch.setattr(doh, "encode_many", functools.partial(doh.encode_many, steps=8, device="cpu"), raising=False)
    codec, projection = blocks("python")
    found: dict = {}
    exec(codec, found)  # our own page
    assert [doh.read_info(file).shape for file in found["files"]] == [(512, 512), (256, 256)]
    assert 4850 <= len(found["data"]) <= 5000 and found["again"].shape == (512, 512, 3) and found["face"].shape == (512, 512, 3)
    found = {}
    exec(projection.replace("range(200)", "range(3)"), found)
    assert found["net"].projection.latent.shape == (500,) and sum(value.numel() for value in found["state"].values()) < 700


def test_c_example_of_the_readme(tmp_path):
    """Compiled against the library that tools/test has built, and run on a file; its output is what doh.decode gives."""
    library = next((_env.BUILD / "cpp").glob("libdoh.a"), None)
    compiler = shutil.which("cc")
    if not (library and compiler):
        pytest.skip("needs a C compiler and build/tools, which tools/test makes")
    from test_cli import random_file

    import doh

    (tmp_path / "main.c").write_text(blocks("c")[0])
    include = _env.ROOT / "cpp" / "include"
    subprocess.run([compiler, "-std=c11", "-Wall", "-Werror", "-I", include, "main.c", library, "-o", "main"], cwd=tmp_path, check=True)
    source = random_file(tmp_path / "a.doh")
    result = subprocess.run([tmp_path / "main", source], capture_output=True)
    assert result.returncode == 0 and result.stdout == doh.decode(source).tobytes()
    result = subprocess.run([tmp_path / "main", tmp_path / "main.c"], capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("BAD_MAGIC: ")


@pytest.mark.parametrize("page", ["README.md", "docs/newcomers.md"])
def test_paths_in_the_pages_exist(page):
    text = (_env.ROOT / page).read_text()
    named = re.findall(r"`((?:cpp|python|tests|tools|docs)/[\w./]*)`", text)
    named += [str(Path(page).parent / target) for target in re.findall(r"\]\(([\w./]+)\)", text)]
    missing = [path for path in named if "NAME" not in path and not (_env.ROOT / path).exists()]
    assert len(named) > 5 and missing == []
