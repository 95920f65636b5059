"""Texts in other tokens: the same bytes, by the definitions of the schemes, laid on each other by bytes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from interp.errors import InputError, UnknownName
from interp.tokenization import Lattice, Pieces, n_encodings, recut
from interp.tokenization.recutting import SAME_BYTES, changed, common_cuts, ends_of, replaced

from .toys import PIECES, byte_level, letters, sentencepiece, spellings, strings

TOY = Pieces(Lattice(letters(), len(PIECES)))
A, B, C, AB, CA, BC, ABC, CAB, ABCAB = range(9)
IDS = st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=10)


def spelt(pieces, ids):
    return pieces.lattice.vocabulary.join(ids)


def test_splits_are_all_pairs_that_spell_a_token():
    want = {
        index: [
            (one, two)
            for n in range(1, len(piece))
            for one, first in enumerate(PIECES)
            for two, rest in enumerate(PIECES)
            if (first, rest) == (piece[:n], piece[n:])
        ]
        for index, piece in enumerate(PIECES)
    }
    assert {index: TOY.splits(index) for index in range(len(PIECES))} == want
    assert want[ABC] == [(A, BC), (AB, C)] and want[A] == []


@given(IDS, st.sampled_from(sorted(SAME_BYTES)), st.integers(0, 2**32), st.floats(0.01, 1.0))
@settings(deadline=None)
def test_every_scheme_keeps_the_bytes(ids, scheme, seed, p):
    variant = recut(TOY, ids, scheme, np.random.default_rng(seed), p=p)
    assert spelt(TOY, variant.ids) == spelt(TOY, ids) and variant.same_bytes
    for (start, stop), index in zip(variant.spans.tolist(), variant.ids, strict=True):
        assert spelt(TOY, ids)[start:stop] == spelt(TOY, [index])
    if scheme in ("split_one", "split_last"):
        assert len(variant.ids) == len(ids) + any(map(TOY.splits, ids))
    if scheme == "bytes":
        assert len(variant.ids) == len(spelt(TOY, ids))
    if scheme == "stochastic":
        assert len(ids) <= len(variant.ids) <= len(ids) + int(p * len(ids))


def test_the_last_token_that_can_be_split_is():
    variant = recut(TOY, (AB, A, B), "split_last", np.random.default_rng(0))
    assert variant.ids == (A, B, A, B) and variant.ends.tolist() == [1, 2, 3, 4]


def test_stochastic_cuts_have_the_papers_probabilities():
    """Take [AB, A]: a draw of two places, each wasted on A; after AB is cut nothing can be. So 1/4 stay whole."""
    drawn = Counter(recut(TOY, (AB, A), "stochastic", np.random.default_rng(seed), p=1.0).ids for seed in range(800))
    assert set(drawn) == {(AB, A), (A, B, A)}
    assert chisquare([drawn[AB, A], drawn[A, B, A]], [200, 600]).pvalue > 1e-6  # of fixed seeds


def test_a_place_and_one_of_its_splits_are_drawn_equally():
    drawn = Counter(recut(TOY, (ABC, A, AB), "split_one", np.random.default_rng(seed)).ids for seed in range(800))
    want = {(A, BC, A, AB): 200, (AB, C, A, AB): 200, (ABC, A, A, B): 400}
    assert set(drawn) == set(want)
    assert chisquare([drawn[one] for one in want], list(want.values())).pvalue > 1e-6  # of fixed seeds


def test_of_two_tokens_or_more_the_canonical_sequence_alone_has_no_pair_that_is_not():
    for text in strings("abc", 5):
        own = TOY.lattice.read(text)
        for ids in spellings(TOY.lattice.vocabulary.spelt, text.encode()):
            if len(ids) > 1:
                assert (TOY.lattice.noncanonical_pairs(ids) == 0) == (list(ids) == own)


def test_all_sequences_are_drawn_by_uniform():
    text = TOY.lattice.read("abcab")
    drawn = {recut(TOY, text, "uniform", np.random.default_rng(seed)).ids for seed in range(300)}
    assert len(drawn) == n_encodings(TOY.lattice.vocabulary, b"abcab") == 13


def test_characters_of_several_bytes_are_cut_between_bytes():
    pieces = Pieces(Lattice(byte_level(["é", "cafés"]), 300))
    ids = pieces.lattice.read("cafés")
    variant = recut(pieces, ids, "bytes", np.random.default_rng(0))
    assert len(variant.ids) == 6 and spelt(pieces, variant.ids) == "cafés".encode()
    assert pieces.lattice.noncanonical_pairs(ids) == 0 < pieces.lattice.noncanonical_pairs(variant.ids)


def test_of_tokens_with_the_same_bytes_the_tokenizers_own_is_taken():
    """Llama 2's kind has a byte token and a character for i; its texts hold the character."""
    pieces = Pieces(Lattice(sentencepiece(), 270))
    own = pieces.lattice.read("ing")
    variant = recut(pieces, own, "bytes", np.random.default_rng(0))
    names = pieces.lattice.tokenizer.convert_ids_to_tokens(list(variant.ids))
    assert names == ["▁", "i", "n", "g"]


def test_a_byte_without_a_token_stays_in_the_smallest_one_that_has_it():
    pieces = Pieces(Lattice(letters(), len(PIECES)))
    pieces._of[b"b"] = None
    assert len(pieces.finest(ABC)) == 2 and spelt(pieces, pieces.finest(ABC)) == b"abc"
    assert pieces.finest(B) == (B,) and pieces.finest(CAB) == (C, AB)


def test_sequences_meet_where_both_end_a_token():
    own, other = np.array([2, 3, 6]), np.array([1, 2, -1, 4, 6])
    assert [one.tolist() for one in common_cuts(own, other)] == [[0, 2], [1, 4]]


def test_changed_tokens_are_those_that_are_not_there_any_more():
    ids = (AB, A, ABC)
    variant = recut(TOY, ids, "split_last", np.random.default_rng(0))
    assert changed(ids, ends_of(TOY, ids), variant).tolist() == [2]
    assert changed(ids, ends_of(TOY, ids), recut(TOY, ids, "bytes", np.random.default_rng(0))).tolist() == [0, 2]


@given(IDS, st.integers(0, 2**32))
def test_the_control_has_other_tokens_at_the_places_alone(ids, seed):
    places = list(range(0, len(ids), 2))
    other = replaced(TOY, ids, places, np.random.default_rng(seed))
    assert [at for at, pair in enumerate(zip(ids, other, strict=True)) if pair[0] != pair[1]] == places


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(UnknownName, match="unknown scheme 'splitone'; did you mean 'split_one'"):
        recut(TOY, (A,), "splitone", np.random.default_rng(0))
    with pytest.raises(InputError, match="id 99 stands for no text"):
        recut(TOY, (99,), "bytes", np.random.default_rng(0))
