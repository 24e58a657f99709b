"""The float target network: encodings against the decoder's, gradients against autograd."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doh import reference  # noqa: E402
from doh.model import Target, ladder_multipliers  # noqa: E402
from doh.train.siren import Backpropagation, Encoding, coordinates, encoding_table, initial_gains, siren  # noqa: E402


@pytest.mark.parametrize("points", [1, 2, 7, 768, 4095])
def test_coordinates_are_the_decoders(points):
    assert np.array_equal(coordinates(points) * 2.0**31, reference.coordinates(0, points, points))


@pytest.mark.parametrize("ladder, frequencies", [("octaves", 0), ("octaves", 10), ("octaves", 16), ("1.4", 16)])
def test_table_is_the_decoders_encoding(ladder, frequencies):
    """Up to the 16-bit sine: 4 units of 2^-15 of its own, and a phase cut to 2^-16 turns."""
    table = encoding_table(50, frequencies, ladder)
    assert table.shape == (50, 1 + 2 * frequencies) and table.dtype == torch.float32
    theirs = reference.encoding(reference.coordinates(0, 50, 50), ladder_multipliers(ladder, frequencies)) / 32768
    assert np.abs(table[:, 1:].numpy() - theirs).max(initial=0) < 4 / 2**15 + np.pi / 2**16


@pytest.mark.parametrize("points", [1, 7, 1000, (1 << 14) + 13, 40001])
@pytest.mark.parametrize("ladder, frequencies", [("octaves", 0), ("octaves", 5), ("1.4", 16)])
def test_table_in_blocks_is_the_formula_to_the_bit(points, ladder, frequencies):
    x = coordinates(points)[:, None]
    phase = np.pi * x * (np.array(ladder_multipliers(ladder, frequencies), np.float64) / 4096)
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=-1).reshape(points, 2 * frequencies)
    assert np.array_equal(encoding_table(points, frequencies, ladder).numpy(), np.concatenate([x, waves], axis=1).astype(np.float32))


def test_a_long_table_needs_little_more_than_itself():
    points = 1 << 19
    tracemalloc.start()
    try:
        table = encoding_table(points, 16, "octaves")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.nbytes < peak < 1.6 * table.nbytes


def test_encoding_gathers_by_dimension_slowest_first():
    encoding = Encoding((3, 4, 5), 2, "octaves")
    points = torch.tensor([0, 7, 59])
    inputs = encoding(points)
    assert inputs.shape == (3, 15)
    for row, (a, b, c) in zip(inputs, zip(*np.unravel_index(points.numpy(), (3, 4, 5)), strict=True), strict=True):
        tables = [encoding_table(g, 2, "octaves")[i] for g, i in zip((3, 4, 5), (a, b, c), strict=True)]
        assert torch.equal(row, torch.cat(tables))


@pytest.mark.parametrize("depth, batch", [(1, 5), (3, 8), (3, 3)])
def test_backpropagation_is_autograds(depth, batch):
    torch.manual_seed(0)
    target = Target(dims=1, channels=2, width=6, depth=depth, frequencies=2)
    weights = [torch.randn(shape, requires_grad=True) for shape in target.layer_shapes]
    biases = torch.randn(depth, 6, requires_grad=True)
    output_bias = torch.randn(2, requires_grad=True)
    x, y = torch.randn(batch, 5), torch.rand(batch, 2)
    loss = (siren(x, weights, biases, output_bias) - y).square().sum()
    parameters = [*weights, biases, output_bias]
    wanted = torch.autograd.grad(loss * 0.25, parameters)
    grads = [torch.full_like(p, torch.nan) for p in parameters]
    error = Backpropagation(target, chunk=8)(x, y, [w.detach() for w in weights], biases.detach(), output_bias.detach(), grads, 0.25)
    torch.testing.assert_close(error, loss.detach())
    for ours, theirs in zip(grads, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_initial_gains():
    target = Target(dims=2, channels=3, width=40, depth=9, frequencies=10)
    paper, sitzmann = initial_gains(target, 30.0, "paper"), initial_gains(target, 30.0, "siren")
    assert len(paper) == 10 and paper[0] == sitzmann[0] == 1 / 42
    assert paper[1:] == [1 / (30 * 40**0.5)] * 9
    assert sitzmann[1:] == pytest.approx([6**0.5 / (30 * 40**0.5)] * 9)
