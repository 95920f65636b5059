"""Tell where a prompt ends inside what the tokenizer would have made one token of."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from interp.checks import checked
from interp.errors import EndsInsideToken, InputError, shown, warn
from interp.model.tokens import Tokens
from interp.tokenization.asking import text_ids

_TAIL, _NEXT = 8, "a"  # tokens of a prompt's end that are read again, and what might follow
# Subjects whose user was told.
_told: WeakSet[Any] = WeakSet()


@checked
def warn_of_end(subject: Any, tokens: Tokens) -> None:
    """Warn once per subject if a prompt ends in white space that its tokenizer joins with the word that follows.

    What the model says next is then that of a text it never saw, in which a space stands alone. Texts that were cut
    to the context and chat messages are let pass. No forward pass is made.

    Args:
        subject: a `Subject`.
        tokens: the prompts.

    >>> import warnings
    >>> from interp import load
    >>> subject = load("reference")
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     warn_of_end(subject, subject.tokens(["Once upon a time"]))
    ...     warn_of_end(subject, subject.tokens(["Once upon a "]))
    >>> [one.category.__name__ for one in told]
    ['EndsInsideToken']
    """
    if subject.tokenizer is None or tokens.chat is not None or subject in _told:
        return
    for number, ids, n_cut in zip(tokens.table["prompt_id"], tokens.ids, tokens.n_cut, strict=True):
        tail = "".join(subject.token_strings[ids[-_TAIL:].numpy()])
        if n_cut or not tail[-1:].isspace() or not _joined(tail, subject.tokenizer):
            continue
        _told.add(subject)
        warn(
            f"prompt {number} ends in {shown(tail[-1])}, which the tokenizer of {subject.name!r} joins with the word "
            "that follows, so the model reads an end that it never saw: leave it out; tokenization_bias measures what "
            "it does, and next_byte predicts without it. Silence this warning with warnings.simplefilter('ignore', "
            "interp.errors.EndsInsideToken).",
            EndsInsideToken,
        )
        return


def _joined(tail: str, tokenizer: Any) -> bool:
    """Return whether a text has other tokens at its end when a word follows at once."""
    try:
        alone, longer = text_ids([tail, tail + _NEXT], tokenizer)
    except InputError:  # a word tokenizer
        return False
    return longer[: len(alone)] != alone
