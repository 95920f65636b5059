"""Concepts as directions: planted pairs in closed form, null rates, invariances, and definitions computed plainly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from probes import association, concept_angles, concept_directions
from probes.geometry.concepts._association import effect, p_value, scores
from probes.geometry.concepts._pairs import Concept, checked_pairs
from probes.geometry.concepts._parallel import held_out, parallel, parallel_without_each, shuffled
from probes.geometry.concepts._places import InnerProducts, Place
from probes.geometry.concepts.claims import CLAIMS
from probes.geometry.concepts.concept_directions import _measured

N = 28  # pairs: w3 to w30 on the left, w31 to w58 on the right


@pytest.fixture
def with_rows(small_model, word_level) -> Callable[[np.ndarray], interp.Subject]:
    """`with_rows(rows)`: a model whose embedding, tied to its unembedding, is a matrix [61, d], of words w3 to w60."""

    def build(rows: np.ndarray) -> interp.Subject:
        model = small_model("gpt2", n_embd=rows.shape[1], n_head=1, n_layer=1)
        with torch.no_grad():
            model.transformer.wte.weight.copy_(torch.from_numpy(rows))
        return interp.load(model, tokenizer=word_level)

    return build


def table(*concepts: tuple[str, int, int, int]) -> pd.DataFrame:
    """Pairs of concepts, each a name, its first left and first right word, and how many pairs."""
    rows = [(name, f"w{a + at}", f"w{b + at}") for name, a, b, n in concepts for at in range(n)]
    return pd.DataFrame(rows, columns=["concept", "left", "right"])


ONE = table(("planted", 3, 31, N))


def pairs(random: np.random.Generator, d: int, noise: float, items: float, *, related: bool) -> tuple[np.ndarray, ...]:
    """Left and right words, [N, d] each: items and noise, and a step of length 1 from left to right."""
    x, other = random.normal(size=(2, N, d)) * items
    step = np.zeros(d)
    step[0] = 1.0
    left, right = random.normal(size=(2, N, d)) * noise
    return left + x, right + (x if related else other) + step


# -- definitions -----------------------------------------------------------------------------------------------------


def test_statistics_of_pairs_are_their_definitions():
    differences = np.random.default_rng(0).normal(size=(6, 5)) + 0.4
    unit = differences / np.linalg.norm(differences, axis=1, keepdims=True)
    assert parallel(differences) == pytest.approx(np.mean([unit[i] @ unit[j] for i, j in combinations(range(6), 2)]))
    rest = [np.delete(unit, at, axis=0) for at in range(6)]
    np.testing.assert_allclose(parallel_without_each(differences), [parallel(one) for one in rest])
    assert held_out(differences) == np.mean([one.sum(axis=0) @ unit[at] > 0 for at, one in enumerate(rest)])
    assert parallel(np.ones((4, 3))) == pytest.approx(1) and held_out(np.ones((4, 3))) == 1
    assert parallel(np.eye(3)) == pytest.approx(0) and held_out(np.eye(3)) == 0.5  # ties
    drawn = shuffled(5, 200, np.random.default_rng(0))
    assert (np.sort(drawn, axis=1) == np.arange(5)).all() and not (drawn == np.arange(5)).any()


def test_the_permutation_test_counts_partitions_and_scores_are_mean_cosines():
    random = np.random.default_rng(0)
    assert p_value(np.array([3.0, 4.0]), np.array([1.0, 2.0]), 1, random) == pytest.approx(1 / 6)
    assert p_value(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 1, random) == 1
    assert effect(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == pytest.approx(2 / np.std([1, 2, 3, 4], ddof=1))
    x, y = random.normal(size=(2, 12)) + np.array([[0.5], [0.0]])  # 2,704,156 partitions: drawn
    exact = np.mean([random.permutation(np.concatenate([x, y]))[:12].mean() for _ in range(20_000)] >= x.mean())
    assert p_value(x, y, 20_000, random) == pytest.approx(exact, abs=4 * np.sqrt(2 * exact / 20_000))
    words, a, b = (random.normal(size=(n, 7)) for n in (4, 5, 6))

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    expected = [np.mean([cosine(w, c) for c in a]) - np.mean([cosine(w, c) for c in b]) for w in words]
    np.testing.assert_allclose(scores(words, a, b), expected)


# -- planted truth ---------------------------------------------------------------------------------------------------


def test_planted_pairs_are_as_parallel_as_the_closed_form_says(with_rows):
    """|u|² / (|u|² + 2 d σ²), and for the same words paired anew |u|² / (|u|² + 2 d (σ² + τ²))."""
    d, noise, items = 256, 0.03, 0.06
    random = np.random.default_rng(0)
    rows = random.normal(size=(61, d)) * 0.01
    left, right = pairs(random, d, noise, items, related=True)
    rows[3 : 3 + N], rows[31 : 31 + N] = left, right
    found = concept_directions(with_rows(rows), pairs=ONE, where=["unembedding"], metric=["raw"]).set_index("control")
    # The noise's squared length varies by √(2 / d) of itself, 9 %, and its mean over 28 pairs by 2 %.
    assert found.loc["none", "parallel"] == pytest.approx(1 / (1 + 2 * d * noise**2), abs=0.02)
    assert found.loc["shuffled", "parallel"] == pytest.approx(1 / (1 + 2 * d * (noise**2 + items**2)), abs=0.02)
    assert found.loc["shuffled", "p"] == pytest.approx(1 / 201) and found.loc["none", "held_out_auroc"] == 1
    assert found.loc["none", "parallel_low"] < found.loc["none", "parallel"] < found.loc["none", "parallel_high"]
    assert (found["n_pairs"] == N).all() and (found["n_dropped"] == 0).all()


def test_pairs_that_are_unrelated_have_no_excess_and_a_fair_p():
    """Fresh items on the right: the classes differ, the pairs do not belong together."""
    random = np.random.default_rng(1)
    p, excess, ids = [], [], np.arange(2 * N)
    concept = Concept("c", ids[:N], ids[N:], 0, ids[:N, None], ids[N:, None])
    for _ in range(150):
        vectors = np.concatenate(pairs(random, 24, 0.1, 0.2, related=False))
        rows = {row["control"]: row for row in _measured(concept, ids, vectors, 39, random, 0)}
        p.append(rows["shuffled"]["p"])
        excess.append(rows["none"]["parallel"] - rows["shuffled"]["parallel"])
        assert rows["shuffled"]["parallel"] > 0.1  # so that a test against zero would always reject
    rate = np.mean(np.array(p) <= 0.2)  # 8 of 40 ranks
    assert abs(rate - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 150)
    assert abs(np.mean(excess)) < 4 * np.std(excess) / np.sqrt(150)


def test_angles_of_planted_concepts_are_known_also_under_the_causal_product(with_rows):
    random = np.random.default_rng(2)
    rows = random.normal(size=(61, 8)) * np.linspace(0.5, 2, 8)
    u, v = np.eye(8)[0], 0.6 * np.eye(8)[0] + 0.8 * np.eye(8)[7]
    rows[15:20], rows[25:30] = rows[10:15] + u, rows[20:25] + v
    subject = with_rows(rows)
    found = concept_angles(subject, pairs=table(("u", 10, 15, 5), ("v", 20, 25, 5)), where=["unembedding"])
    found = found[found["control"] == "none"].set_index("metric")
    weights = subject.W_U.T.double().numpy()
    inverse = np.linalg.inv(np.cov(weights.T))
    expected = u @ inverse @ v / np.sqrt((u @ inverse @ u) * (v @ inverse @ v))
    assert found.loc["raw", "cosine"] == pytest.approx(0.6, abs=1e-5)
    assert found.loc["causal", "cosine"] == pytest.approx(expected, abs=1e-5)
    assert found.loc["causal", "expected"] == pytest.approx(1 / np.sqrt(8))
    assert (found["shared_words"] == 0).all() and len(found) == 2
    shared = concept_angles(
        subject, pairs=table(("u", 10, 15, 5), ("w", 10, 20, 5)), where=["unembedding"], metric=["raw"]
    )
    assert (shared["shared_words"] == 5).all() and shared.interp.summary().empty


def test_an_association_is_found_where_it_is_planted_and_not_where_both_groups_are_alike(with_rows):
    random = np.random.default_rng(3)
    rows = random.normal(size=(61, 16)) * 0.3
    rows[3:8] += np.eye(16)[0]  # X and A share an axis, Y and B another
    rows[20:25] += np.eye(16)[0]
    rows[10:15] += np.eye(16)[1]
    rows[30:35] += np.eye(16)[1]
    names = {start: [f"w{at}" for at in range(start, start + 5)] for start in (3, 10, 20, 30)}
    subject = with_rows(rows)
    attributes = {"a": names[20], "b": names[30]}

    def test(x: list[str], y: list[str], **more: object) -> pd.Series:
        frame = association(
            subject, targets={"x": x, "y": y}, attributes=attributes, where=["unembedding"], layers=None, **more
        )
        assert frame["control"].tolist() == ["none", "positive"]
        return frame.iloc[0]

    for metric in ("raw", "centred", "causal"):
        one, turned = test(names[3], names[10], metric=metric), test(names[10], names[3], metric=metric)
        assert one["effect"] > 1 and one["p"] == pytest.approx(1 / 252)
        assert turned["effect"] == pytest.approx(-one["effect"])
    same = test(names[3], names[3])
    assert same["effect"] == pytest.approx(0, abs=1e-12) and same["p"] > 0.5
    dropped = test([*names[3], "no token"], names[10])
    assert dropped["n_dropped"] == 1 and dropped["n_x"] == 5
    positive = association(subject, where=["unembedding"], layers=None)
    assert positive["effect"].isna().all() and (positive["n_dropped"] == 64).all()  # the model knows none of the words


def test_the_permutation_test_rejects_as_often_as_it_should():
    random = np.random.default_rng(4)
    p = np.array([p_value(*random.normal(size=(2, 5)), 1, random) for _ in range(200)])
    for level in (0.1, 0.5):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 200)


# -- invariances -----------------------------------------------------------------------------------------------------


def test_raw_angles_do_not_change_by_rotation_and_causal_ones_by_no_invertible_map(with_rows):
    random = np.random.default_rng(5)
    rows = random.normal(size=(61, 8))
    rotation = np.linalg.qr(random.normal(size=(8, 8)))[0]
    mapping = random.normal(size=(8, 8)) + 2 * np.eye(8)
    concepts = table(("u", 10, 15, 5), ("v", 20, 25, 5))
    numbers = {}
    for name, of in (("own", rows), ("turned", rows @ rotation), ("mapped", rows @ mapping)):
        subject = with_rows(of)
        directions = concept_directions(subject, pairs=concepts, n_null=20).set_index("metric")[
            ["parallel", "held_out_auroc"]
        ]
        angles = concept_angles(subject, pairs=concepts).set_index("metric")[["cosine"]]
        numbers[name] = {metric: (directions.loc[metric], angles.loc[metric]) for metric in ("raw", "causal")}
    for name, metric in (("turned", "raw"), ("turned", "causal"), ("mapped", "causal")):
        for found, expected in zip(numbers[name][metric], numbers["own"][metric], strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)  # of float32 weights
    assert np.abs(numbers["mapped"]["raw"][1] - numbers["own"]["raw"][1]).to_numpy().max() > 0.05


def test_the_causal_product_of_states_is_that_of_the_dual_space(with_rows):
    """If the unembedding is mapped by A, states that give the same logits are mapped by its inverse transposed."""
    random = np.random.default_rng(6)
    rows, states = random.normal(size=(61, 8)), random.normal(size=(5, 8))
    mapping = random.normal(size=(8, 8)) + 2 * np.eye(8)
    place = Place("residual", 1)
    own = InnerProducts(with_rows(rows)).mapped(states, place, "causal")
    other = InnerProducts(with_rows(rows @ mapping)).mapped(states @ np.linalg.inv(mapping).T, place, "causal")
    np.testing.assert_allclose(own @ own.T, other @ other.T, rtol=1e-4)


def test_states_are_read_at_each_word_alone(small_subject, any_backend):
    subject = small_subject("llama", any_backend)
    concepts = table(("c", 3, 31, 6))
    found = concept_directions(subject, pairs=concepts, where=[], layers=[2], metric=["raw"], n_null=5).set_index(
        "control"
    )
    ids = torch.tensor([[1, index] for index in (*range(3, 9), *range(31, 37))])
    states = subject.run(ids, lambda tape: tape.residual(2)[:, -1]).double().numpy()
    assert found.loc["none", "parallel"] == pytest.approx(float(parallel(states[6:] - states[:6])), abs=1e-5)
    assert (found["layer"] == 2).all() and (found["where"] == "residual").all()
    groups = {"targets": {"x": ["w3", "w4"], "y": ["w5", "w6"]}, "attributes": {"a": ["w7", "w8"], "b": ["w9", "w10"]}}
    frame = association(subject, **groups, where=[], layers=[2], metric="raw", template="w20 {}")
    ids = torch.tensor([[1, 20, index] for index in range(3, 11)])
    states = subject.run(ids, lambda tape: tape.residual(2)[:, -1]).double().numpy()
    x, y = (scores(of, states[4:6], states[6:]) for of in (states[:2], states[2:4]))
    assert frame["effect"].iat[0] == pytest.approx(effect(x, y), abs=1e-4)


# -- words -----------------------------------------------------------------------------------------------------------


def test_words_that_are_no_token_are_dropped_and_counted_also_for_another_model(with_rows, character_level):
    subject = with_rows(np.random.default_rng(0).normal(size=(61, 8)))
    more = pd.concat(
        [table(("c", 3, 31, 5)), pd.DataFrame([("c", "w3 w4", "w9")], columns=["concept", "left", "right"])]
    )
    found = concept_directions(subject, pairs=more, where=["unembedding"], metric=["raw"], n_null=5)
    assert (found["n_pairs"] == 5).all() and (found["n_dropped"] == 1).all()
    common = concept_directions(
        subject, pairs=more, where=["unembedding"], metric=["raw"], n_null=5, common_to=[subject]
    )
    assert common["parallel"].tolist() == found["parallel"].tolist()
    with pytest.raises(InputError, match="no concept keeps 3 pairs"):
        concept_directions(subject, pairs=more, common_to=[character_level])


def test_the_shipped_pairs_are_pairs_of_different_words():
    shipped = checked_pairs(None)
    assert shipped["concept"].nunique() == 14 and not shipped.duplicated().any()
    assert (shipped["left"] != shipped["right"]).all() and shipped.groupby("concept").size().min() >= 12


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_claims_say_control_and_run_on_the_shipped_model(claim):
    frame = claim.measure(interp.load("reference"), seed=0)
    measured = claim.statistic(frame)
    for series in measured if isinstance(measured, tuple) else (measured,):
        assert series.notna().all() and len(series) >= 8 and series.index.is_unique
    assert "control" in claim.says.lower() and len(claim.says.split()) >= 20
