"""Can a model be made to say a token: by formula, against whole passes, and in the words of the prompt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from interp.planted import bigram
from probes import token_repetition
from probes.vocab._prompts import template
from probes.vocab.token_repetition import said

V = 60


def law() -> torch.Tensor:
    """Tokens 0, 1 and 2 are followed by themselves with a probability of each verdict, the last are never predicted."""
    drawn = torch.rand(V, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    drawn[:, -3:] = 0
    for token, p in enumerate((0.005, 0.05, 0.5)):
        drawn[token, token] = 0
        drawn[token] *= (1 - p) / drawn[token].sum()
        drawn[token, token] = p
    drawn *= (1 - 3e-6) / drawn.sum(dim=1, keepdim=True)
    drawn[:, -3:] = 1e-6
    return drawn


def test_the_probability_of_a_repeated_token_is_that_of_the_matrix():
    planted = bigram(law())
    frame = token_repetition(planted.model, token_ids=[0, 1, 2, 57, 58, 59], prompts=["repeat"], n_random=20)
    own = planted.truth.transition.diagonal().numpy()[frame["token_id"]]
    assert frame["prob"].to_numpy() == pytest.approx(own, rel=1e-5)  # float32 logits of up to 14
    assert frame["log_prob"].to_numpy() == pytest.approx(np.log(own), abs=1e-5)
    ranks = [(row > row[token]).sum() for token, row in zip(frame["token_id"], law()[frame["token_id"]], strict=True)]
    assert frame["rank"].tolist()[:3] == ranks[:3]  # the others tie but for rounding
    verdicts = frame.set_index("token_id")["verdict"]
    assert verdicts[[0, 1, 2, 57]].tolist() == ["hardly learned", "doubtful", "learned", "unlearned"]
    assert frame["control"].value_counts().to_dict() == {"none": 6, "random": 20}
    assert not set(frame.loc[frame["control"] == "random", "token_id"]) & {0, 1, 2, 57, 58, 59}
    shares = frame.interp.summary().set_index("control")
    assert shares.loc["none", ["unlearned", "hardly_learned", "doubtful", "learned"]].tolist() == [
        0.5, *([pytest.approx(1 / 6)] * 3),
    ]  # fmt: skip


def test_what_is_said_is_that_of_a_softmax():
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([0, 8, 3, 3, 5])
    log_prob, rank = said(logits, ids)
    want = logits.log_softmax(dim=1)[range(5), ids]
    torch.testing.assert_close(log_prob, want)
    assert rank.tolist() == [int((row > row[token]).sum()) for row, token in zip(logits, ids, strict=True)]


@pytest.mark.parametrize("shots", ["fixed", "self"])
def test_the_prompt_reads_as_a_device_that_repeats_its_input(shots):
    subject = interp.load("reference")
    one, token = template(subject, "echo", shots), 300
    ids = torch.cat([one.prefix, one.filled(torch.tensor([token]))[0]])
    text = subject.tokenizer.decode(ids, skip_special_tokens=True)
    word = subject.token_strings[token]
    assert text.startswith('This device repeats every input exactly.\nInput: "')
    assert text.endswith(f'Input: "{word}" Output: "') and text.count("Input: ") == 9
    assert text.count(f'"{word}" Output: "{word}"') == (8 if shots == "self" else 0)
    assert int((one.tail == -1).sum()) == (17 if shots == "self" else 1)


def test_a_token_is_repeated_after_a_lead():
    """A text of one token alone, over and over, is a first token at all of its positions."""
    subject = interp.load("reference")
    one = template(subject, "repeat", "fixed")
    text = subject.tokenizer.decode(
        torch.cat([one.prefix, one.filled(torch.tensor([300]))[0]]), skip_special_tokens=True
    )
    assert text == "The word is: " + 12 * subject.token_strings[300]


@pytest.mark.parametrize("shots", ["fixed", "self"])
def test_the_probability_is_that_of_a_whole_pass(any_backend, small_model, shots):
    tokenizer = interp.load("reference").tokenizer
    model = small_model("llama", vocab_size=8192, max_position_embeddings=256)
    subject = interp.load(model, backend=any_backend, tokenizer=tokenizer)
    tokens = [300, 1000, 5000]
    frame = token_repetition(subject, token_ids=tokens, shots=shots, n_random=4, seed=3)
    asked = frame[frame["control"] != "frequent"]
    for prompt, rows in asked.groupby("prompt"):
        one = template(subject, prompt, shots)
        ids = torch.tensor(rows["token_id"].tolist())
        whole = torch.cat([one.prefix.expand(len(ids), -1), one.filled(ids)], dim=1)
        with torch.no_grad():
            want = model(whole).logits[:, -1].log_softmax(dim=-1).gather(1, ids[:, None])[:, 0]
        assert rows["log_prob"].to_numpy() == pytest.approx(want.numpy(), abs=1e-5)  # float32, in another order
    best = frame.groupby(["control", "token_id"])["prob"].transform("max")
    assert ((best < 0.001) == (frame["verdict"] == "unlearned")).all()


def test_controls_are_drawn_by_the_seed_and_are_no_candidates(small_model):
    subject = interp.load(small_model("gpt2", vocab_size=8192), tokenizer=interp.load("reference").tokenizer)

    def frame(**options):
        return token_repetition(subject, token_ids=[300, 301], prompts=["repeat"], n_random=8, **options)

    one, again, other = frame(), frame(seed=0), frame(seed=1)
    pd.testing.assert_frame_equal(one, again)
    drawn = [set(each.query("control == 'random'")["token_id"]) for each in (one, other)]
    assert drawn[0] != drawn[1] and not (drawn[0] | drawn[1]) & {300, 301}
    assert len(one.query("control == 'frequent'")) == 2
    axes, listed = one.interp.plot().axes
    assert len(axes.collections) == 3 and len(listed.texts[0].get_text().splitlines()) == 3


def test_a_prompt_that_cannot_be_asked_is_refused(small_subject, small_model):
    words = small_subject("gpt2", "bridge")
    with pytest.raises(InputError, match="cannot be asked by 'echo'"):
        token_repetition(words, token_ids=[5])
    tokenizer = interp.load("reference").tokenizer
    tiny, short = (
        interp.load(small_model("gpt2", vocab_size=8192, n_positions=n), tokenizer=tokenizer) for n in (16, 64)
    )
    with pytest.raises(InputError, match=r"with one shot and .* a context of 16; pass prompts=\['repeat'\]"):
        token_repetition(tiny, token_ids=[5])
    one = template(short, "echo", "fixed")  # fewer shots
    assert len(one.prefix) + len(one.tail) <= 64
    assert 'Output: "' in tokenizer.decode(one.prefix)
    with pytest.raises(InputError, match="token id 61 is outside the vocabulary of 61"):
        token_repetition(words, token_ids=[5, 61])
