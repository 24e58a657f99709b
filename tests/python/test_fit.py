"""The training loop: it learns, it is deterministic, it takes any signal, and the paper's parameterisation is the one it says it is."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_cases import QUICK, smooth  # noqa: E402

from doh import EncodeError, Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import decode_unsealed, pack, pack_unsealed  # noqa: E402
from doh.metrics import psnr  # noqa: E402
from doh.model import DTYPE, TOP  # noqa: E402
from doh.reference import samples  # noqa: E402
from doh.train import engine, result  # noqa: E402
from doh.train.fit import fit, warm_up  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.importance import ErrorSampler  # noqa: E402
from doh.train.plan import learning_rate  # noqa: E402
from doh.train.run import Run  # noqa: E402
from doh.train.sampling import SurfaceSampler, judged_rows  # noqa: E402
from doh.train.siren import siren  # noqa: E402


@pytest.mark.parametrize("generator", ["tied", "dense"])
def test_learns_a_small_picture(generator):
    signal = smooth()
    model = fit(signal, QUICK.replace(steps=400, latents=400, bits=7.0, generator=generator, batch=4096, gains="siren"))
    assert psnr(samples(model), signal.samples, 255) > 28


def test_threads_and_pieces_change_nothing(monkeypatch):
    signal = smooth(60, 80)
    config = QUICK.replace(steps=6, batch=4500)
    one, three = (fit(signal, config.replace(threads=t)) for t in (1, 3))
    assert pack(one) == pack(three)


def test_gradient_of_a_batch_is_autograds():
    run = Run(smooth(60, 80), QUICK.replace(batch=4500))
    points, _ = run.draw()
    weights, biases = run.projection(run.latents, run.gain), run.biases * run.omegas
    wanted_loss = (siren(run.encoding(points), weights, biases, run.output_bias) - run.samples[points] / 255).square().mean()
    wanted = torch.autograd.grad(wanted_loss, [*weights, biases, run.output_bias])
    loss, (flat, *others) = run.gradient(points, [w.detach() for w in weights], biases.detach(), run.output_bias.detach(), Workers(1, None))
    torch.testing.assert_close(loss, wanted_loss.detach())
    for a, b in zip([*run.projection.split(flat), *others], wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "shape, kind, sample_type",
    [
        ((1, 1, 1), "image", "u8"),
        ((1, 1, 3), "image", "u16"),
        ((40, 2), "audio", "s16"),
        ((6, 5, 4, 1), "occupancy", "u1"),
        ((3, 4, 5, 2, 3), "array", "u8"),
        ((7, 3, 32), "array", "u16"),
    ],
)
def test_any_signal(shape, kind, sample_type):
    rng = np.random.default_rng(0)
    low = -32768 if sample_type == "s16" else 0
    signal = Signal(rng.integers(low, low + TOP[sample_type] + 1, shape).astype(DTYPE[sample_type]), kind, sample_type)
    config = Config(steps=40, batch=16, threads=1)
    model = fit(signal, config)
    decoded = samples(model)
    assert decoded.shape == shape and decoded.dtype == signal.samples.dtype
    again = fit(signal, config)
    assert pack(again) == pack(model)


def test_a_constant_is_met():
    signal = Signal(np.full((5, 5, 1), 200, np.uint8), "image", "u8")
    assert psnr(samples(fit(signal, Config(steps=300, threads=1, bits=8.0))), signal.samples, 255) > 35


def test_every_point_once_in_a_pass():
    run = Run(smooth(), QUICK.replace(sampling="epochs", batch=50))
    seen = torch.cat([run.draw()[0] for _ in range(run.pass_steps)])
    assert run.pass_steps == 4 and sorted(seen.tolist()) == list(range(192))
    assert not torch.equal(torch.cat([run.draw()[0] for _ in range(4)]), seen)


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_run_that_nobody_holds_is_freed_at_once(engine, steps):
    Run(smooth(), QUICK)  # torch leaves something behind when it is first used
    run = Run(smooth(), QUICK.replace(engine=engine, steps=steps))
    for _ in range(steps):
        run.train(Workers(1, None))
    kept = weakref.ref(run), weakref.ref(run.samples), weakref.ref(run.encoding.tables[0])
    gc.collect()
    gc.disable()
    try:
        del run
        assert [each() for each in kept] == [None] * 3
    finally:
        gc.enable()


def test_epochs_set_the_steps():
    assert Run(smooth(), QUICK.replace(epochs=3, batch=50)).steps == 12


def test_no_steps_at_all():
    with pytest.raises(EncodeError, match="steps = 0 would train nothing: give steps, epochs or seconds"):
        fit(smooth(), QUICK.replace(steps=0))
    assert fit(smooth(), QUICK.replace(steps=0, epochs=1)).latent_codes.shape == (120,)


@pytest.mark.parametrize("budget", [150, 400, 2000])
def test_budgets_are_met(budget):
    data = pack(fit(smooth(), Config(steps=40, threads=1, bytes=budget)))
    assert budget * 0.97 <= len(data) <= budget


def test_a_fixed_network_takes_a_large_budget_in_finer_steps_or_says_so():
    config = Config(steps=10, threads=1, width=6, depth=2, frequencies=2)  # 138 weights
    assert 0.97 * 250 <= len(pack(fit(smooth(), config.replace(bytes=250)))) <= 250
    with pytest.raises(EncodeError, match=r"bytes are more than this network can use \(2[0-9][0-9] bytes\)"):
        fit(smooth(), config.replace(bytes=320))
    with pytest.raises(EncodeError, match=r"5000 bytes are more than this network can use \(at most [34][0-9][0-9] bytes\): give it a larger width"):
        Run(smooth(), config.replace(bytes=5000))


def test_learning_rates():
    cosine = [learning_rate(s, 100, 10, Config(warmup=0.1)) for s in range(100)]
    assert cosine[0] < cosine[5] < cosine[9] > cosine[50] > cosine[99] > 0 and cosine[99] < 1e-3
    exponential = [learning_rate(s, 100, 10, Config(warmup=0, schedule="exponential", decay=0.5)) for s in (0, 9, 10, 25)]
    assert exponential == [1, 1, 0.5, 0.25]


def test_progress_reports():
    reports = []
    fit(smooth(40, 40), QUICK.replace(steps=300, batch=1600, finish=0.5), progress=reports.append)
    assert reports[-1].phase == "quantise" and reports[-1].step == reports[-1].steps == 300
    assert {r.phase for r in reports} <= {"fit", "finish", "quantise"}
    assert all(r.psnr > 0 and r.rate > 0 and r.remaining_s >= 0 for r in reports)


@pytest.mark.parametrize("device", ["gpu7", "meta", "hpu"])
def test_devices_that_cannot_be_used(device):
    with pytest.raises(EncodeError, match=f"device '{device}' cannot be used"):
        fit(smooth(), QUICK.replace(device=device))


@pytest.mark.parametrize("batch", [64, 4096])
def test_points_near_a_surface_are_those_of_an_occupancy_field(batch):
    with pytest.raises(EncodeError, match="sampling = surface is for 3-D occupancy fields of one channel, not for image of the shape"):
        Run(smooth(), QUICK.replace(sampling="surface", batch=batch))
    field = Signal(np.arange(512, dtype=np.uint8).reshape(8, 8, 8, 1) // 128, "occupancy", "u1")
    for sampling in ("surface", "auto"):
        assert isinstance(Run(field, QUICK.replace(sampling=sampling, batch=batch)).sampler, SurfaceSampler) == (batch == 64)
    assert Run(field, QUICK.replace(sampling="random", batch=batch)).sampler is None


@pytest.mark.parametrize("batch", [64, 4096])
def test_points_where_the_errors_are_belong_to_other_signals(batch):
    for sampling in ("auto", "errors"):
        assert isinstance(Run(smooth(), QUICK.replace(sampling=sampling, batch=batch)).sampler, ErrorSampler) == (batch == 64)
    assert Run(smooth(), QUICK.replace(sampling="epochs", batch=batch)).sampler is None
    field = Signal(np.arange(512, dtype=np.uint8).reshape(8, 8, 8, 1) // 128, "occupancy", "u1")
    sound = Signal(np.zeros((500, 1), np.int16), "audio", "s16")
    for signal in (field, sound):
        assert isinstance(Run(signal, QUICK.replace(sampling="errors")).sampler, ErrorSampler)
    assert Run(sound, QUICK).sampler is None


@pytest.mark.parametrize("sampling", ["errors", "random"])
def test_warming_up_changes_nothing(sampling):
    """The gradient that a GPU compiles its kernels for, before the clock of a training by time is set."""
    cold, warm = (Run(smooth(60, 80), QUICK.replace(batch=512, sampling=sampling)) for _ in range(2))
    warm_up(warm)
    for run in (cold, warm):
        for _ in range(3):
            run.train(Workers(1, None))
    assert torch.equal(cold.latents, warm.latents) and torch.equal(cold.loss, warm.loss)


def test_a_gpu_that_does_not_compute_is_not_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    engine._cuda_computes.cache_clear()
    try:
        with pytest.warns(UserWarning, match="the GPU cannot be used, training is on the CPU"):
            assert engine.device_of("auto") == torch.device("cpu")
        assert engine.device_of("auto") == torch.device("cpu")  # asked once
    finally:
        engine._cuda_computes.cache_clear()


def test_number_of_torch_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    fit(smooth(), QUICK.replace(steps=1))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("generator", ["tied", "dense"])
def test_the_papers_parameterisation_takes_the_same_steps(generator):
    """The unscaled model, written out (z in [-1/n, 1/n], B_l with the bounds of Eq. 13 and 16, Adam with its own epsilon), against the scaled."""
    config = Config.from_preset("paper").replace(
        generator=generator, latents=90, width=10, depth=3, frequencies=3, threads=1, epochs=5, batch=64, lr_latents=1e-4, lr_biases=1e-4, decay=0.9
    )
    signal = smooth()
    run = Run(signal, config)
    n = run.plan.latents
    z = (run.latents.detach().double() / n).requires_grad_()
    biases = torch.zeros_like(run.biases, dtype=torch.float64).requires_grad_()
    output_bias = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([z, biases, output_bias], lr=config.lr_latents, betas=(0.99, 0.999), eps=1e-8)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, config.decay)
    moved = run.latents.detach().clone()
    for step in range(run.steps):
        drawn = Run.draw(run)
        points = drawn[0]
        run.draw = lambda drawn=drawn: drawn
        weights = [w * n for w in run.projection(z, run.gain.double())]
        out = siren(run.encoding(points).double(), weights, biases * 30.0, output_bias)
        adam.zero_grad()
        (out - run.samples[points].double() / 255).square().mean().backward()
        adam.step()
        if (step + 1) % run.pass_steps == 0:
            decay.step()
        run.train(Workers(1, None))
    assert (run.latents - moved).abs().max() > 0.02
    torch.testing.assert_close(run.latents.detach().double(), z.detach() * n, rtol=0, atol=2e-4)
    torch.testing.assert_close(run.biases.detach().double(), biases.detach(), rtol=0, atol=1e-5)


def test_rows_on_which_steps_are_judged():
    assert judged_rows((512, 768)) == [slice(0, 512)] and judged_rows((7,)) == [slice(0, 7)]
    for shape, most in (((512, 512, 512), 1 << 21), ((1 << 30,), 1 << 21), ((4, 1 << 22), 1 << 22), ((9000, 6000), 1 << 21)):
        parts = judged_rows(shape)
        rows = [row for part in parts for row in (part.start, part.stop - 1)]
        assert rows == sorted(rows) and all(0 <= row < shape[0] for row in rows)
        middles = [(part.start + part.stop) / 2 for part in parts]
        assert all(abs(middle - (i + 0.5) * shape[0] / len(parts)) <= 1 for i, middle in enumerate(middles))
        assert most / 2 < sum(part.stop - part.start for part in parts) * np.prod(shape[1:], dtype=int) <= most


def test_rows_judged_are_not_the_ends_of_a_large_field():
    assert judged_rows((1024, 1024, 1024)) == [slice(256, 257), slice(768, 769)]
    assert judged_rows((3, 1 << 20)) == [slice(0, 1), slice(2, 3)] and judged_rows((64, 1 << 22)) == [slice(32, 33)]


def test_rows_are_decoded_as_they_lie_in_the_whole():
    model = fit(smooth(), QUICK)
    data = pack_unsealed(model)
    whole = decode_unsealed(data, model)
    assert np.array_equal(decode_unsealed(data, model, rows=slice(3, 5)), whole[3:5])


def test_without_a_budget_the_step_is_chosen_by_measuring_decoded_files(monkeypatch):
    monkeypatch.setattr(result, "STEP_FACTORS", (50.0, 1.0, 1e-3))
    run = Run(smooth(), QUICK)
    start = run.preferred_step()
    sizes = [run.size(start * factor) for factor in (50.0, 1.0, 1e-3)]
    assert sizes == sorted(sizes)
    chosen = result.best_step(run, start)

    def merit(step: float) -> float:
        model = run.model(run.quantiser.steps(max(step, run.quantiser.finest(run.latents))))
        return psnr(samples(model), smooth().samples, 255) - 2.5 * np.log2(len(pack(model)))

    assert merit(chosen) == max(merit(start * factor) for factor in (50.0, 1.0, 1e-3))
