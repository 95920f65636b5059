"""`bigram`: the output distribution is the transition matrix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.planted import bigram
from interp.planted.bigrams import random_transition

pytestmark = pytest.mark.trained


@given(vocab=st.integers(2, 20), seed=st.integers(0, 2**31), noise_blocks=st.integers(0, 2))
@settings(deadline=None, max_examples=15)
def test_next_token_distribution_is_the_matrix(vocab, seed, noise_blocks):
    matrix = random_transition(vocab, seed)
    planted = bigram(matrix, seed=seed, noise_blocks=noise_blocks, dtype=torch.float64)
    ids = torch.arange(vocab).flip(0)[None]
    logits = planted.model(ids)[0].detach()
    torch.testing.assert_close(logits.softmax(dim=-1), matrix.flip(0), atol=1e-13, rtol=0)
    torch.testing.assert_close(logits, matrix.log().flip(0), atol=1e-13, rtol=0)  # normalised already


def test_tiny_probabilities_survive_float32():
    planted = bigram([[1 - 1e-30, 1e-30], [0.5, 0.5]])
    log_q = planted.model(torch.tensor([[0]]))[0, 0].log_softmax(dim=-1)
    assert log_q[1].item() == pytest.approx(math.log(1e-30), abs=1e-4)  # 69 nats at float32's 6e-8 relative


def test_entropy_is_the_floor_of_the_loss():
    planted = bigram([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [0.98, 0.01, 0.01]])
    expected = [1.5 * math.log(2), math.log(3), -0.98 * math.log(0.98) - 0.02 * math.log(0.01)]
    assert planted.truth.entropy().tolist() == pytest.approx(expected, abs=1e-12)
    log_q = planted.model(torch.tensor([[0, 1, 2]]))[0].log_softmax(dim=-1).double()
    loss = -(planted.truth.transition * log_q).sum(dim=-1)
    torch.testing.assert_close(loss, planted.truth.entropy(), atol=1e-6, rtol=0)


def test_rows_rounded_in_float32_are_normalised():
    truth = bigram(random_transition(12, seed=1).float()).truth
    torch.testing.assert_close(truth.transition.sum(dim=1), torch.ones(12).double(), atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    ("transition", "message"),
    [
        ([[0.5, 0.5], [0.6, 0.5]], "row 1 of transition sums to 1.1"),
        ([[1.0, 0.0], [0.5, 0.5]], "has an entry 0.0"),
        ([[1.5, -0.5], [0.5, 0.5]], "has an entry -0.5"),
        ([[float("nan"), 0.5], [0.5, 0.5]], "has an entry nan"),
        ([[0.5, 0.5]], r"has shape \[1, 2\]"),
        ([0.5, 0.5], r"has shape \[2\]"),
        ([[1.0]], r"has shape \[1, 1\]"),
    ],
)
def test_bad_matrices(transition, message):
    with pytest.raises(InputError, match=message):
        bigram(transition)


def test_bad_vocab():
    with pytest.raises(InputError, match="vocab is 1"):
        bigram(vocab=1)
