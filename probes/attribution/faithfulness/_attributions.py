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
from probes.attribution.faithfulness._removal import Passage
from probes.attribution.groups._naming import STRUCTURE, Division, Groups, divide

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
    subject: Subject, frame: pd.DataFrame, *, unit: Groups, absolute: bool, protect_last: bool
) -> list[Attribution]:
    """Read the targets of a frame, each with its tokens and scores.

    Args:
        subject: the attributed model.
        frame: rows of `ATTRIBUTION`.
        unit: "token", or groups of tokens whose scores are added up.
        absolute: use absolute scores.
        protect_last: never remove the last token read.

    Raises:
        InputError: the frame is of another model, lacks columns or positions, or has scores that are not finite.
    """
    check_frame(subject, frame)
    divisions = {} if unit == "token" else divide(subject, longest(frame), unit, "unit")
    result = []
    for (prompt_id, target_pos, target_id, *against), rows in frame.groupby(["prompt_id", *target_key(frame)]):
        ids = tokens_of(rows, int(prompt_id), int(target_pos))
        members = _units(subject, ids, divisions.get(int(prompt_id)), protect_last, whole=unit == "word")
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


def check_frame(subject: Subject, frame: pd.DataFrame) -> None:
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


def longest(frame: pd.DataFrame) -> dict[int, np.ndarray]:
    """Return the most tokens read of each prompt, int64 [pos], in the frame's order; all its targets begin with them.

    Raises:
        InputError: a prompt has two texts.
    """
    found: dict[int, np.ndarray] = {}
    for (number, target_pos), rows in frame.groupby(["prompt_id", "target_pos"], sort=False):
        ids = tokens_of(rows.drop_duplicates("pos"), int(number), int(target_pos))
        known = found.get(int(number), ids)
        n = min(len(known), len(ids))
        if not np.array_equal(known[:n], ids[:n]):
            raise InputError(f"prompt {number} has two texts in this frame; number them apart, or give one run.")
        found[int(number)] = max(known, ids, key=len)
    return found


def tokens_of(rows: pd.DataFrame, prompt_id: int, target_pos: int) -> np.ndarray:
    """Return the ids read for a target, int64 [pos], after checking that they are the same in every method.

    Raises:
        InputError: they are not, or a position is missing.
    """
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


def _units(
    subject: Subject, ids: np.ndarray, division: Division | None, protect_last: bool, *, whole: bool
) -> np.ndarray:
    """Return the membership of tokens in removable units, bool [unit, pos].

    Args:
        subject: the model.
        ids: the tokens read.
        division: of them into groups; None makes each token a unit.
        protect_last: never remove the last token.
        whole: a group with a protected token is kept whole; other groups lose the rest of their tokens.
    """
    free = ~special_positions(subject, ids, first=True)
    if protect_last:
        free[-1] = False
    label = np.arange(len(ids)) if division is None else division.label[: len(ids)]
    if division is None or whole:
        kept = [one for one in np.unique(label) if free[label == one].all()]
    else:
        kept = [one for one in np.unique(label[free]) if division.names[one] not in STRUCTURE]
    return (label[None, :] == np.array(kept, dtype=np.int64)[:, None]) & free
