"""The claims about the last token and about induction on models whose answer is known."""

from __future__ import annotations

import math
from itertools import permutations

import pytest

import interp
from interp.findings import NotApplicable
from interp.planted import copying, tracr
from probes.patching import claims

LETTERS = ["BOS " + " ".join(words) for words in permutations("abcd")]


def test_the_last_token_carries_its_context_behind_the_block_that_copies_it(state_of):
    behind, before = (interp.load(copying(noise_blocks=n).model) for n in (1, 0))  # half of the depth is block 1, or 0
    assert state_of(behind, "patching.last_token") == "holds"
    assert state_of(before, "patching.last_token") == "fails"


def test_what_induction_reads_is_written_by_the_block_that_reads_the_word_before(state_of):
    """Tracr's program reads the word before in block 1 and finds it again in block 2; in "previous" nothing does."""
    assert state_of(tracr("induction").model, "induction.previous_token", LETTERS) == "holds"
    assert state_of(tracr("induction").model, "induction.order", LETTERS) == "holds"
    assert state_of(tracr("previous").model, "induction.previous_token", LETTERS) != "holds"


@pytest.fixture(scope="module")
def repeated():
    subject = interp.load(tracr("induction").model)
    return claims.repeats(subject, subject.tokens(LETTERS), seed=0, truncate=False)


def test_each_block_is_found_where_it_acts(repeated):
    """Block 1 alone restores the word before, at the word behind it and nowhere else; block 2 alone the answer."""
    first, then = claims.order(repeated)
    assert first.round(6).eq(1).all() and then.round(6).eq(2).all()  # shares e^-16 of attention, and float32
    behind, further = claims.written(repeated)
    assert behind.to_numpy() == pytest.approx(math.log(5) - math.log1p(4 * math.exp(-10)), abs=1e-4)  # of five words
    assert further.abs().max() < 1e-4


def test_a_prompt_repeats_one_word_whose_forerunner_is_exchanged(repeated):
    rows = repeated.sort_values("to_end", ascending=False).groupby("prompt_id")
    assert (rows["token"].first() == rows["target"].first()).all()  # B stands behind the first A, and is asked for
    assert (rows["corrupt_token"].last() == rows["token"].last()).all()


def test_induction_is_refused_where_there_is_none():
    """In "previous" a repeat says nothing of what followed; three words and one for the exchange are the fewest."""
    subject = interp.load(tracr("previous").model)
    frame = claims.repeats(subject, subject.tokens(LETTERS), seed=0, truncate=False)
    with pytest.raises(NotApplicable, match=r"a repeat makes what followed 1\.00 times as probable"):
        claims.order(frame)
    with pytest.raises(NotApplicable, match="two texts or more of at least four different tokens"):
        claims.repeats(subject, subject.tokens(LETTERS[:1]), seed=0, truncate=False)
