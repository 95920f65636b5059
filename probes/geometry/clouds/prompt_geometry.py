"""Measure the cloud of each prompt's tokens, layer by layer, and whether its shape goes with the prompt's loss.

Viswanathan et al. (2025) find that the dimension of a prompt's cloud peaks in middle layers, is larger for shuffled
tokens, and goes with the prompt's loss. A prompt of many different tokens has a larger dimension and a higher loss too:
the summary gives the correlation with their number held fixed beside the published one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
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
    Texts,
    columns,
    content_keys,
    one_core_each,
    probe,
    say_cost,
    whole_numbers,
)
from interp.model.tape import Tape
from interp.stats import bootstrap_over_prompts
from interp.stats.correlation import rank_correlation
from probes import papers
from probes.geometry.clouds import plots
from probes.geometry.clouds._clouds import layers_read
from probes.geometry.clouds._prompt_clouds import PromptCloud, items, measured

Against: TypeAlias = Literal["shuffled", "gaussian"]
"""A control of a prompt's cloud: the same tokens in random order, or Gaussian points of its covariance."""

PROMPT_GEOMETRY = Schema(
    probe="prompt_geometry",
    paper=papers.TOKEN_GEOMETRY,
    rows="one per prompt, layer, control, metric and scale",
    columns=columns(
        *("model", "run_id", "prompt_id", "layer"),
        VOCABULARY["control"].with_(
            meaning="'none'; 'shuffled' for the same tokens in random order; 'gaussian' for Gaussian points of the "
            "same mean and covariance, within and between layers"
        ),
        Column(
            "metric",
            "str",
            "dimension (GRIDE); overlap (share of nearest neighbours that are so in the next layer read too); "
            "mean_cosine of two tokens; neighbour_angle (mean angle at 0 to the nearest, radians)",
        ),
        Column("scale", "int", "n of the n-th and 2n-th neighbour, or number of neighbours; 0 without one", low=0),
        Column("value", "float", "the metric; missing where there are too few different points", missing=True),
        Column("n_points", "int", "different points", low=0),
        Column("n_types", "int", "different tokens of the prompt, without position 0", low=0),
        Column("loss", "float", "mean loss of the tokens from position 2 on", "nats", low=0.0, missing=True),
    ),
    summary_by=("control", "metric", "scale", "layer"),
    summary_of=("value",),
)


def _summarise(frame: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return means over prompts, and rank correlations of value and loss, plain and with distinct tokens held fixed."""
    by = ["model", "run_id", *PROMPT_GEOMETRY.summary_by]
    means = bootstrap_over_prompts(frame, by, ["value"], n_resamples=n_resamples, seed=seed)
    parts = []
    for key, group in frame.groupby(by[:3], sort=False):
        values = group.pivot(index=by[3:], columns="prompt_id", values="value")
        prompts = group.drop_duplicates("prompt_id").set_index("prompt_id").loc[values.columns]
        part = values.index.to_frame(index=False).assign(**dict(zip(by[:3], key, strict=True)))
        for name, held in (("r_loss", None), ("r_loss_types", prompts["n_types"].to_numpy(float))):
            x, y = values.to_numpy(), prompts["loss"].to_numpy()
            found = rank_correlation(x, y, held=held, n_resamples=n_resamples, seed=seed)
            part = part.assign(**dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True)))
        parts.append(part)
    summary = means.merge(pd.concat(parts), on=by, how="left")
    summary.attrs["note"] = (
        "means over prompts; r_loss is the rank correlation with the loss over prompts, r_loss_types the same with the "
        "number of different tokens held fixed; 95 % bootstrap over prompts"
    )
    return summary


def _as_it_is(table: pa.Table) -> pd.DataFrame:
    return PROMPT_GEOMETRY.restored(table.to_pandas())


@probe(PROMPT_GEOMETRY, plot=plots.prompt_geometry, summarise=_summarise, reduce=_as_it_is)
def prompt_geometry(
    subject: Source,
    texts: Texts,
    *,
    layers: Layers = "all",
    scales: Sequence[int] = (1, 2, 4, 8),
    k: Sequence[int] = (1, 8),
    controls: Sequence[Against] = ("shuffled", "gaussian"),
    shuffles: int = 1,
    blocks: int | None = None,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure dimension, neighbours and cosines of the cloud of each prompt's tokens, layer by layer.

    One prompt is one cloud, of its tokens' residuals without position 0. Points that coincide count once: in layer 0
    of a model without position embeddings those are the occurrences of a token.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; a prompt of a few hundred tokens has a dimension to speak of.
        layers: which layers of the residual stream, 0..L.
        scales: n of the dimension, from the ratio of distances to the 2n-th and the n-th neighbour. Few points give too
            low a dimension, the more so the larger n and the dimension are.
        k: numbers of nearest neighbours, for overlap and angles.
        controls: "shuffled" and "gaussian", see the column; () for none. Independent clouds of N points have an overlap
            of k / (N - 1).
        shuffles: how many orders the shuffled values are the means of.
        blocks: how many blocks of equal length are shuffled, each in its own order; None shuffles single tokens.
        seed: of the shuffles and draws, which hang on the prompt's contents and not on its place.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per prompt, layer, control, metric and scale. `.interp.summary()` has means over prompts and the rank
        correlation of each value with the prompt's loss, as published and with the number of different tokens held
        fixed. The loss of "gaussian" is the prompt's own.

    Raises:
        InputError: a scale, a number of neighbours, of blocks or of shuffles cannot be used, or there is no such layer.

    Cost for N tokens of d dimensions: one forward pass and an unembedding, and as many for each shuffle; N² d
    multiplications for each layer and of these, and 2 N³ for each layer of "gaussian".

    Pitfall: the dimension depends on the number of points, and prompts of many different tokens have both a larger one
    and a higher loss: compare prompts of equal length, and read `r_loss_types` before `r_loss`.

    >>> story = "Once upon a time there was a little girl who had a dog. She loved her dog and they played every day."
    >>> frame = prompt_geometry("reference", [story], scales=[1], k=[2], layers=[0, 4, 8])
    >>> frame.groupby("control")["metric"].nunique().to_dict()
    {'gaussian': 4, 'none': 4, 'shuffled': 4}
    """
    scales, k = whole_numbers(scales, "scales"), whole_numbers(k, "k")
    if min(scales) < 1 or min(k) < 1:
        raise InputError(f"scales={scales}, k={k}: give scales and numbers of neighbours of 1 or more.")
    if shuffles < 1 or (blocks is not None and blocks < 2):
        raise InputError(f"shuffles={shuffles}, blocks={blocks}: give 1 shuffle or more, of 2 blocks or more.")
    parameters = {
        "layers": layers, "scales": scales, "k": k, "controls": list(controls), "shuffles": shuffles, "blocks": blocks,
    }  # fmt: skip
    run = Run(PROMPT_GEOMETRY, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    asked = _Asked(
        layers_read(run.subject, layers), list(dict.fromkeys(scales)), list(dict.fromkeys(k)),
        "gaussian" in controls, shuffles if "shuffled" in controls else 0, blocks, content_keys(run.tokens.ids, seed),
    )  # fmt: skip
    n_tokens = sum(map(len, run.tokens.ids))
    say_cost(run, passes=1 + asked.shuffles, unembedded=n_tokens * (1 + asked.shuffles))
    return run.frame(_rows(run, asked))


@dataclass(frozen=True)
class _Asked:
    """The checked arguments, and a key for each prompt's random choices."""

    layers: list[int]
    scales: list[int]
    k: list[int]
    gaussian: bool
    shuffles: int
    blocks: int | None
    keys: np.ndarray

    def order(self, prompt: int, n: int, shuffle: int) -> np.ndarray:
        """Return the order of a prompt's n tokens in a shuffle; the first stays."""
        random = np.random.default_rng([int(self.keys[prompt]), shuffle])
        if self.blocks is None:
            return np.concatenate([[0], 1 + random.permutation(n - 1)])
        parts = np.array_split(np.arange(1, n), self.blocks)
        return np.concatenate([[0], *(parts[one] for one in random.permutation(len(parts)))]).astype(int)


def _rows(run: Run, asked: _Asked) -> Iterator[dict[str, Any]]:
    with one_core_each() as pool:
        for batch in run.batches(2):
            passes = [_states(run, batch, batch.ids, asked.layers)]
            passes += [
                _states(run, batch, _shuffled(batch, asked, number), asked.layers) for number in range(asked.shuffles)
            ]
            n_prompts = len(batch.lengths)
            yield from chain.from_iterable(pool.map(partial(_of_prompt, run, batch, asked, passes), range(n_prompts)))


def _shuffled(batch: Batch, asked: _Asked, number: int) -> Tensor:
    ids = batch.ids.clone()
    for row, (prompt, n) in enumerate(zip(batch.prompts.tolist(), batch.lengths.tolist(), strict=True)):
        ids[row, :n] = ids[row, torch.from_numpy(asked.order(prompt, n, number))]
    return ids


def _states(run: Run, batch: Batch, ids: Tensor, layers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the states of ids in the layers, [layer, prompt, pos, d_model], and the mean loss of each prompt."""
    n = ids.shape[1]
    row, pos = (torch.arange(1, max(1, n - 1)) < batch.lengths[:, None] - 1).nonzero(as_tuple=True)
    pos = pos + 1  # the first loss is that of position 1, of the token after it
    read = run.subject.reader(targets=ids[row, (pos + 1).clamp(max=n - 1)][:, None], entropy=False, kl=False)

    def program(tape: Tape) -> tuple[Tensor, Tensor]:
        states = torch.stack([tape.residual(layer) for layer in layers]).cpu()
        if not len(row):
            return states, torch.empty(0)
        last = tape.last[row.to(tape.last.device), pos.to(tape.last.device)]
        return states, read(tape, [last], last).log_prob[0, :, 0].cpu()

    states, log_prob = run.subject.run(ids, program)
    n_losses = np.bincount(row.numpy(), minlength=len(ids))
    with np.errstate(invalid="ignore"):
        loss = np.bincount(row.numpy(), -log_prob.double().numpy(), minlength=len(ids)) / n_losses
    return (states if states.dtype == torch.float64 else states.float()).numpy(), loss


def _of_prompt(
    run: Run, batch: Batch, asked: _Asked, passes: Sequence[tuple[np.ndarray, np.ndarray]], row: int
) -> list[dict[str, Any]]:
    """Return the columns of one prompt, under each control."""
    n, prompt = int(batch.lengths[row]), int(batch.prompts[row])
    clouds = [[PromptCloud.of(layer) for layer in states[:, row, 1:n]] for states, _ in passes]
    losses = [loss[row] for _, loss in passes]
    found = {"none": ([clouds[0]], losses[0])}
    if asked.shuffles:
        found["shuffled"] = (clouds[1:], float(np.mean(losses[1:])))
    if asked.gaussian:
        draws = np.random.default_rng([int(asked.keys[prompt]), asked.shuffles]).standard_normal((n - 1, n - 1))
        found["gaussian"] = ([[cloud.gaussian(draws) for cloud in clouds[0]]], losses[0])
    named = items(asked.scales, asked.k)
    metric: np.ndarray = np.array([name for name, _ in named], dtype=object)
    scale: np.ndarray = np.array([number for _, number in named])
    there = np.ones((len(asked.layers), len(named)), dtype=bool)
    there[-1] = metric != "overlap"  # there is no next layer
    which, item = there.nonzero()
    parts = []
    for control, (variants, loss) in found.items():
        values = np.mean([measured(one, asked.scales, asked.k) for one in variants], axis=0)
        n_points = np.array([len(cloud.places) for cloud in variants[0]])
        parts.append(
            {
                "prompt_id": np.full(len(which), int(run.tokens.table["prompt_id"].iat[prompt])),
                "layer": np.array(asked.layers)[which], "control": control, "metric": metric[item],
                "scale": scale[item], "value": values[which, item], "n_points": n_points[which],
                "n_types": len(np.unique(batch.ids[row, 1:n])), "loss": float(loss),
            }
        )  # fmt: skip
    return parts
