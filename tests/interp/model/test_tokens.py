"""Texts to ids: start tokens, batches, tables, token strings, and everything that is not a text."""

from __future__ import annotations

import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from interp.data.shipped import dataset
from interp.errors import InputError, TooLong
from interp.model.positions import check_positions, select_positions
from interp.model.texts.continuation import single_token
from interp.model.texts.strings import TokenStrings
from interp.model.texts.tokenizer import start_ids
from interp.model.tokens import Batch, Tokens, tokenise
from interp.planted import word_tokenizer
from probes import logit_lens

N_CTX = 64
CORPUS = ["the cat sat on the mat and the dog sat by the door", "a bird sang; the cats listened, naïve as ever"]


def byte_level(template: str | None = None, **special: str) -> PreTrainedTokenizerFast:
    """A GPT-2-like byte-level BPE; `<|end|>` has id 0."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(CORPUS, trainer)
    if template is not None:
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<|end|>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def sentencepiece(*, prepend: str = "always", legacy: bool = False) -> PreTrainedTokenizerFast:
    """A Llama-like tokenizer that begins texts with `<s>`, id 1; `legacy` marks spaces by normalising, as Llama 2."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁the", "▁cat", "s", "▁a", "a", "t", "h", "e", "c"]
    core = Tokenizer(models.Unigram([(piece, -float(rank)) for rank, piece in enumerate(pieces)], unk_id=0))
    if legacy:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
        core.decoder = decoders.Metaspace(prepend_scheme=prepend)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def words(vocab: dict[str, int], **special: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel(vocab, unk_token=special.get("unk_token", "<none>")))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def tokens_of(texts, tokenizer, **options) -> Tokens:
    return tokenise(texts, tokenizer, **({"n_ctx": N_CTX, "d_vocab": 300} | options))


def ids_of(texts, tokenizer, **options) -> list[list[int]]:
    return [ids.tolist() for ids in tokens_of(texts, tokenizer, **options).ids]


PLAIN = byte_level(bos_token="<|end|>", eos_token="<|end|>")
WORDS = word_tokenizer(6)


# -- the start of a text ---------------------------------------------------------------------------------------------


def test_a_tokenizer_that_begins_texts_itself():
    tokenizer = sentencepiece()
    assert start_ids(tokenizer) == [1]
    for bos in (None, True):
        assert ids_of(["the cats", "a"], tokenizer, bos=bos) == [[1, 4, 5, 6], [1, 7]]
        assert tokens_of("a", tokenizer, bos=bos).bos is True
    assert ids_of(["the cats", "a"], tokenizer, bos=False) == [[4, 5, 6], [7]]
    assert tokens_of("a", tokenizer, bos=False).bos is False


def test_a_tokenizer_that_has_a_start_token_and_does_not_use_it():
    assert start_ids(PLAIN) == []
    bare = ids_of("the cat", PLAIN, bos=False)[0]
    assert 0 not in bare
    assert ids_of("the cat", PLAIN)[0] == bare
    assert ids_of("the cat", PLAIN, bos=True)[0] == [0, *bare]
    assert tokens_of("the cat", PLAIN).bos is False


def test_a_tokenizer_without_a_start_token():
    assert start_ids(WORDS) == []
    assert ids_of("w1 w2", WORDS) == ids_of("w1 w2", WORDS, bos=False) == [[1, 2]]
    with pytest.raises(InputError, match=r"bos=True, but this model's tokenizer has no start-of-text token"):
        tokens_of("w1", WORDS, bos=True)


@pytest.mark.parametrize("bos", [None, True])
def test_a_text_that_spells_the_start_token_keeps_one(bos):
    tokenizer = sentencepiece()
    assert ids_of(["<s> the cat", "<s>the cat", "the cat"], tokenizer, bos=bos) == [[1, 4, 5]] * 3
    spelled = ids_of("<|end|>the cat", PLAIN, bos=bos)[0]
    assert spelled.count(0) == 1 and spelled[0] == 0


def test_one_token_for_start_and_end():
    """With the same token at both ends, what an empty text turns into does not say which end it stands at."""
    both = {"bos_token": "<|end|>", "eos_token": "<|end|>"}
    assert start_ids(byte_level("<|end|> $A", **both)) == [0]
    assert start_ids(byte_level("$A <|end|>", **both)) == []


def test_a_word_tokenizer_that_begins_texts():
    tokenizer = words({"<s>": 0, "x": 1}, bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    assert start_ids(tokenizer) == [0]  # although it cannot read the letter "a"
    assert ids_of("x x", tokenizer) == [[0, 1, 1]]


def test_ends_are_never_added():
    tokenizer = byte_level("<|end|> $A <|end|>", bos_token="<|end|>", eos_token="<|end|>")
    assert ids_of("the", tokenizer)[0] == [0, *ids_of("the", PLAIN)[0]]


# -- batches ---------------------------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), max_tokens=st.integers(1, 200))
@settings(deadline=None, max_examples=100)
def test_every_prompt_is_in_one_batch_and_no_batch_is_too_large(lengths, max_tokens):
    texts = [" ".join(f"w{(n + i) % 6}" for i in range(length)) for n, length in enumerate(lengths)]
    tokens = tokens_of(texts, WORDS)
    seen: list[int] = []
    widths: list[int] = []
    for batch in tokens.batches(max_tokens):
        assert batch.ids.numel() <= max_tokens or len(batch.ids) == 1
        assert batch.ids.shape == (len(batch.prompts), int(batch.lengths.max()))
        for prompt, row, length in zip(batch.prompts.tolist(), batch.ids, batch.lengths.tolist(), strict=True):
            assert torch.equal(row[:length], tokens.ids[prompt])
        seen += batch.prompts.tolist()
        widths.append(batch.ids.shape[1])
    assert sorted(seen) == list(range(len(lengths)))
    assert widths == sorted(widths, reverse=True)


def test_prompts_of_one_length_share_as_few_batches_as_fit():
    tokens = tokens_of(["w0 w1 w2"] * 10, WORDS)
    assert [len(batch.ids) for batch in tokens.batches(12)] == [4, 4, 2]
    assert [batch.prompts.tolist() for batch in tokens.batches(1000)] == [list(range(10))]


# -- what texts may come as ------------------------------------------------------------------------------------------


def test_one_text_and_a_list_of_it_are_the_same():
    one, many = tokens_of("w1 w2", WORDS), tokens_of(["w1 w2"], WORDS)
    assert one.digest == many.digest and len(one) == 1
    assert tokens_of(("w1", "w2"), WORDS).digest == tokens_of(pd.Series(["w1", "w2"]), WORDS).digest


def test_a_frame_keeps_its_other_columns_and_is_left_alone():
    frame = pd.DataFrame({"group": ["a", "b"], "text": ["w1", "w2 w3"], "prompt_id": [7, 3]}, index=["x", "y"])
    before = frame.copy(deep=True)
    tokens = tokens_of(frame, WORDS)
    assert tokens.table.columns.tolist() == ["group", "prompt_id"]
    assert tokens.table["prompt_id"].tolist() == [7, 3] and tokens.table["group"].tolist() == ["a", "b"]
    assert [ids.tolist() for ids in tokens.ids] == [[1], [2, 3]]
    pd.testing.assert_frame_equal(frame, before)


def test_prompts_without_a_number_are_counted():
    tokens = tokens_of(pd.DataFrame({"text": ["w1", "w2"]}), WORDS)
    assert tokens.table["prompt_id"].tolist() == [0, 1]
    assert tokens.table["prompt_id"].dtype == np.int64


def test_ids_are_taken_as_they_are():
    for ids in (torch.tensor([[1, 2], [3, 0]]), torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)):
        tokens = tokens_of(ids, None)
        assert [one.tolist() for one in tokens.ids] == [[1, 2], [3, 0]]
        assert tokens.bos is None and tokens.table["prompt_id"].tolist() == [0, 1]
    assert ids_of(torch.tensor([4, 5]), None) == [[4, 5]]


def test_the_name_of_a_shipped_dataset_means_the_dataset():
    shipped = dataset("prompts")
    tokens = tokens_of("prompts", PLAIN, n_ctx=4096)
    assert len(tokens) == len(shipped)
    assert set(tokens.table.columns) == set(shipped.columns) - {"text"}
    assert PLAIN.decode(tokens.ids[3]) == shipped["text"][3]
    assert len(tokens_of(["prompts"], PLAIN)) == 1  # the word


def test_digest_tells_data_apart():
    numbered = pd.DataFrame({"text": ["w1 w2"], "prompt_id": [5]})
    different = (["w1 w2"], ["w2 w1"], ["w1", "w2"], ["w1 w2", "w3"], numbered)
    assert len({tokens_of(texts, WORDS).digest for texts in different}) == len(different)
    small = pd.DataFrame({"text": ["w1 w2"], "prompt_id": np.array([0], dtype=np.int8)})
    assert tokens_of(small, WORDS).digest == tokens_of(["w1 w2"], WORDS).digest


# -- what is not a text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no texts were given"),
        (pd.DataFrame({"text": []}), "no texts were given"),
        ("", "text 0 is empty"),
        (["w1", ""], "text 1 is empty"),
        ("   ", "text 0, '   ', has no tokens"),
        (["w1", None], "text 1 is NoneType, not str"),
        ([["w1"]], "text 0 is list, not str"),
        (5, "not int"),
        (None, "not NoneType"),
        (b"w1", "texts are str, not bytes; decode them first"),
        ("w1 zebra", "cannot read .*w1 zebra"),
        (["w1", "zebra"], "cannot read 'zebra'"),
        (pd.DataFrame({"prompt": ["w1"]}), r"no column 'text', only \['prompt'\]"),
        (pd.DataFrame({"text": ["w1", "w2"], "prompt_id": [1, 1]}), "'prompt_id' must hold distinct integers"),
        (pd.DataFrame({"text": ["w1"], "prompt_id": ["a"]}), "'prompt_id' must hold distinct integers"),
        (pd.DataFrame({"text": ["w1"], "prompt_id": [0.5]}), "'prompt_id' must hold distinct integers"),
        (
            pd.DataFrame({"text": ["w1", "w2"], "prompt_id": pd.array([1, None], dtype="Int64")}),
            "'prompt_id' must hold distinct integers",
        ),
        (
            torch.tensor([[0, 300]]),
            "prompt 0 holds the token id 300, but this model's vocabulary has 300; give ids",
        ),
        (torch.tensor([[0, 3], [0, -1]]), "prompt 1 holds the token id -1"),
        (torch.tensor([[0.5]]), "must be integers"),
        (torch.tensor([[True]]), "must be integers"),
        (torch.zeros(0, 3, dtype=torch.long), r"not torch.int64 \[0, 3\]"),
        (torch.zeros(1, 2, 3, dtype=torch.long), r"not torch.int64 \[1, 2, 3\]"),
        (torch.tensor(3), "must be integers"),
    ],
)
def test_bad_texts_are_one_sentence(texts, message):
    with pytest.raises(InputError, match=message) as caught:
        tokens_of(texts, WORDS)
    assert "\n" not in str(caught.value)


def test_texts_without_a_tokenizer():
    with pytest.raises(InputError, match="came without a tokenizer: pass token ids"):
        tokens_of("w1", None)


def test_a_start_token_for_ids_makes_no_sense():
    with pytest.raises(InputError, match="bos= has no meaning for token ids"):
        tokens_of(torch.tensor([1]), WORDS, bos=True)


def test_too_long_says_by_how_much_and_truncate_records_it():
    texts = pd.DataFrame({"text": ["w1 w2 w3 w4 w5", "w1", "w1 w2 w3 w4"], "prompt_id": [40, 41, 42]})
    with pytest.raises(TooLong, match="prompt 40 has 5 tokens, 2 more than the context of 3"):
        tokens_of(texts, WORDS, n_ctx=3)
    cut = tokens_of(texts, WORDS, n_ctx=3, truncate=True)
    assert [ids.tolist() for ids in cut.ids] == [[1, 2, 3], [1], [1, 2, 3]]
    assert cut.n_cut.tolist() == [2, 0, 1]
    assert tokens_of(texts, WORDS, n_ctx=5).n_cut.tolist() == [0, 0, 0]
    with pytest.raises(TooLong, match="prompt 0 has 4 tokens, 1 more"):
        tokens_of(torch.zeros(1, 4, dtype=torch.long), None, n_ctx=3)


def test_the_start_token_counts_towards_the_context():
    with pytest.raises(TooLong, match="has 4 tokens, 1 more"):
        tokens_of("the cats", sentencepiece(), n_ctx=3)
    assert ids_of("the cats", sentencepiece(), n_ctx=3, truncate=True) == [[1, 4, 5]]


# -- token strings ---------------------------------------------------------------------------------------------------


def test_byte_level_tokens_keep_their_leading_space():
    strings = TokenStrings(PLAIN, 310)
    ids = PLAIN("the cat sat on the mat")["input_ids"]
    assert "".join(strings[ids]) == "the cat sat on the mat"
    assert strings[single_token(" the", PLAIN)] == " the"
    assert strings[0] == "<|end|>"
    assert strings[single_token("i", PLAIN)] == "i"
    assert list(strings[len(PLAIN) :]) == [f"<{index}>" for index in range(len(PLAIN), 310)]
    pieces = PLAIN("ï")["input_ids"]
    assert len(pieces) == 2 and list(strings[pieces]) == ["�", "�"]  # half a character each


@pytest.mark.parametrize("kind", [{}, {"prepend": "first"}, {"prepend": "never"}, {"legacy": True}])
def test_sentencepiece_tokens_keep_their_leading_space(kind):
    tokenizer = sentencepiece(**kind)
    strings = TokenStrings(tokenizer, 14)
    known = ["<unk>", "<s>", "</s>", " ", " the", " cat", "s", " a", "a", "t", "h", "e", "c"]
    assert strings.tolist() == [*known, "<13>"]


def test_words_read_as_words_behind_a_space():
    assert TokenStrings(WORDS, 8).tolist() == [" w0", " w1", " w2", " w3", " w4", " w5", "<6>", "<7>"]
    for index in range(6):  # so that what a frame shows can be typed in again
        assert single_token(f" w{index}", WORDS) == index


def test_ids_that_a_tokenizer_leaves_out():
    gaps = words({"a": 0, "b": 2, "c": 7}, unk_token="a")
    assert TokenStrings(gaps, 9).tolist() == [" a", "<1>", " b", "<3>", "<4>", "<5>", "<6>", " c", "<8>"]


def test_a_head_smaller_than_the_tokenizer():
    assert TokenStrings(WORDS, 2).tolist() == [" w0", " w1"]


def test_no_tokenizer_shows_ids():
    assert TokenStrings(None, 3).tolist() == ["<0>", "<1>", "<2>"]


def test_a_tokenizer_of_punctuation_only():
    marks = words({"!": 0, "?": 1}, unk_token="?")
    assert TokenStrings(marks, 2).tolist() == ["!", "?"]


@pytest.mark.parametrize("tokenizer", [PLAIN, WORDS, sentencepiece(), None], ids=["bytes", "words", "pieces", "none"])
def test_strings_are_the_same_whichever_are_asked_for_first(tokenizer):
    at_once = TokenStrings(tokenizer, 310)[:]
    few = TokenStrings(tokenizer, 310)
    assert few[7] == at_once[7]
    nested, some = np.array([[5, 7], [9, 11]]), np.arange(310) % 99 == 1
    for chosen in ([3, 309, 3], nested, torch.tensor([1, 2]), slice(20, 25), some):
        assert (few[chosen] == at_once[chosen]).all() and few[chosen].shape == at_once[chosen].shape
    assert list(few) == few.tolist() == at_once.tolist() == np.array(few).tolist() and len(few) == 310
    with pytest.raises(IndexError):
        few[310]


def test_only_the_strings_asked_for_are_decoded():
    class Counting:
        n_read = 0

        def __getattr__(self, name):
            return getattr(WORDS, name)

        def batch_decode(self, ids, **keep):
            self.n_read += len(ids)
            return WORDS.batch_decode(ids, **keep)

    tokenizer = Counting()
    strings = TokenStrings(tokenizer, 6)
    assert strings[[2, 4, 2]].tolist() == [" w2", " w4", " w2"]
    asked = tokenizer.n_read
    assert asked == 2 + 6  # those two, and the first 64 of the vocabulary, in search of a plain word
    assert strings[[2, 3]].tolist() == [" w2", " w3"] and tokenizer.n_read == asked + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w1 w2", r"'w1 w2' is 2 tokens \['w1', 'w2'\], not one"),
        ("", "is 0 tokens"),
        ("zebra", "cannot read .*zebra"),
        (None, "text=None: give a text"),
        (1.5, r"text=1\.5: give a text"),
    ],
)
def test_a_target_is_one_token(text, message):
    with pytest.raises(InputError, match=message):
        single_token(text, WORDS)


def test_a_target_that_would_turn_into_the_unknown_token():
    with pytest.raises(InputError, match="'Ω' is unknown to the model's tokenizer"):
        single_token("Ω", words({"<unk>": 0, "x": 1}, unk_token="<unk>"))
    assert single_token("<unk>", words({"<unk>": 0, "x": 1}, unk_token="<unk>")) == 0


def test_a_target_without_its_space_gets_a_hint():
    with pytest.raises(InputError, match="Most words begin with a space"):
        single_token("thecat", PLAIN)
    with pytest.raises(InputError, match="came without a tokenizer: give 'x' as a token id"):
        single_token("x", None)


# -- positions -------------------------------------------------------------------------------------------------------


BATCH = Batch(torch.arange(12).reshape(3, 4), torch.tensor([4, 3, 2]), torch.arange(3))


def selected(positions) -> list[tuple[int, int]]:
    row, pos = select_positions(BATCH, positions)
    assert row.dtype == pos.dtype == torch.int64
    return list(zip(row.tolist(), pos.tolist(), strict=True))


def test_all_positions_are_the_real_ones():
    assert selected(None) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]


def test_positions_count_from_either_end():
    assert selected(0) == [(0, 0), (1, 0), (2, 0)]
    assert selected(-1) == [(0, 3), (1, 2), (2, 1)]
    assert selected(np.int64(-2)) == [(0, 2), (1, 1), (2, 0)]
    assert selected([-1, 0]) == selected(range(-1, 1)) == selected(torch.tensor([0, -1]))
    assert selected([-1, 0]) == [(0, 0), (0, 3), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_a_position_named_twice_is_read_once():
    """1 and -1 are the same place in a prompt of two tokens, and there only."""
    assert selected([1, -1, 1]) == [(0, 1), (0, 3), (1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (2, "position 2 is outside a prompt of 2 tokens; positions run from -2 to 1"),
        (-3, "position -3 is outside a prompt of 2 tokens"),
        ([0, 5], "position 5"),
        ([], "positions is empty"),
        (1.5, "positions are whole numbers"),
        (["a"], "positions are whole numbers"),
        ("last", "positions are whole numbers"),
    ],
)
def test_bad_positions(positions, message):
    with pytest.raises(InputError, match=message):
        select_positions(BATCH, positions)
    with pytest.raises(InputError, match=message):
        check_positions(positions, shortest=2)


# -- tokens as texts -------------------------------------------------------------------------------------------------


def test_tokens_are_taken_as_they_were_cut(small_subject):
    """A probe has no `bos` of its own: how texts are cut is decided where tokens are made, once."""
    subject = small_subject("gpt2", "bridge")
    tokens = subject.tokens(["w3 w4 w5", "w6 w7"], bos=False)
    again = subject.tokens(tokens)
    assert again.digest == tokens.digest and again.bos is False
    frame = logit_lens(subject, tokens)
    assert frame.groupby("prompt_id")["pos"].max().tolist() == [2, 1]
    assert frame.interp.provenance.loc["bos"].tolist() == [False]
    with_start = logit_lens(subject, ["w3 w4 w5", "w6 w7"])
    assert with_start.groupby("prompt_id")["pos"].max().tolist() == [3, 2]
    assert with_start["run_id"].iat[0] != frame["run_id"].iat[0]


def test_tokens_can_be_cut_again_and_remember_how_much_was(small_subject):
    subject = small_subject("gpt2", "bridge")  # 64 positions
    ids = [torch.arange(3, 43)] * 2
    long = Tokens([torch.cat(ids)], pd.DataFrame({"prompt_id": [7]}), None, np.array([5]))
    with pytest.raises(TooLong, match="prompt 7 has 80 tokens, 16 more than the context of 64"):
        subject.tokens(long)
    cut = subject.tokens(long, truncate=True)
    assert len(cut.ids[0]) == 64 and cut.n_cut.tolist() == [21] and cut.table["prompt_id"].tolist() == [7]


def test_tokens_of_another_model_and_another_start_are_refused(small_subject):
    subject = small_subject("gpt2", "bridge")
    tokens = subject.tokens(["w3 w4"])
    with pytest.raises(InputError, match=r"bos=False cannot be applied to tokens; pass it to Subject\.tokens"):
        subject.tokens(tokens, bos=False)
    foreign = Tokens([torch.tensor([3, 61])], pd.DataFrame({"prompt_id": [0]}), None, np.array([0]))
    with pytest.raises(InputError, match="prompt 0 holds the token id 61, but this model's vocabulary has 61"):
        subject.tokens(foreign)


def test_tokens_go_to_another_process_without_a_file_for_each_prompt():
    """torch would hand over the memory of each tensor as an open file, of which a process has a thousand."""
    tokens = tokenise([[1, 2, 3], [4], [5, 6]] * 500, None, n_ctx=8, d_vocab=9)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    again = pickle.loads(ForkingPickler.dumps(tokens))
    after = len(list(Path("/proc/self/fd").iterdir())) if before else 0
    assert after <= before + 5
    assert again.digest == tokens.digest and again.table.equals(tokens.table)
    assert pickle.loads(pickle.dumps(replace(tokens, ids=[], table=tokens.table.iloc[:0]))).ids == []
