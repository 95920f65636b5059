"""Subjoiner heads: which attention heads carry earlier pieces of a word to its last one?

After Lad, Gurnee & Tegmark (arXiv 2406.19384), who find them by comparing words of four tokens with words of one. Here
the comparison is within each text: attention from a word's last piece to its other pieces, against attention from the
ends of words as many tokens back to tokens outside that word. The ends are those before and after in the text, because
attention spreads over more tokens further on. A head whose attention depends on distance alone scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import Column, InputError, Run, Schema, Source, Texts, columns, probe
from interp.model.sites import observing
from interp.stats import holm
from interp.stats.units import mean_over_units
from probes import papers
from probes.attention import plots
from probes.attention._word_pairs import word_pairs

LEAST_SCORE = 0.05
"""The score from which a head counts as a subjoiner, a twentieth of its attention: ours, as the paper names none."""
CONTROL = "distance_only"
_ALPHA, _N_RESAMPLES = 0.05, 1999

SUBJOINERS = Schema(
    probe="subjoiner_heads",
    paper=papers.STAGES_OF_INFERENCE,
    rows="one per attention head and control",
    columns=columns(
        "model",
        "run_id",
        Column("layer", "int", "the block, 0..L-1", low=0),
        "head",
        "control",
        Column("within", "float", "mean attention from a word's last token to its others", "0..1", low=0.0, high=1.001),
        Column("across", "float", "the same as far back, across a word boundary", "0..1", low=0.0, high=1.001),
        Column("score", "float", "within - across"),
        Column("score_low", "float", "lower end of the score's 95 % interval over prompts", missing=True),
        Column("score_high", "float", "upper end of that interval", missing=True),
        Column("p", "float", "two-sided p-value of a score of 0, of this head alone", "0..1", 0.0, 1.0, missing=True),
        Column("n_pairs", "int", "pairs of a last token and another of its word", low=1),
        Column("n_prompts", "int", "prompts with such pairs", low=1),
    ),
)


def summarise_heads(frame: pd.DataFrame) -> pd.DataFrame:
    """Count each block's subjoiners, and give its best head with the score; one row per block.

    A head counts if its score is at least `LEAST_SCORE`, and above 0 after Holm's correction over the model's heads.

    Returns:
        `n_heads`, `n_above`, and `n_above_chance`, the same count for the control, whose attention depends on distance
        alone; the head with the highest score, its interval, and `p_holm`, corrected.
    """
    by = ["model", "run_id", "layer"]
    frame = frame.assign(p_holm=frame.groupby(["model", "run_id", "control"])["p"].transform(_corrected))
    above = (frame["p_holm"] < _ALPHA) & (frame["score"] >= LEAST_SCORE)
    chance = frame["control"] == CONTROL
    flags = frame.assign(n_heads=~chance, n_above=above & ~chance, n_above_chance=above & chance)
    counts = flags.groupby(by)[["n_heads", "n_above", "n_above_chance"]].sum().reset_index()
    own = frame[~chance]
    best = own.loc[own.groupby(by)["score"].idxmax(), [*by, "head", "score", "score_low", "score_high", "p_holm"]]
    return counts.merge(best, on=by)


def _corrected(p: pd.Series) -> np.ndarray:
    return holm(p.to_numpy(dtype=float))


@probe(SUBJOINERS, plot=plots.subjoiner_heads, summarise=summarise_heads)
def subjoiner_heads(subject: Source, texts: Texts, *, truncate: bool = False) -> pd.DataFrame:
    """Score every head by how much it attends within words beyond the effect of distance.

    A word is a run of tokens of letters only; only its first token may begin with a space. Position 0 is not a key.
    Each pair within a word is compared with attention in the same prompt from the last tokens of words to tokens
    outside the word as many tokens back: from the nearest such token before and the nearest after, interpolated by the
    logarithm of the position. Pairs without both, or where the later is more than twice as far on, are left out.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per head and control: attention within, across, and their difference, means per prompt and then over
        prompts, with a 95 % interval over prompts (missing for fewer than two). The control "distance_only" is chance:
        a head that gives every distance its mean share of this head's attention, whatever stands there.

    Raises:
        InputError: no word of the texts has several tokens, or the model has no tokenizer to find words with.
        ModelError: the architecture does not show its attention.

    Cost: one forward pass with visible attention; no unembedding.

    Pitfall: heads are not independent draws, and a text without words of several tokens says nothing; compare with the
    control, since some heads look one token back whatever stands there.

    >>> frame = subjoiner_heads("reference", "prompts")
    >>> frame.groupby("control").size().to_dict(), bool((frame.score == frame.within - frame.across).all())
    ({'distance_only': 64, 'none': 64}, True)
    """
    run = Run(SUBJOINERS, subject, texts, parameters={}, truncate=truncate)
    model = run.subject
    if model.tokenizer is None:
        raise InputError(f"{model.name!r} came without a tokenizer, which finds the words; load it with tokenizer=.")
    pairs = [word_pairs([model.token_strings[index] for index in ids.tolist()]) for ids in run.tokens.ids]
    n_pairs = [int((table["across"] == 0).sum()) for table in pairs]
    if not sum(n_pairs):
        raise InputError(
            "no word of these texts has several tokens and other words before and after to compare it with; pass "
            "longer texts, or rarer words."
        )
    model.run(run.tokens.ids[0][None, :16], lambda tape: tape.last)  # refuse a model that cannot be studied
    found = np.full((len(run.tokens), model.n_layers, 2, 2, model.n_heads), np.nan)
    for batch in run.batches():
        tables = [pairs[index] for index in batch.prompts.tolist()]

        def look(
            layer: int,
            pattern: Tensor,
            tables: Sequence[pd.DataFrame] = tables,
            prompts: Tensor = batch.prompts,
            lengths: Tensor = batch.lengths,
        ) -> None:
            for one, table, index, length in zip(pattern, tables, prompts.tolist(), lengths.tolist(), strict=True):
                found[index, layer] = both_weighted(one[:, :length, :length], table)

        with ExitStack() as hooks:
            hooks.enter_context(model.showing_patterns())
            for layer in range(model.n_layers):
                hooks.enter_context(observing(model.site("pattern", layer), partial(look, layer)))
            model.run(batch.ids, lambda tape: tape.last[:, 0])
    with_pairs = np.array(n_pairs) > 0
    parts = [
        _rows(found[with_pairs, :, number], sum(n_pairs)) | {"control": control}
        for number, control in enumerate(("none", CONTROL))
    ]
    return run.frame(parts)


def both_weighted(pattern: Tensor, table: pd.DataFrame) -> np.ndarray:
    """Sum a prompt's pattern [head, query, key] over pairs with their weights, and that of its `distance_only` head.

    Returns:
        float64 [2 patterns, within or across, head].
    """
    query, key, across = (torch.tensor(table[name].to_numpy(dtype=np.int64)) for name in ("query", "key", "across"))
    weight = torch.tensor(table["weight"].to_numpy())
    totals = torch.zeros(2, 2, len(pattern), dtype=torch.float64)
    for total, entries in zip(
        totals, (pattern[:, query, key].cpu().double(), distance_only(pattern, query, key)), strict=True
    ):
        total.index_add_(0, across, (entries * weight).T)
    return totals.numpy()


def distance_only(pattern: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Return what a head would attend to if only distance mattered, at (query, key) [n]: float64 [head, n].

    Each distance has its mean attention over the prompt, scaled for each query so that its attention to all but
    position 0 stays what it is.

    Args:
        pattern: of one prompt, [head, query, key].
        query: int64 [n].
        key: int64 [n].
    """
    n = pattern.shape[-1]
    means = torch.zeros(len(pattern), n - 1, dtype=torch.float64)  # by distance; key 0 is left out
    for row in range(1, n):
        means[:, :row] += pattern[:, row, 1 : row + 1].flip(-1).cpu()
    means /= torch.arange(n - 1, 0, -1)
    reached = means.cumsum(dim=1)[:, query - 1].clamp(min=1e-30)  # distances 0 to query - 1
    elsewhere = 1 - pattern[:, query, 0].cpu().double()
    return elsewhere * means[:, query - key] / reached


def _rows(found: np.ndarray, n_pairs: int) -> dict[str, Any]:
    """Return the columns of all heads from attention [prompts, layers, within or across, heads]."""
    n_prompts, n_layers, _, n_heads = found.shape
    within, across = found.mean(axis=0).transpose(1, 0, 2).reshape(2, -1)
    scores = (found[:, :, 0] - found[:, :, 1]).reshape(n_prompts, -1)
    means = [mean_over_units(one, level=1 - _ALPHA, n_resamples=_N_RESAMPLES, seed=0) for one in scores.T]
    return {
        "layer": np.repeat(np.arange(n_layers), n_heads),
        "head": np.tile(np.arange(n_heads), n_layers),
        "within": within,
        "across": across,
        "score": within - across,
        "score_low": np.array([one.low for one in means]),
        "score_high": np.array([one.high for one in means]),
        "p": np.array([one.p(0.0) for one in means]),
        "n_pairs": n_pairs,
        "n_prompts": n_prompts,
    }
