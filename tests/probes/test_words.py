"""Words given to probes mean what they say, also where a tokenizer begins every text with a space (SentencePiece)."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

import interp
from interp.errors import InputError
from probes import attribute, concept_neurons, iterative_inference, logit_lens, spelling
from probes.attribution.reagent.masked_lm import MaskedLM

WORDS = ("▁the", "▁cat", "▁sat", "▁time", "▁a", "▁once", "▁day", "▁night", "▁hour")
PIECES = ["<unk>", "<s>", "▁", *WORDS, "time", "s", *"abcdefghijklmnopqrstuvwxyz", ":", "\n"]


@pytest.fixture(scope="module")
def subject(small_model) -> interp.Subject:
    """Alone, " time" is the tokens "▁", "▁time", and "time" is "▁time"."""
    scored = [(piece, -1.0 - (len(piece.strip("▁")) < 2)) for piece in dict.fromkeys(PIECES)]
    core = Tokenizer(models.Unigram(scored, unk_id=0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>")
    return interp.load(small_model("gpt2"), tokenizer=tokenizer)


def test_alone_the_words_would_be_others(subject):
    """The fault, so that the tests below are about something."""
    alone = [subject.tokens([text], bos=False).ids[0].tolist() for text in (" time", "time")]
    assert alone == [[PIECES.index("▁"), PIECES.index("▁time")], [PIECES.index("▁time")]]


def test_targets(subject):
    frame = logit_lens(subject, ["once the cat"], targets=[" time", "time"], positions=-1)
    assert frame["target"].unique().tolist() == [" time", "time"]
    assert frame["target_id"].unique().tolist() == [PIECES.index("▁time"), PIECES.index("time")]
    with pytest.raises(InputError, match=r"'night' is 5 tokens .*: ' night' is one token"):
        logit_lens(subject, ["once the cat"], targets="night")
    rows = attribute(subject, ["once the cat"], methods=("random",), target=" time")
    assert rows["target"].unique().tolist() == [" time"]


def test_continuations(subject):
    """Each token of the continuation is a target, behind the tokens of the prompt and nothing else."""
    rows = attribute(subject, ["once the cat", "a day"], methods=("random",), continuation=" sat times")
    for _, of in rows.groupby("prompt_id"):
        assert of.drop_duplicates("target_pos")["target"].tolist() == [" sat", " time", "s"]
    read = rows[rows["target_pos"] == rows["target_pos"].max()]
    assert read["token"].tolist() == ["<s>", " once", " the", " cat", " sat", " time"][-len(read) :]
    with pytest.raises(InputError, match="move the space from the end of the text to the beginning"):
        attribute(subject, ["once the "], methods=("random",), continuation="cat")


def test_right_answers(subject):
    prompts = pd.DataFrame({"text": ["once the cat", "a day the", "the"], "expected": [" sat", " night", " hour."]})
    frame = iterative_inference(subject, prompts)
    assert frame.drop_duplicates("prompt_id")["true"].tolist() == [" sat", " night", " hour"]
    said = [int(logits[-1].argmax()) for logits in subject.logits(prompts["text"].tolist())]
    assert frame.drop_duplicates("prompt_id")["generated_id"].tolist() == said


def test_words_of_a_concept(subject):
    neurons = concept_neurons(subject, ["time", "day", "night", "cats"], n=1, min_hits=1, held_out=0)
    assert neurons.words.seeds == ("time", "day", "night") and neurons.words.dropped == ("cats",)
    ids = neurons.words.seed_ids
    assert subject.token_strings[ids].tolist() == [" time", "time", " day", " night"]


def test_words_to_spell(subject):
    frame = spelling(subject, ["cats", "time"], tasks=["spelling"], shots=0, n_wrong=1)
    own = frame[frame["control"] == "none"].drop_duplicates(["word", "letter_pos"])
    assert own.groupby("word", sort=False)["n_tokens"].first().to_dict() == {"cats": 2, "time": 1}
    assert own.loc[own["word"] == "cats", "token_pos"].tolist() == [0, 0, 0, 1]


def test_replacements_by_a_masked_model(subject):
    """Its words replace a token that begins with a space by tokens that do: alone they were two tokens, and dropped."""
    known = ["[MASK]", "[PAD]", "cat", "day", "zebra"]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(known)}, unk_token="zebra"))
    their = PreTrainedTokenizerFast(tokenizer_object=core, mask_token="[MASK]", pad_token="[PAD]", unk_token="zebra")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    table = MaskedLM(BertForMaskedLM(config).eval(), their, k=5).table(subject, subject.tokens(["once the"]).ids[0][1:])
    for ids in table.ids:
        assert set(subject.token_strings[ids]) == {" cat", " day"}
