"""Stop a probe at the moment its run is fixed: its arguments are checked, its texts tokenised, nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from interp.errors import InputError

_rehearsed: ContextVar[str] = ContextVar("rehearsed", default="")  # the probe, in this thread


class _Fixed(BaseException):  # no probe catches it
    def __init__(self, run: Any) -> None:
        self.run = run


def rehearse(function: Callable[..., Any], name: str, source: Any, texts: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the `interp.Run` that a call of a probe would make.

    Args:
        function: the probe.
        name: of the probe.
        source: its model.
        texts: its texts.
        arguments: its other arguments.

    Raises:
        InputError: what the probe itself refuses, or it makes no run of its own.
    """
    token = _rehearsed.set(name)
    try:
        function(source, texts, **arguments)
    except _Fixed as fixed:
        return fixed.run
    finally:
        _rehearsed.reset(token)
    raise InputError(f"probe {name!r} makes no interp.Run of its schema, which a sweep needs; call it yourself.")


def stop_if_rehearsed(run: Any) -> None:
    """End the call of a probe that is being rehearsed."""
    if _rehearsed.get() == run.schema.probe:
        raise _Fixed(run)
