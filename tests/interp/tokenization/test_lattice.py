"""The lattice of tokens over bytes: against brute force on small tokenizers, and by identities on the shipped one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers

import interp
from interp.errors import InputError
from interp.planted import word_tokenizer
from interp.tokenization import Lattice, text_ids

from .toys import PIECES, byte_level, letters, sentencepiece, spellings, strings, wordpiece


@pytest.fixture(scope="module")
def reference():
    return Lattice(interp.load("reference").tokenizer, 8192)


@pytest.fixture(scope="module")
def spaced():
    return Lattice(sentencepiece(), 267)


def ids(lattice, *pieces):
    return lattice.tokenizer.convert_tokens_to_ids(list(pieces))


# -- brute force -------------------------------------------------------------------------------------------------------


def test_one_spelling_of_each_text_is_canonical():
    lattice = Lattice(letters(), len(PIECES))
    assert lattice.by_pairs
    for text in strings("abc", 5):
        own = text_ids([text], lattice.tokenizer)[0]
        assert lattice.read(text) == lattice.encode(text.encode()) == own
        assert lattice.prefixes(text.encode()) == [tuple(own)]
        every = list(spellings(lattice.vocabulary.spelt, text.encode()))
        assert [one for one in every if lattice.canonical(one)] == [tuple(own)]


def test_what_may_follow_is_what_stays_canonical():
    lattice = Lattice(letters(), len(PIECES))
    order = lattice.vocabulary.order
    for text in strings("abc", 4):
        left = lattice.read(text)
        want = [lattice.canonical([*left, index]) for index in order.tolist()]
        for _ in range(2):  # the second time from the kept answers
            assert lattice.follow(left, order).tolist() == want
    # "cab" is never written: a and b are merged first.
    assert [PIECES[index] for index in order[~lattice.follow([], order)]] == ["cab"]


def test_words_that_no_merges_make_are_told_by_the_whole_word():
    """`ignore_merges`: "cb" is a word of the vocabulary, while inside "cba" merges make c, b, a."""
    tokenizer = byte_level(["Ġx"], ignore_merges=True)
    core = tokenizer.backend_tokenizer
    vocab = core.get_vocab() | {"cb": core.get_vocab_size()}
    core.model = type(core.model)(vocab, [("Ġ", "x")], ignore_merges=True)
    lattice = Lattice(tokenizer, len(vocab))
    assert not lattice.by_pairs
    c, b, a, cb = ids(lattice, "c", "b", "a", "cb")
    assert lattice.read("cb") == [cb] and lattice.read("cba") == [c, b, a]
    assert not lattice.canonical([c, b]) and lattice.canonical([c, b, a])


def test_a_greedy_tokenizer_is_told_by_whole_words():
    lattice = Lattice(wordpiece(), 10)
    assert not lattice.by_pairs
    play, ing, s = ids(lattice, "play", "##ing", "##s")
    assert lattice.vocabulary.join([play, ing, s]) == b" playings"
    assert lattice.read("sing playings") == ids(lattice, "sing", "play", "##ing", "##s")
    order = lattice.vocabulary.order
    for text in ("sing play", "play", "in sing playing"):
        left = lattice.read(text)
        assert lattice.follow(left, order).tolist() == [lattice.canonical([*left, index]) for index in order.tolist()]


# -- spaces, line breaks, characters -----------------------------------------------------------------------------------


def test_a_tokenizer_that_adds_a_space_is_asked_behind_an_anchor(spaced):
    ing, i, n, g, s = ids(spaced, "ing", "i", "n", "g", "▁s")
    assert text_ids(["ing"], spaced.tokenizer)[0] != [ing]  # the trap: alone, "ing" begins with a space
    assert spaced.encode(b"ing") == [ing] and spaced.canonical([ing])
    assert spaced.read("s") == spaced.encode(b" s") == [s]
    assert spaced.vocabulary.join(spaced.read("sing")) == b" sing"
    assert spaced.canonical([s, ing]) and not spaced.canonical([s, i, n, g])
    assert spaced.by_pairs and spaced.follow([s], spaced.starts(b"in")).tolist() == [True, True]


def test_bytes_stand_for_characters_that_have_no_token(spaced):
    assert spaced.vocabulary.join(ids(spaced, "<0xC3>", "<0xA8>")) == "è".encode()
    assert spaced.canonical(ids(spaced, "<0xC3>", "<0xA8>"))
    assert not spaced.canonical(ids(spaced, "<0xC3>", "<0xA9>"))  # é has a token
    assert spaced.prefixes(b"\xc3") == [tuple(ids(spaced, "<0xC3>"))]


def test_every_letter_of_a_lead_byte_may_have_a_token():
    """Then that byte alone is never written."""
    written = pre_tokenizers.ByteLevel(add_prefix_space=False)
    every = [written.pre_tokenize_str(chr(point))[0][0] for point in range(0xC0, 0x100)]
    for words, alone in ((every, 0), (every[1:], 1)):
        tokenizer = byte_level(words)
        lattice = Lattice(tokenizer, len(tokenizer))
        assert len(lattice.prefixes(b"a\xc3")) == alone
        assert lattice.prefixes("aé".encode()) == [tuple(lattice.read("aé"))]


def test_a_tokenizer_that_looks_ahead_has_two_ways_to_write_white_space():
    lattice = Lattice(byte_level(["ĊĊ"]), 257)
    one, two, letter = ids(lattice, "Ċ", "ĊĊ", "x")
    assert lattice.read("x\n\n") == [letter, two] and lattice.read("x\n\nx") == [letter, one, one, letter]
    assert lattice.prefixes(b"x\n\n") == [(letter, two), (letter, one, one)]
    x = lattice.starts(b"x")
    assert lattice.follow([letter, one, one], x).tolist() == [True]
    assert lattice.follow([letter, two], x).tolist() == [False]
    assert lattice.follow([letter, one], lattice.starts(b"\n")).tolist() == [True, False]


def test_words_are_joined_by_spaces():
    lattice = Lattice(word_tokenizer(5), 5)
    assert lattice.vocabulary.join(lattice.read("w0 w3")) == b" w0 w3"
    assert lattice.encode(b" w3 w1") == [3, 1]


SOME = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(SOME, st.text(" \nab1'\u201cé😀", max_size=12)))
def test_every_beginning_of_an_encoding_is_canonical(reference, text):
    own, vocabulary = reference.read(text), reference.vocabulary
    assert vocabulary.join(own) == text.encode()
    assert not text or reference.encode(text.encode()) == own
    for stop in range(len(own)):
        assert tuple(own[:stop]) in reference.prefixes(vocabulary.join(own[:stop]))
        assert reference.follow(own[:stop], vocabulary.order[vocabulary.order == own[stop]]).all()


@settings(max_examples=60, deadline=None)
@given(text=SOME.filter(bool))
def test_at_most_one_spelling_without_look_ahead(reference, text):
    whole = text.encode()
    assert (len(reference.prefixes(whole)) == 1) or text[-1].isspace() or text[-1].isdigit()
    for found in reference.prefixes(whole):
        assert reference.vocabulary.join(found) == whole


def test_the_last_word_is_that_of_the_tokenizers_own_division(reference, spaced):
    assert reference.n_in_last_word(reference.read("Once Zyxyquo")) == len(reference.read(" Zyxyquo")) > 1
    assert reference.n_in_last_word(reference.read("is ")) == 1
    assert spaced.n_in_last_word(spaced.read("sing sing")) == 4  # which divides nothing
    assert reference.n_in_last_word([]) == 0


# -- what cannot be read -----------------------------------------------------------------------------------------------


def test_the_first_byte_that_a_tokenizer_loses_is_named():
    tokenizer = byte_level()
    core = tokenizer.backend_tokenizer
    vocab = {piece: index for index, piece in enumerate(sorted(set(core.get_vocab()) - {"ñ"}))}
    core.model = type(core.model)(vocab, [])
    lattice = Lattice(tokenizer, len(vocab))
    with pytest.raises(InputError, match=r"loses byte 0xF1 at place 3 of .*; leave that character out"):
        lattice.read("aé\U00040000b")
    with pytest.raises(InputError, match="loses byte 0xF1 at place 1"):
        lattice.encode("a\U00040000".encode())
    assert lattice.prefixes("a\U00040000".encode()) == []


def test_letters_that_a_tokenizer_changes_are_lost():
    lattice = Lattice(wordpiece(), 10)
    with pytest.raises(InputError, match="loses byte 0x50 at place 0 of 'Playing'"):
        lattice.read("Playing")
    with pytest.raises(InputError, match="loses byte 0x20 at place 4 of 'play xx'"):
        lattice.read("play xx")  # an unknown word takes its space with it


def test_special_tokens_are_no_text(spaced):
    with pytest.raises(InputError, match="holds '<s>', which stands for no bytes"):
        spaced.read("s<s>")
    assert spaced.vocabulary.spelt[:2] == [None, None]
    with pytest.raises(InputError, match="id 1 stands for no text"):
        spaced.canonical([1])


def test_added_tokens_are_read_as_they_are_written():
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("<a b>", normalized=False)])
    lattice = Lattice(tokenizer, len(tokenizer) + 3)
    assert lattice.vocabulary.spelt[256:] == [b"<a b>", None, None, None]
    assert lattice.read("x<a b>") == [*ids(lattice, "x"), 256]


def test_bytes_between_characters_only():
    lattice = Lattice(letters(), len(PIECES))
    with pytest.raises(InputError, match="is not UTF-8"):
        lattice.encode(b"a\xc3")
