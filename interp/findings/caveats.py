"""Take down what a probe warns of while a claim is measured, and show each warning to the user once."""

from __future__ import annotations

import re
import sys
import warnings
from types import TracebackType
from typing import Any

from interp.errors import WithoutTemplate


class Caveats:
    """A context that notes the user warnings raised within; at its end, each is shown as it would have been.

    Args:
        shown: warnings that are not shown again; new ones are added.
        untrue: categories of warnings that do not apply here; they are neither noted nor shown.

    Attributes:
        found: the texts of the warnings, each once, in order.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     with Caveats(set()) as caveats:
    ...         warnings.warn("too few steps")
    ...         warnings.warn("too few steps. Silence this warning with warnings.simplefilter('ignore').")
    >>> caveats.found
    ['too few steps']

    What a warning says of its silencing is left out, as a verdict is not silenced.
    """

    def __init__(self, shown: set[Any], untrue: tuple[type[Warning], ...] = ()) -> None:
        self.found: list[str] = []
        self._untrue = untrue
        self._shown = shown  # Python's own registries forget whenever a filter changes
        self._caught: list[tuple[Warning, type[Warning], str, int]] = []
        self._context = warnings.catch_warnings()

    def __enter__(self) -> Caveats:
        self._context.__enter__()
        # What was shown elsewhere in this session, or is to be ignored, is a caveat of this verdict all the same.
        warnings.simplefilter("always", UserWarning)
        show = warnings.showwarning

        def note(message: Any, category: type[Warning], filename: str, lineno: int, *more: Any, **options: Any) -> None:
            if issubclass(category, self._untrue):
                return
            if issubclass(category, UserWarning):
                self._caught.append((message, category, filename, lineno))
            else:
                show(message, category, filename, lineno, *more, **options)

        warnings.showwarning = note
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._context.__exit__(kind, error, at)
        # Of a chat template the first claim alone would tell, for it is said once.
        told = [message for message, category, *_ in self._caught if not issubclass(category, WithoutTemplate)]
        said = [re.sub(r"\s+", " ", str(message)).strip() for message in told]
        said = [re.sub(r"\.? Silence this warning with .*$", "", text) for text in said]
        self.found = list(dict.fromkeys(said))
        for message, category, filename, lineno in self._caught:
            key = (str(message), category, filename, lineno)
            if key not in self._shown:
                self._shown.add(key)
                warnings.warn_explicit(message, category, filename, lineno, _module_of(filename))


def _module_of(filename: str) -> str | None:
    """Return the name of the module in a file, by which users filter warnings."""
    return next((name for name, one in [*sys.modules.items()] if getattr(one, "__file__", None) == filename), None)
