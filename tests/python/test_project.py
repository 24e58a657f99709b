"""doh.project: any module's weights from one latent vector."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load, save  # noqa: E402
from torch import nn  # noqa: E402
from torch.func import functional_call  # noqa: E402

import doh  # noqa: E402


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.conv = nn.Conv2d(1, 3, 2)
        self.norm = nn.LayerNorm(15)
        self.head = nn.Linear(15, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.embed(ids)[:, None])  # (batch, 3, 1, 5) for two ids
        return self.head(self.norm(x.flatten(1)))


IDS = torch.tensor([[0, 3], [6, 1], [2, 2]])
NAMES = ["embed", "conv", "head"]


def net(kind: str = "tied", seed: int = 3, init: int = 0) -> Net:
    torch.manual_seed(init)
    return doh.project(Net(), 20, seed, kind)


@pytest.fixture(params=["tied", "dense"])
def kind(request):
    return request.param


def test_only_the_latent_and_what_is_not_projected_learns(kind):
    module = net(kind)
    learned = {name for name, p in module.named_parameters() if p.requires_grad}
    assert learned == {"projection.latent", "conv.bias", "head.bias", "norm.weight", "norm.bias"}
    assert module.projection.latent.shape == (20,) and module(IDS).shape == (3, 4)
    assert isinstance(module, Net) and list(module.state_dict()).count("projection.latent") == 1


def test_variances_stay_equation_3(kind):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(60, 50), nn.Linear(50, 40))
    before = [m.weight.detach().square().mean() for m in module]
    doh.project(module, 500, 1, kind)
    assert module(torch.ones(2, 60)).shape == (2, 40)
    for m, wanted in zip(module, before, strict=False):
        assert m.weight.detach().square().mean() == pytest.approx(wanted.item(), rel=0.15)


def test_weights_are_the_decoders_integers(kind):
    module = net(kind).double()
    source = module.projection
    codes = torch.arange(-9, 11)
    with torch.no_grad():
        source.latent.copy_(codes)
    for name, gain, sums in zip(NAMES, source.gains, source.fixed.weight_sums(codes), strict=True):
        assert torch.equal(module.get_submodule(name).weight, sums.double() * source.fixed.unit * gain)


def test_gradients(kind):
    module = net(kind).double()
    latent = module.projection.latent.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: functional_call(module, {"projection.latent": z}, IDS), latent)


def test_optimiser_changes_every_weight(kind):
    module = net(kind)
    before = [module.get_submodule(n).weight.detach().clone() for n in NAMES]
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(IDS).square().sum().backward()
    optimiser.step()
    for n, old in zip(NAMES, before, strict=True):
        assert not torch.equal(module.get_submodule(n).weight, old)


def test_copies_are_independent(kind):
    module = net(kind)
    other = copy.deepcopy(module)
    wanted = module(IDS).detach()
    with torch.no_grad():
        other.projection.latent.zero_()
    assert torch.equal(module(IDS), wanted)
    assert not other.head.weight.any() and module.head.weight.any()


def test_state_goes_into_a_fresh_module(kind):
    module, fresh = net(kind), net(kind, init=1)
    with torch.no_grad():
        module.projection.latent.add_(1)
    assert not torch.equal(fresh(IDS), module(IDS))
    fresh.load_state_dict(load(save(module.state_dict())))
    assert torch.equal(fresh(IDS), module(IDS))


def test_state_of_another_seed_is_refused(kind):
    with pytest.raises(RuntimeError, match="another projection"):
        net(kind, seed=4).load_state_dict(net(kind).state_dict())


def test_dtype(kind):
    module = net(kind).to(torch.float64)
    assert module.head.weight.dtype == torch.float64 and module(IDS).dtype == torch.float64


def test_same_seed_same_weights(kind):
    assert torch.equal(net(kind).head.weight, net(kind).head.weight)
    assert not torch.equal(net(kind).head.weight, net(kind, seed=4).head.weight)


def test_shared_weights_stay_shared(kind):
    module = nn.ModuleDict({"a": nn.Embedding(5, 4), "b": nn.Linear(4, 5, bias=False)})
    module["b"].weight = module["a"].weight
    doh.project(module, 8, kind=kind)
    assert torch.equal(module["a"].weight, module["b"].weight)
    assert len(module.projection.fixed.sizes) == 1


def test_include():
    module = doh.project(Net(), 5, include=["head.weight", "norm.weight"])
    assert module.projection.fixed.shapes == ((15,), (4, 15))
    module = doh.project(Net(), 5, include=lambda name, p: p.dim() == 4)
    assert module.projection.fixed.shapes == ((3, 1, 2, 2),)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: doh.project(Net(), 5, include=["hat.weight"]), "hat.weight"),
        (lambda: doh.project(nn.ReLU(), 5), "no weight"),
        (lambda: doh.project(Net(), 5, kind="sparse"), "unknown kind"),
        (lambda: doh.project(Net(), 0), "at least 1"),
        (lambda: doh.project(Net(), 5, seed=-1), "seed"),
        (lambda: doh.project(net(), 5), "already"),
        (lambda: doh.project(nn.utils.skip_init(nn.Linear, 2, 2).requires_grad_(False), 5, include=lambda n, p: not p.zero_().any()), "all zero"),
    ],
)
def test_misuse_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_projected_weight_cannot_be_assigned():
    module = net()
    with pytest.raises(AttributeError, match="latent"):
        module.head.weight = torch.zeros(4, 15)
