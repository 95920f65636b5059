"""`two_step`: what deleting and swapping the planted blocks does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.planted import two_step


@given(vocab=st.integers(3, 15), a=st.floats(1.5, 20), noise_blocks=st.integers(0, 3))
@settings(deadline=None, max_examples=15)
def test_each_order_counts_on_by_its_own_distance(vocab, a, noise_blocks, run_schedule):
    planted = two_step(vocab, a, noise_blocks=noise_blocks, dtype=torch.float64)
    first, second = planted.truth.layout.planted
    noise = list(planted.truth.layout.noise)
    ids = torch.arange(vocab)[None]
    orders = {(first, second): 2, (second, first): 1, (second,): 1, (first,): 0, (): 0}
    for order, distance in orders.items():
        schedule = [*noise[:1], *order, *noise[1:]]
        logits = run_schedule(planted.model, ids, schedule)
        assert torch.equal(logits.argmax(dim=-1), (ids + distance) % vocab), order
        assert torch.equal(planted.truth.answer(ids, schedule), (ids + distance) % vocab)


def test_flag_is_written_but_not_read_out():
    planted = two_step(vocab=4, dtype=torch.float64)
    _, cache = planted.model.run_with_cache(torch.tensor([[0, 3]]))
    flag = cache["blocks.0.hook_out"][0, :, 4:8]
    assert flag.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    ids = torch.tensor([[0, 3]])
    assert torch.equal(planted.truth.lens(ids)[0], planted.truth.lens(ids)[1])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"vocab": 2}, "vocab is 2"), ({"a": 1.0}, "a is 1.0"), ({"a": float("inf")}, "a is inf")],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(InputError, match=message):
        two_step(**kwargs)
