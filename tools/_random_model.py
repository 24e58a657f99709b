"""A model with random codes, for benchmarks that need a network and no picture."""

from __future__ import annotations

import importlib.machinery
import importlib.util

import _env


def random_model(number: int, **settings):
    """tools/make_vectors' model with random numbers."""
    loader = importlib.machinery.SourceFileLoader("make_vectors", str(_env.ROOT / "tools" / "make_vectors"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_vectors", loader))
    loader.exec_module(module)
    return module.random_model(number, settings.pop("shape"), **settings)
