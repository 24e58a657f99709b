"""Filled cells -> the surface around them, by marching cubes (scikit-image), slab by slab: a whole grid as floats would take four times its memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Layers of cells at a time.
SLAB = 32
#: Vertices are told apart by their place in halves of a cell: they lie half way between two neighbours, some in the middle of eight.
_KEY = 2


def surface(layers: Callable[[int, int], np.ndarray], shape: tuple[int, int, int], slab: int = SLAB) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface between filled and empty cells; what lies outside of the grid is empty.

    layers(first, last): the cells of these layers of the first dimension, (last - first, *shape[1:]), 0 or 1. Called once for each layer, in order.
    Returns vertices (n, 3), float64, in the cube's coordinates [-1, 1] (docs/format.md, section 7), and triangles (m, 3), int64, that face outwards,
    seen from outside in anticlockwise order. Where no cell is filled both are empty. Raises ImportError without scikit-image.
    """
    from skimage import measure

    marching_cubes: Callable[..., tuple[np.ndarray, ...]] = measure.marching_cubes
    vertices, faces, count = [np.empty((0, 3))], [np.empty((0, 3), np.int64)], 0
    before = np.zeros((1, shape[1] + 2, shape[2] + 2), np.uint8)  # the layer that two slabs share; at first the empty one outside
    for first in range(0, shape[0], slab):
        last = min(first + slab, shape[0])
        closing = int(last == shape[0])
        block = np.concatenate([before, np.pad(layers(first, last), ((0, closing), (1, 1), (1, 1)))])
        before = block[-1:]
        if block.any() and not block.all():
            corners, triangles = marching_cubes(block.astype(np.float32), 0.5, gradient_direction="ascent")[:2]
            vertices.append(corners.astype(np.float64) + np.array([first - 1, -1, -1]))
            faces.append(triangles.astype(np.int64) + count)
            count += len(corners)
    places, triangles = np.concatenate(vertices), np.concatenate(faces)
    keys = np.rint((places + 1) * _KEY).astype(np.int64)
    span = [(n + 2) * _KEY for n in shape]
    _, chosen, number = np.unique((keys[:, 0] * span[1] + keys[:, 1]) * span[2] + keys[:, 2], return_index=True, return_inverse=True)
    return (2 * places[chosen] + 1) / np.array(shape) - 1, number.reshape(-1)[triangles]
