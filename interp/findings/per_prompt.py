"""Statistics that claims share: one number per prompt, always without position 0."""

from __future__ import annotations

import pandas as pd

from interp.findings import NotApplicable

STORIES = "stories"
N_STORIES, N_POSITIONS = 24, 48
"""Shipped stories that a claim reads, and tokens of each: intervals of about 0.03 on shares."""

SHARE = (0.0, 1.0)
CORRELATION = (-1.0, 1.0)
"""The bounds of shares and of correlations, for `Claim.bounds`; changes of a probability have a correlation's."""


def mean_of(rows: pd.DataFrame, value: str) -> pd.Series:
    """Return a column's mean per prompt, over the prompt's rows after position 0."""
    kept = rows[rows["pos"] > 0] if "pos" in rows.columns else rows
    return kept[value].astype(float).groupby(kept["prompt_id"]).mean()


def rank_correlation(rows: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Return Spearman's correlation of two columns within each prompt; missing where either is constant."""
    from scipy.stats import spearmanr

    found = {
        prompt: spearmanr(of[x], of[y]).statistic if of[x].nunique() > 1 and of[y].nunique() > 1 else float("nan")
        for prompt, of in rows.groupby("prompt_id")
    }
    return pd.Series(found, dtype=float)


def n_blocks(frame: pd.DataFrame) -> int:
    """Return the model's number of blocks, from a frame whose `layer` numbers them.

    Raises:
        NotApplicable: there are fewer than four, too few to tell first, middle and last blocks apart.
    """
    n = int(frame["layer"].max()) + 1
    if n < 4:
        raise NotApplicable(f"the model has {n} blocks; test one of four or more, with first, middle and last ones.")
    return n


def middle(frame: pd.DataFrame) -> range:
    """Return the middle blocks: those after the first quarter, without the last block."""
    n = n_blocks(frame)
    return range(-(-n // 4), n - 1)
