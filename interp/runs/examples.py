"""Example arguments with which a probe runs on any model in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.data.shipped import dataset
from interp.model.subject import Subject
from interp.runs.registry import Example

CONCEPT = (
    "time", "day", "moment", "hour", "minute", "night", "morning", "evening", "week", "year", "month", "afternoon",
)  # fmt: skip
"""Words of one concept, common enough for a small model."""

_TOKENS_PER_DIM = 20  # the default of probes that fit maps of the whole residual stream


@checked
def running_text(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Return shipped stories, enough to fit every dimension of the residual stream, if the texts are too few."""
    needed = 2 * _TOKENS_PER_DIM * subject.d_model
    if _running_length(subject, texts)[-1] >= needed:
        return {}
    stories = dataset("stories")
    return {"texts": stories.head(int(np.searchsorted(_running_length(subject, stories), needed)) + 1)}


def _running_length(subject: Subject, texts: pd.DataFrame) -> np.ndarray:
    """Count the tokens up to the end of each text, int64 [texts]."""
    return np.cumsum([len(ids) for ids in subject.tokens(texts, truncate=True).ids])


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
