"""The entropy coder against the empirical entropy of the codes, and against general-purpose compressors."""

from __future__ import annotations

import bz2
import lzma
import zlib

import numpy as np
import pytest

from doh import _core, container
from doh.model import BiasScale, QuantModel, Scale, Target


def packed(codes: np.ndarray) -> bytes:
    """A file with these latent codes and, beside them, two biases that are zero."""
    target = Target(1, 1, 1, 1)
    zero = np.zeros((1, 1), np.int32)
    return container.pack_unsealed(
        QuantModel("array", "u8", (1,), target, "tied", 0, codes, (Scale(0, 10, 10), Scale(0, 10, 10)), BiasScale(0, 0), zero, zero[0])
    )


def empirical_bits(codes: np.ndarray) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / len(codes))).sum())


DISTRIBUTIONS = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "laplace": lambda rng, n: rng.laplace(0, 2**-0.5, n),
    "uniform": lambda rng, n: rng.uniform(-(3**0.5), 3**0.5, n),
    "student": lambda rng, n: rng.standard_t(5, n) * 0.6**0.5,
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("sigma", [1, 2.5, 8, 20, 40])
def test_within_two_percent_of_the_empirical_entropy_at_n_4500(kind, sigma):
    codes = np.rint(sigma * DISTRIBUTIONS[kind](np.random.default_rng(7), 4500)).astype(np.int32)
    data = packed(codes)
    assert np.array_equal(container.unpack(data).latent_codes, codes)
    payload = 8 * _core.read_info(data)["payload_bytes"] - 16  # two biases, and the rounding to a byte
    assert payload <= 1.02 * empirical_bits(codes)


@pytest.mark.parametrize("sigma", [2.5, 8, 20, 40])
def test_ahead_of_general_compressors(sigma):
    codes = np.rint(np.random.default_rng(3).normal(0, sigma, 4500)).clip(-127, 127).astype(np.int32)
    raw = codes.astype(np.int8).tobytes()
    rivals = [bz2.compress(raw, 9), zlib.compress(raw, 9), lzma.compress(raw, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "lc": 0}])]
    assert _core.read_info(packed(codes))["payload_bytes"] < min(map(len, rivals))


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_any_codes_come_back(n):
    rng = np.random.default_rng(n)
    for codes in (np.zeros(n), np.full(n, -32768), np.full(n, 32767), rng.integers(-32768, 32768, n), rng.integers(-1, 1, n)):
        codes = codes.astype(np.int32)
        assert np.array_equal(container.unpack(packed(codes)).latent_codes, codes)


def test_what_is_not_codes_takes_at_most_64_bytes_in_any_image():
    """The longest header that the encoder writes for an image: every variable-length field at its longest."""
    target = Target(2, 4, 1024, 9, 16, "1.4")
    scales = (Scale(2047, 47, 17), Scale(2047, 47, 17), Scale(2047, 47, 14))
    codes, biases = np.zeros(1 << 20, np.int32), np.zeros((9, 1024), np.int32)
    model = QuantModel("image", "u16", (2**19, 2**19), target, "tied", 2**64 - 1, codes, scales, BiasScale(2047, 20), biases, biases[0, :4])
    info = _core.read_info(container.pack_unsealed(model), {"max_samples": 1 << 40, "max_weights": 1 << 24, "max_work": 1 << 63, "max_memory": 1 << 40})
    assert info["header_bytes"] + 8 <= 64
