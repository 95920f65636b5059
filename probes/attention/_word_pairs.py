"""Pairs of positions within words, each beside pairs across words with the same distance and around the same place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

_FURTHEST = 2.0  # ratio of the positions compared with: attention falls as it spreads over more tokens


def word_pairs(tokens: Sequence[str]) -> pd.DataFrame:
    """Find pairs of positions in a prompt, within words and, as a comparison, across their boundaries.

    Args:
        tokens: as text, with leading spaces.

    Returns:
        Columns `query` (last token of a word), `key` (before it, not position 0), `distance`, `across` (0 or 1), and
        `weight`: the weighted sum of attention over pairs within words is their mean. Over pairs across words it is the
        mean of what is expected at the same distances and positions: each pair within a word is interpolated from the
        nearest query before and the nearest after with a pair across words as many tokens back.

    >>> pairs = word_pairs(["<s>", " the", " big", " old", " un", "kind", " cat", " sat"])
    >>> pairs[["query", "key", "across", "weight"]].round(2).values.tolist()
    [[5.0, 4.0, 0.0, 1.0], [3.0, 2.0, 1.0, 0.26], [6.0, 5.0, 1.0, 0.74]]
    """
    letters = [token.lstrip().isalpha() for token in tokens]
    joins = [at > 0 and letters[at] and letters[at - 1] and not token[0].isspace() for at, token in enumerate(tokens)]
    start = 0
    within: list[tuple[int, int]] = []  # query, distance
    across: dict[int, list[int]] = {}  # distance -> queries
    for query in range(len(tokens)):
        start = start if joins[query] else query
        if not letters[query] or (query + 1 < len(tokens) and joins[query + 1]):
            continue
        within += [(query, query - key) for key in range(max(start, 1), query)]
        for key in range(1, start):
            across.setdefault(query - key, []).append(query)
    weights: dict[tuple[int, int], float] = {}
    matched = []
    for query, distance in within:
        around = _around(query, np.array(across.get(distance, ()), dtype=int))
        if around:
            matched.append((query, distance))
            for other, share in around.items():
                weights[other, distance] = weights.get((other, distance), 0.0) + share
    rows = [(query, query - distance, distance, 0, 1 / len(matched)) for query, distance in matched]
    rows += [
        (query, query - distance, distance, 1, weight / len(matched)) for (query, distance), weight in weights.items()
    ]
    table = pd.DataFrame(rows, columns=["query", "key", "distance", "across", "weight"])
    return table.astype({name: "float64" if name == "weight" else "int64" for name in table})


def _around(query: int, others: np.ndarray) -> dict[int, float]:
    """Return the nearest of sorted positions before and after, with their shares; empty if there are none near."""
    place = int(np.searchsorted(others, query))
    if not 0 < place < len(others):
        return {}
    before, after = int(others[place - 1]), int(others[place])
    if after > _FURTHEST * before:
        return {}
    share = float(np.log(query / before) / np.log(after / before))
    return {before: 1 - share, after: share}
