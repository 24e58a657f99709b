"""doh.train.ademamix: the optimiser against its formula, Adam, and its compiled form."""

from __future__ import annotations

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from doh.train import fused  # noqa: E402
from doh.train.ademamix import MEANS, AdEMAMix, factors, mixing  # noqa: E402

SETTINGS = {"lr": 0.04, "betas": (0.9, 0.99, 0.997), "alpha": 8.0, "eps": 1e-8}
STEPS = 30


def tensors(*shapes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def course(parameters, steps=STEPS, **changes):
    """The parameters after steps with gradients that follow from the parameters and some noise; and the optimiser."""
    parameters = [p.clone().requires_grad_() for p in parameters]
    optimiser = AdEMAMix([{"params": parameters, **SETTINGS, **changes}])
    for step in range(steps):
        for p, noise in zip(parameters, tensors(*[p.shape for p in parameters], seed=step)):
            p.grad = p.detach() + noise
        optimiser.step()
    return [p.detach() for p in parameters], optimiser


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.0}, {"alpha": 2.5, "betas": (0.0, 0.999, 0.9), "eps": 0.1}], ids=str)
def test_the_papers_formula(changes):
    """The equation of arXiv 2409.03137, section 3, in float64, without decay of the weights."""
    (start,) = tensors((50,))
    (found,), _ = course([start], **changes)
    (beta1, beta2, beta3), alpha, lr, eps = ({**SETTINGS, **changes}[name] for name in ("betas", "alpha", "lr", "eps"))
    p, m1, m2, v = start.double(), 0.0, 0.0, 0.0
    for t in range(1, STEPS + 1):
        g = p + tensors((50,), seed=t - 1)[0].double()
        m1, m2, v = beta1 * m1 + (1 - beta1) * g, beta3 * m2 + (1 - beta3) * g, beta2 * v + (1 - beta2) * g**2
        p = p - lr * (m1 / (1 - beta1**t) + alpha * m2) / ((v / (1 - beta2**t)).sqrt() + eps)
    assert (p - start).abs().mean() > 0.1
    torch.testing.assert_close(found.double(), p, rtol=0, atol=1e-5)


def test_a_parameter_without_a_gradient_is_an_error_that_changes_nothing():
    with_one, without = tensors((3,), (4,))
    parameters = [with_one.clone().requires_grad_(), without.clone().requires_grad_()]
    optimiser = AdEMAMix([{"params": [p], **SETTINGS} for p in parameters])
    parameters[0].grad = torch.ones(3)
    with pytest.raises(ValueError, match="1 of the parameters have no gradient"):
        optimiser.step()
    assert torch.equal(parameters[0], with_one) and torch.equal(parameters[1], without)
    assert not optimiser.state


def test_without_the_slow_mean_it_is_adam():
    start = tensors((7, 3), (11,))
    found, _ = course(start, alpha=0.0)
    wanted = [p.clone().requires_grad_() for p in start]
    adam = torch.optim.Adam(wanted, lr=0.04, betas=(0.9, 0.99), eps=1e-8)
    for step in range(STEPS):
        for p, noise in zip(wanted, tensors((7, 3), (11,), seed=step)):
            p.grad = p.detach() + noise
        adam.step()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-5)


@pytest.mark.skipif(not fused.available(), reason="built without the compiled step")
@pytest.mark.parametrize("count", [1, 3, 8, 1003])
def test_compiled_gives_the_same_numbers(count):
    p, (gradient,) = tensors((count,))[0], tensors((count,), seed=2)
    wanted = p.clone().requires_grad_()
    optimiser = AdEMAMix([{"params": [wanted], **SETTINGS}])
    means = [torch.zeros(count) for _ in MEANS]
    for step in range(1, STEPS + 1):
        wanted.grad = gradient = torch.sin(37 * gradient) * 10.0 ** (step % 7 - 5)
        optimiser.step()
        fused._train.ademamix(p, gradient, *means, factors(optimiser.param_groups[0], step))
        assert torch.equal(p, wanted) and all(torch.equal(mean, optimiser.state[wanted][name]) for name, mean in zip(MEANS, means))


@pytest.mark.skipif(not fused.available(), reason="built without the compiled step")
def test_wrong_arrays_are_errors():
    good, ten = [torch.ones(4) for _ in range(5)], factors(SETTINGS, 1)
    fused._train.ademamix(*good, ten)
    for wrong in range(1, 5):
        with pytest.raises(ValueError, match=("parameters", "gradient", *MEANS)[wrong]):
            fused._train.ademamix(*good[:wrong], torch.ones(3), *good[wrong + 1 :], ten)
    for changes in ([good[0].double()], [torch.ones(4, 2)[:, 0]]):
        with pytest.raises(TypeError):
            fused._train.ademamix(*changes, *good[1:], ten)
    with pytest.raises(TypeError):
        fused._train.ademamix(*good, ten[:9])


def test_a_numbers_course_depends_on_nothing_beside_it():
    (whole,), cuts = tensors((57,)), (0, 1, 12, 57)
    pieces = [whole[a:b].clone().requires_grad_() for a, b in pairwise(cuts)]
    whole.requires_grad_()
    optimisers = [AdEMAMix([{"params": params, **SETTINGS}]) for params in ([whole], pieces)]
    for step in range(STEPS):
        (whole.grad,) = tensors((57,), seed=step)
        for piece, (a, b) in zip(pieces, pairwise(cuts)):
            piece.grad = whole.grad[a:b].clone()
        for optimiser in optimisers:
            optimiser.step()
    assert torch.equal(whole, torch.cat(pieces))


def test_the_slow_mean_grows():
    assert mixing(0, 1e5, 0.9, 0.997, 8.0) == (pytest.approx(0.9), 0.0)
    assert mixing(10000, 1e5, 0.9, 0.997, 8.0) == mixing(99999, 1e5, 0.9, 0.997, 8.0) == (pytest.approx(0.997), 8.0)
    beta3, alpha = mixing(5000, 1e5, 0.9, 0.99, 8.0)
    assert alpha == 4 and 1 / (1 - beta3) == pytest.approx((10 + 100) / 2)
    assert mixing(500, 1e5, 0.9, 0.997, 0.0)[1] == 0


def test_it_is_short_and_light_in_short_trainings():
    assert mixing(2000, 2400, 0.9, 0.997, 8.0) == (pytest.approx(1 - 1 / 60), pytest.approx(5.0))
    assert mixing(200, 240, 0.9, 0.997, 8.0) == (pytest.approx(0.9), pytest.approx(10 / 12))
    assert mixing(0, float("inf"), 0.9, 0.997, 8.0)[1] == 0  # by the clock, before the first step
