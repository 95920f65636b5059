"""The words of a concept as tokens: some choose neurons, the others measure the effect of the neurons."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, single_token, word_tokens


@dataclass(frozen=True)
class ConceptWords:
    """A concept's words, split in two.

    Attributes:
        seeds: words that choose neurons.
        held_out: words that measure the effect, and have no token in common with the seeds.
        dropped: words that are not a single token of this model inside a text, and repetitions. The space before a word
            belongs to the token, or is a token of its own, as in a character-level model.
        seed_ids: tokens of the seeds, in all spellings: with and without the space, small, capitalised; int64 [s].
        held_out_ids: tokens of the held-out words, int64 [h].
    """

    seeds: tuple[str, ...]
    held_out: tuple[str, ...]
    dropped: tuple[str, ...]
    seed_ids: Tensor
    held_out_ids: Tensor


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
    return ConceptWords(seeds, kept, dropped, _joined(tokens, seeds), _joined(tokens, kept))


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


def _joined(tokens: dict[str, list[int]], words: Sequence[str]) -> Tensor:
    return torch.tensor([index for word in words for index in tokens[word]], dtype=torch.long)
