"""What one test found, in plain values: they travel with its report, from a worker of pytest-xdist too."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from interp.pytest_plugin.records import Record


@dataclass(frozen=True)
class Checked:
    """A claim and how it came out.

    Attributes:
        statement: what was claimed.
        model: on which.
        state: "holds", "fails" or "undecided".
        expect: which of them the test expects.
        numbers: effect, interval, threshold, n and control in one line.
    """

    statement: str
    model: str
    state: str
    expect: str
    numbers: str


@dataclass(frozen=True)
class Compared:
    """A record and what became of it.

    Attributes:
        name: within its test.
        state: "same", "differs", "missing" (nothing is recorded), "recorded" (by `--interp-update`) or "measured" (on
            another model, and not compared).
        now: as measured.
        was: as recorded, if it is.
    """

    name: str
    state: Literal["same", "differs", "missing", "recorded", "measured"]
    now: Record
    was: Record | None


@dataclass
class TestOutcome:
    """All of one test: which file its records are in, and under which name."""

    file: str
    test: str
    checked: list[Checked] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Dictionaries, lists, numbers and text."""
        return asdict(self)

    @classmethod
    def from_json(cls, recorded: dict[str, Any]) -> TestOutcome:
        """What `as_json` made."""
        checked = [Checked(**one) for one in recorded["checked"]]
        compared = [Compared(**one) for one in recorded["compared"]]
        return cls(recorded["file"], recorded["test"], checked, compared)
