"""What libraries say while they read is kept quiet, in several threads at a time, and nothing else is."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from doh import errors
from doh.signals import images, meshes
from doh.signals.libraries import quietly

#: Seconds that one thread waits for another, which is not to come: a test may take that long, but does not hang on it.
PATIENCE = 0.2


class Two:
    """Has what two threads do inside their contexts overlap, if these let them: the second enters before the first leaves, and leaves after it."""

    def __init__(self) -> None:
        self.first = threading.Lock()
        self.entered, self.left = threading.Event(), threading.Event()

    def inside(self, *_: object, **__: object) -> None:
        warnings.warn("not to be heard", stacklevel=1)
        if self.first.acquire(blocking=False):
            self.entered.wait(PATIENCE)
        else:
            self.entered.set()
            self.left.wait(PATIENCE)

    def run(self, work) -> None:
        def one(number: int) -> None:
            try:
                work(number)
            finally:
                self.left.set()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, range(2)))


def test_log_lines_and_warnings_of_two_threads():
    logger, two = logging.getLogger("test_libraries"), Two()

    def work(number):
        with quietly(logger):
            assert logger.level == logging.CRITICAL
            two.inside()

    logger.setLevel(logging.INFO)
    before = list(warnings.filters)
    two.run(work)
    assert warnings.filters == before and logger.level == logging.INFO
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_two_threads_that_read_images(tmp_path, monkeypatch):
    two, read = Two(), images._read
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "_read", lambda data: (two.inside(), read(data))[1])
    before = list(warnings.filters)
    two.run(lambda number: images.read_image(tmp_path / "a.png"))
    assert warnings.filters == before


def test_two_threads_that_read_meshes(tmp_path, monkeypatch):
    trimesh, two = pytest.importorskip("trimesh"), Two()
    box, load = trimesh.creation.box(), trimesh.load
    (tmp_path / "a.ply").write_bytes(box.export(file_type="ply"))
    monkeypatch.setattr(trimesh, "load", lambda *a, **b: (two.inside(), load(*a, **b))[1])
    before = list(warnings.filters)
    two.run(lambda number: meshes.read_mesh(tmp_path / "a.ply"))
    assert warnings.filters == before


def test_one_context_within_another(tmp_path):
    """As in the reading of a TIFF file by tifffile, which images.py asks for."""
    stream = io.BytesIO()
    with errors.no_warnings(), quietly(logging.getLogger("test_libraries")):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(stream, "PNG")
    assert stream.getvalue()


def test_a_warning_of_dohs_own_waits_until_it_is_heard():
    entered, told = threading.Event(), threading.Event()

    def reader():
        with errors.no_warnings():
            entered.set()
            told.wait(PATIENCE)

    def speaker():
        entered.wait(10)
        errors.warn("out of bounds")
        told.set()

    with pytest.warns(UserWarning, match="out of bounds"), ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(reader), pool.submit(speaker)]:
            each.result()
