"""Parse the arguments of `@pytest.mark.finding(model=..., data=..., n=...)`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interp.errors import InputError, UnknownName

NAME = "finding"
HELP = (
    "finding(model, data=None, n=None): a finding about a language model. model: anything interp.load takes, or a "
    "function that returns it; data: a shipped dataset, a file or texts; n: number of texts, from the first."
)
_ARGUMENTS = ("model", "data", "n")


@dataclass(frozen=True)
class FindingSpec:
    """A test's model and texts.

    Attributes:
        model: anything `interp.load` takes, or a function without arguments that returns it, called once per session; a
            folder may be relative to the test module.
        data: a shipped dataset's name, a file (also relative to the test module), texts, or None if no texts are read.
        n: number of texts, from the first; None for all.
    """

    model: Any
    data: Any = None
    n: int | None = None


def finding_spec(markers: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]) -> FindingSpec:
    """Combine the arguments of a test's markers, those of its module and class first.

    Raises:
        InputError: a marker's arguments cannot be used.

    >>> finding_spec([((), {"model": "reference"}), ((), {"data": "stories", "n": 5})])
    FindingSpec(model='reference', data='stories', n=5)
    """
    given: dict[str, Any] = {}
    for positional, named in markers:
        if positional:
            raise InputError(f"@pytest.mark.finding takes its arguments by name; write model={positional[0]!r}.")
        for name in named:
            if name not in _ARGUMENTS:
                raise UnknownName("argument of @pytest.mark.finding", name, _ARGUMENTS)
        given |= named
    if "model" not in given:
        raise InputError('@pytest.mark.finding names no model; write @pytest.mark.finding(model="reference").')
    n = given.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise InputError(f"@pytest.mark.finding(n={n!r}): give a whole number of texts, at least 1.")
    if n is not None and given.get("data") is None:
        raise InputError(f"@pytest.mark.finding(n={n!r}) names no data to take texts from; add data=.")
    return FindingSpec(**given)
