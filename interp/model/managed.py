"""Context managers that can be sent with a program to a model on another machine."""

from __future__ import annotations

from contextlib import contextmanager
from functools import update_wrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    managed = contextmanager
else:

    class managed:  # noqa: N801 (a decorator)
        """Make a function a context manager, as `contextlib.contextmanager` does, but when it is called.

        nnsight sends a function as its source without decorators: of one decorated beforehand a generator arrives.
        """

        def __init__(self, steps):
            self.steps = steps
            update_wrapper(self, steps)

        def __call__(self, *args, **kwargs):
            """Return the context manager of a call."""
            return contextmanager(self.steps)(*args, **kwargs)
