"""The scorecard's numbers are those of the published packages, which `published.py` asked."""

import json

import numpy as np
import pytest

import interp
from interp.tokenization import renyi_efficiency

from .published import CUT, ORDERS, OTHERS, PUBLISHED, TEXTS, WORDS

KNOWN = json.loads(PUBLISHED.read_text("utf-8"))
SAME = 1e-12  # sums of float64 in another order


@pytest.fixture(scope="module")
def frame():
    return interp.tokenizer_scorecard(interp.load("reference"), TEXTS, parallel={"en": TEXTS, "de": OTHERS})


def value(frame, metric):
    return frame.set_index("metric")["value"][metric]


def test_the_entropy_is_that_of_the_fields_package():
    for text, want in zip(CUT, KNOWN["renyi of cut texts"], strict=True):
        counts = np.unique(text.split(), return_counts=True)[1]
        assert [renyi_efficiency(counts, order) for order in ORDERS] == pytest.approx(want, abs=SAME)


@pytest.mark.parametrize("package", ["renyi", "renyi by the other"])
def test_the_entropies_of_a_text_are_those_of_both_packages(frame, package):
    found = [value(frame, f"renyi_{order:g}") for order in ORDERS]
    assert found == pytest.approx(KNOWN[package], abs=SAME)


def test_ratios_are_those_of_the_other_package(frame):
    assert value(frame, "eta_vocab") == pytest.approx(KNOWN["eta"], abs=SAME)
    assert 1 / value(frame, "tokens_per_byte") == pytest.approx(KNOWN["bytes per token"], abs=SAME)
    assert value(frame, "premium") == pytest.approx(KNOWN["parity"], abs=SAME)


@pytest.mark.parametrize("lead", ["", " "])
def test_lists_of_words_give_its_word_numbers(lead):
    """Its words stand alone; ours stand in texts, so that a text of one word is the same."""
    frame = interp.tokenizer_scorecard(interp.load("reference"), [lead + word for word in WORDS])
    assert value(frame, "tokens_per_word") == pytest.approx(KNOWN["fertility"][lead], abs=SAME)
    assert value(frame, "whole_words") == pytest.approx(KNOWN["single words"][lead], abs=SAME)
