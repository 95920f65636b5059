"""Skip a notebook about a model of another maker where that model was not fetched."""

from __future__ import annotations

import pytest

from interp.model.sources.known import KNOWN_MODELS

NEEDS = {
    "08_a_real_model.ipynb": ["smollm2"],
    "09_token_health.ipynb": ["smollm2", "gemma3-270m"],
    "10_cuts.ipynb": ["smollm2"],
    "13_where_is_paris.ipynb": ["smollm2"],
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip with one sentence that says how to fetch the model."""
    for name in NEEDS.get(item.path.name, []):
        if not KNOWN_MODELS[name].is_here:
            pytest.skip(f"{item.path.name} reads {name!r}: fetch it once with `interp fetch {name}`.")
