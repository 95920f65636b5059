"""Clean and corrupt prompts side by side: what stands for what, and how a run is made corrupt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import (
    InputError,
    Positions,
    Subject,
    Texts,
    Tokens,
    content_keys,
    positions_of,
    single_token,
)

Corruption: TypeAlias = Literal["prompt", "noise", "resample", "mean"]
"""The kind of corrupt run: another prompt, noise on the embeddings, another text of a set drawn at
random, or the mean of a set's activations."""

Tokened: TypeAlias = str | int | Sequence[str | int] | None
"""A token as text or id, for all prompts or one for each; None for what the runs themselves say next."""

_AROUND = 2  # tokens shown on either side of where two prompts begin to differ


@dataclass(frozen=True)
class Corrupt:
    """The corrupt side of all prompts.

    Attributes:
        kind: see `Corruption`.
        partners: token ids of the corrupt prompts, `draws` for each clean prompt; empty if there are none.
        texts: the set whose mean is taken, or None.
        size: of the noise, in standard deviations of the entries of a prompt's embeddings.
        noised: positions of the noise, by the token ids of a prompt; None for all.
        draws: corrupt runs of each prompt.
        seed: of the noise.
        digest: of the texts that were given, or None.
    """

    kind: Corruption
    partners: Sequence[Tensor]
    texts: Tokens | None
    size: float
    noised: Mapping[tuple[int, ...], Tensor] | None
    draws: int
    seed: int
    digest: str | None = None

    def noise(self, embedded: Tensor, prompts: Sequence[Tensor], keys: np.ndarray) -> Tensor:
        """Return the noise of a batch's draws, [batch, pos, d_model].

        Args:
            embedded: the residual that enters the first block, [batch, pos, d_model].
            prompts: token ids of each row without padding; a row's draws are neighbours.
            keys: their `content_keys`, by the seed.
        """
        added = torch.zeros(embedded.shape, dtype=torch.float32)
        for row, (ids, key) in enumerate(zip(prompts, keys, strict=True)):
            n = len(ids)
            generator = torch.Generator().manual_seed(int((key + np.uint64(row % self.draws)) >> np.uint64(1)))
            spread = embedded[row, :n].float().std().cpu()
            drawn = torch.randn(n, embedded.shape[2], generator=generator) * spread * self.size
            where = torch.ones(n, dtype=torch.bool)
            if self.noised is not None:
                where = torch.zeros(n, dtype=torch.bool)
                where[self.noised[tuple(ids.tolist())]] = True
            added[row, :n] = torch.where(where[:, None], drawn, 0.0)
        return added.to(embedded)


def corrupt_of(
    subject: Subject,
    clean: Tokens,
    corrupt: Texts | None,
    kind: Corruption,
    *,
    size: float,
    noised: Positions,
    draws: int,
    seed: int,
    truncate: bool,
) -> Corrupt:
    """Check what a user gave for the corrupt side, and return it.

    Raises:
        InputError: it does not fit the clean prompts, or the kind of corruption.
    """
    if draws < 1 or (draws > 1 and kind in ("prompt", "mean")):
        raise InputError(f"draws={draws}: give 1 or more, and 1 where nothing is drawn (corruption={kind!r}).")
    if kind == "noise":
        if corrupt is not None:
            raise InputError("corruption='noise' changes the clean prompts: give corrupt=None.")
        if size <= 0:
            raise InputError(f"noise={size}: give standard deviations above 0.")
        asked = positions_of(subject, clean, noised, "noised")
        ids = [tuple(one.tolist()) for one in clean.ids]
        places = None if asked is None else dict(zip(ids, asked.by_prompt, strict=True))
        return Corrupt(kind, (), None, size, places, draws, seed)
    if kind == "prompt":
        if corrupt is None:
            raise InputError(
                "corrupt=None: give a prompt for each clean one, or corruption='noise', 'resample' or 'mean'."
            )
        others = subject.tokens(corrupt, truncate=truncate)
        _check_pairs(subject, clean, others)
        return Corrupt(kind, others.ids, None, size, None, 1, seed, others.digest)
    texts = clean if corrupt is None else subject.tokens(corrupt, truncate=truncate)
    partners = _resampled(clean, texts, draws, seed) if kind == "resample" else []
    return Corrupt(kind, partners, texts, size, None, draws, seed, None if corrupt is None else texts.digest)


def _check_pairs(subject: Subject, clean: Tokens, corrupt: Tokens) -> None:
    """Refuse prompts that are not as many, or a pair that is not of as many tokens."""
    if len(clean) != len(corrupt):
        raise InputError(f"{len(clean)} clean prompts and {len(corrupt)} corrupt ones: give one for each.")
    for number, left, right in zip(clean.table["prompt_id"], clean.ids, corrupt.ids, strict=True):
        if len(left) != len(right):
            raise InputError(
                f"prompt {number} has {len(left)} tokens and its corrupt one {len(right)}, so positions would not mean "
                f"the same: {_alignment(subject, left.tolist(), right.tolist())}; make them equally long."
            )


def _alignment(subject: Subject, left: list[int], right: list[int]) -> str:
    """Show where two prompts differ, tokens divided by bars, a little around it."""
    parts: list[list[str]] = [[], []]
    strings = [[str(one) for one in subject.token_strings[np.array(ids)]] for ids in (left, right)]
    for kind, start, stop, other, end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for shown, tokens, places in zip(parts, strings, ((start, stop), (other, end)), strict=True):
            same = tokens[slice(*places)]
            if kind == "equal" and len(same) > 2 * _AROUND:
                same = [*same[:_AROUND], "…", *same[-_AROUND:]]
            shown.append("|".join(same) if kind == "equal" else f"[{'|'.join(same)}]")
    return " against ".join(repr("|".join(shown)) for shown in parts)


def _resampled(clean: Tokens, texts: Tokens, draws: int, seed: int) -> list[Tensor]:
    """Draw texts of a set for each prompt, cut to its length, by the prompt's contents and the seed."""
    found = []
    for number, ids, key in zip(clean.table["prompt_id"], clean.ids, content_keys(clean.ids, seed), strict=True):
        usable = [one for one in texts.ids if len(one) >= len(ids) and not torch.equal(one[: len(ids)], ids)]
        if not usable:
            raise InputError(f"no other text of the set has the {len(ids)} tokens of prompt {number}; add longer ones.")
        order = np.random.default_rng(int(key)).integers(0, len(usable), size=draws)
        found += [usable[index][: len(ids)] for index in order]
    return found


def ids_of(subject: Subject, clean: Tokens, given: Tokened, what: str) -> Tensor:
    """Return a token of every prompt, int64 [prompts]; -1 where none was given.

    Raises:
        InputError: a token is not one of the vocabulary, or there is not one for each prompt.
    """
    if given is None:
        return torch.full((len(clean),), -1)
    several = [given] * len(clean) if isinstance(given, str | int) else list(given)
    if len(several) != len(clean):
        raise InputError(f"{what} lists {len(several)} tokens for {len(clean)} prompts; give one for each, or one.")
    found = [single_token(one, subject.tokenizer) if isinstance(one, str) else int(one) for one in several]
    for index in found:
        if not 0 <= index < subject.d_vocab:
            raise InputError(f"{what} id {index} is outside the vocabulary of {subject.d_vocab}; choose another.")
    return torch.tensor(found)
