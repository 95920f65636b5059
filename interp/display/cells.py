"""Turn a frame into the strings of a table: a value and the ends of its interval share a cell."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from interp.display.text import format_interval, format_numbers, format_value


def intervals(names: Iterable[object]) -> dict[str, tuple[str, str]]:
    """Return the columns of both ends of an interval, by the column of its value.

    >>> intervals(["layer", "kl", "kl_low", "kl_high", "low"])
    {'kl': ('kl_low', 'kl_high')}
    """
    known = [str(name) for name in names]
    ends = {name: (f"{name}_low", f"{name}_high") for name in known}
    return {name: pair for name, pair in ends.items() if set(pair) <= set(known)}


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Format every value, and join each with its interval (`x`, `x_low`, `x_high`), whose own columns go.

    >>> cells(pd.DataFrame({"layer": [0], "kl": [0.5], "kl_low": [0.4], "kl_high": [0.75]})).iloc[0].tolist()
    ['0', '0.50 [0.40, 0.75]']
    """
    pairs = intervals(frame.columns)
    ends = {end for pair in pairs.values() for end in pair}
    shown: dict[str, list[str]] = {}
    for name in map(str, frame.columns):
        if name in pairs:
            low, high = (frame[end] for end in pairs[name])
            shown[name] = [format_interval(*one) for one in zip(frame[name], low, high, strict=True)]
        elif name not in ends and pd.api.types.is_float_dtype(frame[name]):
            shown[name] = format_numbers(frame[name])
        elif name not in ends:
            shown[name] = [format_value(one) for one in frame[name]]
    return pd.DataFrame(shown, index=frame.index, dtype=str)
