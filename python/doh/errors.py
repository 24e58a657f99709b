"""The errors that doh raises on purpose; everything else is a bug."""

from doh._core import DohError


class EncodeError(ValueError):
    """An input, a setting or a budget that cannot be encoded; the message says what was wrong and what to do."""


class OnnxError(RuntimeError):
    """An ONNX file, or the ONNX Runtime at hand, that cannot do what was asked; the message says why and what to do."""


__all__ = ["DohError", "EncodeError", "OnnxError"]
