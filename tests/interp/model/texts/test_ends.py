"""A prompt that ends where the tokenizer would have gone on is told of, once, and ordinary prompts are not."""

import warnings

import pytest
import torch

import interp
from interp.authoring import warn_of_end
from interp.errors import EndsInsideToken
from probes import attribute, logit_lens

WARNING = "prompt 1 ends in ' ', which the tokenizer of 'reference' joins with the word that follows"


@pytest.fixture
def subject():
    return interp.load("reference")


def told_of(call):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    return told


@pytest.mark.parametrize("probe", [logit_lens, lambda *given: attribute(*given, methods=("random",))])
def test_a_space_at_the_end_is_told_of_once_per_subject(subject, probe):
    texts = ["Once upon a time", "Once upon a "]
    told = told_of(lambda: [probe(subject, texts) for _ in range(2)])
    assert [(one.category, one.filename) for one in told] == [(EndsInsideToken, __file__)]
    assert WARNING in str(told[0].message)
    assert [one.category for one in told_of(lambda: probe(interp.load("reference"), texts))] == [EndsInsideToken]


@pytest.mark.parametrize(
    "given",
    ["Once upon a time", "Once upon a ti", "She said, \"Hi.\"", "One day.\n", "1 + 1 =", ["Once", "upon", "a b c"],
     torch.tensor([[5, 9, 30]])],
)  # fmt: skip
def test_ordinary_prompts_are_not_told_of(subject, given):
    assert told_of(lambda: warn_of_end(subject, subject.tokens(given))) == []


def test_what_is_not_read_or_was_cut_is_not_told_of(subject):
    assert told_of(lambda: logit_lens(subject, ["Once upon a "], positions=0)) == []
    assert told_of(lambda: attribute(subject, ["Once upon a "], methods=("random",), continuation=2)) == []
    long = subject.tokens(["a " * 600], truncate=True)
    assert told_of(lambda: warn_of_end(subject, long)) == []


def test_a_tokenizer_of_whole_words_joins_nothing(small_model, word_level):
    words = interp.load(small_model("llama"), tokenizer=word_level)
    assert told_of(lambda: logit_lens(words, ["w3 w4 "])) == []


def test_the_warning_can_be_silenced_as_it_says(subject):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", interp.errors.EndsInsideToken)
        logit_lens(subject, ["Once upon a "])
    assert issubclass(EndsInsideToken, UserWarning)


def test_no_forward_pass_is_made(subject, monkeypatch):
    monkeypatch.setattr(interp.Subject, "run", None)
    monkeypatch.setattr(interp.Subject, "next_token_logits", None)
    assert len(told_of(lambda: warn_of_end(subject, subject.tokens("Once upon a ")))) == 1
