"""Claims: a sentence of a paper, and the statistic of a probe's frame that tests it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from typing import Any, TypeAlias

import pandas as pd

from interp.checks import checked
from interp.errors import InputError, InterpError, UnknownName
from interp.findings.comparison import Comparison
from interp.findings.verdict import check_bounds
from interp.runs.plugins import offered

GROUP = "interp.claims"

Measured: TypeAlias = "pd.Series | tuple[pd.Series, pd.Series]"
"""One number per unit, or that and the control's; both are indexed by unit."""


@checked
@dataclass(frozen=True)
class Claim:
    """A sentence of a paper as a check on a probe's frame.

    Claims that name the same probe, texts and parameters share one run of it.

    Attributes:
        id: short name, unique among all installed claims, such as "robustness.delete".
        statement: the claim in a few words, as the table prints it.
        paper: the paper it comes from.
        says: in our own words, what the paper reports, with which control, and what is known against it.
        probe: name of the probe that measures it.
        measure: called as `measure(subject, texts, **parameters)` in place of the probe, or `measure(subject, ...)` for
            a claim without texts; needed if the probe takes something that must be made from the model first. One that
            has a parameter `train` is given that of `findings`.
        statistic: frame -> one number per unit, a Series indexed by unit, or that and the control's Series. It may
            raise `NotApplicable`, with the reason as its message.
        comparison: what the effect is compared with.
        bounds: the least and the largest value the statistic can have for a unit, (0, 1) for a share; None if it has no
            bounds. Units that all lie at a bound are hits and misses, see `interp.findings.judge`.
        unit: what is resampled: "prompts", "letters", ...; units must be roughly independent of each other.
        texts: name of a shipped dataset, or the texts; None for a probe that reads weights only.
        n_texts: how many texts of a dataset to take, from its start; None takes all.
        n_positions: how many tokens of each text to read, the model's start included; None reads all. With a number,
            the probe or `measure` is given `Tokens` in place of a frame of texts.
        n_tokens_per_dim: how many tokens to read for each dimension of the model's residual stream, first positions
            apart, as a regression on it needs: texts are taken from the start until there are enough; None sets no end.
        parameters: of the probe.
        note: how the check differs from the paper, and other cautions; may be empty.
    """

    id: str
    statement: str
    paper: str
    says: str
    probe: str
    statistic: Callable[[pd.DataFrame], Measured]
    comparison: Comparison
    bounds: tuple[float, float] | None = None
    unit: str = "prompts"
    texts: str | Sequence[str] | None = None
    n_texts: int | None = None
    n_positions: int | None = None
    n_tokens_per_dim: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    measure: Callable[..., pd.DataFrame] | None = None

    def __post_init__(self) -> None:
        for name in ("id", "statement", "paper", "says", "probe", "unit"):
            if not str(getattr(self, name)).strip():
                raise InputError(f"claim {self.id!r} has no {name}; a reader needs it to judge the verdict.")
        for name in ("n_texts", "n_positions", "n_tokens_per_dim"):
            n = getattr(self, name)
            if n is not None and n < 1:
                raise InputError(f"claim {self.id!r} takes {name}={n}; give 1 or more, or None for all.")
        check_bounds(self.bounds)

    @property
    def reads(self) -> str:
        """The texts that it reads, in words, such as "stories: 24 texts, 48 tokens of each at most"."""
        if self.texts is None:
            return "no texts"
        name = self.texts if isinstance(self.texts, str) else "its own"
        n_texts = self.n_texts if isinstance(self.texts, str) else len(self.texts[: self.n_texts])
        told = [f"{name}: {'all' if n_texts is None else n_texts} texts"]
        if self.n_positions is not None:
            told.append(f"{self.n_positions} tokens of each at most")
        if self.n_tokens_per_dim is not None:
            told.append(f"until there are {self.n_tokens_per_dim} tokens per dimension")
        return ", ".join(told)

    def digest(self) -> str:
        """Hash everything that decides the verdict: the run, the statistic's source and the comparison."""
        identity = (self.id, self.run_key(), _source(self.statistic), str(self.comparison), self.bounds, self.unit)
        return sha256(repr(identity).encode()).hexdigest()[:12]

    def run_key(self) -> str:
        """Return a key that is equal for claims that share one run."""
        texts = self.texts if isinstance(self.texts, str | None) else repr(list(self.texts))
        parameters = sorted(self.parameters.items())
        measure = "" if self.measure is None else _source(self.measure)
        reads = (self.n_texts, self.n_positions, self.n_tokens_per_dim)
        return repr((self.probe, measure, texts, reads, parameters))


class NotApplicable(InterpError):
    """A refusal to test a claim on this model; the message is the reason."""


def names() -> list[str]:
    """Return the ids of all installed claims, of this and other packages."""
    return sorted(_claims())


@checked
def get(id: str) -> Claim:
    """Return a claim by its id.

    Raises:
        UnknownName: no installed package offers it.
    """
    found = _claims()
    if id not in found:
        raise UnknownName("claim", id, found)
    return found[id]


@cache
def _claims() -> dict[str, Claim]:
    """Return all installed claims by id."""
    found: dict[str, Claim] = {}
    for entry, _, claims in offered(GROUP)[0]:
        if not claims or not all(isinstance(claim, Claim) for claim in claims):
            raise InterpError(f"entry point {entry.value!r} is neither a Claim nor a sequence of them.")
        for claim in claims:
            if claim.id in found and found[claim.id] is not claim:
                raise InputError(f"two packages offer a claim {claim.id!r}, one as {entry.value!r}; uninstall one.")
            found[claim.id] = claim
    return found


def _source(function: Callable[..., Any]) -> str:
    """Return a function's name and source, so that results of another version of it are not reused."""
    if isinstance(function, partial):
        return f"{_source(function.func)}{function.args}{sorted(function.keywords.items())}"
    try:
        return f"{function.__module__}.{function.__qualname__}\n{inspect.getsource(function)}"
    except (OSError, TypeError):  # defined in a shell, or in C
        return repr(function)
