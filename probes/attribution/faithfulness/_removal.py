"""Predictions with part of a prompt removed: whole tokens, or elements of their embeddings.

Only these functions of `faithfulness` run a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import ModelError, Subject
from interp.model.sites import recording
from probes.attribution._draws import generator_for
from probes.attribution._last_position import Reduce, log_prob_and_rank, logit_difference, read_alike, read_last
from probes.attribution._replacements import Replacements
from probes.attribution._unigram import Counts
from probes.attribution.faithfulness._deletion import SetFunction

Replacement: TypeAlias = Literal["unigram", "mask_embedding", "zero_embedding", "delete"]


@dataclass(frozen=True, eq=False)
class Passage:
    """One target of one prompt, and the units that may be removed.

    Attributes:
        ids: the tokens read, int64 [pos].
        target_id: the token to explain.
        against_id: the token it is contrasted with, if any.
        members: the tokens of each unit, bool [unit, pos]; tokens in no unit are never removed.
    """

    ids: np.ndarray
    target_id: int
    members: np.ndarray
    against_id: int | None = None

    def intact(self, sets: np.ndarray) -> np.ndarray:
        """Return the tokens that stay if only these units stay: bool [n, unit] -> bool [n, pos]."""
        return ~(~sets @ self.members)


def set_function(
    subject: Subject,
    passage: Passage,
    replacement: Replacement | Counts,
    table: Replacements | None,
    *,
    fill: Tensor | None,
    n_samples: int,
    log: bool,
    seed: int,
) -> SetFunction:
    """Return a function from sets of intact units to the target's probability or log-odds, for `_deletion.Values`.

    Of a contrast it is the log-odds of the target against the other token, the difference of their logits.

    Args:
        subject: the model.
        passage: the prompt.
        replacement: the treatment of removed units.
        table: for "unigram" and counts, the distributions of replacement tokens.
        fill: for "mask_embedding" and "zero_embedding", the embedding of removed tokens, [d_model].
        n_samples: for these, number of draws, the same for every set.
        log: return log-odds (nats) instead of probabilities.
        seed: of the draws.
    """
    ids, n = torch.from_numpy(passage.ids), len(passage.ids)
    uniforms = generator_for(seed, passage.ids, "removal").random((n_samples, n))
    drawn = table.draw(uniforms) if table is not None else passage.ids[None]

    def value(sets: np.ndarray) -> np.ndarray:
        intact = passage.intact(sets)
        lengths = torch.full((len(sets),), n)
        edit = None
        if table is not None:
            sequences = torch.from_numpy(np.where(intact[:, None], passage.ids, drawn[None]).reshape(-1, n))
            lengths = lengths.repeat_interleave(len(drawn))
        elif isinstance(replacement, str) and replacement == "delete":
            order = torch.from_numpy(np.argsort(~intact, axis=1, kind="stable"))
            sequences, lengths = ids[order], torch.from_numpy(intact.sum(axis=1))
        else:
            assert fill is not None
            sequences, stays, fill_row = ids.expand(len(sets), -1), torch.from_numpy(intact), fill

            def edit(value: Tensor, rows: Tensor) -> Tensor:
                return torch.where(stays[rows].to(value.device)[..., None], value, fill_row.to(value))

        def read(of: Callable[..., Reduce], *ids: int) -> Tensor:
            if edit is None:  # sets of tokens are nested: half of what their texts hold is shared
                return read_alike(subject, sequences, lengths, of(*(torch.tensor([one]) for one in ids))).double()
            each = (torch.full((len(sequences),), one) for one in ids)
            return read_last(subject, sequences, lengths, of(*each), edit=edit).double()

        if passage.against_id is not None:
            return read(logit_difference, passage.target_id, passage.against_id).view(len(sets), -1).numpy()
        log_prob = read(log_prob_and_rank, passage.target_id)[:, 0]
        if log:
            odds = log_prob - torch.log(-torch.expm1(log_prob.clamp(max=-1e-12)))
            return odds.view(len(sets), -1).numpy()
        return log_prob.exp().view(len(sets), -1).numpy()

    return value


def mean_embedding(subject: Subject, ids: np.ndarray) -> Tensor:
    """Return the mean over the vocabulary of the token embedding's output, [d_model], in float32.

    Raises:
        ModelError: the output is not a multiple of W_E, so the mean of W_E would be wrong.
    """
    tokens = torch.from_numpy(ids)
    with recording([subject.site("embed")]) as seen:
        subject.run(tokens[None], lambda tape: tape.last[:, -1])
    (given,) = seen
    assert given is not None
    rows, weight = given[0].float().cpu(), subject.W_E[tokens.to(subject.W_E.device)].float().cpu()
    scale = float((rows * weight).sum() / (weight * weight).sum())  # Gemma scales embeddings in their module
    # The tolerance is for half precision, which rounds the scale and the product.
    if not torch.allclose(rows, scale * weight, rtol=0.02, atol=1e-3 * float(rows.abs().max())):
        raise ModelError(
            f"the token embedding of {subject.name!r} is not a multiple of W_E; use replacement='unigram'."
        )
    return scale * subject.W_E.float().mean(dim=0).cpu()


def soft_distances(
    subject: Subject, passage: Passage, keep: np.ndarray, draws: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Measure how far the next-token distribution moves when elements of token embeddings are dropped.

    Of a contrast it is the distribution over the two tokens alone.

    Args:
        subject: the model.
        passage: the prompt.
        keep: probability that an element of a unit's embeddings stays, float [n, unit].
        draws: number of the random mask of each row, int [n]; rows with the same number share the uniform numbers of
            every element.
        seed: of the masks.

    Returns:
        Squared Hellinger distances from the intact distribution, 0..1, float64 [n], and the one with all units zero.
    """
    ids = torch.from_numpy(passage.ids)
    n = len(ids)
    free = passage.members.any(axis=0)
    per_token = np.where(free, keep @ passage.members, 1.0)
    per_token = np.concatenate([per_token, np.where(free, 0.0, 1.0)[None]])
    which = np.append(draws, 0)
    asked = slice(None) if passage.against_id is None else [passage.target_id, passage.against_id]
    full = subject.run(ids[None], lambda tape: tape.head(tape.last[:, -1]).float()[:, asked].softmax(dim=-1).sqrt())[0]

    def edit(value: Tensor, rows: Tensor) -> Tensor:
        used, at = np.unique(which[rows.numpy()], return_inverse=True)
        uniforms = torch.from_numpy(
            np.stack([_uniforms(passage.ids, int(draw), value.shape[-1], seed) for draw in used])[at]
        )
        stays = uniforms < torch.from_numpy(per_token[rows.numpy()])[..., None]
        return torch.where(stays.to(value.device), value, 0.0)

    def reduce(logits: Tensor, rows: Tensor) -> Tensor:
        difference = logits[:, asked].softmax(dim=-1).sqrt() - full.to(logits.device)
        return difference.square().sum(dim=-1, keepdim=True) / 2

    distances = (
        read_last(subject, ids.expand(len(which), -1), torch.full((len(which),), n), reduce, edit=edit)[:, 0]
        .double()
        .numpy()
    )
    return distances[:-1], float(distances[-1])


def _uniforms(ids: np.ndarray, draw: int, d_model: int, seed: int) -> np.ndarray:
    return generator_for(seed, ids, "soft mask", draw).random((len(ids), d_model))
