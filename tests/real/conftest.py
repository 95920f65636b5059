"""Real models that were fetched; a test of one that was not is skipped with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

import interp
from interp.model.sources.known import SMOLLM2

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder that ask for SmolLM2: they run where they are asked for, with `-m smollm2`."""
    for item in items:
        if HERE in item.path.parents and {"smollm2", "smollm2_file"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.smollm2)


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """The GGUF file of SmolLM2."""
    if not SMOLLM2.is_here:
        pytest.skip("SmolLM2 was not fetched: run `interp fetch smollm2`.")
    return SMOLLM2.path


@pytest.fixture(scope="session")
def smollm2(smollm2_file: Path) -> interp.Subject:
    """SmolLM2-135M-Instruct in float32, whose weights were of 4 bits."""
    return interp.load("smollm2")
