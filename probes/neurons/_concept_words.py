"""The words of a concept as tokens: some choose neurons, the others measure the effect of the neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, single_token, word_tokens

_AS_COMMON = 1000  # tokens nearest in the order of ids that count as equally common

_WORDS, _IDS = ("seeds", "held_out", "dropped"), ("choosing_ids", "seed_ids", "held_out_ids")


@dataclass(frozen=True)
class ConceptWords:
    """A concept's words, split in two.

    Attributes:
        seeds: words that choose neurons.
        held_out: words that measure the effect, and have no token in common with the seeds.
        dropped: words that are not a single token of this model inside a text, and repetitions. The space before a word
            belongs to the token, or is a token of its own, as in a character-level model.
        choosing_ids: of each seed the token inside a sentence, int64 [len(seeds)].
        seed_ids: tokens of the seeds, in all spellings: with and without the space, small, capitalised; int64 [s].
        held_out_ids: tokens of the held-out words, in all spellings, int64 [h].
    """

    seeds: tuple[str, ...]
    held_out: tuple[str, ...]
    dropped: tuple[str, ...]
    choosing_ids: Tensor
    seed_ids: Tensor
    held_out_ids: Tensor

    def to_file(self) -> tuple[dict[str, list[str]], dict[str, Tensor]]:
        """Return words and ids as a file of `interp.data.tensor_file` holds them: metadata, and tensors."""
        words = {name: list(getattr(self, name)) for name in _WORDS}
        return words, {name: getattr(self, name) for name in _IDS}

    @classmethod
    def from_file(cls, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ConceptWords:
        """Make them of what `to_file` gave."""
        words = {name: tuple(about[name]) for name in _WORDS}
        return cls(**words, **{name: tensors[name] for name in _IDS})  # type: ignore[arg-type]


def concept_words(subject: Subject, words: Sequence[str], *, held_out: float = 0.5, seed: int = 0) -> ConceptWords:
    """Find the tokens of words and hold some of the words out.

    Args:
        subject: the model whose vocabulary decides.
        words: without spaces around them.
        held_out: share of the usable words that is held out, rounded. Between 0 and 1, which mean none and all, at
            least one word chooses and one measures.
        seed: of the split.

    Raises:
        InputError: no words, a share outside 0..1, or too few of the words are single tokens.

    >>> import interp
    >>> words = concept_words(interp.load("reference"), ["happy", "smiled", "laughed", "joy", "exuberance"])
    >>> len(words.seeds), len(words.held_out), words.dropped
    (2, 2, ('exuberance',))
    """
    if isinstance(words, str) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise InputError(f"words={words!r} is not a list of words; give one such as ['day', 'night'].")
    if not 0 <= held_out <= 1:
        raise InputError(f"held_out={held_out}: give the share of words to hold out, 0 to 1.")
    tokens, dropped = _tokens_of(subject, words)
    needed = 1 if held_out in (0, 1) else 2
    if len(tokens) < needed:
        raise InputError(
            f"of {list(words)} only {list(tokens)} are single tokens of {subject.name!r}; "
            f"give at least {needed} that are."
        )
    n_held = round(held_out * len(tokens))
    if needed == 2:
        n_held = min(max(n_held, 1), len(tokens) - 1)
    order = np.random.default_rng(seed).permutation(len(tokens))
    usable = list(tokens)
    measuring = {usable[index] for index in order[:n_held]}
    seeds = tuple(word for word in usable if word not in measuring)
    kept = tuple(word for word in usable if word in measuring)
    # Averaged over all spellings, scores of a concept's neurons are lower, on words held out too.
    choosing = torch.tensor([tokens[word][0] for word in seeds], dtype=torch.long)
    return ConceptWords(seeds, kept, dropped, choosing, _joined(tokens, seeds), _joined(tokens, kept))


def _tokens_of(subject: Subject, words: Sequence[str]) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Return the tokens of each word, and the words left out. A token belongs to the first word that has it."""
    tokens: dict[str, list[int]] = {}
    dropped, taken = [], set()
    for word in (word.strip() for word in words):
        found = []
        if _is_token(subject, word):  # the spelling inside a sentence is the one that counts
            for spelling in (f" {word}", f" {word.capitalize()}", word, word.capitalize()):
                with suppress(InputError):  # several tokens, or unknown
                    found.append(single_token(spelling, subject.tokenizer))
        fresh = [index for index in dict.fromkeys(found) if index not in taken and index < subject.d_vocab]
        if fresh:
            tokens[word] = fresh
            taken.update(fresh)
        else:
            dropped.append(word)
    return tokens, tuple(dropped)


def _is_token(subject: Subject, word: str) -> bool:
    """Return whether a word inside a sentence is one token, with its space or behind a token that is only the space."""
    with suppress(InputError):  # several tokens, or unknown
        ids = word_tokens(f" {word}", subject.tokenizer)
        if len(ids) == 2 and not str(subject.token_strings[ids[0]]).strip():
            return ids[1] == single_token(word, subject.tokenizer)
        single_token(f" {word}", subject.tokenizer)
        return True
    return False


def random_words(subject: Subject, words: ConceptWords, n: int, seed: int, allowed: np.ndarray | None = None) -> Tensor:
    """Draw sets of tokens that look like the words that chose the neurons, int64 [n, len(seeds)].

    Each word gives way to one of the vocabulary that is not of the concept, written as it is (space before it, letters,
    capitals) and about as common: among the nearest in the order of ids, which follows frequency in learned
    vocabularies. A set holds no token twice. With `allowed`, bool [d_vocab], other tokens are never drawn.

    Raises:
        InputError: the vocabulary has too few other tokens.
    """
    if not n:
        return torch.empty(0, len(words.choosing_ids), dtype=torch.long)
    taken = set(torch.cat([words.seed_ids, words.held_out_ids]).tolist())
    if allowed is not None:
        taken |= set(np.flatnonzero(~allowed).tolist())
    forms = [_form(str(text)) for text in subject.token_strings]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(n, len(words.choosing_ids), dtype=torch.long)
    for place, token in enumerate(words.choosing_ids.tolist()):
        others = [index for index, form in enumerate(forms) if form == forms[token] and index not in taken]
        if len(others) < len(words.choosing_ids):  # too few to draw from are written so: any will do
            others = [index for index in range(len(forms)) if index not in taken]
        if len(others) < len(words.choosing_ids):
            raise InputError(
                f"the vocabulary has {len(others)}{' usable' * (allowed is not None)} tokens that are not of the "
                "concept, too few to draw random words from; give n_random=0."
            )
        pool = torch.tensor(others)
        near = pool[(pool - token).abs().argsort(stable=True)[:_AS_COMMON]]
        keys = torch.rand(n, len(near), generator=generator)
        keys[(near[None, :, None] == drawn[:, None, :place]).any(dim=2)] = -1.0
        drawn[:, place] = near[keys.argmax(dim=1)]
    return drawn


def _form(text: str) -> tuple[bool, ...]:
    """Return how a token is written, as far as random words should be written alike."""
    core = text.strip()
    return text.startswith(" "), core.isalpha(), core.isascii(), core.islower(), core.istitle(), not core


def _joined(tokens: dict[str, list[int]], words: Sequence[str]) -> Tensor:
    return torch.tensor([index for word in words for index in tokens[word]], dtype=torch.long)
