"""What `@pytest.mark.finding(model=..., data=..., n=...)` says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interp.errors import InputError, UnknownName

NAME = "finding"
HELP = (
    "finding(model, data=None, n=None): a finding about a language model. model: what interp.load takes, or a function "
    "that returns it; data: a shipped dataset, a file or texts; n: how many of its texts, the first ones."
)
_ARGUMENTS = ("model", "data", "n")


@dataclass(frozen=True)
class FindingSpec:
    """Which model a test asks, about which texts.

    Attributes:
        model: what `interp.load` takes, or a function without arguments that returns it, called once a session; a
            folder is looked for beside the test module too.
        data: a shipped dataset's name, a file (beside the test module too), texts, or None for what needs no texts.
        n: how many texts, from the first; None for all.
    """

    model: Any
    data: Any = None
    n: int | None = None


def finding_spec(markers: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]) -> FindingSpec:
    """The arguments of a test's markers, those of its module and class first, put together.

    Raises:
        InputError: what a marker says cannot be used.

    >>> finding_spec([((), {"model": "reference"}), ((), {"data": "stories", "n": 5})])
    FindingSpec(model='reference', data='stories', n=5)
    """
    given: dict[str, Any] = {}
    for positional, named in markers:
        if positional:
            raise InputError(f"@pytest.mark.finding takes its arguments by name: say model={positional[0]!r}.")
        for name in named:
            if name not in _ARGUMENTS:
                raise UnknownName("argument of @pytest.mark.finding", name, _ARGUMENTS)
        given |= named
    if "model" not in given:
        raise InputError('@pytest.mark.finding names no model: say @pytest.mark.finding(model="reference").')
    n = given.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise InputError(f"@pytest.mark.finding(n={n!r}): give a whole number of texts, at least 1.")
    if n is not None and given.get("data") is None:
        raise InputError(f"@pytest.mark.finding(n={n!r}) names no data to take texts from: say data= too.")
    return FindingSpec(**given)
