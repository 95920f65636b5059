"""The exceptions that `interp` raises, as one tree.

InterpError                     the base of all below
├── InputError (ValueError)     an argument or a text that cannot be used; the message names it and the mend
│   ├── UnknownName             a model, probe, dataset or column that does not exist; lists the nearest names
│   └── TooLong                 a text longer than the model's context
├── ModelError                  a model that cannot be studied here (encoder, unreadable head, replay that differs)
└── NumericalError              NaN or infinity where a number was needed

`WithoutTemplate` (UserWarning) is the category of the warning that a chat model's texts were read without its template,
and `EndsInsideToken` that of a prompt that ends in a space.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from typing import Any


class InterpError(Exception):
    """The base of every error that `interp` raises on purpose."""


class InputError(InterpError, ValueError):
    """An argument or text that cannot be used."""


class UnknownName(InputError):
    """A name that does not exist; the message lists the nearest ones.

    >>> str(UnknownName("probe", "logit_lense", ["logit_lens", "top_tokens"]))
    "unknown probe 'logit_lense'; did you mean 'logit_lens'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {_listed(near)}?" if near else f"known: {_listed(names)}."
        super().__init__(f"unknown {kind} {name!r}; {hint}{' ' + advice if advice else ''}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), str(self))  # errors of workers are pickled


class TooLong(InputError):
    """A text longer than the model's context."""


class ModelError(InterpError):
    """A model that cannot be studied here."""


class NumericalError(InterpError, ArithmeticError):
    """NaN or infinity where a number was needed."""


class WithoutTemplate(UserWarning):
    """Texts were read without the chat template of the model's tokenizer; the warning comes once per subject."""


class EndsInsideToken(UserWarning):
    """A prompt ends where the tokenizer would have gone on with a longer token; it comes once per subject."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn the user, at the line outside these packages that led here, however many calls there are in between."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("interp", "probes"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def reason_of(error: Exception) -> str:
    """Return the first line of what an error says, without its full stop; the name of its type if it says nothing.

    >>> reason_of(ValueError("no such key.")), reason_of(KeyError())
    ('no such key', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def shown(text: str) -> str:
    """Return a text as an error message quotes it: its beginning, if it is long.

    >>> shown("Once upon a time " * 9)
    "'Once upon a time Once upon a time Once upon a time Once upo…'"
    """
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _again(kind: type[UnknownName], message: str) -> UnknownName:
    error = kind.__new__(kind)
    error.args = (message,)
    return error


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names) if names else "none"
