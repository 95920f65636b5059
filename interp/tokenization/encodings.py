"""All token sequences that spell the same bytes: how many there are, the shortest, and one drawn at random."""

from __future__ import annotations

import math

import numpy as np

from interp.checks import checked
from interp.errors import InputError
from interp.tokenization.vocabulary import Vocabulary

_LARGE = 1e200


@checked
def n_encodings(vocabulary: Vocabulary, text: bytes) -> int:
    """Count the token sequences that spell these bytes, canonical or not.

    >>> n_encodings(Vocabulary([b"a", b"aa"]), b"aaa")
    3
    """
    return _counts(vocabulary, text)[-1]


@checked
def log_n_encodings(vocabulary: Vocabulary, text: bytes) -> float:
    """Return the natural logarithm of `n_encodings`, in a time that grows as the text and not as its square.

    Raises:
        InputError: no tokens spell them.

    >>> letters = Vocabulary([b"a", b"aa"])
    >>> round(log_n_encodings(letters, b"a" * 50), 9) == round(math.log(n_encodings(letters, b"a" * 50)), 9)
    True
    """
    ways, scale = [1.0] + [0.0] * len(text), 0.0
    for place in range(len(text)):
        if ways[place] > _LARGE:  # keep what comes below the largest float
            scale += math.log(_LARGE)
            for stop in range(place, min(len(text), place + vocabulary.longest) + 1):
                ways[stop] /= _LARGE
        if ways[place]:
            for stop, ids in vocabulary.at(text, place):
                ways[stop] += ways[place] * len(ids)
    if not ways[-1]:
        raise _unspelt(vocabulary, text)
    return scale + math.log(ways[-1])


@checked
def shortest(vocabulary: Vocabulary, text: bytes) -> list[int]:
    """Return the fewest tokens that spell these bytes; of several such sequences, one whose first tokens are longer.

    Raises:
        InputError: no tokens spell them.

    >>> shortest(Vocabulary([b"a", b"b", b"ab", b"ba"]), b"aba")
    [2, 0]
    """
    n = len(text)
    fewest = [0] * n + [0]  # tokens needed from each place to the end; -1 where no tokens lead there
    first: list[int] = [-1] * n
    for place in reversed(range(n)):
        fewest[place] = -1
        for stop, ids in vocabulary.at(text, place):
            if fewest[stop] >= 0 and not 0 <= fewest[place] <= fewest[stop] + 1:
                fewest[place], first[place] = fewest[stop] + 1, ids[0]
    if fewest[0] < 0:
        raise _unspelt(vocabulary, text)
    found: list[int] = []
    place = 0
    while place < n:
        found.append(first[place])
        place += int(vocabulary.lengths[first[place]])
    return found


@checked
def sample_encoding(vocabulary: Vocabulary, text: bytes, generator: np.random.Generator) -> list[int]:
    """Draw one of all token sequences that spell these bytes, each with the same probability.

    Raises:
        InputError: no tokens spell them.
    """
    counts = _counts(vocabulary, text)
    if not counts[-1]:
        raise _unspelt(vocabulary, text)
    found: list[int] = []
    stop = len(text)
    while stop:  # backwards: a last token as often as there are ways to what stands before it
        places = range(max(0, stop - vocabulary.longest), stop)
        lasts = [(index, counts[place]) for place in places for index in vocabulary.exactly(text[place:stop])]
        # Divide whole numbers, which may exceed every float, before they become floats.
        last = int(generator.choice(len(lasts), p=_normalised([ways / counts[stop] for _, ways in lasts])))
        found.append(lasts[last][0])
        stop -= int(vocabulary.lengths[lasts[last][0]])
    return found[::-1]


def _normalised(shares: list[float]) -> np.ndarray:
    """Return shares that sum to 1 to the last digit, as numpy's draws want them."""
    return np.array(shares) / sum(shares)


def _counts(vocabulary: Vocabulary, text: bytes) -> list[int]:
    """Return the number of token sequences that spell each beginning of a text, [n + 1]."""
    counts = [1] + [0] * len(text)
    for place in range(len(text)):
        if counts[place]:
            for stop, ids in vocabulary.at(text, place):
                counts[stop] += counts[place] * len(ids)
    return counts


def _unspelt(vocabulary: Vocabulary, text: bytes) -> InputError:
    place = max(place for place, ways in enumerate(_counts(vocabulary, text)) if ways)
    return InputError(f"no tokens spell byte 0x{text[place]:02X} at place {place} of {text[:60]!r}; leave it out.")
