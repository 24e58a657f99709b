"""doh: one signal as a few kilobytes of latent codes; a seeded projection makes them a sine network (D'OH, arXiv 2403.19163).

Decoding needs numpy alone; encoding and `project` import torch when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from doh._core import version as _version
from doh.container import Info, decode, read_info, verify
from doh.errors import DohError, EncodeError
from doh.signal import Signal

if TYPE_CHECKING:
    from doh.codec import encode, encode_many
    from doh.config import Config
    from doh.train.project import project

__version__ = _version()
__all__ = ["Config", "DohError", "EncodeError", "Info", "Signal", "__version__", "decode", "encode", "encode_many", "project", "read_info", "verify"]

_LAZY = {"encode": "doh.codec", "encode_many": "doh.codec", "Config": "doh.config", "project": "doh.train.project"}


def __getattr__(name: str) -> object:
    """Imports the encoder's side on first use, so that `import doh` stays free of torch."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'doh' has no attribute {name!r}")
