"""Closed meshes whose inside is known, and the cells that they are filled into."""

from __future__ import annotations

import numpy as np

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
#: Two triangles a side, their order and their sense mixed up: inside does not depend on them.
CUBE_FACES = np.array([[0, 1, 3], [0, 2, 3], [4, 5, 7], [6, 4, 7], [0, 1, 5], [4, 0, 5], [2, 3, 7], [2, 6, 7], [0, 2, 6], [0, 4, 6], [1, 3, 7], [1, 5, 7]])


def torus(around: int = 24, across: int = 16, hole: float = 0.6, thick: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a closed torus, seen from all sides, with curvature of both signs."""
    u, v = np.meshgrid(np.arange(around) / around * 2 * np.pi, np.arange(across) / across * 2 * np.pi, indexing="ij")
    ring = hole + thick * np.cos(v)
    vertices = np.stack([ring * np.cos(u), ring * np.sin(u), thick * np.sin(v)], -1).reshape(-1, 3)
    i, j = (n.reshape(-1) for n in np.meshgrid(np.arange(around), np.arange(across), indexing="ij"))
    a, b = i * across + j, (i + 1) % around * across + j
    c, d = (i + 1) % around * across + (j + 1) % across, i * across + (j + 1) % across
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def centres(grid: int) -> np.ndarray:
    """(grid, grid, grid, 3): the coordinates of the cells, docs/format.md, section 7."""
    x = (2 * np.arange(grid) + 1) / grid - 1
    return np.stack(np.meshgrid(x, x, x, indexing="ij"), -1)
