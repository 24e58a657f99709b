"""Projections as torch modules against the decoder's integers, and their variances and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doh import _core, reference  # noqa: E402
from doh.container import pack_unsealed  # noqa: E402
from doh.model import BiasScale, QuantModel, Scale, Target  # noqa: E402
from doh.train import projection as P  # noqa: E402
from doh.train.siren import initial_gains  # noqa: E402

SHAPES = [(6, 10), (6, 6), (3, 6)]  # 114 weights


def quant_model(kind: str, seed: int, codes: np.ndarray, target: Target) -> QuantModel:
    scales = (Scale(0, 20, 10),) * min(3, target.depth + 1)
    biases, output = np.zeros((target.depth, target.width), np.int32), np.zeros(target.channels, np.int32)
    return QuantModel("array", "u8", (5,) * target.dims, target, kind, seed, codes, scales, BiasScale(0, 9), biases, output)


def test_initial_latents_are_philox_words():
    z = P.initial_latents(2**63 + 5, 10)
    words = reference.philox(2**63 + 5, np.arange(3), 0, 0, 3).reshape(-1)[:10]
    exact = [(2 * int(w) + 1 - 2**32) / 2**32 for w in words]
    assert z.dtype == torch.float32 and z.tolist() == [float(np.float32(x)) for x in exact]
    many = P.initial_latents(7, 20000)
    assert abs(many.mean()) < 0.02 and abs(many.var() - 1 / 3) < 0.01 and many.abs().max() <= 1


@pytest.mark.parametrize("kind", ["tied", "dense"])
@pytest.mark.parametrize("n", [1, 17, 114, 150])
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_weight_sums_are_the_decoders(kind, n, seed):
    target = Target(dims=1, channels=2, width=6, depth=3, frequencies=2)
    codes = np.random.default_rng(n).integers(-32767, 32768, n).astype(np.int32)
    model = quant_model(kind, seed, codes, target)
    ours = P.KINDS[kind](seed, n, target.layer_shapes).weight_sums(codes)
    slow = reference.weight_sums(model)
    fast = _core.weight_sums(pack_unsealed(model))
    for a, b, c in zip(ours, slow, fast, strict=True):
        assert a.dtype == torch.int64 and np.array_equal(a.numpy(), b) and np.array_equal(b, c)


@pytest.mark.parametrize("kind", ["tied", "dense"])
def test_float_weights_are_the_sums_times_the_unit(kind):
    codes = torch.arange(-20, 20)
    p = P.KINDS[kind](5, 40, SHAPES)
    for w, s, part in zip(p(codes.double(), gain=0.5), p.weight_sums(codes), (p.part(codes.double(), i) for i in range(3)), strict=True):
        assert torch.equal(w, s.double() * p.unit * 0.5)
        assert torch.equal(part * 0.5, w)


@pytest.mark.parametrize("kind", ["tied", "dense"])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_gradients(kind, chunk, monkeypatch):
    monkeypatch.setattr(P, "CHUNK_ENTRIES", chunk)
    p = P.KINDS[kind](1, 13, [(3, 4), (2, 3)])
    z = torch.randn(13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(p.flat, z)
    for layer in range(2):
        assert torch.autograd.gradcheck(lambda z, layer=layer: p.part(z, layer), z)


@pytest.mark.parametrize("kind", ["tied", "dense"])
def test_variance_at_the_start_is_that_of_equations_10_and_14(kind):
    target = Target(dims=2, channels=3, width=40, depth=9, frequencies=10)
    n = 1000
    p = P.KINDS[kind](3, n, target.layer_shapes)
    gains = initial_gains(target, 30.0, "paper")
    weights = p(P.initial_latents(3, n), p.spread(gains))
    assert weights[0].var() == pytest.approx(1 / (3 * 42**2), rel=0.15)
    for w in weights[1:-1]:
        assert w.var() == pytest.approx(1 / (3 * 30**2 * 40), rel=0.15)


def test_dense_gain_is_the_papers_bound():
    """With z = z'/n and entries of B_l uniform in (-a_l, a_l), W = B z: a_0 = sqrt(3n)/fan_in, a_l = sqrt(3n/h)/omega (Eq. 13 and 16)."""
    target = Target(dims=2, channels=3, width=8, depth=2, frequencies=1)
    n = 50
    p = P.DenseProjection(9, n, target.layer_shapes)
    z = P.initial_latents(9, n).double()
    bounds = [(3 * n) ** 0.5 / target.inputs] + [(3 * n / target.width) ** 0.5 / 30] * 2
    rows = 0
    for a, shape, gain, w in zip(bounds, target.layer_shapes, initial_gains(target, 30.0, "paper"), p(z), strict=True):
        size = shape[0] * shape[1]
        b = a * (2 * p.entries[rows : rows + size].double() - 255) / 256
        torch.testing.assert_close(gain * w.reshape(-1), b @ (z / n), rtol=1e-12, atol=0)
        rows += size


@pytest.mark.parametrize("chunk", [1, 40, 1 << 20])
def test_the_dense_matrix_is_made_a_few_rows_at_a_time(chunk, monkeypatch):
    asked = []

    def dense_bytes(seed, layer, row, rows, n):
        asked.append(rows * n)
        return _core.dense_bytes(seed, layer, row, rows, n)

    monkeypatch.setattr(P, "CHUNK_ENTRIES", chunk)
    monkeypatch.setattr(P, "_core", SimpleNamespace(dense_bytes=dense_bytes))
    entries = P.DenseProjection(2**64 - 3, 17, SHAPES).entries
    assert np.array_equal(entries.numpy(), np.concatenate([_core.dense_bytes(2**64 - 3, layer, 0, a * b, 17) for layer, (a, b) in enumerate(SHAPES)]))
    assert sum(asked) == entries.numel() and max(asked) <= max(17, chunk)


def test_the_dense_matrix_is_not_made_where_products_make_it_anew(monkeypatch):
    made, entries = [], P.DenseProjection._entries
    monkeypatch.setattr(P.DenseProjection, "_entries", lambda self: made.append(self) or entries(self))
    dense = P.DenseProjection(0, 5, SHAPES)
    with monkeypatch.context() as patch:
        patch.setattr(P, "makes_anew", lambda device: True)
        patch.setattr(P.DenseProjection, "_kernels", lambda self, device: object())
        dense.to("cpu")
        assert dense.entries is None and not list(dense.buffers()) and not made
    wanted = P.DenseProjection(0, 5, SHAPES)
    assert torch.equal(dense.to("cpu").entries, wanted.entries) and made == [dense, wanted]
    assert dense.to("cpu").flat(torch.ones(5)).shape == (114,) and len(made) == 2


def test_buffers_stay_out_of_the_state_and_small():
    assert not P.TiedProjection(0, 5, SHAPES).state_dict()
    dense = P.DenseProjection(0, 5, SHAPES)
    assert not dense.state_dict() and dense.entries.dtype == torch.uint8
    assert not dense.state_dict() and [b.dtype for b in dense.buffers()] == [torch.uint8]
    assert [b.dtype for b in dense.to(torch.float64).buffers()] == [torch.uint8]


def test_another_dtype_is_no_other_device(monkeypatch):
    """Where products make the matrix anew, as on a GPU, they go on doing so after .to(dtype)."""
    monkeypatch.setattr(P, "makes_anew", lambda device: device.type == "meta")
    monkeypatch.setattr(P.DenseProjection, "_kernels", lambda self, device: device)
    projection = P.DenseProjection(1, 20, [(4, 3)]).to("meta").to(torch.bfloat16)
    assert projection.matrix == torch.device("meta") and projection.stored is None
    projection.half().float()
    assert projection.matrix == torch.device("meta") and projection.stored is None
