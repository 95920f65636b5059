"""Name a shard and its prompts; the plan of a folder can be read without a model library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """A group of whole prompts whose rows are one file.

    Attributes:
        name: a hash of the sweep's identity and of its prompts: numbers, token ids and the user's columns.
        prompt_ids: the numbers of its prompts, in the order in which they were given.
    """

    name: str
    prompt_ids: tuple[int, ...]
