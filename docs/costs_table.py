"""Write the table of what probes cost on real models, from what `make bench-real` measured: `make readme`.

`docs/costs/MODEL.json` is the file that `benchmarks/bench_real.py --out` wrote: for each model and number of prompts,
the numbers of each probe.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from readme_table import ROOT, between

KEPT = ROOT / "docs" / "costs"
PAGE = ROOT / "docs" / "pages" / "costs.md"
SAID = re.compile(r"about [\d.,]+ (seconds|minutes|hours)")
BEGIN, END = "<!-- costs: written by `make readme` -->\n", "<!-- until here: costs -->\n"


def page(text: str) -> str:
    """Return the page with its tables made again."""
    parts = [_table(title, found) for path in sorted(KEPT.glob("*.json")) for title, found in _kept(path).items()]
    return between(text, BEGIN, END, "\n".join(parts), PAGE.name)


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return found


def _table(title: str, found: dict[str, Any]) -> str:
    """Return a table, the probe that costs most passes first, and why others are absent."""
    measured = sorted((name for name in found if "ratio" in found[name]), key=lambda name: -found[name]["ratio"])
    columns = ("probe", "tokens", "seconds", "processor seconds", "of a bare pass", "ratio", "MiB", "rows", "says")
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in measured:
        one = found[name]
        seconds = f"{one['seconds']:,.0f} | {one['processor']:,.1f} | {one['forward']:,.1f} | {one['ratio']:,.1f}"
        told = SAID.search(one.get("says", ""))
        size = f"{one['MiB']:,.0f} | {one['rows']:,.0f} | {told[0] if told else ''}"
        rows.append(f"| `{name}` | {one['tokens']:,.0f} | {seconds} | {size} |")
    alike: dict[str, list[str]] = {}
    for name, one in found.items():
        if "absent" in one:
            alike.setdefault(one["absent"], []).append(f"`{name}`")
    reasons = [f"- {', '.join(names)}: {reason}" for reason, names in alike.items()]
    return "\n".join([f"### {title}", "", *rows, "", *reasons]) + "\n"


def main() -> None:
    """Rewrite the page in place."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
