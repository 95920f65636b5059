"""Claims about next bytes: what a cut inside a token costs, and what a cut between tokens does not."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.findings import Claim, Comparison
from interp.findings.per_prompt import SHARE, STORIES
from probes import papers

_N_STORIES, _N_POSITIONS = 24, 32
"""Stories, and tokens of each that are cut: at each of 8 places about seven short contexts are read."""


def _of(frame: pd.DataFrame, control: str) -> pd.DataFrame:
    """Return log-probabilities [cut, method] of one kind of cut, indexed by prompt and cut, of those that have all."""
    rows = frame[frame["control"] == control]
    return rows.pivot_table(index=["prompt_id", "cut"], columns="method", values="log_prob").dropna()


def _gain(frame: pd.DataFrame, control: str) -> pd.Series:
    found = _of(frame, control)
    return (found["exact"] - found["naive"]).groupby("prompt_id").mean()


def bias(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return how much more the exact distribution gives the true next byte inside tokens, nats; control: at boundaries.

    Of prompts that are cut at both.
    """
    inside, between = _gain(frame, "none"), _gain(frame, "boundary")
    both = inside.index.intersection(between.index)
    return inside[both], between[both]


def boundary_distance(frame: pd.DataFrame) -> pd.Series:
    """Return the usual distribution's total variation from the exact one at boundaries, per prompt."""
    rows = frame[(frame["control"] == "boundary") & (frame["method"] == "naive")]
    return rows.groupby("prompt_id")["tv"].mean()


def boundary_gain(frame: pd.DataFrame) -> pd.Series:
    """Return the gain of the exact distribution at boundaries, nats, per prompt."""
    return _gain(frame, "boundary")


def healing(frame: pd.DataFrame) -> pd.Series:
    """Return the share of the gap between usual and exact that healing closes inside tokens, per prompt.

    Of prompts where the gap is half a nat or more: a share of hardly anything says nothing.
    """
    means = _of(frame, "none").groupby("prompt_id").mean()
    gap = means["exact"] - means["naive"]
    return ((means["healed"] - means["naive"]) / gap)[gap >= 0.5]


def noncanonical(frame: pd.DataFrame) -> pd.Series:
    """Return the share of continuations at boundaries that no tokenizer writes, per prompt."""
    rows = frame[(frame["control"] == "boundary") & (frame["method"] == "exact")]
    return rows.groupby("prompt_id")["noncanonical"].mean()


def _bytes(id: str, statement: str, says: str, statistic: Any, note: str = "", **comparison: Any) -> Claim:
    bounds = comparison.pop("bounds", None)
    return Claim(
        id=f"bytes.{id}",
        statement=statement,
        paper=papers.EXACT_BYTES,
        says=says,
        probe="tokenization_bias",
        texts=STORIES,
        n_texts=_N_STORIES,
        n_positions=_N_POSITIONS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note=note,
    )


CLAIMS = (
    _bytes(
        "bias",
        "inside a token, the exact distribution gives the true next byte more than the usual one does",
        "Next-token predictions after a prompt that ends inside a token are biased by the way it was cut, however well "
        "the model was trained. The control, ours, is the same difference where tokens of the text end.",
        bias,
        above="control",
    ),
    _bytes(
        "boundary",
        "at token boundaries the usual distribution is within 0.15 of the exact one",
        "Where the prompt ends with a token, the usual distribution is unbiased but for longer tokens that begin "
        "before its end. These places are the control of `bytes.bias`.",
        boundary_distance,
        "The bound of 0.15 in total variation is ours, worded after the shipped model gave 0.07.",
        bounds=SHARE,
        below=0.15,
    ),
    _bytes(
        "boundary_gain",
        "at token boundaries the exact distribution gains within 0.3 nats of nothing",
        "As `bytes.boundary`: what the exact distribution gains in the true next byte's log-probability where the "
        "prompt ends with a token, the control of `bytes.bias`.",
        boundary_gain,
        "The bound is ours.",
        between=(-0.3, 0.3),
    ),
    _bytes(
        "healing",
        "taking one token back closes half of the gap",
        "Token healing, as libraries of constrained generation do it, removes most of the bias, and the exact "
        "distribution the rest. There is no control: healing is held against the whole gap.",
        healing,
        "The half is ours: no paper of these gives a number for next bytes.",
        at_least=0.5,
    ),
    _bytes(
        "canonical",
        "the model gives less than a hundredth to tokens that no tokenizer writes",
        "A model trained on canonical text hardly writes other tokens, so covers may be limited to canonical ones. "
        "There is no control; an untrained model gives them nearly everything.",
        noncanonical,
        "The hundredth is ours.",
        bounds=SHARE,
        below=0.01,
    ),
)
