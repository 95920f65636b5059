"""Ask for next-token distributions after many short contexts, which are read in few passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from interp.authoring import Run, TooLong, logits_after, n_read_after, progress_bar, say_cost

T = TypeVar("T")
Context = tuple[int, ...]
_IN_ONE_PASS = 100  # about so many contexts of a text are read at once


class Answer(Generic[T]):
    """A function's answer about one distribution, once it is read."""

    value: T

    def __init__(self, function: Callable[[np.ndarray], T]) -> None:
        self.function = function


class Contexts:
    """Contexts to read, and functions of the log-probabilities [d_vocab] that follow each.

    Each context is read once, whatever is asked of it, and what several share is read once; no distribution is kept.
    """

    def __init__(self) -> None:
        self._asked: dict[Context, list[Answer]] = {}  # type: ignore[type-arg]

    def ask(self, context: Context, function: Callable[[np.ndarray], T]) -> Answer[T]:
        """Ask for a function of the log-probabilities after a context, nats, float64 [d_vocab]."""
        answer = Answer(function)
        self._asked.setdefault(context, []).append(answer)
        return answer

    def read(self, run: Run) -> None:
        """Run the model on all contexts, and give the answers; say before what that costs.

        Args:
            run: of the probe, whose model and name are taken.

        Raises:
            TooLong: a context is longer than the model's.
        """
        subject, longest = run.subject, max(map(len, self._asked), default=0)
        if longest > subject.n_ctx:
            raise TooLong(
                f"a text cut otherwise has {longest} tokens, and the model takes {subject.n_ctx}; shorten it."
            )
        say_cost(run, passes=1, n_tokens=n_read_after(subject, self._asked.keys()), unembedded=len(self._asked))
        with progress_bar(
            len(self._asked), "context", run.schema.probe, n_steps=len(self._asked) // _IN_ONE_PASS
        ) as bar:
            for some, found in logits_after(subject, self._asked.keys(), _log_probs):
                for context, row in zip(some, found.numpy(), strict=True):
                    for answer in self._asked[context]:
                        answer.value = answer.function(row)
                bar.update(len(some))


def _log_probs(logits: Tensor) -> Tensor:
    return logits.double().log_softmax(dim=-1).cpu()
