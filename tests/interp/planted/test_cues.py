"""`cue`: one token decides."""

from __future__ import annotations

import math

import pytest
import torch

from interp.errors import InputError
from interp.planted import cue


def test_the_answer_is_said_from_the_cue_on():
    planted = cue()
    ids = torch.tensor([[5, 3, 0, 7, 1, 9]])
    assert planted.model(ids).argmax(dim=-1).tolist() == [[5, 3, 1, 1, 1, 1]]


def test_attention_is_on_the_cue_wherever_it_stands():
    planted = cue(b=2.0, dtype=torch.float64)
    ids = torch.tensor([[5, 0, 7, 0]])
    _, cache = planted.model.run_with_cache(ids)
    pattern = cache["blocks.0.attn.hook_pattern"][0, 0, -1]
    weight = math.exp(2.0)
    expected = torch.tensor([1, weight, 1, weight], dtype=torch.float64) / (2 + 2 * weight)
    torch.testing.assert_close(pattern, expected, atol=1e-13, rtol=0)
    assert planted.truth.attention(ids)[0, -1].item() == pytest.approx(2 * weight / (2 + 2 * weight), abs=1e-13)


def test_other_tokens_do_not_matter():
    """Any token for any other, cue and last position left alone: the same logits."""
    planted = cue(dtype=torch.float64)
    left, right = torch.tensor([[5, 3, 0, 7, 4]]), torch.tensor([[9, 1, 0, 1, 4]])
    torch.testing.assert_close(planted.model(left)[0, -1], planted.model(right)[0, -1], atol=1e-13, rtol=0)


@pytest.mark.parametrize(("arguments", "message"), [({"vocab": 2}, "vocab is 2"), ({"a": math.nan}, "a is nan")])
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        cue(**arguments)
