"""Claims of Lad, Gurnee & Tegmark (2024) about heads that join the pieces of words."""

from __future__ import annotations

import pandas as pd

from interp.findings import Claim, Comparison
from interp.findings.per_prompt import SHARE, STORIES, n_blocks
from probes import papers


def early_heads(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the attention within words of each head of the first quarter of the blocks; control: across words."""
    early = frame[(frame["layer"] < -(-n_blocks(frame) // 4)) & (frame["control"] == "none")].reset_index(drop=True)
    return early["within"], early["across"]


CLAIMS = (
    Claim(
        id="heads.subjoiners",
        statement="early heads attend within words more than across them, as far back",
        paper=papers.STAGES_OF_INFERENCE,
        says="Some heads of the first layers carry the earlier pieces of a word to its last one. The paper compares "
        "words of four tokens with words of one; here the control is attention across a word's boundary, as far back "
        "and from around the same place in the text.",
        probe="subjoiner_heads",
        texts=STORIES,
        n_texts=100,
        statistic=early_heads,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        unit="heads",
        note="The paper is about single heads, and the best of many heads always looks good. This is the mean of all "
        "heads of the first quarter of the blocks, resampled by head.",
    ),
)
