"""Texts for planted models, and verdicts of one claim on one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from interp.findings import findings, get


@pytest.fixture(scope="session")
def planted_texts() -> list[str]:
    """Eleven texts of nine words that every planted model reads."""
    return [" ".join(f"w{(start * 5 + step * 7) % 12}" for step in range(9)) for start in range(1, 12)]


@pytest.fixture(scope="session")
def state_of(planted_texts) -> Callable[..., str]:
    """`state_of(model, claim_id, texts=planted_texts, **changes to the claim)`: what is found of it."""

    def state(model, id: str, texts=planted_texts, **changes) -> str:
        claim = get(id)
        own = texts if claim.texts is not None else None
        frame = findings(model, replace(claim, texts=own, n_texts=None, **changes), n_resamples=499)
        assert frame["state"].iat[0] not in ("skipped", "error"), frame["reason"].iat[0]
        return frame["state"].iat[0]

    return state
