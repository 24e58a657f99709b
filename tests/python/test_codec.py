"""encode(): arrays, signals and files in, complete files out."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

import doh
from doh import EncodeError, Signal, reference
from doh.codec import signal_of

pytest.importorskip("torch")

IMAGE = np.random.default_rng(0).integers(0, 256, (10, 14, 3), np.uint8)
QUICK = {"latents": 60, "steps": 15, "threads": 1}


def test_a_file_that_decodes_everywhere():
    data = doh.encode(IMAGE, seed=7, **QUICK)
    info = doh.verify(data)
    assert (info.signal, info.sample_type, info.shape, info.channels, info.latents, info.seed) == ("image", "u8", (10, 14), 3, 60, 7)
    assert np.array_equal(doh.decode(data), reference.decode(data))


def test_the_same_bytes_again():
    assert doh.encode(IMAGE, **QUICK) == doh.encode(IMAGE, **QUICK)
    assert doh.encode(IMAGE, **QUICK) != doh.encode(IMAGE, seed=1, **QUICK)


@pytest.mark.parametrize("rate", [{"bytes": 200}, {"bpp": 12.0}])
def test_rates(rate):
    budget = rate.get("bytes") or rate["bpp"] * 140 / 8
    assert 0.97 * budget <= len(doh.encode(IMAGE, steps=15, threads=1, **rate)) <= budget


def test_sources(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    wanted = doh.encode(IMAGE, **QUICK)
    assert doh.encode(path, **QUICK) == doh.encode(str(path), **QUICK) == doh.encode(Signal(IMAGE, "image", "u8"), **QUICK) == wanted
    grey = signal_of(np.zeros((3, 4), np.uint16))
    assert (grey.samples.shape, grey.kind, grey.sample_type) == ((3, 4, 1), "image", "u16")


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2), (0, 4), (2, 2, 40)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(EncodeError):
        doh.encode(np.zeros(shape, np.uint8), **QUICK)


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.zeros((3, 3), np.int16), [[1]], None])
def test_other_sources_are_refused(bad):
    with pytest.raises(EncodeError):
        doh.encode(bad, **QUICK)
    with pytest.raises(EncodeError):
        Signal(bad)


def test_a_mask_is_not_ignored():
    masked = np.ma.masked_greater(IMAGE, 99)
    for encode in (lambda: doh.encode(masked, **QUICK), lambda: Signal(masked)):
        with pytest.raises(EncodeError, match="samples cannot be masked: fill what is masked first"):
            encode()
    assert doh.encode(masked.filled(0), **QUICK) == doh.encode(np.where(IMAGE > 99, 0, IMAGE).astype(np.uint8), **QUICK)


def test_settings_by_name():
    assert doh.read_info(doh.encode(IMAGE, width=5, depth=2, **QUICK)).width == 5
    with pytest.raises(EncodeError, match=r"'widht'.*'width'"):
        doh.encode(IMAGE, widht=5, **QUICK)
    with pytest.raises(EncodeError, match="exclude"):
        doh.encode(IMAGE, bpp=1.0, **QUICK)
    with pytest.raises(EncodeError, match="unknown preset"):
        doh.encode(IMAGE, preset="fastest", **QUICK)
    for bad in ({}, "fast", doh.Config):
        with pytest.raises(EncodeError, match=r"config is a doh\.Config, not a (dict|str|type): name a preset by preset="):
            doh.encode(IMAGE, config=bad, **QUICK)
        with pytest.raises(EncodeError, match=r"config is a doh\.Config"):
            doh.encode_many([IMAGE], config=bad, **QUICK)
    for rate in ("bytes", "bpp", "latents"):
        for nothing in (0, np.int64(0)):
            with pytest.raises(EncodeError, match=f"{rate} must be more than 0: leave it out"):
                doh.encode(IMAGE, **{rate: nothing})
    assert len(doh.encode(IMAGE, bytes=200, **(QUICK | {"latents": 0}))) <= 200
    with pytest.raises(EncodeError, match="unknown preset None"):
        doh.encode(IMAGE, preset=None)
    assert doh.encode(IMAGE, config=doh.Config(**QUICK), seed=4) == doh.encode(IMAGE, config=doh.Config(**QUICK, seed=4), preset="nothing")


def test_checkpoint_stays_until_the_caller_has_stored_the_file(tmp_path):
    path = tmp_path / "state"
    data = doh.encode(IMAGE, checkpoint=path, checkpoint_seconds=0.0, **QUICK)
    assert list(tmp_path.iterdir()) == [path]
    assert doh.encode(IMAGE, checkpoint=path, resume=True, **QUICK) == data


def test_without_torch(monkeypatch):
    monkeypatch.delattr(doh, "train", raising=False)  # put back afterwards: the import that fails leaves another
    for name in [m for m in sys.modules if m.startswith("doh.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EncodeError, match=r"doh\[train\]"):
        doh.encode(IMAGE, **QUICK)
