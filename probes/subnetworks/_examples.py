"""Example arguments for probes that need more than texts; `interp report` uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.authoring import Subject, shipped_path
from probes.subnetworks.subnetwork import Subnetwork


def pilot(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Return arguments of a short search: over neurons and heads, half a minute; over weights it takes many."""
    return {"sparsity": 1, "unit": "neuron", "recipe": "pilot"}


def shipped_subnetwork(subject: Subject, sparsity: int = 10, kind: str = "bigram") -> Subnetwork:
    """Load a shipped subnetwork; `kind` is "bigram", "optimal", or "untrained" (found in an untrained model).

    Raises:
        ModelError: the subnetwork belongs to another model.
    """
    found = Subnetwork.load(shipped_path("subnetworks") / f"{kind}-{sparsity}.safetensors")
    found.check(subject)
    return found


def with_subnetwork(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    """Return the shipped subnetwork as the example argument."""
    return {"subnetwork": shipped_subnetwork(subject)}
