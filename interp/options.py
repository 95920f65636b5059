"""Settings of a session: the memory a probe may use beyond the model, and whether it shows a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass
class Options:
    """A session's settings; assign to the fields of `interp.options`, or change them in `with options.local(...)`.

    Attributes:
        memory: bytes a probe may use beyond the model itself (default 1 GiB); batches and chunks are sized to fit.
        progress: show a progress bar with an estimate of the time left; None shows it on a terminal or in a notebook.
    """

    memory: int = 1 << 30
    progress: bool | None = None

    @contextmanager
    def local(self, **changes: int | bool | None) -> Iterator[Options]:
        """Change settings inside a `with` block.

        >>> with options.local(memory=1 << 28):
        ...     options.memory
        268435456
        >>> options.memory
        1073741824
        """
        before = replace(self)
        try:
            self.__dict__.update(replace(self, **changes).__dict__)  # type: ignore[arg-type]
            yield self
        finally:
            self.__dict__.update(before.__dict__)


options = Options()
