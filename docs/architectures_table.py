"""Write the table of supported architectures from the table of the tests: `make readme`."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from layout import GUIDES, ROOT
from readme_table import between

PAGE = GUIDES / "architectures.md"
TESTS = ROOT / "tests" / "interp" / "model" / "architectures.py"
BEGIN, END = "<!-- architectures: written by `make readme` -->\n", "<!-- until here: architectures -->\n"


def tested() -> ModuleType:
    """Load the table of the tests, which is a module of no package."""
    spec = importlib.util.spec_from_file_location("tested_architectures", TESTS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def page(text: str) -> str:
    """Return the page with its table made again."""
    return between(text, BEGIN, END, table(tested()), PAGE.name)


def table(tests: ModuleType) -> str:
    """Return a row for each architecture, by name, and how many there are."""
    rows = sorted(tests.TABLE, key=lambda one: one.name)
    both = sum(not one.refused for one in rows)
    lines = [
        f"{len(rows)} rows of {len({one.model_type for one in rows})} model types, {both} of them on both backends.",
        "",
        "| `model_type` | example of | TransformerLens | nnsight | what a block's attention and MLP add |",
        "|---|---|---|---|---|",
    ]
    for one in rows:
        example = one.name.removeprefix(one.model_type).removeprefix("-").replace("-", " ") or "its defaults"
        backends = " | ".join(_on(tests, one, kind) for kind in ("bridge", "nnsight"))
        lines.append(f"| `{one.model_type}` | {example} | {backends} | {_branches(tests, one)} |")
    return "\n".join(lines) + "\n"


def _on(tests: ModuleType, one: Any, kind: str) -> str:
    if kind not in one.refused:
        return "yes"
    if one.refused[kind] == tests.NO_BRIDGE:
        return "no adapter"
    return f"refused: “{one.refused[kind]}”"


def _branches(tests: ModuleType, one: Any) -> str:
    if {"bridge", "nnsight"} <= set(one.refused):
        return "–"
    if not one.branches:
        return "yes"
    why = {tests.NOT_SHOWN: "not shown in some block", tests.NOT_A_SUM: "not what the block adds"}
    return "refused: " + ", or ".join(said for words, said in why.items() if words in one.branches)


def main() -> None:
    """Rewrite the page in place."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
