"""doh: one signal as a few kilobytes of latent codes; a seeded projection makes them a sine network (D'OH, arXiv 2403.19163).

Decoding needs numpy alone; encoding and `project` import torch when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doh.codec import encode, encode_many
    from doh.config import Config
    from doh.container import Info, decode, read_info, verify
    from doh.errors import DohError, EncodeError
    from doh.signal import Signal
    from doh.train.project import project

    __version__: str

__all__ = ["Config", "DohError", "EncodeError", "Info", "Signal", "__version__", "decode", "encode", "encode_many", "project", "read_info", "verify"]

_MODULES = {
    "doh.codec": ("encode", "encode_many"),
    "doh.config": ("Config",),
    "doh.container": ("Info", "decode", "read_info", "verify"),
    "doh.errors": ("DohError", "EncodeError"),
    "doh.signal": ("Signal",),
    "doh.train.project": ("project",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


_WITH_IT = ("container", "errors", "model", "signal")  # modules that are there without an import of their own


def __getattr__(name: str) -> object:
    """Imports on first use: `import doh` stays free of torch, and the command of numpy until it looks after Ctrl-C."""
    if name == "__version__":
        from doh._core import version

        return version()
    from importlib import import_module

    if name in _WITH_IT:
        return import_module(f"doh.{name}")
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'doh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
