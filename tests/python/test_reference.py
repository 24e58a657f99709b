"""The reference decoder's parts against known answers from outside, and the C++ core's parts against it."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from conftest import KAT

from doh import _core, reference


def known(name: str) -> list[list[str]]:
    return [line.split() for line in (KAT / name).read_text().splitlines() if line.strip() and not line.startswith("#")]


def test_philox_known_answers():
    """Random123's vectors; a line is counter (4 words), key (2), result (4), in hexadecimal."""
    rows = [[int(word, 16) for word in line] for line in known("philox.txt")]
    assert len(rows) >= 3
    for c0, c1, c2, c3, k0, k1, *result in rows:
        seed = k1 << 32 | k0
        assert reference.philox(seed, np.array(c0), c1, c2, c3).tolist() == result
        assert _core.philox(seed, c3, c2, c1, c0, 1)[0].tolist() == result


def test_crc32c_check_value():
    assert reference.crc32c(b"123456789") == _core.crc32c(b"123456789") == 0xE3069283


def test_sine_table():
    p = np.arange(-32768, 32768)
    ours = reference.sin16(p)
    assert np.array_equal(ours, _core.sine())
    assert ours.min() == -32767 and ours.max() == 32767
    assert np.abs(ours + ours[::-1]).max() <= 1  # sin(-(p + 1/2)) = -sin(p + 1/2), but for rounding
    error = ours - 32768 * np.sin(2 * math.pi * (p + 0.5) / 65536)
    assert np.abs(error).max() < 3.94 and np.sqrt((error**2).mean()) < 2.21
    words = dict(line for line in known("sine.txt") if len(line) == 2)
    assert hashlib.sha256(ours.astype("<i2").tobytes()).hexdigest() == words.pop("sha256")
    assert len(words) >= 5 and all(ours[int(at) + 32768] == int(value) for at, value in words.items())


@pytest.mark.parametrize("n, weights", [(1, 5), (7, 7), (7, 8), (50, 500), (100, 30), (4500, 14600), (129, 128 * 7)])
def test_tied_map_is_balanced_and_equal_in_both(n, weights):
    index, sign = reference.tied_map(12345, n, weights)
    theirs = _core.tied_map(12345, n, weights)
    assert np.array_equal(index, theirs[0]) and np.array_equal(sign, theirs[1])
    uses = np.bincount(index, minlength=n)
    assert uses.max() - uses.min() <= 1 and set(np.unique(sign)) <= {-1, 1}
    if weights > 1000:
        assert abs(sign.mean()) < 4 / math.sqrt(weights)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 300])
def test_dense_bytes_are_equal_and_uniform(n):
    rows = np.stack([reference.dense_bytes(2**40 + 3, 2, row, n) for row in range(5, 45)])
    assert np.array_equal(rows, _core.dense_bytes(2**40 + 3, 2, 5, 40, n))
    entries = 2 * rows.astype(np.int64) - 255
    if n == 300:
        assert abs(entries.mean()) < 5 * 147.8 / math.sqrt(entries.size) and abs(entries.var() / ((256**2 - 1) / 3) - 1) < 0.03


def test_coordinates_are_the_centres_of_cells():
    assert reference.coordinates(0, 2, 2).tolist() == [-(2**30), 2**30]
    assert reference.coordinates(0, 1, 1).tolist() == [0]
    assert reference.coordinates(2**31 - 2, 1, 2**31 - 1).tolist() == [2**31 - 2]  # the last centre of the finest grid
    x = reference.coordinates(0, 5, 5)
    assert np.array_equal(np.abs(x / 2**31 - np.array([-0.8, -0.4, 0, 0.4, 0.8])) < 2**-30, [True] * 5)


def test_the_worked_example_of_the_specification():
    """docs/format.md, section 14: its bytes are the vector's, and lead to the samples that it states."""
    text = (KAT.parent.parent / "docs" / "format.md").read_text().split("## 14. A worked example", 2)[-1]
    line = next(line for line in text.splitlines() if line.startswith("    d0 48"))
    data = bytes.fromhex(line)
    assert data == (KAT.parent / "vectors" / "valid" / "image-1x1-grey-n1.doh").read_bytes()
    model = reference.read_model(data)
    stated = f"{hex(int(reference.philox(2, np.array(0), 0, 0, 2)[0]))[2:]:0>8}"
    assert stated in text and [w.tolist() for w in reference.integer_weights(model)] == [[[-72, 72]], [[1475]]]
    assert reference.decode(data).item() == 119 and "**119**" in text
    assert reference.decode(data, (2, 2), (1, 0), (1, 1)).item() == 109 and "sample 109" in text
