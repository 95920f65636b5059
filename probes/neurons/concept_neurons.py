"""Neurons whose value vectors promote the words of a concept (Häon et al., 2025, made reproducible).

The paper picks neurons by hand out of lists of top tokens. Here a neuron is a candidate when at least `min_hits` of its
top ten tokens are the concept's, and candidates are ranked by the mean z-score of the concept's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Run,
    Schema,
    Source,
    checked,
    columns,
    load,
    probe,
    warn,
    whole_numbers,
    with_concept,
)
from probes import papers
from probes.neurons._concept_words import ConceptWords, concept_words
from probes.neurons._token_basis import Basis, TokenBasis, token_basis
from probes.neurons.neuron_set import NeuronSet
from probes.neurons.neuron_tokens import chosen_layers

MIN_HITS = 3
TOP = 10  # tokens of a neuron among which hits are counted
_FIRST_COLUMNS = 256  # of the vocabulary, read for every neuron; ten seen above a token put it out of the top ten

CONCEPT_SCORES = Schema(
    probe="concept_scores",
    paper=papers.VALUE_VECTORS,
    rows="one per candidate neuron; for the control, per candidate for as many random tokens",
    columns=columns(
        "model",
        "run_id",
        Column("concept", "str", "name of the concept"),
        Column("layer", "int", "block of the neuron", low=0),
        "neuron",
        Column("score", "float", "mean z-score of the seed words' tokens in the neuron's reading"),
        Column("n_hits", "int", f"tokens of the seed words among the neuron's top {TOP}", low=0, high=TOP),
        Column("value_norm", "float", "length of the value vector", low=0.0),
        "control",
    ),
)


def summarise_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the candidates per concept, control and layer, with their mean and best score."""
    by = ["model", "run_id", "concept", "control", "layer"]
    return frame.groupby(by, observed=True)["score"].agg(n_neurons="size", score="mean", score_max="max").reset_index()


@probe(CONCEPT_SCORES, summarise=summarise_scores, example=with_concept(min_hits=2, concept="time"))
def concept_scores(
    subject: Source,
    *,
    words: Sequence[str],
    layers: int | Sequence[int] | None = None,
    min_hits: int = MIN_HITS,
    held_out: float = 0.5,
    basis: Basis = "unembedding",
    concept: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Score all neurons that promote the words of a concept, best first.

    Arguments and errors are those of `concept_neurons`.

    Args:
        subject: see `concept_neurons`.
        words: see `concept_neurons`.
        layers: see `concept_neurons`.
        min_hits: see `concept_neurons`.
        held_out: see `concept_neurons`.
        basis: see `concept_neurons`.
        concept: see `concept_neurons`.
        seed: see `concept_neurons`.

    Returns:
        One row per neuron with at least `min_hits` seed tokens among its top ten, and rows with control "random_tokens"
        for as many tokens drawn at random: how many candidates chance gives.

    Cost: a few hundred columns of the vocabulary for every neuron, then more columns for fewer neurons.

    >>> words = ["time", "day", "moment", "hour", "night", "week"]
    >>> frame = concept_scores("reference", words=words, layers=[6, 7], min_hits=2)
    >>> bool((frame.n_hits >= 2).all()), sorted(frame.control.unique())[0]
    (True, 'none')
    """
    run = Run(
        CONCEPT_SCORES,
        subject,
        None,
        parameters={"words": words, "layers": layers, "min_hits": min_hits, "held_out": held_out, "basis": basis}
        | {"concept": concept},
        seed=seed,
    )
    split = concept_words(run.subject, words, held_out=held_out, seed=seed)
    min_hits = _checked_hits(min_hits, split)
    values = {layer: run.subject.value_vectors(layer) for layer in chosen_layers(run.subject, layers)}
    read = token_basis(run.subject, basis)
    # One order of the vocabulary for all layers: any first columns rule most neurons out.
    order, drawn = _permutations(run.subject.d_vocab, seed)
    by_control = {"none": split.seed_ids, "random_tokens": drawn[: len(split.seed_ids)]}
    tables = [_candidates(read, values, ids, order, min_hits).assign(control=name) for name, ids in by_control.items()]
    table = pd.concat(tables)
    table["concept"] = concept or split.seeds[0]
    return run.frame([{name: table[name].to_numpy() for name in table}])


@checked
def concept_neurons(
    subject: Source,
    words: Sequence[str],
    *,
    n: int,
    layers: int | Sequence[int] | None = None,
    min_hits: int | None = None,
    held_out: float = 0.5,
    basis: Basis = "unembedding",
    concept: str | None = None,
    seed: int = 0,
) -> NeuronSet:
    """Choose the `n` neurons that promote a concept's words most.

    Args:
        subject: anything `interp.load` takes.
        words: of the concept, without spaces; those that are not single tokens are dropped, and the result says which.
        n: how many neurons; where fewer are candidates, those.
        layers: blocks to search, 0..L-1; None searches all.
        min_hits: seed tokens (all spellings of the seed words) that must be among a neuron's top ten. None takes 3, and
            with a warning fewer where fewer than `n` neurons have 3: a small model has few that clear a concept's.
        held_out: share of the words kept out of the choice, on which `steer` measures the effect.
        basis: see `probes.neurons._token_basis.token_basis`.
        concept: its name in frames; by default the first seed word.
        seed: of the split and of the control.

    Returns:
        The neurons, with the frame of all candidates (`concept_scores`) and its provenance.

    Raises:
        InputError: words, layers or numbers that cannot be used, or no neuron is a candidate.
        UnknownName: there is no such basis.
        ModelError: a mixture of experts, which has no neurons of its own to read.

    >>> neurons = concept_neurons("reference", ["time", "day", "moment", "hour", "night", "week"], n=5, min_hits=2)
    >>> neurons
    NeuronSet('time', 5 neurons in blocks ..., held out: ...)
    """
    model = load(subject)
    (n,) = whole_numbers(n, "n")
    if n < 1:
        raise InputError(f"n={n}: ask for at least 1 neuron.")
    split = concept_words(model, words, held_out=held_out, seed=seed)
    most = max(1, min(MIN_HITS, len(split.seed_ids)))
    for hits in range(most, 0, -1) if min_hits is None else [min_hits]:
        frame = concept_scores(
            model, words=words, layers=layers, min_hits=hits, held_out=held_out, basis=basis, concept=concept, seed=seed
        )
        chosen = frame[frame["control"] == "none"].head(n)
        if len(chosen) == n:
            break
    if chosen.empty:
        raise InputError(
            f"no neuron of {model.name!r} has {hits} of the tokens of {list(split.seeds)} among its top {TOP}; "
            f"give more words{', or lower min_hits' if hits > 1 else ''}."
        )
    if min_hits is None and hits < MIN_HITS:
        warn(
            f"fewer than {n} neurons of {model.name!r} have {MIN_HITS} of the tokens of {list(split.seeds)} among "
            f"their top {TOP}: min_hits was lowered to {hits}. More words would choose better.",
        )
    by_layer = {int(layer): tuple(of["neuron"]) for layer, of in chosen.groupby("layer")}
    return NeuronSet.of(model, by_layer, split, concept=concept or split.seeds[0], frame=frame)


def sieve(tokens: Tensor, prepared: Tensor, ids: Tensor, order: Tensor, min_hits: int) -> tuple[Tensor, Tensor]:
    """Find vectors with at least `min_hits` of some tokens in their top ten, without reading the whole vocabulary.

    Columns of the vocabulary are read in a random order, in ever larger pieces. A token with ten others seen above it
    is out of the top ten for certain; a vector with too few tokens left is dropped. The answer is exact: what is left
    at the end has been read in full.

    Args:
        tokens: directions of all tokens, [d_vocab, d_model].
        prepared: vectors, [n, d_model].
        ids: the tokens asked for, int64 [i].
        order: a permutation of the vocabulary, int64 [d_vocab].
        min_hits: of `ids`.

    Returns:
        Vectors left, int64 [m], and how many of the tokens each has in its top ten, int64 [m].
    """
    left = torch.arange(len(prepared), device=prepared.device)
    asked = prepared @ tokens[ids].T
    # Among themselves from one product: another one may round a token above itself.
    above = (asked[:, None, :] > asked[:, :, None]).sum(dim=2)
    order = order[~torch.isin(order, ids)].to(prepared.device)
    start, width = 0, _FIRST_COLUMNS
    while start < len(order) and len(left):
        logits = prepared[left] @ tokens[order[start : start + width]].T
        above += torch.stack([(logits > one[:, None]).sum(dim=1) for one in asked.unbind(dim=1)], dim=1)
        kept = (above < TOP).sum(dim=1) >= min_hits
        left, asked, above = left[kept], asked[kept], above[kept]
        start, width = start + width, 2 * width
    kept = (above < TOP).sum(dim=1) >= min_hits
    return left[kept], (above[kept] < TOP).sum(dim=1)


def _candidates(
    read: TokenBasis, values: Mapping[int, Tensor], ids: Tensor, order: Tensor, min_hits: int
) -> pd.DataFrame:
    """List neurons with at least `min_hits` of the tokens among their top ten, best score first."""
    found: dict[str, list[Tensor]] = {"layer": [], "neuron": [], "n_hits": [], "value_norm": []}
    prepared = []
    for layer, vectors in values.items():
        vectors = read.prepared(vectors)
        neurons, n_hits = sieve(read.tokens, vectors, ids, order, min_hits)
        prepared.append(vectors[neurons])
        norms = values[layer][neurons].float().norm(dim=1).double()
        for name, column in zip(found, (torch.full_like(neurons, layer), neurons, n_hits, norms), strict=True):
            found[name].append(column)
    candidates = torch.cat(prepared)
    score = (candidates @ read.tokens[ids].T).mean(dim=1) / read.sd(candidates)
    table = pd.DataFrame({name: torch.cat(columns).cpu().numpy() for name, columns in found.items()})
    return table.assign(score=score.cpu().double().numpy()).sort_values("score", ascending=False, kind="stable")


def _checked_hits(min_hits: int, split: ConceptWords) -> int:
    (min_hits,) = whole_numbers(min_hits, "min_hits")
    most = min(TOP, len(split.seed_ids))
    if not 1 <= min_hits <= most:
        raise InputError(
            f"min_hits is {min_hits}; give 1 to {most}: the seed words {list(split.seeds)} are {len(split.seed_ids)} "
            f"tokens of this model, and {TOP} are looked at."
        )
    return min_hits


def _permutations(d_vocab: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(d_vocab, generator=generator), torch.randperm(d_vocab, generator=generator)
