"""Reads and edits of a model on another machine: they go there with every program sent while they are active."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interp.model.sites.site import Edit, Site


@dataclass(frozen=True, eq=False)
class Sent:
    """A read or an edit of a site.

    Attributes:
        site: of a model on another machine.
        edit: the change, which is sent there; None for a read.
        look: called here with each value that was read there, or with an empty tensor for each that was changed.
        depth: how many trials of the model's sites were under way when it began, during which it does not rest.
    """

    site: Site
    edit: Edit | None
    look: Callable[[Tensor], None]
    depth: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave behind what is called here."""
        return Sent, (self.site, self.edit, None)


@contextmanager
def sending(one: Sent) -> Iterator[None]:
    """Send a read or an edit with every program inside the `with` block."""
    sent = one.site.sent
    assert sent is not None
    with one.site.exclusive:
        sent.append(one)
        try:
            yield
        finally:
            sent.remove(one)


def tell(sent: Sequence[Sent], passed: Sequence[Sequence[Tensor]]) -> None:
    """Show what passed through sites there, [sent][pass], to those who asked here."""
    for one, values in zip(sent, passed, strict=True):
        for value in values:
            one.look(value)
