"""The compiled programs give their answers on every text, by the heads and MLPs that they are said to need, alone."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from interp.errors import InputError, UnknownName
from interp.planted import tracr
from interp.planted.compiled import PROGRAMS

# Every text of five words; the words' ids are 1 to 4.
IDS = torch.tensor([[0, *words] for words in product(range(1, 5), repeat=5)])


@pytest.fixture(scope="module", params=PROGRAMS)
def planted(request):
    return tracr(request.param)


def ablated(model, ids, hook):
    with torch.no_grad():
        return model.run_with_hooks(ids, fwd_hooks=[(hook, lambda value, hook: torch.zeros_like(value))])


def test_the_answer_has_its_logit_and_all_others_have_none(planted):
    """Attention that is compiled is hard but for a share e^-50 or so, which float32 does not see."""
    with torch.no_grad():
        logits = planted.model(IDS)
    answer = planted.truth.answer(IDS)
    known = answer >= 0
    assert known.float().mean() > 0.25
    expected = planted.truth.a * torch.nn.functional.one_hot(answer[known], len(planted.truth.words)).float()
    torch.testing.assert_close(logits[known], expected, atol=1e-4, rtol=0)


def test_answers_by_hand():
    for program, text, answers in (
        ("hist", "BOS a b a a d", "1 1 2 3 1"),
        ("previous", "BOS a b c", "- a b"),
        ("induction", "BOS a b c a", "- - - b"),
        ("induction", "BOS a b a c a", "- - b - -"),  # followed by b, and by c: no one answer
        ("induction", "BOS d d d", "- d d"),
    ):
        planted = tracr(program)
        (found,) = planted.truth.answer(torch.tensor([planted.tokenizer(text)["input_ids"]])).tolist()
        assert " ".join("-" if one < 0 else planted.truth.words[one] for one in found[1:]) == answers, (program, text)


def test_what_a_program_needs_is_known(planted):
    """Without a part that it needs, most answers are wrong; without any other, no logit changes at all."""
    answer = planted.truth.answer(IDS)
    known = answer >= 0
    with torch.no_grad():
        whole = planted.model(IDS)
    for layer in range(planted.model.cfg.n_layers):
        for needed, part in ((planted.truth.attention, "attn"), (planted.truth.mlp, "mlp")):
            left = ablated(planted.model, IDS, f"blocks.{layer}.{part}.hook_out")
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
