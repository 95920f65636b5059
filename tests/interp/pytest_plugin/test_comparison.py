"""What counts as a difference: rows and columns by key, tolerances, signs, intervals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError, UnknownName
from interp.pytest_plugin.comparison import differences

NUMBERS = st.floats(-1e6, 1e6)
TABLES = st.dictionaries(st.integers(0, 9), st.tuples(NUMBERS, st.booleans(), st.text(max_size=3)), min_size=1)


def rows_of(table):
    return [{"layer": key, "kl": kl, "agrees": agrees, "top": top} for key, (kl, agrees, top) in table.items()]


def record(rows, by=("layer",)):
    return {"by": list(by), "rows": rows}


@settings(deadline=None)
@given(TABLES, st.randoms())
def test_equal_rows_do_not_differ_in_any_order(table, random):
    rows = rows_of(table)
    shuffled = random.sample(rows, len(rows))
    assert differences(record(rows), ["layer"], shuffled, tolerance=0.0) == []


@settings(deadline=None)
@given(TABLES, st.data())
def test_any_one_change_is_one_line(table, data):
    rows = rows_of(table)
    chosen = data.draw(st.sampled_from(rows))
    others = [row for row in rows if row is not chosen]
    name = f"layer={chosen['layer']}"
    if others:
        assert differences(record(rows), ["layer"], others) == [f"row {name} was recorded and is gone"]
        assert differences(record(others), ["layer"], rows) == [f"row {name} is new"]
    for column, value in (("agrees", not chosen["agrees"]), ("top", chosen["top"] + "!")):
        changed = [row if row is not chosen else row | {column: value} for row in rows]
        (line,) = differences(record(rows), ["layer"], changed)
        assert line.startswith(f"{name} {column}: recorded {chosen[column]!r}, measured {value!r}")
    for column in ("kl", "agrees", "top"):
        fewer = [{key: cell for key, cell in row.items() if key != column} for row in rows]
        assert differences(record(rows), ["layer"], fewer) == [f"column {column!r} was recorded and is gone"]
        assert differences(record(fewer), ["layer"], rows) == [f"column {column!r} is new"]


@settings(deadline=None)
@given(NUMBERS, st.floats(0, 10), st.floats(-20, 20))
def test_a_tolerance_is_the_largest_difference_that_passes(before, tolerance, by):
    now = before + by
    lines = differences(record([{"v": before}], []), [], [{"v": now}], tolerance)
    if before * now < 0 and min(abs(before), abs(now)) > 1e-6:
        assert "changed sign" in lines[0]
    elif abs(now - before) > tolerance * (1 + 1e-6) + 1e-12:
        assert "tolerance" in lines[0]
    elif abs(now - before) < tolerance * (1 - 1e-6):
        assert lines == []


def one(before, now, tolerance=None):
    return differences(record([before], []), [], [now], tolerance)


def test_a_changed_sign_differs_within_the_tolerance():
    (line,) = one({"gain": 0.01}, {"gain": -0.01}, tolerance=1.0)
    assert line == "gain: changed sign, recorded 0.01, measured -0.01"
    assert one({"gain": 0.0}, {"gain": -0.01}, tolerance=1.0) == []  # zero has no sign
    assert one({"gain": 1e-8}, {"gain": -0.01}, tolerance=1.0) == []  # nor what float32 cannot tell from it


def test_what_is_zero_beside_the_column_has_no_sign():
    """A processor's rounding of sums of the size of 1000 turns the sign of a thousandth, and not of a tenth."""
    before = [{"layer": 0, "norm": 1000.0}, {"layer": 1, "norm": 5e-4}, {"layer": 2, "norm": 0.1}]
    now = [{"layer": 0, "norm": 1000.0}, {"layer": 1, "norm": -5e-4}, {"layer": 2, "norm": -0.1}]
    (line,) = differences(record(before, ["layer"]), ["layer"], now, tolerance=1.0)
    assert line == "layer=2 norm: changed sign, recorded 0.1, measured -0.1"
    (line,) = differences(record(before[1:2], ["layer"]), ["layer"], now[1:2], tolerance=1.0)
    assert line.startswith("layer=1 norm: changed sign")


def test_tolerances_by_column_and_the_default():
    before, now = {"kl": 1.0, "loss": 2.0}, {"kl": 1.05, "loss": 2.001}
    assert one(before, now, tolerance={"kl": 0.1}) == []  # loss moved by half of the default's thousandth
    assert [line.partition(":")[0] for line in one(before, now, tolerance={"loss": 0.1})] == ["kl"]
    assert one({"n": 3}, {"n": 4})[0].startswith("n: recorded 3, measured 4")  # counts are exact
    assert one({"n": 30000}, {"n": 30001}) != []
    assert one({"n": 3}, {"n": 4}, tolerance=1) == []


def test_missing_and_infinite_cells_are_values():
    assert one({"kl": None}, {"kl": None}) == []
    assert one({"kl": None}, {"kl": 0.0}) == ["kl: recorded None, measured 0.0"]
    assert one({"kl": "inf"}, {"kl": 9.0}) == ["kl: recorded 'inf', measured 9.0"]
    assert one({"agrees": True}, {"agrees": 1}) == ["agrees: recorded True, measured 1"]


def bounded(v, low, high):
    return {"v": v, "v_low": low, "v_high": high}


@pytest.mark.parametrize("tolerance", ["interval", {"v": "interval"}])
@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (bounded(1.0, 0.8, 1.2), bounded(1.5, 1.1, 1.9), None),
        (bounded(1.0, 0.8, 1.2), bounded(1.5, 1.2, 1.9), None),  # they touch
        (bounded(1.0, 0.8, 1.2), bounded(1.5, 1.3, 1.9), "they do not overlap"),
        (bounded(1.0, 0.8, 1.2), bounded(0.5, 0.3, 0.7), "they do not overlap"),
        (bounded(0.1, -0.2, 0.4), bounded(-0.1, -0.4, 0.2), None),  # neither is sure of its sign
        (bounded(0.2, 0.1, 0.3), bounded(-0.1, -0.3, 0.1), "changed sign"),
        (bounded(1.0, None, None), bounded(1.0, None, None), None),
        (bounded(1.0, None, None), bounded(1.1, None, None), "an interval is missing"),
    ],
)
def test_intervals_must_overlap(before, now, words, tolerance):
    lines = one(before, now, tolerance)
    assert (lines == []) if words is None else (len(lines) == 1 and words in lines[0])


def test_other_keys_are_another_record():
    rows = [{"layer": 0, "kl": 1.0}]
    assert differences(record(rows, ["layer"]), ["kl"], rows) == ["recorded by ['layer'], now by ['kl']"]


@pytest.mark.parametrize(
    ("tolerance", "words"),
    [
        ({"kll": 0.1}, "unknown column 'kll'; did you mean 'kl'"),
        (-0.1, "tolerance -0.1 of 'kl'"),
        (float("nan"), "tolerance nan of 'kl'"),
        ({"kl": "wide"}, "tolerance 'wide' of 'kl': give a number from 0 on, or 'interval'"),
        ("interval", "needs columns v, v_low, v_high"),
        ({"kl": "interval"}, "needs columns kl_low and kl_high"),
    ],
)
def test_a_tolerance_that_cannot_be_used_is_refused(tolerance, words):
    with pytest.raises((InputError, UnknownName), match=words.replace("(", r"\(")):
        one({"kl": 1.0}, {"kl": 1.0}, tolerance)
