"""Measure the dimension around tokens, and test whether it changes with distance, as in no manifold or fibre bundle.

Robinson et al. (2025) reject that token embeddings are a manifold, or a fibre bundle, where the dimension around a
token breaks along its neighbours. A smooth Gaussian cloud of the same covariance is rejected often too, as "any" break:
the increase of the dimension is what it hardly ever shows, and what the bundle forbids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Column, InputError, Run, Schema, Source, columns, probe
from interp.model.weights import require_known_tokens
from interp.stats import benjamini_hochberg
from interp.stats.neighbours import distinct_rows, nearest
from probes import papers
from probes.geometry.clouds import plots
from probes.geometry.clouds._breaks import LEAST, dimension, p_values, scan, spacings
from probes.geometry.clouds._clouds import Control, Where, controlled, weight_rows

LOCAL_DIMENSION = Schema(
    probe="local_dimension",
    paper=papers.TOKEN_MANIFOLD,
    rows="one per token and control",
    columns=columns(
        *("model", "run_id", "token_id", "token"),
        Column("where", "str", "embedding or unembedding"),
        "control",
        Column("k_low", "int", "first neighbour that counts", low=1),
        Column("k_high", "int", "last neighbour that counts", low=2),
        Column("radius_low", "float", "distance of the first", low=0.0),
        Column("radius_high", "float", "distance of the last", low=0.0),
        Column("dimension", "float", "local dimension from all these neighbours", "dimensions", low=0.0),
        Column("dimension_near", "float", "the same from those before the likeliest break", "dimensions", low=0.0),
        Column("dimension_far", "float", "the same from those after it", "dimensions", low=0.0),
        Column("split_k", "int", "the neighbour at the likeliest break", low=1),
        Column("p_break", "float", "p-value of a break anywhere, of points that are evenly spread", "0..1", 0.0, 1.0),
        Column("p_increase", "float", "the same of a break after which the dimension is larger", "0..1", 0.0, 1.0),
        Column("q_increase", "float", "p_increase adjusted over the tokens (Benjamini & Hochberg)", "0..1", 0.0, 1.0),
    ),
)


def _shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of tokens that break at two levels, and median dimensions, by place and control."""
    groups = frame.groupby(["model", "run_id", "where", "control"], sort=False)
    columns = {
        f"{name}_{str(level)[2:]}": groups[f"p_{name}"].apply(lambda p, level=level: float((p < level).mean()))
        for name in ("break", "increase")
        for level in (0.05, 0.001)
    }
    medians = {name: groups[name].median() for name in ("dimension", "dimension_near", "dimension_far")}
    return pd.DataFrame({"n_tokens": groups.size(), **columns, **medians}).reset_index()


@probe(LOCAL_DIMENSION, plot=plots.local_dimension, summarise=_shares)
def local_dimension(
    subject: Source,
    *,
    tokens: Sequence[int] | None = None,
    n_tokens: int = 300,
    where: Where = "embedding",
    k: tuple[int, int] = (10, 200),
    controls: Sequence[Control] = ("gaussian", "directions"),
    n_null: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure the dimension around tokens, and test whether it breaks as neighbours grow farther.

    The test is calibrated where points are evenly spread in a flat ball around the token. Every smooth cloud of many
    dimensions bends away from that, so a rejection says little by itself: read each share beside that of the matched
    Gaussian. Only an increase of the dimension is rare in smooth clouds. Near-duplicate spellings and clusters produce
    one too.

    Args:
        subject: anything `interp.load` takes.
        tokens: token ids; None draws `n_tokens` among the different rows.
        n_tokens: how many to draw.
        where: whose rows are the points, "embedding" or "unembedding".
        k: the first and the last neighbour that count; rows that coincide count once.
        controls: see `probes.geometry.clouds._clouds.Control`; each is a whole cloud, measured at as many points.
        n_null: draws of the null distribution, for a number of neighbours that the shipped table lacks. It has k from
            10 to 100, 150, 200, 300 and 500.
        seed: of the draws.

    Returns:
        One row per token and control; of a control, the token only numbers a point. `.interp.summary()` has the shares
        of tokens that break at .05 and .001.

    Raises:
        InputError: neighbours of which there are too few, or an id that is not there.

    Cost: no forward pass; a product of the tokens' rows with all rows, and exact distances of each one's neighbours.
    Drawing a control costs more: d² multiplications for every row of the vocabulary.

    Pitfall: a share of `p_break` far above the level does not say that the cloud is no manifold: a smooth Gaussian of
    the same covariance has it too. Compare `p_increase` with the control "gaussian".

    >>> frame = local_dimension("reference", n_tokens=40, k=(10, 100))
    >>> frame.interp.summary()[["control", "n_tokens"]].values.tolist()
    [['none', 40], ['gaussian', 40], ['directions', 40]]
    """
    low, high = k
    if low < 1 or high - low < 2 * LEAST:
        raise InputError(
            f"k={(low, high)}: give a first neighbour of 1 or more and a last one at least {2 * LEAST} on."
        )
    if n_tokens < 1 or n_null < 999:
        raise InputError(f"n_tokens={n_tokens}, n_null={n_null}: give 1 token and 999 draws, or more.")
    parameters = {
        "tokens": None if tokens is None else list(tokens), "n_tokens": n_tokens, "where": where, "k": [low, high],
        "controls": list(controls), "n_null": n_null,
    }  # fmt: skip
    run = Run(LOCAL_DIMENSION, subject, None, parameters=parameters, seed=seed)
    if tokens is not None:
        require_known_tokens(run.subject, tokens)
        if not len(tokens):
            raise InputError("tokens=[]: give at least one token id, or None to draw some.")
    rows = weight_rows(run.subject, where)
    own = distinct_rows(rows)
    if len(own) <= high:
        raise InputError(f"the {len(own)} different rows of {run.subject.name!r} have no neighbour {high}; give less.")
    ids, places = _asked(rows, own, tokens, n_tokens, seed)
    points = rows if len(own) == len(rows) else rows[own]
    parts = []
    for control in ("none", *dict.fromkeys(controls)):
        cloud = points if control == "none" else controlled(points, control, seed)  # type: ignore[arg-type]
        found = _measured(cloud - cloud.mean(axis=0, dtype=np.float64).astype(cloud.dtype), places, low, high, n_null)
        parts.append(found | {"token_id": ids, "where": where, "control": control, "k_low": low, "k_high": high})
    return run.frame(parts)


def _asked(
    rows: np.ndarray, own: np.ndarray, tokens: Sequence[int] | None, n_tokens: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return token ids and the place of each one's row among the different rows, int64 [n] each."""
    if tokens is None:
        places = np.sort(np.random.default_rng(seed).permutation(len(own))[:n_tokens])
        return own[places], places
    ids = np.array(list(dict.fromkeys(tokens)))
    place = {(rows[index] + 0.0).tobytes(): number for number, index in enumerate(own)}
    return ids, np.array([place[(rows[index] + 0.0).tobytes()] for index in ids])


def _measured(points: np.ndarray, places: np.ndarray, low: int, high: int, n_null: int) -> dict[str, Any]:
    """Return the columns of a cloud, at the points in `places`."""
    distances, _ = nearest(points, places, high)
    spaces = spacings(np.maximum(distances, np.finfo(float).tiny), low)
    found = scan(spaces)
    p_break, p_increase = p_values(found, high - low, n_null)
    halves = np.array(list(_on_each_side(spaces, found.split)))
    return {
        "radius_low": distances[:, low - 1],
        "radius_high": distances[:, high - 1],
        "dimension": dimension(spaces),
        "dimension_near": halves[:, 0],
        "dimension_far": halves[:, 1],
        "split_k": low + found.split,
        "p_break": p_break,
        "p_increase": p_increase,
        "q_increase": benjamini_hochberg(p_increase),
    }


def _on_each_side(spaces: np.ndarray, split: np.ndarray) -> Iterator[tuple[float, float]]:
    for row, at in zip(spaces, split.tolist(), strict=True):
        yield float(dimension(row[None, :at])[0]), float(dimension(row[None, at:])[0])
