"""Name a shard and its prompts, the task to compute it and what comes back; none of it needs a model library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.model.tokens import Texts


@dataclass(frozen=True)
class Shard:
    """A group of whole prompts whose rows are one file.

    Attributes:
        name: a hash of the sweep's identity and of its prompts: numbers, token ids and the user's columns.
        prompt_ids: the numbers of its prompts, in the order in which they were given.
    """

    name: str
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A shard to compute, with the texts of its prompts and the parameters that are theirs alone."""

    shard: Shard
    texts: Texts
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A shard that is kept: its name, its number of rows, and what its probe warned of."""

    name: str
    n_rows: int = 0
    warnings: tuple[str, ...] = ()
