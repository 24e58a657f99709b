"""The errors that doh raises on purpose, and its warnings; every other error is a bug."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from doh._core import DohError

#: Held by whoever changes the filters of warnings, which are the whole process's and not a thread's: of two threads that put back what they found, the last
#: one may put back the other's. Held for a warning of doh's own too, so that it is not lost to the filters of another thread.
_FILTERS = RLock()


class EncodeError(ValueError):
    """An input, a setting or a budget that cannot be encoded; the message says what was wrong and what to do."""


class OnnxError(RuntimeError):
    """An ONNX file, or the ONNX Runtime at hand, that cannot do what was asked; the message says why and what to do."""


@contextmanager
def no_warnings() -> Iterator[None]:
    """Without warnings, for a library that has much to say; one thread at a time, in all of doh."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def warn(text: str) -> None:
    """A warning of doh's own, at the caller's caller. From any thread, whatever others read meanwhile."""
    with _FILTERS:
        warnings.warn(text, stacklevel=3)


__all__ = ["DohError", "EncodeError", "OnnxError", "no_warnings", "warn"]
