"""Pair attribution: which tokens of two texts make their pooled states alike (after Möller et al. 2023)?

The dot product of two texts' states is divided over pairs of tokens by integrated Jacobians, which sum to the product
without the references' parts. An unrelated text in place of the second one is the control.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    VOCABULARY,
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    Tokens,
    columns,
    content_keys,
    layers_of,
    load,
    probe,
    progress_bar,
    say_cost,
    start_ids,
    warn,
)
from probes import papers
from probes.attribution._embedding import baseline_residual
from probes.attribution.pairs import plots
from probes.attribution.pairs._jacobians import Encoded, encoded

Pairs: TypeAlias = pd.DataFrame | Sequence[tuple[str, str]]
"""Two texts each: a list of pairs, or a frame with the columns `text_a` and `text_b`."""

Reference: TypeAlias = Literal["mean_embedding", "zero"]
"""The stand-in for every token where the path begins."""

PAIRS = Schema(
    probe="pair_attribution",
    paper=papers.SIAMESE_ATTRIBUTION,
    rows="one per pair of texts, control, and pair of tokens",
    columns=columns(
        *("model", "run_id"),
        VOCABULARY["prompt_id"].with_(meaning="number of the pair"),
        Column("pos_a", "int", "position in the first text", low=0),
        Column("token_a_id", "int", "the token there", low=0),
        Column("token_a", "str", "the token there, as text"),
        Column("pos_b", "int", "position in the second text", low=0),
        Column("token_b_id", "int", "the token there", low=0),
        Column("token_b", "str", "the token there, as text"),
        VOCABULARY["control"].with_(meaning="'none', or 'other': another pair's second text"),
        VOCABULARY["score"].with_(meaning="the two tokens' part of `sum_of_scores`"),
        Column("sum_of_scores", "float", "dot product of both differences from the references, which scores divide"),
        Column("completeness", "float", "how far their sum is from that, relative to the lengths of both differences"),
        Column("dot", "float", "dot product of the two pooled states, without `centre`"),
        Column("cosine", "float", "their cosine, without `centre`", low=-1.0, high=1.0),
    ),
    summary_by=("control",),
    summary_of=("sum_of_scores", "completeness", "dot", "cosine"),
)  # fmt: skip


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    return {"pairs": [("The cat sat", "A dog ran"), ("The sun was hot", "He had a red ball")], "steps": 4}


@probe(PAIRS, plot=plots.pair_attribution, example=_example, jointly=True)
def pair_attribution(
    subject: Source,
    pairs: Pairs,
    *,
    layer: Layers = -1,
    pooling: Literal["mean", "last"] = "mean",
    reference: Reference = "mean_embedding",
    steps: int = 20,
    centre: Tensor | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide the dot product of two texts' pooled states over pairs of their tokens.

    Args:
        subject: anything `interp.load` takes.
        pairs: pairs of texts, or a frame with the columns `text_a` and `text_b`.
        layer: the one that is pooled: 0 enters the first block, L leaves the last; negative ones from the last.
        pooling: "mean" over a text's tokens, without position 0 where there are others, or "last".
        reference: the path begins where every token of the text is the mean of the embedding's rows, or "zero".
        steps: parts of the path; `completeness` says whether they are enough.
        centre: a vector to take off both pooled states, float [d_model], such as `bank.at(layer).mean`: it changes
            `dot` and `cosine` only, as scores are of differences.
        seed: of the draw of the control's texts.

    Returns:
        For each pair of texts a row for each pair of their tokens, and the same with another pair's second text, the
        control "other". `sum_of_scores` is f(a, b) - f(r, b) - f(a, r) + f(r, r) for the dot product f and the
        reference r, which is not `dot`: the reference's own state is far from 0 in a causal model. `score * cosine /
        dot` divides the cosine.

    Raises:
        InputError: there are no pairs, one is not of two texts, or an argument is out of range.
        ModelError: the model has an operation without a forward-mode derivative, or embeddings that are not rows of
            its matrix.

    Cost for a text of n tokens: `steps` times n forward passes of twice the arithmetic, once for each different text.

    Pitfall: a causal model's tokens know what stands before them, so that a score belongs to the tokens as they enter
    the first block, and not to the states above them. Read `completeness`: 20 steps leave .001 on the shipped model and
    up to .16 on SmolLM2, whose texts have no start token to keep and lose their attention sink on the way.

    >>> frame = pair_attribution("reference", [("A cat", "The dog"), ("The sun", "A red ball")], layer=2, steps=4)
    >>> own = frame[(frame.control == "none") & (frame.prompt_id == 0)]
    >>> own.token_a.tolist(), bool(own.completeness.abs().max() < 0.1)
    (['A', 'A', ' cat', ' cat'], True)
    """
    if steps < 1:
        raise InputError(f"steps={steps}: give at least 1.")
    table = _table(pairs)
    subject = load(subject)
    several = layers_of(layer, subject.n_layers, subject.name)
    if len(several) > 1:
        raise InputError(f"layer={layer!r}: the states of one layer are compared; give one number.")
    (chosen,) = several
    if centre is not None and (centre.shape != (subject.d_model,) or not centre.is_floating_point()):
        raise InputError(
            f"centre is {centre.dtype} {list(centre.shape)}: give floating-point numbers [{subject.d_model}]."
        )
    first, second = (subject.tokens(table[name].tolist(), truncate=None) for name in ("text_a", "text_b"))
    joined = table.drop(columns=["text_a", "text_b"]).assign(
        input_ids=[torch.cat(both).tolist() for both in zip(first.ids, second.ids, strict=True)]
    )
    parameters = {
        "layer": chosen, "pooling": pooling, "reference": reference, "steps": steps,
        "centre": None if centre is None else centre.double().tolist(), "lengths": [len(ids) for ids in first.ids],
    }  # fmt: skip
    tokens = Tokens([torch.tensor(ids) for ids in joined["input_ids"]], _numbered(joined), first.bos, first.n_cut)
    run = Run(PAIRS, subject, tokens, parameters=parameters, seed=seed)
    others = _others(first.ids, second.ids, seed)
    start = len(start_ids(subject.tokenizer))
    texts = {tuple(ids.tolist()): ids for ids in (*first.ids, *second.ids)}
    bare = baseline_residual(subject, max(map(len, texts)), "mean" if reference == "mean_embedding" else "zero")
    # A pass for each step and token of a text, of twice the arithmetic.
    n_tokens = sum(map(len, texts))
    say_cost(run, passes=2 * steps * sum(len(one) ** 2 for one in texts) / n_tokens, n_tokens=n_tokens)
    known: dict[tuple[int, ...], Encoded] = {}
    with progress_bar(n_tokens, "token", "pair_attribution", n_steps=len(texts)) as bar:
        for key, ids in texts.items():
            inside = start if len(ids) > start else 0
            pool = _pool(len(ids), inside, pooling)
            known[key] = encoded(subject, ids, bare[: len(ids)], inside, pool, chosen, steps)
            bar.update(len(ids))
    rows = partial(_rows, known=known, centre=centre)
    parts = []
    for number, a, b, other in zip(tokens.table["prompt_id"], first.ids, second.ids, others, strict=True):
        parts.append(rows(a, b) | {"prompt_id": number, "control": "none"})
        if other is not None:
            parts.append(rows(a, other) | {"prompt_id": number, "control": "other"})
    return run.frame(parts)


def _table(pairs: Pairs) -> pd.DataFrame:
    """Return the pairs as a frame of `text_a`, `text_b` and the user's other columns.

    Raises:
        InputError: there are none, or one is not of two texts.
    """
    if isinstance(pairs, pd.DataFrame):
        for name in ("text_a", "text_b"):
            if name not in pairs.columns:
                raise InputError(
                    f"the frame has no column {name!r}, only {list(pairs.columns)}; give text_a and text_b."
                )
        table = pairs.reset_index(drop=True)
    else:
        table = pd.DataFrame([tuple(pair) for pair in pairs], columns=["text_a", "text_b"])
    if table.empty:
        raise InputError("no pairs were given; pass at least one.")
    return table


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    table = table.drop(columns="input_ids")
    if "prompt_id" not in table.columns:
        table.insert(0, "prompt_id", np.arange(len(table)))
    return table


def _pool(length: int, first: int, pooling: str) -> Tensor:
    """Return the weights of a text's positions from `first` on: of the last, or of all but position 0, [length]."""
    found = torch.zeros(length, dtype=torch.float64)
    begin = length - 1 if pooling == "last" else min(max(first, 1), length - 1)
    found[begin:] = 1.0 / (length - begin)
    return found


def _others(first: Sequence[Tensor], second: Sequence[Tensor], seed: int) -> list[Tensor | None]:
    """Draw another pair's second text for each pair by contents and seed; None where all are the same."""
    found: list[Tensor | None] = []
    for a, b in zip(first, second, strict=True):
        able = [other for other in second if not torch.equal(other, b)]
        keys = content_keys([torch.cat([a, b, other]) for other in able], seed) if able else np.empty(0)
        found.append(able[int(keys.argmin())] if able else None)
    if any(one is None for one in found):
        warn("no control: it needs a second pair with another text; pass at least two.")
    return found


def _rows(a: Tensor, b: Tensor, *, known: dict[tuple[int, ...], Encoded], centre: Tensor | None) -> dict[str, Any]:
    """Return the columns of a pair of texts, a row for each pair of tokens."""
    one, other = known[tuple(a.tolist())], known[tuple(b.tolist())]
    scores = one.parts @ other.parts.T
    changes = one.state - one.reference, other.state - other.reference
    total = float(changes[0] @ changes[1])
    lengths = float(changes[0].norm() * changes[1].norm())
    off = 0.0 if centre is None else centre.double().cpu()
    states = one.state - off, other.state - off
    dot = float(states[0] @ states[1])
    norms = float(states[0].norm() * states[1].norm())
    n, m = scores.shape
    pos_a, pos_b = len(a) - n + np.arange(n), len(b) - m + np.arange(m)
    return {
        "pos_a": np.repeat(pos_a, m),
        "token_a_id": np.repeat(a.numpy()[pos_a], m),
        "pos_b": np.tile(pos_b, n),
        "token_b_id": np.tile(b.numpy()[pos_b], n),
        "score": scores.flatten().numpy(),
        "sum_of_scores": total,
        "completeness": (float(scores.sum()) - total) / max(lengths, 1e-300),
        "dot": dot,
        "cosine": min(1.0, max(-1.0, dot / max(norms, 1e-300))),
    }
