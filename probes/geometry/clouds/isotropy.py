"""Measure how evenly a cloud of vectors fills its dimensions: IsoScore in closed form, beside a matched Gaussian.

IsoScore (Rudman et al. 2022) is the participation ratio (tr C)² / ‖C‖² on a scale from 0, one axis, to 1, all axes
alike. A shift of the mean moves the mean cosine, which is often called anisotropy, and leaves IsoScore as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    probe,
    whole_frame,
)
from interp.model.weights import require_known_tokens
from interp.stats import mean_over_units
from interp.stats.clouds import CloudSums, log_partition, whitened, without_top
from interp.stats.neighbours import distinct_rows
from probes import papers
from probes.geometry.clouds import plots
from probes.geometry.clouds._clouds import Control, Where, controlled, drawn_residuals, layers_read, weight_rows

_PARTS = 12  # of a cloud, left out in turn for the interval
_TOO_UNLIKE = 10  # numbers of points that differ by more than this factor are not compared
_LEAST = 3  # points of a cloud

ISOTROPY = Schema(
    probe="isotropy",
    paper=papers.ISOSCORE,
    rows="one per cloud, control and metric",
    columns=columns(
        *("model", "run_id"),
        Column("where", "str", "embedding, unembedding or residual"),
        Column("layer", "id", "layer of the residual, 0..L; missing for weights", low=0, missing=True),
        Column("group", "str", "'all', or the name of a group of tokens"),
        "control",
        Column(
            "metric",
            "str",
            "isoscore (0 one axis, 1 all alike); participation (axes); mean_cosine of two points; mean_norm; "
            "log_partition (0 even, below it not)",
        ),
        Column("value", "float", "the metric", missing=True),
        Column("low", "float", "lower end of its 95 % interval, over parts of the cloud", missing=True),
        Column("high", "float", "upper end", missing=True),
        Column("n_points", "int", "different points", low=0),
        Column("n_dims", "int", "dimensions of the points", low=1),
    ),
)


@probe(ISOTROPY, plot=plots.isotropy, summarise=whole_frame)
def isotropy(
    subject: Source,
    *,
    where: Sequence[Where] = ("embedding", "unembedding"),
    groups: Mapping[str, Sequence[int]] | None = None,
    texts: Texts | None = None,
    layers: Layers = "all",
    controls: Sequence[Control] = ("gaussian",),
    debiased: bool = True,
    match_n: bool = True,
    whiten: bool = False,
    remove_top: int = 0,
    n_points: int = 4096,
    n_resamples: int = 999,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure how evenly the rows of the embedding, groups of them, or the states of a layer fill their space.

    Points that coincide count once. The control "gaussian" draws as many points of the same mean and covariance: where
    it has the same value, the number says nothing about the cloud beyond its covariance.

    Args:
        subject: anything `interp.load` takes.
        where: which rows of the vocabulary to measure.
        groups: groups of tokens by name, lists of ids, each measured as a cloud of its own beside all rows.
        texts: anything `Subject.tokens` takes, to measure the residual stream too: all tokens of all prompts, without
            position 0.
        layers: which layers of it, 0..L.
        controls: see `probes.geometry.clouds._clouds.Control`.
        debiased: estimate the ratio without the bias of few points, as for Gaussian ones. False is as published.
        match_n: draw as many points from every group as the smallest has, if one has more than ten times as many as
            another; False refuses to compare these.
        whiten: measure the cloud after it is whitened: mean 0 and covariance 1 in every direction that varies.
        remove_top: centre the cloud and take out so many directions in which it varies most.
        n_points: tokens drawn from the texts.
        n_resamples: bootstrap draws of the intervals.
        seed: of the draws.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per cloud, control and metric. The intervals come from leaving out a twelfth of the rows, or of the
        prompts, in turn; `log_partition` has none.

    Raises:
        InputError: nothing to measure, a group of fewer than three different rows, an id that is not there, or groups
            of numbers too unlike.

    Cost: no forward pass for weights; d² multiplications for a point and cloud, and as many for its control.

    Pitfall: most of an embedding's anisotropy is its mean and a few directions: read the value beside "gaussian", and
    again with `remove_top`.

    >>> frame = isotropy("reference", where=["embedding"]).set_index(["control", "metric"])["value"]
    >>> frame["none"][["isoscore", "mean_cosine"]].round(3).tolist()
    [0.025, 0.398]
    """
    if not where and texts is None:
        raise InputError("where=[] and no texts leave nothing to measure; name a place or give texts.")
    if remove_top < 0 or n_points < _LEAST or n_resamples < 1:
        raise InputError(
            f"remove_top={remove_top}, n_points={n_points}, n_resamples={n_resamples}: give 0 or more directions, at "
            f"least {_LEAST} points and some resamples."
        )
    named = {name: list(ids) for name, ids in (groups or {}).items()}
    parameters = {
        "where": list(where), "groups": named, "layers": layers, "controls": list(controls), "debiased": debiased,
        "match_n": match_n, "whiten": whiten, "remove_top": remove_top, "n_points": n_points,
        "n_resamples": n_resamples,
    }  # fmt: skip
    run = Run(ISOTROPY, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    if remove_top >= run.subject.d_model:
        raise InputError(f"remove_top={remove_top}: the vectors have {run.subject.d_model} dimensions; give fewer.")
    for ids in named.values():
        require_known_tokens(run.subject, ids)
    read = [] if texts is None else layers_read(run.subject, layers)
    rows: list[dict[str, Any]] = []
    for number, (place, points, parts) in enumerate(_clouds(run, where, named, match_n, read, n_points, seed)):
        for control in ("none", *dict.fromkeys(controls)):
            cloud = points if control == "none" else controlled(points, control, seed, number)  # type: ignore[arg-type]
            cloud = _treated(cloud, whiten, remove_top)
            found = _measured(cloud, parts, debiased, n_resamples, seed)
            rows += [
                place | {"control": control, "n_points": len(cloud), "n_dims": cloud.shape[1]} | of for of in found
            ]
    return run.frame(rows)


def _clouds(
    run: Run,
    where: Sequence[Where],
    groups: Mapping[str, Sequence[int]],
    match_n: bool,
    layers: Sequence[int],
    n_points: int,
    seed: int,
) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Yield where each cloud is, its points [n, d], and the part that each point belongs to, int64 [n]."""
    for place in dict.fromkeys(where):
        rows = weight_rows(run.subject, place)
        kept = _groups_kept(run.subject, rows, groups, match_n, seed)
        for name, ids in {"all": distinct_rows(rows), **kept}.items():
            parts = np.random.default_rng(seed).permutation(len(ids)) % _PARTS
            yield {"where": place, "layer": -1, "group": name}, rows[ids], parts
    if not layers:
        return
    states, prompts = drawn_residuals(run, layers, n_points)
    # Tokens of a prompt are not independent: a part has whole prompts.
    of_prompt = pd.factorize(prompts)[0] % _PARTS
    for layer, points in zip(layers, states, strict=True):
        own = distinct_rows(points)
        yield {"where": "residual", "layer": layer, "group": "all"}, points[own], of_prompt[own]


def _groups_kept(
    subject: Subject, rows: np.ndarray, groups: Mapping[str, Sequence[int]], match_n: bool, seed: int
) -> dict[str, np.ndarray]:
    """Return the different rows of each group, cut to the smallest group if they are too unlike in number."""
    found = {}
    for name, ids in groups.items():
        chosen = np.unique(np.array(ids, dtype=int))
        found[name] = chosen[distinct_rows(rows[chosen])]
        if len(found[name]) < _LEAST:
            raise InputError(
                f"group {name!r} has {len(found[name])} different rows in {subject.name!r}; give at least {_LEAST}."
            )
    sizes = [len(ids) for ids in found.values()]
    if not sizes or max(sizes) <= _TOO_UNLIKE * min(sizes):
        return found
    if not match_n:
        raise InputError(
            f"groups of {min(sizes)} and of {max(sizes)} rows are too unlike to be compared; leave match_n=True, which "
            "draws as many from each."
        )
    random = np.random.default_rng(seed)
    return {name: np.sort(random.permutation(ids)[: min(sizes)]) for name, ids in found.items()}


def _treated(points: np.ndarray, whiten: bool, remove_top: int) -> np.ndarray:
    if remove_top:
        points = without_top(points, CloudSums.of(points), remove_top)
    return whitened(points, CloudSums.of(points)) if whiten else points


def _measured(
    points: np.ndarray, parts: np.ndarray, debiased: bool, n_resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the value and the interval of each metric of a cloud [n, d]."""
    sums = [CloudSums.of(points[parts == part]) for part in range(parts.max() + 1) if (parts == part).any()]
    whole = CloudSums.zeros(points.shape[1])
    for one in sums:
        whole = whole + one
    values, d = _metrics(whole, debiased), len(sums)
    # One number per part whose mean is the metric, up to terms of order 1 / parts: see `interp.stats.jackknife`.
    rest = [_metrics(whole - one, debiased) for one in sums] if d > 1 else []
    for name, value in values.items():
        pseudo = np.array([d * value - (d - 1) * one[name] for one in rest])
        known = len(pseudo) > 1 and bool(np.isfinite(pseudo).all())
        mean = mean_over_units(pseudo, level=0.95, n_resamples=n_resamples, seed=seed) if known else None
        low, high = (np.nan, np.nan) if mean is None else (mean.low, mean.high)
        yield {"metric": name, "value": value, "low": low, "high": high}
    yield {"metric": "log_partition", "value": log_partition(points, whole), "low": np.nan, "high": np.nan}


def _metrics(sums: CloudSums, debiased: bool) -> dict[str, float]:
    return {
        "isoscore": sums.isoscore(debiased=debiased),
        "participation": sums.participation(debiased=debiased),
        "mean_cosine": sums.mean_cosine(),
        "mean_norm": sums.mean_norm(),
    }
