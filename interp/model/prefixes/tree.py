"""Many contexts that begin alike: the tree of their tokens is read in one pass, what they share once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError
from interp.model.positions import check_ids
from interp.model.subject import Subject
from interp.options import options

T = TypeVar("T")
Context: TypeAlias = tuple[int, ...]
_AT_ONCE = 512  # tokens of a tree: more are not faster, while attention grows with their square
_LIVE_LOGITS = 6  # the model's own and what a softmax in float64 makes of them, in floats
_PADDING = 128  # tokens of padding in a batch of whole contexts, at most: a pass over few tokens costs about as much
_TRIAL = ((0, 1, 2, 3, 4), (0, 1, 2, 5), (0, 6, 7, 8), (0, 6, 9))
_SIZE = re.compile(r"^(?!_)(?!.*(layer|pattern)).*(window|chunk)")  # sliding_window, window_size, attention_chunk_size
_exact: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@checked
def logits_after(
    subject: Subject, contexts: Collection[Any], program: Callable[[Tensor], T]
) -> Iterator[tuple[list[tuple[int, ...]], T]]:
    """Run a program on the logits after many contexts, in any order, and read what they share once.

    The tokens of several contexts form a tree, and one pass reads it: each token attends to those it follows, and has
    the place that it has in its context. A model that does not take such masks and places (most recurrent ones and
    those with position biases), an edited one and one on another machine read the contexts whole and side by side, as
    any model does with contexts longer than its window of attention. The numbers are the same, and only time is lost:
    a model is tried once, on a tree of a few tokens.

    Args:
        subject: the model, as `load` returns it.
        contexts: tuples of token ids, each of at least one.
        program: a function of the logits, [n, d_vocab].

    Yields:
        Some of the contexts, and what the program made of the logits after them.

    Raises:
        InputError: a context is not a tuple of ids, is empty, or holds ids that the model cannot read.
        TooLong: a context is longer than the model's.
        ModelError, NumericalError: as `Subject.run`.

    >>> from interp import load
    >>> for some, shape in logits_after(load("reference"), [(0, 5, 9), (0, 5, 7), (0,)], lambda logits: logits.shape):
    ...     print(some, tuple(shape))
    [(0,), (0, 5, 7), (0, 5, 9)] (3, 8192)
    """
    _check(subject, contexts)
    return _logits_after(subject, sorted(set(contexts)), program)


@checked
def n_read_after(subject: Subject, contexts: Collection[Any]) -> int:
    """Return how many tokens `logits_after` reads, for `say_cost`.

    Args:
        subject: the model.
        contexts: as `logits_after` takes them.

    Raises:
        InputError, TooLong: as `logits_after`.

    >>> from interp import load
    >>> n_read_after(load("reference"), [(0, 5, 9), (0, 5, 7), (0,)])
    4
    """
    _check(subject, contexts)
    parts, long = _plan(subject, sorted(set(contexts)))
    in_trees = sum(len(part[0]) + sum(len(b) - _n_shared(a, b) for a, b in pairwise(part)) for part in parts)
    return in_trees + sum(map(len, long))


def _check(subject: Subject, contexts: Collection[Any]) -> None:
    for one in contexts:
        try:
            ids = torch.tensor([one] if isinstance(one, tuple) and one else "")
        except (TypeError, ValueError):
            what = str(one)[:60]
            raise InputError(f"contexts hold {what}: give tuples of token ids, each of at least one.") from None
        check_ids(ids, d_vocab=subject.backend.facts.n_ids, n_ctx=subject.n_ctx)


def _logits_after(
    subject: Subject, contexts: list[Context], program: Callable[[Tensor], T]
) -> Iterator[tuple[list[Context], T]]:
    parts, long = _plan(subject, contexts)
    for some in parts:
        found = _read_tree(subject, some, program)
        if found is None:
            long += some
        else:
            yield some, found[0]
    long.sort(key=len, reverse=True)
    rows = _rows(subject)
    while long:
        n = min(rows, max(1, subject.batch_tokens() // len(long[0])))
        some, long = _alike(long[:n]), long[len(_alike(long[:n])) :]
        yield some, _read_whole(subject, some, program)


def _plan(subject: Subject, contexts: Sequence[Context]) -> tuple[Iterator[list[Context]], list[Context]]:
    """Return the parts of sorted contexts that are read as trees, and the contexts that are read whole."""
    within = _longest_in_tree(subject) if contexts else 0
    short = [one for one in contexts if len(one) <= within]
    long = [one for one in contexts if len(one) > within]
    return _split(short, _room(subject, short, within), _rows(subject)), long


def _rows(subject: Subject) -> int:
    """Return of how many contexts the logits may live at once."""
    return max(1, options.available // 2 // (4 * _LIVE_LOGITS * subject.d_vocab))


def _longest_in_tree(subject: Subject) -> int:
    """Return the length of the longest contexts that a tree gives the logits of; 0 if the model is not exact so."""
    if subject.edits:  # an edit may depend on the position, which another context's token has here
        return 0
    if subject not in _exact:
        _exact[subject] = _is_exact(subject)
    return min(subject.n_ctx, _window(subject.backend.source)) if _exact[subject] else 0


def _window(model: Any) -> int:
    """Return up to how many tokens all of a context are attended to: the smallest window or chunk of a config."""
    config: Any = getattr(model, "config", None)
    named = config.get_text_config().to_dict() if hasattr(config, "get_text_config") else {}
    sizes = {name: value for name, value in named.items() if _SIZE.search(name) and isinstance(value, int)}
    return min((value for value in sizes.values() if value > 0), default=1 << 30)


def _room(subject: Subject, contexts: Sequence[Context], within: int) -> int:
    """Return how many tokens a tree may have: at least the longest context's."""
    longest = max(map(len, contexts), default=0)
    # Some models cut their own masks out of tables of the context's length, or narrow any mask to their window.
    return max(longest, min(within, subject.batch_tokens(), max(_AT_ONCE, 2 * longest)))


def _split(contexts: Sequence[Context], most_tokens: int, most_rows: int) -> Iterator[list[Context]]:
    """Yield sorted contexts in parts, whose trees have at most so many tokens and contexts."""
    part: list[Context] = []
    n = 0
    for one in contexts:
        new = len(one) - (_n_shared(part[-1], one) if part else 0)
        if part and (n + new > most_tokens or len(part) == most_rows):
            yield part
            part, n, new = [], 0, len(one)
        part.append(one)
        n += new
    if part:
        yield part


def _n_shared(one: Context, other: Context) -> int:
    """Return with how many ids two contexts begin alike."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def _tree(contexts: Sequence[Context]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens of the tree of sorted contexts, those above each, and where each context ends.

    Returns:
        ids int64 [pos], above bool [pos, pos], ends int64 [contexts]; see `Backend.tree_logits`.
    """
    ids: list[int] = []
    parents: list[int] = []
    ends: list[int] = []
    before: Context = ()
    path: list[int] = []  # the places of the last context's tokens
    for one in contexts:
        path = path[: _n_shared(before, one)]
        for index in one[len(path) :]:
            parents.append(path[-1] if path else -1)
            path.append(len(ids))
            ids.append(index)
        ends.append(path[-1])
        before = one
    above = np.eye(len(ids), dtype=bool)
    for at, parent in enumerate(parents):
        if parent >= 0:
            above[at] |= above[parent]
    return torch.tensor(ids), torch.from_numpy(above), torch.tensor(ends)


def _read_tree(subject: Subject, contexts: Sequence[Context], program: Callable[[Tensor], T]) -> tuple[T] | None:
    ids, above, ends = _tree(contexts)
    with subject._guard.passing(ids[None]):
        logits = subject.backend.tree_logits(ids, above, ends)
        return None if logits is None else (program(logits),)


def _read_whole(subject: Subject, contexts: Sequence[Context], program: Callable[[Tensor], T]) -> T:
    rows = [torch.tensor(one) for one in contexts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return subject.next_token_logits(ids, torch.tensor([len(one) - 1 for one in contexts]), program)


def _alike(contexts: list[Context]) -> list[Context]:
    """Return the first of contexts, the longest first, until padding them would cost more than another pass."""
    longest = len(contexts[0])
    padding = np.cumsum([longest - len(one) for one in contexts])
    return contexts[: int(np.searchsorted(padding, _PADDING, side="right"))]


def _is_exact(subject: Subject) -> bool:
    """Tell whether a tree gives the logits of whole contexts, by one with branches behind branches."""
    n_ids = subject.backend.facts.n_ids
    contexts = sorted({tuple(index % n_ids for index in one) for one in _TRIAL})
    ids, above, ends = _tree(contexts)
    if len(ids) > subject.n_ctx:
        return False
    whole = _read_whole(subject, contexts, _floats)
    plain = torch.ones_like(above).tril()  # the same tokens as one text: what a model does that takes no mask
    try:
        with subject._guard.passing(ids[None]):
            right, wrong = (subject.backend.tree_logits(ids, mask, ends) for mask in (above, plain))
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False  # the model takes no such masks or places
    if right is None or wrong is None:
        return False
    off, off_as_text = (float((_floats(one) - whole).nan_to_num().abs().amax()) for one in (right, wrong))
    # Kernels round otherwise: as much as `interp.model.verification` allows, and by far not as much as a wrong mask.
    eps, scale = torch.finfo(subject.dtype).eps, float(whole[whole.isfinite()].abs().amax())
    return off <= min(max(1e-3, 10 * eps) * scale, max(off_as_text / 10, eps * scale))


def _floats(logits: Tensor) -> Tensor:
    return logits.float()
