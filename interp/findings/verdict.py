"""Decide whether a claim holds by an interval over prompts, not by a point estimate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.display.verdicts import decided_by
from interp.errors import InputError
from interp.findings.comparison import Bound, Comparison, State
from interp.stats import check_resampling
from interp.stats.units import Bounds, Mean, mean_over_units


@dataclass(frozen=True)
class Verdict:
    """A claim's result: its effect, interval, comparison and state.

    Attributes:
        statement: the claim.
        effect: mean over prompts (or other units).
        low: lower end of the effect's interval; NaN for fewer than two prompts.
        high: upper end of the effect's interval.
        comparison: what the effect was compared with, as text: ">= 0.72", "> control", "0.4 .. 0.6".
        threshold: the number compared with; the control's mean for a comparison with the control, NaN for a range.
        p: two-sided p-value of the effect being the threshold.
        control_effect: mean of the control; NaN without a control.
        difference: mean over prompts of effect - control; NaN without a control.
        difference_low: lower end of the difference's interval, which decides a comparison with the control.
        difference_high: upper end of the difference's interval.
        n: prompts with a value.
        n_skipped: prompts without a value (or, with a control, without a value of the control).
        level: of the intervals.
        state: "holds", "fails" or "undecided".
        reason: why it is undecided, and cautions that belong to the interval; empty if there are none.
    """

    statement: str
    effect: float
    low: float
    high: float
    comparison: str
    threshold: float
    p: float
    control_effect: float
    difference: float
    difference_low: float
    difference_high: float
    n: int
    n_skipped: int
    level: float
    state: State
    reason: str = ""

    def __str__(self) -> str:
        """Return one line for a terminal.

        >>> verdict = judge([0.8, 0.9] * 10, at_least=0.72, statement="most are kept")
        >>> str(verdict)
        'holds: most are kept: 0.850 [0.825, 0.875] >= 0.72 (n = 20)'
        """
        shown = self.comparison.endswith("control") or np.isnan(self.control_effect)
        beside = "" if shown else f", control {self.control_effect:.3g}"
        skipped = f", {self.n_skipped} skipped" if self.n_skipped else ""
        statement = f"{self.statement}: " if self.statement else ""
        why = f"; {self.reason}" if self.reason else ""
        return f"{self.state}: {statement}{decided_by(asdict(self))} (n = {self.n}{skipped}{beside}{why})"


@checked
def judge(
    values: Any,
    *,
    at_least: Bound | None = None,
    at_most: Bound | None = None,
    above: Bound | None = None,
    below: Bound | None = None,
    between: tuple[float, float] | None = None,
    control: Any = None,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
    statement: str = "",
) -> Verdict:
    """Compare one number per prompt with a threshold or a control; the interval of their mean decides.

    Args:
        values: one number per prompt, [prompts]: a Series, an array or a list. Average over a prompt's tokens first:
            tokens of one prompt are not independent. Missing values are skipped and counted.
        at_least: the claim is mean >= this number; "control" for the control's mean, prompt by prompt.
        at_most: the claim is mean <= this.
        above: the claim is mean > this.
        below: the claim is mean < this.
        between: the claim is low <= mean <= high. Give exactly one of these five.
        control: the control's number for the same prompts. Two Series are matched by their index, anything else by
            position. It is always reported beside the effect. If the comparison is with "control", it decides, by the
            bootstrap of the paired differences.
        bounds: the least and the largest value a prompt can have, (0, 1) for shares, hits and misses. The interval
            stays within them. Values that all lie at a bound are hits and misses and have Wilson's interval of their
            share: n prompts that agree do not prove that the next one does. Leave bounds out where that is not meant.
        level: of the intervals.
        n_resamples: bootstrap draws.
        seed: of the draws.
        statement: the claim, in words.

    Returns:
        The verdict: "holds" or "fails" if the interval lies on one side of the threshold, "undecided" if it spans the
        threshold, if there is no interval or if there are fewer than six prompts (at 0.95). `reason` says why. Values
        closer than a relative 1e-8 are equal, so that rounding decides nothing; equal values away from the bounds
        have an interval without width, and equal values at the threshold are at least and at most the threshold. For
        the interval, and how far it falls short for skewed values, see `interp.stats.mean_over_units`.

    Raises:
        InputError: no or several comparisons were given, a comparison with a control lacks the control, the values are
            not numbers, are infinite or out of bounds, or the control is of other prompts.

    >>> judge([0.8, 0.9] * 10, at_least=0.72).state, judge([0.8, 0.9] * 10, at_least=0.95).state
    ('holds', 'fails')
    >>> judge([1.0] * 24, at_least=0.9, bounds=(0, 1)).reason.partition("; ")[0]
    'the interval spans 0.9'
    >>> judge([0.0] * 120, at_most=1e-3).state
    'holds'
    >>> judge([0.8, 0.9] * 10, control=[0.7, 0.75] * 10, above="control").state
    'holds'
    """
    comparison = Comparison(at_least, at_most, above, below, between)
    check_resampling(level, n_resamples, least=99)
    if comparison.with_control and control is None:
        raise InputError(f"the comparison is {str(comparison)!r}, but no control= was given; pass it.")
    measured, beside = _paired(values, control)
    check_bounds(bounds, measured, beside)
    known = ~np.isnan(measured) & ~np.isnan(beside if control is not None else measured)
    drawing: dict[str, Any] = {"level": level, "n_resamples": n_resamples, "seed": seed}
    mean = mean_over_units(measured[known], bounds=bounds, **drawing)
    control_effect = difference = Mean(float("nan"), 0)
    if control is not None:
        apart = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
        control_effect = mean_over_units(beside[known], bounds=bounds, **drawing)
        size = float(np.abs(np.concatenate([measured[known], beside[known]])).max(initial=0.0))
        difference = mean_over_units((measured - beside)[known], bounds=apart, size=size, **drawing)
    decisive = difference if comparison.with_control else mean
    state, p, why = comparison.decide(decisive, level)
    bound = getattr(comparison, comparison.kind)
    return Verdict(
        statement=statement,
        effect=mean.mean,
        low=mean.low,
        high=mean.high,
        comparison=str(comparison),
        threshold=control_effect.mean if bound == "control" else float("nan") if between is not None else float(bound),
        p=p,
        control_effect=control_effect.mean,
        difference=difference.mean,
        difference_low=difference.low,
        difference_high=difference.high,
        n=mean.n,
        n_skipped=int((~known).sum()),
        level=level,
        state=state,
        reason="; ".join(filter(None, (why, decisive.note))),
    )


def check_bounds(bounds: Bounds, *of_units: np.ndarray) -> None:
    """Refuse bounds that are not two finite numbers in order, and values that lie outside the bounds."""
    if bounds is None:
        return
    if np.shape(bounds) != (2,) or not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
        raise InputError(f"bounds={bounds!r} must be two finite numbers (least, largest).")
    rounding = 1e-6 * (bounds[1] - bounds[0])  # rounding of float32
    for values in of_units:
        outside = values[(values < bounds[0] - rounding) | (values > bounds[1] + rounding)]
        if len(outside):
            raise InputError(f"a value of {outside[0]:g} lies outside bounds={bounds}; give wider bounds.")


def _paired(values: Any, control: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert both to float64 [prompts], the control in the order of the values; empty without a control."""
    measured = _numbers(values, "values")
    if control is None:
        return measured, np.empty(0)
    if isinstance(values, pd.Series) and isinstance(control, pd.Series):
        if not (values.index.is_unique and control.index.is_unique):
            raise InputError("values or control hold two numbers for one prompt; take the mean per prompt first.")
        if set(values.index) != set(control.index):
            raise InputError("values and control are of different prompts; give both the same index.")
        control = control.reindex(values.index)
    beside = _numbers(control, "control")
    if beside.shape != measured.shape:
        raise InputError(f"{len(measured)} values, but {len(beside)} of the control; give one of each per prompt.")
    return measured, beside


def _numbers(values: Any, name: str) -> np.ndarray:
    if values is None or np.isscalar(values):
        raise InputError(f"{name}={values!r} must be one number per prompt, [prompts]; give a Series or a list.")
    try:
        numbers: np.ndarray = pd.Series(values).astype("Float64").to_numpy(dtype="float64", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be one number per prompt, [prompts]: {error}.") from error
    if np.isinf(numbers).any():
        raise InputError(f"{name} hold infinity, so that they have no mean; clip them or take the median first.")
    return numbers
