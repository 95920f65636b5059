"""Surprisals of a bigram subnetwork, token by token, beside those of the full model and of all controls.

Chang and Bergen find subnetworks whose surprisals correlate at 0.95 and more with a bigram model's. Their own control
shows how little that proves: masks trained on an untrained network with trained embeddings reach the same. So do
predictors that are not circuits, each a row here: the unigram model, one linear map from embedding to unembedding, no
weights at all. Only the loss without the subnetwork is specific to the trained model's own weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import (
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    collect,
    columns,
    load,
    probe,
    require_two_tokens,
)
from interp.stats import bootstrap_over_prompts
from probes import papers
from probes.subnetworks._examples import with_subnetwork
from probes.subnetworks.bigram_model import BigramModel, bigram_model
from probes.subnetworks.evaluation import plots
from probes.subnetworks.evaluation._conditions import (
    RandomModels,
    SubnetworkCondition,
    Subnetworks,
    ablations,
    alone,
    by_sparsity,
    digests,
    empty,
    full,
    untrained,
)
from probes.subnetworks.evaluation._correlation import correlate, finite
from probes.subnetworks.evaluation._linear_bigrams import N_STEPS, linear_states
from probes.subnetworks.evaluation._surprisals import (
    SurprisalStream,
    states_surprisals,
    unigram_surprisals,
    with_counts,
)
from probes.subnetworks.subnetwork import Subnetwork

CONDITION = Column("condition", "str", "full: the model; minus: without the subnetwork; only: the subnetwork")
SPARSITY = Column("sparsity", "float", "lambda the subnetwork was found with", low=0.0, missing=True)
KEPT = Column("kept", "float", "maskable weights in use; missing if no block runs", "0..1", 0.0, 1.0, missing=True)

SURPRISAL = Schema(
    probe="subnetwork_surprisal",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per condition, control, prompt and position except the last",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "pos",
        "token_id",
        "token",
        "target_id",
        "target",
        CONDITION,
        "control",
        SPARSITY,
        KEPT,
        Column("surprisal", "float", "of the next token", "bits", low=0.0),
        Column("bigram_surprisal", "float", "the bigram model's; infinite for a pair never seen", "bits", low=0.0),
        Column("unigram_surprisal", "float", "the unigram model's; infinite if never seen", "bits", low=0.0),
    ),
    summary_by=("condition", "control", "sparsity", "kept"),
    summary_of=("surprisal",),
)
_KEYS = ("model", "run_id", "condition", "control", "sparsity", "kept")


def summarise(frame: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Summarise surprisals and their correlation with the bigram model's, per condition, control and subnetwork.

    Position 0 is left out. `surprisal` is a mean over prompts, `surprisal_sd` over all tokens. Correlations are over
    all tokens together: `r` replaces infinite bigram surprisals by the largest finite one, `r_dropped` leaves those
    tokens out; `partial_r` (and `partial_r_dropped`) is given the unigram surprisal; `baseline_r` is the unigram
    surprisal's own. Intervals are over resampled prompts.

    Args:
        frame: of `subnetwork_surprisal`.
        n_resamples: bootstrap draws.
        seed: of the draws.
        level: of the intervals.
    """
    kept = frame[frame["pos"] > 0]
    if kept.empty:
        raise InputError("the frame has no rows after position 0, which summaries leave out; keep later positions.")
    drawing: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed, "level": level}
    rows = []
    for keys, rest in kept.groupby(list(_KEYS), sort=False, dropna=False):
        means = bootstrap_over_prompts(rest, (), ("surprisal",), **drawing).iloc[0].to_dict()
        row = dict(zip(_KEYS, keys, strict=True)) | means
        row |= {"n_tokens": len(rest), "surprisal_sd": float(rest["surprisal"].std(ddof=0))}
        for rule, suffix in (("max", ""), ("drop", "_dropped")):
            row |= {f"{name}{suffix}": value for name, value in _correlations(rest, rule, drawing).items()}
        rows.append(row)
    summary = pd.DataFrame(rows)
    summary.attrs["note"] = "position 0 left out; 95 % bootstrap over prompts; correlations over all tokens together"
    return summary


def _correlations(rows: pd.DataFrame, rule: Any, drawing: dict[str, Any]) -> dict[str, float]:
    bigram = finite(rows["bigram_surprisal"].to_numpy(), rule)
    measured, unigram = (finite(rows[name].to_numpy(), "max") for name in ("surprisal", "unigram_surprisal"))
    found = correlate(rows["prompt_id"].to_numpy(), measured, bigram, unigram, **drawing)
    return {name: value for name, value in found.items() if name != "n"}


@probe(SURPRISAL, plot=plots.subnetwork_surprisal, summarise=summarise, example=with_subnetwork)
def subnetwork_surprisal(
    subject: Source,
    subnetwork: Subnetworks,
    texts: Texts,
    *,
    bigrams: BigramModel | None = None,
    random_models: RandomModels | None = None,
    linear_steps: int = N_STEPS,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure the surprisal of every next token under the subnetwork, the model without it, and controls.

    Args:
        subject: anything `interp.load` takes.
        subnetwork: a `Subnetwork`, a result of `find_subnetwork`, or subnetworks by their sparsity.
        texts: anything `Subject.tokens` takes; at least two tokens each.
        bigrams: the bigram model to compare with; None takes that of the reference model's corpus.
        random_models: results of `find_subnetwork` in untrained models by the name of the control, such as
            {"random_blocks": (random_model(subject, keep_embeddings=True), result)}. This is the most important control
            and the only one that is not run by default, because it takes as long as finding the subnetwork did.
        linear_steps: optimiser steps that fit the linear map, 512 tokens each.
        seed: of random subnetworks and of the linear map.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per condition, control, prompt and position except the last. Conditions: "full", the model; "minus", the
        model without the subnetwork; "only", the subnetwork alone. Controls of the last two: "random", as many weights
        of every matrix, drawn anywhere; "random_structured", the rows of every mask in a random order, so that every
        input of a matrix keeps its number of weights and outputs exchange theirs. Further controls of "only": "empty",
        no weights; "linear_map", the unembedding of a linear map of the token's embedding, fitted to the bigram model;
        "unigram", the unigram model; and the names in `random_models`.

    Raises:
        InputError: a text has one token, or an argument cannot be used.
        ModelError: a subnetwork belongs to another model, or the bigram model to another vocabulary.

    Cost: two forward passes, and 6 for each subnetwork; for the linear map at most 512 unembeddings per step.

    Pitfall: a correlation of 0.95 is reached by masks of an untrained network and by one linear map; only "minus" is
    specific to the trained model's own weights.

    >>> import interp
    >>> subject = interp.load("reference")
    >>> whole = Subnetwork.full(subject)
    >>> frame = subnetwork_surprisal(subject, whole, ["Once upon a time there was a cat."], linear_steps=2)
    >>> own, alone = (frame.query(f"condition == '{one}' and control == 'none'") for one in ("full", "only"))
    >>> own.surprisal.tolist() == alone.surprisal.tolist()
    True
    """
    found = by_sparsity(subnetwork)
    run, bigrams = surprisal_run(
        subject, found, texts, bigrams=bigrams, random_models=random_models, linear_steps=linear_steps, seed=seed,
        truncate=truncate,
    )  # fmt: skip
    parts: list[dict[str, Any]] = []
    for condition in surprisal_conditions(run.subject, found, random_models, seed):
        with condition.applied() as model:
            collect(run, [SurprisalStream(run, condition, model, parts)], model)
    parts += without_blocks(run, bigrams, linear_steps)
    return run.frame(with_counts(parts, bigrams))


def surprisal_run(
    subject: Source,
    found: Mapping[float, Subnetwork],
    texts: Texts,
    *,
    bigrams: BigramModel | None,
    random_models: RandomModels | None,
    linear_steps: int,
    seed: int,
    truncate: bool,
) -> tuple[Run, BigramModel]:
    """Check the arguments of `subnetwork_surprisal` and start its run; returns the run and its bigram model."""
    subject = load(subject)
    bigrams = bigrams or bigram_model(subject)
    bigrams.check(subject)
    others = {name: digests(by_sparsity(given)) for name, (_, given) in (random_models or {}).items()}
    counted = {"corpus": bigrams.corpus, "n_tokens": float(bigrams.unigram.sum()), "n_pairs": int(bigrams.pairs.nnz)}
    parameters = {
        "subnetworks": digests(found), "bigrams": counted, "random_models": others, "linear_steps": linear_steps
    }  # fmt: skip
    run = Run(SURPRISAL, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    for one in found.values():
        one.check(run.subject)
    if linear_steps < 1:
        raise InputError(f"linear_steps={linear_steps}: give at least 1.")
    require_two_tokens(run.tokens)
    return run, bigrams


def surprisal_conditions(
    subject: Subject, found: Mapping[float, Subnetwork], random_models: RandomModels | None, seed: int
) -> Iterator[SubnetworkCondition]:
    """Yield every model to run, the subject itself first."""
    yield full(subject)
    yield from alone(subject, found, seed)
    yield from ablations(subject, found, seed)
    yield empty(subject)
    yield from untrained(random_models or {})


def without_blocks(run: Run, bigrams: BigramModel, linear_steps: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the controls that run no block: one linear map, and the unigram model."""
    facts = {"condition": "only", "sparsity": np.nan, "kept": np.nan}
    states = linear_states(run.subject, bigrams, run.seed or 0, linear_steps)
    yield from states_surprisals(run, facts | {"control": "linear_map"}, states)
    yield from unigram_surprisals(run, facts | {"control": "unigram"}, bigrams)
