"""What tools/fuzz, tools/sanitize and tools/coverage share: clang, and builds of the C++ tests in folders of their own. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
CLANG = "clang-19"
PACKAGES = ("clang-19", "libclang-rt-19-dev", "llvm-19", "cmake", "ninja-build")


def install() -> None:
    """The compiler and its run-time libraries from Debian's packages, as root. Raises CalledProcessError."""
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]):
        subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL)


def missing(*programs: str) -> str:
    """A sentence about what is not installed, or nothing."""
    lacking = [program for program in programs if shutil.which(program) is None]
    if not lacking:
        return ""
    return f"{', '.join(lacking)}: not installed. As root: apt-get install {' '.join(PACKAGES)} (or run this with --install)"


def build(name: str, options: list[str], targets: list[str]) -> Path:
    """Configures with clang and builds `targets` (all, when empty) in build/NAME; only what has changed. Ends the program with the output of what fails."""
    folder = BUILD / name
    environment = {**os.environ, "CC": CLANG, "CXX": CLANG.replace("clang", "clang++")}
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DDOH_TESTS=ON", "-DDOH_PYTHON=OFF", "-DDOH_SHARED_LIBRARY=OFF", *options]
    for command in (configure, ["cmake", "--build", str(folder), "--", "-j2", *targets]):
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode:
            print(result.stdout, file=sys.stderr)
            sys.exit(f"this failed: {' '.join(command)}")
    return folder
