"""Boxes of grids: the reference and the core take the same ones and refuse the same ones; numbers of all kinds; Ctrl-C in the midst of a decode."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from conftest import VECTORS

import doh
from doh import _core, container, reference
from doh.export import build, run

FILE = (VECTORS / "valid" / "image-prime-31x29.doh").read_bytes()  # 31 x 29
BEYOND = [
    ((4, 4), (0, 0), (8, 8)),
    ((4, 4), (4, 0), None),
    ((4, 4), (5, 0), None),
    ((4, 4), (0, 0), (0, 4)),
    ((4, 4), (3, 0), (2, 1)),
    ((0, 4), (0, 0), (1, 1)),
    ((1 << 31, 4), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("grid, offset, extent", BEYOND)
def test_boxes_that_are_not_in_their_grid(grid, offset, extent):
    with pytest.raises(doh.DohError, match="BAD_ARGUMENT"):
        doh.decode(FILE, grid=grid, offset=offset, extent=extent)
    with pytest.raises(reference.InvalidFile, match="BAD_ARGUMENT"):
        reference.decode(FILE, grid, offset, extent)


def test_numbers_of_any_kind():
    wanted = doh.decode(FILE, grid=(4, 5), offset=(1, 0), extent=(2, 3))
    for kind in (list, np.array, lambda box: np.array(box, np.uint8)):
        found = doh.decode(FILE, grid=kind((4, 5)), offset=kind((1, 0)), extent=kind((2, 3)))
        assert np.array_equal(found, wanted)
        assert np.array_equal(reference.decode(FILE, kind((4, 5)), kind((1, 0)), kind((2, 3))), wanted)
    assert np.array_equal(doh.decode(FILE, grid=np.array((4, 5)), offset=np.array((0, 0))), doh.decode(FILE, grid=(4, 5)))
    assert np.array_equal(doh.decode(FILE, crop=np.array((1, 2, 3, 4))), doh.decode(FILE)[1:4, 2:6])


@pytest.mark.parametrize(
    "box, what",
    [
        ({"crop": (0, 0, 1.5, 1)}, "crop is made of whole numbers"),
        ({"grid": (4.0, 4)}, "grid is made of whole numbers"),
        ({"grid": (4, 4), "offset": (0, -1)}, "offset has a number that is out of range"),
        ({"grid": (4, 4), "extent": (1, 1 << 64)}, "extent has a number that is out of range"),
        ({"grid": (4, 4, 4)}, "one number for each dimension"),
    ],
)
def test_what_is_no_box(box, what):
    with pytest.raises(ValueError, match=what):
        doh.decode(FILE, **box)


def test_no_block_of_an_onnx_file_is_empty():
    graph = build(FILE, "exact-baked").SerializeToString()
    for block in (0, -5):
        with pytest.raises(ValueError, match="block is a number of points, at least 1"):
            run(graph, block=block)
    assert np.array_equal(run(graph, block=1), doh.decode(FILE))


def test_the_generators_take_limits():
    data = (VECTORS / "valid" / "dense.doh").read_bytes()
    info = doh.read_info(data)
    work = (16 * info.latents + 1) * info.weights + 16 * info.depth * info.width  # as for a box of one point
    assert _core.weight_sums(data, {"max_work": work}) and _core.integer_weights(data, limits={"max_work": work})
    for make in (_core.weight_sums, _core.integer_weights):
        with pytest.raises(doh.DohError, match="LIMIT_WORK"):
            make(data, limits={"max_work": work - 1})


# Ctrl-C


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_a_decode(threads):
    """Of a picture that takes seconds: its last point is not reached."""
    side = 1 << 13
    data = container.pack_unsealed(replace(container.unpack(FILE), shape=(side, side)))
    box = {"grid": (side, side), "offset": (side - 1, side - 1), "extent": (1, 1)}
    assert doh.decode(data, **box).any()
    out = np.zeros((side, side, 3), np.uint8)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            _core.decode(data, out, threads=threads, kernel="scalar")
    finally:
        timer.cancel()
    assert not out[-1, -1].any()
    assert np.array_equal(doh.decode(FILE), reference.decode(FILE))  # all is well afterwards
