"""Load the probes and claims that installed packages, ours and others, offer through entry points."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import InterpError

DISTRIBUTION = "interp-probes"
# `interp` and `probes` are siblings, in a checkout and in site-packages.
_ROOT = Path(__file__).parents[2].resolve()


class Offered(NamedTuple):
    """The objects that one entry point leads to.

    Attributes:
        entry: the entry point.
        single: True if it leads to one object, named as the entry point, and not to a sequence.
        things: the objects.
    """

    entry: EntryPoint
    single: bool
    things: tuple[Any, ...]


@cache
def offered(group: str) -> tuple[list[Offered], dict[str, str]]:
    """Load all entry points of a group, once.

    A package that cannot be imported causes a warning and loses its own entries; all others load.

    Returns:
        The objects; and for the entry points that failed, by name, the reason as a sentence.

    Raises:
        InterpError: a module of the user hides one of our packages.
    """
    found: list[Offered] = []
    failed: dict[str, str] = {}
    for entry in dict.fromkeys(entry_points(group=group)):
        if is_ours(entry) and (hidden := hidden_by(entry.module.partition(".")[0])):
            raise InterpError(hidden)  # before any import, which would run the user's module
        try:
            loaded = entry.load()
        except Exception as error:  # another package may fail in any way
            reason = f"entry point {entry.value!r} cannot be loaded: {type(error).__name__}: {error}"
            failed[entry.name] = reason
            warnings.warn(f"{reason} (group {group!r}); it is left out.", stacklevel=2)
            continue
        single = not isinstance(loaded, list | tuple)
        found.append(Offered(entry, single, (loaded,) if single else tuple(loaded)))
    return found, failed


def is_ours(entry: EntryPoint) -> bool:
    """Tell whether an entry point belongs to this distribution."""
    return entry.dist is not None and entry.dist.name == DISTRIBUTION


def hidden_by(package: str) -> str | None:
    """Return a sentence that names the module or folder hiding a package of ours; None if nothing hides it."""
    module = sys.modules.get(package)
    spec = module.__spec__ if module is not None else find_spec(package)
    places = [*(spec.submodule_search_locations or []), spec.origin or ""] if spec is not None else []
    if not places or any(Path(place).resolve() == _ROOT / package for place in places):
        return None
    what = Path(places[0])
    return (
        f"{str(what)!r} hides interp's own package {package!r}, as it comes first on the path: rename "
        "it, or run from another folder."
    )
