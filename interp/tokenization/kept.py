"""Keep the lattice of a model's tokenizer, whose answers about what may follow what are worth more than its making."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from interp.tokenization.lattice import Lattice

_KEPT: WeakKeyDictionary[Any, Lattice] = WeakKeyDictionary()


def lattice_of(subject: Any) -> Lattice:
    """Return the lattice of a model's tokenizer, the same one as long as the model lives.

    Args:
        subject: what `interp.load` returns.

    Raises:
        InputError: it came without a tokenizer, or the bytes of its tokens are not known.

    >>> from interp import load
    >>> subject = load("reference")
    >>> lattice_of(subject) is lattice_of(subject)
    True
    """
    found = _KEPT.get(subject)
    if found is None or found.tokenizer is not subject.tokenizer:
        found = _KEPT[subject] = Lattice(subject.tokenizer, subject.d_vocab)
    return found
