"""The number of token sequences of a text, the shortest and a random one agree with all of them listed."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from interp.errors import InputError
from interp.tokenization import Vocabulary, log_n_encodings, n_encodings, sample_encoding, shortest

from .toys import PIECES, spellings, strings

LETTERS = Vocabulary([piece.encode() for piece in PIECES])


def test_the_count_and_the_shortest_are_those_of_all_spellings():
    for text in strings("abc", 5):
        every = list(spellings(LETTERS.spelt, text.encode()))
        assert n_encodings(LETTERS, text.encode()) == len(every)
        assert log_n_encodings(LETTERS, text.encode()) == pytest.approx(np.log(len(every)), abs=1e-12)
        found = shortest(LETTERS, text.encode())
        assert tuple(found) in every and len(found) == min(map(len, every))


def test_tokens_with_the_same_bytes_count_apart():
    assert n_encodings(Vocabulary([b"a", b"a", None]), b"aaa") == 8


def test_a_count_may_exceed_every_float():
    twice = Vocabulary([b"a", b"a", b"aa"])
    assert (many := n_encodings(twice, b"a" * 1200)) > 10**400
    assert log_n_encodings(twice, b"a" * 1200) == pytest.approx(math.log(many), rel=1e-12)
    assert LETTERS.join([]) == b"" and n_encodings(twice, b"") == 1
    drawn = sample_encoding(twice, b"a" * 1200, np.random.default_rng(0))
    assert twice.join(drawn) == b"a" * 1200


def test_every_spelling_is_drawn_as_often():
    generator, text = np.random.default_rng(0), b"abcab"
    every = list(spellings(LETTERS.spelt, text))
    counts = Counter(tuple(sample_encoding(LETTERS, text, generator)) for _ in range(2000))
    assert set(counts) == set(every) and len(every) == 13
    assert chisquare(list(counts.values())).pvalue > 1e-6  # of one fixed seed: chance does not fail it again


@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=12), st.integers(0, 2**32))
def test_a_draw_spells_its_text(ids, seed):
    text = LETTERS.join(ids)
    assert LETTERS.join(sample_encoding(LETTERS, text, np.random.default_rng(seed))) == text
    assert len(shortest(LETTERS, text)) <= len(ids)


@given(st.binary(max_size=3), st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=30))
def test_tokens_are_found_by_how_they_begin(prefix, pieces):
    vocabulary = Vocabulary(pieces)
    want = [index for index, piece in enumerate(pieces) if piece.startswith(prefix)]
    found = vocabulary.starts(prefix)
    assert sorted(found.tolist()) == want
    assert [pieces[index] for index in found] == sorted(pieces[index] for index in want)
    assert vocabulary.byte_at(found, 1).tolist() == [
        pieces[index][1] if len(pieces[index]) > 1 else -1 for index in found
    ]


@pytest.mark.parametrize(
    "function", [shortest, log_n_encodings, lambda *given: sample_encoding(*given, np.random.default_rng(0))]
)
def test_bytes_without_a_token_are_named(function):
    with pytest.raises(InputError, match="no tokens spell byte 0x78 at place 2"):
        function(LETTERS, b"abxa")
