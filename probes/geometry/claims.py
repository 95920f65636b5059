"""Claims about the states of whole corpora: the law of next-token prediction and LLM-Microscope."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Subject, concat
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import CORRELATION, STORIES
from probes import papers
from probes.geometry.next_token_law import fit_line, next_token_law

_PARTS, _LEAST_PARTS = 12, 5
_TOKENS_PER_DIM = 5
"""The fewest tokens of a part for each dimension of the model."""
_MAP_TOKENS_PER_DIM = 30  # of the microscope, whose map is fitted once


def law_of_parts(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Fit the law to each of twelve parts of the texts, numbered by `part`: a fit to the whole is one number.

    Raises:
        NotApplicable: the texts are too short for five parts, each with five tokens per dimension of the model.
    """
    lengths = np.array([len(ids) - 1 for ids in subject.tokens(texts, truncate=truncate).ids])
    n_parts = n_parts_of(lengths, subject.d_model)
    frames = []
    for part in range(n_parts):
        # The claims read the fit to all of a part, held out or not, which has its tokens: what is left may have fewer.
        frame = next_token_law(
            subject, texts.iloc[part::n_parts], draws=1, tokens_per_dim=1.0, seed=seed + part, truncate=truncate
        )
        frames.append(frame.assign(part=part))
    return concat(frames)


def n_parts_of(lengths: np.ndarray, d_model: int) -> int:
    """Return into how many parts, twelve at most, texts [n] of these lengths go with enough tokens in each.

    Every n-th text goes to a part.

    Raises:
        NotApplicable: there are enough tokens for fewer than five parts.

    >>> n_parts_of(np.full(120, 30), d_model=60), n_parts_of(np.full(120, 30), d_model=80)
    (12, 8)
    """
    needed = _TOKENS_PER_DIM * d_model
    for n in range(_PARTS, _LEAST_PARTS - 1, -1):
        if min(lengths[part::n].sum() for part in range(n)) >= needed:
            return n
    raise NotApplicable(
        f"the texts have {lengths.sum():,} tokens, too few for {_LEAST_PARTS} parts of {needed:,} "
        f"({_TOKENS_PER_DIM} for each of the model's {d_model} dimensions); give more texts."
    )


def _fits(frame: pd.DataFrame, fact: str, control: str) -> pd.Series:
    kept = frame[(frame["response"] == "next") & (frame["sample"] == "in_sample") & (frame["layer"] > 0)]
    found = {}
    for part, rows in kept[kept["control"] == control].groupby("part"):
        curve = rows.groupby("layer")["log10_residual"].mean()
        found[part] = fit_line(curve.index.to_numpy(float), curve.to_numpy())[fact]
    return pd.Series(found, dtype=float)


def straightness(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return Pearson's r of layer and log10 residual; the control renames all token ids at random."""
    return _fits(frame, "pearson_r", "none"), _fits(frame, "pearson_r", "shuffled_vocabulary")


def steepness(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the slope of the law (decades per layer); the control renames all token ids at random."""
    return _fits(frame, "slope", "none"), _fits(frame, "slope", "shuffled_vocabulary")


def linearity(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share of a prompt's squared distance from the mean that a step's linear map explains, over steps.

    The control is the map that leaves every state unchanged.
    """
    later = frame[frame["pos"] > 0]
    sums = later[["nonlinearity", "update", "size"]].pow(2).groupby([later["prompt_id"], later["layer"]]).sum()
    linear, carried = (
        (1 - sums[left] / sums["size"]).groupby("prompt_id").mean() for left in ("nonlinearity", "update")
    )
    return linear, carried


_LAW_NOTE = (
    "Fitted on twelve disjoint parts of the shipped stories, or on fewer for a wide model, as each has five tokens or "
    "more per dimension; the parts are resampled. In-sample fits to so few tokens look too good, for all layers alike."
)


def _law(id: str, statement: str, says: str, statistic: Any, comparison: Comparison, **more: Any) -> Claim:
    return Claim(
        id=f"law.{id}",
        statement=statement,
        paper=papers.NEXT_TOKEN_LAW,
        says=says,
        probe="next_token_law",
        measure=law_of_parts,
        texts=STORIES,
        statistic=statistic,
        comparison=comparison,
        unit="parts of the corpus",
        note=_LAW_NOTE,
        **more,
    )


CLAIMS = (
    _law(
        id="line",
        statement="the log residual of the next token's id falls in a line over layers (r <= -0.95)",
        says="If the next token's id is regressed on the states of each layer, the share of variance left falls by an "
        "equal factor from layer to layer, with Pearson's r between -0.98 and -0.997, in every model tried. The "
        "response is the id as a number, for which the paper has no control; here ids are renamed at random.",
        statistic=straightness,
        comparison=Comparison(at_most=-0.95),
        bounds=CORRELATION,
    ),
    _law(
        id="line_needs_ids",
        statement="the line is straighter for the vocabulary's own ids than for ids renamed at random",
        says="The straight line is the law. Any residual that falls from layer to layer is nearly a line: the control, "
        "which the paper lacks, is Pearson's r of the same fits with all ids renamed at random.",
        statistic=straightness,
        comparison=Comparison(below="control"),
        bounds=CORRELATION,
    ),
    _law(
        id="ids_matter",
        statement="the law is steeper for the vocabulary's own ids than for ids renamed at random",
        says="The law is stated for token ids as they are. A token id is an arbitrary number, close to a rank of "
        "frequency: the control, which the paper lacks, renames all ids at random. The law should be lost then, if it "
        "is about more than arbitrary numbers of tokens.",
        statistic=steepness,
        comparison=Comparison(below="control"),
    ),
    Claim(
        id="microscope.linearity",
        statement="a linear map explains 95 % of each step between layers",
        paper=papers.LLM_MICROSCOPE,
        says="Consecutive layers are related by a nearly linear map, with scores near 0.99. The score is high whenever "
        "the residual stream carries a state on, and whenever the first token holds most of the variance. The paper's "
        "only control is the score of the update alone; here the control is the share explained by leaving every "
        "state unchanged.",
        probe="microscope_tokens",
        texts=STORIES,
        n_tokens_per_dim=_MAP_TOKENS_PER_DIM,
        statistic=linearity,
        comparison=Comparison(at_least=0.95),
        note="Position 0 is left out: the published score includes it, which raises it. The map is fitted to all texts "
        "and scored per text; the bound is ours.",
    ),
)
