"""`bias_ladder`: its formulas against the distributions they summarise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.planted import LadderTruth, bias_ladder
from interp.planted._truth import interleave

CLOSE = {"atol": 1e-12, "rtol": 0}  # float64, logits below 30


def test_published_numbers():
    """Cross-entropy and rank at layers 0..4 for an input token other than the target, a = 6, V = 12."""
    truth = bias_ladder().truth
    ids = torch.tensor([[0]])
    expected = torch.tensor([2.61873, 1.34491, 0.49054, 0.13216, 0.03104]).double()
    torch.testing.assert_close(-truth.log_prob(ids)[:, 0, 0], expected, atol=5e-6, rtol=0)
    assert truth.rank(ids)[:, 0, 0].tolist() == [1, 0, 0, 0, 0]
    assert truth.rank(torch.tensor([[3]]))[:, 0, 0].tolist() == [0, 0, 0, 0, 0]


@st.composite
def ladders(draw) -> LadderTruth:
    vocab = draw(st.integers(2, 30))
    layout = interleave(draw(st.integers(1, 6)), draw(st.integers(0, 4)))
    a = draw(st.floats(-25, 25))
    return LadderTruth(layout, vocab, a, draw(st.integers(0, vocab - 1)))


@given(truth=ladders())
@settings(deadline=None, max_examples=60)
def test_formulas_summarise_the_distribution(truth):
    ids = torch.arange(truth.vocab)[None]  # the target among them
    logits = truth.lens(ids)
    log_q = logits.log_softmax(dim=-1)
    torch.testing.assert_close(truth.log_prob(ids), log_q[..., truth.target], **CLOSE)
    torch.testing.assert_close(truth.entropy(ids), -(log_q.exp() * log_q).sum(dim=-1), **CLOSE)
    torch.testing.assert_close(truth.kl_to_final(ids), (log_q[-1].exp() * (log_q[-1] - log_q)).sum(dim=-1), **CLOSE)
    assert torch.equal(truth.rank(ids), (logits > logits[..., [truth.target]]).sum(dim=-1))


@given(a=st.sampled_from([-3.0, 0.7, 2.0, 6.0]), n_layers=st.integers(1, 4), vocab=st.integers(2, 15), data=st.data())
@settings(deadline=None, max_examples=15)
def test_formulas_are_the_models(a, n_layers, vocab, data, lens):
    """The statistics of the model's own distributions, at sizes and targets drawn at random."""
    target = data.draw(st.integers(0, vocab - 1))
    noise_blocks = data.draw(st.integers(0, 2))
    ladder = bias_ladder(n_layers, vocab, a, target, noise_blocks=noise_blocks, dtype=torch.float64)
    ids = torch.arange(vocab)[None]
    logits = lens(ladder.model, ids)
    log_q = logits.log_softmax(dim=-1)
    torch.testing.assert_close(ladder.truth.log_prob(ids), log_q[..., target], **CLOSE)
    torch.testing.assert_close(ladder.truth.entropy(ids), -(log_q.exp() * log_q).sum(dim=-1), **CLOSE)
    # Half a thousandth: the model may round a tie at a lift of exactly 1 or 0 either way, the truth says so too.
    tied = (logits - logits[..., [target]]).abs() < 5e-4
    above = ((logits > logits[..., [target]]) & ~tied).sum(dim=-1)
    assert bool(((ladder.truth.rank(ids) >= above) & (ladder.truth.rank(ids) <= above + tied.sum(dim=-1) - 1)).all())


def test_deleting_a_planted_block_takes_its_rung_away():
    truth = bias_ladder(noise_blocks=1).truth
    ids = torch.tensor([[0, 3]])
    for block in truth.layout.planted:
        schedule = [i for i in range(5) if i != block]
        drop = truth.logits(ids) - truth.logits(ids, schedule)
        expected = torch.zeros(12, dtype=torch.float64)
        expected[3] = 1.5
        torch.testing.assert_close(drop, expected.expand(1, 2, 12), **CLOSE)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_layers": 0}, "n_layers is 0"),
        ({"target": 12}, "target is 12; give a token id from 0 to 11"),
        ({"target": -1}, "target is -1"),
        ({"vocab": 1, "target": 0}, "vocab is 1"),
        ({"a": float("inf")}, "a is inf"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(InputError, match=message):
        bias_ladder(**kwargs)
