"""tools/check_layers finds what it is there for: faults that are planted in a copy of a few files."""

from __future__ import annotations

import _env
import pytest

PLANTED = {
    "cpp/src/net/network.cpp": '#include "decode/decode.h"',
    "cpp/src/rng/philox.cpp": "#include <net/kernels.h>",
    "cpp/src/base/bits.h": "# include <nanobind/nanobind.h>",
    "cpp/tools/doh_decode.cpp": '#include "format/read.h"',
    "cpp/train/step.cpp": "#include <entropy/range.h>",
    "python/doh/container.py": "def f():\n    import torch",
    "python/doh/model.py": "from doh.errors import DohError",
    "python/doh/signals/images.py": "from doh.train import fit",
    "python/doh/files.py": "import pickle",
    "export/model.py": "from doh.train.run import Run",
    "python/doh/codec.py": "from tests import conftest",
}
SOUND = {
    "cpp/src/net/network.cpp": '#include <vector>\n#include "doh.h"\n#include "format/read.h"',
    "cpp/tools/doh_decode.cpp": "#include <doh.h>",
    "cpp/train/step.cpp": '#include "train/step.h"\n#include "net/simd/region.h"',
    "cpp/bindings/decode.cpp": '#include <nanobind/nanobind.h>\n#include "decode/decode.h"',
    "python/doh/train/run.py": "import torch\nfrom doh.signal import Signal",
    "python/doh/__init__.py": "from doh.container import decode",
    "export/model.py": "import onnx\nfrom doh.model import Mosaic",
}


def faults(root, files: dict[str, str], monkeypatch) -> list[str]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    program = _env.program("check_layers")
    monkeypatch.setattr(program, "ROOT", root)
    return [*program.cpp_faults(), *program.python_faults()]


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_is_found(name, tmp_path, monkeypatch):
    (found,) = faults(tmp_path, {name: PLANTED[name]}, monkeypatch)
    assert found.startswith(f"{name}:")


def test_what_is_sound_is_none(tmp_path, monkeypatch):
    assert faults(tmp_path, SOUND, monkeypatch) == []
