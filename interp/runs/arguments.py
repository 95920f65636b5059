"""Parse the text arguments of a shell command or notebook magic into the arguments of a probe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

from interp.errors import InputError, UnknownName


def parameters(function: Callable[..., Any], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parse a probe's own keyword arguments from names and texts; a value that is not JSON stays text.

    >>> from probes import logit_lens
    >>> parameters(logit_lens, [("positions", "[-1]"), ("targets", "argmax")])
    {'positions': [-1], 'targets': 'argmax'}

    Raises:
        UnknownName: the probe has no such parameter.
    """
    known = [name for name in inspect.signature(function).parameters if name not in ("subject", "texts")]
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            raise UnknownName("parameter", name, known)
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def takes_texts(function: Callable[..., Any]) -> bool:
    """Tell whether a probe reads texts; if not, it reads weights only."""
    return "texts" in inspect.signature(function).parameters


def pairs(given: Iterable[str]) -> list[tuple[str, str]]:
    """Split `key=value` arguments into names and texts.

    Raises:
        InputError: an argument without `=`.
    """
    split = [(pair, *pair.partition("=")) for pair in given]
    for pair, _, equals, _ in split:
        if not equals:
            raise InputError(f"--param {pair!r} is not key=value.")
    return [(key, value) for _, key, _, value in split]
