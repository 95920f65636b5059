"""Claims of Chang and Bergen (2025): a few weights say what bigrams say, and the model needs them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Subject
from interp.findings import Claim, Comparison
from interp.findings.per_prompt import STORIES, mean_of
from interp.stats import pseudo_values
from probes import papers
from probes.subnetworks._examples import shipped_subnetwork
from probes.subnetworks.evaluation._correlation import finite
from probes.subnetworks.evaluation.subnetwork_surprisal import subnetwork_surprisal
from probes.subnetworks.random_model import random_model

_N_TEXTS = 12  # each is read by eight models
UNTRAINED = "random_blocks"
"""What `subnetwork_surprisal` should call the masks found in untrained blocks with the trained embeddings."""


def surprisals(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Surprisals under and without the subnetwork that ships; it is of one model, and any other is refused by it."""
    found = shipped_subnetwork(subject)
    untrained = random_model(subject, keep_embeddings=True)
    control = {UNTRAINED: (untrained, shipped_subnetwork(untrained, kind="untrained"))}
    chosen = texts[["prompt_id", "text"]]
    return subnetwork_surprisal(subject, found, chosen, random_models=control, seed=seed, truncate=truncate)


def _condition(frame: pd.DataFrame, condition: str, control: str = "none") -> pd.DataFrame:
    return frame[(frame["condition"] == condition) & (frame["control"] == control) & (frame["pos"] > 0)]


def _correlation(rows: pd.DataFrame) -> pd.Series:
    """Pearson's r with the bigram surprisal over all tokens, as pseudo-values per prompt."""
    known = rows.assign(bigram_surprisal=finite(rows["bigram_surprisal"].to_numpy(), "max"))
    tokens = {prompt: of[["surprisal", "bigram_surprisal"]].to_numpy().T for prompt, of in known.groupby("prompt_id")}
    prompts = pd.DataFrame(index=pd.Index(tokens, name="prompt_id"))
    return pseudo_values(prompts, lambda some: np.corrcoef(np.hstack([tokens[one] for one in some.index]))[0, 1])


def follows_bigrams(frame: pd.DataFrame, control: str) -> tuple[pd.Series, pd.Series]:
    """Correlation of the subnetwork's surprisals with the bigram model's, against that of a control alone."""
    return _correlation(_condition(frame, "only")), _correlation(_condition(frame, "only", control))


def lost_without(frame: pd.DataFrame, control: str) -> tuple[pd.Series, pd.Series]:
    """Bits per token lost without the subnetwork, against those lost without as many other weights."""
    intact = mean_of(_condition(frame, "full"), "surprisal")
    removed, other = (mean_of(_condition(frame, "minus", one), "surprisal") for one in ("none", control))
    return removed - intact, other - intact


_NOTE = (
    "The subnetwork that ships, 1.2 % of the weights: one seed, 171 training steps, and 152 of the untrained model's. "
    "The paper trains up to 15,000, and its control needs them to come as near. The texts are the model's own stories, "
    "the bigrams its training corpus's; pairs never seen have the largest surprisal."
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
        "shown is ours, the unigram model; the paper's are models without training, see the next claims.",
        partial(follows_bigrams, control="unigram"),
        at_least=0.95,
    ),
    _claim(
        "beyond_unigrams",
        "the subnetwork's surprisals correlate with bigrams' better than unigrams' do",
        "The correlation is said to show bigram prediction. Rare tokens surprise every model, which by itself "
        "correlates: the control, ours, is the unigram model's surprisals.",
        partial(follows_bigrams, control="unigram"),
        above="control",
    ),
    _claim(
        "beyond_linear_map",
        "the subnetwork follows bigrams better than a linear map of the embeddings",
        "The subnetwork is said to do more than its embeddings do: r is .96 to .99, against .615 (Pythia 160M) to .936 "
        "(1B) for the control, one linear map trained between embedding and unembedding, with no block run.",
        partial(follows_bigrams, control="linear_map"),
        above="control",
    ),
    _claim(
        "beyond_untrained",
        "a trained model's subnetwork follows bigrams better than one found in an untrained model",
        "It does not: masks over random blocks with the trained embeddings, the paper's own control, reach the same r "
        "(.965, .986 and .974 in three models). Correlation alone is no evidence of a circuit that was learned.",
        partial(follows_bigrams, control=UNTRAINED),
        above="control",
    ),
    _claim(
        "needed",
        "without the subnetwork the model loses more than without as many random weights",
        "Without the bigram weights, few as they are, the model does far worse than without as many weights drawn at "
        "random from every matrix, which is the control.",
        partial(lost_without, control="random"),
        above="control",
    ),
    _claim(
        "needed_by_row",
        "it loses more than without the same pattern of weights in shuffled rows",
        "Weights drawn one by one are a weak control: they spread thin over all neurons, where the subnetwork is dense "
        "in some. The control, stronger than the paper's, shuffles whole rows of the masks.",
        partial(lost_without, control="random_structured"),
        above="control",
    ),
)
