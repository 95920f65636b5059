"""Find the tokens that a model has hardly learned, after Land and Bartolo (2024), with two indicators of our own.

The direction of a token's row of the unembedding needs no text: rows that training hardly touched lie near those of
tokens that it never touched. The ceiling is the highest probability that a token gets anywhere in some texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Texts,
    columns,
    options,
    probe,
    select_positions,
)
from interp.model.head import Head
from interp.model.tape import Tape
from interp.model.weights import require_one_vocabulary
from probes import papers
from probes.vocab import plots
from probes.vocab._categories import categories
from probes.vocab._directions import SUSPECTED, Reference, at_or_below, directions, ordinary_tokens, reference_rows

Indicator: TypeAlias = Literal["direction", "ceiling", "norm"]
_LIVE = 3  # logits, the shifted ones, and their exponentials

TOKEN_HEALTH = Schema(
    probe="token_health",
    paper=papers.UNDERTRAINED_TOKENS,
    rows="one per row of the vocabulary",
    columns=columns(
        *("model", "run_id", "token_id", "token"),
        Column(
            "category",
            "str",
            "special; row_only (no token); undecodable (piece of a character); unreachable (no text is read as it); ok",
        ),
        Column("byte_kind", "str", "of a single byte: ascii, utf8, or never (in no text); empty for other tokens"),
        Column("script", "str", "Unicode script of its first letter; empty without one"),
        Column("n_chars", "int", "characters of its text", low=0),
        Column("n_ids", "id", "as how many tokens its text is read alone", low=0, missing=True),
        Column("count", "int", "how often it occurs in the texts", low=0),
        Column(
            "direction",
            "float",
            "1 - cosine of its row of the unembedding with the reference rows, both without the vocabulary's mean; "
            "low is suspicious",
            low=0.0,
            high=2.0,
            missing=True,
        ),
        Column("direction_pct", "float", "share of ok tokens with no larger direction", "0..1", 0.0, 1.0, missing=True),
        Column("ceiling", "float", "highest log-probability it gets at any position", "nats", high=0.0, missing=True),
        Column("ceiling_pct", "float", "share of ok tokens with no higher ceiling", "0..1", 0.0, 1.0, missing=True),
        Column("mean_logit", "float", "mean of its logit over all positions", missing=True),
        Column("bias", "float", "bias of its logit, which shifts the ceiling; 0 for most models"),
        Column("norm", "float", "norm of its embedding", low=0.0, missing=True),
        Column("is_candidate", "bool", "whether it is ok and among the lowest 2 % by the first indicator"),
        "usable",
        Column("reference", "str", "the reference rows: unused, special, centroid or given; empty without direction"),
    ),
)


def _count_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the tokens, candidates and usable tokens of each category."""
    groups = frame.groupby(["model", "run_id", "category"], sort=True)
    counts = groups.agg(n_tokens=("token_id", "size"), n_candidates=("is_candidate", "sum"), n_usable=("usable", "sum"))
    return counts.reset_index()


@probe(TOKEN_HEALTH, plot=plots.token_health, summarise=_count_categories)
def token_health(
    subject: Source,
    texts: Texts,
    *,
    reference: Reference = "auto",
    indicators: Sequence[Indicator] = ("direction", "ceiling", "norm"),
    truncate: bool = False,
) -> pd.DataFrame:
    """Find the tokens that the model has hardly learned; `token_repetition` verifies them.

    A candidate is an ordinary token among the lowest 2 % of these by the first indicator; tokens that tie across that
    line are all left out. Every model has candidates: they are suspects until they are verified. The norm tells little
    of models with tied embeddings.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes, for `count`, `ceiling` and `mean_logit`; all positions count.
        reference: rows known to be untrained: "unused" (rows without a token, bytes that no text holds, tokens kept for
            later use), "special" (special tokens that are not start, end, padding or the like), "centroid" (the 20 rows
            nearest to the mean of all), or token ids; "auto" takes the first of these that the model has.
        indicators: what to compute; the first one decides the candidates. Others are missing, with "ceiling" the mean
            logit.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per row of the vocabulary; `.interp.summary()` counts them by category. `usable` tells which to keep in
        a sample or a list of tokens.

    Raises:
        InputError: the model came without a tokenizer, or the reference has no rows.
        ModelError: the model embeds other tokens than it predicts.

    Cost: the vocabulary's rows once, and one forward pass with an unembedding per position for the ceiling.

    Pitfall: few texts leave most tokens without a fair chance, so that the ceiling is low for all.

    >>> frame = token_health("reference", ["Once upon a time there was a little girl."])
    >>> frame.interp.summary()[["category", "n_tokens", "n_candidates", "n_usable"]].values.tolist()
    [['ok', 8062, 161, 7901], ['special', 1, 0, 0], ['undecodable', 129, 0, 0]]
    """
    chosen = list(indicators)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"indicators={chosen!r}: name at least one, each once.")
    given = reference if isinstance(reference, str) else list(reference)
    parameters = {"reference": given, "indicators": chosen}
    run = Run(TOKEN_HEALTH, subject, texts, parameters=parameters, truncate=truncate)
    model = run.subject
    require_one_vocabulary(model, "token_health")
    table = categories(model)
    ordinary = ordinary_tokens(model, table)
    missing = np.full(model.d_vocab, np.nan)
    values = dict.fromkeys(("direction", "ceiling", "mean_logit", "norm"), missing)
    kind = ""
    if "direction" in chosen:
        rows, kind = reference_rows(model, table, reference)
        values["direction"] = directions(model.W_U.T, rows)
    if "norm" in chosen:
        values["norm"] = model.W_E.float().norm(dim=1).double().cpu().numpy()
    if "ceiling" in chosen:
        values["ceiling"], values["mean_logit"] = _heights(run)
    shares = {name: at_or_below(values[name], ordinary) if name in chosen else missing for name in chosen}
    candidate = ordinary & (shares[chosen[0]] <= SUSPECTED)
    part = table.drop(columns="reserved").to_dict("series") | values
    part |= {f"{name}_pct": shares.get(name, missing) for name in ("direction", "ceiling")}
    part |= {
        "token_id": np.arange(model.d_vocab),
        "count": np.bincount(torch.cat(run.tokens.ids).numpy(), minlength=model.d_vocab),
        "bias": model.b_U.double().cpu().numpy(),
        "is_candidate": candidate,
        "usable": ordinary & ~candidate,
        "reference": kind,
    }
    return run.frame([part])


def _heights(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest log-probability and the mean logit of each token over all positions, float64 [d_vocab]."""
    d_vocab = run.subject.d_vocab
    ceiling, total, n = torch.full((d_vocab,), -torch.inf), torch.zeros(d_vocab, dtype=torch.float64), 0
    n_rows = max(1, options.available // 4 // (4 * _LIVE * d_vocab))
    for batch in run.batches():
        row, pos = select_positions(batch, None)

        def heights(tape: Tape, row: Tensor = row, pos: Tensor = pos) -> tuple[Tensor, Tensor]:
            return _heights_of(tape.head, tape.last[row, pos], n_rows)

        highest, sums = run.subject.run(batch.ids, heights)
        ceiling, total, n = torch.maximum(ceiling, highest.cpu()), total + sums.cpu(), n + len(row)
    return ceiling.clamp(max=0).double().numpy(), (total / n).numpy()


def _heights_of(head: Head, states: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    highest, sums = [], []
    for part in torch.split(states, n_rows):
        logits = head(part).float()
        sums.append(logits.sum(dim=0, dtype=torch.float64))
        highest.append((logits - logits.logsumexp(dim=1, keepdim=True)).amax(dim=0))
    return torch.stack(highest).amax(dim=0), torch.stack(sums).sum(dim=0)
