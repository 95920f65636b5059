"""Outcomes of one test in plain values, sent with its report, from a worker of pytest-xdist too."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from interp.pytest_plugin.records import Record


@dataclass(frozen=True)
class Checked:
    """A claim and its verdict.

    Attributes:
        statement: the claim.
        model: the model it was checked on.
        state: "holds", "fails" or "undecided".
        expect: the state that the test expects.
        numbers: effect, interval, threshold, n and control in one line.
    """

    statement: str
    model: str
    state: str
    expect: str
    numbers: str


@dataclass(frozen=True)
class Compared:
    """A recorded value and the result of comparing with it.

    Attributes:
        name: of the record, within its test.
        state: "same", "differs", "missing" (nothing is recorded), "recorded" (by `--interp-update`) or "measured" (on
            another model, and not compared).
        now: the measured value.
        was: the recorded value, if there is one.
    """

    name: str
    state: Literal["same", "differs", "missing", "recorded", "measured"]
    now: Record
    was: Record | None


@dataclass
class TestOutcome:
    """The outcomes of one test, the file of its records and its name there."""

    file: str
    test: str
    checked: list[Checked] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return dictionaries, lists, numbers and text only."""
        return asdict(self)

    @classmethod
    def from_json(cls, recorded: dict[str, Any]) -> TestOutcome:
        """Rebuild the outcomes from the result of `as_json`."""
        checked = [Checked(**one) for one in recorded["checked"]]
        compared = [Compared(**one) for one in recorded["compared"]]
        return cls(recorded["file"], recorded["test"], checked, compared)
