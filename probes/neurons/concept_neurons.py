"""Neurons whose value vectors promote the words of a concept (Häon et al., 2025, made reproducible).

The paper picks neurons by hand out of lists of top tokens. Here all neurons are ranked by the mean z-score of the
concept's words, beside the best neurons of random words: among many neurons the best of them stands out by chance too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Usable,
    checked,
    columns,
    load,
    probe,
    usable_facts,
    usable_tokens,
    warn,
    whole_numbers,
    with_concept,
)
from probes import papers
from probes.neurons import plots
from probes.neurons._concept_words import ConceptWords, concept_words, random_words
from probes.neurons._token_basis import TOP, Basis, TokenBasis, sieve, token_basis
from probes.neurons.neuron_tokens import chosen_layers
from probes.neurons.steering.neuron_set import NeuronSet

LISTED = 100
N_RANDOM = 200
LEVEL = 0.05  # a concept whose best neuron is beaten by that of more random words than this is warned of

CONCEPT_SCORES = Schema(
    probe="concept_scores",
    paper=papers.VALUE_VECTORS,
    rows="one per listed neuron, best first; for the control, one per set of random words: its best neuron",
    columns=columns(
        "model",
        "run_id",
        Column("concept", "str", "name of the concept"),
        Column("layer", "int", "block of the neuron", low=0),
        "neuron",
        Column("score", "float", "mean over the seed words of the z-score of their token in the neuron's reading"),
        Column("n_hits", "id", f"tokens of the seed words among the neuron's top {TOP}", low=0, high=TOP, missing=True),
        Column("value_norm", "float", "length of the value vector", low=0.0),
        Column(
            "p", "float", "share of random words whose best neuron scores as high or higher", "0..1", 0.0, 1.0, True
        ),
        "control",
    ),
)


def summarise_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Set each concept's best score beside the best scores of random words.

    `random_mean` and `random_95` are their mean and 95th percentile, `p` is the best neuron's, and `n_above` counts the
    listed neurons above `random_95`.
    """
    rows = []
    for key, one in frame.groupby(["model", "run_id", "concept"], observed=True):
        own, random = (one.loc[one["control"] == name] for name in ("none", "random_words"))
        level = random["score"].quantile(1 - LEVEL)
        best = {"score": own["score"].max(), "random_mean": random["score"].mean(), "random_95": level}
        counts = {"n_neurons": len(own), "n_above": int((own["score"] > level).sum())}
        rows.append((*key, *best.values(), own["p"].min(), *counts.values(), len(random)))
    names = ["model", "run_id", "concept", "score", "random_mean", "random_95", "p", "n_neurons", "n_above", "n_random"]
    return pd.DataFrame(rows, columns=names)


@probe(CONCEPT_SCORES, plot=plots.concept_scores, summarise=summarise_scores, example=with_concept(concept="time"))
def concept_scores(
    subject: Source,
    *,
    words: Sequence[str],
    layers: Layers = None,
    n: int = LISTED,
    min_hits: int = 0,
    held_out: float = 0.5,
    basis: Basis = "unembedding",
    n_random: int = N_RANDOM,
    usable: Usable = None,
    concept: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Score all neurons by how much they promote the words of a concept, beside random words, and list the best.

    Arguments and errors are those of `concept_neurons`.

    Args:
        subject: see `concept_neurons`.
        words: see `concept_neurons`.
        layers: see `concept_neurons`.
        n: how many neurons to list.
        min_hits: see `concept_neurons`.
        held_out: see `concept_neurons`.
        basis: see `concept_neurons`.
        n_random: see `concept_neurons`.
        usable: see `concept_neurons`.
        concept: see `concept_neurons`.
        seed: see `concept_neurons`.

    Returns:
        One row per listed neuron, best first, and with control "random_words" one per set of random words: the best of
        all neurons by those words. `p` is the share of these, and of the concept's words themselves, that score as
        high: it is corrected for all neurons, and with `min_hits` an upper bound.

    Cost: one pass over the value vectors, with d_model + n_random + 1 columns each instead of d_vocab; the covariance
    of the vocabulary; and the listed neurons in full. With `min_hits`, some columns of the vocabulary for all neurons.

    Pitfall: the best of thousands of neurons always looks good; `p` is corrected for that, the top words are not.

    >>> words = ["time", "day", "moment", "hour", "night", "week"]
    >>> frame = concept_scores("reference", words=words, layers=[6, 7], n=20)
    >>> (frame.control == "none").sum().item(), bool(frame.score.head(20).is_monotonic_decreasing)
    (20, True)
    >>> frame.interp.summary().p.item() < 0.05
    True
    """
    loaded = load(subject)
    run = Run(
        CONCEPT_SCORES,
        loaded,
        None,
        parameters={"words": words, "layers": layers, "n": n, "min_hits": min_hits, "held_out": held_out}
        | {"basis": basis, "n_random": n_random, "concept": concept, **usable_facts(usable, loaded)},
        seed=seed,
    )
    n, n_random = _checked_numbers(n, n_random)
    split = concept_words(run.subject, words, held_out=held_out, seed=seed)
    min_hits = _checked_hits(min_hits, split)
    values = {layer: run.subject.value_vectors(layer) for layer in chosen_layers(run.subject, layers)}
    random = random_words(run.subject, split, n_random, seed, usable_tokens(usable, run.subject))
    read = token_basis(run.subject, basis)
    table = _scored(read, values, split, random, n=n, min_hits=min_hits, seed=seed)
    table["concept"] = concept or split.seeds[0]
    return run.frame([{name: table[name].to_numpy() for name in table}])


@checked
def concept_neurons(
    subject: Source,
    words: Sequence[str],
    *,
    n: int,
    layers: Layers = None,
    min_hits: int = 0,
    held_out: float = 0.5,
    basis: Basis = "unembedding",
    n_random: int = N_RANDOM,
    usable: Usable = None,
    concept: str | None = None,
    seed: int = 0,
) -> NeuronSet:
    """Choose the `n` neurons that promote a concept's words most.

    All neurons are ranked by the mean z-score of the seed words: how far the logit that a neuron's value vector gives a
    word is above its mean over the vocabulary, in standard deviations. Words count as they stand inside a sentence,
    with the space before them. The same is done for random words, as many and as common and written alike. A warning
    says where the best neuron of more than 5 % of them scores as high as the concept's: then the neurons are what any
    words would give.

    Args:
        subject: anything `interp.load` takes.
        words: of the concept, without spaces; those that are not single tokens are dropped, and the result says which.
        n: how many neurons; where fewer are candidates, those.
        layers: blocks to search, 0..L-1, negative ones from the last; None and "all" search all.
        min_hits: rank only neurons that have so many seed tokens (all spellings of the seed words) among their top ten.
            This leaves out neurons that promote all of the words, and others more.
        held_out: share of the words kept out of the choice, on which `steer` measures the effect.
        basis: see `probes.neurons._token_basis.token_basis`.
        n_random: sets of random words; 0 compares with none.
        usable: the frame of `token_health`: random words are drawn from the tokens that it calls usable.
        concept: its name in frames; by default the first seed word.
        seed: of the split and of the random words.

    Returns:
        The neurons, with the frame of the best (`concept_scores`) and its provenance.

    Raises:
        InputError: words, layers or numbers that cannot be used, or no neuron has as many hits.
        UnknownName: there is no such basis.
        ModelError: a mixture of experts, which has no neurons of its own to read.

    >>> concept_neurons("reference", ["time", "day", "moment", "hour", "night", "week"], n=5)
    NeuronSet('time', 5 neurons in blocks ..., held out: ..., best score ..., of random words ... (p = 0.005))
    """
    model = load(subject)
    n, _ = _checked_numbers(n, n_random)
    frame = concept_scores(
        model, words=words, layers=layers, n=max(n, LISTED), min_hits=min_hits, held_out=held_out, basis=basis,
        n_random=n_random, usable=usable, concept=concept, seed=seed,
    )  # fmt: skip
    split = concept_words(model, words, held_out=held_out, seed=seed)
    chosen = frame[frame["control"] == "none"].head(n)
    if chosen.empty:
        raise InputError(
            f"no neuron of {model.name!r} has {min_hits} of the tokens of {list(split.seeds)} among its top {TOP}; "
            "give more words, or lower min_hits."
        )
    by_layer = {int(layer): tuple(of["neuron"]) for layer, of in chosen.groupby("layer")}
    found = NeuronSet.of(model, by_layer, split, concept=concept or split.seeds[0], frame=frame)
    (best,) = summarise_scores(frame).itertuples()
    if best.p > LEVEL:
        warn(
            f"the neuron of {model.name!r} that promotes {list(split.seeds)} most scores {best.score:.2f}, and the "
            f"best for as many random words {best.random_mean:.2f} on average (p = {best.p:.2g}): these neurons may be "
            "what any words would give. More words would choose better."
        )
    return found


def _scored(
    read: TokenBasis,
    values: Mapping[int, Tensor],
    split: ConceptWords,
    random: Tensor,
    *,
    n: int,
    min_hits: int,
    seed: int,
) -> pd.DataFrame:
    """List the `n` best neurons of the concept and the best one of each random set, in one pass over the neurons."""
    # The mean z-score of some tokens is the reading of their mean direction: one product for the concept and all sets.
    sets = torch.cat([split.choosing_ids[None], random]).to(read.tokens.device)
    directions = torch.stack([read.tokens[ids].mean(dim=0) for ids in sets])
    order = torch.randperm(len(read.tokens), generator=torch.Generator().manual_seed(seed))
    own, best, kept = [], [], []
    for layer, vectors in values.items():
        prepared = read.prepared(vectors)
        norms = vectors.float().norm(dim=1)
        scores = (prepared @ directions.T).div_(read.sd(prepared)[:, None])
        top = scores[:, 1:].max(dim=0)
        best.append(_rows(layer, top.indices, top.values, norms))
        left = torch.arange(len(prepared), device=prepared.device)
        if min_hits:
            left = sieve(read.tokens, prepared, split.seed_ids, order, min_hits)[0]
        left = left[scores[left, 0].argsort(descending=True, stable=True)[:n]]
        own.append(_rows(layer, left, scores[left, 0], norms))
        kept.append(prepared[left])
    listed = pd.concat(own, ignore_index=True).sort_values("score", ascending=False, kind="stable").head(n)
    n_hits = sieve(read.tokens, torch.cat(kept)[listed.index.to_numpy(copy=True)], split.seed_ids, order, 0)[1]
    listed = listed.assign(n_hits=n_hits.cpu().numpy(), control="none")
    chance = pd.concat([one.assign(number=range(len(one))) for one in best])
    chance = chance.sort_values("score", ascending=False, kind="stable").groupby("number", sort=True).head(1)
    chance = chance.sort_values("number").drop(columns="number").assign(control="random_words", n_hits=-1, p=np.nan)
    if len(chance):
        as_high = (chance["score"].to_numpy() >= listed["score"].to_numpy()[:, None]).sum(axis=1)
        listed["p"] = (1 + as_high) / (1 + len(chance))
    return pd.concat([listed, chance])


def _rows(layer: int, neurons: Tensor, scores: Tensor, norms: Tensor) -> pd.DataFrame:
    columns = {"neuron": neurons, "score": scores.double(), "value_norm": norms[neurons].double()}
    return pd.DataFrame({"layer": layer} | {name: column.cpu().numpy() for name, column in columns.items()})


def _checked_numbers(n: int, n_random: int) -> tuple[int, int]:
    (n,), (n_random,) = whole_numbers(n, "n"), whole_numbers(n_random, "n_random")
    if n < 1:
        raise InputError(f"n={n}: ask for at least 1 neuron.")
    if n_random < 0:
        raise InputError(f"n_random={n_random}: give 0 or more sets of random words.")
    return n, n_random


def _checked_hits(min_hits: int, split: ConceptWords) -> int:
    (min_hits,) = whole_numbers(min_hits, "min_hits")
    if not len(split.seeds):
        raise InputError("no words are left to choose neurons by; give held_out below 1.")
    most = min(TOP, len(split.seed_ids))
    if not 0 <= min_hits <= most:
        raise InputError(
            f"min_hits is {min_hits}; give 0 to {most}: the seed words {list(split.seeds)} are {len(split.seed_ids)} "
            f"tokens of this model, and {TOP} are looked at."
        )
    return min_hits
