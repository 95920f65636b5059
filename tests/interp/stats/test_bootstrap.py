"""Intervals over prompts: against pandas' own means, a naive bootstrap, and simulated coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError, UnknownName
from interp.stats.bootstrap import bootstrap_over_prompts, paired_bootstrap, ratio_over_prompts


def frame_of(n_prompts: int = 12, n_layers: int = 3, seed: int = 0) -> pd.DataFrame:
    """Prompts of different lengths, so that a mean over rows is not a mean over prompts."""
    generator = np.random.default_rng(seed)
    rows = [
        {"prompt_id": prompt, "layer": layer, "loss": generator.normal(prompt), "hit": bool(generator.random() < 0.3)}
        for prompt in range(n_prompts)
        for _ in range(1 + prompt % 4)
        for layer in range(n_layers)
    ]
    return pd.DataFrame(rows)


def per_prompt_means(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    return frame.groupby(["layer", "prompt_id"])[value].mean().unstack()


def test_the_mean_is_the_mean_of_prompt_means():
    frame = frame_of()
    summary = bootstrap_over_prompts(frame, ["layer"], ["loss", "hit"])
    assert summary.columns.tolist() == [
        "layer", "n_prompts", "loss", "loss_low", "loss_high", "hit", "hit_low", "hit_high",
    ]  # fmt: skip
    for value in ("loss", "hit"):
        by_prompt = per_prompt_means(frame, value)
        # float64 means of a dozen numbers, summed in another order.
        np.testing.assert_allclose(summary[value], by_prompt.mean(axis=1), rtol=1e-12)
        assert (summary[f"{value}_low"] <= summary[value]).all() and (summary[value] <= summary[f"{value}_high"]).all()
    rows = frame.groupby("layer")["loss"].mean()
    assert (np.abs(summary["loss"] - rows) > 0.1).all()  # long prompts do not count for more
    assert summary["n_prompts"].tolist() == [12, 12, 12]


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_the_interval_is_that_of_a_naive_bootstrap(statistic):
    """One resample at a time with pandas' own means, other draws: the bounds agree within their own scatter."""
    frame = frame_of(40)
    ours = bootstrap_over_prompts(frame, ["layer"], ["loss"], statistic=statistic, n_resamples=2000)
    table = per_prompt_means(frame, "loss").to_numpy()
    generator = np.random.default_rng(99)
    naive = np.stack(
        [getattr(np, statistic)(table[:, generator.integers(0, 40, 40)], axis=1) for _ in range(2000)]
    )  # fmt: skip
    low, high = np.quantile(naive, [0.025, 0.975], axis=0)
    # The 2.5 % quantile of 2000 draws scatters by 0.06 standard deviations, 1.5 % of an interval of 3.9, and so does
    # the other: 10 % is more than four times both. A median's draws stand on a grid of prompts a step of about 1 apart.
    tolerance = 0.1 * (high - low) if statistic == "mean" else 1.5
    assert (np.abs(ours["loss_low"] - low) < tolerance).all()
    assert (np.abs(ours["loss_high"] - high) < tolerance).all()


@pytest.mark.parametrize(("statistic", "level"), [("mean", 0.95), ("median", 0.95), ("mean", 0.8)])
def test_intervals_cover_the_truth_as_often_as_they_say(statistic, level):
    """Every group is one simulated study of 50 prompts with the same true value."""
    studies, prompts = 600, 50
    values = np.random.default_rng(3).normal(5.0, 2.0, size=(studies, prompts))
    frame = pd.DataFrame(
        {"study": np.repeat(np.arange(studies), prompts), "prompt_id": np.tile(np.arange(prompts), studies)}
    ).assign(x=values.ravel())
    summary = bootstrap_over_prompts(frame, ["study"], ["x"], statistic=statistic, level=level, n_resamples=400)
    covered = float(((summary["x_low"] <= 5.0) & (summary["x_high"] >= 5.0)).mean())
    # 600 studies put the rate within 0.018 (two standard errors at 0.95; 0.033 at 0.8) of its expectation, which for
    # a percentile bootstrap of 50 values lies some 0.01 below the level.
    assert level - 0.035 < covered < level + 0.03
    if level == 0.95:
        assert 0.92 < covered < 0.98


def test_tokens_of_one_prompt_are_not_independent():
    """Rows repeated a hundredfold are no more evidence."""
    frame = frame_of()
    once = bootstrap_over_prompts(frame, ["layer"], ["loss"])
    often = bootstrap_over_prompts(pd.concat([frame] * 100), ["layer"], ["loss"])
    pd.testing.assert_frame_equal(once, often, check_exact=False, rtol=1e-12)


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=10)
def test_the_order_of_rows_does_not_matter(random):
    frame = frame_of()
    order = list(range(len(frame)))
    random.shuffle(order)
    # The same sums in another order.
    pd.testing.assert_frame_equal(
        bootstrap_over_prompts(frame, ["layer"], ["loss", "hit"]),
        bootstrap_over_prompts(frame.iloc[order], ["layer"], ["loss", "hit"]),
        check_exact=False,
        rtol=1e-12,
    )


def test_the_same_seed_gives_the_same_interval():
    frame = frame_of()
    first, second, other = (bootstrap_over_prompts(frame, ["layer"], ["loss"], seed=seed) for seed in (4, 4, 5))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert (first["loss"] == other["loss"]).all() and (first["loss_low"] != other["loss_low"]).all()


def test_groups_share_their_draws():
    """A constant difference between layers stays exactly that in the bounds: same prompts, same draws."""
    frame = frame_of(n_layers=1)
    both = pd.concat([frame, frame.assign(layer=1, loss=frame["loss"] + 100)])
    summary = bootstrap_over_prompts(both, ["layer"], ["loss"]).set_index("layer")
    np.testing.assert_allclose(
        summary.loc[1, ["loss_low", "loss_high"]] - summary.loc[0, ["loss_low", "loss_high"]], 100
    )


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_one_prompt_has_no_interval(statistic):
    summary = bootstrap_over_prompts(frame_of(1), ["layer"], ["loss"], statistic=statistic)
    assert summary["loss"].notna().all() and summary[["loss_low", "loss_high"]].isna().all(axis=None)
    assert summary["n_prompts"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_one_prompt_with_a_value_among_many_has_no_interval(statistic):
    """Whichever prompts are drawn, only one of them says anything: a width of zero would claim certainty."""
    frame = frame_of(10).query("layer < 2 or prompt_id == 4")
    summary = bootstrap_over_prompts(frame, ["layer"], ["loss"], statistic=statistic)
    assert summary["loss_low"].isna().tolist() == [False, False, True]
    assert summary["n_prompts"].tolist() == [10, 10, 1]


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_missing_values_are_left_out(statistic):
    frame = frame_of(10)
    frame["rank"] = pd.array(np.arange(len(frame)) % 7, dtype="Int64")
    frame.loc[frame["prompt_id"] == 3, "rank"] = pd.NA
    frame.loc[frame["prompt_id"] == 3, "loss"] = np.nan
    frame.loc[frame.index[frame["prompt_id"] == 7][:3], "loss"] = np.nan  # one row per layer: the others remain
    summary = bootstrap_over_prompts(frame, ["layer"], ["loss", "rank"], statistic=statistic)
    for value in ("loss", "rank"):
        known = frame.dropna(subset=[value]).astype({value: float})
        expected = getattr(per_prompt_means(known, value), statistic)(axis=1)
        np.testing.assert_allclose(summary[value], expected, rtol=1e-12)
        assert summary[[f"{value}_low", f"{value}_high"]].notna().all(axis=None)
    assert summary["n_prompts"].tolist() == [10, 10, 10]  # the prompts are there, one without a value


def test_a_value_that_is_missing_everywhere():
    summary = bootstrap_over_prompts(frame_of().assign(loss=np.nan), ["layer"], ["loss", "hit"])
    assert summary[["loss", "loss_low", "loss_high"]].isna().all(axis=None)
    assert summary["hit"].notna().all() and summary["n_prompts"].tolist() == [12, 12, 12]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_infinity_is_a_value_and_not_a_missing_one(sign, statistic):
    frame = pd.DataFrame({"prompt_id": range(30), "kl": [sign * np.inf, *range(29)]})
    summary = bootstrap_over_prompts(frame, [], ["kl"], statistic=statistic).iloc[0]
    reached, other = ("kl_high", "kl_low") if sign == 1 else ("kl_low", "kl_high")
    if statistic == "mean":
        # Two resamples in three draw the one infinite prompt, one in three does not.
        assert summary["kl"] == summary[reached] == sign * np.inf and np.isfinite(summary[other])
    else:
        assert np.isfinite(summary.to_numpy()).all()


@pytest.mark.parametrize("value", [np.inf, 0.0, 0.1, 1.0])
def test_equal_values_have_no_interval(value):
    """A point would claim that no other prompt can have another value."""
    summary = bootstrap_over_prompts(pd.DataFrame({"prompt_id": range(9), "kl": value}), [], ["kl"])
    assert summary["kl"].item() == pytest.approx(value) and summary[["kl_low", "kl_high"]].isna().all(axis=None)


def test_without_groups_everything_is_one():
    frame = frame_of()
    summary = bootstrap_over_prompts(frame, [], ["loss", "hit"])
    assert len(summary) == 1 and summary["n_prompts"].item() == 12
    assert summary["loss"].item() == pytest.approx(frame.groupby("prompt_id")["loss"].mean().mean(), rel=1e-12)
    grouped = bootstrap_over_prompts(frame.assign(all=1), ["all"], ["loss", "hit"]).drop(columns="all")
    pd.testing.assert_frame_equal(summary, grouped)


def test_several_keys():
    frame = pd.concat([frame_of().assign(model=model) for model in "ab"])
    summary = bootstrap_over_prompts(frame, ["model", "layer"], ["loss"])
    assert summary[["model", "layer"]].to_numpy().tolist() == [[model, layer] for model in "ab" for layer in range(3)]
    alone = bootstrap_over_prompts(frame_of(), ["layer"], ["loss"])
    for model in "ab":
        part = summary[summary["model"] == model].drop(columns="model").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone)


def test_a_wider_level_is_a_wider_interval():
    widths = [
        (summary["loss_high"] - summary["loss_low"]).to_numpy()
        for level in (0.5, 0.8, 0.95, 0.99)
        for summary in [bootstrap_over_prompts(frame_of(40), ["layer"], ["loss"], level=level)]
    ]
    assert (np.diff(np.stack(widths), axis=0) > 0).all()


def test_the_frame_is_left_alone():
    frame = frame_of()
    before = frame.copy(deep=True)
    bootstrap_over_prompts(frame, ["layer"], ["loss", "hit"])
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": ["layr"]}, "unknown column 'layr'; did you mean 'layer'"),
        ({"values": ["los"]}, "unknown column 'los'; did you mean 'loss'"),
        ({"values": []}, "nothing to sum up"),
        ({"statistic": "mode"}, "unknown statistic 'mode'"),
        ({"level": 95}, "level=95"),
        ({"n_resamples": 0}, "n_resamples=0"),
        ({"level": "high"}, "level='high'"),
        ({"n_resamples": 99.5}, "n_resamples=99.5"),
        ({"n_resamples": None}, "n_resamples=None"),
        ({"seed": -1}, "seed=-1: give a whole number of 0 or more"),
        ({"seed": None}, "seed=None: give"),
        ({"seed": "a"}, "seed='a': give"),
        ({"by": "layer"}, r"by='layer': give a list of texts, such as \['layer'\]"),
        ({"values": "loss"}, r"values='loss': give a list of texts, such as \['loss'\]"),
        ({"frame": [1.0]}, r"frame=\[1\.0\]: give a DataFrame"),
        (
            {"frame": frame_of().assign(loss="much")},
            "column 'loss' holds .*; choose columns of numbers or truth values",
        ),
        ({"frame": frame_of().iloc[:0]}, "nothing to sum up"),
        ({"frame": frame_of().drop(columns="prompt_id")}, "unknown column 'prompt_id'"),
    ],
)
def test_bad_arguments(changes, message):
    arguments = {"frame": frame_of(), "by": ["layer"], "values": ["loss"]} | changes
    with pytest.raises(InputError, match=message) as caught:
        bootstrap_over_prompts(**arguments)
    assert isinstance(caught.value, UnknownName) == ("unknown" in message)


# -- ratios -----------------------------------------------------------------------------------------------------------


def ratios_of(frame: pd.DataFrame, by: list[str], **options: object) -> pd.DataFrame:
    return ratio_over_prompts(frame, by, "right", "tried", "share", **options)


def accuracies(n_prompts: int = 60, seed: int = 0) -> pd.DataFrame:
    """Two values per prompt that go together, in two layers."""
    random = np.random.default_rng(seed)
    tried = np.repeat(random.uniform(0.2, 1.0, n_prompts), 2)
    frame = pd.DataFrame({"prompt_id": np.repeat(range(n_prompts), 2), "layer": [0, 1] * n_prompts, "tried": tried})
    return frame.assign(right=tried * random.uniform(0.6, 1.0, 2 * n_prompts))


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_ratio_is_that_of_the_two_statistics_and_its_interval_that_of_a_naive_paired_bootstrap(statistic):
    frame = accuracies()
    ours = ratios_of(frame, ["layer"], statistic=statistic, n_resamples=3000)
    both = bootstrap_over_prompts(frame, ["layer"], ["right", "tried"], statistic=statistic)
    np.testing.assert_allclose(ours["share"], both["right"] / both["tried"], rtol=1e-12)
    random = np.random.default_rng(9)
    for layer, row in ours.iterrows():
        of = frame[frame["layer"] == layer][["right", "tried"]].to_numpy()
        draws = [getattr(np, statistic)(of[random.integers(0, len(of), len(of))], axis=0) for _ in range(3000)]
        low, high = np.quantile([one[0] / one[1] for one in draws], [0.025, 0.975])
        # The ends of 3000 draws scatter by some 2 % of the width; a median's stand on a coarser grid.
        near = (0.1 if statistic == "mean" else 0.3) * (high - low)
        assert abs(row["share_low"] - low) < near and abs(row["share_high"] - high) < near


def test_a_ratio_is_paired():
    """Prompts of very different difficulty: resampled apart, the ratio of two proportional columns would scatter."""
    frame = accuracies().assign(right=lambda rows: rows["tried"] * (0.8 + 1e-3 * (rows["prompt_id"] % 2)))
    row = ratios_of(frame, []).iloc[0]
    assert row["share_high"] - row["share_low"] < 1e-3 and row["share_low"] < 0.8005 < row["share_high"]


def test_a_ratio_to_nothing_is_missing_and_so_is_one_of_a_single_prompt():
    frame = accuracies(6)
    nothing = ratios_of(frame.assign(tried=frame["tried"].where(frame["layer"] == 1, 0.0)), ["layer"])
    assert nothing.iloc[0][["share", "share_low", "share_high"]].isna().all() and nothing.iloc[1].notna().all()
    one = ratios_of(frame.query("prompt_id == 2"), ["layer"])
    assert one["share"].notna().all() and one[["share_low", "share_high"]].isna().all(axis=None)


def test_prompts_without_one_of_the_two_values_count_in_neither():
    frame = accuracies(9)
    holes = frame.assign(right=frame["right"].mask(frame["prompt_id"] == 4))
    pd.testing.assert_series_equal(
        ratios_of(holes, ["layer"])["share"], ratios_of(frame.query("prompt_id != 4"), ["layer"])["share"]
    )
    with pytest.raises(UnknownName, match="unknown column 'right'"):
        ratios_of(frame.drop(columns="right"), [])


# -- paired comparisons ----------------------------------------------------------------------------------------------


def test_a_paired_bootstrap_holds_its_level_where_nothing_differs():
    """Two thousand comparisons of 30 prompts without a difference: about 5 % come out below 0.05."""
    nothing = np.random.default_rng(0).normal(size=(2000, 30))
    _, low, high, p = paired_bootstrap(nothing, n_resamples=999)
    # One standard error of the share is 0.5 %; a percentile bootstrap of 30 values runs 1 to 2 % too high.
    assert 0.03 < (p < 0.05).mean() < 0.085
    assert ((low > 0) | (high < 0)).mean() == pytest.approx((p < 0.05).mean(), abs=0.02)  # interval and p-value agree


def test_a_paired_bootstrap_finds_what_is_there_and_leaves_missing_prompts_out():
    table = np.random.default_rng(1).normal(1.0, 0.5, size=(1, 40))
    holes = np.concatenate([table, np.full((1, 5), np.nan)], axis=1)
    mean, low, high, p = paired_bootstrap(table)
    assert p[0] < 0.001 and low[0] < mean[0] < high[0] and low[0] > 0
    assert paired_bootstrap(holes)[0] == pytest.approx(mean)
    assert np.isnan(paired_bootstrap(np.array([[1.0, np.nan]]))[3]).all()


def test_few_prompts_cannot_be_sure():
    """Three differences of one sign have one chance in four of agreeing, however they are resampled."""
    assert paired_bootstrap(np.array([[1.0, 1.1, 0.9]]))[3].tolist() == [0.25]
    with pytest.raises(InputError, match="level=2"):
        paired_bootstrap(np.ones((1, 3)), level=2)
