"""Run prompts and their variants, and compare states and predictions where both have a token's end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import Batch, Subject, Tokens
from interp.model.readout import Readout
from interp.model.tape import Tape
from probes.tokenization.recutting._variants import Laid

STATES_PER_LAYER = 2
"""Residuals held of each layer: a tape's, and those of the prompts themselves."""


@dataclass(frozen=True)
class Compared:
    """A variant compared with its prompt.

    Attributes:
        laid: the variant.
        cosine: mean over the common cuts behind the first change, by layer, float [n_layers].
        cosine_last: at the last common cut, float [n_layers].
        kl: KL(the prompt's next token || the variant's) there, nats.
        same_top1: whether the most probable token is the same.
        lost: log P(prompt) - log P(variant) from the first common cut on, nats per byte; NaN if nothing is left.
        log_prob: log P(variant) from there, nats; NaN if nothing is left.
    """

    laid: Laid
    cosine: np.ndarray
    cosine_last: np.ndarray
    kl: float
    same_top1: bool
    lost: float
    log_prob: float


@dataclass(frozen=True)
class _Own:
    """The prompt's own pass, to compare variants with: its states, the last one, and log-probabilities [pos]."""

    states: Tensor  # [layer, pos, d_model]
    last: Tensor  # [pos, d_model]
    log_prob: np.ndarray


def compared(
    subject: Subject, batch: Batch, variants: Sequence[Sequence[Laid]], layers: list[int]
) -> Iterator[Compared]:
    """Yield every variant of a batch of prompts, compared; those of similar length run together.

    Args:
        subject: the model.
        batch: the prompts themselves.
        variants: of each prompt of the batch.
        layers: to compare, 0..L.
    """
    own = _own_passes(subject, batch, layers)
    flat = [(place, one) for place, several in enumerate(variants) for one in several if not _unchanged(one)]
    for place, several in enumerate(variants):
        yield from (_itself(one, own[place], len(layers)) for one in several if _unchanged(one))
    ids = [torch.tensor(one.ids) for _, one in flat]
    table = pd.DataFrame({"prompt_id": np.arange(len(flat))})
    every = Tokens(ids, table, None, np.zeros(len(flat), dtype=np.int64))
    for some in every.batches(subject.batch_tokens(STATES_PER_LAYER)):
        chosen = [flat[index] for index in some.prompts.tolist()]
        yield from _compared(subject, some, [one for _, one in chosen], [own[place] for place, _ in chosen], layers)


def _own_passes(subject: Subject, batch: Batch, layers: list[int]) -> list[_Own]:
    read = _token_reader(subject, batch)

    def program(tape: Tape) -> tuple[list[Tensor], Tensor, Tensor]:
        states = [tape.residual(layer).clone() for layer in layers]
        return states, tape.last.clone(), read(tape)

    states, last, log_prob = subject.run(batch.ids, program)
    rows = enumerate(batch.lengths.tolist())
    return [
        _Own(torch.stack([one[row, :n] for one in states]), last[row, :n], log_prob[row, :n].numpy()) for row, n in rows
    ]


def _compared(
    subject: Subject, batch: Batch, laid: Sequence[Laid], own: Sequence[_Own], layers: list[int]
) -> Iterator[Compared]:
    rows = np.concatenate([np.full(len(one.here), row) for row, one in enumerate(laid)])
    places = np.concatenate([one.here for one in laid])
    lasts = torch.tensor([one.here[-1] for one in laid])
    read, at = _token_reader(subject, batch), (torch.tensor(rows), torch.tensor(places))
    read_last = subject.reader(entropy=False)
    wanted = torch.cat([one.states[:, lay.own] for one, lay in zip(own, laid, strict=True)], dim=1)
    reference = torch.stack([one.last[lay.own[-1]] for one, lay in zip(own, laid, strict=True)])

    def program(tape: Tape) -> tuple[list[Tensor], Readout, Tensor]:
        device = tape.last.device
        where = at[0].to(device), at[1].to(device)
        cosines = [
            torch.cosine_similarity(tape.residual(layer)[where].float(), given.to(device).float(), dim=-1).cpu()
            for layer, given in zip(layers, wanted, strict=True)
        ]
        ends = tape.last[torch.arange(len(lasts), device=device), lasts.to(device)]
        return cosines, read_last(tape, [ends], reference.to(device)), read(tape)

    cosines, readout, log_prob = subject.run(batch.ids, program)
    by_layer = torch.stack(cosines).clamp(-1, 1).double().numpy()
    stops = np.cumsum([len(one.here) for one in laid])
    for row, one in enumerate(laid):
        found = by_layer[:, stops[row] - len(one.here) : stops[row]]
        lost, log_prob_here = _losses(one, own[row].log_prob, log_prob[row].numpy())
        yield Compared(
            one,
            found[:, one.first :].mean(axis=1),
            found[:, -1],
            max(0.0, float(readout.kl[0, row])),
            bool(readout.top_id[0, row, 0] == readout.reference_top1[row]),
            lost,
            log_prob_here,
        )


def _unchanged(laid: Laid) -> bool:
    return laid.ids == laid.prompt.before + laid.prompt.ids


def _itself(laid: Laid, own: _Own, n_layers: int) -> Compared:
    """Return a prompt compared with itself: nothing differs."""
    lost, log_prob = _losses(laid, own.log_prob, own.log_prob)
    same = np.ones(n_layers)
    return Compared(laid, same, same, 0.0, True, lost, log_prob)


def _losses(laid: Laid, own: np.ndarray, here: np.ndarray) -> tuple[float, float]:
    """Return `lost` and `log_prob` of a variant from the log-probabilities of tokens, of the prompt and of it."""
    own_start, start = laid.starts
    own_stop, stop = int(laid.own[-1]) + 1, int(laid.here[-1]) + 1
    if not laid.n_bytes:
        return float("nan"), float("nan")
    log_prob = float(here[start:stop].sum())
    return (float(own[own_start:own_stop].sum()) - log_prob) / laid.n_bytes, min(0.0, log_prob)


def _token_reader(subject: Subject, batch: Batch):  # type: ignore[no-untyped-def]
    """Return a function from a tape to the log-probability of every token, float32 [batch, pos]; 0 at position 0."""
    n_rows, width = batch.ids.shape
    real = torch.arange(width) < batch.lengths[:, None]
    real[:, 0] = False
    row, pos = real.nonzero(as_tuple=True)
    read = subject.reader(entropy=False, kl=False, targets=batch.ids[row, pos][:, None])

    def log_probs(tape: Tape) -> Tensor:
        device = tape.last.device
        found = torch.zeros(n_rows, width)
        if len(row):
            states = tape.last[row.to(device), pos.to(device) - 1]
            found[row, pos] = read(tape, [states], states).log_prob[0, :, 0]
        return found

    return log_probs
