"""The trained parts: each against an independent one, and the laws they must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

from interp.stats import auc
from probes.characters import _linear_probes
from probes.characters._batched_mlp import Examples, MLPFit, Training, _first_weights, fit_mlps
from probes.characters._fits import macro_f1
from probes.characters._linear_probes import fit_logistic, fit_ridge

pytestmark = pytest.mark.trained

D = 12


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- measures --------------------------------------------------------------------------------------------------------


@given(pairs=st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_measures_are_sklearns(pairs):
    answer = np.array([yes for yes, _ in pairs])
    score = np.array([float(value) for _, value in pairs])
    said = score > 0
    expected = f1_score(answer, said, labels=[False, True], average="macro", zero_division=0)
    assert macro_f1(answer, said) == pytest.approx(expected)
    if 0 < answer.sum() < len(answer):
        assert auc(score, answer) == pytest.approx(roc_auc_score(answer, score))


@given(n=st.integers(1, 50), said=st.booleans())
def test_a_constant_answer_scores_a_third(n, said):
    answer = np.repeat([True, False], n)
    assert macro_f1(answer, np.full(2 * n, said)) == pytest.approx(1 / 3)


# -- the network -----------------------------------------------------------------------------------------------------


def fit_of(n_train: int, n_test: int, draw: int) -> MLPFit:
    generator = np.random.default_rng(draw)
    train, test = (
        Examples(generator.integers(0, 50, n), generator.uniform(0.5, 2, n).astype(np.float32))
        for n in (n_train, n_test)
    )
    return MLPFit(train, generator.random(n_train) < 0.5, test, draw)


def one_network(table: torch.Tensor, fit: MLPFit, training: Training, dropped: list[torch.Tensor]) -> np.ndarray:
    """The paper's procedure for one letter with PyTorch's own layers and nothing of ours but the first weights."""
    network = nn.Sequential(nn.Linear(D, D), nn.SELU(), nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 1))
    first = [weight.detach()[0] for weight in _first_weights([fit.draw], D, table.device)]
    for parameter, weight in zip(network.parameters(), first, strict=True):
        parameter.data = weight.T.reshape(parameter.shape).clone()
    optimizer = torch.optim.Adam(network.parameters(), lr=training.lr)
    x = table[fit.train.rows] * torch.from_numpy(fit.train.scale)[:, None]
    y = torch.from_numpy(fit.labels).float()
    step = 0
    for _ in range(training.epochs):
        for part in torch.arange(len(y)).split(training.batch):
            hidden = network[:4](x[part]) * dropped[step][: len(part)]
            loss = nn.functional.binary_cross_entropy_with_logits(network[4](hidden)[:, 0], y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    with torch.no_grad():
        return network(table[fit.test.rows] * torch.from_numpy(fit.test.scale)[:, None])[:, 0].numpy()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_together_is_one_at_a_time(dropout, memory):
    """Full, part and single batches, of 1 to 61 examples, alone (memory for one) and all together."""
    table = numbers(50, D)
    training = Training(epochs=3, lr=1e-2, batch=8, dropout=dropout)
    fits = [fit_of(n, 3 + place, place) for place, n in enumerate((16, 61, 1, 8, 61, 13))]
    masks = torch.Generator().manual_seed(5)
    dropped = [
        (torch.rand(8, D, generator=masks) >= dropout).float() / (1 - dropout) for _ in range(3 * 8)
    ]  # of the longest: 8 batches an epoch
    done: list[int] = []
    found = fit_mlps(table, fits, training, memory=memory, seed=5, advance=done.append)
    assert sum(done) == 3 * (2 + 8 + 1 + 1 + 8 + 2)
    for fit, logits in zip(fits, found, strict=True):
        # Float32, 24 steps of Adam whose division by small second moments magnifies roundings of 1e-7.
        np.testing.assert_allclose(logits, one_network(table, fit, training, dropped), atol=2e-4)


def test_first_weights_are_those_of_a_linear_layer():
    weights = [weight.detach() for weight in _first_weights([3, 4], 100, torch.device("cpu"))]
    bound = 100**-0.5
    assert [tuple(weight.shape) for weight in weights] == [
        (2, 100, 100), (2, 1, 100), (2, 100, 100), (2, 1, 100), (2, 100, 1), (2, 1, 1)
    ]  # fmt: skip
    assert not torch.equal(weights[0][0], weights[0][1])
    for weight in weights:
        assert weight.abs().max() <= bound
    # 20,000 draws of a uniform variable: mean within four standard errors, spread likewise
    assert abs(float(weights[0].mean())) < 4 * bound / 3**0.5 / 20_000**0.5
    assert float(weights[0].std()) == pytest.approx(bound / 3**0.5, rel=0.02)


# -- linear probes ---------------------------------------------------------------------------------------------------


def a_problem(n: int = 300, d: int = D, k: int = 3):
    x = numbers(n, d).double() * torch.linspace(0.3, 2, d)
    answer = (x[:, :k] + 0.5 * numbers(n, k, seed=1) > 0.3).T.numpy()
    folds = np.array_split(np.arange(240), 5)
    return x, folds, answer, np.arange(240, n)


def ridge(x, folds, answer, test, eligible=None):
    eligible = np.ones_like(answer) if eligible is None else eligible
    return fit_ridge(lambda places: x[places], folds, answer[None], eligible, test)[0]


def test_ridge_points_where_sklearns_does(monkeypatch):
    """Least squares on 0 and 1 with the same penalty gives parallel directions, so scores that are linear images."""
    monkeypatch.setattr(_linear_probes, "PENALTIES", (0.1,))
    x, folds, answer, test = a_problem()
    pool = x[:240].numpy()
    scores = ridge(x, folds, answer, test)
    unit = np.trace(np.cov(pool.T, bias=True)) / D
    for letter, own in enumerate(scores):
        model = Ridge(alpha=240 * 0.1 * unit).fit(pool, answer[letter, :240])
        theirs = model.predict(x[test].numpy())
        slope, offset = np.polyfit(theirs, own, 1)
        assert slope > 0
        np.testing.assert_allclose(own, slope * theirs + offset, atol=1e-9 * np.abs(own).max())
        means = [model.predict(pool[answer[letter, :240] == yes]).mean() for yes in (False, True)]
        assert slope * np.mean(means) + offset == pytest.approx(0, abs=1e-9)


def test_ridge_takes_the_penalty_that_folds_choose():
    """Each penalty by a plain loop: the words left out are scored by sklearn's ridge and the half-way threshold."""
    x, folds, answer, test = a_problem(k=1)
    x = torch.cat([x, 3 * numbers(300, 150, seed=2).double()], dim=1)  # noise enough that the penalty matters
    accuracies = []
    for penalty in _linear_probes.PENALTIES:
        right = 0.0
        for fold in folds:
            rest = np.setdiff1d(np.arange(240), fold)
            own, yes = x[rest].numpy(), answer[0, rest]
            alpha = penalty * np.trace(np.cov(own.T, bias=True)) / own.shape[1]
            model = Ridge(alpha=len(rest) * alpha).fit(own, yes)
            middle = (model.predict(own[yes]).mean() + model.predict(own[~yes]).mean()) / 2
            said, truth = model.predict(x[fold].numpy()) > middle, answer[0, fold]
            right += (said[truth].mean() + (~said[~truth]).mean()) / 2
        accuracies.append(right)
    best = _linear_probes.PENALTIES[int(np.argmax(accuracies))]
    assert sorted(accuracies)[-1] > sorted(accuracies)[-2]  # one is best, and not by an accident of order
    chosen = ridge(x, folds, answer, test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_linear_probes, "PENALTIES", (best,))
        np.testing.assert_allclose(chosen, ridge(x, folds, answer, test))
        patch.setattr(_linear_probes, "PENALTIES", (best * 1e3,))
        assert not np.allclose(chosen, ridge(x, folds, answer, test))


def test_words_that_are_not_asked_lend_only_their_covariance():
    x, folds, answer, test = a_problem()
    eligible = np.ones_like(answer)
    eligible[:, ::3] = False
    flipped = answer ^ ~eligible
    np.testing.assert_array_equal(ridge(x, folds, answer, test, eligible), ridge(x, folds, flipped, test, eligible))
    assert not np.allclose(ridge(x, folds, answer, test), ridge(x, folds, answer, test, eligible))


def test_labellings_together_are_labellings_apart():
    x, folds, answer, test = a_problem()
    other = np.random.default_rng(0).permutation(answer, axis=1)
    every = np.ones_like(answer)
    both = fit_ridge(lambda places: x[places], folds, np.stack([answer, other]), every, test)
    for together, alone in zip(both, (answer, other), strict=True):
        np.testing.assert_allclose(together, ridge(x, folds, alone, test), atol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 0.01])
def test_a_rotation_and_a_scale_change_no_linear_score(factor):
    x, folds, answer, test = a_problem()
    rotation = torch.linalg.qr(numbers(D, D, seed=3).double())[0] * factor
    turned = x @ rotation
    before, after = ridge(x, folds, answer, test), ridge(turned, folds, answer, test)
    np.testing.assert_allclose(after, before, rtol=1e-8, atol=1e-10)
    logits = [fit_logistic(one[:240], answer[0, :240], one[test]) for one in (x, turned)]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)  # Newton stops at a gradient of 1e-6


def test_logistic_regression_is_at_its_minimum():
    """The gradient of the penalised loss, written down, vanishes at what was fitted."""
    x, _, answer, _ = a_problem()
    train = x[:240] / x[:240].pow(2).mean().sqrt()
    probes = torch.cat([torch.zeros(1, D), torch.eye(D)]).double() * x[:240].pow(2).mean().sqrt()
    out = fit_logistic(x[:240], answer[0, :240], probes)
    bias, weight = torch.tensor(out[0]), torch.tensor(out[1:] - out[0])
    error = torch.sigmoid(train @ weight + bias) - torch.from_numpy(answer[0, :240]).double()
    assert float((train.T @ error + weight).abs().max()) < 1e-3  # of sums over 240 examples
    assert abs(float(error.sum())) < 1e-3
