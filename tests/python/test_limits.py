"""Headers that ask for too much are answered before anything is allocated; memory is what the published formula says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import VECTORS

import doh
from doh import _core

HOSTILE = {
    "samples-2-to-40": "LIMIT_SAMPLES",
    "latents-2-to-31": "BAD_GENERATOR",
    "latents-2-to-22": "LIMIT_LATENTS",
    "width-one-million": "BAD_NETWORK",
    "work-beyond-limit": "LIMIT_WORK",
    "mosaic-sum-of-latents-2-to-22": "LIMIT_LATENTS",
    "mosaic-sum-of-work-beyond-limit": "LIMIT_WORK",
    "mosaic-parts-2-to-16-without-records": "TRUNCATED",
}


def test_hostile_headers_cost_no_memory():
    """A child process decodes each hostile file; its peak memory grows by less than 1 MiB over that of the imports."""
    code = """
import resource, sys, doh
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for path in sys.argv[1:]:
    try:
        doh.decode(path)
    except doh.DohError as error:
        print(error.name)
print(peak() - before)
"""
    files = [VECTORS / "invalid" / f"{name}.doh" for name in HOSTILE]
    *errors, grown = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True).stdout.split()
    assert errors == list(HOSTILE.values()) and int(grown) < 1024


def test_a_region_is_judged_before_its_array_exists():
    data = (VECTORS / "valid" / "image-1x1.doh").read_bytes()
    with pytest.raises(doh.DohError) as caught:
        doh.decode(data, grid=(2**31 - 1, 2**31 - 1), offset=(0, 0), extent=(2**31 - 1, 2**31 - 1))
    assert caught.value.name == "LIMIT_SAMPLES"


@pytest.mark.parametrize(
    "limit, value, error",
    [
        ("max_samples", 2696, "LIMIT_SAMPLES"),
        ("max_latents", 199, "LIMIT_LATENTS"),
        ("max_weights", 100, "LIMIT_WEIGHTS"),
        ("max_work", 1000, "LIMIT_WORK"),
        ("max_memory", 1000, "LIMIT_MEMORY"),
    ],
)
def test_a_caller_lowers_the_limits(limit, value, error):
    data = (VECTORS / "valid" / "image-prime-31x29.doh").read_bytes()
    for call in (doh.decode, doh.verify):
        with pytest.raises(doh.DohError) as caught:
            call(data, limits={limit: value})
        assert caught.value.name == error


@pytest.mark.parametrize(
    "region", [((31, 29), (0, 0), (32, 29)), ((31, 29), (31, 0), (1, 1)), ((31, 29), (0, 0), (0, 1)), ((0, 29), (0, 0), (1, 1)), ((31, 29), (2**40, 0), (1, 1))]
)
def test_boxes_outside_their_grid_are_refused(region):
    data = (VECTORS / "valid" / "image-prime-31x29.doh").read_bytes()
    grid, offset, extent = region
    with pytest.raises(doh.DohError) as caught:
        _core.decode(data, np.empty((*(min(e, 64) for e in extent), 3), np.uint8), grid=grid, offset=offset, extent=extent)
    assert caught.value.name == "BAD_ARGUMENT"


def test_bytes_like_objects_of_all_kinds_are_read():
    data = (VECTORS / "valid" / "dense.doh").read_bytes()
    samples = doh.decode(data)
    for same in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), VECTORS / "valid" / "dense.doh", str(VECTORS / "valid" / "dense.doh")):
        assert np.array_equal(doh.decode(same), samples)


@pytest.mark.parametrize(
    "scale, crop, shape",
    [(1, None, (31, 29)), (2, None, (62, 58)), ("1/2", None, (16, 15)), (0.1, None, (3, 3)), (4, (10, 5, 8, 6), (32, 24)), ("3/2", (1, 1, 2, 2), (3, 3))],
)
def test_zoom_and_crop_are_boxes_of_the_whole_zoomed_decode(scale, crop, shape):
    data = (VECTORS / "valid" / "image-prime-31x29.doh").read_bytes()
    samples = doh.decode(data, scale=scale, crop=crop)
    assert samples.shape == (*shape, 3)
    grid, offset, extent = doh.container.zoomed_box((31, 29), scale, crop)
    whole = doh.decode(data, scale=scale)
    assert np.array_equal(samples, whole[tuple(slice(o, o + e) for o, e in zip(offset, extent))]) and whole.shape[:2] == grid


@pytest.mark.parametrize("number", [np.uint8, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64], ids=lambda number: number.__name__)
def test_a_scale_may_be_a_number_of_numpy(number):
    """With one of few bits the sizes would wrap around: 31 * 16 does not fit into 8."""
    data = (VECTORS / "valid" / "image-prime-31x29.doh").read_bytes()
    assert np.array_equal(doh.decode(data, scale=number(16)), doh.decode(data, scale=16))
    assert np.array_equal(doh.decode(data, grid=(5, 5), scale=number(1)), doh.decode(data, grid=(5, 5)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 0},
        {"scale": -1},
        {"scale": "x"},
        {"scale": float("nan")},
        {"scale": None},
        {"scale": (2, 2)},
        {"scale": np.array([2, 2])},
        {"scale": np.float32("nan")},
        {"scale": np.uint8(0)},
        {"scale": 1j},
        {"crop": (0, 0, 32, 1)},
        {"crop": (0, 0, 1)},
        {"crop": (-1, 0, 1, 1)},
        {"offset": (0, 0)},
        {"grid": (3, 3), "scale": 2},
        {"grid": (3, 3), "scale": "1/0"},
        {"grid": (3, 3), "scale": "x"},
        {"grid": (3, 3), "scale": None},
        {"grid": (3, 3), "scale": (1, 1)},
    ],
)
def test_senseless_requests_are_value_errors(arguments):
    with pytest.raises(ValueError):
        doh.decode(VECTORS / "valid" / "image-prime-31x29.doh", **arguments)
