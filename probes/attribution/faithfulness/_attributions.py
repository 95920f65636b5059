"""Targets read back from an attribution frame: their tokens, the removable units and every method's scores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import InputError, Subject
from probes.attribution._checks import special_positions
from probes.attribution._targets import ATTRIBUTION, target_key
from probes.attribution.faithfulness._removal import Passage, words

_TEXTS = ("model", "target", "against", "token")
_NEEDED = tuple(one.name for one in ATTRIBUTION if one.name not in (*_TEXTS, "against_id", "score_se"))


@dataclass(frozen=True, eq=False)
class Scored:
    """One method's scores for one target.

    Attributes:
        method: name of the method.
        control: the value in the frame.
        scores: of every unit, float64 [unit].
    """

    method: str
    control: str
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Attribution:
    """One target with the scores of all methods."""

    prompt_id: int
    target_pos: int
    passage: Passage
    scored: tuple[Scored, ...]


def attributions(
    subject: Subject, frame: pd.DataFrame, *, unit: str, absolute: bool, protect_last: bool
) -> list[Attribution]:
    """Read the targets of a frame, each with its tokens and scores.

    Args:
        subject: the attributed model.
        frame: rows of `ATTRIBUTION`.
        unit: "token", or "word" to add up the scores of a word's tokens.
        absolute: use absolute scores.
        protect_last: never remove the last token read.

    Raises:
        InputError: the frame is of another model, lacks columns or positions, or has scores that are not finite.
    """
    _check_frame(subject, frame)
    result = []
    for (prompt_id, target_pos, target_id, *against), rows in frame.groupby(["prompt_id", *target_key(frame)]):
        ids = _tokens(rows, int(prompt_id), int(target_pos))
        members = _units(subject, ids, unit, protect_last)
        scored = []
        for (method, control), own in rows.groupby(["method", "control"], sort=False):
            scores = own.sort_values("pos")["score"].to_numpy(dtype=float)
            scores = members @ (np.abs(scores) if absolute else scores)
            scored.append(Scored(str(method), str(control), scores))
        passage = Passage(ids, int(target_id), members, int(against[0]) if against else None)
        result.append(Attribution(int(prompt_id), int(target_pos), passage, tuple(scored)))
    return result


def digest_of(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a frame's data, independent of the order of rows."""
    target = ["prompt_id", *target_key(frame)]
    added = target[3:]  # an id of what has no contrast is older than the column
    ordered = frame[[*_NEEDED, *added]].sort_values([*target, "method", "control", "pos"])
    return hashlib.sha256(ordered.to_csv(index=False).encode()).hexdigest()


def _check_frame(subject: Subject, frame: pd.DataFrame) -> None:
    absent = [name for name in _NEEDED if name not in frame.columns]
    if absent:
        raise InputError(
            f"this is not an attribution frame: it lacks {absent}; pass a frame of `attribute` or `reagent`."
        )
    if frame.empty:
        raise InputError("the frame has no rows; give at least one target.")
    if "against_id" in frame.columns and 0 < frame["against_id"].notna().sum() < len(frame):
        raise InputError(
            "the frame holds contrasts and targets alone, whose values have two units; give one kind at a time."
        )
    runs: dict[str, dict[str, Any]] = frame.interp.runs
    for run_id, of in runs.items():
        if of["fingerprint"] != subject.fingerprint:
            raise InputError(
                f"run {run_id} attributes {of['model']!r} (fingerprint {of['fingerprint']}, {of['dtype']}), but the "
                f"subject is {subject.name!r} (fingerprint {subject.fingerprint}); give the same weights and dtype."
            )
    bad = frame[~np.isfinite(frame["score"].to_numpy(dtype=float))]
    if len(bad):
        row = bad.iloc[0]
        raise InputError(
            f"method {row['method']!r} scores {row['score']} at pos {row['pos']} of prompt {row['prompt_id']}; only "
            "finite scores can be ranked: drop these prompts."
        )


def _tokens(rows: pd.DataFrame, prompt_id: int, target_pos: int) -> np.ndarray:
    """Return the ids read for a target, int64 [pos], after checking that they are the same in every method."""
    expected = np.arange(target_pos + 1)
    first: np.ndarray | None = None
    for (method, control), own in rows.groupby(["method", "control"], sort=False):
        ordered = own.sort_values("pos")
        if not np.array_equal(ordered["pos"].to_numpy(), expected):
            raise InputError(
                f"method {method!r} (control {control!r}) of prompt {prompt_id} has {len(own)} rows, not one for each "
                f"of the positions 0 to {target_pos}; pass whole prompts, each method once."
            )
        ids = ordered["token_id"].to_numpy(dtype=np.int64, copy=True)
        if first is not None and not np.array_equal(ids, first):
            raise InputError(f"prompt {prompt_id} has other tokens for {method!r}; give all methods the same texts.")
        first = ids
    assert first is not None
    return first


def _units(subject: Subject, ids: np.ndarray, unit: str, protect_last: bool) -> np.ndarray:
    """Return the membership of tokens in removable units, bool [unit, pos]."""
    free = ~special_positions(subject, ids, first=True)
    if protect_last:
        free[-1] = False
    label = np.arange(len(ids)) if unit == "token" else words([str(subject.token_strings[token]) for token in ids])
    # A word with a protected token is kept whole.
    kept = [one for one in np.unique(label) if free[label == one].all()]
    return label[None, :] == np.array(kept, dtype=np.int64)[:, None]
