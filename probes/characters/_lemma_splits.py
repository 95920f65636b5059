"""Splits of a vocabulary that keep each lemma on one side, and balanced samples from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import numpy as np

from interp.authoring import InputError, UnknownName

SplitRule: TypeAlias = Literal["strict", "paper", "random"]
N_FOLDS = 5  # of the words that are not held out; the last one is the validation part
_HELD_OUT = 0.2
_FEWEST_GROUPS = 10


@dataclass(frozen=True)
class Split:
    """Places in the list of words, each in the shuffled order of their groups.

    Attributes:
        train: 64 % of the groups, int64.
        test: 20 %.
        folds: all but the test part in five parts; the first four are `train`.
    """

    train: np.ndarray
    test: np.ndarray
    folds: tuple[np.ndarray, ...]


def group_words(words: Sequence[str], rule: SplitRule, language: str | None) -> np.ndarray:
    """Number the groups of words that must stay together: a group number per word, int64 [n].

    Args:
        words: without spaces around them.
        rule: "strict" joins words whose lemmas are equal when case is ignored; "paper" leaves a word with a capital
            alone, as a lemmatiser does that does not know it; "random" joins only words of the same spelling, so that
            inflections leak: for comparison.
        language: of the lemmatiser, a code such as "en"; None makes every word its own lemma.

    Raises:
        UnknownName: `rule` is something else.
        InputError: the language has no lemmas.

    >>> group_words(["walk", "Walks", "walked", "talk"], "strict", "en").tolist()
    [1, 1, 1, 0]
    >>> group_words(["walk", "Walks", "walked", "talk"], "paper", "en").tolist()
    [2, 0, 2, 1]
    """
    if rule not in get_args(SplitRule):
        raise UnknownName("split", str(rule), get_args(SplitRule))
    _check_language(language)
    if rule == "strict":
        keys = [_lemma(word.casefold(), language).casefold() for word in words]
    elif rule == "paper":
        keys = [_lemma(word, language) if word.islower() else word for word in words]
    else:
        keys = list(words)
    groups: np.ndarray = np.unique(np.array(keys, dtype=str), return_inverse=True)[1]
    return groups


def _check_language(language: str | None) -> None:
    if language is None:
        return
    import simplemma  # with its dictionaries, a quarter of a second

    try:
        simplemma.lemmatize("a", lang=language)
    except ValueError:
        raise InputError(f"there are no lemmas of language {language!r}; give a code such as 'en', or None.") from None


@lru_cache(maxsize=1 << 18)
def _lemma(word: str, language: str | None) -> str:
    if language is None:
        return word
    import simplemma

    return simplemma.lemmatize(word, lang=language)


def split_groups(groups: np.ndarray, seed: int) -> Split:
    """Shuffle the groups [n] and hold out a fifth of them.

    Raises:
        InputError: there are too few groups.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    if n_groups < _FEWEST_GROUPS:
        raise InputError(f"the words have {n_groups} different lemmas; give at least {_FEWEST_GROUPS}.")
    place = np.random.default_rng([seed, 0]).permutation(n_groups)[groups]
    order = np.argsort(place, kind="stable")
    n_pool = n_groups - max(1, round(_HELD_OUT * n_groups))
    fold = np.where(place < n_pool, place * N_FOLDS // n_pool, N_FOLDS)[order]
    folds = tuple(order[fold == number] for number in range(N_FOLDS))
    return Split(np.concatenate(folds[:-1]), order[fold == N_FOLDS], folds)


def balanced(order: np.ndarray, positive: np.ndarray, eligible: np.ndarray, *, cut: bool = True) -> np.ndarray:
    """Return all positives of `order`, then as many of its first negatives.

    Args:
        order: places of words, int64.
        positive: bool [n].
        eligible: bool [n]; other words are left out.
        cut: if there are fewer negatives, leave out the last positives too; the paper does not.

    >>> balanced(np.arange(6), np.array([1, 0, 0, 1, 0, 0], bool), np.ones(6, bool)).tolist()
    [0, 3, 1, 2]
    """
    able = order[eligible[order]]
    yes, no = able[positive[able]], able[~positive[able]]
    n_each = min(len(yes), len(no)) if cut else len(yes)
    return np.concatenate([yes[:n_each], no[:n_each]])
