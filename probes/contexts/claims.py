"""Claims about nearest contexts: what they name that the logit lens does not, and what a context adds to its token."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.authoring import Subject
from interp.findings import Claim, Comparison
from interp.findings.per_prompt import SHARE, STORIES
from probes import papers
from probes.contexts.nearest_contexts import nearest_contexts
from probes.contexts.state_bank import StateBank

_N_STORIES, _N_ASKED = 120, 24
"""Stories, the last of which ask the bank of all others."""


def _layers(n_layers: int) -> tuple[list[int], list[int]]:
    """Return a quarter and half of the depth, and seven eighths and all of it."""
    return [max(1, n_layers // 4), n_layers // 2], [n_layers * 7 // 8, n_layers]


def stories_among_others(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Find the nearest context of every state of the last stories in a bank of the first ones."""
    layers = sorted({layer for part in _layers(subject.n_layers) for layer in part})
    texts = texts[["prompt_id", "text"]]
    bank = StateBank.of(subject, texts.iloc[:-_N_ASKED], layers=layers, seed=seed, truncate=truncate)
    frame = nearest_contexts(subject, texts.iloc[-_N_ASKED:], bank=bank, k=1, seed=seed, truncate=truncate)
    return frame[frame["pos"] > 0]


def _mean(frame: pd.DataFrame, value: str, control: str, half: int) -> pd.Series:
    """Return a column's mean per prompt, in the first or the last part of the depth."""
    chosen = _layers(int(frame["layer"].max()))[half]
    rows = frame[frame["layer"].isin(chosen) & (frame["control"] == control)]
    return rows.groupby("prompt_id")[value].mean()


def own_token(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return how often the nearest context is of the state's own token, and how often the logit lens names that."""
    return _mean(frame, "same_token", "none", 0), _mean(frame, "lens_own", "none", 0)


def next_token(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return how often the same token follows the nearest context, and another occurrence of its token."""
    return _mean(frame, "same_next", "none", 1), _mean(frame, "same_next", "same_token", 1)


def _contexts(id: str, statement: str, says: str, statistic: Any, note: str) -> Claim:
    return Claim(
        id=f"contexts.{id}",
        statement=statement,
        paper=papers.LATENT_LENS,
        says=says,
        probe="nearest_contexts",
        measure=stories_among_others,
        texts=STORIES,
        n_texts=_N_STORIES,
        statistic=statistic,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        note=note,
    )


_NOTE = f"The bank is of {_N_STORIES - _N_ASKED} stories, centred; {_N_ASKED} others ask it. The paper reads images. "

CLAIMS = (
    _contexts(
        "own_token",
        "early, the nearest context names the token that stands there, and the logit lens does not",
        "Nearest contextual states give words that judges find fitting for most states at every layer, where the logit "
        "lens does so for few. The control is the logit lens on the same states.",
        own_token,
        _NOTE + "Read at a quarter and half of the depth.",
    ),
    _contexts(
        "next_token",
        "late, a state and its nearest context are followed alike more often than their token explains",
        "Neighbours are of whole sentences, not of words alone. The paper has no control for this; here it is another "
        "occurrence of the neighbour's own token, which already gives its bigrams.",
        next_token,
        _NOTE + "Read at seven eighths of the depth and at its end. The wording followed a first look at SmolLM2.",
    ),
)
