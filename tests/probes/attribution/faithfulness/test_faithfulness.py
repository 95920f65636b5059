"""Faithfulness on games whose numbers are known on paper, on planted models, and against plain loops."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import interp
from interp.errors import InputError, UnknownName
from interp.planted import bias_ladder, copying
from probes import attribute, faithfulness, reagent_ls
from probes.attribution.faithfulness._deletion import (
    Ranking,
    Values,
    _beam,
    area,
    area_limits,
    comprehensiveness,
    n_kept,
    sufficiency,
)
from probes.attribution.faithfulness._removal import Passage, set_function, soft_distances
from probes.attribution.groups._naming import words

pytestmark = pytest.mark.trained

EXACT = 1e-12  # float64 sums of a few numbers of size one
# Two float32 forward passes in batches of different make-up.
ROUNDING = 1e-5
TEXTS = ["w3 w4 w5 w6 w7 w8 w9", "w20 w21 w22 w23", "w50 w3 w50 w3 w9 w9 w9 w31 w8"]
weights = arrays(np.float64, st.integers(1, 7), elements=st.integers(-8, 8).map(lambda one: one / 16))


def additive(w: np.ndarray, constant: float = 0.2) -> Values:
    return Values(lambda sets: constant + sets @ w, len(w))


def all_counts(values: Values) -> range:
    return range(values.n_units + 1)


# -- games -------------------------------------------------------------------------------------------------------------


@given(weights, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_effects_that_add_up(w, random):
    """comp_k sums the removed, suff_k the rest, and the area counts each effect by how early it goes."""
    values, m = additive(w), len(w)
    order = np.array(random.sample(range(m), m))
    ranking = Ranking.of_order(order)
    comp = comprehensiveness(values, ranking, all_counts(values))
    suff = sufficiency(values, ranking, all_counts(values))
    np.testing.assert_allclose(comp, np.concatenate([[0], np.cumsum(w[order])]), atol=EXACT)
    np.testing.assert_allclose(comp + suff, values.full - values.null, atol=EXACT)
    expected = sum((m - j) * w[unit] for j, unit in enumerate(order)) / m
    assert area(values, ranking) == pytest.approx(expected, abs=EXACT)
    limits = area_limits(values)
    ranked = sorted(w, reverse=True)
    best, worst = (sum((m - j) * one for j, one in enumerate(one_way)) / m for one_way in (ranked, ranked[::-1]))
    assert (limits.high, limits.low) == pytest.approx((best, worst), abs=EXACT)
    assert limits.high + limits.low == pytest.approx((m + 1) / m * w.sum(), abs=EXACT)
    if np.ptp(w) > 0:  # the true effects as scores reach the limits
        assert limits.share(area(values, Ranking(w))) == pytest.approx(1.0)
        assert limits.share(area(values, Ranking(w).reversed())) == pytest.approx(0.0, abs=1e-9)
    else:
        assert limits.share(area(values, ranking)) in (0.0, pytest.approx(0.0), pytest.approx(1.0))


def test_the_mean_over_random_orders_is_the_middle_of_the_limits():
    w = np.array([0.5, -0.25, 0.125, 0.0])
    values = additive(w)
    areas = [area(values, Ranking.of_order(np.array(order))) for order in permutations(range(4))]
    assert np.mean(areas) == pytest.approx(5 / 8 * w.sum())


@given(st.integers(1, 5), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_exact_limits_are_those_of_all_orders_and_bound_the_beam(m, seed):
    worth = np.random.default_rng(seed).normal(size=2**m)
    values = Values(lambda sets: worth[(sets @ (1 << np.arange(m))).astype(int)], m)
    areas = [area(values, Ranking.of_order(np.array(order))) for order in permutations(range(m))]
    limits = area_limits(values)
    assert limits.exact and (limits.low, limits.high) == pytest.approx((min(areas), max(areas)))
    assert _beam(values, 1.0) <= limits.high + EXACT and _beam(values, -1.0) >= limits.low - EXACT


def test_limits_of_long_prompts_come_from_a_beam_that_finds_effects_that_add_up():
    w = np.linspace(-0.3, 0.4, 13)
    limits = area_limits(additive(w))
    assert not limits.exact
    assert limits.high == pytest.approx(area(additive(w), Ranking(w)))
    assert limits.low == pytest.approx(area(additive(w), Ranking(-w)))


def test_limits_of_losses_below_zero():
    """Every area negative: a search that starts from 0 would report 0 as the largest."""
    limits = area_limits(additive(np.array([-0.5, -0.25])))
    assert limits.high == pytest.approx(-0.5) and limits.low == pytest.approx(-0.625)


def test_both_needed_and_either_enough():
    both = Values(lambda sets: (sets[:, 0] & sets[:, 1]).astype(float), 3)
    either = Values(lambda sets: (sets[:, 0] | sets[:, 1]).astype(float), 3)
    for first in (0, 1):
        order = Ranking.of_order(np.array([first, 1 - first, 2]))
        assert comprehensiveness(both, order, [1]) == 1 and sufficiency(both, order, [1]) == 1
        assert comprehensiveness(either, order, [1]) == 0 and sufficiency(either, order, [1]) == 0


def test_every_set_is_valued_once():
    seen = []

    def worth(sets):
        seen.extend(map(tuple, sets))
        return sets.sum(axis=1).astype(float)

    values = Values(worth, 5)
    for order in map(Ranking.of_order, (np.arange(5), np.arange(5), np.arange(5)[::-1])):
        area(values, order), sufficiency(values, order, [1, 2])
    assert len(seen) == len(set(seen))


def game(m: int, seed: int = 0) -> Values:
    """A worth for each of the 2^m sets, drawn at random."""
    worth = np.random.default_rng(seed).normal(size=2**m)
    return Values(lambda sets: worth[(sets @ (1 << np.arange(m))).astype(int)], m)


@given(weights, st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_a_metric_of_tied_scores_is_its_mean_over_all_their_orders(w, seed):
    """Against every permutation that sorts the scores, whatever the game."""
    w = np.round(w[:6] * 4)  # many ties
    values, m = game(len(w), seed), len(w)
    orders = [np.array(one) for one in permutations(range(m)) if (np.diff(w[list(one)]) <= 0).all()]
    ranking, several = Ranking(w), [Ranking.of_order(order) for order in orders]
    for curve in (comprehensiveness, sufficiency):
        plain = np.mean([curve(values, one, all_counts(values)) for one in several], axis=0)
        np.testing.assert_allclose(curve(values, ranking, all_counts(values)), plain, atol=EXACT)
    assert area(values, ranking) == pytest.approx(np.mean([area(values, one) for one in several]), abs=EXACT)
    backwards = np.mean([area(values, one.reversed()) for one in several])
    assert area(values, ranking.reversed()) == pytest.approx(backwards, abs=EXACT)


@given(weights, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_text_says_nothing_about_ties(w, random):
    """The same units at other places of the text have the same metrics."""
    moved = np.array(random.sample(range(len(w)), len(w)))
    worth = game(len(w))
    elsewhere = Values(lambda sets: worth(sets[:, np.argsort(moved)]), len(w))
    for curve in (comprehensiveness, sufficiency):
        here = curve(worth, Ranking(w), all_counts(worth))
        np.testing.assert_allclose(curve(elsewhere, Ranking(w[moved]), all_counts(worth)), here, atol=EXACT)


def test_ties_of_too_many_sets_are_broken_by_the_given_orders():
    m = 14
    values, generator = game(m), np.random.default_rng(3)
    orders = [generator.permutation(m) for _ in range(4)]
    flat = Ranking(np.zeros(m), orders)
    assert [len(flat.first(k)) for k in (0, 1, 2, 3, 7, 13, 14)] == [1, 14, 91, 4, 4, 14, 1]
    by_chance = [sufficiency(values, Ranking.of_order(order), [5, 7]) for order in orders]
    np.testing.assert_allclose(sufficiency(values, flat, [5, 7]), np.mean(by_chance, axis=0), atol=EXACT)
    by_chance = [comprehensiveness(values, Ranking.of_order(order).reversed(), [5, 7]) for order in orders]
    np.testing.assert_allclose(
        comprehensiveness(values, flat.reversed(), [5, 7]), np.mean(by_chance, axis=0), atol=EXACT
    )
    scores = np.array([3.0] + [0.0] * 12 + [-1.0])  # what is not tied stays in its order
    assert Ranking(scores, orders).first(6)[:, 0].all() and not Ranking(scores, orders).first(6)[:, -1].any()


def test_halves_are_rounded_up():
    """Python's own rounding kept 2 of 5 for 0.5, and 4 for 0.7."""
    assert [n_kept(fraction, 5) for fraction in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)] == [1, 2, 3, 4, 5, 5]
    assert n_kept(0.29, 50) == 15  # 14.5, though 0.29 * 50 is a little less
    assert n_kept(0.01, 20) == 1


# -- removal from a model ----------------------------------------------------------------------------------------------


def passage_of(ids: list[int], target: int) -> Passage:
    return Passage(np.array(ids), target, np.eye(len(ids), dtype=bool)[1:])


IDS = [1, 9, 12, 33, 7, 20]
REMOVALS = ["zero_embedding", "mask_embedding", "delete"]


@pytest.mark.parametrize("replacement", REMOVALS)
def test_sets_in_batches_equal_one_at_a_time(small_subject, any_backend, replacement):
    subject = small_subject("llama", any_backend)
    subject.run(torch.tensor([IDS]), lambda tape: tape.last)
    function = set_function(
        subject, passage_of(IDS, 5), replacement, None, fill=torch.full((subject.d_model,), 0.1), n_samples=1,
        log=False, seed=0,
    )  # fmt: skip
    sets = np.random.default_rng(0).random((20, 5)) < 0.5
    together = function(sets)
    np.testing.assert_allclose(together, [function(one[None])[0] for one in sets], atol=ROUNDING)
    with interp.options.local(memory=1 << 20):
        np.testing.assert_allclose(together, function(sets), atol=ROUNDING)


def test_deleting_is_reading_the_shorter_text(small_subject, any_backend):
    subject = small_subject("gpt2", any_backend)
    passage = passage_of(IDS, 5)
    function = set_function(subject, passage, "delete", None, fill=None, n_samples=1, log=False, seed=0)
    kept = [1, 12, 20]
    prob = subject.run(torch.tensor([kept]), lambda tape: tape.head(tape.last[0, -1]).softmax(-1))[5]
    assert function(np.array([[False, True, False, False, True]]))[0] == pytest.approx(float(prob), abs=ROUNDING)


def test_zeroing_a_token_of_a_copying_model_takes_its_share_away():
    """The logits change by exactly -(a / s) e_t for a token t that is not the last."""
    planted = copying(vocab=12, a=3.0)
    subject = interp.load(planted.model)
    ids = [4, 5, 6, 7]
    passage = Passage(np.array(ids), 5, np.eye(4, dtype=bool))
    subject.run(torch.tensor([ids]), lambda tape: tape.last)
    function = set_function(
        subject, passage, "zero_embedding", None, fill=torch.zeros(subject.d_model), n_samples=1, log=False, seed=0
    )
    logits = planted.truth.logits(torch.tensor(ids))[-1]
    logits[5] -= 3.0 / 4
    assert function(np.array([[True, False, True, True]]))[0] == pytest.approx(float(logits.softmax(0)[5]), abs=1e-6)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "opt", "bloom"])
def test_the_mean_embedding_is_that_of_the_whole_vocabulary(small_subject, architecture, any_backend):
    from interp.model.sites import recording
    from probes.attribution.faithfulness._removal import mean_embedding

    subject = small_subject(architecture, any_backend)
    found = mean_embedding(subject, np.array(IDS))
    with recording([subject.site("embed")]) as seen:
        subject.run(torch.arange(subject.d_vocab).view(1, -1), lambda tape: tape.last)
    torch.testing.assert_close(found, seen[0][0].mean(dim=0), atol=1e-5, rtol=0.0)


def test_keeping_nothing_or_everything_is_certain(small_subject, any_backend):
    """s = 1: sufficiency keeps all, comprehensiveness drops all. s = 0: the other way round. No draw can tell."""
    subject = small_subject("gpt2", any_backend)
    passage = passage_of(IDS, 5)
    subject.run(torch.tensor([IDS]), lambda tape: tape.last)
    keep = np.repeat([[1.0] * 5, [0.0] * 5], 3, axis=0)
    distances, zero = soft_distances(subject, passage, keep, np.tile(np.arange(3), 2), seed=0)
    np.testing.assert_allclose(distances[:3], 0.0, atol=1e-9)
    np.testing.assert_allclose(distances[3:], zero, rtol=1e-4)
    assert 0 < zero <= 1


def test_soft_distances_are_those_of_a_plain_loop(small_subject):
    subject = small_subject("gpt2", "bridge")
    passage = passage_of(IDS, 5)
    clean = subject.run(torch.tensor([IDS]), lambda tape: tape.head(tape.last[0, -1]).double().softmax(-1))
    keep = np.random.default_rng(1).random((6, 5))
    distances, _ = soft_distances(subject, passage, keep, np.array([0, 0, 1, 1, 2, 2]), seed=4)
    from interp.model.sites import editing
    from probes.attribution.faithfulness._removal import _uniforms

    for row, draw, distance in zip(keep, [0, 0, 1, 1, 2, 2], distances, strict=True):
        stays = torch.from_numpy(_uniforms(passage.ids, draw, subject.d_model, 4)) < torch.tensor([1.0, *row])[:, None]
        with editing(subject.site("embed"), lambda value, stays=stays: value * stays):
            q = subject.run(torch.tensor([IDS]), lambda tape: tape.head(tape.last[0, -1]).double().softmax(-1))
        expected = 1 - (clean * q).sqrt().sum()  # Hellinger's square is one less Bhattacharyya's coefficient
        assert distance == pytest.approx(float(expected), abs=1e-6)


# -- the probe ---------------------------------------------------------------------------------------------------------

QUICK = {"n_random": 4, "n_draws": 4, "fractions": (0.25, 0.5, 1.0)}


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


@pytest.fixture(scope="module")
def frame(subject) -> pd.DataFrame:
    return attribute(subject, TEXTS, methods=("reagent_ls", "random"))


@pytest.fixture(scope="module")
def scores(subject, frame) -> pd.DataFrame:
    metrics = ("soft_ns", "soft_nc", "sufficiency", "comprehensiveness", "aopc", "naopc")
    return faithfulness(subject, frame, metrics=metrics, replacement="zero_embedding", **QUICK)


def test_one_row_per_prompt_method_metric_and_fraction(scores):
    measured = scores[scores["control"] != "permuted"]
    hard = 2 * len(QUICK["fractions"]) + 2 + 2
    assert len(measured) == len(TEXTS) * 2 * (hard + 4)
    assert not measured.duplicated(["prompt_id", "method", "metric", "fraction"]).any()
    assert (scores["control"] == "permuted").sum() == len(TEXTS) * (hard + 4)  # of what is no control already
    assert set(scores.loc[scores["method"] == "random", "control"]) == {"random"}
    assert scores["value"].notna().all() and scores["value_random"].notna().all()
    assert (scores["n_units"] == scores["prompt_id"].map(lambda one: len(TEXTS[one].split()))).all()
    assert scores["is_argmax"].all()


def test_the_curve_is_that_of_a_plain_loop(subject, frame, scores):
    from interp.model.sites import editing

    rows = frame[(frame["prompt_id"] == 0) & (frame["method"] == "reagent_ls")]
    ids, target = rows["token_id"].tolist(), int(rows["target_id"].iat[0])
    order = rows[rows["pos"] > 0].sort_values("score", ascending=False, kind="stable")["pos"].tolist()

    def prob(gone: list[int]) -> float:
        def without(value):
            value = value.clone()
            value[:, gone] = 0.0
            return value

        with editing(subject.site("embed"), without):
            return float(subject.run(torch.tensor([ids]), lambda tape: tape.head(tape.last[0, -1]).softmax(-1))[target])

    own = scores[(scores["prompt_id"] == 0) & (scores["method"] == "reagent_ls") & (scores["control"] == "none")]
    value = own.set_index(["metric", "fraction"])["value"]
    full, m = prob([]), len(order)
    for fraction in QUICK["fractions"]:
        k = max(1, round(fraction * m))
        assert value["comprehensiveness", fraction] == pytest.approx(full - prob(order[:k]), abs=ROUNDING)
        assert value["sufficiency", fraction] == pytest.approx(full - prob(order[k:]), abs=ROUNDING)
    areas = own.set_index("metric")["value"]
    down = np.mean([full - prob(order[:k]) for k in range(1, m + 1)])
    up = np.mean([full - prob(order[m - k :]) for k in range(1, m + 1)])
    assert areas["aopc_comprehensiveness"] == pytest.approx(down, abs=ROUNDING)
    assert areas["aopc_sufficiency"] == pytest.approx(up, abs=ROUNDING)


def test_hard_metrics_do_not_see_how_sharp_scores_are_and_soft_ones_do(subject, frame):
    sharp = frame.assign(score=np.exp(3 * frame["score"] / frame["score"].abs().max()))
    sharp.attrs = frame.attrs
    plain, changed = (faithfulness(subject, one, replacement="zero_embedding", **QUICK) for one in (frame, sharp))
    hard = ~plain["metric"].isin(["soft_ns", "soft_nc"])  # the rank-only variants among them
    np.testing.assert_allclose(plain.loc[hard, "value"], changed.loc[hard, "value"], atol=ROUNDING)
    assert (np.abs(plain.loc[~hard, "value"] - changed.loc[~hard, "value"]) > 1e-3).any()


@pytest.mark.parametrize("replacement", ["unigram", "mask_embedding", "zero_embedding"])
def test_a_prompt_does_not_depend_on_its_neighbours_nor_on_memory(subject, frame, replacement):
    # The same prompts twice: counts of the given texts, which "unigram" draws by here, stay in proportion.
    together = faithfulness(subject, frame, replacement=replacement, **QUICK)
    with interp.options.local(memory=1 << 20):
        tight = faithfulness(subject, frame, replacement=replacement, **QUICK)
    np.testing.assert_allclose(together["value"], tight["value"], atol=1e-4)
    if replacement != "unigram":
        alone = faithfulness(subject, frame[frame["prompt_id"] == 1], replacement=replacement, **QUICK)
        np.testing.assert_allclose(together.loc[together["prompt_id"] == 1, "value"], alone["value"], atol=1e-4)


@pytest.mark.parametrize("replacement", ["unigram", "mask_embedding", "delete"])
def test_both_backends_agree(small_subject, frame, replacement):
    found = []
    for backend in ("bridge", "nnsight"):
        subject = small_subject("gpt2", backend)
        own = attribute(subject, TEXTS, methods=("reagent_ls",))
        found.append(faithfulness(subject, own, replacement=replacement, **QUICK))
    np.testing.assert_allclose(found[0]["value"], found[1]["value"], atol=1e-3)  # attention kernels differ


def test_half_precision(small_model, word_level):
    subject = interp.load(small_model("gpt2"), tokenizer=word_level, dtype="bfloat16")
    scores = faithfulness(subject, reagent_ls(subject, TEXTS), **QUICK)
    assert np.isfinite(scores["value"]).all() and scores["value"].dtype == np.float64


def test_without_attention_only_the_last_token_counts():
    """Whoever ranks it first loses all at k = 1; until then nobody loses anything."""
    subject = interp.load(bias_ladder().model)
    own = attribute(subject, "w1 w2 w3 w4 w5", methods=("random",))
    for last, expected in ((9.0, "all"), (-9.0, "nothing")):
        ranked = own.assign(score=np.where(own["pos"] == 4, last, own["score"]), control="none")
        ranked.attrs = own.attrs
        scores = faithfulness(
            subject, ranked, metrics=["comprehensiveness"], replacement="zero_embedding", fractions=[0.2, 0.8, 1.0]
        )
        value = scores[scores["control"] == "none"].set_index("fraction")["value"]
        if expected == "all":
            assert value[0.2] == pytest.approx(value[1.0], abs=1e-6) and value[0.8] == pytest.approx(
                value[1.0], abs=1e-6
            )
        else:
            assert value[0.2] == pytest.approx(0, abs=1e-6) and value[0.8] == pytest.approx(0, abs=1e-6)


def test_where_the_prompt_does_not_matter_soft_metrics_are_missing_and_hard_ones_zero():
    """Zeroing embeddings of a model whose target's logit no token touches: D(all zero) is 0 for a single kept token."""
    planted = copying(vocab=12, a=0.0)
    subject = interp.load(planted.model)
    own = attribute(subject, "w1 w2 w3 w4", methods=("random",))
    scores = faithfulness(subject, own, replacement="zero_embedding", protect_last=True, **QUICK)
    soft = scores["metric"].str.startswith("soft")
    assert scores.loc[soft, ["value", "value_random"]].isna().all(axis=None)
    np.testing.assert_allclose(scores.loc[~soft, "value"], 0.0, atol=1e-6)


def test_nothing_to_remove_gives_missing_values(subject):
    own = attribute(subject, ["w5"], methods=("random",))
    scores = faithfulness(subject, own, replacement="delete", **QUICK)  # <s> and the last token both stay
    assert (scores["n_units"] == 0).all() and scores["value"].isna().all()


def test_ties_are_counted_and_equal_scores_become_a_half(subject, frame):
    flat = frame.assign(score=0.25)
    flat.attrs = frame.attrs
    scores = faithfulness(subject, flat, metrics=["soft_ns", "soft_nc"], replacement="zero_embedding", **QUICK)
    assert (scores["n_ties"] == scores["n_units"]).all()
    # At one half each, keeping and dropping are alike, whoever is shuffled.
    np.testing.assert_allclose(
        scores["value"][scores["control"] == "none"], scores["value_random"][scores["control"] == "none"]
    )


def test_equal_scores_are_chance(subject, frame):
    """All-zero scores had an advantage over their own shuffles, from the order of the text."""
    flat = frame.assign(score=0.0)
    flat.attrs = frame.attrs
    quick = QUICK | {"metrics": ["sufficiency", "comprehensiveness", "aopc"], "replacement": "zero_embedding"}
    many = faithfulness(subject, flat, **quick | {"n_random": 400})
    own = many[many["control"] == "none"]
    # The two halves of 400 shuffles differ by two standard errors of their mean (some by more): four of them at most.
    spread = many[many["control"] == "permuted"]
    error = (spread["value"] - spread["value_random"]).std() / 2
    np.testing.assert_allclose(own["value"], own["value_random"], atol=4 * error)
    assert own["value"].abs().max() > 40 * error  # which tells something
    few = faithfulness(subject, flat, **quick)
    # Means over all orders do not depend on how many shuffles there are.
    np.testing.assert_allclose(
        own["value"].to_numpy(), few.loc[few["control"] == "none", "value"].to_numpy(), atol=ROUNDING
    )


def test_words_stand_and_fall_together(small_subject):
    assert words([" un", "like", "ly", " she", "'", "s"]).tolist() == [0, 0, 0, 1, 2, 3]
    subject = small_subject("gpt2", "bridge")
    own = reagent_ls(subject, TEXTS[:1])
    as_words = faithfulness(subject, own, unit="word", metrics=["aopc"], **QUICK)
    as_tokens = faithfulness(subject, own, unit="token", metrics=["aopc"], **QUICK)
    np.testing.assert_allclose(as_words["value"], as_tokens["value"])  # here every token is a word


def test_summary_ranks_by_advantage_over_shuffles(scores):
    summary = scores.interp.summary(n_resamples=200)
    measured = summary[summary["control"] == "none"]
    own = scores[(scores["method"] == "reagent_ls") & (scores["control"] == "none")]
    for row in measured.itertuples():
        sign = -1 if "sufficiency" in row.metric else 1
        of_metric = own[own["metric"] == row.metric].groupby("prompt_id")[["value", "value_random"]].mean()
        assert row.advantage == pytest.approx(sign * (of_metric["value"] - of_metric["value_random"]).mean())
        assert row.place == 1 and row.p_holm >= row.p
    assert summary.loc[summary["control"] != "none", ["p_holm", "place"]].isna().all(axis=None)


def test_the_figure_shows_a_line_per_method_and_chance(scores, tmp_path):
    figure = scores.interp.plot(path=tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["comprehensiveness", "sufficiency"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["random", "reagent ls", "shuffled scores"]
    bars = [one for axes in figure.axes for one in axes.containers]
    assert len(bars) == 4 and all(one.has_yerr for one in bars)  # every method has its intervals in both panels
    with pytest.raises(InputError, match="deletion curves need"):
        scores[scores["metric"] == "soft_ns"].interp.plot()


def test_frames_that_cannot_be_measured(subject, small_subject, frame):
    with pytest.raises(InputError, match="give the same weights and dtype"):
        faithfulness(small_subject("llama", "bridge"), frame)
    with pytest.raises(InputError, match="not one for each of the positions 0 to"):
        faithfulness(subject, frame[frame["pos"] != 2])
    with pytest.raises(InputError, match="lacks"):
        faithfulness(subject, frame.drop(columns="token_id"))
    with pytest.raises(InputError, match="no rows"):
        faithfulness(subject, frame.iloc[:0])
    for bad in (np.nan, np.inf):
        broken = frame.assign(score=frame["score"].where(frame["pos"] != 1, bad))
        broken.attrs = frame.attrs
        with pytest.raises(InputError, match=r"scores (nan|inf) at pos 1 of prompt 0"):
            faithfulness(subject, broken)
    other = attribute(subject, ["w9 w9 w9 w9 w9 w9 w9"], methods=("norm",), target=[int(frame["target_id"].iat[0])])
    with pytest.raises(InputError, match="other tokens for '"):
        faithfulness(subject, interp.concat([frame, other]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrics": ["aop"]}, UnknownName, "unknown metric 'aop'; did you mean 'aopc'"),
        ({"metrics": []}, InputError, "metrics="),
        ({"replacement": "mask"}, UnknownName, "unknown replacement 'mask'"),
        ({"fractions": [0.0]}, InputError, "fractions="),
        ({"n_random": 1}, InputError, "n_random=1"),
        ({"normalise": "none"}, InputError, "outside 0..1; use normalise='min_max'"),
    ],
)
def test_bad_arguments_are_refused(subject, frame, arguments, error, message):
    with pytest.raises(error, match=message):
        faithfulness(subject, frame, **arguments)
