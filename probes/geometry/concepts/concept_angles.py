"""Measure the angles between concepts, which the causal inner product should make orthogonal (Jiang et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Column, InputError, Layers, Run, Schema, Source, columns, load, probe
from probes import papers
from probes.geometry.clouds._clouds import Where
from probes.geometry.concepts import plots
from probes.geometry.concepts._pairs import checked_pairs, concepts_of
from probes.geometry.concepts._parallel import units
from probes.geometry.concepts._places import InnerProducts, Metric, places_of, read_places

ANGLES = Schema(
    probe="concept_angles",
    paper=papers.LINEAR_ORIGINS,
    rows="one per pair of concepts, place, metric and control",
    columns=columns(
        *("model", "run_id"),
        Column("concept_a", "str", "name of one concept"),
        Column("concept_b", "str", "name of the other"),
        Column("where", "str", "embedding, unembedding or residual"),
        Column("layer", "id", "layer of the residual, 0..L; missing for weights", low=0, missing=True),
        Column("metric", "str", "the inner product: raw, or causal (whitened by the vocabulary's covariance)"),
        "control",
        Column("cosine", "float", "of the two concepts' mean differences", low=-1.001, high=1.001),
        Column("shared_words", "int", "tokens in both concepts; such pairs are left out of summaries", low=0),
        Column("expected", "float", "standard deviation of the cosine of unrelated vectors", low=0.0),
    ),
)


def summarise_angles(frame: pd.DataFrame) -> pd.DataFrame:
    """Average |cosine| over pairs of concepts that share no word, beside that of random words' mean differences."""
    apart = frame[frame["shared_words"] == 0].assign(size=lambda rows: rows["cosine"].abs())
    keys = ["model", "run_id", "where", "layer", "metric", "control"]
    by = apart.groupby(keys, dropna=False, observed=True, sort=False)
    found = by.agg(mean=("size", "mean"), largest=("size", "max"), expected=("expected", "first"), n=("size", "size"))
    return found.reset_index()


@probe(ANGLES, plot=plots.concept_angles, summarise=summarise_angles)
def concept_angles(
    subject: Source,
    *,
    pairs: pd.DataFrame | None = None,
    where: Sequence[Where] = ("embedding", "unembedding"),
    layers: Layers = None,
    metric: Sequence[Metric] = ("raw", "causal"),
    common_to: Sequence[Source] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Measure the cosines of different concepts' mean differences, with raw and with causal inner products.

    Args:
        subject: see `concept_directions`.
        pairs: see `concept_directions`.
        where: see `concept_directions`.
        layers: see `concept_directions`.
        metric: see `concept_directions`.
        common_to: see `concept_directions`.
        seed: of the random words.

    Returns:
        One row per pair of concepts, place, metric and control: "random", the mean differences of as many random words
        about as frequent.

    Raises:
        InputError: nothing to measure, or fewer than two concepts keep three pairs.

    Cost: as `concept_directions`, without its draws.

    Pitfall: concepts that share words, or a class of words as comparatives and superlatives do, share a direction.

    >>> frame = concept_angles("reference", where=["unembedding"])
    >>> summary = frame[frame.control == "none"].interp.summary().set_index("metric")
    >>> bool(summary.loc["causal", "mean"] < summary.loc["raw", "mean"])
    True
    """
    table = checked_pairs(pairs)
    model = load(subject)
    places = places_of(model, where, layers)
    if not places or not len(metric):
        raise InputError("no place or no metric leaves nothing to measure; name where= or layers=, and metric=.")
    concepts = concepts_of(model, table, common_to, seed)
    if len(concepts) < 2:
        raise InputError(f"only {concepts[0].name!r} keeps enough pairs; give two concepts or more.")
    parameters = {
        "pairs": table.to_numpy().tolist(), "where": list(where), "layers": layers, "metric": list(metric),
        "kept": {one.name: len(one.left) for one in concepts},
    }  # fmt: skip
    run = Run(ANGLES, model, None, parameters=parameters, seed=seed)
    sides = {
        "none": [(one.left, one.right) for one in concepts],
        "random": [(one.left_pool[:, 0], one.right_pool[:, 0]) for one in concepts],
    }
    ids = np.unique(np.concatenate([side for of in sides.values() for pair in of for side in pair]))
    products = InnerProducts(run.subject)
    rows: list[dict[str, Any]] = []
    for place, vectors in read_places(run.subject, ids, places):
        for one in dict.fromkeys(metric):
            mapped = products.mapped(vectors, place, one)
            for control, pairs_of in sides.items():
                means = [
                    (mapped[np.searchsorted(ids, right)] - mapped[np.searchsorted(ids, left)]).mean(axis=0)
                    for left, right in pairs_of
                ]
                cosines = units(np.stack(means)) @ units(np.stack(means)).T
                for a, b in combinations(range(len(concepts)), 2):
                    rows.append(
                        {
                            "concept_a": concepts[a].name,
                            "concept_b": concepts[b].name,
                            **place.columns,
                            "metric": one,
                            "control": control,
                            "cosine": cosines[a, b],
                            "shared_words": len(np.intersect1d(concepts[a].ids, concepts[b].ids)),
                            "expected": products.expected(place, one),
                        }
                    )
    return run.frame(rows)
