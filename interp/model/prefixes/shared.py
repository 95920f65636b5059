"""A prefix that many short texts share: it is read once, and each text goes on from its key-value cache."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError, TooLong
from interp.model.memory import MOST_TOKENS_AT_ONCE
from interp.model.positions import check_ids
from interp.model.subject import Subject
from interp.options import options

T = TypeVar("T")
_TRIAL = 2  # continuations on which a cache is tried, of as many tokens: two rows show a cache that does not grow
_LIVE_LOGITS = 4  # the model's own, in float32, shifted, and what a program makes of them


@checked
class SharedPrefix:
    """A prefix that is read once for many continuations, exact against whole passes.

    A model without a key-value cache, an edited one, one on another machine, and one whose cache was seen to give other
    logits than a whole pass read every text whole: the numbers are the same, and only time is lost.

    Attributes:
        subject: the model.
        ids: the prefix, int64 [pos]; may be empty.
        cached: whether continuations go on from a cache.

    Args:
        subject: the model, as `load` returns it.
        ids: the prefix, int64 [pos]; empty for texts that share nothing.

    Raises:
        InputError: ids that the model cannot read.
        TooLong: the prefix fills the context.

    >>> from interp import load
    >>> prefix = SharedPrefix(load("reference"), torch.tensor([0, 5, 9, 11]))
    >>> prefix.branch(2).next_token_logits(torch.tensor([[7, 3], [8, 3]]), lambda logits: tuple(logits.shape))
    (2, 8192)
    """

    def __init__(self, subject: Subject, ids: Tensor) -> None:
        if ids.ndim != 1:
            raise InputError(f"a shared prefix is one text: give ids [pos], not {list(ids.shape)}.")
        if len(ids):
            check_ids(ids[None], d_vocab=subject.backend.facts.n_ids, n_ctx=subject.n_ctx)
        if len(ids) >= subject.n_ctx:
            raise TooLong(f"a prefix of {len(ids)} tokens fills the context of {subject.n_ctx}; give a shorter one.")
        self.subject, self.ids = subject, ids.cpu()
        self._cache: Any = None
        self.cached = not subject.edits and self._can_repeat()
        self.cached = self.cached and self._is_exact()

    def branch(self, n: int) -> Branch:
        """Return `n` texts that have read the prefix and nothing else."""
        if n < 1:
            raise InputError(f"n={n}: give 1 or more texts.")
        return Branch(self, n)

    def rows(self, width: int) -> int:
        """Return how many continuations of `width` tokens fit the memory budget side by side, at least 1."""
        length = len(self.ids) + width
        at_once = min(self.subject.batch_tokens(2) // length, MOST_TOKENS_AT_ONCE // width)
        return max(1, min(at_once, options.available // 2 // (4 * _LIVE_LOGITS * self.subject.d_vocab)))

    def _can_repeat(self) -> bool:
        """Read the prefix, or a first token if it is empty; tell whether its cache can be repeated for many texts."""
        ids = self.ids[None] if len(self.ids) else torch.zeros(1, 1, dtype=torch.int64)
        with self.subject._guard.passing(ids):
            self._cache = self.subject.backend.step(ids, None)[1]
        layers = getattr(self._cache, "layers", [None])
        return all(hasattr(one, "batch_repeat_interleave") for one in (self._cache, *layers))

    def _repeated(self, n: int) -> Any:
        """Return the cache of the prefix for `n` texts; None for an empty prefix, which has none."""
        if not len(self.ids):
            return None
        repeated = copy.deepcopy(self._cache)
        repeated.batch_repeat_interleave(n)
        return repeated

    def _is_exact(self) -> bool:
        """Tell whether continuations from the cache give the logits of whole passes, in one step and in two."""
        width = min(_TRIAL, self.subject.n_ctx - len(self.ids))
        ids = torch.arange(_TRIAL * width).reshape(_TRIAL, -1) % self.subject.backend.facts.n_ids
        whole = _whole(self, ids, _floats)
        try:
            at_once, steps = self.branch(_TRIAL).next_token_logits(ids, _floats), self.branch(_TRIAL)
            in_steps = [steps.next_token_logits(ids[:, [at]], _floats) for at in range(width)][-1]
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # its cache does not grow so
            return False
        # As `interp.model.verification` allows between kernels: some roundings of the model's dtype, in all its blocks.
        allowed = max(1e-3, 10 * torch.finfo(self.subject.dtype).eps) * float(whole[whole.isfinite()].abs().amax())
        return all(bool(((one - whole).nan_to_num().abs() <= allowed).all()) for one in (at_once, in_steps))


class Branch:
    """Texts that go on from a shared prefix, side by side and by as many tokens each.

    Attributes:
        ids: what they have read after the prefix, int64 [n, pos].
    """

    def __init__(self, prefix: SharedPrefix, n: int) -> None:
        self.prefix = prefix
        self.ids = torch.empty(n, 0, dtype=torch.int64)
        self._cache: Any = None

    def next_token_logits(self, ids: Tensor, program: Callable[[Tensor], T]) -> T:
        """Read the next tokens of every text, and run a program on the logits after the last of them.

        Args:
            ids: int64 [n, pos], at least one token.
            program: a function of the logits, [n, d_vocab].

        Raises:
            InputError: there are more or fewer texts, or ids that the model cannot read.
            TooLong: the texts do not fit the context.
            ModelError, NumericalError: as `Subject.run`.
        """
        if ids.ndim != 2 or len(ids) != len(self.ids):
            raise InputError(
                f"{len(self.ids)} texts go on here: give ids [{len(self.ids)}, pos], not {list(ids.shape)}."
            )
        prefix, before = self.prefix, self.ids
        self.ids = torch.cat([before, ids.cpu()], dim=1)
        subject = prefix.subject
        if not prefix.cached or subject.edits:  # an edit may depend on the position, which a cache hides from it
            return _whole(prefix, self.ids, program)
        with subject._guard.passing(_texts(prefix, self.ids)):
            cache = self._cache if before.shape[1] else prefix._repeated(len(ids))
            logits, self._cache = subject.backend.step(ids, cache)
            return program(logits)


def _whole(prefix: SharedPrefix, ids: Tensor, program: Callable[[Tensor], T]) -> T:
    texts = _texts(prefix, ids)
    return prefix.subject.next_token_logits(texts, torch.full((len(texts),), texts.shape[1] - 1), program)


def _texts(prefix: SharedPrefix, ids: Tensor) -> Tensor:
    return torch.cat([prefix.ids.expand(len(ids), -1), ids], dim=1)


def _floats(logits: Tensor) -> Tensor:
    return logits.float()
