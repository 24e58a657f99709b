"""Quantisation: what the file's integers stand for is what training saw."""

from __future__ import annotations

import itertools
from math import pi

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doh import EncodeError, Signal, reference  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import pack, pack_unsealed, unpack  # noqa: E402
from doh.model import GENERATORS, BiasScale, QuantModel, Scale, Target  # noqa: E402
from doh.train.plan import bits_of, carried_waves, frequencies_below, learning_rate_for, most_bytes, plan, target_for  # noqa: E402
from doh.train.projection import KINDS  # noqa: E402
from doh.train.quantise import Quantiser, round_through, snap, wrap  # noqa: E402
from doh.train.run import Run  # noqa: E402
from doh.train.siren import Encoding, initial_gains, siren  # noqa: E402

SIGNAL = Signal(np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8), "image", "u8")


def quantiser(kind: str = "tied", n: int = 300, depth: int = 3, width: int = 16) -> Quantiser:
    target = Target(2, 3, width, depth, 4)
    return Quantiser(target, KINDS[kind](5, n, target.layer_shapes), initial_gains(target, 30.0, "siren"), [30.0] * depth, 1.5)


def trained(q: Quantiser) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents and biases (radians) as they might be after training."""
    torch.manual_seed(1)
    return torch.randn(q.projection.n), 3 * torch.randn(q.target.depth, q.target.width), torch.rand(3)


@pytest.mark.parametrize("value", [1e-9, 0.3, 1.0, 2.0 - 1e-5, 2047.9999, 123.456])
def test_snap_is_close(value):
    m, e = snap(value)
    assert 2048 <= m <= 4095 and abs(m * 2.0**-e / value - 1) <= 2.5e-4


def test_round_through():
    z = torch.tensor([0.24, -0.26, 1.0], requires_grad=True)
    rounded = round_through(z, 0.5)
    assert rounded.tolist() == [0.0, -0.5, 1.0]
    rounded.sum().backward()
    assert z.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["tied", "dense"])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("step", [0.3, 0.01, 0.0003])
def test_the_decoder_evaluates_what_training_saw(kind, depth, step):
    q = quantiser(kind, depth=depth)
    z, b, ob = trained(q)
    steps = q.steps(step)
    model = q.model(SIGNAL, z, b, ob, steps)
    weights = q.projection(round_through(z, steps.latent), q.projection.spread(q.gains(steps)))
    inputs = Encoding(SIGNAL.shape, 4, "octaves")(torch.arange(99))
    wanted = siren(inputs, weights, round_through(wrap(b), steps.bias), ob).numpy()
    decoded = reference.samples(model).reshape(99, 3)
    assert np.abs(decoded - np.clip(wanted, 0, 1) * 255).max() < 1.5  # half a level is the rounding of samples, the rest 16-bit arithmetic
    assert all(np.abs(w).max() <= 32767 for w in reference.integer_weights(model))
    assert np.array_equal(unpack(pack(model)).latent_codes, model.latent_codes)


def test_scales_stand_for_the_gains():
    q = quantiser()
    z, b, ob = trained(q)
    steps = q.steps(0.02)
    model = q.model(SIGNAL, z, b, ob, steps)
    for layer, gain in enumerate(q.gains(steps)):
        turn = 2 * pi if layer < 3 else 1
        assert model.scale_of(layer).factor * turn == pytest.approx(gain * 0.02, rel=1e-12)
        assert gain == pytest.approx(q.radians[layer], rel=2.5e-4)


def test_precision_is_the_largest_without_clamping_or_wrapping():
    q = quantiser()
    z, b, ob = trained(q)
    for factor in (0.01, 1.0, 100.0):
        model = q.model(SIGNAL, z * factor, b, ob * 7, q.steps(0.02 * factor))
        weights = reference.integer_weights(model)
        hidden = max(np.abs(w).max() for w in weights[1:-1])
        assert hidden <= 32767 and (hidden > 16000 or model.scales[1].q == 17)
        limit = np.abs(weights[-1]).sum(axis=1) * 32767 + (np.abs(model.output_bias_codes.astype(np.int64)) << (model.scales[2].q + 3))
        assert limit.max() < 2**31


def test_nominal_models_have_the_same_size():
    q = quantiser("dense")
    z, b, ob = trained(q)
    steps = q.steps(0.05)
    assert len(pack_unsealed(q.model(SIGNAL, z, b, ob, steps, exact=False))) == len(pack_unsealed(q.model(SIGNAL, z, b, ob, steps)))


@pytest.mark.parametrize("kind", ["tied", "dense"])
def test_finest_step_is_valid(kind):
    q = quantiser(kind, n=20000 if kind == "dense" else 300, depth=1, width=2)
    z, b, ob = trained(q)
    model = q.model(SIGNAL, z, b, ob, q.steps(q.finest(z)))
    assert np.abs(model.latent_codes).max() <= 32767
    assert kind == "tied" or np.abs(model.latent_codes.astype(np.int64)).sum() < 1 << 28
    pack(model)


def test_steps_of_bits():
    q = quantiser()
    z = torch.randn(100000)
    step = q.step_of_bits(z, 5.0, "rate")
    counts = np.unique(torch.round(z / step).numpy(), return_counts=True)[1] / len(z)
    assert -(counts * np.log2(counts)).sum() == pytest.approx(5.0, abs=0.02)
    codes = torch.round(z / q.step_of_bits(z, 8.0, "range"))
    assert 250 <= codes.max() - codes.min() <= 257


def test_step_of_bytes_is_the_finest_that_fits():
    q = quantiser()
    z, b, ob = trained(q)

    def size(step):
        return len(pack_unsealed(q.model(SIGNAL, z, b, ob, q.steps(step), exact=False)))

    for budget in (150, 300, 600):
        for start in (1e-3, 0.1, 5.0):
            step = q.step_of_bytes(size, budget, start, q.finest(z))
            assert budget * 0.97 <= size(step) <= budget


# plans


def signal(*shape: int) -> Signal:
    return Signal(np.zeros(shape, np.uint8), "array", "u8")


def test_plan_of_the_papers_image():
    image = signal(512, 768, 3)
    p = plan(image, Config.from_preset("paper").replace(latents=4500))
    assert (p.target, p.latents, p.budget, p.omega, p.first_omega) == (Target(2, 3, 40, 9, 10), 4500, 0, 30.0, 30.0)
    p = plan(image, Config(latents=4500))
    assert p.target.width in (36, 38, 40) and (p.target.depth, p.target.frequencies, p.latents) == (9, 16, 4500) and 19 < p.omega == p.first_omega < 21


@pytest.mark.parametrize("n", [1, 10, 100, 1000, 4500, 14000, 100000])
def test_plans_keep_their_latents_and_suit_them(n):
    for weights_per_latent, side in ((1.15, 512), (2.5, 64), (3.25, 512)):
        p = plan(signal(side, side, 3), Config(latents=n, weights_per_latent=weights_per_latent if side == 512 else 0))
        assert p.latents == n and (n < 200 or 0.9 * weights_per_latent < p.target.weights / n < 1.1 * weights_per_latent)
        assert n < 100 or p.target.biases < n / 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1), (16, 16, 3), (8, 8, 8, 1), (3, 4, 5, 2, 32)])
def test_plans_for_small_signals(shape):
    p = plan(signal(*shape), Config())
    assert p.target.dims == len(shape) - 1 and p.latents >= 16 and 1 <= p.target.frequencies <= 9


def test_plans_of_budgets_grow_with_them():
    plans = [plan(signal(64, 64, 3), Config(bytes=b)) for b in (200, 1000, 10000, 100000)]
    assert [p.budget for p in plans] == [200, 1000, 10000, 100000]
    assert all(a.latents < b.latents and a.target.weights < b.target.weights for a, b in itertools.pairwise(plans))
    assert all(p.latents <= p.target.weights for p in plans)
    assert plan(signal(64, 64, 3), Config(bpp=2.0)).budget == 1024


def test_budget_too_small_names_the_smallest():
    with pytest.raises(EncodeError, match=r"the smallest file is about [0-9]+ bytes"):
        plan(signal(64, 64, 3), Config(bytes=20))
    with pytest.raises(EncodeError, match="smallest"):
        plan(signal(64, 64, 3), Config(bpp=1e-9))


def test_a_budget_that_no_network_fills_is_refused_before_training():
    with pytest.raises(EncodeError, match=r"10000000 bytes are more than this network can use \(at most 2[0-9]{6} bytes\): ask for fewer"):
        plan(signal(512, 768, 3), Config(bytes=10_000_000))
    assert plan(signal(512, 768, 3), Config(bytes=2_000_000)).budget == 2_000_000
    for generator, most in (("tied", 345), ("plain", 345)):  # 138 weights and 13 biases
        fixed = Config(generator=generator, width=6, depth=2, frequencies=2)
        with pytest.raises(EncodeError, match=r"more than this network can use .* give it a larger width, or none"):
            plan(signal(9, 11, 1), fixed.replace(bytes=5000))
        assert plan(signal(9, 11, 1), fixed.replace(bytes=most)).budget == most


@pytest.mark.parametrize("n, width, depth", [(1, 4, 1), (400, 12, 3), (40000, 120, 3)])
def test_no_file_takes_more_than_is_said(n, width, depth):
    target, random = Target(2, 3, width, depth, 4), np.random.default_rng(n)
    codes = [random.integers(-32767, 32768, count).astype(np.int32) for count in (n, depth * width, 3)]
    scales = (Scale(0, 20, 10),) * (depth + 1)
    model = QuantModel("image", "u8", (9, 11), target, "tied", 0, codes[0], scales, BiasScale(0, 5), codes[1].reshape(depth, width), codes[2], flags=1)
    most = most_bytes(SIGNAL, target, 0, n)
    assert 0.98 * most - 80 < len(pack_unsealed(model)) <= most


def test_too_large_a_network_is_refused_before_training():
    with pytest.raises(EncodeError, match="weights is too large"):
        plan(signal(64, 64, 3), Config(width=1024, depth=9))
    with pytest.raises(EncodeError, match="dense matrices"):
        plan(signal(64, 64, 3), Config(generator="dense", latents=200000))


def test_settings_fix_the_network():
    t = target_for(signal(64, 64, 3), Config(width=7, depth=2, frequencies=3, ladder="1.4"), 1000)
    assert t == Target(2, 3, 7, 2, 3, "1.4")
    assert target_for(signal(64, 64, 3), Config(frequencies=0), 1000).ladder == "octaves"
    assert target_for(signal(44100, 1), Config(), 1000).ladder == "octaves"


def test_frequencies_that_a_grid_carries():
    assert [frequencies_below(carried_waves(n), "octaves") for n in (1, 2, 32, 768, 10**6)] == [1, 1, 4, 8, 16]
    assert [frequencies_below(carried_waves(n), "1.4") for n in (1, 32, 768)] == [1, 7, 16]


def test_images_have_the_slow_mean():
    image, sound = Signal(np.zeros((30, 30, 3), np.uint8), "image", "u8"), Signal(np.zeros((900, 1), np.int16), "audio", "s16")
    for signal, default in ((image, 8), (sound, 0)):
        assert [plan(signal, Config(latents=50, **changes)).alpha for changes in ({}, {"alpha": 3}, {"alpha": 0})] == [default, 3, 0]


def test_large_networks_learn_slower():
    rates = [learning_rate_for(weights, 4096) for weights in (1, 16000, 32000, 64000)]
    assert rates[0] == rates[1] == 0.08 and rates[2] == pytest.approx(0.08 * 2**-0.7) and rates[3] / rates[2] == pytest.approx(rates[2] / rates[1])
    signal = Signal(np.zeros((300, 300, 3), np.uint8), "image", "u8")
    large = plan(signal, Config(latents=40000))
    assert large.lr_latents == learning_rate_for(large.target.weights, 4096) < 0.08
    assert learning_rate_for(32000, 8192) == pytest.approx(0.08 * (2**0.7 / 2) ** 0.7) and learning_rate_for(25900, 8192) == 0.08
    assert learning_rate_for(16000, 2048) < 0.08 == learning_rate_for(9000, 2048)
    assert plan(signal, Config(latents=20000, lr_latents=0.1)).lr_latents == 0.1
    with pytest.raises(EncodeError, match="latent_scale = paper, lr_latents has to be given"):
        Config(latent_scale="paper")


def test_plain_networks_share_nothing_so_they_are_as_deep_as_their_weights_ask():
    signal = Signal(np.zeros((512, 768, 3), np.uint8), "image", "u8")
    plain, tied = (plan(signal, Config(generator=generator, bytes=5000)).target for generator in ("plain", "tied"))
    assert plain.depth <= 6 < tied.depth == 9


@pytest.mark.parametrize(
    ("kind", "shape", "latents", "depth"),
    [
        ("image", (512, 768, 3), 3682, 9),
        ("image", (256, 256, 3), 8000, 9),  # no exception for small ones, such as parts
        ("image", (128, 128, 3), 1500, 8),
        ("image", (128, 128, 3), 400, 5),
        ("image", (64, 64, 3), 1600, 6),  # as many weights as points
        ("image", (512, 768, 3), 15300, 6),  # hardly shared
        ("occupancy", (40, 40, 40, 1), 1000, 7),
        ("occupancy", (96, 96, 96, 1), 2700, 8),
    ],
)
def test_depth_of_networks_that_share_latents(kind, shape, latents, depth):
    """docs/training.md, "Depth"."""
    signal = Signal(np.zeros(shape, np.uint8), kind, "u1" if kind == "occupancy" else "u8")
    assert target_for(signal, Config(frequencies=8, ladder="1.4"), latents).depth == depth


def test_bits_of_a_latent():
    cells = Signal(np.zeros((4, 4, 4, 1), np.uint8), "occupancy", "u1")
    assert [bits_of(signal, Config()) for signal in (SIGNAL, cells)] == [4.7, 5.5]
    assert [bits_of(SIGNAL, Config(**changes)) for changes in ({"rounding": "nearest"}, {"finish": 0.0}, {"bits": 6.0})] == [5.5, 5.5, 6.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_projection_says_what_the_file_calls_it(kind, monkeypatch):
    """Whatever a unit of its sums is worth."""
    run = Run(SIGNAL, Config(latents=50, width=6, depth=2, frequencies=1, generator=kind, device="cpu"))
    assert KINDS[kind].name == run.projection.name == kind and list(KINDS) == list(GENERATORS)
    monkeypatch.setattr(run.projection, "unit", 0.75)
    assert run.model(run.quantiser.steps(0.01)).generator == kind
