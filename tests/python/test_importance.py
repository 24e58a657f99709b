"""doh.train.importance: batches from where the errors are, whose mean is that of the grid."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doh import Signal  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.train import importance  # noqa: E402
from doh.train.gradient import Workers  # noqa: E402
from doh.train.importance import EVEN, PROBES, ErrorSampler, block_counts, squared_errors  # noqa: E402
from doh.train.run import Run  # noqa: E402
from doh.train.siren import siren  # noqa: E402

SHAPES = [(40, 56), (41, 53), (1000,), (11, 13, 9), (3, 500), (7, 5, 6, 4)]


def sampler_of(shape, seed=1) -> ErrorSampler:
    return ErrorSampler(shape, torch.Generator().manual_seed(seed))


def uneven(shape):
    """Squared errors at points, which differ along the longest dimension, by a factor of a thousand."""
    axis = int(np.argmax(shape))

    def errors(points: torch.Tensor) -> torch.Tensor:
        at = points // prod(shape[axis + 1 :]) % shape[axis] / shape[axis]
        return 1e-3 + torch.sin(np.pi * at) ** 16

    return errors


def measured(shape, seed=1) -> ErrorSampler:
    sampler = sampler_of(shape, seed)
    sampler.measure(uneven(shape))
    return sampler


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_cover_the_grid_once(shape):
    sampler = sampler_of(shape)
    seen = np.zeros(shape, int)
    extents = torch.stack(sampler.extents).T.tolist()
    for number, extent in zip(sampler.first.tolist(), extents, strict=True):
        first = np.unravel_index(number, shape)
        seen[tuple(slice(f, f + e) for f, e in zip(first, extent, strict=True))] += 1
    assert (seen == 1).all() and sampler.share.sum() == pytest.approx(1) and len(sampler.share) >= prod(shape) // 300


@pytest.mark.parametrize("shape", [(3000, 4000), (2, 6_000_000), (1, 1, 8_000_000), (20_000_000,), (500, 2, 9000), (3, 3, 3, 300_000)], ids=str)
def test_blocks_of_a_large_signal_are_larger(shape):
    assert 4000 < len(sampler_of(shape).errors) <= importance.MOST_BLOCKS


def test_blocks_are_near_to_cubes():
    assert block_counts((512, 768)) == [64, 96] and block_counts((512, 3)) == [24, 1] and block_counts((2, 2)) == [1, 1] and block_counts((5,)) == [1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_draws_are_even_before_errors_are_known(shape):
    points, counts = sampler_of(shape).draw(50 * prod(shape))
    assert points.dtype == torch.int64 and counts.dtype == torch.float32 and torch.equal(counts, torch.ones(len(points)))
    found = torch.bincount(points, minlength=prod(shape))
    assert len(found) == prod(shape) and abs(found - 50).max() < 6 * 50**0.5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_points_are_drawn_as_often_as_their_importance_says(shape):
    sampler = measured(shape)
    points, counts = sampler.draw(400 * prod(shape))
    found, wanted = torch.bincount(points, minlength=prod(shape)), torch.zeros(prod(shape))
    wanted[points] = 400 / counts
    assert (wanted > 0).all() and (abs(found - wanted) < 6 * wanted.sqrt()).all()
    assert counts.max() <= 1 / EVEN * 1.001 and counts.min() < 0.75  # some points are drawn rarely, but none hardly ever


def test_a_block_is_as_probable_as_its_error_asks():
    sampler = sampler_of((16, 16))
    known = torch.tensor([0.0, 1.0, 4.0, 9.0])
    sampler.restore(known)
    wanted = EVEN / 4 + (1 - EVEN) * known.sqrt() / 6
    assert torch.allclose(sampler.cumulated.to(torch.float32), wanted.cumsum(0)) and torch.allclose(sampler.importance, 0.25 / wanted)


def test_means_are_those_of_the_grid_with_less_variance():
    """The mean of the squared errors is, and so is that of a gradient, whose size goes with the error and whose sign is anything."""
    shape, batch, trials = (64, 96), 256, 2000
    errors, sign = uneven(shape), torch.randint(2, (prod(shape),), generator=torch.Generator().manual_seed(5)) * 2.0 - 1

    def means(sampler: ErrorSampler) -> torch.Tensor:
        draws = (sampler.draw(batch) for _ in range(trials))
        return torch.stack([torch.stack([(errors(p) * c).mean(), (errors(p).sqrt() * sign[p] * c).mean()]) for p, c in draws])

    ours, theirs, points = means(measured(shape)), means(sampler_of(shape)), torch.arange(prod(shape))
    wanted = torch.stack([errors(points).mean(), (errors(points).sqrt() * sign).mean()])
    assert (abs(ours.mean(0) - wanted) < 4 * ours.std(0) / trials**0.5).all()
    assert ours[:, 1].var() < 0.75 * theirs[:, 1].var()


def test_what_was_known_counts_half():
    sampler = sampler_of((16, 16))
    sampler.measure(lambda points: torch.full((len(points),), 4.0))
    assert torch.equal(sampler.errors, torch.full((4,), 4.0))
    sampler.measure(lambda points: torch.full((len(points),), 2.0))
    assert torch.equal(sampler.errors, torch.full((4,), 3.0))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_errors_that_say_nothing(value):
    sampler = sampler_of((32, 32))
    sampler.measure(lambda points: torch.full((len(points),), value))
    assert torch.equal(sampler.importance, torch.ones(16)) and not sampler.errors.any()


def test_errors_are_measured_when_it_is_time():
    sampler, at = sampler_of((32, 32)), []
    for step in range(1100):
        sampler.follow(step, lambda points, step=step: at.append((step, len(points))) or torch.ones(len(points)))
    assert at == [(step, 16 * PROBES) for step in (200, 600, 1000)]


def test_draws_follow_from_generator_and_errors():
    first, second = measured((40, 50), 3), measured((40, 50), 3)
    assert all(torch.equal(a, b) for _ in range(3) for a, b in zip(first.draw(64), second.draw(64), strict=True))
    third = sampler_of((40, 50))
    third.restore(first.errors)
    third.generator.set_state(first.generator.get_state())
    assert all(torch.equal(a, b) for a, b in zip(first.draw(64), third.draw(64), strict=True))
    first.reset()
    assert torch.equal(first.importance, torch.ones(len(first.errors)))


def picture(height: int, width: int) -> Signal:
    """Grey, with a busy corner."""
    samples = np.full((height, width, 3), 128, np.uint8)
    samples[: height // 3, : width // 3] = np.random.default_rng(0).integers(0, 256, (height // 3, width // 3, 3))
    return Signal(samples, "image", "u8")


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_squared_errors_are_those_of_the_network(engine, monkeypatch):
    monkeypatch.setattr(importance, "PIECE", 100)
    run = Run(picture(20, 30), Config(steps=40, latents=100, batch=64, threads=1, engine=engine))
    for _ in range(5):
        run.train(Workers(1, None))
    points = torch.randperm(600)[:250]
    outputs = siren(run.encoding(points), run.projection(run.latents.detach(), run.gain), run.biases.detach() * run.omegas, run.output_bias.detach())
    wanted = (outputs - run.samples[points] / 255).square().mean(1)
    torch.testing.assert_close(squared_errors(run, points), wanted, rtol=1e-4, atol=1e-6)


def test_a_training_looks_where_the_errors_are(monkeypatch):
    monkeypatch.setattr(importance, "FIRST_MEASURED", 20)
    run = Run(picture(48, 48), Config(steps=60, latents=100, batch=256, threads=1))
    for _ in range(40):
        run.train(Workers(1, None))
    points, counts = run.draw()
    busy = (points % 48 < 16) & (points // 48 < 16)
    assert busy.float().mean() > 0.4 and counts[busy].max() < 0.3 < counts[~busy].min()
    with pytest.warns(UserWarning, match="begins anew"):
        run.restart()
    assert torch.equal(run.draw()[1], torch.ones(256))
