"""Divide prompts into shards, each named by the hash of what decides its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.errors import InputError
from interp.model.texts.forms import prompts
from interp.model.tokens import Texts, Tokens
from interp.runs.code import hash_of
from interp.sweeps.shard import Shard


class Each:
    """Parameters of a probe that have one value for each prompt.

    Args:
        whole: name -> values in the order of the texts.
    """

    def __init__(self, whole: Mapping[str, Sequence[Any]]) -> None:
        self.whole = {name: list(values) for name, values in whole.items()}
        self._places: dict[int, int] = {}

    def fit(self, tokens: Tokens) -> None:
        """Learn which prompt has which place.

        Raises:
            InputError: a parameter has more or fewer values than there are prompts.
        """
        self._places = {number: place for place, number in enumerate(tokens.table["prompt_id"].tolist())}
        for name, values in self.whole.items():
            if len(values) != len(tokens):
                raise InputError(
                    f"per_prompt[{name!r}] has {len(values)} values for {len(tokens)} prompts; give one for each."
                )

    def of(self, prompt_ids: Sequence[int]) -> dict[str, list[Any]]:
        """Return the values of some prompts."""
        places = [self._places[number] for number in prompt_ids]
        return {name: [values[place] for place in places] for name, values in self.whole.items()}


def prompt_hashes(tokens: Tokens, each: Each) -> dict[int, str]:
    """Hash each prompt's number, token ids, columns of the user's frame and own parameters, by `prompt_id`.

    >>> import interp
    >>> tokens = interp.load("reference").tokens(["Once", "upon"])
    >>> {number: len(found) for number, found in prompt_hashes(tokens, Each({})).items()}
    {0: 12, 1: 12}
    """
    own = tokens.table.drop(columns="prompt_id")
    rows = own.to_dict("records") if len(own.columns) else [{}] * len(own)
    found = {}
    for number, ids, row in zip(tokens.table["prompt_id"].tolist(), tokens.ids, rows, strict=True):
        own_values = each.of([number]) if each.whole else {}
        digest = hashlib.sha256(f"{number} {row!r} {own_values!r} ".encode() + ids.numpy().tobytes())
        found[number] = digest.hexdigest()[:12]
    return found


def divide(n_tokens: Mapping[int, int], hashes: Mapping[int, str], kept_as: str, shard_tokens: int) -> list[Shard]:
    """Divide prompts, in their order, into shards of about `shard_tokens` tokens each, or of one longer prompt.

    >>> shards = divide({7: 3, 8: 2, 9: 4}, {7: "a", 8: "b", 9: "c"}, "lens", 5)
    >>> [shard.prompt_ids for shard in shards]
    [(7, 8), (9,)]
    """
    groups: list[list[int]] = []
    size = 0
    for number, n in n_tokens.items():
        if not groups or size + n > shard_tokens:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += n
    return [
        Shard(hash_of({"sweep": kept_as, "prompts": [hashes[number] for number in group]}), tuple(group))
        for group in groups
    ]


def selector(texts: Texts) -> Callable[[Sequence[int]], Texts]:
    """Return a function that selects texts by `prompt_id`, in a form that any probe takes and that can be pickled.

    >>> selector(["a", "b", "c"])([2])[["prompt_id", "text"]].values.tolist()
    [[2, 'c']]
    """
    if isinstance(texts, Tokens):
        table, several, ids, bos, n_cut = texts.table, None, texts.ids, texts.bos, texts.n_cut
    else:
        given = prompts(texts)
        table, several, bos = given.table, given.texts, None
        ids = [torch.tensor(one, dtype=torch.long) for one in given.ids or ()]
        n_cut = np.zeros(len(ids), dtype=np.int64)
    numbers = pd.Index(table["prompt_id"])

    def select(prompt_ids: Sequence[int]) -> Texts:
        places: list[int] = numbers.get_indexer(list(prompt_ids)).tolist()
        rows = table.iloc[places].reset_index(drop=True)
        if several is not None:
            return rows.assign(text=[several[place] for place in places])
        return Tokens([ids[place] for place in places], rows, bos, n_cut[places])

    return select
