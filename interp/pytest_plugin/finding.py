"""The `finding` fixture: a model and its texts; `run` for probes, `check` for claims, `record` for values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from interp.display.text import format_to_interval
from interp.errors import InputError, InterpError
from interp.pytest_plugin import comparison, reading, records
from interp.pytest_plugin.marker import FindingSpec
from interp.pytest_plugin.outcome import Checked, Compared, TestOutcome
from interp.pytest_plugin.session import Session, read_texts_of

if TYPE_CHECKING:
    import pandas as pd

    from interp.findings import State, Verdict
    from interp.model.subject import Subject

_SHOWN = 20  # differences in a message

_MEND = {
    "holds": "It holds now: leave expect= out if that is the finding.",
    "fails": "The interval lies beyond the threshold: if that is the finding, pin it by expect='fails'.",
    "undecided": "Give more prompts, or pin the claim as open by expect='undecided'.",
}


class Finding:
    """The model, texts and outcome of a test marked with `@pytest.mark.finding`.

    Attributes:
        finding_spec: the arguments of the test's markers.
        outcome: the claims checked and values compared so far; sent to the terminal summary, from a worker too.
    """

    def __init__(self, finding_spec: FindingSpec, session: Session, module: Path, test: str) -> None:
        self.finding_spec = finding_spec
        self._session = session
        self._module = module
        self.outcome = TestOutcome(str(records.file_of(module)), test)

    @cached_property
    def subject(self) -> Subject:
        """The model of the marker, or of `--interp-model`; loaded once per process of the test run."""
        if self._session.model is not None:
            return self._session.subject(self._session.model)
        source = self.finding_spec.model
        if isinstance(source, str) and (self._module.parent / source / "config.json").is_file():
            source = str(self._module.parent / source)
        return self._session.subject(source)

    @cached_property
    def texts(self) -> pd.DataFrame:
        """The texts of the marker, a frame with a `text` column.

        Raises:
            InputError: the marker names no data.
        """
        if self.finding_spec.data is None:
            raise InputError('@pytest.mark.finding names no data; add data="stories", a file or texts.')
        return read_texts_of(self.finding_spec.data, self.finding_spec.n, self._module.parent)

    def run(self, probe: str, /, **parameters: Any) -> pd.DataFrame:
        """Run a probe and return its frame; the same run in two tests is computed once per process.

        Args:
            probe: name of the probe, as `interp probes` lists it.
            parameters: of the probe; `texts=` replaces the marker's texts.

        Raises:
            UnknownName: there is no such probe or parameter.
            InputError: the probe reads texts and none are named.
        """
        __tracebackhide__ = True
        try:
            texts = None if self.finding_spec.data is None else self.texts
            return self._session.run(probe, self.subject, texts, parameters)
        except InterpError as error:
            # The message says how to fix it; the traceback inside this package does not help.
            raise error.with_traceback(None) from error.__cause__

    def check(self, statement: str, values: Any, *, expect: State = "holds", **criteria: Any) -> Verdict:
        """Decide a claim by its interval, and fail the test unless it comes out as expected.

        An undecided claim fails too: an interval that spans the threshold shows nothing yet. Pin a claim that is known
        to fail, or to be open, by `expect`, so that you notice when it changes.

        Args:
            statement: the claim, as the summary lists it.
            values: one per prompt, as `interp.findings.judge` takes them.
            expect: "holds", "fails" or "undecided".
            criteria: `at_least=`, `at_most=`, `above=`, `below=`, `control=` and the rest of `interp.findings.judge`.

        Returns:
            The verdict, if it is as expected.
        """
        from interp.findings import judge

        __tracebackhide__ = True
        if expect not in _MEND:
            raise InputError(f"expect={expect!r}: give 'holds', 'fails' or 'undecided'.")
        verdict = judge(values, statement=statement, **criteria)
        numbers = str(replace(verdict, statement="")).removeprefix(f"{verdict.state}: ")
        self.outcome.checked.append(Checked(statement, self.subject.name, verdict.state, expect, numbers))
        if verdict.state != expect:
            pytest.fail(_explained(verdict, self.subject.name, expect), pytrace=False)
        return verdict

    def record(
        self,
        name: str,
        value: Any,
        *,
        by: str | Sequence[str] | None = None,
        tolerance: comparison.Tolerance = None,
    ) -> None:
        """Compare a frame or a value with its record, and fail the test if anything differs.

        Missing and extra rows and columns differ, and so does a changed sign, whatever the tolerance; see
        `interp.pytest_plugin.comparison.differences`. `model` and `run_id` are left out unless they are keys.
        `--interp-update` writes the record. If `--interp-model` is another model, nothing is compared: the summary
        prints the values measured on it.

        Args:
            name: of the record; a test uses each name once.
            value: a frame, a Series with a named index, or a number, truth value or text.
            by: key columns of a frame.
            tolerance: the largest absolute difference, or "interval" for columns `v` with `v_low` and `v_high`, which
                must overlap; or a dictionary of these by column. By default a thousandth of the recorded value.
        """
        __tracebackhide__ = True
        if any(one.name == name for one in self.outcome.compared):
            raise InputError(f"{name!r} is recorded twice in this test; give each record a name of its own.")
        keys, rows = records.as_rows(value, by)
        now = {"model": self.subject.name, "fingerprint": self.subject.fingerprint, "by": keys, "rows": rows}
        file = Path(self.outcome.file)
        was = reading.read(file).get(self.outcome.test, {}).get(name)
        # Compare the values with themselves first: an unusable tolerance raises before anything is compared or kept.
        comparison.differences(now, keys, rows, tolerance)
        if self._session.update:
            self.outcome.compared.append(Compared(name, "recorded", now, was))
            return
        if self._on_another_model(was):
            self.outcome.compared.append(Compared(name, "measured", now, was))
            return
        if was is None:
            self.outcome.compared.append(Compared(name, "missing", now, None))
            pytest.fail(f"nothing is recorded as {name!r} in {file.name}; record it by --interp-update.", pytrace=False)
        lines = comparison.differences(was, keys, rows, tolerance)
        self.outcome.compared.append(Compared(name, "differs" if lines else "same", now, was))
        if lines:
            pytest.fail(_difference(name, file.name, lines, was, now), pytrace=False)

    def _on_another_model(self, was: records.Record | None) -> bool:
        """Tell whether the command line names another model than the record's."""
        if self._session.model in (None, self.finding_spec.model):
            return False
        return was is None or was["fingerprint"] != self.subject.fingerprint


def _explained(verdict: Verdict, model: str, expect: State) -> str:
    """Explain why a claim's state is not the expected one."""
    ends = verdict.low, verdict.high
    level = "" if isnan(verdict.low) else f"{verdict.level:.0%} "
    lines = [
        f"{verdict.state} on {model}, expected {expect}: {verdict.statement}",
        f"  effect     {format_to_interval(verdict.effect, *ends)}, {level}{_interval(*ends)}",
        f"  threshold  {verdict.comparison}",
    ]
    if not isnan(verdict.control_effect):
        ends = verdict.difference_low, verdict.difference_high
        control, apart = (format_to_interval(one, *ends) for one in (verdict.control_effect, verdict.difference))
        lines.append(f"  control    {control}; effect - control {apart}, {_interval(*ends)}")
    lines.append(f"  prompts    {verdict.n}, {verdict.n_skipped} skipped; p = {verdict.p:.2g}")
    if verdict.reason:
        lines.append(f"  because    {verdict.reason}")
    return "\n".join([*lines, _MEND[verdict.state]])


def _interval(low: float, high: float) -> str:
    if isnan(low):
        return "no interval"
    return f"interval {format_to_interval(low, low, high)} to {format_to_interval(high, low, high)}"


def _difference(name: str, file: str, lines: list[str], was: records.Record, now: records.Record) -> str:
    shown = [f"  {line}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"  and {len(lines) - _SHOWN} more")
    if was["fingerprint"] != now["fingerprint"]:
        models = f"{was['model']} {was['fingerprint']}, not {now['model']} {now['fingerprint']}"
        shown.append(f"  The model is not the recorded one: recorded on {models}.")
    advice = "If the new values are right, record them by --interp-update."
    return "\n".join([f"{name!r} differs from {file}:", *shown, advice])
