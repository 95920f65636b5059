"""Spelling questions: right and wrong letters as the strings say, scores as the model's own logits do."""

from __future__ import annotations

import importlib

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from interp.data.shipped import shipped_path
from interp.errors import InputError, TooLong
from interp.findings import get
from probes import spelling
from probes.characters._log_probs import log_probs

pytestmark = pytest.mark.trained

WORDS = ["little", "window", "cat", "unwearied"]


@pytest.fixture(scope="module")
def subject() -> interp.Subject:
    return interp.load("reference")


@pytest.fixture(scope="module")
def frame(subject) -> pd.DataFrame:
    return spelling(subject, WORDS, shots=2)


def test_every_letter_is_asked_once_and_again_of_another_word(frame):
    own = frame[frame["control"] == "none"]
    for word, rows in own[own["task"] == "spelling"].groupby("word"):
        assert "".join(rows["letter"]) == word and rows["letter_pos"].tolist() == list(range(len(word)))
    for word, rows in own[own["task"] == "membership"].groupby("word"):
        assert rows["letter"].tolist() == list(dict.fromkeys(word))
    assert (own["shown"] == own["word"]).all() and (frame["chance"] == 0.25).all()
    control = frame[frame["control"] == "length_matched"]
    assert len(control) == len(own)
    assert (control["shown"].str.len() == control["n_letters"]).all()
    for row in control.itertuples():
        if row.task == "membership":
            assert row.letter not in row.shown
        else:
            assert row.shown[row.letter_pos] != row.letter


def test_tokens_of_a_word_and_the_one_that_holds_a_letter(subject, frame):
    for word, rows in frame[(frame["task"] == "spelling") & (frame["control"] == "none")].groupby("word"):
        ids = subject.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        texts = [subject.tokenizer.decode([index]).strip() for index in ids]
        assert (rows["n_tokens"] == len(ids)).all() and "".join(texts) == word
        expected = [place for place, text in enumerate(texts) for _ in text]
        assert rows["token_pos"].tolist() == expected
        assert rows["token_length"].tolist() == [len(texts[place]) for place in expected]
    assert frame["n_tokens"].max() > 1  # the test has a word of several


def test_scores_are_the_models_own(subject, monkeypatch):
    """Log-probability of each letter behind its prompt, from Hugging Face's model, text by text."""
    module = importlib.import_module("probes.characters.spelling")
    asked = []
    questions = module._Asker.questions
    monkeypatch.setattr(
        module._Asker,
        "questions",
        lambda self, task: [asked.append(one) or one for one in questions(self, task)],
    )
    frame = spelling(subject, ["cat", "mother"], shots=3)
    assert len(asked) == len(frame)
    path = shipped_path("reference")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    for question, row in list(zip(asked, frame.itertuples(), strict=True))[::4]:
        found = []
        prompt = tokenizer(question.prompt)["input_ids"]
        for candidate in question.candidates:
            letter = tokenizer(candidate, add_special_tokens=False)["input_ids"]  # rare letters are two tokens
            with torch.no_grad():
                logits = model(torch.tensor([prompt + letter])).logits[0, len(prompt) - 1 : -1]
            found.append(float(logits.log_softmax(-1)[range(len(letter)), letter].sum()))
        # Attention by other kernels and in batches; log-probabilities of about 10 in float32.
        assert row.log_prob == pytest.approx(found[0], abs=1e-3)
        assert row.margin == pytest.approx(found[0] - max(found[1:]), abs=1e-3)
        assert row.correct == (row.margin > 0)
        assert question.candidates[0].strip() == row.letter and len(set(question.candidates)) == 4
        wrong = [candidate.strip() for candidate in question.candidates[1:]]
        assert not set(wrong) & set(row.word if row.task == "membership" else row.letter)
        assert question.prompt.splitlines()[-1].startswith(row.shown) and len(question.prompt.splitlines()) == 4


def test_the_letters_of_a_word_are_asked_in_one_pass(subject, monkeypatch):
    """Candidates of one token are read where the prompt ends, and prompts that begin a longer one are not run."""
    ran: list[torch.Tensor] = []
    run = interp.Subject.run
    monkeypatch.setattr(
        interp.Subject, "run", lambda self, ids, program: ran.extend(ids.unbind()) or run(self, ids, program)
    )
    frame = spelling(subject, ["mother"], tasks=["spelling"], shots=2, n_wrong=1)
    # Letters of the shipped tokenizer that are one token after a space; others take a pass per candidate.
    single = [
        len(subject.tokenizer(f" {letter}", add_special_tokens=False)["input_ids"]) == 1 for letter in frame["letter"]
    ]
    assert any(single) and len(ran) < 2 * len(frame)
    own = frame[frame["control"] == "none"]
    assert len(own) == 6 and len(log_probs(subject, [["a b c", "a b d"], ["a b", "a c"]], "")) == 2
    ran.clear()
    log_probs(subject, [["I like a", "I like I"], ["I like I a", "I like I I"]], "")
    assert len(ran) == 1 and ran[0].tolist() == subject.tokenizer("I like I")["input_ids"]


def test_the_order_of_words_decides_nothing(subject, frame):
    """Every control shows the word it shows anyway, and a word more changes only the controls that show it."""
    keys = ["word", "task", "letter_pos", "control"]
    mixed = spelling(subject, WORDS[::-1], shots=2)
    pair = [one.drop(columns=["prompt_id", "run_id"]).sort_values(keys, ignore_index=True) for one in (mixed, frame)]
    pd.testing.assert_frame_equal(*pair, check_exact=False, atol=1e-3)
    with_more = spelling(subject, [*WORDS, "button"], shots=2).set_index(keys)["shown"]
    before = frame.set_index(keys)["shown"]
    now = with_more.loc[before.index]
    assert ((now == before) | (now == "button")).all()


def test_backends_and_batches_agree(subject, frame):
    with interp.options.local(memory=1 << 22):
        small = spelling(subject, WORDS, shots=2)
    pd.testing.assert_frame_equal(small, frame, atol=1e-3)
    other = spelling(interp.load("reference", backend="nnsight"), WORDS[:2], shots=2)
    assert other["log_prob"].notna().all()


def test_a_task_alone_asks_the_same(subject, frame):
    alone = spelling(subject, WORDS, tasks=["membership"], shots=2)
    together = frame[frame["task"] == "membership"].reset_index(drop=True)
    columns = ["word", "control", "shown", "letter"]
    pd.testing.assert_frame_equal(alone[columns], together[columns])
    assert spelling(subject, WORDS, tasks=["membership"], shots=2, seed=1)["shown"].tolist() != alone["shown"].tolist()


def test_summary_is_over_words(frame):
    summary = frame.interp.summary()
    assert summary[["task", "control"]].values.tolist() == [
        [task, control] for task in ("membership", "spelling") for control in ("length_matched", "none")
    ]
    assert (summary["n_prompts"] == len(WORDS)).all()


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, "words: give at least one"),
        (["cat", "cat"], {}, "each once"),
        (["Cat"], {}, "'Cat' is not a lower-case ASCII word"),
        (["a"], {}, "two letters or more"),
        (["cat"], {"tasks": "spelling"}, "tasks='spelling': give a list of texts, such as"),
        (["cat"], {"tasks": ["count"]}, "give a list of"),
        (["cat"], {"n_wrong": 0}, "n_wrong=0, shots=4: give 1 to 10"),
        (["cat"], {"shots": 99}, "0 to 8 examples"),
    ],
)
def test_bad_input_is_one_sentence(subject, words, options, message):
    with pytest.raises(InputError, match=message):
        spelling(subject, words, **options)


def test_questions_that_do_not_fit_the_context_are_named_as_what_they_are(small_model, subject):
    """The user gave words: a number of a prompt and advice to cut it would mean nothing."""
    short = interp.load(small_model("gpt2", vocab_size=8192, n_positions=16), tokenizer=subject.tokenizer)
    with pytest.raises(TooLong, match=r"^a question has \d+ tokens with its examples, more than the context of 16"):
        spelling(short, ["little"], tasks=["spelling"])


def test_letters_are_compared_with_themselves_in_shorter_tokens():
    rows = [("e", 3, True), ("e", 9, False), ("e", 9, True), ("a", 3, False), ("a", 9, True), ("x", 3, True)]
    frame = pd.DataFrame(rows, columns=["letter", "token_length", "correct"]).assign(control="none")
    longer, shorter = get("characters.token_length").statistic(frame)
    assert longer.to_dict() == {"a": 1.0, "e": 0.5} and shorter.to_dict() == {"a": 0.0, "e": 1.0}
