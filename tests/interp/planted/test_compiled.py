"""The compiled programs give their answers on every text, by the heads and MLPs that they are said to need, alone."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import interp
from interp.errors import InputError, UnknownName
from interp.planted import tracr
from interp.planted.compiled import PROGRAMS

# Every text of five words; the words' ids are 1 to 4. Those of "reverse" have its word "end" after three or more.
IDS = torch.tensor([[0, *words] for words in product(range(1, 5), repeat=5)])
ENDED = torch.tensor([[0, *words[:at], 5, *words[at:]] for words in product(range(1, 5), repeat=5) for at in (3, 4, 5)])


@pytest.fixture(scope="module", params=PROGRAMS)
def planted(request):
    return tracr(request.param)


@pytest.fixture(scope="module")
def ids(planted):
    return ENDED if planted.truth.program == "reverse" else IDS


def ablated(model, ids, hook):
    with torch.no_grad():
        return model.run_with_hooks(ids, fwd_hooks=[(hook, lambda value, hook: torch.zeros_like(value))])


def test_the_answer_has_its_logit_and_all_others_have_none(planted, ids):
    """Attention that is compiled is hard but for a share e^-50 or so, which float32 does not see."""
    with torch.no_grad():
        logits = planted.model(ids)
    answer = planted.truth.answer(ids)
    known = answer >= 0
    assert known.float().mean() >= 0.25
    expected = planted.truth.a * torch.nn.functional.one_hot(answer[known], len(planted.truth.words)).float()
    torch.testing.assert_close(logits[known], expected, atol=1e-4, rtol=0)


def test_answers_by_hand():
    for program, text, answers in (
        ("hist", "BOS a b a a d", "1 1 2 3 1"),
        ("previous", "BOS a b c", "- a b"),
        ("induction", "BOS a b c a", "- - - b"),
        ("induction", "BOS a b a c a", "- - b - -"),  # followed by b, and by c: no one answer
        ("induction", "BOS d d d", "- d d"),
        ("reverse", "BOS a b c end C B A", "- - - C B A -"),
        ("reverse", "BOS a b end c d", "- - B A -"),
        ("reverse", "BOS a b end end", "- - B -"),  # which end is not said
        ("reverse", "BOS a B end a", "- - - A"),  # B is not read, so it has no capital
    ):
        planted = tracr(program)
        (found,) = planted.truth.answer(torch.tensor([planted.tokenizer(text)["input_ids"]])).tolist()
        assert " ".join("-" if one < 0 else planted.truth.words[one] for one in found[1:]) == answers, (program, text)


def test_reverse_goes_on_with_the_text_backwards_in_words_that_it_never_reads():
    """Answers that it wrote have no embedding: the model counts places, and reads the words before the end."""
    planted = tracr("reverse")
    subject = interp.load(planted.model)
    assert subject.generate("BOS d a b end", max_new_tokens=3) == "BOS d a b end B A D"
    written = [planted.truth.words.index(word) for word in "ABCD"]
    assert subject.W_E[written].abs().max() == 0
    read = [at for at in range(len(planted.truth.words)) if at not in written]
    assert subject.W_U[read].abs().max() == 0


def test_what_a_program_needs_is_known(planted, ids):
    """Without a part that it needs, most answers are wrong; without any other, no logit changes at all."""
    answer = planted.truth.answer(ids)
    known = answer >= 0
    with torch.no_grad():
        whole = planted.model(ids)
    for layer in range(planted.model.cfg.n_layers):
        for needed, part in ((planted.truth.attention, "attn"), (planted.truth.mlp, "mlp")):
            left = ablated(planted.model, ids, f"blocks.{layer}.{part}.hook_out")
            if layer in needed:
                assert (left.argmax(-1) == answer)[known].float().mean() < 0.6, (layer, part)
            else:
                assert torch.equal(left, whole), (layer, part)


def test_bad_input():
    with pytest.raises(UnknownName, match="unknown program 'sort'"):
        tracr("sort")
    with pytest.raises(InputError, match="a=0"):
        tracr("hist", a=0.0)
    with pytest.raises(InputError, match="'a b' must begin with BOS"):
        tracr("hist").truth.answer(torch.tensor([[1, 2]]))
