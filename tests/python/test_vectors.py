"""The conformance vectors: the numpy reference and the C++ core, compared with == against the stored hashes."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np
import pytest
from conftest import VECTORS, table

import doh
from doh import _core, container, reference
from doh.model import Mosaic

VALID = table(VECTORS / "valid" / "expected.tsv")
INVALID = table(VECTORS / "invalid" / "expected.tsv")
REGIONS = table(VECTORS / "valid" / "regions.tsv")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def networks(model) -> tuple:
    return model.models if isinstance(model, Mosaic) else (model,)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def test_there_are_enough_vectors_and_each_is_listed():
    assert len(VALID) >= 40 and len(INVALID) >= 25
    for folder, rows in (("valid", VALID), ("invalid", INVALID)):
        assert {path.name for path in (VECTORS / folder).glob("*.doh")} == {row[0] for row in rows}
    errors = {error for _, error in INVALID}
    assert errors >= {
        "TRUNCATED",
        "BAD_MAGIC",
        "BAD_VERSION",
        "BAD_CHECKSUM",
        "BAD_VARINT",
        "BAD_SIGNAL",
        "BAD_SHAPE",
        "BAD_NETWORK",
        "BAD_GENERATOR",
        "BAD_SCALE",
        "BAD_CODES",
        "BAD_SAMPLES",
        "LIMIT_SAMPLES",
        "LIMIT_LATENTS",
        "LIMIT_WEIGHTS",
        "LIMIT_WORK",
    }


@pytest.mark.parametrize("name, file_hash, samples_hash", VALID)
def test_valid(name, file_hash, samples_hash):
    data = (VECTORS / "valid" / name).read_bytes()
    assert sha256(data) == file_hash
    for samples in (reference.decode(data), doh.decode(data)):
        assert sha256(container.canonical(samples).tobytes()) == samples_hash
    model = reference.read_model(data)
    if isinstance(model, Mosaic):
        return
    for ours, theirs in zip(reference.weight_sums(model), _core.weight_sums(data), strict=True):
        assert np.array_equal(ours, theirs)
    for ours, theirs in zip(reference.integer_weights(model), _core.integer_weights(data), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kernel", _core.kernels())
def test_every_kernel_gives_the_same_bytes(kernel):
    for name, _, samples_hash in VALID:
        data = (VECTORS / "valid" / name).read_bytes()
        info = doh.read_info(data)
        for threads in (1, 2, 5):
            samples = np.empty((*info.shape, info.channels), info.dtype)
            _core.decode(data, samples, kernel=kernel, threads=threads)
            assert sha256(container.canonical(samples).tobytes()) == samples_hash, name


def test_an_unknown_kernel_is_an_error():
    data = (VECTORS / "valid" / "dense.doh").read_bytes()
    with pytest.raises(doh.DohError, match="UNKNOWN_KERNEL"):
        _core.decode(data, np.empty((17, 13, 3), np.uint8), kernel="abacus")


@pytest.mark.parametrize("name, file_hash, samples_hash", VALID)
def test_unpack_and_pack_give_the_same_bytes(name, file_hash, samples_hash):
    data = (VECTORS / "valid" / name).read_bytes()
    model = container.unpack(data)
    ours = reference.read_model(data)
    assert type(model) is type(ours) and model.samples_crc == ours.samples_crc
    if isinstance(model, Mosaic):
        assert model.parts == ours.parts
    for theirs, mine in zip(networks(model), networks(ours), strict=True):
        for field in fields(mine):
            if field.name != "samples_crc":  # of a network in a mosaic it means nothing
                assert np.array_equal(getattr(theirs, field.name), getattr(mine, field.name)), field.name
    assert container.pack_unsealed(model) == data
    assert container.pack(container.with_samples_crc(model, 0)) == data


@pytest.mark.parametrize("name, grid, offset, extent, samples_hash", REGIONS)
def test_regions(name, grid, offset, extent, samples_hash):
    data = (VECTORS / "valid" / name).read_bytes()
    box = {"grid": numbers(grid), "offset": numbers(offset), "extent": numbers(extent)}
    for samples in (reference.decode(data, **box), doh.decode(data, **box)):
        assert sha256(container.canonical(samples).tobytes()) == samples_hash


@pytest.mark.parametrize("name, error", INVALID)
def test_invalid(name, error):
    data = (VECTORS / "invalid" / name).read_bytes()
    with pytest.raises(doh.DohError) as caught:
        doh.decode(data, limits=None)
    assert caught.value.name == error and str(caught.value).startswith(f"{error}: ")
    if not error.startswith("LIMIT"):
        with pytest.raises(reference.InvalidFile) as said:
            reference.decode(data)
        assert said.value.name == error


SMALL = ["image-1x1.doh", "dense.doh", "audio-1d-s16.doh", "mosaic-1x2-grey.doh", "mosaic-6-of-9.doh"]


@pytest.mark.parametrize("name", SMALL)
def test_every_bit_flip_and_every_truncation_is_rejected(name):
    data = (VECTORS / "valid" / name).read_bytes()
    known = {"TRUNCATED", "BAD_MAGIC", "BAD_VERSION", "BAD_CHECKSUM"}
    broken = [data[:n] for n in range(len(data))]
    for i in range(len(data)):
        broken += [data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :] for bit in range(8)]
    for file in broken:
        with pytest.raises(doh.DohError) as caught:
            doh.decode(file)
        assert caught.value.name in known


@pytest.mark.parametrize("name", SMALL)
def test_mutations_with_a_right_checksum_end_in_samples_or_a_named_error(name):
    """An attacker signs again: whatever the header then says, decoding ends, in samples or a DohError, and within small limits."""
    data = bytearray((VECTORS / "valid" / name).read_bytes())
    limits = {"max_samples": 1 << 16, "max_work": 1 << 26, "max_memory": 1 << 22}
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(3000):
        file = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            file[rng.integers(5, min(len(file) - 8, 60))] = rng.integers(0, 256)
        file[-4:] = _core.crc32c(bytes(file[:-4])).to_bytes(4, "little")
        try:
            doh.decode(bytes(file), limits=limits)
            outcomes.add("decoded")
        except doh.DohError as error:
            outcomes.add(error.name)
    assert {"BAD_SAMPLES", "BAD_SHAPE", "BAD_SCALE", "TRUNCATED" if name.startswith("mosaic") else "BAD_NETWORK"} <= outcomes
