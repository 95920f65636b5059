"""Claims of Chang and Bergen (2025): a few weights predict as bigrams do, and the model needs them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import ModelError, Subject
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import STORIES, mean_of
from interp.stats import pseudo_values
from probes import papers
from probes.subnetworks._examples import shipped_subnetwork
from probes.subnetworks._trained import trained_for
from probes.subnetworks.evaluation._correlation import finite
from probes.subnetworks.evaluation.subnetwork_surprisal import subnetwork_surprisal
from probes.subnetworks.random_model import random_model

_N_TEXTS = 12  # each is read by eight models
UNTRAINED = "random_blocks"
"""Name of a control of `subnetwork_surprisal`: masks found in untrained blocks with the trained embeddings."""


def surprisals(
    subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool, train: bool | str | Path = False
) -> pd.DataFrame:
    """Run `subnetwork_surprisal` with the shipped subnetwork, or with the model's own if it may be trained.

    Raises:
        NotApplicable: the model is another than the shipped one, and `train` is False; the message says how to train.
    """
    chosen = texts[["prompt_id", "text"]]
    bigrams = None
    try:
        found = shipped_subnetwork(subject)
        untrained = random_model(subject, keep_embeddings=True)
        control = shipped_subnetwork(untrained, kind="untrained")
    except ModelError:
        if train is False:
            raise NotApplicable(_HOW_TO) from None
        own = trained_for(subject, None if train is True else train, _N_TEXTS)
        bigrams, found, untrained, control = own.bigrams, own.found, own.untrained, own.control
    others = {UNTRAINED: (untrained, control)}
    return subnetwork_surprisal(
        subject, found, chosen, bigrams=bigrams, random_models=others, seed=seed, truncate=truncate
    )


_HOW_TO = (
    "the shipped subnetwork is of the model 'reference'; to find yours first and test it, run interp findings --model "
    "MODEL --claim 'bigrams.*' --train, or findings(model, 'bigrams.*', train=True), with a folder of texts in place "
    "of True (--corpus FOLDER) for better bigrams than those of the shipped stories."
)


def _condition(frame: pd.DataFrame, condition: str, control: str = "none") -> pd.DataFrame:
    return frame[(frame["condition"] == condition) & (frame["control"] == control) & (frame["pos"] > 0)]


def _correlation(rows: pd.DataFrame) -> pd.Series:
    """Return Pearson's r with the bigram surprisal over all tokens, as pseudo-values per prompt."""
    # What was never counted surprises a bigram and a unigram model without end.
    known = rows.assign(**{name: finite(rows[name].to_numpy(), "max") for name in ("surprisal", "bigram_surprisal")})
    tokens = {prompt: of[["surprisal", "bigram_surprisal"]].to_numpy().T for prompt, of in known.groupby("prompt_id")}
    prompts = pd.DataFrame(index=pd.Index(tokens, name="prompt_id"))
    return pseudo_values(prompts, lambda some: np.corrcoef(np.hstack([tokens[one] for one in some.index]))[0, 1])


def follows_bigrams(frame: pd.DataFrame, control: str) -> tuple[pd.Series, pd.Series]:
    """Return the correlation with the bigram model's surprisals, of the subnetwork alone and of a control alone."""
    return _correlation(_condition(frame, "only")), _correlation(_condition(frame, "only", control))


def lost_without(frame: pd.DataFrame, control: str) -> tuple[pd.Series, pd.Series]:
    """Return the bits per token lost without the subnetwork, and those lost without as many other weights."""
    intact = mean_of(_condition(frame, "full"), "surprisal")
    removed, other = (mean_of(_condition(frame, "minus", one), "surprisal") for one in ("none", control))
    return removed - intact, other - intact


_NOTE = (
    "The shipped subnetwork has 1.2 % of the weights. It comes from one seed and 171 training steps, the untrained "
    "model's from 152. The paper trains for up to 15,000 steps, which its control needs to come as near. The texts are "
    "the model's own stories, the bigrams its training corpus's; pairs never seen get the largest finite surprisal. "
    "Other models' masks are found with train=True, over rows of matrices."
)


def _claim(id: str, statement: str, says: str, statistic: Any, **comparison: Any) -> Claim:
    return Claim(
        id=f"bigrams.{id}",
        statement=statement,
        paper=papers.BIGRAM_SUBNETWORKS,
        says=says,
        probe="subnetwork_surprisal",
        measure=surprisals,
        texts=STORIES,
        n_texts=_N_TEXTS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        note=_NOTE,
    )


CLAIMS = (
    _claim(
        "correlates",
        "the surprisals of a hundredth of the weights correlate with bigrams' at 0.95",
        "In Pythia and GPT-2, chosen subnetworks of 0.1 to 9 % of the weights reach an r of .946 to .962. The control "
        "shown, the unigram model, is ours; the paper's controls are untrained models, see the next claims.",
        partial(follows_bigrams, control="unigram"),
        at_least=0.95,
    ),
    _claim(
        "beyond_unigrams",
        "the subnetwork's surprisals correlate with bigrams' better than unigrams' do",
        "The paper takes the correlation as evidence of bigram prediction. But rare tokens surprise every model, which "
        "alone gives a correlation: the control, ours, is the unigram model's surprisals.",
        partial(follows_bigrams, control="unigram"),
        above="control",
    ),
    _claim(
        "beyond_linear_map",
        "the subnetwork follows bigrams better than a linear map of the embeddings",
        "In the paper the subnetwork does more than its embeddings: r is .96 to .99, against .615 (Pythia 160M) to "
        ".936 (1B) for the control, one linear map trained between embedding and unembedding, without any block.",
        partial(follows_bigrams, control="linear_map"),
        above="control",
    ),
    _claim(
        "beyond_untrained",
        "a trained model's subnetwork follows bigrams better than one found in an untrained model",
        "It does not: masks over random blocks with the trained embeddings, the paper's own control, reach the same r "
        "(.965, .986 and .974 in three models). Correlation alone is not evidence of a learned circuit.",
        partial(follows_bigrams, control=UNTRAINED),
        above="control",
    ),
    _claim(
        "needed",
        "without the subnetwork the model loses more than without as many random weights",
        "Without the few bigram weights the model does far worse than the control, which is the model without as many "
        "weights drawn at random from every matrix.",
        partial(lost_without, control="random"),
        above="control",
    ),
    _claim(
        "needed_by_row",
        "without the subnetwork the model loses more than without the same pattern in shuffled rows",
        "Weights drawn one by one are a weak control: they spread thinly over all neurons, while the subnetwork is "
        "dense in some. This control, stronger than the paper's, shuffles whole rows of the masks.",
        partial(lost_without, control="random_structured"),
        above="control",
    ),
)
