"""What tools/demo and tools/test share: an environment of their own in .venv, and the build of the C++ programs. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD = ROOT / "build" / "tools"
STAMP = VENV / "doh-installed.json"
EXTRAS = "train,onnx,dev"

#: The release that is tested. Where pip finds its build for CPUs, that is some gigabytes less than the one with CUDA.
TORCH_WITHOUT_GPU = "torch==2.13.0"


def say(text: str) -> None:
    print(f"== {text}", flush=True)


def stop(text: str) -> None:
    sys.exit(f"{Path(sys.argv[0]).name}: {text}")


def run(*command: str | Path, root: bool = False) -> str:
    """Runs a command in the repository; its output is returned, and shown when it fails, which ends the program."""
    words = [str(word) for word in command]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"} if root else inside()
    result = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        print(result.stdout, file=sys.stderr)
        stop(f"this failed: {' '.join(words)}")
    return result.stdout


def inside() -> dict[str, str]:
    """Environment variables for a program that is to see .venv first."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    return {**variables, "VIRTUAL_ENV": str(VENV), "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def program(name: str) -> ModuleType:
    """One of the programs of tools/, whose names have no extension, as a module."""
    module = module_from_spec(spec_from_loader(name, SourceFileLoader(name, str(ROOT / "tools" / name))))
    module.__loader__.exec_module(module)
    return module


def in_environment() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def base_python() -> str:
    """The interpreter that environments are made with: that of .venv goes with .venv, so from within one it is the one that it was made with."""
    return getattr(sys, "_base_executable", None) or sys.executable


def prepare() -> None:
    """Makes sure that .venv holds this package, built from these sources, with all it needs. A second call takes a moment."""
    if sys.version_info < (3, 11):
        stop(f"this needs Python 3.11 or later, not {sys.version.split()[0]}")
    wanted = {
        "python": f"{base_python()} {sys.version.split()[0]}",
        "extras": EXTRAS,
        "pyproject": digest([ROOT / "pyproject.toml"]),
        "cpp": digest([ROOT / "CMakeLists.txt"], (ROOT / "cpp").rglob("*")),
    }
    found = _stamp()
    if _one_python(found, wanted):  # it has several names, as links
        found["python"] = wanted["python"]
    if found == wanted:
        return
    started = time.monotonic()
    _system_packages()
    if {**found, "cpp": ""} == {**wanted, "cpp": ""}:
        say("the C++ sources have changed: building the extension again")
        _pip("--no-build-isolation", "--no-deps", "-e", ".")
    else:
        _install(fresh=found.get("python") != wanted["python"])
    STAMP.write_text(json.dumps(wanted, indent=2))
    say(f"the environment in {VENV.relative_to(ROOT)}/ is ready, after {time.monotonic() - started:.0f} s; it is kept for the next time")


def build(*targets: str, tests: bool) -> Path:
    """Configures and builds the C++ core with CMake, without Python; only what has changed. Returns the build folder."""
    started = time.monotonic()
    run("cmake", "-S", ".", "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DDOH_PYTHON=OFF", f"-DDOH_TESTS={'ON' if tests else 'OFF'}")
    run("cmake", "--build", BUILD, *(word for target in targets for word in ("--target", target)))
    say(f"C++ programs built in {BUILD.relative_to(ROOT)}/ ({time.monotonic() - started:.1f} s)")
    return BUILD


def _stamp() -> dict:
    try:
        return json.loads(STAMP.read_text()) if PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}


def _one_python(*stamps: dict) -> bool:
    """Whether they name one interpreter, of one version."""
    named = {(Path(path).resolve(), version) for path, _, version in (stamp.get("python", "").rpartition(" ") for stamp in stamps)}
    return len(named) == 1


def digest(*groups: Iterable[Path]) -> str:
    """One hash over the names and contents of files in the repository."""
    total = hashlib.sha256()
    for path in sorted(path for group in groups for path in group if path.is_file()):
        total.update(f"{path.relative_to(ROOT)}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return total.hexdigest()


def _system_packages() -> None:
    """A C++ compiler, Python's headers and its venv module: from Debian's packages when this is root, else by a word to the user."""
    missing = []
    if not all(_importable(module) for module in ("venv", "ensurepip")):
        missing.append("python3-venv")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing.append("python3-dev")
    if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        missing.append("g++")
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop(f"this machine lacks {', '.join(missing)} (Debian's names); install them, as root: {' '.join(command)}")
    say(f"installing Debian packages: {' '.join(missing)}")
    run("apt-get", "update", root=True)
    run(*command, root=True)


def _importable(module: str) -> bool:
    return subprocess.run([base_python(), "-c", f"import {module}"], capture_output=True).returncode == 0


def _install(fresh: bool) -> None:
    import tomllib  # new in Python 3.11, which prepare() asks for

    if fresh and VENV.exists():
        shutil.rmtree(VENV)
    if not PYTHON.exists():
        say(f"making a Python environment in {VENV.relative_to(ROOT)}/")
        run(base_python(), "-m", "venv", VENV)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    torch = "torch" if _nvidia() else TORCH_WITHOUT_GPU
    build_time = [*project["build-system"]["requires"], *(tool for tool in ("cmake", "ninja") if not shutil.which(tool))]
    say(f"installing {torch} ({'with' if _nvidia() else 'no'} NVIDIA GPU here)")
    _pip(torch)
    say(f"installing what builds it: {', '.join(build_time)}")
    _pip(*build_time)
    extras = project["project"]["optional-dependencies"]
    names = [*project["project"]["dependencies"], *(name for extra in EXTRAS.split(",") for name in extras.get(extra, []))]
    say(f"building and installing doh, editable, with {', '.join(dict.fromkeys(names))}")
    _pip("--no-build-isolation", "-e", f".[{','.join(extra for extra in EXTRAS.split(',') if extra in extras)}]")


def _pip(*words: str) -> None:
    output = run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *words)
    for line in output.splitlines():
        if line.startswith("Successfully installed"):
            print(f"   {line}", flush=True)


def _nvidia() -> bool:
    return bool(shutil.which("nvidia-smi")) and subprocess.run(["nvidia-smi"], capture_output=True).returncode == 0
