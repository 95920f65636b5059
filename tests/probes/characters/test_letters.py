"""Which tokens are words, what is asked of them, and how they are split: rules that everything else stands on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interp
from interp.errors import InputError, UnknownName
from probes import vocabulary
from probes.characters._lemma_splits import balanced, group_words, split_groups
from probes.characters._letters import Asked, questions
from probes.vocab._words import alphabet, outlying_norms, word_in

ASCII = alphabet("ascii")
WORDS = st.text("abcABC", min_size=2, max_size=6)


def subject_with(core: Tokenizer, n_rows: int, **special: str) -> interp.Subject:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    config = GPT2Config(vocab_size=n_rows, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    return interp.load(GPT2LMHeadModel(config).eval(), tokenizer=tokenizer)


def byte_level(pieces: list[str]) -> Tokenizer:
    alphabet_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({piece: place for place, piece in enumerate([*alphabet_, *pieces])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return core


def sentencepiece(pieces: list[str]) -> Tokenizer:
    """As Llama 2 marks spaces: a first space is stripped when a token is decoded alone."""
    core = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return core


def word_piece(pieces: list[str]) -> Tokenizer:
    core = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    return core


# -- tokens ----------------------------------------------------------------------------------------------------------

TOKENIZERS = {
    "byte-level": (byte_level(["Ġthe", "the", "3D", "Ġdon't", "ðŁĺĢ", "Ġa"]), {}),
    "sentencepiece": (sentencepiece(["▁the", "the", "3D", "▁don't", "😀", "▁a"]), {"unk_token": "<unk>"}),
    "wordpiece": (word_piece(["[UNK]", "the", "##the", "3D", "don't", "😀", "a"]), {"unk_token": "[UNK]"}),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_of_every_kind_of_tokenizer_read_as_their_words(kind):
    """`Ġthe`, `▁the` and `##the` are the word "the"; `3D`, `don't`, an emoji and a single letter are not words."""
    core, special = TOKENIZERS[kind]
    n_tokens = core.get_vocab_size()
    frame = vocabulary(subject_with(core, n_tokens + 3, **special))
    assert frame["kind"].eq("word").sum() == 2
    assert frame.loc[frame["kind"] == "word", "word"].tolist() == ["the", "the"]
    raw = {index: piece for piece, index in core.get_vocab().items()}
    of = {raw[index]: kind for index, kind in zip(frame["token_id"], frame["kind"], strict=True) if index in raw}
    others = [of[piece] for piece in of if piece.strip("Ġ▁") in ("3D", "don't", "😀", "ðŁĺĢ")]
    assert others == ["other"] * 3
    assert of.get("Ġa", of.get("▁a", of.get("a"))) == "single_letter"
    assert frame["kind"].tolist()[-3:] == ["unused"] * 3 and (frame["token_id"] >= n_tokens).sum() == 3
    if special:
        assert of[special["unk_token"]] == "special"
    counts = frame.interp.summary().set_index("kind")["n_tokens"]
    assert counts.sum() == n_tokens + 3 and counts["unused"] == 3


def test_an_added_special_token_that_looks_like_a_word_is_not_one():
    core = byte_level(["the"])
    core.add_special_tokens([AddedToken("SEP", special=True)])
    frame = vocabulary(subject_with(core, core.get_vocab_size()))
    assert frame.loc[frame["token"] == "SEP", "kind"].tolist() == ["special"]


@pytest.mark.parametrize("text", ["Ġ", " ", "", "3D", "don't", "😀", " a-b", "  the", "naïve", "the\n", "�"])
def test_what_is_no_ascii_word(text):
    assert word_in(text, ASCII.word) is None


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("Cyrillic", "привет"), ("Greek", "λόγος"), ("Devanagari", "नमस्ते"), ("Arabic", "سلام"),
        ("Hiragana", "こんにちは"), ("Latin", "naïve"),
    ],
)  # fmt: skip
def test_words_of_a_script_and_of_no_other(script, word):
    pattern = alphabet(script).word
    assert word_in(f" {word}", pattern) == word
    assert word_in(word + "x", pattern) == (word + "x" if script == "Latin" else None)
    assert word_in(word + "।", pattern) is None and word_in(word + "1", pattern) is None
    assert alphabet(list(dict.fromkeys(word[-3:]))).word == pattern
    asked = questions(np.array([word], dtype=object), alphabet(script), "contains", "oblivious")
    assert asked.letters == tuple(sorted(set(word))) and asked.answer.all()


def test_a_decomposed_letter_is_its_composed_one():
    assert word_in("nai\u0308ve", alphabet("Latin").word) == "naïve"


@pytest.mark.parametrize(
    ("letters", "message"),
    [("Klingon", "unknown script 'Klingon'"), (["a", "б"], "not of one script"), (["ab"], "single letters"),
     ([], "single letters"), (["1"], "not of one script")],
)  # fmt: skip
def test_alphabets_that_are_none(letters, message):
    with pytest.raises(InputError, match=message):
        alphabet(letters)


def test_outlying_norms():
    norms = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 0.0, 30.0, 0.01])
    assert outlying_norms(norms, norms > 0.5).tolist() == [False] * 5 + [True] * 3


def test_glitch_tokens_are_flagged():
    core = byte_level(["Ġthe", "Ġcat", "Ġdog", "Ġbird"])
    subject = subject_with(core, core.get_vocab_size())
    model = GPT2LMHeadModel(GPT2Config(vocab_size=core.get_vocab_size(), n_positions=8, n_embd=8, n_layer=1, n_head=1))
    model.transformer.wte.weight.data[core.token_to_id("Ġcat")] = 0.0
    frame = vocabulary(interp.load(model.eval(), tokenizer=subject.tokenizer))
    assert frame.loc[frame["glitch"] & (frame["kind"] == "word"), "word"].tolist() == ["cat"]


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


def test_capitals_count_or_do_not():
    assert asked_of(["Abba", "Cc"], letters="a").answer.tolist() == [[True, False]]
    assert asked_of(["Abba", "Cc"], "first", "sensitive", "aA").answer.tolist() == [[False, False], [True, False]]
    assert asked_of(["Abba"], letters="aA").letters == ("a",)


def test_the_bug_is_of_one_task():
    with pytest.raises(InputError, match="label_bug is of the task 'contains'"):
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
    with pytest.raises(InputError, match="9 different lemmas; at least 10"):
        split_groups(np.arange(9), 0)
    with pytest.raises(UnknownName, match="unknown split 'lemma'"):
        group_words(["a"], "lemma", "en")
    with pytest.raises(InputError, match="no lemmas of language 'xx'"):
        group_words(["a"], "strict", "xx")
