"""Arguments that show a probe on any model: what `interp report` calls those with that need more than texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from interp.registry import Example
from interp.shipped import shipped_path
from interp.subject import Subject
from probes.subnetwork import Subnetwork

CONCEPT = (
    "time", "day", "moment", "hour", "minute", "night", "morning", "evening", "week", "year", "month", "afternoon",
)  # fmt: skip
"""Words of one concept, as common as a small model needs them."""

_TOKENS_PER_DIM = 20  # the default of the probes that fit maps of the whole stream


def running_text(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """The shipped stories where the texts are too few for a fit of every dimension of the residual stream."""
    n_tokens = sum(len(ids) for ids in subject.tokens(texts, truncate=True).ids)
    return {} if n_tokens >= 2 * _TOKENS_PER_DIM * subject.d_model else {"texts": "stories"}


def pilot(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Example of a search for a subnetwork: of neurons and heads for half a minute, not of weights for many."""
    return {"sparsity": 1, "unit": "neuron", "recipe": "pilot"}


def shipped_subnetwork(subject: Subject, sparsity: int = 10) -> Subnetwork:
    """The bigram subnetwork that ships.

    Raises:
        ModelError: the subject is not the shipped model.
    """
    found = Subnetwork.load(shipped_path("subnetworks") / f"bigram-{sparsity}.safetensors")
    found.check(subject)
    return found


def with_subnetwork(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Example of a probe of subnetworks: the one that ships."""
    return {"subnetwork": shipped_subnetwork(subject)}


def at_most(n: int) -> Example:
    """Example of a slow probe: the first `n` texts."""

    def first(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
        return {"texts": texts.head(n)}

    return first


def with_concept(**more: Any) -> Callable[[Subject, pd.DataFrame], Mapping[str, Any]]:
    """Example of a probe that asks for a concept's words."""

    def example(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
        return {"words": CONCEPT, **more}

    return example
