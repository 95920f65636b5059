"""The models a subnetwork is compared with: the full one, what is left without it, itself alone, and chance."""

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
"""By the name of a control: an untrained model, and what `find_subnetwork` found in it."""


@dataclass(frozen=True)
class SubnetworkCondition:
    """A model to measure.

    Attributes:
        name: "full"; "minus": without the subnetwork's weights; "only": with no others.
        control: "none", or what stands in for the subnetwork.
        sparsity: that it was found with; NaN where that says nothing.
        kept: share of the maskable weights at work.
        applied: a context in which it can be run.
    """

    name: Literal["full", "minus", "only"]
    control: str
    sparsity: float
    kept: float
    applied: Callable[[], AbstractContextManager[Subject]] = field(repr=False)

    def columns(self) -> dict[str, object]:
        """What a frame says of it."""
        return {
            "condition": self.name,
            "control": self.control,
            "sparsity": self.sparsity,
            "kept": self.kept,
        }


def by_sparsity(given: Subnetworks) -> dict[float, Subnetwork]:
    """Subnetworks by their sparsity; NaN for one of which none is known.

    Raises:
        InputError: something else, or none.
    """
    if isinstance(given, Subnetwork):
        return {float("nan"): given}
    if not isinstance(given, Mapping) or not all(isinstance(one, Subnetwork) for one in given.values()):
        raise InputError(f"a subnetwork, a result of find_subnetwork, or a dict of subnetworks, not {given!r}.")
    if not given:
        raise InputError("no subnetworks were given; pass at least one.")
    return {float(sparsity): one for sparsity, one in given.items()}


def digests(found: Mapping[float, Subnetwork]) -> list[list[object]]:
    """What a run says of its subnetworks: sparsity and digest of the masks."""
    return [[str(sparsity), one.digest] for sparsity, one in found.items()]


def full(subject: Subject) -> SubnetworkCondition:
    """The model itself."""
    return SubnetworkCondition("full", "none", np.nan, 1.0, lambda: nullcontext(subject))


def alone(
    subject: Subject, found: Mapping[float, Subnetwork], seed: int, structured: bool = True
) -> Iterator[SubnetworkCondition]:
    """Each subnetwork, and random ones of as many weights in every matrix, by themselves."""
    for sparsity, subnetwork in found.items():
        yield _only(subject, "none", sparsity, subnetwork)
        yield _only(subject, "random", sparsity, subnetwork.random_like(seed))
        if structured:
            yield _only(subject, "random_structured", sparsity, subnetwork.random_like(seed, structured=True))


def ablations(subject: Subject, found: Mapping[float, Subnetwork], seed: int) -> Iterator[SubnetworkCondition]:
    """The model without each subnetwork, and without random ones of as many weights in every matrix."""
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
    """No weight kept: what embeddings, norms and biases say by themselves."""
    return _only(subject, "empty", np.nan, Subnetwork.empty(subject))


def untrained(models: RandomModels) -> Iterator[SubnetworkCondition]:
    """Subnetworks found in untrained models, alone there."""
    for name, (source, given) in models.items():
        subject = load(source)
        for sparsity, subnetwork in by_sparsity(given).items():
            yield _only(subject, name, sparsity, subnetwork)


def _only(subject: Subject, control: str, sparsity: float, subnetwork: Subnetwork) -> SubnetworkCondition:
    applied = partial(subnetwork.applied, subject)
    return SubnetworkCondition("only", control, sparsity, subnetwork.kept_fraction, applied)
