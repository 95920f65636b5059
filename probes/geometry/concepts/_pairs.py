"""Pairs and lists of words as tokens of a model: what is not a single token is dropped and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.authoring import InputError, Source, Subject, load, shipped_path, single_token

LEAST = 3  # pairs of a concept that is measured
_NEAR = 500  # tokens on either side, in the order of ids, that count as equally frequent
_EACH = 8  # random tokens drawn for a word


@dataclass(frozen=True)
class Concept:
    """The pairs of a concept that are single tokens.

    Attributes:
        name: of the concept.
        left, right: tokens, int64 [n] each.
        n_dropped: pairs left out.
        left_pool, right_pool: random tokens about as frequent, int64 [n, 8] each.
    """

    name: str
    left: np.ndarray
    right: np.ndarray
    n_dropped: int
    left_pool: np.ndarray
    right_pool: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """All tokens of the concept."""
        return np.concatenate([self.left, self.right])


def checked_pairs(pairs: pd.DataFrame | None) -> pd.DataFrame:
    """Return a table of `concept`, `left`, `right` without repeated rows; None is the shipped one.

    Raises:
        InputError: a column is missing or holds something else than words.
    """
    if pairs is None:
        return pd.read_csv(shipped_path("geometry") / "word_pairs.csv", keep_default_na=False)
    names = ["concept", "left", "right"]
    missing = [name for name in names if name not in pairs]
    if missing or pairs.empty:
        raise InputError(f"pairs with columns {list(pairs)} and {len(pairs)} rows: give rows of {names}.")
    for name in names:
        for value in pairs[name]:
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"pairs hold {value!r} as {name!r}: give a word.")
    return pairs[names].drop_duplicates().reset_index(drop=True)


def token_of(subject: Subject, word: str) -> int | None:
    """Return the token of a word as it stands inside a sentence; None if it is several, or unknown."""
    with suppress(InputError):
        found = single_token(f" {word.strip()}", subject.tokenizer)
        return found if found < min(subject.d_vocab, subject.d_embedding) else None
    return None


def concepts_of(subject: Subject, pairs: pd.DataFrame, common_to: Sequence[Source], seed: int) -> list[Concept]:
    """Return the concepts that keep three pairs or more of single tokens, in the order of the table.

    Raises:
        InputError: none does.
    """
    others = [load(one) for one in common_to]
    words = pd.unique(pairs[["left", "right"]].to_numpy().ravel())
    known: Mapping[str, int | None] = {word: token_of(subject, word) for word in words}
    said = {
        word for word in words if known[word] is not None and all(token_of(one, word) is not None for one in others)
    }
    near = _alike(subject)
    found = []
    for place, (name, rows) in enumerate(pairs.groupby("concept", sort=False)):
        kept = rows[rows["left"].isin(said) & rows["right"].isin(said)]
        left, right = (kept[side].map(known).to_numpy(dtype=np.int64) for side in ("left", "right"))
        differ = left != right
        left, right = left[differ], right[differ]
        if len(left) < LEAST:
            continue
        random = np.random.default_rng([seed, place])
        taken = set(left.tolist()) | set(right.tolist())
        pools = [np.stack([_drawn(near, token, taken, random) for token in side.tolist()]) for side in (left, right)]
        found.append(Concept(str(name), left, right, len(rows) - len(left), *pools))
    if not found:
        raise InputError(
            f"no concept keeps {LEAST} pairs of single tokens of {subject.name!r}; give more pairs, or commoner words."
        )
    return found


def _alike(subject: Subject) -> np.ndarray:
    """Return the tokens that are written like words inside a sentence, ascending; all tokens if there are few."""
    texts = [str(text) for text in subject.token_strings]
    n = min(subject.d_vocab, subject.d_embedding, len(texts))
    found = np.array([index for index in range(n) if texts[index][:1].isspace() and texts[index].strip().isalpha()])
    return found if len(found) > 4 * _EACH else np.arange(n)


def _drawn(near: np.ndarray, token: int, taken: set[int], random: np.random.Generator) -> np.ndarray:
    """Draw tokens about as frequent as a token, as the order of ids follows frequency in learned vocabularies."""
    place = int(np.searchsorted(near, token))
    pool = np.array([one for one in near[max(0, place - _NEAR) : place + _NEAR].tolist() if one not in taken])
    if not len(pool):
        raise InputError("the vocabulary has no other words to draw random ones from; give fewer pairs.")
    return random.choice(pool, _EACH)
