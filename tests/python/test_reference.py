"""The reference decoder's parts against known answers from outside, and the C++ core's parts against it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from conftest import KAT, VECTORS

import doh
from doh import _core, container, reference
from doh.model import BiasScale, Mosaic, QuantModel, Scale, Target


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


# Mosaics


def vector(name: str) -> bytes:
    return (VECTORS / "valid" / f"{name}.doh").read_bytes()


def signed(body: bytes) -> bytes:
    return body + reference.crc32c(body).to_bytes(4, "little")


@pytest.mark.parametrize("points", [1, 5, 7, 9, 12, 1000, 65537, 10**6, 2**31 - 1])
@pytest.mark.parametrize("parts", [1, 2, 3, 6, 12, 999, 65536])
def test_places_against_exact_fractions(points, parts):
    """A point's part is that of its exact centre, unless the rounding of U, by less than 2^-32, takes it back over a border; X is off by that in parts."""
    borders = range(max(0, points // parts - 2), points // parts + 2)
    some = {0, 1, points - 1, *borders, *np.random.default_rng(points).integers(0, points, 300).tolist()}
    for i in (i for i in some if i < points):
        part, x = (int(a[0]) for a in reference.places(i, 1, points, parts))
        place = Fraction(2 * i + 1, 2 * points) * parts  # in parts from the start
        assert math.floor(place - Fraction(parts, 2**32)) <= part <= math.floor(place) and -(2**31) <= x < 2**31
        assert 0 <= place - part - Fraction(x + 2**31, 2**32) < Fraction(parts, 2**32)


def test_places_that_the_specification_states():
    part, x = reference.places(0, 5, 5, 2)  # X / 2^31 = -0.6, 0.2, -1, -0.2, 0.6, but for U = floor((2 i + 1) 2^31 / 5)
    assert part.tolist() == [0, 0, 1, 1, 1] and x.tolist() == [-1288490190, 429496728, -2147483648, -429496730, 1288490188]
    part, x = reference.places(0, 9, 9, 6)  # the exact places of points 1, 4 and 7 are the borders 1, 3 and 5; 2^32 is no multiple of 6, but of 2
    assert part.tolist() == [0, 0, 1, 2, 3, 3, 4, 4, 5] and x[[1, 4, 7]].tolist() == [2**31 - 4, -(2**31), 2**31 - 2]


def test_with_as_many_points_as_parts_no_part_is_empty():
    for points, parts in [(g, k) for g in range(1, 60) for k in range(1, g + 1)] + [(65536, 65536), (65537, 65536), (65537, 65535), (131071, 65536)]:
        part = reference.places(0, points, points, parts)[0]
        assert part[0] == 0 and part[-1] == parts - 1 and set(np.diff(part)) <= {0, 1}, (points, parts)


def test_parts_of_powers_of_two_are_signals_of_their_own():
    """Where no coordinate is rounded, a part's samples are those of a version 1 file of its network; a dimension that is not cut is as in version 1."""
    mosaic = reference.read_model(vector("mosaic-2x2"))
    for parts, models in (((2, 2), mosaic.models), ((2, 1), mosaic.models[:2]), ((1, 4), mosaic.models)):
        data = container.pack_unsealed(Mosaic(parts, models))
        grid = (32, 64)
        size = tuple(g // k for g, k in zip(grid, parts))
        for index, model in zip(np.ndindex(*parts), models, strict=True):
            alone = doh.decode(container.pack_unsealed(model), grid=size)
            box = {"grid": grid, "offset": tuple(i * s for i, s in zip(index, size)), "extent": size}
            for samples in (reference.decode(data, **box), doh.decode(data, **box)):
                assert np.array_equal(samples, alone)


def test_a_record_holds_the_network_of_a_version_1_file():
    for model in reference.read_model(vector("mosaic-different-scales")).models:
        alone = reference.read_model(container.pack_unsealed(model))
        assert [w.tolist() for w in reference.integer_weights(alone)] == [w.tolist() for w in reference.integer_weights(model)]
        assert np.array_equal(reference.samples(alone, (5, 6)), reference.samples(model, (5, 6)))


def decoded(decode, *box):
    """Samples, or the name of the error."""
    try:
        return decode(*box)
    except (reference.InvalidFile, doh.DohError) as error:
        return error.name


def test_a_box_is_decoded_although_the_codes_of_other_parts_are_bad():
    data = vector("mosaic-6-of-9")
    wanted = reference.decode(data)
    payload = reference.read_file(data)[1][3].payload  # of part 3, which has points 4 and 5 of 9
    bad = signed(data[:-4].replace(payload, payload[:-1] + b"\0"))
    ways = (
        lambda first, count: reference.decode(bad, (9,), (first,), (count,)),
        lambda first, count: doh.decode(bad, grid=(9,), offset=(first,), extent=(count,)),
        lambda first, count: doh.decode(bad, grid=(9,), offset=(first,), extent=(count,), threads=3),
    )
    for decode in ways:
        for first in range(9):
            for count in range(1, min(9, 10 - first)):
                got = decoded(decode, first, count)
                assert np.array_equal(got, "BAD_CODES" if first <= 5 and first + count > 4 else wanted[first : first + count])
    assert decoded(reference.decode, bad) == decoded(doh.decode, bad) == decoded(container.unpack, bad) == "BAD_CODES"


def small_model(n: int, code: int, generator: str = "dense", shape: tuple[int, ...] = (4,)) -> QuantModel:
    """One sine unit, every latent code the same."""
    t = Target(len(shape), 1, 1, 1)
    scales = (Scale(0, 38, 12), Scale(0, 38, 14))
    return QuantModel("array", "u8", shape, t, generator, 5, np.full(n, code, np.int32), scales, BiasScale(0, 12), np.full((1, 1), 9, np.int32),
                      np.full(1, 2048, np.int32))  # fmt: skip


def test_the_bound_on_dense_codes_is_for_each_record():
    """Two records with sums of |c| of 2^28 - 2^15 each are valid, one with 2^28 is not."""
    good, bad = small_model(8191, -32768), small_model(8192, -32768)
    data = container.pack(Mosaic((2,), (good, good)))
    assert np.array_equal(reference.decode(data), doh.decode(data))
    tied = Mosaic((2,), tuple(replace(m, generator="tied") for m in (good, bad)))  # the writer refuses such dense codes
    data = container.pack_unsealed(tied)
    assert data[10:12] == b"\0\5" and decoded(reference.decode, signed(data[:-4]), (4,), (0,), (4,)).shape == (4, 1)
    data = signed(data[:10] + b"\1" + data[11:-4])
    assert decoded(reference.decode, data) == decoded(doh.decode, data) == "BAD_CODES"


@pytest.mark.parametrize("name", ["mosaic-different-networks", "mosaic-dense", "mosaic-volume-3x2x2-u16"])
def test_the_work_of_a_box_counts_the_parts_with_points_in_it(name):
    """Section 11: a decode passes with exactly the work that it states as the limit, and no more with one less."""
    data = vector(name)
    mosaic = reference.read_model(data)
    d = len(mosaic.parts)
    for grid in (mosaic.shape, tuple(2 * n + 1 for n in mosaic.shape), (1,) * d):
        for offset in ((0,) * d, tuple(g // 2 for g in grid)):
            extent = tuple((g - o + 1) // 2 for g, o in zip(grid, offset))
            place = [reference.places(o, e, g, k)[0] for o, e, g, k in zip(offset, extent, grid, mosaic.parts)]
            work = 0
            for index, model in zip(np.ndindex(*mosaic.parts), mosaic.models, strict=True):
                points = math.prod(int((part == i).sum()) for part, i in zip(place, index))
                n, weights = len(model.latent_codes), model.target.weights
                work += points and (16 * n * weights if model.generator == "dense" else -(-weights // n) * n) + points * (
                    weights + 16 * model.target.depth * model.target.width
                )
            box = {"grid": grid, "offset": offset, "extent": extent}
            assert np.array_equal(doh.decode(data, **box, limits={"max_work": work}), reference.samples(mosaic, **box))
            with pytest.raises(doh.DohError, match="LIMIT_WORK"):
                doh.decode(data, **box, limits={"max_work": work - 1})


def test_latents_and_weights_are_limited_in_sum():
    data = vector("mosaic-different-networks")
    models = reference.read_model(data).models
    latents, weights = sum(len(m.latent_codes) for m in models), sum(m.target.weights for m in models)
    assert doh.decode(data, limits={"max_latents": latents, "max_weights": weights}).shape == (21, 17, 3)
    for limits, error in (({"max_latents": latents - 1}, "LIMIT_LATENTS"), ({"max_weights": weights - 1}, "LIMIT_WEIGHTS")):
        with pytest.raises(doh.DohError, match=error):
            doh.decode(data, grid=(1, 1), limits=limits)  # of one part


def test_the_most_parts():
    """2^16 parts of one point each: all in the C++ core, a box in both; one part more is too many."""
    one = small_model(1, 40, "tied", (256, 256))
    models = [replace(one, output_bias_codes=np.full(1, i % 4096, np.int32)) for i in range(1 << 16)]
    data = container.pack(Mosaic((256, 256), tuple(models)))
    samples = doh.decode(data)
    rows = [models[i * 256 + 255] for i in range(256)]
    assert [reference.samples(m, (1, 1)).item() for m in rows[:9]] == samples[:9, 255, 0].tolist()
    box = {"grid": (300, 200), "offset": (200, 100), "extent": (2, 3)}
    assert np.array_equal(reference.decode(data, **box), doh.decode(data, **box))
    with pytest.raises(doh.DohError, match="BAD_SHAPE"):
        container.pack_unsealed(Mosaic((257, 256), (replace(one, shape=(257, 256)),) * (257 * 256)))


def test_the_mosaic_of_the_specification():
    """docs/format.md, section 14.1, against its vector."""
    text = (KAT.parent.parent / "docs" / "format.md").read_text().split("### 14.1 A mosaic", 2)[-1]
    data = bytes.fromhex(next(line for line in text.splitlines() if line.startswith("    d0 48")))
    assert data == vector("mosaic-two-pixels") and f"{len(data)} bytes: two grey pixels" in text
    first, second = reference.read_model(data).models
    alone = reference.read_model(vector("image-1x1-grey-n1"))
    assert first.latent_codes == alone.latent_codes == 6 and [w.tolist() for w in reference.integer_weights(second)] == [[[-215, 215]], [[4424]]]
    assert reference.decode(data).ravel().tolist() == [119, 197] and "**119**" in text and "**197**" in text
    assert reference.decode(data, (1, 4), (0, 1), (1, 1)).item() == 124 and "sample 124" in text
