"""The one counter of pairs, against a plain loop."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.data import pair_counts
from interp.data.pair_counts import PairCounter, counted_pairs
from interp.errors import InputError

streams = st.lists(st.lists(st.integers(0, 8), max_size=30), max_size=12)


@given(streams, st.integers(1, 7))
def test_pairs_are_those_a_loop_counts_whatever_is_sorted_together(documents, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_counts, "_AT_ONCE", at_once)
        pairs = counted_pairs([np.array(ids, dtype=np.int32) for ids in documents], 9)
    loop = Counter(pair for ids in documents for pair in pairwise(ids))
    coo = pairs.tocoo()
    found = dict(zip(zip(coo.row.tolist(), coo.col.tolist(), strict=True), coo.data.tolist(), strict=True))
    assert found == loop and pairs.has_canonical_format and pairs.dtype == np.int64


def test_the_counts_so_far_can_be_asked_for_and_counting_goes_on():
    counter = PairCounter(3)
    counter.add(np.array([0, 1, 2]))
    assert counter.matrix().toarray().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    counter.add(np.array([0, 1]))
    assert counter.matrix().toarray().tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_pairs_of_a_vocabulary_whose_square_exceeds_32_bits_stay_apart():
    ids = np.array([262_143, 0, 262_143, 1], dtype=np.int32)
    pairs = counted_pairs([ids], 262_144)
    assert pairs[262_143, 0] == pairs[0, 262_143] == pairs[262_143, 1] == 1 and pairs.nnz == 3


@pytest.mark.parametrize("wrong", [-1, 5])
def test_ids_outside_the_vocabulary_are_named(wrong):
    with pytest.raises(InputError, match=f"the corpus holds the token id {wrong}, but the vocabulary has 5"):
        counted_pairs([np.array([0, wrong])], 5)
