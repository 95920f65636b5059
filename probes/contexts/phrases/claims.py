"""The claim about phrases: one of their tokens holds nearly all of them."""

from __future__ import annotations

import pandas as pd

from interp.authoring import Subject
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import SHARE
from probes import papers
from probes.contexts.phrases.phrase_carriers import best_of, phrase_carriers

_FEWEST = 6  # phrases that an interval can be decided on


def at_mid_depth(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Ask which tokens carry the shipped phrases at half of the depth."""
    return phrase_carriers(subject, "phrases", layers=subject.n_layers // 2, seed=seed)


def carried_by_one(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return whether one state recovers four fifths of each phrase (1 or 0), and whether one of another phrase does.

    Raises:
        NotApplicable: the model has hardly a target that hangs on its phrase at this depth.
    """
    carried = best_of(frame).pivot(index="prompt_id", columns="control", values="carried")
    both = carried.reindex(columns=["none", "other"]).dropna()
    if len(both) < _FEWEST:
        raise NotApplicable(
            f"of {len(both)} phrases half a nat hangs on their states at mid-depth; {_FEWEST} are needed."
        )
    return both["none"], both["other"]


CLAIMS = (
    Claim(
        id="carriers.one",
        statement="at mid-depth, one token's state recovers four fifths of what a phrase tells about the next token",
        paper=papers.FOLLOW_THE_FLOW,
        says="In text encoders 89 % of items have one token that by itself gives the image of the whole phrase, and it "
        "need not be the last one. The paper has no control; here it is the best state of another phrase at the same "
        "places, which a maximum over several states needs.",
        probe="phrase_carriers",
        measure=at_mid_depth,
        statistic=carried_by_one,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        unit="phrases",
        parameters={"seed": 0},
        note="The answer is the next token's log-probability, not an image. Phrases of which less than half a nat is "
        "left to recover at half of the depth are left out. Worded after six phrases were seen on SmolLM2.",
    ),
)
