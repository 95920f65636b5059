"""Example arguments with which a probe runs on any model in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.data.shipped import dataset
from interp.model.subject import Subject
from interp.runs.holdout import fitted_tokens
from interp.runs.registry import Example

CONCEPT = (
    "time", "day", "moment", "hour", "minute", "night", "morning", "evening", "week", "year", "month", "afternoon",
)  # fmt: skip
"""Words of one concept, common enough for a small model."""

_TOKENS_PER_DIM, _HELD_OUT, _SEED = 20, 0.2, 0  # defaults of probes that fit maps of the whole residual stream


@checked
def running_text(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Return as many shipped stories as fit every dimension of the residual stream, if the texts are too few."""
    needed = _TOKENS_PER_DIM * subject.d_model
    if len(texts) > 1 and _fitted(subject, texts) >= needed:
        return {}
    stories = dataset("stories")
    lengths = [len(ids) - 1 for ids in subject.tokens(stories, truncate=True).ids]
    n = max(2, 1 + int(np.searchsorted(np.cumsum(lengths), needed / (1 - _HELD_OUT))))
    # Which are held out depends on all of them, and they differ in length.
    while n < len(stories) and _fitted(subject, stories.head(n)) < needed:
        n += 1 + n // 50
    return {"texts": stories.head(n)}


def _fitted(subject: Subject, texts: pd.DataFrame) -> int:
    """Count the tokens that are left to fit after a share of the texts is held out."""
    return fitted_tokens(subject.tokens(texts, truncate=True), _HELD_OUT, _SEED)


@checked
def at_most(n: int) -> Example:
    """Return the example of a slow probe: the first `n` texts."""

    def first(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
        return {"texts": texts.head(n)}

    return first


def with_concept(**more: Any) -> Callable[[Subject, pd.DataFrame], Mapping[str, Any]]:
    """Return the example of a probe that needs a concept's words."""

    def example(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
        return {"words": CONCEPT, **more}

    return example
