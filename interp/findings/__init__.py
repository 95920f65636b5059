"""Test papers' claims on your model: each claim gets an effect, an interval, a control and a verdict."""

from interp.findings.claim import Claim, Measured, NotApplicable, get, names
from interp.findings.comparison import Comparison, State
from interp.findings.table import FINDINGS, findings
from interp.findings.verdict import Verdict, judge

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
