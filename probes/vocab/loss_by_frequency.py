"""Measure the loss by how frequent the next token is, after Pinto et al. (2024); they train, this measures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
    followed,
    hash_of,
    options,
    probe,
    require_two_tokens,
    whole_frame,
)
from interp.model.head import Head
from interp.model.tape import Tape
from probes import papers
from probes.vocab import plots

Match: TypeAlias = Literal["types", "targets"]
_LIVE = 4  # logits, log-probabilities, probabilities, and their entropies

LOSS_BY_FREQUENCY = Schema(
    probe="loss_by_frequency",
    paper=papers.FREQUENCY_LOSS,
    rows="one per bin of frequency and control",
    columns=columns(
        *("model", "run_id"),
        Column(
            "bin", "int", "bin of the next token's count: 0 the rarest; -1 for tokens that were never counted", low=-1
        ),
        Column("n_types", "int", "different next tokens", low=1),
        Column("n_targets", "int", "positions with such a next token", low=1),
        Column("loss", "float", "mean cross-entropy over these positions", "nats", low=0.0, missing=True),
        Column("loss_macro", "float", "the same with equal weight for each token", "nats", low=0.0, missing=True),
        Column("entropy", "float", "mean entropy of the prediction at these positions", "nats", low=0.0),
        Column("calibration", "float", "mean over these tokens of: mean probability anywhere - share of positions"),
        Column("unigram_loss", "float", "mean -log of the token's share of all counts", "nats", low=0.0, missing=True),
        "control",
    ),
)


@probe(LOSS_BY_FREQUENCY, plot=plots.loss_by_frequency, summarise=whole_frame)
def loss_by_frequency(
    subject: Source,
    texts: Texts,
    *,
    counts: Sequence[float] | None = None,
    n_bins: int = 10,
    match: Match = "types",
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure the loss by the frequency of the next token, beside that of the frequencies alone.

    Rare tokens are harder for every model: what the model itself does is the gap to `unigram_loss`. The control
    "unigram" predicts each token by its share of all counts.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; all positions but the last of a text count.
        counts: how often each token occurs elsewhere, [d_vocab], such as in the training data; by default as next token
            in these texts, which makes the control look better than it is.
        n_bins: how many bins; tokens with equal counts are in one bin, so that some may be empty and left out.
        match: what bins hold equal numbers of: "types", different tokens, or "targets", positions.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per bin and control ("none" for the model); the mean of `loss` weighted by `n_targets` is the loss of
        the whole.

    Raises:
        InputError: a text has a single token, or the counts are not one number of 0 or more per token.

    Cost: one forward pass and an unembedding per position.

    Pitfall: the frequencies are those of the counts you give; of another corpus, rare means something else.

    >>> frame = loss_by_frequency("reference", ["Once upon a time there was a little girl who had a dog."], n_bins=2)
    >>> frame[["bin", "control", "n_types", "n_targets"]].values.tolist()
    [[0, 'none', 11, 11], [1, 'none', 1, 3], [0, 'unigram', 11, 11], [1, 'unigram', 1, 3]]
    """
    if n_bins < 1:
        raise InputError(f"n_bins={n_bins}: give 1 or more.")
    given = None if counts is None else np.asarray(counts, dtype=float)
    parameters = {
        "counts": None if given is None else hash_of({"counts": given.tolist()}), "n_bins": n_bins, "match": match
    }  # fmt: skip
    run = Run(LOSS_BY_FREQUENCY, subject, texts, parameters=parameters, truncate=truncate)
    d_vocab = run.subject.d_vocab
    if given is not None and (given.shape != (d_vocab,) or not (given >= 0).all() or not given.sum() > 0):
        raise InputError(
            f"counts {list(given.shape)} are not one number of 0 or more per token, with one above 0; give [{d_vocab}] "
            "of them."
        )
    require_two_tokens(run.tokens)
    target, loss, entropy, mass = _measured(run)
    n_of_type = np.bincount(target, minlength=d_vocab)
    count = n_of_type if given is None else given
    types = np.flatnonzero(n_of_type)
    n = n_of_type[types]
    bins = np.where(count[types] > 0, _bins(count[types], n, n_bins, match), -1)
    share, frequency = count[types] / count.sum(), n / len(target)
    all_shares = torch.from_numpy(count / count.sum())
    with np.errstate(divide="ignore"):
        unigram = np.where(share > 0, -np.log(share), np.nan)
    per_type = {
        "loss": np.bincount(target, loss, minlength=d_vocab)[types] / n,
        "entropy": np.bincount(target, entropy, minlength=d_vocab)[types] / n,
        "calibration": mass[types] / len(target) - frequency,
    }
    control = {
        "loss": unigram, "entropy": np.full(len(types), float(torch.special.entr(all_shares).sum())),
        "calibration": share - frequency,
    }  # fmt: skip
    parts = [
        _row(bins == place, n, values, unigram) | {"bin": int(place), "control": name}
        for name, values in (("none", per_type), ("unigram", control))
        for place in np.unique(bins)
    ]
    return run.frame(parts)


def _row(chosen: np.ndarray, n: np.ndarray, of: dict[str, np.ndarray], unigram: np.ndarray) -> dict[str, float]:
    """Return the means over the chosen types, weighted by their targets or, where so named, not."""
    weights = n[chosen] / n[chosen].sum()
    return {
        "n_types": int(chosen.sum()),
        "n_targets": int(n[chosen].sum()),
        "loss": float(of["loss"][chosen] @ weights),
        "loss_macro": float(of["loss"][chosen].mean()),
        "entropy": float(of["entropy"][chosen] @ weights),
        "calibration": float(of["calibration"][chosen].mean()),
        "unigram_loss": float(unigram[chosen] @ weights),
    }


def _bins(count: np.ndarray, n: np.ndarray, n_bins: int, match: Match) -> np.ndarray:
    """Return the bin of each type by its count; equal counts stand together, in the bin of their middle."""
    weights = np.ones(len(count)) if match == "types" else n.astype(float)
    distinct, place = np.unique(count, return_inverse=True)
    of_count = np.bincount(place, weights, minlength=len(distinct))
    middle = (np.cumsum(of_count) - of_count / 2) / of_count.sum()
    return np.minimum((middle * n_bins).astype(int), n_bins - 1)[place]


def _measured(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the next token, its loss and the entropy at every position [n], and each token's total probability [V]."""
    d_vocab = run.subject.d_vocab
    n_rows = max(1, options.available // 4 // (4 * _LIVE * d_vocab))
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    mass = torch.zeros(d_vocab, dtype=torch.float64)
    for batch in run.batches():
        (row, pos), target = followed(batch)
        if not len(row):
            continue
        loss, entropy, more = run.subject.run(batch.ids, partial(_read, row=row, pos=pos, target=target, n_rows=n_rows))
        found.append((target.numpy(), loss.double().cpu().numpy(), entropy.double().cpu().numpy()))
        mass += more.cpu()
    target_ids, losses, entropies = (np.concatenate(values) for values in zip(*found, strict=True))
    return target_ids, losses, entropies, mass.numpy()


def _read(tape: Tape, row: Tensor, pos: Tensor, target: Tensor, n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return _losses(tape.head, tape.last[row, pos], target, n_rows)


def _losses(head: Head, states: Tensor, target: Tensor, n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    losses, entropies, mass = [], [], []
    for part, ids in zip(torch.split(states, n_rows), torch.split(target.to(states.device), n_rows), strict=True):
        log_prob = head(part).float().log_softmax(dim=1)
        losses.append(-log_prob.gather(1, ids[:, None])[:, 0])
        prob = log_prob.exp_()
        entropies.append(torch.special.entr(prob).sum(dim=1))
        mass.append(prob.sum(dim=0, dtype=torch.float64))
    return torch.cat(losses).clamp(min=0), torch.cat(entropies), torch.stack(mass).sum(dim=0)
