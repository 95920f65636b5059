"""Run ids of every built-in probe on the shipped model.

Rows that somebody keeps are found again by their `run_id`, so a change of the code must not change it by accident.
`python tests/pinned/test_run_ids.py` pins the ids of new probes; with names behind it, it pins those probes again.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.report.every_probe import arguments_of, some_texts
from interp.runs import registry
from interp.runs.rehearsal import rehearse
from probes import attribute

IDS = Path(__file__).with_name("run_ids.json")
KNOWN: dict[str, list[str]] = json.loads(IDS.read_text("utf-8"))


@cache
def reference() -> interp.Subject:
    """Load the shipped model once: a run id hashes what it is, and no probe changes that."""
    return interp.load("reference")


def run_ids(name: str) -> list[str]:
    """Begin a probe as `interp report` does, on six prompts; the id of its run, fixed before anything is computed.

    That the rows of each probe carry the id of one run, is shown in `tests/probes/test_every_probe.py`.
    """
    probe, subject, texts = registry.get(name), reference(), some_texts("prompts", 6)
    arguments = arguments_of(probe, subject, texts)
    if name in ("faithfulness", "group_attribution"):  # ids hash the scores, and no arithmetic made these
        arguments = {"frame": attribute(subject, texts, methods=("random",))}

    def begun(subject: interp.Subject, _: None, **arguments: Any) -> None:  # not every probe takes texts
        probe.function(subject, **arguments)

    return [rehearse(begun, name, subject, None, arguments).run_id]


@pytest.mark.filterwarnings("ignore:1 of 4 targets follow at most keep")
@pytest.mark.parametrize("name", KNOWN)
def test_the_run_id_is_what_it_was(name):
    assert run_ids(name) == KNOWN[name]


def test_no_probe_is_lost():
    """A new probe may be added to the file, and need not be."""
    assert set(KNOWN) <= set(registry.names())


if __name__ == "__main__":
    names = set(registry.names())
    known = {name: ids for name, ids in KNOWN.items() if name in names}
    found = known | {name: run_ids(name) for name in sys.argv[1:] or names - set(known)}
    IDS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", "utf-8")
