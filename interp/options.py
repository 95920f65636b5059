"""Settings of a session: the memory a probe may use beyond the model, and whether it shows a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from interp.checks import check
from interp.errors import InputError, UnknownName

_reserved = ContextVar("reserved", default=0)  # bytes, in this thread: another thread's method holds its own


@dataclass
class Options:
    """A session's settings; assign to the fields of `interp.options`, or change them in `with options.local(...)`.

    Attributes:
        memory: bytes a probe may use beyond the model itself (default 1 GiB); batches and chunks are sized to fit,
            within a quarter. Sums over a corpus, whose size a probe states under "Cost", come first, and batches get
            the rest.
        progress: show a progress bar with an estimate of the time left; None shows it on a terminal or in a notebook.
    """

    memory: int = 1 << 30
    progress: bool | None = None

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field.

        Raises:
            UnknownName: there is no such option.
            InputError: the value is of another kind, or the memory is not above 0.
        """
        kinds = {"memory": int, "progress": bool | None}
        if name not in kinds:
            raise UnknownName("option", name, kinds)
        check(name, value, kinds[name])
        if name == "memory" and not value > 0:  # type: ignore[operator]
            raise InputError(f"memory={value}: give a number of bytes above 0, such as 2**30.")
        super().__setattr__(name, value)

    @contextmanager
    def local(self, **changes: int | bool | None) -> Iterator[Options]:
        """Change settings inside a `with` block.

        >>> with options.local(memory=1 << 28):
        ...     options.memory
        268435456
        >>> options.memory
        1073741824
        """
        before = dict(self.__dict__)
        try:
            for name, value in changes.items():
                setattr(self, name, value)
            yield self
        finally:
            self.__dict__.update(before)

    @property
    def bars_hidden(self) -> bool | None:
        """Answer tqdm whether to hide a bar: None hides it where stderr is neither a terminal nor a notebook's."""
        return None if self.progress is None else not self.progress

    @property
    def bar_seconds(self) -> float:
        """Answer tqdm how many seconds lie between two states of a bar: each of them is a line of its own in a log."""
        return 0.1 if sys.stderr.isatty() or "ipykernel" in sys.modules else 10.0

    @property
    def available(self) -> int:
        """Bytes for batches and chunks: the memory without what is reserved, an eighth of it at least."""
        return max(self.memory - _reserved.get(), self.memory // 8, 1)

    @contextmanager
    def reserving(self, n_bytes: int) -> Iterator[Options]:
        """Take what a method holds throughout from the available memory inside a `with` block.

        >>> with options.local(memory=1 << 28), options.reserving(1 << 27):
        ...     options.available
        134217728
        >>> options.available == options.memory
        True
        """
        _reserved.set(_reserved.get() + n_bytes)
        try:
            yield self
        finally:
            _reserved.set(_reserved.get() - n_bytes)


options = Options()
