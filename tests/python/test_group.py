"""Several signals in one step: each one's loss and gradients as alone, by torch and by the compiled step; stacked latents in the projections."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from math import prod
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from doh.errors import EncodeError  # noqa: E402
from doh.model import Target  # noqa: E402
from doh.train import engine, fused  # noqa: E402
from doh.train import projection as P  # noqa: E402
from doh.train.engine import FirstThatRuns, steps_for  # noqa: E402
from doh.train.gradient import BatchGradient, Workers  # noqa: E402
from doh.train.graphs import WARM_UP, Graphed  # noqa: E402
from doh.train.group import GroupGradient  # noqa: E402
from doh.train.siren import Encoding  # noqa: E402
from doh.train.siren import siren as plain_siren  # noqa: E402

SHAPES = [(12, 17), (9, 9), (30, 4)]
RANGES = [(0.0, 255.0), (0.0, 255.0), (0.0, 1.0)]
TARGET = Target(dims=2, channels=3, width=10, depth=3, frequencies=2)
BATCH = 50
COMPILED = pytest.param("compiled", marks=pytest.mark.skipif(not fused.available(), reason="built without the compiled step"))


class Group:
    """Three signals of different sizes, with random networks of one shape."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(4)
        self.encodings = [Encoding(shape, 2, "octaves") for shape in SHAPES]
        tops = [256, 256, 2]
        self.samples = [torch.randint(top, (prod(s), 3), generator=random, dtype=torch.uint8) for s, top in zip(SHAPES, tops, strict=True)]
        self.points = torch.stack([torch.randint(prod(s), (BATCH,), generator=random) for s in SHAPES])
        self.weights = (torch.rand(3, TARGET.weights, generator=random) - 0.5) * 1.5
        self.biases, self.output_bias = torch.randn(3, 3, 10, generator=random), torch.randn(3, 3, generator=random)

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        return self.weights, self.biases, self.output_bias

    def by_autograd(self, i: int, importance: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Loss and gradients of signal i, in float64."""
        flat, biases, output_bias = (p[i].double().requires_grad_() for p in self.parameters)
        matrices = [w.view(shape) for w, shape in zip(flat.split([prod(s) for s in TARGET.layer_shapes]), TARGET.layer_shapes, strict=True)]
        low, top = RANGES[i]
        wanted = (self.samples[i][self.points[i]].double() - low) / top
        loss = (plain_siren(self.encodings[i](self.points[i]).double(), matrices, biases, output_bias) - wanted).square()
        loss = (loss * importance[i, :, None]).mean()
        return loss.detach(), torch.autograd.grad(loss, [flat, biases, output_bias])


@pytest.mark.parametrize("step", ["eager", COMPILED])
@pytest.mark.parametrize("weighed", [False, True])
def test_each_signal_has_its_own_gradient(step, weighed):
    group = Group()
    importance = torch.rand(3, BATCH, generator=torch.Generator().manual_seed(3)) * 3 if weighed else torch.ones(3, BATCH)
    gradient = GroupGradient(TARGET, group.encodings, group.samples, RANGES, [step])
    losses, gradients = gradient(group.points, *group.parameters, importance if weighed else None)
    assert losses.shape == (3,) and [g.shape for g in gradients] == [p.shape for p in group.parameters]
    for i in range(3):
        loss, wanted = group.by_autograd(i, importance)
        assert abs(float(losses[i]) - float(loss)) <= 1e-6 * float(loss)
        for ours, theirs in zip(gradients, wanted, strict=True):
            assert float((ours[i].double() - theirs).norm()) <= 1e-5 * float(theirs.norm())


@pytest.mark.parametrize("step", ["eager", COMPILED])
def test_a_group_of_one_is_a_signal_alone(step):
    group = Group()
    importance = torch.rand(3, BATCH, generator=torch.Generator().manual_seed(3)) * 3
    for i in range(3):
        one = slice(i, i + 1)
        group_of_one = GroupGradient(TARGET, group.encodings[one], group.samples[one], RANGES[one], [step])
        found = group_of_one(group.points[one], *(p[one] for p in group.parameters), importance[one])
        alone = BatchGradient(TARGET, group.encodings[i], group.samples[i], *RANGES[i], BATCH, fused=[step])
        weights = [group.weights[i]] if step == "compiled" else [w[0] for w in _matrices(group.weights[one])]
        loss, gradients = alone(group.points[i], weights, group.biases[i], group.output_bias[i], Workers(1, None), importance[i])
        torch.testing.assert_close(found[0][0], loss, rtol=1e-6, atol=0)
        for ours, theirs in zip(found[1], gradients, strict=True):
            torch.testing.assert_close(ours[0], theirs, rtol=0 if step == "compiled" else 1e-4, atol=0 if step == "compiled" else 1e-6)


def _matrices(flat: torch.Tensor) -> list[torch.Tensor]:
    return [w.view(-1, *s) for w, s in zip(flat.split([prod(s) for s in TARGET.layer_shapes], 1), TARGET.layer_shapes, strict=True)]


@pytest.mark.parametrize("step", ["eager", COMPILED])
@pytest.mark.parametrize("used", [False, True])
def test_a_group_that_nobody_holds_is_freed_at_once(step, used):
    group = Group()
    gradient = GroupGradient(TARGET, group.encodings, group.samples, RANGES, [step])
    if used:
        gradient(group.points, *group.parameters)
    assert gradient.step.name == step
    kept = weakref.ref(gradient), weakref.ref(group.samples[0]), weakref.ref(group.encodings[0])
    gc.disable()
    try:
        del gradient, group
        assert [each() for each in kept] == [None] * 3
    finally:
        gc.enable()


def test_groups_of_what_does_not_fit_together_are_refused():
    group = Group()
    with pytest.raises(ValueError, match="3 encodings, 2 arrays of samples and 3 ranges"):
        GroupGradient(TARGET, group.encodings, group.samples[:2], RANGES)
    with pytest.raises(ValueError, match="one type"):
        GroupGradient(TARGET, group.encodings, [*group.samples[:2], group.samples[2].int()], RANGES)


@pytest.mark.parametrize("kind", ["tied", "dense"])
@pytest.mark.parametrize("n", [7, 23, 200])
def test_stacked_latents(kind, n, monkeypatch):
    monkeypatch.setattr(P, "CHUNK_ENTRIES", 1000)
    p = P.KINDS[kind](3, n, TARGET.layer_shapes)
    latents = torch.randn(4, n, dtype=torch.float64, requires_grad=True)
    flat, gain, slope = p.flat(latents), torch.rand(sum(p.sizes)), torch.randn(4, sum(p.sizes), dtype=torch.float64)
    grad = torch.autograd.grad((flat * slope).sum(), latents)[0]
    for i in range(4):
        one = latents.detach()[i].requires_grad_()
        torch.testing.assert_close(flat[i], p.flat(one), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(grad[i], torch.autograd.grad((p.flat(one) * slope[i]).sum(), one)[0], rtol=1e-12, atol=1e-12)
    for layer, (stacked, shape) in enumerate(zip(p(latents, gain), TARGET.layer_shapes, strict=True)):
        assert stacked.shape == (4, *shape)
        torch.testing.assert_close(stacked[2], p(latents[2], gain)[layer], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(p.part(latents, layer)[3], p.part(latents[3], layer), rtol=1e-12, atol=1e-12)


# the choice of a step


def test_steps_by_setting_and_device(monkeypatch):
    cpu, cuda, other = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
    wide = Target(dims=2, channels=3, width=engine.TRITON_WIDTH + 1, depth=2)
    monkeypatch.setattr(fused, "_train", object())
    monkeypatch.setattr(engine, "find_spec", lambda name: object() if name == "triton" else None)
    assert steps_for("auto", cpu, wide) == ("compiled", "eager") and steps_for("fused", cpu, wide) == ("compiled",)
    assert steps_for("auto", cuda, TARGET) == ("triton", "graph", "eager") and steps_for("fused", cuda, TARGET) == ("triton",)
    assert steps_for("auto", cuda, wide) == ("graph", "eager") and steps_for("eager", cuda, TARGET) == ("eager",)
    assert steps_for("auto", other, TARGET) == ("eager",)
    with pytest.raises(EncodeError, match="engine = fused takes at most 256 units on cuda, not 257: use auto"):
        steps_for("fused", cuda, wide)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert steps_for("auto", cuda, TARGET) == ("graph", "eager")
    with pytest.raises(EncodeError, match="engine = fused needs Triton on cuda, which is not installed: use auto"):
        steps_for("fused", cuda, TARGET)
    monkeypatch.setattr(fused, "_train", None)
    assert steps_for("auto", cpu, TARGET) == ("eager",)


def test_a_step_that_fails_at_first_gives_way_with_a_warning():
    def make():
        raise RuntimeError("no compiler\nmore")

    def fails(*_):
        raise ValueError("too large")

    step = FirstThatRuns([("first", make), ("second", lambda: fails), ("third", lambda: lambda x: (x, [x]))])
    with pytest.warns(UserWarning) as found:
        assert step(torch.ones(1))[0] == 1
    assert [str(w.message) for w in found] == [
        "the training step 'first' cannot run here, 'second' takes its place (RuntimeError: no compiler)",
        "the training step 'second' cannot run here, 'third' takes its place (ValueError: too large)",
    ]
    assert step.name == "third"
    with pytest.raises(ValueError, match="too large"):
        FirstThatRuns([("only", lambda: fails)])()


def test_a_step_that_has_run_does_not_give_way():
    calls = []

    def once(*_):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("broken")
        return torch.zeros(()), []

    step = FirstThatRuns([("first", lambda: once), ("second", lambda: once)])
    step()
    with pytest.raises(RuntimeError, match="broken"):
        step()


def test_recorded_functions_with_a_stand_in_for_cuda(monkeypatch):
    """Without a GPU: inputs are copied to where the recording reads them, and there is one recording for each set of shapes."""
    replays = []

    class Graph:
        def replay(self):
            replays.append(self)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    stand_ins = {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": nullcontext,
        "CUDAGraph": Graph,
        "graph": lambda graph, stream, capture_error_mode: nullcontext(),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    seen = []

    def function(a, b):
        seen.append((a, b))
        return a

    graphed = Graphed(function)
    x, y = torch.zeros(3), torch.ones(2)
    kept = graphed(x, y)
    assert len(seen) == WARM_UP + 1 and kept is not x  # it reads memory of its own
    assert torch.equal(graphed(x + 5, y), torch.full((3,), 5.0)) and len(seen) == WARM_UP + 1
    assert graphed(x + 6, y) is kept and torch.equal(seen[-1][1], y)
    graphed(torch.zeros(4), y)
    assert len(seen) == 2 * (WARM_UP + 1) and len(replays) == 4 and len(set(map(id, replays))) == 2

    def of_fives(a):  # which fails in its recording
        if len(seen) == WARM_UP:
            raise OSError("five")
        seen.append(a)

    seen.clear()
    monkeypatch.setattr(Graphed, "failed", False)
    with pytest.raises(OSError, match="five"):
        Graphed(of_fives)(x)
    with pytest.raises(RuntimeError, match="an earlier recording"):
        Graphed(function)(x, y)
    assert graphed(x, y) is kept  # recorded before
