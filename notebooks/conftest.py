"""Skip a notebook about a model of another maker where that model was not fetched."""

from __future__ import annotations

import pytest

from interp.model.sources.known import KNOWN_MODELS

NEEDS = {"08_a_real_model.ipynb": "smollm2"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip with one sentence that says how to fetch the model."""
    model = KNOWN_MODELS.get(NEEDS.get(item.path.name, ""))
    if model is not None and not model.is_here:
        pytest.skip(f"{item.path.name} reads {model.name!r}: fetch it once with `interp fetch {model.name}`.")
