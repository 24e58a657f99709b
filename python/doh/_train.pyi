from collections.abc import Sequence
from typing import Any

# Arrays: C-contiguous, in the CPU's memory, writable where results go: NumPy's, or tensors that need no gradient.
_Array = Any

def kernels() -> list[str]: ...
def peak(seconds: float, threads: int = 1, kernel: str | None = None) -> float: ...
def waves(phases: _Array, sines: _Array, cosines: _Array, kernel: str | None = None) -> None: ...
def forward(inputs: _Array, weights: _Array, biases: _Array, output_bias: _Array, outputs: _Array, threads: int = 1, kernel: str | None = None) -> None: ...
def backward(
    inputs: _Array,
    output_gradient: _Array,
    weights: _Array,
    biases: _Array,
    output_bias: _Array,
    gradient: _Array,
    input_gradient: _Array | None = None,
    threads: int = 1,
    kernel: str | None = None,
) -> None: ...
def grid_forward(
    points: _Array,
    tables: Sequence[_Array],
    weights: _Array,
    biases: _Array,
    output_bias: _Array,
    outputs: _Array,
    threads: int = 1,
    kernel: str | None = None,
) -> None: ...
def grid_step(
    points: _Array,
    tables: Sequence[_Array],
    samples: _Array,
    low: float,
    top: float,
    factor: float,
    weights: _Array,
    biases: _Array,
    output_bias: _Array,
    gradient: _Array,
    threads: int = 1,
    kernel: str | None = None,
    importance: _Array | None = None,
) -> float: ...
def rounded(values: _Array, step: float, out: _Array) -> None: ...
def nearest_on_trellis(values: _Array, step: float, state: int, out: _Array) -> None: ...
def tied_weights(latents: _Array, index: _Array, sign: _Array, gain: _Array, out: _Array) -> None: ...
def tied_gradient(gradient: _Array, inverse: _Array, sign: _Array, gain: _Array, out: _Array) -> None: ...
def draw(
    cumulated: _Array,
    importance: _Array,
    first: _Array,
    extents: Sequence[_Array],
    strides: Sequence[int],
    offset: float,
    words: _Array,
    points: _Array,
    counts: _Array,
) -> None: ...
def ademamix(parameters: _Array, gradient: _Array, mean: _Array, square: _Array, slow: _Array, factors: Sequence[float]) -> None: ...
