"""Write the table of probes in `docs/pages/probes.md` from schemas, docstrings and papers: `make readme`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from layout import FAMILIES, GUIDES, ROOT, docstring

from interp.display.text import short_citation
from interp.runs import registry
from interp.runs.description import question
from interp.runs.registry import Probe

PAGE = GUIDES / "probes.md"
BEGIN, END = "<!-- written by `make readme` -->\n", "<!-- until here -->\n"


def table() -> str:
    """Return the table: a row for each family with its question, below it a row for each probe."""
    rows = ["| probe | what it does | paper |", "|---|---|---|"]
    for family in FAMILIES:
        probes = probes_of(f"probes.{family.name}")
        if probes:
            rows.append(f"| **[{family.name}]({_relative(family)})** | **{_question(family)}** | |")
            rows += [f"| {_link(one)} | {first_clause(one)} | {citations(one.schema.paper)} |" for one in probes]
    return "\n".join(rows) + "\n"


def probes_of(package: str) -> list[Probe]:
    """Return the registered probes of a module, or of a package's modules, by name."""
    known = map(registry.get, registry.names())
    return [one for one in known if f"{one.function.__module__}.".startswith(f"{package}.")]


def first_clause(probe: Probe) -> str:
    """Return the first sentence of a probe's docstring, up to a semicolon, without its full stop."""
    return question(probe).partition(";")[0].rstrip(".").replace("|", r"\|")


def updated(page: str) -> str:
    """Return the page with the table between its two marks made again."""
    return between(page, BEGIN, END, table(), PAGE.name)


def between(text: str, begin: str, end: str, made: str, name: str) -> str:
    """Return a text with what is between two marks replaced."""
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{name} has no lines {begin.strip()!r} and {end.strip()!r}; put them around the table.")
    return f"{before}{begin}\n{made}\n{end}{after}"


def _question(family: Path) -> str:
    text = docstring(family / "__init__.py").partition("\n\n")[0]
    found = re.match(r".+?\?", text, flags=re.DOTALL)
    return found[0] if found else text


def _link(probe: Probe) -> str:
    return f"[`{probe.name}`]({_relative(ROOT / probe.function.__module__.replace('.', '/'))}.py)"


def _relative(path: Path) -> str:
    return Path(os.path.relpath(path, PAGE.parent)).as_posix()


def citations(paper: str) -> str:
    """Return authors and year of each paper that a schema names, linked to where it can be read."""
    parts = re.split(r"; (?=[^;]*\((?:19|20)\d\d\))", paper)
    return "; ".join(map(_citation, parts))


def _citation(paper: str) -> str:
    short = short_citation(paper).partition(";")[0]
    if found := re.search(r"arXiv (\d{4}\.\d{5})", paper):
        return f"[{short}](https://arxiv.org/abs/{found[1]})"
    if found := re.search(r"LessWrong (\w+)", paper):
        return f"[{short}](https://www.lesswrong.com/posts/{found[1]})"
    return short


def main() -> None:
    """Rewrite the page in place."""
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
