"""Pairs of tokens told from merges and words: the tokenizer itself, asked for each, must say the same."""

import json
import random

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

import interp
from interp.tokenization import Lattice
from interp.tokenization.joins import NO, UNKNOWN, YES, Joins
from interp.tokenization.merges import Merges

from .toys import byte_level, letters, sentencepiece, wordpiece, wrapped


def joins_of(tokenizer):
    lattice = Lattice(tokenizer, len(tokenizer))
    return lattice, Joins.of(tokenizer, lattice.vocabulary, lattice._anchor, lattice._encoded)


def asked(lattice, left, ids):
    return lattice._written([((*left, one), lattice.vocabulary.join((*left, one))) for one in ids.tolist()])


def check(lattice, joins, lefts, ids):
    """Check that all that is told is so, and return the share that is told."""
    n_told = 0
    for left in lefts:
        told = joins.behind(left, ids)
        known = told != UNKNOWN
        assert (asked(lattice, left, ids[known]) == (told[known] == YES)).all(), lattice.vocabulary.join(left)
        n_told += int(known.sum())
    return n_told / (len(lefts) * len(ids))


def model_of(core):
    return json.loads(core.to_str())["model"]


# -- merges ------------------------------------------------------------------------------------------------------------


def some_merges(seed):
    """Return a vocabulary and merges of two or three letters; of half of them the ranks are in no order."""
    drawn = random.Random(seed)
    vocab = {letter: index for index, letter in enumerate("abc"[: drawn.choice([2, 3])])}
    pairs = []
    for _ in range(drawn.randint(1, 9)):
        pair = drawn.choice(list(vocab)), drawn.choice(list(vocab))
        if len("".join(pair)) <= 8 and pair not in pairs:
            vocab.setdefault("".join(pair), len(vocab))
            pairs.append(pair)
    if seed % 8 > 3:
        drawn.shuffle(pairs)
    return vocab, pairs


@pytest.mark.parametrize("part", range(4))
def test_merges_join_two_tokens_where_the_tokenizer_does(part):
    n_left_open = n_pairs = 0
    for seed in range(part, 240, 4):
        vocab, pairs = some_merges(seed)
        core = Tokenizer(BPE(vocab, pairs))
        merges = Merges.of(model_of(core))
        ends = {token: merges.ends(token) for token in vocab}
        for token, found in ends.items():
            assert (found is not None) == (core.encode(token).tokens == [token])
        alone = [token for token in vocab if ends[token]]
        first = np.full((len(alone), 9, 4), -1, dtype=np.int64)
        for place, token in enumerate(alone):
            first[place, : len(ends[token][0])] = ends[token][0]
        for left in alone:
            surely, perhaps = merges.joined(ends[left][1], first)
            want = np.array([core.encode(left + right).tokens != [left, right] for right in alone])
            assert not (surely & ~want).any() and not (want & ~perhaps).any()
            if seed % 8 < 4:
                n_left_open += int((surely != perhaps).sum())
                n_pairs += len(alone)
    # Ranks that grow with what they make leave open only ties, such as aa before a.
    assert n_left_open < n_pairs / 10


def test_merges_of_other_kinds_are_not_read():
    assert Merges.of(model_of(wordpiece().backend_tokenizer)) is None
    assert Merges.of(model_of(byte_level(ignore_merges=True).backend_tokenizer)) is None
    assert Merges.of(model_of(Tokenizer(BPE({"a": 0}, [], end_of_word_suffix="</w>")))) is None


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_the_shipped_tokenizer_says_the_same_of_all_tokens():
    tokenizer = interp.load("reference").tokenizer
    lattice, joins = joins_of(tokenizer)
    order = lattice.vocabulary.order
    texts = ("the", " the", "ing", "'", " '", "s'", " don't", "n't", " (", "A", " I", ".", "-", '"', " Mc", "é")
    lefts = {(tokenizer.encode(text, add_special_tokens=False)[-1],) for text in texts}
    lefts |= {(one,) for one in np.random.default_rng(0).choice(order, 24).tolist()}
    assert check(lattice, joins, sorted(lefts), order) > 0.8  # not digits, spaces and parts of characters


def test_the_shipped_tokenizer_says_the_same_behind_spaces_and_digits():
    """There a context is more than one token, since the tokenizer looks ahead."""
    tokenizer = interp.load("reference").tokenizer
    lattice, joins = joins_of(tokenizer)
    order = lattice.vocabulary.order
    lefts = [
        lattice._context(left)
        for text in ("a ", "Once upon ", "a  ", " 1", "in 19", "x\n", "x\n\n", '" ', "x \n", "é ")
        for left in lattice.prefixes(text.encode())
    ]
    assert sum(len(left) > 1 for left in lefts) > 8
    assert check(lattice, joins, lefts, order) > 0.5  # none where what follows cuts the white space otherwise


@pytest.mark.parametrize("tokenizer", [letters(), byte_level(["'s", "'ll", "sad", "Ġa", "ab"]), sentencepiece()])
def test_small_tokenizers_say_the_same(tokenizer):
    lattice, joins = joins_of(tokenizer)
    assert joins.agrees(lattice._written)
    order = lattice.vocabulary.order
    # Of the third, 256 of 265 tokens are bytes, which it does not write alone.
    assert check(lattice, joins, [(one,) for one in order.tolist()], order) > 0


def test_a_word_ends_behind_an_apostrophe_by_the_letters():
    lattice, joins = joins_of(byte_level(["sad", "lad", "ll"]))
    apostrophe, *rights = lattice.tokenizer.convert_tokens_to_ids(["'", "s", "sad", "l", "ll", "lad"])
    told = joins.behind([apostrophe], np.array(rights))
    # 's and 'll are words, in which no merge joins them; of 'sad and 'lad the one is cut behind 's, the other before.
    assert told.tolist() == [YES, UNKNOWN, YES, YES, YES]
    assert asked(lattice, [apostrophe], np.array(rights)).tolist() == [True, False, True, True, True]


def test_what_a_tokenizer_reads_first_is_left_to_it():
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("xyz", normalized=False)])
    lattice, joins = joins_of(tokenizer)
    x, y, z = tokenizer.convert_tokens_to_ids(["x", "y", "z"])
    assert joins.behind([x], np.array([y, z])).tolist() == [YES, YES]  # for xyz, three tokens must meet
    tokenizer.add_tokens([AddedToken("xy", normalized=False)])
    lattice, joins = joins_of(tokenizer)
    assert joins.behind([x], np.array([y, z])).tolist() == [UNKNOWN, YES]
    assert asked(lattice, [x], np.array([y, z])).tolist() == [False, True]


def test_marks_that_a_normaliser_joins_with_a_letter_are_left_to_it():
    tokenizer = byte_level(["Ì\u0123"])  # the two bytes of a combining acute
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    lattice, joins = joins_of(tokenizer)
    e, b, acute = tokenizer.convert_tokens_to_ids(["e", "b", "Ì\u0123"])
    assert lattice.vocabulary.spelt[acute].decode() == "\u0301"
    assert joins.behind([e], np.array([acute, b])).tolist() == [UNKNOWN, YES]


@pytest.mark.parametrize(
    ("normalizer", "is_seen"),
    [
        (None, True),
        (normalizers.Sequence([normalizers.Prepend("_"), normalizers.NFC()]), True),
        (normalizers.Replace(" ", "_"), True),
        (normalizers.Sequence([normalizers.NFC(), normalizers.Strip()]), False),
        (normalizers.Replace(Regex(" +"), " "), False),
        (normalizers.Replace("ab", "c"), False),
    ],
)
def test_a_normaliser_that_looks_at_whole_texts_is_not_seen_through(normalizer, is_seen):
    tokenizer = byte_level(["ab"])
    tokenizer.backend_tokenizer.normalizer = normalizer
    lattice = Lattice(byte_level(["ab"]), 257)
    assert (Joins.of(tokenizer, lattice.vocabulary, "", lattice._encoded) is not None) == is_seen


def cut_by(pattern, words):
    """A tokenizer of bytes whose words are those of a pattern."""
    tokenizer = byte_level(words)
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), by_bytes]
    )
    return tokenizer


@pytest.mark.parametrize(
    "pattern",
    [
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lo}\p{M}]*[\p{Ll}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lo}]+[\p{Ll}\p{Lo}]*|\p{N}{1,3}",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+",
        "the|[a-z]+",
    ],
    ids=["deepseek", "o200k", "llama3", "names letters"],
)
def test_rules_that_look_at_whole_words(pattern):
    """A rule may cut (café before é and take (able whole; or AP before Is, and take HTTP whole."""
    tokenizer = cut_by(pattern, ["able", "cafÃ©", "HTTP", "APIs", "the", "qthe", "(cafÃ©", "'sad", "å\u0143\u0139HTTP"])
    lattice, joins = joins_of(tokenizer)
    order = lattice.vocabulary.order
    longer = order[lattice.vocabulary.lengths[order] > 1]
    lefts = [(one,) for one in [*tokenizer.convert_tokens_to_ids(list("('-.aqA")), *longer.tolist()]]
    assert check(lattice, joins, lefts, order) > 0.1


def test_ids_that_no_token_has():
    core = Tokenizer(BPE({"a": 0, "b": 1, "c": 2, "ab": 50}, [("a", "b")]))
    core.decoder = decoders.Fuse()
    lattice = Lattice(wrapped(core), 51)
    joins = Joins.of(lattice.tokenizer, lattice.vocabulary, "", lattice._encoded)
    assert joins.behind([0], np.array([0, 1, 2, 50])).tolist() == [YES, NO, YES, YES]


@pytest.mark.parametrize("content", ["ABC", "abc"])
def test_added_tokens_that_are_looked_for_in_another_form(content):
    tokenizer = byte_level(["ab"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("a")])
    tokenizer.add_tokens([AddedToken(content, normalized=True)])
    lattice = Lattice(byte_level(["ab"]), 257)
    assert Joins.of(tokenizer, lattice.vocabulary, "", lattice._encoded) is None


def test_wrong_answers_are_found_by_trials(monkeypatch):
    lattice, joins = joins_of(letters())
    assert joins.agrees(lattice._written)
    monkeypatch.setattr(Merges, "joined", lambda *given: (np.zeros(len(given[2]), bool),) * 2)
    assert not joins.agrees(lattice._written)


# -- the lattice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [letters, lambda: byte_level(["ab", "abc", "Ġa", "'s"]), sentencepiece, wordpiece])
def test_a_lattice_says_the_same_by_either_way(make, monkeypatch):
    tokenizer = make()
    by_asking, by_merges = Lattice(tokenizer, len(tokenizer)), Lattice(tokenizer, len(tokenizer))
    by_merges._n_asked = 1 << 30  # so many that looking at the merges is worth it
    order = by_asking.vocabulary.order
    drawn = np.random.default_rng(0).choice(order, (60, 2)).tolist()
    lefts = [pair for pair in drawn if by_asking.canonical(pair)]
    want = [by_asking.follow(left, order).tolist() for left in lefts]
    monkeypatch.setattr("interp.tokenization.lattice._MANY", 1)
    assert [by_merges.follow(left, order).tolist() for left in lefts] == want
    assert (by_merges._joins is None) == (make is wordpiece) and lefts
