"""Jackknife pseudo-values: one number per unit for a statistic of all units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd


def pseudo_values(rows: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> pd.Series:
    """One number per row whose mean is a statistic of all rows together, by the jackknife (Tukey, 1958).

    An AUC or a correlation is no mean over prompts, and these make it one, up to terms of order 1 / n: they can be
    bootstrapped, compared in pairs and judged like any other.

    Args:
        rows: one per unit; [n].
        statistic: of any of their subsets; NaN where it is not defined.

    Returns:
        n times the statistic of all less n - 1 times that of all others, [n], with the index of the rows.

    >>> rows = pd.DataFrame({"x": [1.0, 2.0, 6.0]})
    >>> pseudo_values(rows, lambda some: some.x.mean()).round(6).tolist()
    [1.0, 2.0, 6.0]
    """
    n, whole = len(rows), statistic(rows)
    others = [statistic(rows.drop(index=index)) for index in rows.index]
    return pd.Series(n * whole - (n - 1) * np.array(others, dtype=float), index=rows.index, dtype=float)
