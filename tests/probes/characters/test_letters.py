"""Questions about letters and their answers, and splits of words by lemma: rules that everything else stands on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError, UnknownName
from probes.characters._lemma_splits import balanced, group_words, split_groups
from probes.characters._letters import Asked, questions
from probes.vocab._words import alphabet

WORDS = st.text("abcABC", min_size=2, max_size=6)


# -- labels ----------------------------------------------------------------------------------------------------------


def asked_of(words: list[str], task="contains", case="oblivious", letters="abc", **options) -> Asked:
    return questions(np.array(words, dtype=object), alphabet(list(letters)), task, case, **options)


@given(words=st.lists(WORDS, min_size=1, max_size=12), index=st.integers(-4, 4))
def test_labels_are_what_the_strings_say(words, index):
    for case in ("oblivious", "sensitive"):
        read = [word.lower() for word in words] if case == "oblivious" else words
        for task in ("contains", "first", "last", "position", "count"):
            asked = asked_of(words, task, case, index=index)
            assert asked.letters == ("a", "b", "c")
            for row, letter in enumerate(asked.letters):
                for column, word in enumerate(read):
                    answer, eligible = asked.answer[row, column], asked.eligible[row, column]
                    places = [place for place, character in enumerate(word) if character == letter]
                    has_place = index < len(word) if index >= 0 else len(word) >= -index
                    if task == "contains":
                        assert answer == (places != []) and eligible
                    elif task == "first":
                        assert answer == (0 in places) and eligible
                    elif task == "last":
                        assert answer == (len(word) - 1 in places) and eligible
                    elif task == "position":
                        assert eligible == has_place
                        assert answer == (has_place and index % len(word) in places)
                    else:
                        assert eligible == (len(places) > 0) and answer == (len(places) >= 2)


@given(words=st.lists(WORDS, min_size=2, max_size=12).filter(lambda words: len({len(word) for word in words}) > 1))
def test_length_asks_for_every_length_that_divides_the_words(words):
    asked = asked_of(words, "length")
    for letter, answer in zip(asked.letters, asked.answer, strict=True):
        assert answer.tolist() == [len(word) >= int(letter) for word in words]
        assert 0 < answer.sum() < len(words)


@given(words=st.lists(WORDS, min_size=1, max_size=30))
def test_the_papers_bug_puts_capitals_among_the_negatives(words):
    """As many positives' labels there as there are words with the letter only as a capital."""
    asked = asked_of(words, label_bug=True)
    for row, letter in enumerate(asked.letters):
        wrong = asked.answer[row] & ~asked.drawn[row]
        assert wrong.sum() == sum(letter.upper() in word and letter not in word for word in words)
        assert not (asked.drawn[row] & ~asked.answer[row]).any()


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("Cyrillic", "привет"), ("Greek", "λόγος"), ("Devanagari", "नमस्ते"), ("Arabic", "سلام"),
        ("Hiragana", "こんにちは"), ("Latin", "naïve"),
    ],
)  # fmt: skip
def test_every_letter_of_a_script_is_asked_about(script, word):
    asked = questions(np.array([word], dtype=object), alphabet(script), "contains", "oblivious")
    assert asked.letters == tuple(sorted(set(word))) and asked.answer.all()


def test_capitals_count_or_do_not():
    assert asked_of(["Abba", "Cc"], letters="a").answer.tolist() == [[True, False]]
    assert asked_of(["Abba", "Cc"], "first", "sensitive", "aA").answer.tolist() == [[False, False], [True, False]]
    assert asked_of(["Abba"], letters="aA").letters == ("a",)


def test_the_bug_is_of_one_task():
    with pytest.raises(InputError, match="label_bug=True with task='first': leave it out, only 'contains' has it"):
        asked_of(["ab"], "first", label_bug=True)


# -- splits ----------------------------------------------------------------------------------------------------------


@given(n_groups=st.integers(10, 60), seed=st.integers(0, 5), data=st.data())
@settings(max_examples=60)
def test_no_group_is_in_two_parts_and_every_word_in_one(n_groups, seed, data):
    extra = data.draw(st.lists(st.integers(0, n_groups - 1), max_size=80))
    groups = np.random.default_rng(seed).permutation([*range(n_groups), *extra])
    split = split_groups(groups, seed)
    parts = [*split.folds, split.test]
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    members = [set(groups[part]) for part in parts]
    assert sum(map(len, members)) == n_groups
    assert len(members[-1]) == round(0.2 * n_groups)
    assert max(map(len, members[:-1])) - min(map(len, members[:-1])) <= 1
    assert split.train.tolist() == np.concatenate(split.folds[:4]).tolist()


@given(positive=st.lists(st.booleans(), max_size=40), data=st.data())
def test_a_sample_is_balanced_and_keeps_the_order(positive, data):
    n = len(positive)
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    yes = np.array(positive, dtype=bool)
    order = np.random.default_rng(n).permutation(n)
    chosen = balanced(order, yes, eligible)
    assert eligible[chosen].all() and len(set(chosen)) == len(chosen)
    n_each = min((yes & eligible).sum(), (~yes & eligible).sum())
    assert yes[chosen].sum() == (~yes[chosen]).sum() == n_each
    first_no = [place for place in order if eligible[place] and not yes[place]][:n_each]
    assert chosen[n_each:].tolist() == first_no
    uncut = balanced(order, yes, eligible, cut=False)
    assert yes[uncut].sum() == (yes & eligible).sum()


def test_lemmas_join_inflections_and_the_strict_rule_joins_capitals():
    words = ["walk", "Walk", "walks", "walked", "walking", "mice", "mouse", "Mouse", "house"]

    def joined(rule: str) -> list[list[str]]:
        groups = group_words(words, rule, "en")
        return sorted(sorted(np.array(words)[groups == group].tolist()) for group in set(groups))

    assert joined("strict") == [
        ["Mouse", "mice", "mouse"], ["Walk", "walk", "walked", "walking", "walks"], ["house"]
    ]  # fmt: skip
    assert joined("paper") == [
        ["Mouse"],
        ["Walk"],
        ["house"],
        ["mice", "mouse"],
        ["walk", "walked", "walking", "walks"],
    ]
    assert joined("random") == sorted([word] for word in words)
    without = group_words(words, "strict", None)
    assert len(set(without)) == len({word.lower() for word in words})


def test_splits_that_cannot_be():
    with pytest.raises(InputError, match="9 different lemmas; give at least 10"):
        split_groups(np.arange(9), 0)
    with pytest.raises(UnknownName, match="unknown split 'lemma'"):
        group_words(["a"], "lemma", "en")
    with pytest.raises(InputError, match="no lemmas of language 'xx'"):
        group_words(["a"], "strict", "xx")
