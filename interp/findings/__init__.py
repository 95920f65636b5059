"""Findings: a paper's claim as a check with an effect, an interval and a control, run on your model."""

from interp.findings.claim import Claim, Measured, NotApplicable, get, names
from interp.findings.table import FINDINGS, findings
from interp.findings.verdict import Comparison, State, Verdict, judge

__all__ = [
    "FINDINGS",
    "Claim",
    "Comparison",
    "Measured",
    "NotApplicable",
    "State",
    "Verdict",
    "findings",
    "get",
    "judge",
    "names",
]
