"""How many frequencies an image's positional encoding has: the waves it is made of."""

import numpy as np
import pytest

pytest.importorskip("torch")

from doh.config import Config
from doh.signal import Signal
from doh.train import spectrum
from doh.train.mosaic import run_for
from doh.train.parts import _cosines, cut_out
from doh.train.plan import bits_of, frequencies_below, plan, with_encoding


def image(values: np.ndarray, kind: str = "image") -> Signal:
    """Of values in [-1, 1], with a channel."""
    return Signal(np.ascontiguousarray(np.round(127.5 + 127 * values).astype(np.uint8)[..., None]), kind, "u8")


def wave(height: int, width: int, down: float, across: float) -> np.ndarray:
    """So many waves down and across, as a cosine transform has them: a crest at the first border."""
    y, x = ((np.arange(n) + 0.5) / n for n in (height, width))
    return np.cos(2 * np.pi * down * y)[:, None] * np.cos(2 * np.pi * across * x)


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_the_transform_is_the_orthonormal_one(size):
    values = np.random.default_rng(0).normal(size=(3, size, 2))
    wanted = np.einsum("ki,aib->akb", _cosines(size).astype(np.float64), values)
    assert np.allclose(spectrum._cosine_transform(values, 1), wanted, atol=1e-5)  # the table is of float32
    assert np.isclose(np.square(spectrum._cosine_transform(values, 1)).sum(), np.square(values).sum(), rtol=1e-12)


def test_strongest_waves():
    mixed = 0.5 * wave(48, 96, 3, 0) + 0.3 * wave(48, 96, 1.5, 11.5) + 0.2 * wave(48, 96, 9, 4)
    strong = [spectrum.strong_waves([image(mixed)], count) for count in (2, 3, 4)]  # the mean, of no waves, is the strongest
    assert strong == pytest.approx([0.4 * 3, 0.8 * 3, 3 + 0.2 * (9 - 3)])  # of 0, 3; of 11.5 besides; of 9 besides
    assert spectrum.strong_waves([image(mixed)], 10**6) <= 48  # all that there are


def test_parts_count_alike():
    slow, fast = (image(0.4 * wave(32, 32, low, 0) + 0.4 * wave(32, 32, 0, high)) for low, high in ((2, 3), (12, 14)))
    assert spectrum.strong_waves([slow, slow, fast], 9) == pytest.approx(2.0)  # of 0, 0, 0, 2, 2, 3, 3, 12, 14
    assert spectrum.strong_waves([slow, fast, fast], 9) == pytest.approx(2.2)


def test_of_large_signals_blocks_are_added_up(monkeypatch):
    slow = image(wave(64, 200, 2, 5))
    wanted = spectrum.strong_waves([slow], 2)
    monkeypatch.setattr(spectrum, "LOOKED_AT", 1000)  # blocks of 4 x 4
    samples = np.random.default_rng(0).integers(0, 256, (65, 201, 3), np.uint8)
    assert np.array_equal(spectrum._reduced(samples), samples[:64, :200].reshape(16, 4, 50, 4, 3).sum(axis=(1, 3, 4)))
    assert spectrum._reduced(np.ones((1, 9000, 1), np.uint8)).tolist() == [[3.0] * 3000]
    assert spectrum.strong_waves([slow], 2) == wanted == pytest.approx(0.4 * 5)


def test_frequencies_follow_the_image():
    settings = Config(bytes=2000, steps=10)
    noise = np.random.default_rng(0).uniform(-1, 1, (256, 320))
    smooth = np.cumsum(np.cumsum(noise, 0), 1)
    few, many = (plan(image(values), settings).target for values in (smooth / abs(smooth).max(), noise))
    assert few.ladder == many.ladder == "1.4" and few.frequencies < many.frequencies == frequencies_below(320 / 4, "1.4")  # no more than the grid carries


def test_what_is_set_stays():
    noise = image(np.random.default_rng(0).uniform(-1, 1, (256, 320)))
    assert plan(noise, Config(bytes=2000, frequencies=16)).target.frequencies == 16
    octaves = plan(noise, Config(bytes=2000, ladder="octaves")).target
    assert octaves.ladder == "octaves" and octaves.frequencies == 1 + int(np.log2(spectrum.strong_waves([noise], int(16000 / 5.5))))
    fixed = with_encoding(noise, Config(frequencies=0, ladder="octaves"))
    assert (fixed.frequencies, fixed.ladder) == (0, "octaves")
    assert plan(image(np.zeros((256, 320)), "array"), Config(latents=300)).target.frequencies == frequencies_below(80, "1.4")  # not of images


def test_large_images_have_the_dense_ladder():
    large = np.add.outer(np.arange(1100), np.arange(1200))
    assert with_encoding(image(large / large.max()), Config(latents=3000)).ladder == "1.4"
    assert with_encoding(image(large / large.max(), "array"), Config(latents=3000)).ladder == "octaves"


def test_parts_have_one_encoding():
    values = wave(128, 256, 2, 3)
    values[:, 128:] = np.random.default_rng(0).uniform(-1, 1, (128, 128))
    signal, settings = image(values), Config(bytes=3000, parts="1x2", steps=10)
    targets = [run.plan.target for run in run_for(signal, settings).runs]
    assert len({(t.frequencies, t.ladder) for t in targets}) == 1
    waves = spectrum.strong_waves([part.signal for part in cut_out(signal, (1, 2))], int(8 * 3000 / bits_of(signal, settings)))
    assert targets[0].frequencies == frequencies_below(waves, targets[0].ladder)
