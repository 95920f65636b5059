"""Measure how the variance of attention's output falls with the position (Chi et al. 2023).

A head that attends evenly to m tokens of independent values writes their mean, whose variance is the m-th part: so a
model without position embeddings could tell positions apart. Here the trained model reads texts and random tokens, and
an untrained one of the same architecture reads random tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    VOCABULARY,
    Batch,
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    content_keys,
    layers_of,
    probe,
    say_cost,
    untrained,
)
from interp.model.sites import Site, recording
from interp.model.tape import Tape
from interp.stats import mean_over_units
from probes import papers
from probes.geometry.clouds import plots

Written: TypeAlias = Literal["attn_out", "mlp_out"]
Unlike: TypeAlias = Literal["iid", "untrained"]
"""A control that texts are held against: random tokens in the same model, or in an untrained one."""

_FIRST = 4  # position of the line; before it the start of the text outweighs all
_FEWEST = 3  # prompts at a position, so that one can be left out

POSITION_VARIANCE = Schema(
    probe="position_variance",
    paper=papers.POSITION_VARIANCE,
    rows="one per block, site, control and position",
    columns=columns(
        *("model", "run_id"),
        VOCABULARY["layer"].with_(meaning="the block, 0..L-1"),
        Column("site", "str", "attn_out or mlp_out: what the block adds to the residual stream there"),
        "pos",
        VOCABULARY["control"].with_(
            meaning="'none' for the texts; 'iid' for random tokens after each text's first; 'untrained' for these in a "
            "model of fresh weights"
        ),
        Column("variance", "float", "over prompts at this position, mean over dimensions", low=0.0, missing=True),
        Column("n_prompts", "int", "prompts that reach this position", low=1),
        Column(
            "slope",
            "float",
            f"of log variance on log(pos + 1), from position {_FIRST} on, weighted by prompts; the same in all rows of "
            "a block: -1 where m independent values are averaged, 0 where the position does not tell",
            missing=True,
        ),
        Column("slope_low", "float", "lower end of its 95 % interval, over prompts", missing=True),
        Column("slope_high", "float", "upper end", missing=True),
    ),
)


def _summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the slope of each block, site and control."""
    kept = ["model", "run_id", "site", "control", "layer", "slope", "slope_low", "slope_high"]
    summary = frame[kept].drop_duplicates().reset_index(drop=True)
    summary.attrs["note"] = "slope of log variance on log(pos + 1); 95 % interval over prompts, by jackknife"
    return summary


@probe(POSITION_VARIANCE, plot=plots.position_variance, summarise=_summarise)
def position_variance(
    subject: Source,
    texts: Texts,
    *,
    sites: Sequence[Written] = ("attn_out",),
    layers: Layers = "all",
    controls: Sequence[Unlike] = ("iid", "untrained"),
    n_resamples: int = 999,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure the variance over prompts of what attention writes, position by position, and its slope.

    A Gaussian cloud of the same covariance has this variance by definition: it is not among the controls.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes, three or more.
        sites: what to measure in a block, "attn_out", "mlp_out" or both.
        layers: which blocks, 0..L-1.
        controls: "iid" draws every token after a text's first evenly from the vocabulary; "untrained" gives the same
            tokens to a model of the same architecture with fresh weights, as `random_model` makes it; () for neither.
        n_resamples: bootstrap draws of the intervals.
        seed: of the tokens, which hang on the contents of the texts, and of the fresh weights.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per block, site, control and position. `.interp.summary()` has the slopes alone.

    Raises:
        InputError: fewer than three texts, no site, or no such block.
        ModelError: the architecture does not expose a site, or no fresh model can be made of it.

    Cost: two forward passes over the texts, and two for each control.

    Pitfall: texts of one start share it, and positions of texts depend on each other: a slope far from -1 does not say
    that attention is uneven. Read "iid" for what the model does to independent tokens.

    >>> texts = ["Once upon a time there was a girl", "The cat sat on the mat and slept", "He opened the old door"]
    >>> frame = position_variance("reference", texts, layers=[0, 7], controls=["iid"])
    >>> frame.interp.summary()[["control", "layer"]].values.tolist()
    [['none', 0], ['none', 7], ['iid', 0], ['iid', 7]]
    """
    if not sites or n_resamples < 1:
        raise InputError(f"sites={list(sites)}, n_resamples={n_resamples}: give at least one site and 1 resample.")
    parameters = {
        "sites": list(sites), "layers": layers, "controls": list(controls), "n_resamples": n_resamples
    }  # fmt: skip
    run = Run(POSITION_VARIANCE, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    own = run.subject
    blocks = layers_of(layers, own.n_layers - 1, own.name)
    n_prompts = len(run.tokens)
    if n_prompts < _FEWEST:
        raise InputError(f"a variance over {n_prompts} texts says little; give at least {_FEWEST}.")
    random_ids = _random_ids(run)
    conditions: dict[str, tuple[Subject, Callable[[Batch], Tensor]]] = {"none": (own, lambda batch: batch.ids)}
    if "iid" in controls:
        conditions["iid"] = (own, random_ids)
    if "untrained" in controls:
        conditions["untrained"] = (untrained(own, seed=seed), random_ids)
    places = [(block, site) for site in dict.fromkeys(sites) for block in blocks]
    say_cost(run, passes=2 * len(conditions))
    parts = []
    for control, (model, ids) in conditions.items():
        found = _deviations(run, model, [model.site(site, block) for block, site in places], ids)
        for number, (block, site) in enumerate(places):
            variance, n_at, facts = _measured(found.squares[number], found.reached, n_resamples, seed)
            parts.append(
                {"layer": block, "site": site, "control": control, "pos": np.arange(len(variance)),
                 "variance": variance, "n_prompts": n_at} | facts
            )  # fmt: skip
    return run.frame(parts)


def _random_ids(run: Run) -> Callable[[Batch], Tensor]:
    keys, most = content_keys(run.tokens.ids, run.seed or 0), min(run.subject.d_vocab, run.subject.d_embedding)

    def draw(batch: Batch) -> Tensor:
        ids = batch.ids.clone()
        for row, (prompt, n) in enumerate(zip(batch.prompts.tolist(), batch.lengths.tolist(), strict=True)):
            ids[row, 1:n] = torch.from_numpy(np.random.default_rng(int(keys[prompt])).integers(0, most, n - 1))
        return ids

    return draw


@dataclass(frozen=True)
class _Deviations:
    """Squared distances from the mean over prompts, per dimension, [place, prompt, pos]; and who reaches where."""

    squares: np.ndarray
    reached: np.ndarray


def _deviations(run: Run, model: Subject, sites: Sequence[Site], ids: Callable[[Batch], Tensor]) -> _Deviations:
    """Read the values twice: once for their means, and once for the distances from these."""
    lengths = np.array([len(one) for one in run.tokens.ids])
    longest = int(lengths.max())
    reached = np.arange(longest) < lengths[:, None]
    mean = torch.zeros(len(sites), longest, model.d_model, dtype=torch.float64)
    for batch, values in _values(run, model, sites, ids):
        there = torch.from_numpy(reached[batch.prompts.numpy(), : values.shape[2]])
        mean[:, : values.shape[2]] += (values * there[None, :, :, None]).sum(dim=1)
    mean /= torch.from_numpy(reached.sum(axis=0))[:, None]
    squares = np.zeros((len(sites), len(lengths), longest))
    for batch, values in _values(run, model, sites, ids):
        n = values.shape[2]
        squares[:, batch.prompts.numpy(), :n] = (values - mean[:, None, :n]).square().mean(dim=3).numpy()
    return _Deviations(np.where(reached, squares, 0.0), reached)


def _values(
    run: Run, model: Subject, sites: Sequence[Site], ids: Callable[[Batch], Tensor]
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch with its values at the sites, float64 [site, prompt, pos, d_model]."""
    for batch in run.batches(4):  # float64, and once more less their mean
        given = ids(batch)
        with recording(sites) as seen:
            model.run(given, _nothing)
        yield batch, torch.stack([one.reshape(*given.shape, -1).double().cpu() for one in seen if one is not None])


def _nothing(tape: Tape) -> None:
    """Read nothing of a pass."""


def _measured(
    squares: np.ndarray, reached: np.ndarray, n_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Return variance and number of prompts by position, [pos] each, and the slope with its interval.

    Args:
        squares: squared distances from the mean, [prompt, pos], 0 where a prompt does not reach.
        reached: whether it does, [prompt, pos].
        n_resamples: of the interval.
        seed: of the draws.
    """
    n_at = reached.sum(axis=0)
    total = squares.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(n_at > 1, total / (n_at - 1), np.nan)
        # Without a prompt the mean is another too: its part of the sum is n / (n - 1) times its square.
        left = n_at - reached
        without = (total - squares * n_at / (n_at - 1)) / (left - 1)
        usable = (np.arange(len(n_at)) >= _FIRST) & (n_at >= _FEWEST) & (without > 0).all(axis=0)
    if usable.sum() < 3:
        return variance, n_at, dict.fromkeys(("slope", "slope_low", "slope_high"), float("nan"))
    x, weight = np.log(np.flatnonzero(usable) + 1.0), n_at[usable] - 1.0  # a log variance is as sure as it has prompts
    x -= np.average(x, weights=weight)
    slopes = np.log(np.vstack([variance, without])[:, usable]) @ (weight * x) / (weight @ x**2)
    n = len(squares)
    pseudo = n * slopes[0] - (n - 1) * slopes[1:]
    mean = mean_over_units(pseudo, level=0.95, n_resamples=n_resamples, seed=seed)
    return variance, n_at, {"slope": float(slopes[0]), "slope_low": mean.low, "slope_high": mean.high}
