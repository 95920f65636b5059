"""Claims: what a paper says, and the statistic of a probe's frame that tests it. Ours and anyone's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

import pandas as pd

from interp import registry
from interp.errors import InputError, InterpError, UnknownName
from interp.findings.verdict import Comparison

GROUP = "interp.claims"

Measured: TypeAlias = "pd.Series | tuple[pd.Series, pd.Series]"
"""One number per unit, alone or with the control's; both indexed by the unit."""


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper as a check on a probe's frame.

    Claims that name the same probe, texts and parameters share one run of it.

    Attributes:
        id: short name, unique among all installed claims, such as "robustness.delete".
        statement: the claim in a few words, as the table prints it.
        paper: where it comes from.
        says: in our own words, what the paper reports and with which control; what is known against it.
        probe: name of the probe that measures it.
        statistic: frame -> one number per unit, a Series indexed by the unit; with the control's Series where there is
            one. It may raise `NotApplicable`, with the reason as its message.
        comparison: what the effect is held against.
        unit: what is resampled: "prompts", "letters", ...; units must be about independent of each other.
        texts: name of a shipped dataset or texts themselves; None for a probe of weights only.
        n_texts: take only so many of a dataset, from its start; None takes all.
        parameters: of the probe.
        note: how the check differs from what the paper did, and other caution; may be empty.
    """

    id: str
    statement: str
    paper: str
    says: str
    probe: str
    statistic: Callable[[pd.DataFrame], Measured]
    comparison: Comparison
    unit: str = "prompts"
    texts: Any = None
    n_texts: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


class NotApplicable(InterpError):
    """A claim that cannot be tested on this model; the message is the reason."""


def names() -> list[str]:
    """Ids of all installed claims, ours and anyone's."""
    return sorted(_claims())


def get(id: str) -> Claim:
    """A claim by its id.

    Raises:
        UnknownName: no installed package offers it.
    """
    found = _claims()
    if id not in found:
        raise UnknownName("claim", id, found)
    return found[id]


@cache
def _claims() -> dict[str, Claim]:
    """By id. An entry point of the group leads to a claim or to several, as the list of a module's."""
    found: dict[str, Claim] = {}
    for entry in entry_points(group=GROUP):
        for claim in _loaded(entry):
            if claim.id in found and found[claim.id] is not claim:
                raise InputError(f"two packages offer a claim {claim.id!r}, one of them as {entry.value!r}.")
            found[claim.id] = claim
    return found


def _loaded(entry: EntryPoint) -> tuple[Claim, ...]:
    loaded = entry.load()
    claims = (loaded,) if isinstance(loaded, Claim) else tuple(loaded) if isinstance(loaded, list | tuple) else ()
    if not claims or not all(isinstance(claim, Claim) for claim in claims):
        raise InterpError(f"entry point {entry.value!r} is neither a Claim nor a sequence of them.")
    return claims


def probe_of(claim: Claim) -> registry.Probe:
    """The probe that measures a claim.

    Raises:
        UnknownName: it is not installed.
    """
    return registry.get(claim.probe)
