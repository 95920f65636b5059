"""Cluster value vectors: neurons that write in similar directions, found without naming a concept."""

from __future__ import annotations

from typing import Any

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
    Subject,
    Usable,
    columns,
    load,
    probe,
    progress_bar,
    say_cost,
    usable_facts,
    usable_tokens,
    whole_numbers,
)
from probes import papers
from probes.neurons import plots
from probes.neurons._token_basis import Basis, token_basis
from probes.neurons.neuron_tokens import chosen_layers, top_readings

_TOP = 10  # tokens that describe a cluster, and a neuron

VALUE_CLUSTERS = Schema(
    probe="value_clusters",
    paper=papers.VALUE_VECTORS,
    rows="one per neuron; for the control, per neuron in shuffled clusters",
    columns=columns(
        "model",
        "run_id",
        Column("layer", "int", "block of the neuron", low=0),
        "neuron",
        Column("cluster", "int", "which cluster it is in, 0 is the largest", low=0),
        Column("cosine", "float", "between the neuron's value vector and the cluster's mean", "-1..1"),
        Column(
            "coherence", "float", "mean cosine of the neuron's top tokens with those of its cluster's others", "-1..1"
        ),
        Column("tokens", "str", "top tokens of the cluster's mean vector, most promoted first"),
        "control",
    ),
)


def summarise_clusters(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarise each cluster: its neurons, layers, cosine, coherence, shuffled coherence, and tokens."""
    by = ["model", "run_id", "cluster"]
    own = frame[frame["control"] == "none"].groupby(by)
    summary = own.agg(
        n_neurons=("neuron", "size"),
        first_layer=("layer", "min"),
        last_layer=("layer", "max"),
        cosine=("cosine", "mean"),
        coherence=("coherence", "mean"),
        tokens=("tokens", "first"),
    )
    shuffled = frame[frame["control"] == "shuffled"].groupby(by)["coherence"].mean()
    summary.insert(summary.columns.get_loc("tokens"), "coherence_shuffled", shuffled)
    return summary.reset_index()


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    return {"k": 16, "n_init": 1}


@probe(VALUE_CLUSTERS, plot=plots.value_clusters, summarise=summarise_clusters, example=_example, costly=True)
def value_clusters(
    subject: Source,
    k: int,
    *,
    layers: Layers = None,
    basis: Basis = "unembedding",
    usable: Usable = None,
    n_init: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Group neurons by the direction they write in: k-means over value vectors of unit length.

    Coherence measures whether the tokens that a cluster's neurons promote belong together: the mean cosine, in the
    basis, between the ten top tokens of one neuron and those of the others. The control shuffles neurons among clusters
    of the same sizes. Neurons with similar directions promote similar tokens, so some excess is expected; compare
    clusters by its size.

    Args:
        subject: anything `interp.load` takes.
        k: number of clusters.
        layers: blocks whose neurons take part, 0..L-1, negative ones from the last; None and "all" are all.
        basis: see `probes.neurons._token_basis.token_basis`.
        usable: the frame of `token_health`: top tokens are among those that it calls usable.
        n_init: starts of k-means, of which the best is kept.
        seed: of k-means and of the shuffling.

    Returns:
        One row per neuron, and per neuron in shuffled clusters. `NeuronSet.of` makes a set to steer with of a cluster.

    Raises:
        InputError: k, n_init or a layer that cannot be used.

    Cost: the top tokens of every neuron, as for `neuron_tokens`, and k-means: 35 of 39 s for SmolLM2-135M on one core.

    Pitfall: k-means always finds k clusters; another seed moves neurons between them.

    >>> frame = value_clusters("reference", 4, layers=7, n_init=1)
    >>> frame.interp.summary()[["cluster", "n_neurons"]]["n_neurons"].is_monotonic_decreasing
    True
    """
    from sklearn.cluster import KMeans

    loaded = load(subject)
    parameters = {"k": k, "layers": layers, "basis": basis} | usable_facts(usable, loaded)
    run = Run(VALUE_CLUSTERS, loaded, None, parameters=parameters, seed=seed)
    chosen = chosen_layers(run.subject, layers)
    values = torch.cat([run.subject.value_vectors(layer).float() for layer in chosen])
    (k,), (n_init,) = whole_numbers(k, "k"), whole_numbers(n_init, "n_init")
    if not 1 <= k <= len(values):
        raise InputError(f"k={k} is not between 1 and the {len(values)} neurons of blocks {chosen}.")
    if n_init < 1:
        raise InputError(f"n_init={n_init}: give at least 1.")
    say_cost(run, products=len(values) * run.subject.W_U.numel())
    unit = torch.nn.functional.normalize(values, dim=1).cpu()
    found = KMeans(k, n_init=n_init, random_state=seed).fit_predict(unit.numpy())
    sizes = np.bincount(found, minlength=k)
    cluster = np.argsort(np.argsort(-sizes, kind="stable"))[found]  # renamed by size
    shuffled = np.random.default_rng(seed).permutation(cluster)
    read = token_basis(run.subject, basis)
    allowed = usable_tokens(usable, run.subject)
    n_top = min(_TOP, run.subject.d_vocab if allowed is None else int(allowed.sum()))
    tops = []
    with progress_bar(len(chosen), "block", VALUE_CLUSTERS.probe) as bar:
        for vectors in torch.split(values, run.subject.d_mlp):
            tops.append(top_readings(read, vectors, n_top, allowed)[1])
            bar.update()
    top = torch.cat(tops)
    directions = (
        torch.nn.functional.normalize(read.tokens, dim=1)[top].mean(dim=1).cpu()
    )  # mean top token of each neuron
    place = {
        "layer": np.repeat(chosen, run.subject.d_mlp),
        "neuron": np.tile(np.arange(run.subject.d_mlp), len(chosen)),
    }
    parts = []
    for control, labels in (("none", cluster), ("shuffled", shuffled)):
        means = _means(unit, torch.from_numpy(labels), k)
        named = top_readings(read, means.to(values.device), n_top, allowed)[1].cpu().numpy()
        strings = np.array(
            [" ".join(repr(token)[1:-1].strip() for token in run.subject.token_strings[ids]) for ids in named]
        )
        parts.append(
            place
            | {
                "cluster": labels,
                "cosine": torch.nn.functional.cosine_similarity(unit, means[labels]).double().numpy(),
                "coherence": _coherence(directions, torch.from_numpy(labels), k).double().numpy(),
                "tokens": strings.astype(object)[labels],
                "control": control,
            }
        )
    return run.frame(parts)


def _means(rows: Tensor, labels: Tensor, k: int) -> Tensor:
    """Average the rows of each label, [k, d]."""
    sums = torch.zeros(k, rows.shape[1]).index_add_(0, labels, rows)
    return sums / torch.bincount(labels, minlength=k).clamp(min=1)[:, None]


def _coherence(directions: Tensor, labels: Tensor, k: int) -> Tensor:
    """Average the product of each row with the other rows of its label, [n]; 0 for a row that is alone."""
    sizes = torch.bincount(labels, minlength=k)[labels]
    sums = torch.zeros(k, directions.shape[1]).index_add_(0, labels, directions)[labels] - directions
    return (directions * sums).sum(dim=1) / (sizes - 1).clamp(min=1)
