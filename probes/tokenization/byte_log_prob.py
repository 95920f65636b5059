"""The log-probability of every byte of a text, over all its tokenisations (Phan et al., arXiv 2410.09303).

Losses per token cannot be compared between models of different vocabularies. Bits per byte can, and by the chain rule
over bytes they do not depend on the one way in which the tokenizer cuts the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import log
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import VOCABULARY, Column, Run, Schema, Source, Texts, columns, load, probe
from interp.tokenization import Lattice, lattice_of
from probes import papers
from probes.tokenization import plots
from probes.tokenization._contexts import Answer, Context, Contexts
from probes.tokenization._covers import allowed
from probes.tokenization._prompts import Prompt, read_prompts
from probes.tokenization.next_byte import name_of

BYTE_LOG_PROB = Schema(
    probe="byte_log_prob",
    paper=papers.EXACT_BYTES,
    rows="one per prompt and byte, without those of a first token that nothing precedes",
    columns=columns(
        *("model", "run_id", "prompt_id"),
        Column("cut", "int", "bytes before this one, without a space that the tokenizer adds", low=0),
        Column("byte", "int", "the byte", low=0, high=255),
        Column("text", "str", "the byte as it reads: a character, 0xHH for part of one"),
        VOCABULARY["log_prob"].with_(meaning="log P(the text up to here) - log P(the text before)", missing=False),
        Column("bits", "float", "that as a surprise", "bits", low=0.0),
        Column("bits_by_tokens", "float", "surprise of the text's own token that ends here, else 0", "bits", low=0.0),
    ),
    summary_of=("bits", "bits_by_tokens"),
)


@probe(BYTE_LOG_PROB, plot=plots.byte_log_prob)
def byte_log_prob(subject: Source, texts: Texts, *, bos: bool | None = None, truncate: bool = False) -> pd.DataFrame:
    """Score every byte of a text over all its canonical tokenisations: bits per byte, comparable between vocabularies.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes.
        bos: see `Subject.tokens`. Where a prompt begins with no special token, its first token is taken as given, and
            its bytes have no rows.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt and byte. Log-probabilities of a prompt sum to that of its text, which is at least that of
        its own tokens: the summary's `bits` per byte are at most about its `bits_by_tokens`.

    Raises:
        InputError: the tokenizer loses a byte of a text or has none for its tokens.
        TooLong: a text fills the context.

    Cost: a forward pass over about as many tokens as the text has bytes, and an unembedding for each: what the ways to
    write a text share is read once, except by models that cannot (see `interp.authoring.logits_after`).

    Pitfall: a text is scored as a beginning: its last word may go on.

    >>> frame = byte_log_prob("reference", ["Once upon a time"])
    >>> len(frame), round(float(frame["log_prob"].sum()), 2), frame.interp.summary()["bits"].round(2).tolist()
    (16, -4.42, [0.4])
    """
    subject = load(subject)
    run = Run(BYTE_LOG_PROB, subject, subject.tokens(texts, bos=bos, truncate=truncate), parameters={})
    lattice = lattice_of(subject)
    contexts = Contexts()
    made = [_Chain(lattice, one, contexts) for one in read_prompts(run.tokens, lattice, texts)]
    contexts.read(run)
    return run.frame([one.rows() for one in made if one.n_scored])


class _Chain:
    """The probability of every beginning of a text, from contexts that will be read."""

    def __init__(self, lattice: Lattice, prompt: Prompt, contexts: Contexts) -> None:
        self._prompt, self._lattice, self._contexts = prompt, lattice, contexts
        self._given = prompt.given(prompt.ids)
        self._start = len(lattice.vocabulary.join(self._given))
        self._steps: dict[Context, Answer[float]] = {}
        self._reaching: list[tuple[int, Context, Answer[np.ndarray]]] = []
        text = prompt.text
        for place in range(self._start, len(text)):
            rest = text[place : place + lattice.vocabulary.longest]
            for left in lattice.prefixes(text[:place]):
                if left[: len(self._given)] == self._given:
                    self._step(left)
                    asked = contexts.ask(prompt.before + left, partial(_reaching, lattice, left, rest))
                    self._reaching.append((place, left, asked))
        self._step(prompt.ids)

    @property
    def n_scored(self) -> int:
        """The bytes that have a probability."""
        return len(self._prompt.text) - self._start

    def rows(self) -> dict[str, Any]:
        """Return the columns of the prompt's bytes."""
        text, start = self._prompt.text, self._start
        prob = np.zeros(len(text) + 1)
        # All relative to e^-scale: a long text's probability is below the smallest float.
        weights = self._log_weights()
        scale = self._scales(weights)
        for place, left, answer in self._reaching:
            reached = slice(place + 1, place + 1 + len(answer.value))
            prob[reached] += np.exp(weights[left] - scale[reached]) * answer.value
        with np.errstate(divide="ignore"):
            whole = np.log(prob[start + 1 :]) + scale[start + 1 :]
        log_prob = np.minimum(0.0, np.diff(whole, prepend=0.0))
        return {
            "prompt_id": np.full(self.n_scored, self._prompt.prompt_id),
            "cut": np.arange(start, len(text)) - self._prompt.added,
            "byte": np.frombuffer(text, dtype=np.uint8)[start:].astype(np.int64),
            "text": np.array([name_of(byte) for byte in text[start:]], dtype=object),
            "log_prob": log_prob,
            "bits": -log_prob / log(2),
            "bits_by_tokens": self._by_tokens(),
        }

    def _by_tokens(self) -> np.ndarray:
        found, ids = np.zeros(self.n_scored), self._prompt.ids
        stops = np.cumsum(self._lattice.vocabulary.lengths[list(ids)]) - self._start
        for n in range(len(self._given), len(ids)):
            found[stops[n] - 1] = max(0.0, -self._steps[ids[: n + 1]].value / log(2))
        return found

    def _scales(self, weights: Mapping[Context, float]) -> np.ndarray:
        """Return the largest log-weight of the sequences that a beginning of the text is covered by, [n + 1]."""
        found = np.full(len(self._prompt.text) + 1, -np.inf)
        for place, left, answer in self._reaching:
            stop = place + 1 + len(answer.value)
            found[place + 1 : stop] = np.maximum(found[place + 1 : stop], weights[left])
        return found

    def _step(self, left: Context) -> None:
        for n in range(len(left), len(self._given), -1):
            if left[:n] in self._steps:
                break
            context, last = self._prompt.before + left[: n - 1], left[n - 1]
            self._steps[left[:n]] = self._contexts.ask(context, partial(_at, last))

    def _log_weights(self) -> dict[Context, float]:
        """Return the log-probability of every sequence behind the first token, if that is given."""
        found = {self._given: 0.0}
        for left in sorted(self._steps, key=len):
            found[left] = found[left[:-1]] + self._steps[left].value
        return found


def _at(index: int, row: np.ndarray) -> float:
    return float(row[index])


def _reaching(lattice: Lattice, left: Context, rest: bytes, row: np.ndarray) -> np.ndarray:
    """Return the probability of tokens that begin with the first 1, 2, ... bytes of what follows, while some do."""
    return np.array(list(_masses(lattice, left, rest, row)))


def _masses(lattice: Lattice, left: Context, rest: bytes, row: np.ndarray) -> Iterator[float]:
    for n in range(1, len(rest) + 1):
        ids = lattice.starts(rest[:n])
        if not len(ids):
            return
        prob = np.exp(row[ids])
        yield float(prob[allowed(lattice, left, ids, prob)].sum())
