"""A signal: samples on a coordinate grid, whatever they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from doh.errors import EncodeError
from doh.model import DTYPE, SAMPLE_TYPES, SIGNALS


@dataclass(frozen=True)
class Signal:
    """Samples of shape (*shape, channels), in the sample type's dtype; u1 is uint8 holding 0 and 1.

    Raises EncodeError for an unknown kind or sample type, what is no array or a masked one, a wrong dtype, no samples, or more than 4 dimensions or 32
    channels.
    """

    samples: np.ndarray
    kind: str = "array"
    sample_type: str = "u8"

    def __post_init__(self) -> None:
        if self.kind not in SIGNALS:
            raise EncodeError(f"unknown signal kind {self.kind!r}; one of {', '.join(SIGNALS)}")
        if self.sample_type not in SAMPLE_TYPES:
            raise EncodeError(f"unknown sample type {self.sample_type!r}; one of {', '.join(SAMPLE_TYPES)}")
        if not isinstance(self.samples, np.ndarray):
            raise EncodeError(f"samples are an array of numpy, not a {type(self.samples).__name__}: numpy.asarray may make one of it")
        if isinstance(self.samples, np.ma.MaskedArray):
            raise EncodeError("samples cannot be masked: fill what is masked first (its method filled)")
        if self.samples.dtype != DTYPE[self.sample_type]:
            raise EncodeError(f"samples of type {self.sample_type} must be {np.dtype(DTYPE[self.sample_type])}, not {self.samples.dtype}")
        if not 2 <= self.samples.ndim <= 5:
            raise EncodeError(f"a signal has 1 to 4 dimensions and a channel axis; this array has the shape {self.samples.shape}")
        if self.samples.size == 0:
            raise EncodeError(f"a signal needs at least one sample; this array has the shape {self.samples.shape}")
        if not 1 <= self.samples.shape[-1] <= 32:
            raise EncodeError(f"a signal has 1 to 32 channels (the last axis); this array has {self.samples.shape[-1]}")
        if self.sample_type == "u1" and self.samples.max() > 1:
            raise EncodeError("samples of type u1 must be 0 or 1")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.samples.shape[:-1])

    @property
    def channels(self) -> int:
        return int(self.samples.shape[-1])
