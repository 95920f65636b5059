"""Jackknife pseudo-values: one number per unit for a statistic of all units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd


def pseudo_values(rows: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> pd.Series:
    """Return the jackknife pseudo-value of each row (Tukey, 1958), whose mean estimates the statistic of all rows.

    An AUC or a correlation is not a mean over prompts. The mean of pseudo-values equals it up to terms of order 1 / n,
    so that it can be bootstrapped, compared in pairs and judged like any mean.

    Args:
        rows: n rows, one per unit.
        statistic: a function of any subset of the rows; NaN where it is not defined.

    Returns:
        n times the statistic of all rows minus n - 1 times that of all other rows, [n], with the index of the rows.

    >>> rows = pd.DataFrame({"x": [1.0, 2.0, 6.0]})
    >>> pseudo_values(rows, lambda some: some.x.mean()).round(6).tolist()
    [1.0, 2.0, 6.0]
    """
    n, whole = len(rows), statistic(rows)
    others = [statistic(rows.drop(index=index)) for index in rows.index]
    return pd.Series(n * whole - (n - 1) * np.array(others, dtype=float), index=rows.index, dtype=float)
