"""On compiled programs the needed tokens are those without which the answer changes, and methods are scored on them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.planted import tracr
from interp.probes import attribute
from probes.attribution.known_answers.compiled_scores import PROGRAMS, compiled_scores, prompt, rates

SURE = ("normxlogit", "norm", "logit", "integrated_gradients", "occlusion", "rollout")
DECIDED = (
    "normxlogit",
    "norm",
    "logit",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_norm",
    "occlusion",
    "rollout",
)
PAGE = (Path(__file__).parents[4] / "docs" / "pages" / "attribution.md").read_text("utf-8")


@pytest.fixture(scope="module")
def table():
    return rates(compiled_scores(DECIDED))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_needed_tokens_are_those_that_change_the_answer(program):
    """Each other token may be any word; each needed one changes the answer for some word in its place."""
    planted, draw = tracr(program), np.random.default_rng(1)
    for _ in range(5):
        text, needed = prompt(program, draw)
        ids = torch.tensor(planted.tokenizer(text)["input_ids"])
        for place in range(1, len(ids)):
            others = ids.repeat(5, 1)
            others[1:, place] = torch.arange(1, 5)
            answers = set(planted.truth.answer(others)[:, -1].tolist())
            if place in needed:
                assert len(answers) > 1, (text, place)
            elif program in ("previous", "reverse"):
                assert len(answers) == 1, (text, place)


def test_where_heads_read_single_tokens_two_methods_find_all_of_them(table):
    assert (table.loc[["integrated_gradients", "occlusion"], ["previous", "induction"]] == 1).all(axis=None)


def test_occlusion_leaves_what_induction_does_not_read_at_zero():
    """The mean of all words in its place is neither the current word nor copied: the heads read on as they did."""
    frame = attribute(tracr("induction").model, ["BOS d b a c a"], methods="occlusion")
    size = frame.set_index("pos")["score"].abs()
    assert size[[3, 4, 5]].min() > 1
    assert size[[1, 2]].max() < 1e-5  # a share e^-50 of attention, and float32


def test_the_last_state_alone_does_not_tell_a_word_before_it(table):
    """NormXLogit reads what each token says by itself, and "previous" needs one that says nothing of the answer."""
    assert table.loc["normxlogit", "previous"] < table.loc["a random order", "previous"]


def test_the_table_of_the_guide_is_the_one_measured(table):
    """To the two digits shown; methods that draw, and gradients at hard attention (all rounding), are left out."""
    shown = PAGE[PAGE.index("compiled_scores") :]
    for method in SURE:
        row = re.search(rf"^\| {method} \| ((?:\d\.\d\d \| ?)+)$", shown, flags=re.MULTILINE)
        assert row, method
        assert [float(one) for one in re.findall(r"\d\.\d\d", row[1])] == pytest.approx(table.loc[method], abs=0.0051)


def test_bad_input():
    with pytest.raises(InputError, match="n_prompts=0: give at least 1"):
        compiled_scores("norm", n_prompts=0)
