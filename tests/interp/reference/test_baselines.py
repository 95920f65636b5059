from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.reference.baselines import fit_baselines, ney_discount

pytestmark = pytest.mark.trained

BOS = 0


def chain(transitions: np.ndarray, n: int, seed: int) -> np.ndarray:
    """`n` tokens of a Markov chain that starts after BOS."""
    rng, state, ids = np.random.default_rng(seed), BOS, []
    for draw in rng.random(n):
        state = min(int(np.searchsorted(np.cumsum(transitions[state]), draw)), len(transitions) - 1)
        ids.append(state)
    return np.array(ids, dtype=np.int32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=80))
def test_every_distribution_sums_to_one_and_is_positive(tokens: list[int]) -> None:
    baselines = fit_baselines(np.array(tokens, dtype=np.int32), BOS, vocab_size=9)
    rows = np.stack([baselines.after(previous) for previous in range(9)])
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(baselines.unigram.sum(), 1, atol=1e-12)
    assert (rows > 0).all()
    assert (baselines.unigram > 0).all()


def test_a_small_case_by_hand() -> None:
    # Pairs: 0→1 once, 1→2 twice, 2→1 once; n1 = 2, n2 = 1, discount = 2 / (2 + 2) = 0.5. Token 3 is never seen.
    baselines = fit_baselines(np.array([1, 2, 1, 2], dtype=np.int32), BOS, vocab_size=4)
    unigram = np.array([1, 3, 3, 1]) / 8
    np.testing.assert_allclose(baselines.unigram, unigram)
    np.testing.assert_allclose(baselines.after(1), [0, 0, 1.5 / 2, 0] + 0.5 / 2 * unigram)
    np.testing.assert_allclose(baselines.after(2), [0, 0.5, 0, 0] + 0.5 * unigram)
    np.testing.assert_allclose(baselines.after(3), unigram)


def test_losses_read_the_distributions() -> None:
    rng = np.random.default_rng(0)
    baselines = fit_baselines(rng.integers(0, 12, 300).astype(np.int32), BOS, vocab_size=12)
    ids = rng.integers(0, 12, 50).astype(np.int32)
    before = [BOS, *ids[:-1]]
    by_row = [-np.log(baselines.after(int(a))[b]) for a, b in zip(before, ids, strict=True)]
    np.testing.assert_allclose(baselines.bigram_losses(ids, BOS), by_row, atol=1e-12)
    np.testing.assert_allclose(baselines.unigram_losses(ids), -np.log(baselines.unigram[ids]))


def test_on_a_markov_chain_the_bigram_model_comes_close_to_the_entropy_and_not_below() -> None:
    transitions = np.random.default_rng(1).dirichlet(np.full(8, 0.4), size=8)
    baselines = fit_baselines(chain(transitions, 20_000, seed=2), BOS, vocab_size=8)
    ids = chain(transitions, 20_000, seed=3)
    truth = -np.log(transitions[[BOS, *ids[:-1]], ids]).mean()
    bigram, unigram = baselines.bigram_losses(ids, BOS).mean(), baselines.unigram_losses(ids).mean()
    assert truth - 0.001 < bigram < truth + 0.02
    assert bigram + 0.3 < unigram < np.log(8)


def test_on_independent_tokens_the_bigram_model_has_nothing_to_gain() -> None:
    rng = np.random.default_rng(4)
    baselines = fit_baselines(rng.integers(0, 50, 5_000).astype(np.int32), BOS, vocab_size=50)
    ids = rng.integers(0, 50, 5_000).astype(np.int32)
    bigram, unigram = baselines.bigram_losses(ids, BOS).mean(), baselines.unigram_losses(ids).mean()
    assert unigram == pytest.approx(np.log(50), abs=0.02)
    assert unigram < bigram


def test_the_discount_leaves_backoff_when_no_pair_is_seen_once() -> None:
    assert ney_discount(np.array([2, 2, 7])) == 0.5
    assert ney_discount(np.array([1, 1, 1, 2])) == pytest.approx(3 / 5)
