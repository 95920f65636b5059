"""Format values and strings for tables and figures: few digits, and every character visible."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

_NAMED = {"\n": "↵", "\r": "\\r", "\t": "⇥"}


def visible(text: str) -> str:
    r"""Replace invisible and control characters, also those that change the direction of text, by printable ones.

    >>> visible("a\n\u200b"), visible(" the"), visible("\r")
    ('a↵\\u200b', ' the', '\\r')
    """
    return "".join(_NAMED.get(one) or (code_of(one) if _hidden(one) else one) for one in text)


def _hidden(character: str) -> bool:
    """Tell whether a character is a control, format, surrogate, private, unassigned or separator one (not a space)."""
    kind = unicodedata.category(character)
    return kind.startswith("C") or (kind.startswith("Z") and character != " ")


def code_of(character: str) -> str:
    r"""Return the escape of a character.

    >>> code_of("\u6f22"), code_of("\x00")
    ('\\u6f22', '\\x00')
    """
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def short_citation(paper: str) -> str:
    """Return the authors and year of a paper; the whole text if it has no year.

    >>> short_citation("Belrose et al. (2023), Eliciting Latent Predictions, arXiv 2303.08112")
    'Belrose et al. 2023'
    >>> short_citation("an example")
    'an example'
    """
    found = re.match(r"(.*?)[ (,]+((?:19|20)\d\d)\b", paper)
    return f"{found[1]} {found[2]}" if found else paper


def format_value(value: Any) -> str:
    """Format a value for a table: four digits, `–` for a missing one, strings with outer spaces in quotes."""
    if isinstance(value, str):
        return visible(repr(value) if value != value.strip() else value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if np.ndim(value) == 0 and pd.isna(value):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else visible(str(value))


def format_numbers(values: Iterable[Any]) -> list[str]:
    """Format the numbers of a column: whole, or with three decimals, four below 1; to four digits where that hides one.

    >>> format_numbers([0.25, 12.5, float("nan")]), format_numbers([0.00001, 12.5])
    (['0.250', '12.500', '–'], ['1e-05', '12.5'])
    """
    numbers = list(values)
    sizes = [abs(float(one)) for one in numbers if not pd.isna(one) and one != 0]
    decimals = 0 if all(size < 1e6 and size.is_integer() for size in sizes) else 4 if max(sizes) < 1 else 3
    if decimals and any(not 0.5 * 10**-decimals <= size < 1000 for size in sizes):
        return [format_value(one) for one in numbers]
    return ["–" if pd.isna(one) else f"{one + 0.0:.{decimals}f}" for one in numbers]


def format_interval(value: Any, low: Any, high: Any) -> str:
    """Format a value with its interval, all to the same digit, see `format_to_interval`; without one, the value.

    >>> format_interval(0.70712, 0.69813, 0.71534), format_interval(408.867, 391.1, 425.7)
    ('0.707 [0.698, 0.715]', '409 [391, 426]')
    """
    if pd.isna(low) or pd.isna(high):
        return format_value(value)
    shown = [format_to_interval(one, low, high) for one in (value, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def format_to_interval(value: Any, low: Any, high: Any) -> str:
    """Format a value to the second digit of an interval's width: more digits would be noise.

    >>> format_to_interval(0.34864, 0.0453, 0.0591), format_to_interval(0.34864, float("nan"), float("nan"))
    ('0.349', '0.3486')
    """
    ends = [float(one) for one in (low, high)]
    width = ends[1] - ends[0]
    decimals = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 7
    if any(end and abs(end) < 0.5 * 10**-decimals for end in ends):  # which side of 0 it lies on must be seen
        decimals += 2
    if decimals > 6 or not math.isfinite(value):  # too narrow to write out, no width at all, or no interval
        return format_value(float(value))
    return f"{round(float(value), decimals) + 0.0:,.{decimals}f}"  # + 0.0: without the sign of -0.0
