"""The codecs that tools/rd_kodak measures doh against: the search for their best file of a size, and that each is set up as it is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import _image_codecs


def level_codec(sizes: dict[str, list[int]]) -> _image_codecs.Codec:
    """Files of given sizes by variant and level, that hold the picture as PNG, the level as its brightness."""

    def save(image, stream, variant, level):
        image.point(lambda value: min(255, value + 100 - 10 * level)).save(stream, "PNG")
        stream.write(bytes(sizes[variant][level] - stream.tell()))

    return _image_codecs.Codec("test", ".t", "", tuple(sizes), lambda pixels: len(next(iter(sizes.values()))) - 1, save, lambda: "", lambda: "1")


def test_search_finds_the_best_that_fits():
    """A higher level is darker, so nearer to the black picture; sizes need not rise, and variants differ."""
    sizes = {"x": [200, 300, 400, 390, 500, 600], "y": [250, 350, 450, 550, 650, 750]}
    for order in (1, -1):
        search = _image_codecs.Search(level_codec(sizes), np.zeros((4, 4, 3), np.uint8))
        for budget in (1000, 601, 600, 599, 499, 449, 400, 399, 390, 350, 299, 200)[::order]:
            best = max(level for row in sizes.values() for level, size in enumerate(row) if size <= budget)
            found = search.best(budget)
            variant, level = found.choice.split()
            assert int(level) == best and len(found.data) == sizes[variant][best] <= budget
    found = search.best(199)
    assert found.data is None and found.smallest == 200


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[0:96, 0:128]
    waves = np.stack([np.sin(x / 9 + y / 31), np.sin(y / 7), np.cos((x - y) / 5)], -1)
    return np.round(127 + 90 * waves + np.random.default_rng(1).uniform(-30, 30, waves.shape)).astype(np.uint8)


@pytest.mark.parametrize("key", _image_codecs.CODECS)
def test_codecs_meet_budgets(key, picture):
    codec = _image_codecs.CODECS[key]
    if what := codec.missing():
        pytest.skip(f"not here: {what}")
    search = _image_codecs.Search(codec, picture)
    small, large = search.best(2500), search.best(5000)
    for found, budget in ((small, 2500), (large, 5000)):
        assert 0.75 * budget < len(found.data) <= budget and found.choice.split()[0] in codec.variants
    assert 20 < small.psnr < large.psnr and codec.version()
    nothing = search.best(60)
    assert nothing.data is None and nothing.smallest > 60


def test_jpeg2000_has_its_transforms(picture):
    """Without the colour transform, which Pillow leaves out unless asked, photographs lose decibels."""
    codec = _image_codecs.CODECS["jpeg2000"]
    if what := codec.missing():
        pytest.skip(f"not here: {what}")
    data = _image_codecs.Search(codec, picture).best(2500).data
    cod = data.index(b"\xff\x52")  # coding style: length 2, style 1, progression 1, layers 2, colour transform 1, levels 1, block size 2, style 1, wavelet 1
    assert data[:2] == b"\xff\x4f" and (data[cod + 8], data[cod + 13]) == (1, 0)


def test_a_missing_codec_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_image_codecs, "find_spec", lambda name: None)
    monkeypatch.setattr(_image_codecs.features, "check", lambda name: False)
    words = {key: codec.missing() for key, codec in _image_codecs.CODECS.items()}
    assert words["heic"] == "pip install pillow-heif" and all("pip install" in text for text in words.values())
