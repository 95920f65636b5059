"""Compare a mean and its interval with a threshold, a range or a control."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from interp.checks import checked
from interp.errors import InputError
from interp.stats.units import ROUNDING, Mean

State = Literal["holds", "fails", "undecided"]
Bound: TypeAlias = "float | Literal['control']"
"""A number, or "control": the control's value for the same prompt."""

_SIGNS = {"at_least": ">=", "at_most": "<=", "above": ">", "below": "<"}


@checked
@dataclass(frozen=True)
class Comparison:
    """A comparison of an effect with a threshold, a range or a control: exactly one of the five.

    Attributes:
        at_least: holds if the whole interval is at or above this.
        at_most: holds if the whole interval is at or below this.
        above: holds if the whole interval is above this.
        below: holds if the whole interval is below this.
        between: holds if the whole interval lies within these two, ends included.

    Raises:
        InputError: none or several were given, or a value is not a usable number.

    >>> str(Comparison(at_least=0.72)), str(Comparison(above="control")), str(Comparison(between=(0.4, 0.6)))
    ('>= 0.72', '> control', '0.4 .. 0.6')
    """

    at_least: Bound | None = None
    at_most: Bound | None = None
    above: Bound | None = None
    below: Bound | None = None
    between: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        given = [name for name in (*_SIGNS, "between") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"give exactly one of at_least=, at_most=, above=, below= and between=, not {given or 'none'}."
            )
        if self.between is not None:
            if np.shape(self.between) != (2,) or not np.isfinite(self.between).all():
                raise InputError(f"between={self.between!r} must be two finite numbers (low, high).")
            if self.between[0] >= self.between[1]:
                raise InputError(f"between={self.between}: the first number must be the smaller one.")
            return
        bound = getattr(self, given[0])
        if bound != "control" and not (isinstance(bound, int | float) and np.isfinite(bound)):
            raise InputError(f"{given[0]}={bound!r} is neither a finite number nor 'control'.")

    @property
    def kind(self) -> str:
        """The name of the one that was given."""
        return next(name for name in (*_SIGNS, "between") if getattr(self, name) is not None)

    @property
    def with_control(self) -> bool:
        """True if the effect is compared with its control, prompt by prompt."""
        return self.kind in _SIGNS and getattr(self, self.kind) == "control"

    def __str__(self) -> str:
        if self.between is not None:
            return f"{self.between[0]:g} .. {self.between[1]:g}"
        bound = getattr(self, self.kind)
        return f"{_SIGNS[self.kind]} {bound if bound == 'control' else format(bound, 'g')}"

    def decide(self, mean: Mean, level: float) -> tuple[State, float, str]:
        """Return the state, the p-value and, if undecided, the reason; for a control, of the differences from it.

        The state is "undecided" if the interval spans the threshold, if there is no interval, and if there are too few
        units for any p-value below 1 - level, fewer than six at 0.95. Equal values that equal the threshold are at
        least and at most the threshold, and neither above nor below it.
        """
        if self.between is not None:
            low, high = self.between
            near = ROUNDING * max(abs(low), abs(high)) + mean.rounding
            state = _state(
                low - near <= mean.low and mean.high <= high + near, mean.high < low - near or mean.low > high + near
            )
            # Inside the range, both ends must be rejected; outside, the nearer end.
            inside = low - near <= mean.mean <= high + near
            ends = (low, high) if inside else (min(max(mean.mean, low), high),)
            p = max(_least_p(mean) if inside and _at(mean, end, near) else mean.p(end) for end in ends)
            spanned = "an end of the range"
        else:
            bound = 0.0 if self.with_control else float(getattr(self, self.kind))
            near = ROUNDING * abs(bound) + mean.rounding
            state = _one_sided(self.kind, mean, bound, near)
            p = _least_p(mean) if _at(mean, bound, near) else mean.p(bound)
            spanned = "no difference" if self.with_control else f"{bound:g}"
        if p <= 1 - level and state != "undecided":
            return state, p, ""
        return "undecided", p, _why_undecided(mean, state, p, level, spanned)


def _at(mean: Mean, value: float, near: float) -> bool:
    """Tell whether all units equal a value."""
    return mean.equal and abs(mean.mean - value) <= near


def _least_p(mean: Mean) -> float:
    """Return the p-value of values that all lie on one side of the truth, as `Mean.p` has it."""
    return float(2.0 ** (1 - mean.n))


def _why_undecided(mean: Mean, state: State, p: float, level: float, spanned: str) -> str:
    needed = 1 + math.ceil(-math.log2(1 - level) - 1e-9)
    if mean.reason:
        return mean.reason
    if mean.n < needed:
        return f"{mean.n} units decide nothing at a level of {level:g}; give at least {needed}"
    if state == "undecided":
        return f"the interval spans {spanned}"
    return f"the interval lies on one side of {spanned}, but p = {p:.2g} is above {1 - level:.2g}"


def _one_sided(kind: str, mean: Mean, bound: float, near: float) -> State:
    low, high = mean.low, mean.high
    if kind == "at_least":
        return _state(low >= bound - near, high < bound - near)
    if kind == "above":
        return _state(low > bound + near, high <= bound + near)
    if kind == "at_most":
        return _state(high <= bound + near, low > bound + near)
    return _state(high < bound - near, low >= bound - near)


def _state(holds: bool, fails: bool) -> State:
    return "holds" if holds else "fails" if fails else "undecided"
