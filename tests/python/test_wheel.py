"""The wheel, installed in a new environment without torch and used from outside the tree: import, decode, info, verify; and what encode answers there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import VECTORS

from doh.config import PRESETS, Config

ROOT = VECTORS.parent.parent


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    if check and result.returncode:
        raise AssertionError(f"{command} failed:\n{result.stdout}\n{result.stderr}")
    return result


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("doh-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    bin_folder = folder / "venv" / "bin"
    run(bin_folder / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    return bin_folder


def test_import_and_decode_need_no_torch(environment, tmp_path):
    code = """
import importlib.util, sys
assert importlib.util.find_spec("torch") is None
import doh
info = doh.verify(sys.argv[1])
print(doh.__version__, info.signal, doh.decode(sys.argv[1]).sum())
assert "torch" not in sys.modules
"""
    file = VECTORS / "valid" / "image-rgba.doh"
    words = run(environment / "python", "-c", code, file, cwd=tmp_path).stdout.split()
    import doh

    assert words == [doh.__version__, "image", str(doh.decode(file).sum())]


def test_the_command_line_decodes(environment, tmp_path):
    file = VECTORS / "valid" / "image-prime-31x29.doh"
    run(environment / "doh", "decode", file, "-o", "out.png", cwd=tmp_path)
    from PIL import Image

    import doh

    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), doh.decode(file))
    assert json.loads(run(environment / "doh", "info", file, "--json", cwd=tmp_path).stdout)["latents"] == 200
    run(environment / "doh", "verify", file, cwd=tmp_path)


def test_encode_says_what_is_missing(environment, tmp_path):
    run(environment / "doh", "decode", VECTORS / "valid" / "image-rgba.doh", "-o", "in.png", cwd=tmp_path)
    result = run(environment / "doh", "encode", "in.png", "-o", "out.doh", cwd=tmp_path, check=False)
    assert result.returncode == 1 and "torch" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out.doh").exists()


def test_presets_are_in_the_wheel(environment, tmp_path):
    code = "import json; from doh.config import PRESETS, Config; print(json.dumps({name: Config.from_preset(name).to_dict() for name in PRESETS}))"
    assert json.loads(run(environment / "python", "-c", code, cwd=tmp_path).stdout) == json.loads(
        json.dumps({name: Config.from_preset(name).to_dict() for name in PRESETS})
    )
