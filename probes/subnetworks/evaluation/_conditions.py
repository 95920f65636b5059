"""The models to compare: the full model, the model without a subnetwork, the subnetwork alone, and random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from interp.authoring import InputError, Source, Subject, load
from probes.subnetworks.subnetwork import Subnetwork

Subnetworks: TypeAlias = Subnetwork | Mapping[float, Subnetwork]
"""One subnetwork, or several by their sparsity: a result of `find_subnetwork`, or a mapping."""

RandomModels: TypeAlias = Mapping[str, tuple[Source, Subnetworks]]
"""Controls by name: an untrained model, and the result of `find_subnetwork` in it."""


@dataclass(frozen=True)
class SubnetworkCondition:
    """A model to measure.

    Attributes:
        name: "full"; "minus": without the subnetwork's weights; "only": with these weights alone.
        control: "none", or the control that replaces the subnetwork.
        sparsity: lambda the subnetwork was found with; NaN if there is none.
        kept: share of the maskable weights in use.
        applied: returns a context in which the model can be run.
    """

    name: Literal["full", "minus", "only"]
    control: str
    sparsity: float
    kept: float
    applied: Callable[[], AbstractContextManager[Subject]] = field(repr=False)

    def columns(self) -> dict[str, object]:
        """Return the columns that describe the condition in a frame."""
        return {
            "condition": self.name,
            "control": self.control,
            "sparsity": self.sparsity,
            "kept": self.kept,
        }


def by_sparsity(given: Subnetworks) -> dict[float, Subnetwork]:
    """Return subnetworks by their sparsity; NaN if a single one was given without it.

    Raises:
        InputError: something other than subnetworks was given, or none.
    """
    if isinstance(given, Subnetwork):
        return {float("nan"): given}
    if not isinstance(given, Mapping) or not all(isinstance(one, Subnetwork) for one in given.values()):
        raise InputError(
            f"{given!r} is not a subnetwork; give a Subnetwork, a result of find_subnetwork, or a dict of subnetworks."
        )
    if not given:
        raise InputError("no subnetworks were given; pass at least one.")
    return {float(sparsity): one for sparsity, one in given.items()}


def digests(found: Mapping[float, Subnetwork]) -> list[list[object]]:
    """Return the parameters of a run that identify its subnetworks: sparsity and digest of the masks."""
    return [[str(sparsity), one.digest] for sparsity, one in found.items()]


def full(subject: Subject) -> SubnetworkCondition:
    """Return the condition of the full model."""
    return SubnetworkCondition("full", "none", np.nan, 1.0, lambda: nullcontext(subject))


def alone(
    subject: Subject, found: Mapping[float, Subnetwork], seed: int, structured: bool = True
) -> Iterator[SubnetworkCondition]:
    """Yield each subnetwork alone, and random ones with as many weights in every matrix."""
    for sparsity, subnetwork in found.items():
        yield _only(subject, "none", sparsity, subnetwork)
        yield _only(subject, "random", sparsity, subnetwork.random_like(seed))
        if structured:
            yield _only(subject, "random_structured", sparsity, subnetwork.random_like(seed, structured=True))


def ablations(subject: Subject, found: Mapping[float, Subnetwork], seed: int) -> Iterator[SubnetworkCondition]:
    """Yield the model without each subnetwork, and without random ones with as many weights in every matrix."""
    for sparsity, subnetwork in found.items():
        removed = {
            "none": subnetwork,
            "random": subnetwork.random_like(seed),
            "random_structured": subnetwork.random_like(seed, structured=True),
        }
        for control, one in removed.items():
            left = one.complement()
            yield SubnetworkCondition("minus", control, sparsity, left.kept_fraction, partial(left.applied, subject))


def empty(subject: Subject) -> SubnetworkCondition:
    """Return the condition that keeps no weight: only embeddings, norms and biases."""
    return _only(subject, "empty", np.nan, Subnetwork.empty(subject))


def untrained(models: RandomModels) -> Iterator[SubnetworkCondition]:
    """Yield the subnetworks found in untrained models, each alone in its model."""
    for name, (source, given) in models.items():
        subject = load(source)
        for sparsity, subnetwork in by_sparsity(given).items():
            yield _only(subject, name, sparsity, subnetwork)


def _only(subject: Subject, control: str, sparsity: float, subnetwork: Subnetwork) -> SubnetworkCondition:
    applied = partial(subnetwork.applied, subject)
    return SubnetworkCondition("only", control, sparsity, subnetwork.kept_fraction, applied)
