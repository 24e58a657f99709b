"""Algorithm 1, the paper's rounding, and the variance of first weights."""

from __future__ import annotations

import bz2
from math import sqrt

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_cases import smooth  # noqa: E402

from doh import EncodeError, container  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.metrics import psnr  # noqa: E402
from doh.model import Target  # noqa: E402
from doh.reference import samples  # noqa: E402
from doh.train import distil  # noqa: E402
from doh.train.distil import conjugate_gradients, distilled, latents_of, network_of, point  # noqa: E402
from doh.train.paper_quant import LEVELS, figures, round_min_max, tensors_of  # noqa: E402
from doh.train.projection import KINDS  # noqa: E402
from doh.train.run import Run  # noqa: E402
from doh.train.siren import initial_gains  # noqa: E402
from doh.train.study import layer_variances, psnr_of, samples_of, trained  # noqa: E402

TARGET = Target(2, 3, 10, 3, 2)
GAINS = initial_gains(TARGET, 20.0, "siren")
SMALL = {"threads": 1, "device": "cpu"}
MLP = Config.from_preset("mlp8").replace(width=12, depth=3, frequencies=3, epochs=0, steps=400, batch=4096, lr_latents=2e-3, lr_biases=2e-3, beta1=0.9, **SMALL)
TUNING = Config(batch=4096, lr_latents=0.02, lr_biases=0.003, finish=0.0, **SMALL)


@pytest.fixture(scope="module")
def mlp() -> Run:
    return trained(smooth(24, 32, slope=6), MLP)


def matrix(projection) -> np.ndarray:
    """B, float64 (D, n): each layer's gain in it."""
    return (projection.flat(torch.eye(projection.n, dtype=torch.float64)) * projection.spread(GAINS).double()).t().numpy()


# least squares


@pytest.mark.parametrize("kind", ["tied", "dense"])
@pytest.mark.parametrize("n", [1, 40, 200])
def test_latents_that_made_the_weights_are_found(kind, n):
    projection = KINDS[kind](5, n, TARGET.layer_shapes)
    z = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = latents_of(projection.split(projection.flat(z) * projection.spread(GAINS)), projection, GAINS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, z.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["tied", "dense"])
@pytest.mark.parametrize("n", [7, 150, 280, 400])
def test_latents_are_the_least_squares_of_the_whole_matrix(kind, n):
    projection = KINDS[kind](9, n, TARGET.layer_shapes)
    weights = [gain * torch.randn(shape) for gain, shape in zip(GAINS, TARGET.layer_shapes, strict=True)]
    flat = torch.cat([w.flatten() for w in weights]).double().numpy()
    wanted = np.linalg.lstsq(matrix(projection), flat, rcond=None)[0]  # of underdetermined systems the shortest solution, as ours
    np.testing.assert_allclose(latents_of(weights, projection, GAINS).numpy(), wanted, rtol=2e-3, atol=2e-4 * np.abs(wanted).max())


def test_gradients_agree_with_the_signed_mean():
    projection = KINDS["tied"](2, 60, TARGET.layer_shapes)
    weights = [torch.randn(shape) for shape in TARGET.layer_shapes]
    b, flat = torch.from_numpy(matrix(projection)), torch.cat([w.flatten() for w in weights]).double()
    found = conjugate_gradients(lambda z: b @ z, lambda v: b.t() @ v, flat)
    torch.testing.assert_close(latents_of(weights, projection, GAINS), found.float(), rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_are_refused():
    projection = KINDS["tied"](2, 60, TARGET.layer_shapes)
    with pytest.raises(ValueError, match="the projection is for weights"):
        latents_of([torch.zeros(shape) for shape in TARGET.layer_shapes[:-1]], projection, GAINS)


# Algorithm 1


@pytest.mark.parametrize("generator", ["tied", "dense"])
def test_fine_tuning_improves_what_inversion_leaves(mlp, generator):
    n = mlp.plan.target.weights // 2
    p = point(mlp, n, generator, TUNING, epochs=200)
    assert (p.latents, p.parameters, p.mlp_parameters) == (n, n + 39, mlp.plan.target.weights + 39)
    assert p.psnr_mlp > 24 and p.psnr_inverted < p.psnr_mlp - 3 and p.psnr_tuned > p.psnr_inverted + 5
    assert point(mlp, n, generator, TUNING, epochs=0).psnr_tuned == p.psnr_inverted


@pytest.mark.parametrize("generator", ["tied", "dense"])
def test_as_many_latents_as_weights_lose_nothing(mlp, generator):
    config = Config(generator=generator, latents=mlp.plan.target.weights if generator == "tied" else 2 * mlp.plan.target.weights, **network_of(mlp), **SMALL)
    run = distilled(mlp, config)
    for mine, theirs in zip(run.weights, mlp.weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(run.biases, mlp.biases)
    assert psnr_of(run) == pytest.approx(psnr_of(mlp), abs=0.02)


def test_the_matrix_is_never_made_in_floating_point(mlp, monkeypatch):
    made = []
    torch_cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda tensors, *rest: made.append(sum(t.numel() for t in tensors)) or torch_cat(tensors, *rest))
    projection = KINDS["dense"](1, 50, mlp.plan.target.layer_shapes)
    made.clear()
    latents_of(mlp.weights, projection, mlp.gains)
    assert made and max(made) == mlp.plan.target.weights


def test_another_network_is_refused(mlp):
    with pytest.raises(EncodeError, match="must be the same"):
        distilled(mlp, Config(latents=100, **{**network_of(mlp), "omega": 11.0}, **SMALL))


def test_a_distilled_run_makes_a_file(mlp):
    config = Config(latents=200, steps=100, batch=4096, **network_of(mlp), **SMALL)
    run = distil.train_on(distilled(mlp, config))
    model = container.unpack(container.pack(run.finished()))
    assert len(model.latent_codes) == 200 and psnr(samples(model), smooth(24, 32, slope=6).samples, 255) > 20


# evaluation


@pytest.mark.parametrize("settings", [{}, {"generator": "dense", "latents": 300, "latent_scale": "unit", "lr_latents": 0.05, "beta2": 0.99}])
def test_the_network_in_floats_is_the_files(settings):
    run = trained(smooth(24, 32, slope=6), MLP.replace(**settings, steps=100, bits=13.0))
    floats = samples_of(run).astype(int)
    decoded = samples(run.finished())
    assert np.abs(decoded - floats).max() <= 2 and floats.std() > 30


# the paper's rounding


@pytest.mark.parametrize("bits", [1, 4, 5, 6, 8, 16])
def test_min_max(bits):
    values = np.random.default_rng(1).normal(3, 2, (50, 7)).astype(np.float32)
    r = round_min_max(values, bits)
    step = (values.max() - values.min()) / (2**bits - 1)
    assert r.codes.min() == 0 and r.codes.max() == 2**bits - 1 and r.codes.shape == values.shape
    assert np.abs(r.values - values).max() <= step * 0.5001 + 1e-6
    assert r.values.min() == values.min() and r.values.max() == pytest.approx(values.max(), rel=1e-6)
    assert len(r.to_bytes()) == 350 * (1 if bits <= 8 else 2) + 8


def test_min_max_of_equal_values_and_wrong_bits():
    assert np.array_equal(round_min_max(np.full(3, 0.7, np.float32), 8).values, np.full(3, 0.7, np.float32))
    for bits in (0, 17):
        with pytest.raises(EncodeError, match="1 to 16 bits"):
            round_min_max(np.zeros(3), bits)


@pytest.mark.parametrize("generator", ["plain", "tied", "dense"])
def test_figures(mlp, generator):
    plain = generator == "plain"
    run = mlp if plain else distil.train_on(distilled(mlp, TUNING.replace(generator=generator, latents=200, steps=100, **network_of(mlp))))
    tensors, found = tensors_of(run), figures(run)
    assert list(tensors) == [*([f"weight{i}" for i in range(4)] if plain else ["latents"]), "bias0", "bias1", "bias2", "output_bias"]
    assert [f.bits for f in found] == list(LEVELS) == [4, 5, 6, 8, 16, 32]
    parameters = sum(t.size for t in tensors.values())
    assert parameters == (mlp.plan.target.weights if plain else 200) + 39
    for f in found:
        assert f.parameters == parameters and f.footprint == parameters * f.bits / 8 and f.bpp == pytest.approx(parameters * f.bits / (24 * 32))
        assert f.bzip2_bpp == pytest.approx(8 * f.bzip2 / (24 * 32))
    quality = [f.psnr for f in found]
    assert quality[-1] == psnr_of(run) and quality[-2] == pytest.approx(quality[-1], abs=0.05) and quality[0] < quality[3] < quality[-1] + 0.1
    assert found[0].bzip2 < found[3].bzip2 < found[4].bzip2
    eight = b"".join(round_min_max(t, 8).to_bytes() for t in tensors.values()) + (b"" if plain else bytes(8))
    assert found[3].bzip2 == len(bz2.compress(eight))


# the supplement's Figure 1


@pytest.mark.parametrize("generator", ["dense", "tied"])
@pytest.mark.parametrize("width, inputs", [(20, 0), (64, 4), (128, 10)])
def test_first_weights_have_the_variance_of_siren(generator, width, inputs):
    target = Target(2, 3, width, 4, inputs)
    found = layer_variances(target, 2000, generator)
    assert [(v.fan_in, v.fan_out) for v in found] == [(i, o) for o, i in target.layer_shapes]
    for v in found:
        assert v.wanted == pytest.approx(1 / (3 * v.fan_in**2) if v.layer == 0 else 1 / (3 * 900 * width))  # Eq. 10 and 14
        count = min(v.fan_in * v.fan_out, 2000 if generator == "tied" else 1 << 30)
        assert v.generated == pytest.approx(v.wanted, rel=4 * sqrt(2 / count) + 4 * sqrt(0.8 / 2000))
    siren = layer_variances(target, 2000, generator, gains="siren")
    assert siren[0].generated == found[0].generated and siren[1].generated == pytest.approx(6 * found[1].generated, rel=1e-5)
