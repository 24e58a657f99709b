"""A model with random codes, for benchmarks that need a network and no picture."""

from __future__ import annotations

import _env


def random_model(number: int, **settings):
    """tools/make_vectors' model with random numbers."""
    return _env.program("make_vectors").random_model(number, settings.pop("shape"), **settings)
