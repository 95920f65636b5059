"""Arguments that show a probe on any model: what `interp report` calls those with that need more than texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.authoring import Subject, shipped_path
from probes.subnetworks.subnetwork import Subnetwork


def pilot(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Example of a search for a subnetwork: of neurons and heads for half a minute, not of weights for many."""
    return {"sparsity": 1, "unit": "neuron", "recipe": "pilot"}


def shipped_subnetwork(subject: Subject, sparsity: int = 10, kind: str = "bigram") -> Subnetwork:
    """A subnetwork that ships; `kind` is "bigram" or "optimal", or "untrained", of an untrained model.

    Raises:
        ModelError: the subject is not the model it is of.
    """
    found = Subnetwork.load(shipped_path("subnetworks") / f"{kind}-{sparsity}.safetensors")
    found.check(subject)
    return found


def with_subnetwork(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Example of a probe of subnetworks: the one that ships."""
    return {"subnetwork": shipped_subnetwork(subject)}
