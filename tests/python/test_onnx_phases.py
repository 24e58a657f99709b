"""ONNX export: phases of the encoding that lie just below a whole number, where float64 would round them up if more were added to them than it has room for."""

from __future__ import annotations

import numpy as np
import pytest

import doh
from doh import container, reference
from doh.export import build, export, run
from doh.model import BiasScale, QuantModel, Scale, Target, ladder_multipliers

FRACTION = 1 << 28  # phases are X f / 2^28 (section 7)


def sound(points: int, frequencies: int, ladder: str) -> bytes:
    """A file of random codes, one dimension, whose first layer hears the encoding in its last bit."""
    rng = np.random.default_rng(frequencies)
    scales = (Scale(0, 4, 17), Scale(0, 4, 17), Scale(0, 4, 14))
    codes, biases = rng.integers(-40, 41, 60).astype(np.int32), rng.integers(-100, 100, (3, 12)).astype(np.int32)
    target = Target(1, 1, 12, 3, frequencies, ladder)
    return container.pack(QuantModel("audio", "u16", (points,), target, "tied", 5, codes, scales, BiasScale(0, 12), biases, np.array([2000], np.int32)))


def just_below(points: int, frequencies: int, ladder: str) -> int:
    """How many phases of the grid are within 32 of the next whole one, of 2^28."""
    x = ((2 * np.arange(points, dtype=np.int64) + 1) << 31) // points - (1 << 31)
    return sum(int((x * f % FRACTION > FRACTION - 32).sum()) for f in ladder_multipliers(ladder, frequencies))


@pytest.mark.parametrize("kind", ["exact", "exact-baked"])
@pytest.mark.parametrize("frequencies", [9, 16])
def test_phases_just_below_a_whole_number(frequencies, kind, tmp_path):
    data = sound(1000, frequencies, "1.4")
    path = tmp_path / "a.onnx"
    export(data, path, kind)
    for grid in (2867, 4014):
        assert just_below(grid, frequencies, "1.4")  # so that this test can fail
        wanted = doh.decode(data, grid=(grid,))
        assert np.array_equal(run(path, grid=(grid,)), wanted)
    data = sound(2867, frequencies, "1.4")  # the file's own grid: what export() compares
    wanted = doh.decode(data)
    assert np.array_equal(reference.decode(data), wanted) and len(np.unique(wanted)) > 2000
    assert np.array_equal(run(build(data, kind).SerializeToString()), wanted)


def test_octaves_of_all_sizes():
    """Near phases and far ones, of up to 2^30 units."""
    for frequencies in (1, 8, 14, 15, 16):
        data = sound(997, frequencies, "octaves")
        assert np.array_equal(run(build(data, "exact-baked").SerializeToString()), doh.decode(data))
