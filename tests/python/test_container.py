"""Mosaics through doh.container and the extension: what a header says of them, models to bytes and back, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import doh
from doh import _core, container
from doh.model import Mosaic

VECTORS = Path(__file__).parents[1] / "vectors" / "valid"


@pytest.fixture
def data() -> bytes:
    return (VECTORS / "mosaic-2x3-of-19x23.doh").read_bytes()


@pytest.fixture
def model(data) -> Mosaic:
    return container.unpack(data)


def fields_of(model: Mosaic) -> dict:
    """The dictionary that _core.pack takes."""
    return _core.unpack(container.pack_unsealed(model))


def test_info_has_the_largest_and_the_sums(data, model):
    info = container.read_info(data)
    assert (info.version, info.parts, info.shape) == (2, (2, 3), (19, 23))
    targets = [m.target for m in model.models]
    assert info.width == max(t.width for t in targets) and info.depth == max(t.depth for t in targets)
    assert info.weights == sum(t.weights for t in targets) and info.latents == sum(len(m.latent_codes) for m in model.models)
    raw = _core.read_info(data)
    assert raw["part_weights"] == max(t.weights for t in targets) and raw["part_latents"] == max(len(m.latent_codes) for m in model.models)
    assert info.header_bytes + info.payload_bytes + 8 == len(data)


def test_info_of_one_network():
    info = container.read_info(VECTORS / "dense.doh")
    assert info.version == 1 and info.parts == (1,) * len(info.shape)


def test_a_mosaic_comes_back(data, model):
    assert container.pack_unsealed(model) == data
    assert container.pack(container.with_samples_crc(model, 0), threads=3) == data
    assert np.array_equal(container.decode_unsealed(data, model, rows=slice(5, 12)), doh.decode(data)[5:12])


def test_the_networks_are_listed(data, model):
    raw = _core.unpack(data)
    assert raw["parts"] == (2, 3) and len(raw["networks"]) == 6 and "latent_codes" not in raw
    for network, each in zip(raw["networks"], model.models):
        assert network["weights"] == each.target.weights and network["latents"] == len(network["latent_codes"])
        assert network["bias_codes"].shape == (network["depth"], network["width"])


@pytest.mark.parametrize(
    "change",
    [{"seed": 999}, {"generator": "dense"}, {"shape": (19, 24)}, {"signal": "array"}, {"sample_type": "u16"}],
)
def test_models_that_disagree_are_refused(model, change):
    odd = dataclasses.replace(model, models=(*model.models[:5], dataclasses.replace(model.models[5], **change)))
    with pytest.raises(ValueError, match="mosaic"):
        container.pack_unsealed(odd)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"parts": (2, 2)}, ValueError),
        ({"parts": (6,)}, ValueError),
        ({"parts": (0, 6)}, ValueError),
        ({"parts": (2.0, 3)}, TypeError),
        ({"networks": [5] * 6}, TypeError),
        ({"networks": []}, ValueError),
        ({"seed": -1}, TypeError),
        ({"networks": [{"scales": [1]}] * 6}, KeyError),
    ],
)
def test_fields_of_a_mosaic_are_checked(model, change, error):
    with pytest.raises(error):
        _core.pack({**fields_of(model), **change})


def test_what_is_wrong_with_a_mosaic_is_named(model):
    fields = fields_of(model)
    for parts, count in (((1, 1), 1), ((20, 1), 20)):
        with pytest.raises(doh.DohError, match="BAD_SHAPE"):
            _core.pack({**fields, "parts": parts, "networks": (fields["networks"] * 4)[:count]})
    with pytest.raises(KeyError, match="parts"):
        _core.pack({key: value for key, value in fields.items() if key != "parts"})
    with pytest.raises(TypeError, match="a scale"):
        _core.pack({**fields, "networks": [{**fields["networks"][0], "scales": [1]}] * 6})
    fields["networks"][2]["width"] += 1
    with pytest.raises(ValueError, match="bias_codes"):
        _core.pack(fields)


def test_functions_for_one_network_refuse_a_mosaic(data):
    for weights in (_core.weight_sums, _core.integer_weights):
        with pytest.raises(doh.DohError, match="BAD_VERSION"):
            weights(data)


def test_limits_are_for_the_sums(data):
    info = container.read_info(data)
    container.verify(data, {"max_latents": info.latents, "max_weights": info.weights, "max_work": info.work}, threads=4)
    for name, amount in (("max_latents", info.latents), ("max_weights", info.weights), ("max_work", info.work)):
        with pytest.raises(doh.DohError, match="LIMIT_" + name[4:].upper()):
            container.unpack(data, {name: amount - 1})
    box = {"grid": info.shape, "offset": (0, 0), "extent": (9, 7)}  # of the first part alone
    _core.check_region(data, {"max_work": info.work // 4}, **box)
    with pytest.raises(doh.DohError, match="LIMIT_WORK"):
        _core.check_region(data, {"max_work": info.work // 4}, grid=info.shape, offset=(0, 0), extent=(19, 20))
