"""`copying`: the logits are counts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.planted import copying

PLANTED = copying(vocab=9, a=1.0, noise_blocks=1, dtype=torch.float64)


@given(ids=st.lists(st.integers(0, 8), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_logits_count_the_prefix(ids):
    """Counted in plain Python, against the truth and against the model."""
    expected = torch.zeros(len(ids), 9, dtype=torch.float64)
    for n, token in enumerate(ids):
        for other, count in Counter(ids[: n + 1]).items():
            expected[n, other] = count / (n + 1)
        expected[n, token] += 1
    tokens = torch.tensor([ids])
    close = {"atol": 1e-13, "rtol": 0}  # float64, sums of at most 40 terms that add up to 1
    torch.testing.assert_close(PLANTED.truth.logits(tokens)[0], expected, **close)
    torch.testing.assert_close(PLANTED.model(tokens)[0].detach(), expected, **close)


def test_attention_is_uniform():
    _, cache = copying().model.run_with_cache(torch.tensor([[4, 1, 4, 2]]))
    pattern = cache["blocks.0.attn.hook_pattern"][0, 0]
    expected = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    torch.testing.assert_close(pattern, expected)


def test_scale():
    ids = torch.tensor([[0, 2, 2, 1]])
    planted = copying(vocab=3, a=-2.5)
    assert planted.truth.shares(ids)[0, -1].tolist() == [0.25, 0.25, 0.5]
    assert planted.truth.logits(ids)[0, -1].tolist() == [-0.625, 0.375, -1.25]
    torch.testing.assert_close(planted.model(ids).double(), planted.truth.logits(ids), atol=1e-6, rtol=0)


def test_zero_value_at_one_position_removes_its_share():
    """Deleting what position j wrote lowers the logit of its token by 1 / (n + 1), and nothing else."""
    ids = torch.tensor([[0, 5, 7]])

    def forget(value, hook):
        value = value.clone()
        value[:, 1] = 0
        return value

    edited = PLANTED.model.run_with_hooks(ids, fwd_hooks=[("blocks.0.attn.v.hook_out", forget)])
    drop = PLANTED.truth.logits(ids)[0, -1] - edited[0, -1]
    expected = torch.zeros(9, dtype=torch.float64)
    expected[5] = 1 / 3
    torch.testing.assert_close(drop, expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("kwargs", "message"), [({"vocab": 1}, "vocab is 1"), ({"a": float("nan")}, "a is nan")])
def test_bad_arguments(kwargs, message):
    with pytest.raises(InputError, match=message):
        copying(**kwargs)
