"""doh.train.sampling: which points are drawn, how often, and from what."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from doh.train.sampling import SurfaceSampler  # noqa: E402


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball(shape: tuple[int, int, int]) -> np.ndarray:
    grids = np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in shape), indexing="ij")
    return (sum(g * g for g in grids) < 0.5).astype(np.uint8)


def near_by_definition(cells: np.ndarray, reach: int) -> np.ndarray:
    near = np.zeros(cells.shape, bool)
    for at in np.ndindex(cells.shape):
        cube = cells[tuple(slice(max(0, i - reach), i + reach + 1) for i in at)]
        near[at] = cube.min() != cube.max()
    return near


@pytest.mark.parametrize("reach", [1, 2, 3])
@pytest.mark.parametrize("shape", [(16, 16, 16), (19, 7, 11), (1, 5, 3), (9, 1, 1)])
def test_near_points_are_those_of_the_definition(shape, reach):
    cells = (np.random.default_rng(3).random(shape) < 0.03).astype(np.uint8)
    sampler = SurfaceSampler(cells, generator(), reach)
    expected = np.flatnonzero(near_by_definition(cells, reach))
    assert sampler.near == len(expected)
    assert np.array_equal(sampler.number_of(np.arange(sampler.near)), expected)


def test_near_points_of_several_blocks():
    """A field so wide that it is worked on in blocks of 8 layers: at the seams as anywhere."""
    cells = np.zeros((27, 730, 730), np.uint8)
    cells[[7, 8, 16, 23], 100, [5, 9, 700, 300]] = 1
    expected = np.zeros(cells.shape, bool)
    for x, y, z in np.argwhere(cells):
        expected[max(0, x - 2) : x + 3, y - 2 : y + 3, z - 2 : z + 3] = True
    sampler = SurfaceSampler(cells, generator())
    assert np.array_equal(sampler.number_of(np.arange(sampler.near)), np.flatnonzero(expected))


def test_a_quarter_of_a_batch_is_near_the_surface():
    cells = ball((24, 24, 24))
    near = near_by_definition(cells, 2).reshape(-1)
    points = SurfaceSampler(cells[..., None], generator()).draw(4001)[0]
    assert points.dtype == torch.int64 and points.shape == (4001,) and points.min() >= 0 and points.max() < cells.size
    assert near[points[3001:]].all()
    share = near.mean()
    assert abs(near[points[:3001]].mean() - share) < 4 * (share * (1 - share) / 3001) ** 0.5


def test_every_near_point_is_as_likely():
    cells = ball((12, 12, 12))
    sampler = SurfaceSampler(cells, generator(), reach=1)
    drawn = sampler.draw(800 * sampler.near)[0][600 * sampler.near :].numpy()
    counts = np.bincount(drawn, minlength=cells.size)[sampler.number_of(np.arange(sampler.near))]
    assert abs(counts - 200).max() < 6 * 200**0.5
    assert abs(((counts - 200) ** 2 / 200).sum() / sampler.near - 1) < 0.3  # chi-squared


def test_draws_follow_from_the_generator():
    cells = ball((10, 10, 10))
    first, second, third = (SurfaceSampler(cells, generator(seed)) for seed in (5, 5, 6))
    a = [first.draw(64)[0] for _ in range(3)]
    assert all(torch.equal(x, second.draw(64)[0]) for x in a)
    assert not torch.equal(a[0], third.draw(64)[0]) and not torch.equal(a[0], a[1])
    state = first.generator.get_state()
    later = first.draw(64)[0]
    first.generator.set_state(state)
    assert torch.equal(first.draw(64)[0], later)


@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_field_is_drawn_uniformly(value):
    sampler = SurfaceSampler(np.full((5, 6, 7), value, np.uint8), generator())
    assert sampler.near == 0
    assert len(torch.unique(sampler.draw(5000)[0])) == 210


def test_other_shapes_are_refused():
    for shape in ((4, 4), (4, 4, 4, 2)):
        with pytest.raises(ValueError, match="an occupancy field has the shape"):
            SurfaceSampler(np.zeros(shape, np.uint8), generator())
