"""The probability of every byte: against brute force, and against next bytes one by one."""

import numpy as np
import pytest

import interp
from interp.planted import bigram
from probes import byte_log_prob, tokenization_bias

from .conftest import bpe

EXACT = 1e-12
TEXTS = ["abcabcab", "cabbacab", "b", "aabbccabcabc"]


@pytest.fixture(scope="module")
def frame(toy):
    return byte_log_prob(toy[0], TEXTS, bos=True)


def test_bytes_multiply_to_the_probability_of_every_beginning(toy, frame):
    _, brute = toy
    for number, text in enumerate(TEXTS):
        found = frame[frame["prompt_id"] == number]["log_prob"].cumsum()
        want = [np.log(brute.text(text[: n + 1])) for n in range(len(text))]
        assert found.to_numpy() == pytest.approx(np.array(want), abs=EXACT * 100)  # twelve logarithms are added


def test_tokens_multiply_to_the_probability_of_the_encoding(toy, frame):
    _, brute = toy
    bits = frame.groupby("prompt_id")["bits_by_tokens"].sum()
    want = [-np.log2(brute.sequence(brute.encoding(text))) for text in TEXTS]
    assert bits.to_numpy() == pytest.approx(np.array(want), abs=1e-9)
    exact = frame.groupby("prompt_id")["bits"].sum()
    assert (exact <= bits + 1e-9).all()  # more ways to write a text cannot be less probable


def test_it_is_the_chain_of_next_bytes(frame, toy):
    one = tokenization_bias(toy[0], TEXTS[:1], cuts=[1, 2, 3, 4, 5, 6, 7], bos=True, healing=False)
    exact = one[one["method"] == "exact"]
    want = exact["log_prob"] + np.log1p(-exact["lost"])
    found = frame[(frame["prompt_id"] == 0) & (frame["cut"] > 0)]["log_prob"]
    assert found.to_numpy() == pytest.approx(want.to_numpy(), abs=1e-9)


def test_a_probability_below_every_float_does_not_vanish():
    planted = bigram([[1e-30, 1.0], [0.5, 0.5]])
    frame = byte_log_prob(interp.load(planted.model, tokenizer=bpe(["a", "b"], [], end=False)), ["a" * 40])
    assert frame["log_prob"].to_numpy() == pytest.approx(np.full(39, np.log(1e-30)), rel=1e-6)  # float32 weights


def test_the_figure_shows_bytes_and_tokens(frame):
    (axes,) = frame.interp.plot().axes
    assert len(axes.patches) == len(TEXTS[0]) and len(axes.get_lines()) == 1
