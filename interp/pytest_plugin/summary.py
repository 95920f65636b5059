"""Collect the outcomes of all tests, write the files of records and print the summary.

Workers of pytest-xdist send their outcomes with their reports; only the process that receives them writes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InterpError
from interp.pytest_plugin import reading, records
from interp.pytest_plugin.outcome import Compared, TestOutcome

COLLECTED = "interp_findings_collected"  # in a worker's output
OUTCOME = "interp_finding"  # attribute of a report
_ROWS_SHOWN = 10
_COLOURS = {"holds": "green", "fails": "red", "undecided": "yellow"}


@dataclass(eq=False)  # pytest identifies a plugin by identity
class FindingsSummary:
    """The outcomes of a test run.

    Attributes:
        update: True to rewrite recorded values, and remove unused ones.
        whole: True if all tests of the collected modules were collected, not some chosen by name.
        root: paths in the summary are relative to this folder.
    """

    update: bool
    whole: bool
    root: Path
    _outcomes: list[TestOutcome] = field(default_factory=list)
    _complete: set[tuple[str, str]] = field(default_factory=set)
    _collected: dict[str, set[str]] = field(default_factory=dict)
    _unused: list[tuple[str, str, str]] = field(default_factory=list)
    _orphaned: list[str] = field(default_factory=list)
    _unreadable: list[str] = field(default_factory=list)

    def collect(self, modules: dict[str, list[str]]) -> None:
        """Note the tests that exist, by file of records."""
        for file, tests in modules.items():
            self._collected.setdefault(file, set()).update(tests)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the outcome of a finished test from its report."""
        recorded = getattr(report, OUTCOME, None)
        if recorded is None:
            return
        outcome = TestOutcome.from_json(recorded)
        self._outcomes.append(outcome)
        if report.passed:  # a failed or skipped test may have stopped before a record
            self._complete.add((outcome.file, outcome.test))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Note the tests that a worker of pytest-xdist collected."""
        self.collect(getattr(node, "workeroutput", {}).get(COLLECTED, {}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Find unused records and files, and with --interp-update rewrite the files."""
        measured: dict[str, list[TestOutcome]] = {}
        for outcome in self._outcomes:
            measured.setdefault(outcome.file, []).append(outcome)
        for name in sorted(self._collected.keys() | measured.keys()):
            try:
                self._settle(Path(name), measured.get(name, []))
            except (InterpError, OSError) as error:  # a damaged file must not end the session
                self._unreadable.append(str(error))
        for folder in sorted({Path(name).parent for name in self._collected}):
            try:
                self._find_orphaned(folder)
            except OSError as error:
                self._unreadable.append(str(error))

    def _find_orphaned(self, folder: Path) -> None:
        """Find files of records beside the modules of this run whose own module is gone."""
        for file in sorted(folder.glob(f"*{records.SUFFIX}")):
            if not records.module_of(file).exists():
                self._orphaned.append(str(file))
                if self.update:
                    file.unlink()

    def _settle(self, file: Path, outcomes: list[TestOutcome]) -> None:
        recorded = reading.read(file)
        unused = self._unused_in(str(file), recorded, outcomes)
        self._unused += [(str(file), test, name) for test, name in unused]
        if not self.update:
            return
        for outcome in outcomes:
            for one in outcome.compared:
                recorded.setdefault(outcome.test, {})[one.name] = one.now
        for test, name in unused:
            del recorded[test][name]
        records.write(file, recorded)

    def _unused_in(self, file: str, recorded: records.Recorded, outcomes: list[TestOutcome]) -> list[tuple[str, str]]:
        """Return the records that a passed test did not use, or whose test does not exist any more."""
        asked = {(outcome.test, one.name) for outcome in outcomes for one in outcome.compared}
        known = self._collected.get(file, set())
        return [
            (test, name)
            for test, named in sorted(recorded.items())
            for name in sorted(named)
            if ((file, test) in self._complete and (test, name) not in asked) or (self.whole and test not in known)
        ]

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List findings with their verdicts, and the states of the records."""
        if not (self._outcomes or self._unused or self._orphaned or self._unreadable):
            return
        out = terminalreporter
        out.section("findings")
        for outcome in self._outcomes:
            for checked in outcome.checked:
                note = "" if checked.state == checked.expect else f", expected {checked.expect}"
                line = f"{checked.state:<9} {checked.statement}  [{checked.model}{note}]"
                out.write_line(line, **{_COLOURS[checked.state]: True})
                out.write_line(f"{'':<9} {checked.numbers}")
            for compared in outcome.compared:
                if compared.state == "measured":
                    for line in _measured(outcome.test, compared):
                        out.write_line(line)
        counted = Counter(one.state for outcome in self._outcomes for one in outcome.compared)
        if counted:
            out.write_line("records: " + ", ".join(f"{n} {state}" for state, n in sorted(counted.items())))
        fate = "removed" if self.update else "unused; --interp-update removes it"
        for file, test, name in self._unused:
            out.write_line(f"{self._short(file)}: {test}: {name!r} {fate}", yellow=True)
        for file in self._orphaned:
            out.write_line(f"{self._short(file)}: its test module is gone; {fate}", yellow=True)
        for line in self._unreadable:
            out.write_line(f"error: {line}", red=True)

    def _short(self, file: str) -> str:
        path = Path(file)
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else file


def _measured(test: str, compared: Compared) -> list[str]:
    now, was = compared.now, compared.was
    beside = f"recorded on {was['model']}, not compared" if was else "nothing recorded"
    lines = [f"measured  {test}: {compared.name!r}  [{now['model']}; {beside}]"]
    for row in now["rows"][:_ROWS_SHOWN]:
        lines.append(f"{'':<9} " + ", ".join(f"{name}={cell}" for name, cell in row.items()))
    if len(now["rows"]) > _ROWS_SHOWN:
        lines.append(f"{'':<9} and {len(now['rows']) - _ROWS_SHOWN} rows more")
    return lines
