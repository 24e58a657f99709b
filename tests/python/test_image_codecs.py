"""The codecs that tools/rd_kodak measures doh against: the search for their best file of a size, and that each is set up as it is told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import _image_codecs
import numpy as np
import pytest


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


#: What Pillow is asked for, beside the level: the encoder's best, in decibels, among its settings of a bearable speed.
ASKED = {
    "jpeg": {"format": "JPEG", "optimize": True, "progressive": True},
    "jpeg2000": {"format": "JPEG2000", "quality_mode": "rates", "irreversible": True, "mct": 1, "no_jp2": True},
    "avif": {"format": "AVIF", "speed": 4, "codec": "aom", "advanced": {"tune": "psnr"}},
    "heic": {"format": "HEIF", "enc_params": {"preset": "slow", "tune": "psnr"}},
}
BY_VARIANT = {
    "usual-4:2:0": {"quality": 41, "subsampling": "4:2:0"},
    "usual-4:4:4": {"quality": 41, "subsampling": "4:4:4"},
    "flat-4:2:0": {"qtables": [[_image_codecs.flat_step(40)] * 64] * 2, "subsampling": "4:2:0"},
    "flat-4:4:4": {"qtables": [[_image_codecs.flat_step(40)] * 64] * 2, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("key", ASKED)
def test_codecs_are_set_up_as_they_are_told(key, picture, monkeypatch):
    codec, asked = _image_codecs.CODECS[key], []
    if what := codec.missing():
        pytest.skip(f"not here: {what}")
    monkeypatch.setattr(_image_codecs.Image.Image, "save", lambda image, stream, format, **options: asked.append({"format": format, **options}))
    for variant in codec.variants:
        codec.save(_image_codecs.Image.fromarray(picture), None, variant, 40)
    chroma = {"avif": "subsampling", "heic": "chroma"}.get(key)
    for variant, found in zip(codec.variants, asked, strict=True):
        more = BY_VARIANT.get(variant, {"quality": 40})
        more |= {chroma: variant if key == "avif" else variant.replace(":", "")} if chroma else {}
        found.pop("quality_layers", None)
        assert found == {**ASKED[key], **({} if key == "jpeg2000" else more)}
    if key != "jpeg2000":
        assert {variant[-5:] for variant in codec.variants} == {"4:2:0", "4:4:4"}


def test_webp_is_tuned_for_psnr(picture):
    """Its slowest method, and more decibels than Pillow's, which has the default tuning only."""
    codec = _image_codecs.CODECS["webp"]
    if what := codec.missing():
        pytest.skip(f"not here: {what}")
    pillow = replace(codec, variants=("4:2:0",), save=lambda image, stream, variant, level: image.save(stream, "WEBP", quality=level / 4, method=6))
    alone = replace(codec, variants=("default",))
    for budget in (2500, 5000):
        best, default, its = (_image_codecs.Search(c, picture).best(budget).psnr for c in (codec, alone, pillow))
        assert best > default and default == pytest.approx(its, abs=0.1)


def test_flat_tables_have_every_step_of_use():
    steps = [_image_codecs.flat_step(level) for level in range(95)]
    assert (steps[0], steps[-1]) == (255, 3) and steps == sorted(steps, reverse=True) and max(a / b for a, b in pairwise(steps)) < 1.34


def test_a_missing_codec_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_image_codecs, "find_spec", lambda name: None)
    monkeypatch.setattr(_image_codecs.features, "check", lambda name: False)
    words = {key: codec.missing() for key, codec in _image_codecs.CODECS.items()}
    assert words["heic"] == "pip install pillow-heif" and all("pip install" in text for text in words.values())
