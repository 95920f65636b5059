"""Subjoiner heads: which attention heads carry earlier pieces of a word to its last one?

After Lad, Gurnee & Tegmark (arXiv 2406.19384), who find them by comparing words of four tokens with words of one. Here
the comparison is within each text: attention from a word's last piece to its other pieces, against attention from the
ends of words as many tokens back to tokens outside that word. A head that looks back a fixed distance scores 0.
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
from interp.stats import bootstrap_over_prompts
from probes import papers
from probes.attention import plots

SUBJOINERS = Schema(
    probe="subjoiner_heads",
    paper=papers.STAGES_OF_INFERENCE,
    rows="one per attention head",
    columns=columns(
        "model",
        "run_id",
        Column("layer", "int", "the block, 0..L-1", low=0),
        "head",
        Column("within", "float", "mean attention from a word's last token to its others", "0..1", low=0.0, high=1.001),
        Column("across", "float", "the same as far back, across a word boundary", "0..1", low=0.0, high=1.001),
        Column("score", "float", "within - across"),
        Column("score_low", "float", "lower end of the score's 95 % bootstrap interval over prompts", missing=True),
        Column("score_high", "float", "upper end of that interval", missing=True),
        Column("n_pairs", "int", "pairs of a last token and another of its word", low=1),
        Column("n_prompts", "int", "prompts with such pairs", low=1),
    ),
)


def summarise_heads(frame: pd.DataFrame) -> pd.DataFrame:
    """Count each block's heads whose interval is above 0, and give its best head with the score; one row per block."""
    by = ["model", "run_id", "layer"]
    counts = frame.assign(n_heads=1, n_above=frame["score_low"] > 0).groupby(by)[["n_heads", "n_above"]].sum()
    best = frame.loc[frame.groupby(by)["score"].idxmax(), [*by, "head", "score", "score_low", "score_high"]]
    return counts.reset_index().merge(best, on=by)


@probe(SUBJOINERS, plot=plots.subjoiner_heads, summarise=summarise_heads)
def subjoiner_heads(subject: Source, texts: Texts, *, truncate: bool = False) -> pd.DataFrame:
    """Score every head by how much it attends within words beyond the effect of distance.

    A word is a run of tokens of letters only; only its first token may begin with a space. Position 0 is not a key.
    Each pair within a word is compared with attention in the same prompt from the last tokens of words to tokens
    outside the word as many tokens back, on average; pairs without such a comparison are left out.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per head: attention within, across, and their difference, means per prompt and then over prompts, with a
        95 % bootstrap interval over prompts (missing for fewer than two).

    Raises:
        InputError: no word of the texts has several tokens, or the model has no tokenizer to find words with.
        ModelError: the architecture does not show its attention.

    >>> frame = subjoiner_heads("reference", ["The astronomers photographed Betelgeuse", "An unflinching hippopotamus"])
    >>> frame.shape[0], bool((frame.score == frame.within - frame.across).all())
    (64, True)
    """
    run = Run(SUBJOINERS, subject, texts, parameters={}, truncate=truncate)
    model = run.subject
    if model.tokenizer is None:
        raise InputError(f"{model.name!r} came without a tokenizer, which finds the words; load it with tokenizer=.")
    pairs = [word_pairs([model.token_strings[index] for index in ids.tolist()]) for ids in run.tokens.ids]
    n_pairs = [int((table["across"] == 0).sum()) for table in pairs]
    if not sum(n_pairs):
        raise InputError(
            "no word of these texts has several tokens and another word to compare it with; pass longer texts, or "
            "rarer words."
        )
    model.run(run.tokens.ids[0][None, :16], lambda tape: tape.last)  # refuse a model that cannot be studied
    found = np.full((len(run.tokens), model.n_layers, 2, model.n_heads), np.nan)
    for batch in run.batches():
        chosen = [pairs[index].assign(row=row) for row, index in enumerate(batch.prompts.tolist())]
        table = pd.concat(chosen, ignore_index=True)

        def look(layer: int, pattern: Tensor, table: pd.DataFrame = table, prompts: Tensor = batch.prompts) -> None:
            found[prompts.numpy(), layer] = _weighted(pattern, table)

        with ExitStack() as hooks:
            hooks.enter_context(model.showing_patterns())
            for layer in range(model.n_layers):
                hooks.enter_context(observing(model.site("pattern", layer), partial(look, layer)))
            model.run(batch.ids, lambda tape: tape.last[:, 0])
    with_pairs = np.array(n_pairs) > 0
    return run.frame([_rows(found[with_pairs], sum(n_pairs))])


def word_pairs(tokens: Sequence[str]) -> pd.DataFrame:
    """Find pairs of positions in a prompt, within words and, as a comparison, across their boundaries.

    Args:
        tokens: as text, with leading spaces.

    Returns:
        Columns `query` (last token of a word), `key` (before it, not position 0), `across` (0 or 1), and `weight`: the
        weighted sum of attention over pairs within words is their mean, and over pairs across words the mean with the
        same distribution of distances.

    >>> word_pairs(["<s>", " un", "kind", " cat"])[["query", "key", "across"]].values.tolist()
    [[2, 1, 0], [3, 2, 1]]
    """
    letters = [token.lstrip().isalpha() for token in tokens]
    joins = [at > 0 and letters[at] and letters[at - 1] and not token[0].isspace() for at, token in enumerate(tokens)]
    start, rows = 0, []
    for query in range(len(tokens)):
        start = start if joins[query] else query
        if not letters[query] or (query + 1 < len(tokens) and joins[query + 1]):
            continue
        rows += [(query, key, query - key, int(key < start)) for key in range(1, query)]
    table = pd.DataFrame(rows, columns=["query", "key", "distance", "across"])
    sizes = table.pivot_table(index="distance", columns="across", aggfunc="size", fill_value=0)
    sizes = sizes.reindex(columns=[0, 1], fill_value=0)
    sizes = sizes[(sizes[0] > 0) & (sizes[1] > 0)]  # only distances with pairs of both kinds
    table = table[table["distance"].isin(sizes.index)]
    n_within = sizes[0].sum()
    share = sizes[0] / n_within
    per_pair = np.where(
        table["across"] == 0, 1 / max(n_within, 1), table["distance"].map(share) / table["distance"].map(sizes[1])
    )
    return table.assign(weight=per_pair.astype(float)).reset_index(drop=True)


def _weighted(pattern: Tensor, table: pd.DataFrame) -> np.ndarray:
    """Sum a pattern [batch, head, query, key] over pairs with their weights: [batch, within or across, head]."""
    row, query, key, across = (torch.tensor(table[name].to_numpy(dtype=np.int64)) for name in _INDICES)
    entries = pattern[row, :, query, key].cpu().double() * torch.tensor(table["weight"].to_numpy())[:, None]
    totals = torch.zeros(2 * len(pattern), pattern.shape[1], dtype=torch.float64)
    return totals.index_add_(0, 2 * row + across, entries).view(len(pattern), 2, -1).numpy()


_INDICES = ("row", "query", "key", "across")


def _rows(found: np.ndarray, n_pairs: int) -> dict[str, Any]:
    """Return the columns of all heads from attention [prompts, layers, within or across, heads]."""
    n_prompts, n_layers, _, n_heads = found.shape
    prompt, layer, head = (axis.ravel() for axis in np.indices((n_prompts, n_layers, n_heads)))
    within, across = found[:, :, 0].ravel(), found[:, :, 1].ravel()
    table = pd.DataFrame({"prompt_id": prompt, "layer": layer, "head": head, "score": within - across})
    scores = bootstrap_over_prompts(table, ["layer", "head"], ["score"])
    within, across = found.mean(axis=0).transpose(1, 0, 2).reshape(2, -1)
    return {
        "layer": scores["layer"].to_numpy(),
        "head": scores["head"].to_numpy(),
        "within": within,
        "across": across,
        "score": within - across,
        "score_low": scores["score_low"].to_numpy(),
        "score_high": scores["score_high"].to_numpy(),
        "n_pairs": n_pairs,
        "n_prompts": n_prompts,
    }
