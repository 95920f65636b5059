"""A command's table fits the terminal it is printed on, and says what it leaves out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.display.cells import cells, intervals
from interp.display.terminal import show_table
from interp.display.text import format_interval, format_numbers
from interp.display.verdicts import decided_by

LENS = pd.DataFrame(
    {
        "model": "reference",
        "layer": [0, 1],
        "rank": [4088.866, 580.58],
        "rank_low": [3910.067, 493.247],
        "rank_high": [4250.784, 670.534],
        "kl_to_final": [20.266, np.nan],
        "kl_to_final_low": [19.7, np.nan],
        "kl_to_final_high": [20.832, np.nan],
        "agrees": [False, True],
        "note": ["the layer that enters the first block, of tokens and positions alone", ""],
    }
)
AT = {
    80: """\
all: model reference
layer                  rank        kl_to_final  agrees  note
    0  4,089 [3,910, 4,251]  20.3 [19.7, 20.8]      no  the layer that enters
                                                        the first block, of
                                                        tokens and positions
                                                        alone
    1        581 [493, 671]                  –     yes
""",
    100: """\
all: model reference
layer                  rank        kl_to_final  agrees  note
    0  4,089 [3,910, 4,251]  20.3 [19.7, 20.8]      no  the layer that enters the first block, of
                                                        tokens and positions alone
    1        581 [493, 671]                  –     yes
""",
    120: """\
all: model reference
layer                  rank        kl_to_final  agrees  note
    0  4,089 [3,910, 4,251]  20.3 [19.7, 20.8]      no  the layer that enters the first block, of tokens and positions
                                                        alone
    1        581 [493, 671]                  –     yes
""",
    50: """\
all: model reference
layer                  rank        kl_to_final
    0  4,089 [3,910, 4,251]  20.3 [19.7, 20.8]
    1        581 [493, 671]                  –
""",
}


@pytest.mark.parametrize("width", AT)
def test_a_table_is_as_wide_as_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    show_table(LENS)
    printed = capsys.readouterr()
    assert [line.rstrip() for line in printed.out.splitlines()] == AT[width].splitlines()
    assert max(map(len, printed.out.splitlines())) <= width
    assert ("2 more columns do not fit: agrees, note" in " ".join(printed.err.split())) == (width == 50)


def test_a_pipe_is_given_every_column(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = pd.DataFrame({f"column_{n}": [float(n), -1.0] for n in range(60)})
    show_table(wide)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == list(wide.columns)
    assert [row.split() for row in rows] == [[f"{n:.4g}" for n in range(60)], ["-1"] * 60]


def test_one_row_keeps_all_of_its_columns_and_so_do_equal_rows(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for n in (1, 2):
        show_table(pd.DataFrame({"a": ["x"] * n, "b": [1] * n}))
        assert capsys.readouterr().out.split() == ["a", "b"] + ["x", "1"] * n


def test_brackets_and_colons_are_printed_as_they_are(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    show_table(pd.DataFrame({"token": ["[bold]", ":smile:"], "other": ["\t", "a b"]}))
    assert capsys.readouterr().out.split() == ["token", "other", "[bold]", r"'\t'", ":smile:", "a", "b"]


@given(st.floats(-1e6, 1e6), st.floats(1e-5, 1e5), st.floats(1e-5, 1e5))
def test_what_is_printed_of_an_interval_is_near_it(value, below, above):
    """Within half a unit of the last digit, which is at most a twentieth of the interval's width, above one unit."""
    low, high = value - below, value + above
    shown = [float(part.strip("[],").replace(",", "")) for part in format_interval(value, low, high).split()]
    apart = np.abs(np.array(shown) - [value, low, high])
    assert apart.max() <= max(0.5, 0.05 * (high - low)) if high - low >= 10 else apart.max() <= 0.051 * (high - low)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.70712, 0.69813, 0.71534), "0.707 [0.698, 0.715]"),
        ((-1e-9, -0.1, 0.1), "0.00 [-0.10, 0.10]"),
        ((0.0378, 0.00068, 0.1071), "0.0378 [0.0007, 0.1071]"),  # the end is above 0, and shows it
        ((0.5, np.nan, np.nan), "0.5"),
        ((np.nan, np.nan, np.nan), "–"),
        ((1.0, 1.0, 1.0), "1 [1, 1]"),
        ((2e-9, 1e-9, 3e-9), "2e-09 [1e-09, 3e-09]"),
        ((1.0, -np.inf, np.inf), "1 [-inf, inf]"),
    ],
)
def test_an_interval_in_few_characters(numbers, text):
    assert format_interval(*numbers) == text


def test_only_both_ends_are_an_interval():
    assert intervals(["x", "x_low", "y", "y_low", "y_high"]) == {"y": ("y_low", "y_high")}
    assert list(cells(pd.DataFrame({"x": [1.0], "x_low": [0.5]}))) == ["x", "x_low"]


def test_the_interval_that_is_shown_is_the_one_that_decided():
    """The effect lies above its control's mean, yet the claim fails: the paired differences do."""
    row = {"effect": 2.133, "low": 2.04, "high": 2.224, "comparison": "> control", "control_effect": 2.221}
    row |= {"difference": -0.088, "difference_low": -0.095, "difference_high": -0.081}
    assert decided_by(row) == "2.133 against 2.221: -0.088 [-0.095, -0.081] > 0"
    assert decided_by(row | {"comparison": "0.4 .. 0.6"}) == "2.13 [2.04, 2.22] 0.4 .. 0.6"
    assert decided_by(row | {"effect": np.nan}) == ""


@given(st.lists(st.floats(-1e4, 1e4, allow_subnormal=False) | st.just(0.0) | st.just(float("nan")), max_size=6))
def test_numbers_of_a_column_are_aligned_or_told_to_four_digits(values):
    shown = format_numbers(values)
    known = [(float(text), value) for text, value in zip(shown, values, strict=True) if text != "–"]
    assert shown.count("–") == sum(np.isnan(values))
    for text, value in known:
        assert abs(text - value) <= max(5e-4 * abs(value), 5e-4) and (text == 0) == (value == 0)
