"""Surprisals of next tokens, collected over batches for each condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.authoring import Batch, Run, Subject, followed, options
from interp.model.head import Head
from interp.model.readout import read_out
from interp.model.tape import Tape
from interp.stats.least_squares import Accumulate, add_products
from probes.subnetworks.bigram_model import BigramModel
from probes.subnetworks.evaluation._conditions import SubnetworkCondition

_BITS = 1 / log(2)


@dataclass(frozen=True)
class SurprisalStream:
    """A stream that reads a condition's surprisals from its model's output.

    Attributes:
        run: the run that reads the prompts.
        condition: the condition that the rows describe.
        model: the condition's model.
        parts: list to which the rows are added.
    """

    run: Run
    condition: SubnetworkCondition
    model: Subject
    parts: list[dict[str, Any]]

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate = add_products) -> None:
        """Add the rows of a batch."""
        at, following = followed(batch)
        row, pos = (one.to(tape.last.device) for one in at)
        final = tape.last[row, pos]
        found = self.model.read_out(tape, [final], final, targets=following[:, None], entropy=False, kl=False)
        self.parts.append(_columns(self.run, self.condition.columns(), batch, -_BITS * found.log_prob[0, :, 0].numpy()))


def states_surprisals(run: Run, facts: Mapping[str, Any], states: Tensor) -> Iterator[dict[str, Any]]:
    """Yield rows of a predictor that reads only the current token, from its final states [d_vocab, d]."""
    weight, bias = run.subject.W_U.float(), run.subject.b_U.float()
    head = Head(lambda rows: rows @ weight + bias, weight.T, bias)
    for batch in run.batches():
        (row, pos), following = followed(batch)
        rows = states[batch.ids[row, pos].to(states.device)]
        found = read_out(
            head, [rows], rows, d_vocab=run.subject.d_vocab, memory=options.available // 2, targets=following[:, None],
            entropy=False, kl=False,
        )  # fmt: skip
        yield _columns(run, facts, batch, -_BITS * found.log_prob[0, :, 0].numpy())


def unigram_surprisals(run: Run, facts: Mapping[str, Any], bigrams: BigramModel) -> Iterator[dict[str, Any]]:
    """Yield the rows of the unigram model."""
    for batch in run.batches():
        _, following = followed(batch)
        yield _columns(run, facts, batch, np.asarray(bigrams.unigram_surprisal(following)))


def with_counts(parts: Sequence[dict[str, Any]], bigrams: BigramModel) -> Iterator[dict[str, Any]]:
    """Yield the parts with the surprisals of the same tokens under the bigram and the unigram model."""
    for part in parts:
        current, following = torch.from_numpy(part["token_id"]), torch.from_numpy(part["target_id"])
        yield part | {
            "bigram_surprisal": np.asarray(bigrams.surprisal(current, following)),
            "unigram_surprisal": np.asarray(bigrams.unigram_surprisal(following)),
        }


def _columns(run: Run, facts: Mapping[str, Any], batch: Batch, surprisal: NDArray[np.floating]) -> dict[str, Any]:
    (row, pos), following = followed(batch)
    columns = {**run.token_columns(batch, row, pos), "target_id": following.numpy()}
    # Rounding of a float32 sum of exponentials can put a probability just above 1, and so a surprisal just below 0.
    return columns | dict(facts) | {"surprisal": np.maximum(surprisal.astype(float), 0.0)}
