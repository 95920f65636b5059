"""Measure whether the pooled states of longer texts lie closer together (Zhou et al. 2025), at every layer.

The theorem and its remedy are about bidirectional attention, which averages all tokens. With a causal pattern the first
token sees itself alone and the argument does not carry over: read the numbers, not the theorem. As no state sees what
comes after it, one pass over the longest cut of a text has the states of all shorter ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

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
    dataset,
    probe,
    say_cost,
    whole_frame,
    whole_numbers,
)
from interp.model.tape import Tape
from interp.stats import mean_over_units
from interp.stats.clouds import participation
from probes import papers
from probes.geometry.clouds import plots
from probes.geometry.clouds._clouds import layers_read
from probes.geometry.clouds._prompt_clouds import PromptCloud

Pooling: TypeAlias = Literal["mean", "last"]
Against: TypeAlias = Literal["shuffled", "gaussian"]

_FEWEST = 4  # texts

LENGTH_COLLAPSE = Schema(
    probe="length_collapse",
    paper=papers.LENGTH_COLLAPSE,
    rows="one per layer, length, control and metric",
    columns=columns(
        *("model", "run_id", "layer"),
        Column("n_tokens", "int", "tokens read of each text, the first included, which is not pooled", low=2),
        VOCABULARY["control"].with_(
            meaning="'none'; 'shuffled' for the same tokens in random order; 'gaussian' for pooled states of the same "
            "mean and covariance"
        ),
        Column(
            "metric",
            "str",
            "mean_cosine of two texts; isoscore of the cloud of texts (0 one axis, 1 all alike); high_frequency: share "
            "of a text's states' norm that their mean leaves",
        ),
        Column("value", "float", "the metric", missing=True),
        Column("low", "float", "lower end of its 95 % interval, over texts", missing=True),
        Column("high", "float", "upper end", missing=True),
        Column("n_prompts", "int", "texts, all of the longest length", low=1),
    ),
)


def _example(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    return {"texts": dataset("stories").head(12), "lengths": (8, 32)}


@probe(LENGTH_COLLAPSE, plot=plots.length_collapse, summarise=whole_frame, example=_example)
def length_collapse(
    subject: Source,
    texts: Texts,
    *,
    lengths: Sequence[int] = (16, 64, 256),
    layers: Layers = "all",
    pooling: Pooling = "mean",
    controls: Sequence[Against] = ("shuffled", "gaussian"),
    n_resamples: int = 999,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure how alike the pooled states of texts are, of the same texts cut to several lengths.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; those that are shorter than the longest length are left out, so that
            all lengths are of the same texts.
        lengths: numbers of tokens, the first included, which is read and not pooled.
        layers: which layers of the residual stream, 0..L.
        pooling: "mean" of all tokens, or the "last" one.
        controls: "shuffled" gives the model the tokens of each cut in random order; "gaussian" draws as many pooled
            states of the same mean and covariance, whose IsoScore differs by sampling alone. `high_frequency` is a
            function of these two, and has no such control.
        n_resamples: bootstrap draws of the intervals.
        seed: of the orders, which hang on the contents of the texts, and of the draws.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per layer, length, control and metric.

    Raises:
        InputError: a length below 2, fewer than four texts of the longest, or no such layer.

    Cost: one forward pass over the longest cuts, and one for each length of "shuffled".

    Pitfall: a mean of more tokens varies less, whatever the model does: a mean cosine that rises with the length says
    little before it rises more than that of "shuffled" and in layer 0.

    >>> from interp.authoring import dataset
    >>> frame = length_collapse("reference", dataset("stories").head(8), lengths=[8, 32], layers=[0, 8])
    >>> frame.groupby("control")["metric"].nunique().to_dict()
    {'gaussian': 2, 'none': 3, 'shuffled': 3}
    """
    asked = sorted(set(whole_numbers(lengths, "lengths")))
    if asked[0] < 2 or n_resamples < 1:
        raise InputError(f"lengths={asked}, n_resamples={n_resamples}: give lengths of 2 or more, and 1 resample.")
    parameters = {
        "lengths": asked, "layers": layers, "pooling": pooling, "controls": list(controls), "n_resamples": n_resamples
    }  # fmt: skip
    run = Run(LENGTH_COLLAPSE, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    read = layers_read(run.subject, layers)
    long = np.array([len(ids) >= asked[-1] for ids in run.tokens.ids])
    if long.sum() < _FEWEST:
        raise InputError(
            f"{long.sum()} of {len(long)} texts have {asked[-1]} tokens; give at least {_FEWEST}, or shorter lengths."
        )
    say_cost(run, passes=1 + ("shuffled" in controls) * sum(asked) / asked[-1])
    keys = content_keys(run.tokens.ids, seed)
    natural = _pooled(run, read, asked, long, pooling, _as_they_are)
    conditions = {("none", n): one for n, one in zip(asked, natural, strict=True)}
    if "shuffled" in controls:
        for n in asked:
            (conditions["shuffled", n],) = _pooled(run, read, [n], long, pooling, partial(_shuffled, keys=keys))
    rows: list[dict[str, Any]] = []
    for (control, n), (pooled, frequencies) in conditions.items():
        for place, layer in enumerate(read):
            at = {"layer": layer, "n_tokens": n, "n_prompts": int(long.sum())}
            cloud = PromptCloud(np.arange(len(pooled[place])), pooled[place] @ pooled[place].T)
            found = _of_cloud(cloud, run.subject.d_model)
            found["high_frequency"] = float(frequencies[place].mean()), frequencies[place]
            rows += [at | {"control": control} | one for one in _with_intervals(found, n_resamples, seed)]
            if control == "none" and "gaussian" in controls:
                draws = np.random.default_rng([seed, layer, n]).standard_normal((len(cloud.gram), len(cloud.gram)))
                drawn = _of_cloud(cloud.gaussian(draws), run.subject.d_model)
                rows += [at | {"control": "gaussian"} | one for one in _with_intervals(drawn, n_resamples, seed)]
    return run.frame(rows)


def _as_they_are(ids: Tensor, prompts: Sequence[int]) -> Tensor:
    return ids


def _shuffled(ids: Tensor, prompts: Sequence[int], keys: np.ndarray) -> Tensor:
    found = ids.clone()
    for row, prompt in enumerate(prompts):
        order = np.random.default_rng([int(keys[prompt]), ids.shape[1]]).permutation(ids.shape[1] - 1)
        found[row, 1:] = ids[row, torch.from_numpy(1 + order)]
    return found


def _pooled(
    run: Run,
    layers: Sequence[int],
    lengths: Sequence[int],
    long: np.ndarray,
    pooling: Pooling,
    order: Callable[[Tensor, Sequence[int]], Tensor],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each length the pooled states, [layer, text, d_model], and each text's high frequencies."""
    place = np.cumsum(long) - 1
    shape = len(layers), int(long.sum())
    found = [(np.empty((*shape, run.subject.d_model)), np.empty(shape)) for _ in lengths]
    for batch in run.batches(2):
        prompts = [prompt for prompt in batch.prompts.tolist() if long[prompt]]
        if not prompts:
            continue
        ids = order(_cut(batch, long, lengths[-1]), prompts)
        states = run.subject.run(ids, partial(_states, layers=layers)).numpy().astype(np.float64)
        for n, (pooled, frequencies) in zip(lengths, found, strict=True):
            tokens = states[:, :, 1:n]
            mean = tokens.mean(axis=2)
            pooled[:, place[prompts]] = mean if pooling == "mean" else tokens[:, :, -1]
            whole = np.square(tokens).sum(axis=(2, 3))
            rest = np.square(tokens - mean[:, :, None]).sum(axis=(2, 3))
            frequencies[:, place[prompts]] = np.sqrt(rest / np.maximum(whole, np.finfo(float).tiny))
    return found


def _cut(batch: Batch, long: np.ndarray, n: int) -> Tensor:
    return batch.ids[torch.from_numpy(long[batch.prompts.numpy()])][:, :n]


def _states(tape: Tape, layers: Sequence[int]) -> Tensor:
    return torch.stack([tape.residual(layer) for layer in layers]).cpu().float()


def _of_cloud(cloud: PromptCloud, d: int) -> dict[str, tuple[float, np.ndarray]]:
    """Return each metric of a cloud of texts, and its pseudo-value for each text; see `interp.stats.jackknife`."""
    n, everyone = len(cloud.places), cloud.places
    whole = _metrics(cloud, d)
    rest = [_metrics(cloud.part(np.delete(everyone, one)), d) for one in everyone]
    return {name: (value, n * value - (n - 1) * np.array([one[name] for one in rest])) for name, value in whole.items()}


def _metrics(cloud: PromptCloud, d: int) -> dict[str, float]:
    centred = cloud.centred()
    ratio = participation(len(centred), float(np.trace(centred)), float(np.square(centred).sum()), debiased=True)
    return {"mean_cosine": cloud.mean_cosine(), "isoscore": (ratio - 1) / (d - 1) if d > 1 else float("nan")}


def _with_intervals(
    found: Mapping[str, tuple[float, np.ndarray]], n_resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    for name, (value, of_texts) in found.items():
        known = bool(np.isfinite(of_texts).all())
        mean = mean_over_units(of_texts, level=0.95, n_resamples=n_resamples, seed=seed) if known else None
        low, high = (np.nan, np.nan) if mean is None else (mean.low, mean.high)
        yield {"metric": name, "value": value, "low": low, "high": high}
