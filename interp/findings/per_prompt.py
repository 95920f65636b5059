"""One number per prompt: what the claims' statistics share. Position 0 is left out throughout."""

from __future__ import annotations

import pandas as pd
from scipy.stats import spearmanr

from interp.findings import NotApplicable

STORIES = "stories"
N_STORIES = 24
"""Of the shipped stories: enough for intervals of some 0.02 on shares, few enough for a minute a probe."""

SHARE = (0.0, 1.0)
CORRELATION = (-1.0, 1.0)
"""The bounds of shares and of correlations, for `Claim.bounds`; probabilities lost or won have a correlation's."""


def mean_of(rows: pd.DataFrame, value: str) -> pd.Series:
    """Mean per prompt of a column, over all of a prompt's rows behind position 0."""
    kept = rows[rows["pos"] > 0] if "pos" in rows.columns else rows
    return kept[value].astype(float).groupby(kept["prompt_id"]).mean()


def rank_correlation(rows: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Spearman's correlation of two columns within each prompt; missing where either is constant."""
    found = {
        prompt: spearmanr(of[x], of[y]).statistic if of[x].nunique() > 1 and of[y].nunique() > 1 else float("nan")
        for prompt, of in rows.groupby("prompt_id")
    }
    return pd.Series(found, dtype=float)


def n_blocks(frame: pd.DataFrame) -> int:
    """Blocks of the model, by a frame whose `layer` counts them.

    Raises:
        NotApplicable: there are too few for first, middle and last to differ.
    """
    n = int(frame["layer"].max()) + 1
    if n < 4:
        raise NotApplicable(f"the model has {n} blocks; first, middle and last ones need four.")
    return n


def middle(frame: pd.DataFrame) -> range:
    """The middle blocks: behind the first quarter, and without the last."""
    n = n_blocks(frame)
    return range(-(-n // 4), n - 1)
