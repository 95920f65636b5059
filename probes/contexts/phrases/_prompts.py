"""Read phrases with their contexts and targets, and draw what replaces them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    InputError,
    Subject,
    Tokens,
    content_keys,
    frame_of_texts,
    shipped_path,
    text_ids,
    tokens_after,
)

Phrases: TypeAlias = pd.DataFrame | Literal["phrases"]
"""A frame with the texts `phrase`, `context` and `target`; "phrases" means the shipped ones."""

_NEEDED = ("phrase", "context", "target")
_LEAST_WORDS = 50  # whole words in a vocabulary, of which a filler is drawn


@dataclass(frozen=True)
class Prompt:
    """A phrase in its context.

    Attributes:
        ids: the start of a text, the phrase and its context, int64 [pos].
        first, stop: the phrase's positions.
        target: the token whose log-probability is read at the end.
    """

    ids: Tensor
    first: int
    stop: int
    target: int

    @property
    def phrase(self) -> Tensor:
        """Token ids of the phrase, [n]."""
        return self.ids[self.first : self.stop]

    def up_to(self, phrase: Tensor) -> Tensor:
        """Return the ids up to the end of the phrase, with another one in its place."""
        return torch.cat([self.ids[: self.first], phrase])


def read_prompts(subject: Subject, given: Phrases) -> tuple[Tokens, list[Prompt]]:
    """Return the prompts as tokens, whose table holds the user's columns but `target`, and each by itself.

    Raises:
        InputError: a column is missing, a text is empty, or the tokenizer joins two of them.
    """
    frame = _frame(given)
    if subject.tokenizer is None:
        raise InputError(f"{subject.name!r} came without a tokenizer, and phrases are texts; load it with tokenizer=.")
    table = frame_of_texts(frame.assign(text=frame["phrase"])).drop(columns=["text", "target"])
    tokenizer = subject.tokenizer
    prompts = []
    for ids, phrase, context, target in zip(
        subject.tokens(frame["phrase"].tolist()).ids, *(frame[name].tolist() for name in _NEEDED), strict=True
    ):
        own = len(text_ids([phrase], tokenizer)[0])
        after = tokens_after(phrase, context, tokenizer)
        (aim, *_) = tokens_after(phrase + context, target, tokenizer)
        prompts.append(Prompt(torch.cat([ids, torch.tensor(after)]), len(ids) - own, len(ids), aim))
    tokens = subject.tokens(table.assign(input_ids=[one.ids.tolist() for one in prompts]), truncate=None)
    return tokens, prompts


def _frame(given: Phrases) -> pd.DataFrame:
    if isinstance(given, str):
        return pd.read_csv(shipped_path("phrases") / "phrases.csv", keep_default_na=False)
    for name in _NEEDED:
        if name not in given.columns:
            raise InputError(
                f"the frame has no column {name!r}, only {list(given.columns)}; give phrase, context and target."
            )
        for row, text in enumerate(given[name]):
            if not isinstance(text, str) or not text:
                raise InputError(f"{name} {row} is {text!r}; give a text of at least one token.")
    if given.empty:
        raise InputError("no phrases were given; pass at least one.")
    return given.reset_index(drop=True)


def fillers(subject: Subject, prompts: Sequence[Prompt], filler: str | None, seed: int) -> list[Tensor]:
    """Return as many tokens as each phrase has: words drawn by its contents, or those of a text over and over.

    Raises:
        InputError: the text has no tokens.
    """
    if filler is not None:
        ids = text_ids([filler], subject.tokenizer)[0]
        if not ids:
            raise InputError(f"filler={filler!r} has no tokens; give a text that has.")
        return [torch.tensor((ids * len(one.phrase))[: len(one.phrase)]) for one in prompts]
    pool = _words(subject)
    keys = content_keys([one.ids for one in prompts], seed).tolist()
    return [
        torch.from_numpy(np.random.default_rng(key).choice(pool, len(one.phrase)))
        for key, one in zip(keys, prompts, strict=True)
    ]


def _words(subject: Subject) -> np.ndarray:
    """Return the tokens that are whole words in small letters; all but special ones where there are few such."""
    strings = subject.token_strings.tolist()
    found = [index for index, text in enumerate(strings) if text[:1] == " " and _is_word(text[1:])]
    if len(found) < _LEAST_WORDS:
        special = set(subject.tokenizer.all_special_ids)
        found = [index for index in range(subject.d_vocab) if index not in special]
    return np.array(found)


def _is_word(text: str) -> bool:
    return len(text) > 2 and text.isascii() and text.isalpha() and text.islower()


def other_phrases(prompts: Sequence[Prompt], seed: int) -> list[Tensor | None]:
    """Return for each phrase another one, of a prompt with another target, of as many tokens.

    Where none has as many, it is the end of a longer one; None where all are shorter. Contents and seed decide.
    """
    found: list[Tensor | None] = []
    for one in prompts:
        n = len(one.phrase)
        able = [other for other in prompts if other.target != one.target and len(other.phrase) >= n]
        able = [other for other in able if len(other.phrase) == n] or able
        if not able:
            found.append(None)
            continue
        keys = content_keys([torch.cat([one.ids, other.ids]) for other in able], seed)
        found.append(able[int(keys.argmin())].phrase[-n:])
    return found
