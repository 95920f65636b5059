"""Is a concept a direction? Pairs of words whose differences should be parallel (Jiang et al., 2024).

The difference of the means of two groups of words is in the difference of any pair of them, also of pairs that have
nothing to do with each other. So a pair's own relation is what its difference is parallel beyond the same words paired
anew ("shuffled"), and not what it is beyond zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Column, InputError, Layers, Run, Schema, Source, columns, load, probe
from interp.stats import mean_over_units
from probes import papers
from probes.geometry.clouds._clouds import Where
from probes.geometry.concepts import plots
from probes.geometry.concepts._pairs import Concept, checked_pairs, concepts_of
from probes.geometry.concepts._parallel import held_out, parallel, parallel_without_each, shuffled
from probes.geometry.concepts._places import InnerProducts, Metric, places_of, read_places

PARALLEL = Schema(
    probe="concept_directions",
    paper=papers.LINEAR_ORIGINS,
    rows="one per concept, place, metric and control",
    columns=columns(
        *("model", "run_id"),
        Column("concept", "str", "name of the pairs"),
        Column("where", "str", "embedding, unembedding or residual"),
        Column("layer", "id", "layer of the residual, 0..L; missing for weights", low=0, missing=True),
        Column("metric", "str", "the inner product: raw, or causal (whitened by the vocabulary's covariance)"),
        "control",
        Column("n_pairs", "int", "pairs whose words are single tokens", low=0),
        Column("n_dropped", "int", "other pairs", low=0),
        Column("parallel", "float", "mean cosine of the differences of different pairs; a control's mean over draws"),
        Column("parallel_low", "float", "lower end: 95 % interval, or 95 % of draws", missing=True),
        Column("parallel_high", "float", "upper end", missing=True),
        Column("p", "float", "share of the control's draws as parallel as the pairs", "0..1", 0.0, 1.0, True),
        Column("held_out_auroc", "float", "how often other pairs tell a pair's right word from its left", "0..1", 0, 1),
    ),
)  # fmt: skip


def summarise_directions(frame: pd.DataFrame) -> pd.DataFrame:
    """Set each concept's `parallel` beside its words paired anew: `excess` is the difference, `p` that control's."""
    keys = ["model", "run_id", "concept", "where", "layer", "metric"]
    by = frame.groupby([*keys, "control"], dropna=False, observed=True, sort=False)[["parallel", "held_out_auroc", "p"]]
    table = by.first().unstack("control")
    found = pd.DataFrame(
        {
            "parallel": table["parallel"]["none"],
            "shuffled": table["parallel"]["shuffled"],
            "random": table["parallel"]["random"],
            "excess": table["parallel"]["none"] - table["parallel"]["shuffled"],
            "p": table["p"]["shuffled"],
            "held_out_auroc": table["held_out_auroc"]["none"],
            "held_out_shuffled": table["held_out_auroc"]["shuffled"],
        }
    )
    return found.reset_index()


@probe(PARALLEL, plot=plots.concept_directions, summarise=summarise_directions)
def concept_directions(
    subject: Source,
    *,
    pairs: pd.DataFrame | None = None,
    where: Sequence[Where] = ("embedding", "unembedding"),
    layers: Layers = None,
    metric: Sequence[Metric] = ("raw", "causal"),
    common_to: Sequence[Source] = (),
    n_null: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure whether the differences of word pairs are parallel, beyond what the two groups of words give.

    To steer along such a direction: `contrast_direction(subject, rights, lefts, layers=...)`.

    Args:
        subject: anything `interp.load` takes.
        pairs: a frame of `concept`, `left`, `right`; None takes fourteen shipped concepts of English. Words count as
            they stand inside a sentence; pairs with a word that is not a single token are dropped and counted, and so
            is a concept that keeps fewer than three.
        where: which rows of the vocabulary to measure.
        layers: of the residual stream too, 0..L, read at each word alone behind the start of a text.
        metric: see `probes.geometry.concepts._places.Metric`.
        common_to: other models; pairs are kept if they are single tokens of these too, as models that keep other pairs
            cannot be compared.
        n_null: draws of each control.
        seed: of the draws.

    Returns:
        One row per concept, place, metric and control: "shuffled", the right sides of a concept go to other left sides
        of it; "random", words drawn among those about as frequent. `p` counts the pairs' own value among the draws.

    Raises:
        InputError: nothing to measure, or no concept keeps three pairs.

    Cost: no forward pass for weights; the d² covariance of the vocabulary and its eigendecomposition for "causal".

    Pitfall: shuffled pairs are parallel too, by .05 to .4: read `excess` in the summary, never `parallel` against zero.

    >>> frame = concept_directions("reference", where=["unembedding"], metric=["raw"])
    >>> bool(frame.interp.summary().set_index("concept").loc["plural", "p"] < 0.05)
    True
    """
    if n_null < 1:
        raise InputError(f"n_null={n_null}: give at least 1 draw.")
    table = checked_pairs(pairs)
    model = load(subject)
    places = places_of(model, where, layers)
    if not places or not len(metric):
        raise InputError("no place or no metric leaves nothing to measure; name where= or layers=, and metric=.")
    concepts = concepts_of(model, table, common_to, seed)
    parameters = {
        "pairs": table.to_numpy().tolist(), "where": list(where), "layers": layers, "metric": list(metric),
        "kept": {one.name: len(one.left) for one in concepts}, "n_null": n_null,
    }  # fmt: skip
    run = Run(PARALLEL, model, None, parameters=parameters, seed=seed)
    ids = np.unique(
        np.concatenate([np.concatenate([one.ids, one.left_pool.ravel(), one.right_pool.ravel()]) for one in concepts])
    )
    products = InnerProducts(run.subject)
    rows: list[dict[str, Any]] = []
    for place, vectors in read_places(run.subject, ids, places):
        for one in dict.fromkeys(metric):
            mapped = products.mapped(vectors, place, one)
            for number, concept in enumerate(concepts):
                random = np.random.default_rng([seed, number])
                fixed = {"concept": concept.name, **place.columns, "metric": one}
                counts = {"n_pairs": len(concept.left), "n_dropped": concept.n_dropped}
                rows += [fixed | counts | of for of in _measured(concept, ids, mapped, n_null, random, seed)]
    return run.frame(rows)


def _measured(
    concept: Concept, ids: np.ndarray, vectors: np.ndarray, n_null: int, random: np.random.Generator, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the pairs' numbers and those of both controls; vectors [n, d] are of `ids`, which ascend."""

    def of(tokens: np.ndarray) -> np.ndarray:
        found: np.ndarray = vectors[np.searchsorted(ids, tokens)]
        return found

    left, right, n = of(concept.left), of(concept.right), len(concept.left)
    own = right - left
    value = float(parallel(own))
    # Of a mean over pairs of pairs the jackknife is exact: the mean of pseudo-values is the value itself.
    pseudo = n * value - (n - 1) * parallel_without_each(own)
    mean = mean_over_units(pseudo, level=0.95, n_resamples=999, seed=seed)
    yield {
        "control": "none", "parallel": value, "parallel_low": mean.low, "parallel_high": mean.high, "p": np.nan,
        "held_out_auroc": float(held_out(own)),
    }  # fmt: skip
    anew, each = shuffled(n, n_null, random), np.arange(n)
    places = random.integers(concept.left_pool.shape[1], size=(2, n_null, n))
    for control in ("shuffled", "random"):
        nulls, told = np.empty(n_null), np.empty(n_null)
        for at in range(n_null):
            if control == "shuffled":
                differences = right[anew[at]] - left
            else:
                differences = of(concept.right_pool[each, places[1, at]]) - of(concept.left_pool[each, places[0, at]])
            nulls[at], told[at] = parallel(differences), held_out(differences)
        low, high = np.quantile(nulls, [0.025, 0.975])
        yield {
            "control": control, "parallel": nulls.mean(), "parallel_low": low, "parallel_high": high,
            "p": (1 + (nulls >= value - 1e-12).sum()) / (1 + n_null), "held_out_auroc": told.mean(),
        }  # fmt: skip
