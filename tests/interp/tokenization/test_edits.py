"""Texts changed in small ways: what is changed, what stays, and where the places lie."""

import ast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import InputError
from interp.tokenization.edits import Edit, edited, original_places, shuffles, typos
from interp.tokenization.python_source import naming, spacing

TEXTS = st.text(alphabet="abé Z.1", max_size=30)
SOURCE = '''
def mean_of(values, first_value=0):
    """Return a mean."""
    totalSum = first_value
    for oneValue in values:
        totalSum += oneValue * 2
    print(f"{first_value}")
    return totalSum / len(values)
'''


@given(TEXTS, st.floats(0, 1), st.integers(0, 2**32), st.sampled_from([typos, shuffles]))
def test_places_of_an_edited_text_are_those_of_the_text(text, p, seed, change):
    edits = change(text, p, np.random.default_rng(seed))
    new, places = edited(text, edits).encode(), original_places(text, edits)
    assert len(places) == len(new) + 1 and places[0] == 0
    known = places[places >= 0]
    assert (np.diff(known) > 0).all()
    inside = {at for edit in edits for at in range(len(text[: edit.start].encode()), len(text[: edit.stop].encode()))}
    for at, place in enumerate(places[1:].tolist(), start=1):
        if place > 0 and places[at - 1] == place - 1 and place - 1 not in inside:
            assert new[at - 1] == text.encode()[place - 1]
    assert sum(one < 0 for one in places.tolist()) <= sum(len(edit.new.encode()) for edit in edits)


@given(TEXTS, st.integers(0, 2**32))
def test_no_share_and_groups_of_one_change_nothing(text, seed):
    generator = np.random.default_rng(seed)
    assert typos(text, 0.0, generator) == shuffles(text, 0.0, generator) == shuffles(text, 1.0, generator, n=1) == []


@given(TEXTS, st.floats(0, 1), st.integers(0, 2**32))
def test_typing_errors_are_at_a_share_of_the_letters_and_each_changes_the_text(text, p, seed):
    edits = typos(text, p, np.random.default_rng(seed))
    assert len(edits) == int(p * sum(map(str.isalpha, text)))
    for edit in edits:
        assert text[edit.start].isalpha() and edit.new != text[edit.start : edit.stop]
        assert abs(len(edit.new) - (edit.stop - edit.start)) <= 1


@given(TEXTS, st.integers(0, 2**32), st.integers(2, 4))
def test_letters_are_permuted_in_groups_inside_words(text, seed, n):
    edits = shuffles(text, 1.0, np.random.default_rng(seed), n=n)
    for edit in edits:
        old = text[edit.start : edit.stop]
        assert sorted(edit.new) == sorted(old) and edit.new != old and 2 <= len(old) <= n and old.isalpha()
    again = shuffles(edited(text, edits), 1.0, np.random.default_rng(seed), n=n)
    assert [(one.start, one.stop) for one in again] == [(one.start, one.stop) for one in edits]


@pytest.mark.parametrize("seed", range(5))
def test_spaces_leave_the_syntax_tree_as_it_is(seed):
    edits = spacing(SOURCE, 0.5, np.random.default_rng(seed))
    assert edits and all(edit.new == " " and edit.start == edit.stop for edit in edits)
    new = edited(SOURCE, edits)
    assert new != SOURCE and ast.dump(ast.parse(new)) == ast.dump(ast.parse(SOURCE))


@pytest.mark.parametrize("seed", range(5))
def test_a_sources_own_names_change_and_the_program_does_not(seed):
    new = edited(SOURCE, naming(SOURCE, 1.0, np.random.default_rng(seed)))
    assert new != SOURCE
    for kept in ("def mean_of(", "first_value=0", 'f"{first_value}"', "len(", '"""Return a mean."""'):
        assert kept in new  # a name inside a formatted string, of a function, of a builtin
    theirs: dict = {}
    exec(new, theirs)
    assert theirs["mean_of"]([1.0, 2.0]) == 3.0


def test_the_styles_write_the_same_words():
    found = {edited("my_sum = 1", naming("my_sum = 1", 1.0, np.random.default_rng(seed))) for seed in range(20)}
    assert found == {"mySum = 1", "MySum = 1"}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spacing("a b", 1.0, np.random.default_rng(0)), "'a b' is not Python"),
        (lambda: spacing("a", 1.0, np.random.default_rng(0)), "'a' has no two symbols without a space between them"),
        (lambda: naming("f(1)", 1.0, np.random.default_rng(0)), "'f.1.' has no name of its own that another style"),
    ],
)
def test_what_cannot_be_written_otherwise_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_the_end_of_a_change_is_that_of_what_it_replaced():
    assert original_places("abcd", [Edit(1, 3, "x")]).tolist() == [0, 1, 3, 4]
    assert original_places("abcd", [Edit(1, 3, "")]).tolist() == [0, 1, 4]
    assert original_places("éa", [Edit(0, 1, "xyz")]).tolist() == [0, -1, -1, 2, 3]
