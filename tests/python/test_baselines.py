"""Other work's models as settings of the same encoder: plain networks, their steps, their files."""

from __future__ import annotations

import dataclasses
from math import sqrt

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_cases import smooth  # noqa: E402

import doh  # noqa: E402
from doh import EncodeError, Signal, container, reference  # noqa: E402
from doh.config import COIN_NETWORKS, Config  # noqa: E402
from doh.model import Target  # noqa: E402
from doh.train import adaround, gradient  # noqa: E402
from doh.train import checkpoint as checkpoints  # noqa: E402
from doh.train.fit import fit  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.plan import plan  # noqa: E402
from doh.train.quantise import round_through  # noqa: E402
from doh.train.run import Run, Start  # noqa: E402
from doh.train.siren import siren  # noqa: E402

ONE = Workers(1, None)
SMALL = {"width": 12, "depth": 3, "epochs": 0, "threads": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch):
    monkeypatch.setattr(adaround, "ITERATIONS", 10)


def run_of(preset: str, signal: Signal | None = None, **settings) -> Run:
    return Run(signal or smooth(), Config.from_preset(preset).replace(**{**SMALL, **settings}))


def trained(run: Run) -> Run:
    while run.step < run.steps:
        run.train(ONE)
    return run


# plain networks


def test_plain_has_a_latent_for_each_weight():
    kodak = Signal(np.zeros((512, 768, 3), np.uint8), "image", "u8")
    for bpp, (width, depth) in COIN_NETWORKS.items():
        p = plan(kodak, Config.from_preset("coin").replace(width=width, depth=depth))
        assert p.target == Target(2, 3, width, depth) and p.latents == p.target.weights
        assert 16 * (p.latents + p.target.biases) / (512 * 768) == pytest.approx(bpp, abs=0.011)
    inric = plan(kodak, Config.from_preset("inric"))
    assert inric.target == Target(2, 3, 32, 4, 16, "1.4") and inric.latents == inric.target.weights == 66 * 32 + 3 * 32 * 32 + 3 * 32


@pytest.mark.parametrize("rate", [{}, {"bytes": 700}, {"bpp": 20.0}])
def test_plain_without_a_width_follows_the_rate(rate):
    signal = smooth(24, 24)
    p = plan(signal, Config(generator="plain", weights_per_latent=2.5, **rate))
    assert p.latents == p.target.weights
    data = doh.encode(signal, generator="plain", steps=20, threads=1, **rate)
    budget = rate.get("bytes") or int(rate.get("bpp", 0) * 24 * 24 / 8)
    assert not budget or 0.97 * budget <= len(data) <= budget
    assert container.read_info(data).latents == p.latents == container.read_info(data).weights


@pytest.mark.parametrize("bits", [300, 600])
def test_a_budget_of_a_fixed_plain_network_sets_its_step(bits):
    data = doh.encode(smooth(), generator="plain", width=12, depth=3, frequencies=2, steps=20, threads=1, bytes=bits)
    assert 0.97 * bits <= len(data) <= bits


def test_a_plain_networks_weights_are_independent():
    run = run_of("coin", steps=3)
    before = [w.clone() for w in run.weights]
    with torch.no_grad():
        run.latents[7] += 1
    changed = sum((a != b).sum().item() for a, b in zip(before, run.weights, strict=True))
    assert changed == 1 and sum(w.numel() for w in before) == len(run.latents)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"generator": "plain", "latents": 5}, "as many latents as weights"),
        ({"latent_scale": "weights"}, "latent_scale = weights is for generator = plain"),
        ({"l1": -1.0}, "l1 must be between"),
        ({"generator": "plane"}, "generator must be one of tied, dense, plain"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(EncodeError, match=message):
        Config(**settings)


# training


@pytest.mark.parametrize("l1", [0.0, 1e-2])
def test_a_step_is_torchs_adam_on_the_weights(l1):
    """COIN written out: Linear layers, sin(30 x), Adam at 2e-4 on weights and biases, from the same start."""
    run = run_of("coin", steps=12, l1=l1, lr_latents=2e-3, lr_biases=2e-3, engine="eager")
    weights = [w.double().clone().requires_grad_() for w in run.weights]
    biases = [b.detach().double().clone().requires_grad_() for b in [*run.biases, run.output_bias]]
    bounds = [1 / 2, *[sqrt(6 / 12) / 30] * 3]
    assert all(0.9 * bound < w.abs().max() <= bound for w, bound in zip(weights, bounds, strict=True))
    assert all(0.5 * bound < b.abs().max() <= bound for b, bound in zip(biases[:-1], bounds))
    adam = torch.optim.Adam([*weights, *biases], lr=2e-3, eps=1e-8)
    x = run.encoding(torch.arange(run.points)).double()
    wanted = run.samples.double() / 255
    for _ in range(12):
        h = x
        for w, b in zip(weights[:-1], biases[:-1]):
            h = torch.sin(30 * (h @ w.t() + b))
        loss = (h @ weights[-1].t() + biases[-1] - wanted).square().mean()
        adam.zero_grad()
        (loss + l1 * sum(w.abs().sum() for w in weights)).backward()
        adam.step()
    trained(run)
    for a, b in zip([*run.weights, *run.biases, run.output_bias], [*weights, *biases], strict=True):
        torch.testing.assert_close(a.detach().double(), b.detach(), rtol=0, atol=5e-5)
    assert max((a - b.detach()).abs().max() for a, b in zip(run.weights, Run(run.signal, run.config).weights)) > 0.01


@pytest.mark.parametrize("generator", ["tied", "dense", "plain"])
def test_l1_makes_weights_smaller(generator):
    sums = [sum(w.abs().sum().item() for w in trained(run_of("fast", generator=generator, steps=80, l1=l1)).weights) for l1 in (0.0, 1e-3)]
    assert sums[1] < 0.9 * sums[0]


# files


@pytest.mark.parametrize("preset", ["coin", "mlp8", "inric"])
@pytest.mark.parametrize("settings", [{}, {"frequencies": 10, "ladder": "octaves", "depth": 1}, {"finish": 0.5, "latent_scale": "unit", "depth": 2}])
def test_files_decode_alike(preset, settings):
    data = doh.encode(smooth(), preset=preset, **{**SMALL, "steps": 20, **settings})
    model = container.unpack(data)
    assert np.array_equal(doh.decode(data), reference.samples(model).astype(np.uint8))
    assert len(model.latent_codes) == model.target.weights and model.flags == 1 and len(model.scales) == model.target.depth + 1


def test_levels_span_each_layer():
    """At b bits a layer's weights lie on a grid of 2^b levels from the lowest to the highest, give or take one for the place of zero."""
    run = run_of("mlp8", steps=30, bits=6.0)
    model = trained(run).finished()
    for layer, (codes, weights) in enumerate(zip(run.projection.weight_sums(model.latent_codes), run.weights, strict=True)):
        assert 62 <= codes.max() - codes.min() <= 64
        worth = model.scale_of(layer).factor * (2 * np.pi / 30 if layer < 3 else 1)
        assert (codes * worth - weights).abs().max() <= 0.52 * worth and worth == pytest.approx((weights.max() - weights.min()).item() / 63, rel=2.5e-4)
    assert max(abs(model.scale_of(a).factor / model.scale_of(b).factor - 1) for a, b in ((1, 2), (0, 1))) > 0.01


def test_sixteen_bits_are_as_good_as_floats():
    run = trained(run_of("coin", steps=30))
    codes = run.projection.weight_sums(run.finished().latent_codes)
    assert all(60000 < c.max() - c.min() < 65536 and c.abs().max() <= 32767 for c in codes[:-1])


def test_a_plain_training_resumes_to_the_same_bytes(tmp_path):
    config = Config.from_preset("inric").replace(**{**SMALL, "steps": 20, "finish": 0.5})
    whole, first, path = Run(smooth(), config), Run(smooth(), config), tmp_path / "c"
    for _ in range(15):
        first.train(ONE)
    checkpoints.save(first, path)
    second = Run(smooth(), config)
    checkpoints.load(second, path)
    assert second.settled and second.gains == first.gains
    assert container.pack(trained(second).finished()) == container.pack(trained(whole).finished())


# adaptive rounding


def squared_error(run: Run, steps, latents: torch.Tensor) -> float:
    """Of the network with these latents and rounded biases, on the scale [0, 1]."""
    weights = run.projection(latents, run.projection.spread(run.quantiser.gains(steps)))
    biases = round_through(run.biases.detach() * run.omegas, steps.bias)
    out = siren(run.encoding(torch.arange(run.points)), weights, biases, run.output_bias.detach())
    return (out - run.samples / 255).square().mean().item()


@pytest.mark.parametrize("settings", [{}, {"generator": "dense", "latents": 300, "latent_scale": "unit", "lr_latents": 0.02, "step_rule": "rate", "bits": 4.0}])
def test_adaround_is_better_than_the_nearest_at_a_coarse_step(settings, monkeypatch):
    monkeypatch.setattr(adaround, "ITERATIONS", 300)
    run = trained(run_of("inric", smooth(24, 32), **{"steps": 300, "finish": 0.0, "bits": 5.0, "rounding": "nearest", "frequencies": 4, **settings}))
    run.settle_layers()
    steps = run.quantiser.steps(run.preferred_step())
    codes = run.unit_latents.detach() / steps.latent
    found = adaround.rounded(run, steps, run.projection.spread(run.quantiser.gains(steps))) / steps.latent
    assert (found - found.round()).abs().max() < 1e-4 and ((found - codes).abs() < 1.001).all()
    assert 0.02 < (found.round() != codes.round()).float().mean() < 0.5
    float_error, nearest, adaptive = (squared_error(run, steps, c * steps.latent) for c in (codes, codes.round(), found.round()))
    assert nearest > 1.1 * float_error and adaptive - float_error < 0.7 * (nearest - float_error)


@pytest.mark.parametrize("finish", [0.0, 0.02])
def test_the_file_holds_what_adaround_chose(finish, monkeypatch):
    chosen, real = [], adaround.rounded

    def rounded(run, steps, gain):
        chosen.append(real(run, steps, gain) / steps.latent)
        return chosen[-1] * steps.latent

    monkeypatch.setattr(adaround, "rounded", rounded)
    run = trained(run_of("inric", steps=50, finish=finish, lr_latents=1e-6 if finish else 5e-4))
    model = run.finished()
    assert len(chosen) == 1 and np.array_equal(model.latent_codes, chosen[0].round().numpy())
    assert run.step == 50 and model.scale_of(1).factor * 2 * np.pi / 30 == pytest.approx(run.gains[1] * 2 / 255, rel=2.5e-4)


@pytest.mark.parametrize("step_rule", ["range", "rate"])
@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_amid_adaround_leaves_a_checkpoint_that_resumes_to_the_same_file(step_rule, late, tmp_path, monkeypatch):
    config = Config.from_preset("inric").replace(**{**SMALL, "steps": 40, "finish": 0.0, "step_rule": step_rule, "bits": 4.0, "lr_latents": 5e-4})
    real, path = adaround.rounded, tmp_path / "state"

    def stopped(run, steps, gain):
        if late:
            real(run, steps, gain)
        raise KeyboardInterrupt

    wanted = container.pack(fit(smooth(), config))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adaround, "rounded", stopped)
        fit(smooth(), config, checkpoint=path)
    assert path.exists()
    assert container.pack(fit(smooth(), config, checkpoint=path, resume=True)) == wanted
    run = Run(smooth(), config)
    while run.step < run.steps:
        run.train(ONE)
    assert container.pack(run.finished()) == wanted
    checkpoints.save(run, path)  # as after a Ctrl-C that was held back until the end
    assert container.pack(fit(smooth(), config, checkpoint=path, resume=True)) == wanted


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_adaround_uses_all_threads_and_does_not_depend_on_them(engine, monkeypatch):
    made = []

    class Noted(Workers):
        def __init__(self, threads, pool):
            made.append((threads, pool is not None))
            super().__init__(threads, pool)

    run = trained(run_of("inric", smooth(60, 70), steps=5, finish=0.0, engine=engine, batch=4200))
    run.settle_layers()
    steps = run.quantiser.steps(run.preferred_step())
    monkeypatch.setattr(gradient, "Workers", Noted)
    found = []
    for threads in (1, 3):
        run.config = run.config.replace(threads=threads)
        found.append(adaround.rounded(run, steps, run.gain))
    assert made == [(1, True), (3, True)] and torch.equal(*found)


def test_adaround_never_takes_what_is_worse(monkeypatch):
    monkeypatch.setattr(adaround, "ITERATIONS", 1)
    monkeypatch.setattr(adaround, "LEARNING_RATE", 1e3)  # throws every latent to one side
    run = trained(run_of("inric", steps=30, finish=0.0))
    steps = run.quantiser.steps(0.5)
    found = adaround.rounded(run, steps, run.gain)
    torch.testing.assert_close(found, torch.round(run.unit_latents.detach() / steps.latent) * steps.latent)


def test_adaround_is_not_for_budgets():
    for budget, message in (({"bytes": 500}, "which bytes and bpp move"), ({"seconds": 5.0}, "no budget of seconds")):
        with pytest.raises(EncodeError, match=message):
            Config.from_preset("inric").replace(**budget)
        Config.from_preset("inric").replace(rounding="nearest", **budget)


# where a training begins


def test_a_training_may_begin_anywhere():
    run = trained(run_of("fast", steps=30, latents=150))
    start = Start(run.latents, run.biases, run.output_bias)
    again = Run(run.signal, run.config.replace(steps=1), start=start)
    torch.testing.assert_close(again.latents, run.latents)
    again.train(ONE)
    assert not torch.equal(again.latents, run.latents)
    goes_on = run.config.replace(steps=8)
    by_hand = container.pack(trained(Run(run.signal, goes_on, start=start)).finished())
    assert container.pack(fit(run.signal, goes_on, start=start)) == by_hand != container.pack(fit(run.signal, goes_on))
    plain = run_of("coin", steps=1)
    torch.testing.assert_close(Run(plain.signal, plain.config, start=Start(plain.unit_latents, plain.biases, plain.output_bias)).latents, plain.latents)
    for change in ({"latents": torch.zeros(149)}, {"biases": torch.zeros(3, 11)}, {"output_bias": torch.full((3,), torch.nan)}):
        with pytest.raises(EncodeError, match=next(iter(change))):
            Run(run.signal, run.config, start=dataclasses.replace(start, **change))
