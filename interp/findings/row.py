"""Measure claims that share a run, and judge each: one row of the table per claim, with all that speaks against it."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.data.shipped import dataset
from interp.errors import EndsInsideToken, InterpError, TooLong
from interp.findings.caveats import Caveats
from interp.findings.claim import Claim
from interp.findings.verdict import judge
from interp.model.subject import Subject
from interp.model.tokens import Tokens
from interp.runs import registry

_NUMBERS = (
    "effect", "low", "high", "threshold", "p", "control_effect", "difference", "difference_low", "difference_high",
)  # fmt: skip


@dataclass(frozen=True)
class _Data:
    """The texts of a claim on a model: their name, number and hash, and what was cut off."""

    name: str = ""
    n_prompts: int = 0
    sha256: str = ""
    n_tokens_cut: int = 0
    caveat: str = ""

    def columns(self) -> dict[str, Any]:
        return {"data": self.name, "data_sha256": self.sha256, "n_tokens_cut": self.n_tokens_cut}


def rows_of(
    subject: Subject, claims: Sequence[Claim], settings: Mapping[str, Any], shown: set[Any]
) -> list[tuple[Claim, dict[str, Any]]]:
    """Return the rows of claims that share a run; if it cannot run, the reason.

    Args:
        subject: the model.
        claims: with the same probe, texts and parameters.
        settings: `seed`, `level`, `n_resamples`, `texts` and `train`, as `findings` takes them.
        shown: warnings that the user has seen; new ones are added.
    """
    data = _Data()
    # The claim itself cut its texts where they end: there is nothing to leave out, and nothing for the user to mend.
    is_cut = claims[0].n_positions is not None and settings["texts"] is None
    caveats = Caveats(shown, (EndsInsideToken,) if is_cut else ())
    try:
        with caveats:
            texts, name = _texts(subject, claims[0], settings["texts"])
            given = _first_positions(subject, claims[0], texts)
            data = _data(subject, claims[0], given, name)
            frame = _measure(subject, claims[0], given, settings)
    except (Exception, SystemExit) as error:  # anyone's claim may raise anything, and the other claims go on
        return [(claim, _untested(claim, settings["level"], data, caveats.found, error)) for claim in claims]
    return [(claim, _judged(claim, frame, data, settings, caveats.found, shown)) for claim in claims]


def _texts(subject: Subject, claim: Claim, own: list[str] | None) -> tuple[pd.DataFrame | None, str]:
    """Return the claim's texts and their name, with only the columns that every probe accepts."""
    if claim.texts is None:
        return None, ""
    if own is not None and claim.texts == "stories":
        name, table = "your own", _numbered(own)
    elif isinstance(claim.texts, str):
        name, table = claim.texts, dataset(claim.texts)
    else:
        name, table = "the claim's own", _numbered(claim.texts)
    table = table[[column for column in ("prompt_id", "text", "expected") if column in table.columns]]
    table = table.head(claim.n_texts) if claim.n_texts is not None else table
    if claim.n_tokens_per_dim is not None:
        table = _enough(subject, table, claim.n_tokens_per_dim * subject.d_model)
    each = "" if claim.n_positions is None else f" of up to {claim.n_positions} tokens"
    return table, f"{name} ({len(table)}{each})"


def _enough(subject: Subject, table: pd.DataFrame, n_tokens: int) -> pd.DataFrame:
    """Return the first texts, until together they have enough tokens after their first positions; else all."""
    lengths = [len(ids) - 1 for ids in subject.tokens(table[["prompt_id", "text"]], truncate=True).ids]
    return table.head(int(np.searchsorted(np.cumsum(lengths), n_tokens)) + 1)


def _numbered(texts: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"prompt_id": range(len(texts)), "text": list(texts)})


def _first_positions(subject: Subject, claim: Claim, texts: pd.DataFrame | None) -> pd.DataFrame | Tokens | None:
    """Return the texts, or the first `claim.n_positions` tokens of each if the claim sets that number."""
    if texts is None or claim.n_positions is None:
        return texts
    whole = subject.tokens(texts, truncate=True)
    ids = [one[: claim.n_positions] for one in whole.ids]
    lengths, left = np.array([*map(len, whole.ids)]), np.array([*map(len, ids)])
    wanted = np.minimum(lengths + whole.n_cut, claim.n_positions)
    return replace(whole, ids=ids, n_cut=wanted - left)


def _data(subject: Subject, claim: Claim, texts: pd.DataFrame | Tokens | None, name: str) -> _Data:
    if texts is None:
        return _Data()
    with suppress(InterpError):  # the probe says better why it cannot read them
        given = texts if isinstance(texts, Tokens) else texts[["prompt_id", "text"]]
        tokens = subject.tokens(given, truncate="truncate" in parameters_of(claim))
        n_cut = int(tokens.n_cut.sum())
        share = n_cut / max(1, n_cut + sum(map(len, tokens.ids)))
        caveat = f"{share:.0%} of the tokens were cut for a context of {subject.n_ctx}" if n_cut else ""
        return _Data(name, len(tokens), tokens.digest, n_cut, caveat)
    return _Data(name, len(texts))


def _measure(
    subject: Subject, claim: Claim, texts: pd.DataFrame | Tokens | None, settings: Mapping[str, Any]
) -> pd.DataFrame:
    function = claim.measure or registry.get(claim.probe).function
    known = parameters_of(claim)
    parameters = dict(claim.parameters)
    for name, value in (("seed", settings["seed"]), ("truncate", True), ("train", settings["train"])):
        if name in known:
            parameters.setdefault(name, value)
    frame = function(subject, **parameters) if texts is None else function(subject, texts, **parameters)
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"the measurement returned a {type(frame).__name__} where a frame is due")
    return frame


def parameters_of(claim: Claim) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of what measures a claim."""
    return inspect.signature(claim.measure or registry.get(claim.probe).function).parameters


def _judged(
    claim: Claim,
    frame: pd.DataFrame,
    data: _Data,
    settings: Mapping[str, Any],
    warned: Sequence[str],
    shown: set[Any],
) -> dict[str, Any]:
    run_id = str(frame["run_id"].iat[0]) if len(frame) and "run_id" in frame.columns else ""
    caveats = Caveats(shown)
    try:
        with caveats:
            measured = claim.statistic(frame)
            values, control = measured if isinstance(measured, tuple) else (measured, None)
            against: Any = {claim.comparison.kind: getattr(claim.comparison, claim.comparison.kind)}
            found = judge(
                values,
                control=control,
                bounds=claim.bounds,
                level=settings["level"],
                n_resamples=settings["n_resamples"],
                seed=settings["seed"],
                statement=claim.statement,
                **against,
            )
    except (Exception, SystemExit) as error:
        row = _untested(claim, settings["level"], data, [*warned, *caveats.found], error)
        return row | {"probe_run_id": run_id}
    n_skipped = found.n_skipped
    if claim.unit == "prompts":  # a prompt without rows has no value either
        n_skipped = max(n_skipped, data.n_prompts - found.n)
    against_it = list(dict.fromkeys(filter(None, (data.caveat, *warned, *caveats.found))))
    return (
        _claim_columns(claim)
        | {name: getattr(found, name) for name in (*_NUMBERS, "n", "level", "state")}
        | {"n_skipped": n_skipped, "caveats": "; ".join(against_it), "probe_run_id": run_id}
        | {"reason": "; ".join(filter(None, (found.reason, *against_it)))}
        | data.columns()
    )


def _untested(claim: Claim, level: float, data: _Data, warned: Sequence[str], error: BaseException) -> dict[str, Any]:
    """Return the row of a claim that was refused for the model, or whose code raised anything else."""
    refused = isinstance(error, InterpError)
    said = str(error) if refused else _place_of(error)
    if isinstance(error, TooLong):  # prompts are numbered within texts that the user may never have given: name them
        said = f"of {data.name}: {said}"
    n_skipped = data.n_prompts if claim.unit == "prompts" else 0
    numbers = dict.fromkeys(_NUMBERS, float("nan")) | {"n": 0, "n_skipped": n_skipped, "level": level}
    return (
        _claim_columns(claim)
        | numbers
        | {"state": "skipped" if refused else "error", "reason": said}
        | {"caveats": "; ".join(warned), "probe_run_id": ""}
        | data.columns()
    )


def _place_of(error: BaseException) -> str:
    """Return an error in one sentence, with the line that raised it."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    try:
        said = re.sub(r"\s+", " ", str(error)).strip()
    except Exception:  # an error whose own text fails
        said = ""
    return f"{type(error).__name__}: {said or 'no message'} ({Path(raised.filename).name}, line {raised.lineno})"


def _claim_columns(claim: Claim) -> dict[str, str]:
    names = ("statement", "paper", "says", "unit", "note", "probe")
    facts = {name: re.sub(r"\s+", " ", getattr(claim, name)) for name in names}
    return facts | {"claim": claim.id, "comparison": str(claim.comparison)}
