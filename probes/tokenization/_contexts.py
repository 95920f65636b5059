"""Ask for next-token distributions after many short contexts, which are read in few batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch

from interp.authoring import Subject, TooLong, options, progress_bar

T = TypeVar("T")
Context = tuple[int, ...]
_LIVE = 3  # the logits, in float64, and what a softmax makes of them
_PADDING = 128  # tokens of padding in a batch, at most: a pass over few tokens costs about as much


class Answer(Generic[T]):
    """A function's answer about one distribution, once it is read."""

    value: T

    def __init__(self, function: Callable[[np.ndarray], T]) -> None:
        self.function = function


class Contexts:
    """Contexts to read, and functions of the log-probabilities [d_vocab] that follow each.

    Each context is read once, whatever is asked of it, and no distribution is kept.
    """

    def __init__(self) -> None:
        self._asked: dict[Context, list[Answer]] = {}  # type: ignore[type-arg]

    def ask(self, context: Context, function: Callable[[np.ndarray], T]) -> Answer[T]:
        """Ask for a function of the log-probabilities after a context, nats, float64 [d_vocab]."""
        answer = Answer(function)
        self._asked.setdefault(context, []).append(answer)
        return answer

    def read(self, subject: Subject, label: str) -> None:
        """Run the model on all contexts, and give the answers.

        Raises:
            TooLong: a context is longer than the model's.
        """
        contexts = sorted(self._asked, key=len, reverse=True)
        if contexts and len(contexts[0]) > subject.n_ctx:
            raise TooLong(
                f"a text cut otherwise has {len(contexts[0])} tokens, and the model takes {subject.n_ctx}; shorten it."
            )
        most_rows = max(1, options.available // 2 // (8 * _LIVE * subject.d_vocab))
        with progress_bar(len(contexts), "context", label, n_steps=len(contexts) // most_rows) as bar:
            start = 0
            while start < len(contexts):
                n = min(most_rows, max(1, subject.batch_tokens() // len(contexts[start])))
                batch = _alike(contexts[start : start + n])
                self._read(subject, batch)
                bar.update(len(batch))
                start += len(batch)

    def _read(self, subject: Subject, contexts: list[Context]) -> None:
        rows = [torch.tensor(context) for context in contexts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        ends = torch.tensor([len(context) - 1 for context in contexts])
        found = subject.next_token_logits(ids, ends, lambda logits: logits.double().log_softmax(dim=-1).cpu()).numpy()
        for context, row in zip(contexts, found, strict=True):
            for answer in self._asked[context]:
                answer.value = answer.function(row)


def _alike(contexts: list[Context]) -> list[Context]:
    """Return the first of contexts, the longest first, until padding them would cost more than another pass."""
    longest = len(contexts[0])
    padding = np.cumsum([longest - len(one) for one in contexts])
    return contexts[: int(np.searchsorted(padding, _PADDING, side="right"))]
