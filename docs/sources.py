"""Build the pages that are not written in `pages/`: the README, the notebooks, the cards and the docstrings."""

from __future__ import annotations

import importlib
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from readme_table import FAMILIES, ROOT, docstring, probes_of, table

from interp.display.text import short_citation
from interp.runs.registry import Probe


def subpackages(package: Path) -> list[Path]:
    """Return the folders of a family that hold modules."""
    return sorted(path.parent for path in package.glob("*/__init__.py"))


def public_modules(package: Path) -> list[Path]:
    """Return the modules of a family that a user may want to read about, its figures and claims aside."""
    found = sorted(package.glob("*.py"))
    return [path for path in found if not path.stem.startswith("_") and path.stem not in ("plots", "claims")]


@cache
def exports(package: str) -> list[griffe.Alias]:
    """Return the names in a package's `__all__` that it imports from elsewhere."""
    loaded = griffe.load(package, search_paths=[ROOT], resolve_aliases=True)
    members = (loaded.members[name] for name in loaded.exports or ())
    return [one for one in members if isinstance(one, griffe.Alias)]


GUIDES = ROOT / "docs" / "pages"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CARDS = sorted((ROOT / "datasets").glob("*/README.md"))
AUTHORING = "interp.authoring"
MODULES = {
    "Writing a probe": [AUTHORING, "interp.display.plotting"],
    "Models": [
        "interp.model.loading",
        "interp.model.subject",
        "interp.model.tokens",
        "interp.tokenization",
        "interp.scorecard",
        "interp.model.sites",
        "interp.model.tape",
        "interp.model.schedules",
        "interp.model.generation",
        "interp.model.prefix",
        "interp.model.readout",
        "interp.planted",
    ],
    "Frames": ["interp.runs.accessor", "interp.stats", "interp.options", "interp.data.shipped"],
    "Findings": ["interp.findings", "interp.pytest_plugin.finding", "interp.report.page", "interp.notebook"],
}
_HOMES = {name.final_target.module.path for name in exports(AUTHORING)}
MODULES["Writing a probe"] += sorted(_HOMES.difference(*MODULES.values()))
PACKAGES = [folder for family in FAMILIES for folder in (family, *subpackages(family))]
CODE = {*PACKAGES, *(module for package in PACKAGES for module in public_modules(package))}
CODE |= {(ROOT / name.replace(".", "/")).with_suffix(".py") for names in MODULES.values() for name in names}
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lay the navigation out: notebooks and probes are whatever there is."""
    written = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    config.nav = [
        {"Home": "README.md"},
        {"Guides": written},
        {"Notebooks": [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]},
        {"Probes": [{"All probes": "probes.md"}, *map(_family_nav, FAMILIES)]},
        {"Reference": [{part: [{name: _page(name)} for name in names]} for part, names in MODULES.items()]},
        {"Data": [{path.parent.name: path.relative_to(ROOT).as_posix()} for path in CARDS]},
        {"Changes": "CHANGELOG.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages where the repository has their sources, so that links between these lead on."""
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *CARDS, *GUIDES.glob("*.md")):
        text = path.read_text("utf-8")
        _add(files, config, _uri(path), text)
        for target in _linked_files(path, text):
            _add(files, config, _uri(target), target.read_bytes())
    for path in NOTEBOOKS:
        body, figures = _as_markdown(path)
        _add(files, config, f"notebooks/{path.stem}.md", body)
        for name, figure in figures.items():
            _add(files, config, f"notebooks/{name}", figure)
    for package in PACKAGES:
        _add(files, config, _uri(package), _family_page(package))
        for module in public_modules(package):
            _add(files, config, _uri(module), _module_page(_name(module)))
    _add(files, config, "probes.md", f"# All probes\n\n{table()}")
    for name in (name for names in MODULES.values() for name in names):
        text = f"{_options(members=False)}\n\n{_names(name)}" if name == AUTHORING else ""
        _add(files, config, _page(name), f"# {name}\n\n::: {name}{text}\n")
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links where the site has what they mean: a notebook's page, a probe's, a guide beside the README."""
    uri = page.file.src_uri
    if uri == "README.md":
        page.meta["hide"] = ["navigation"]  # it has no pages beside it, and wide tables
    folder = GUIDES if (GUIDES / uri).is_file() else (ROOT / uri).parent

    def lead(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        return posixpath.relpath(_uri(target), posixpath.dirname(uri)) if target.exists() else link[1]

    return _LINK.sub(lead, markdown)


# Probes --------------------------------------------------------------------------------------------------------------


def _family_nav(package: Path) -> dict[str, list[Any]]:
    modules = [{module.stem: _uri(module)} for module in public_modules(package)]
    return {package.name: [_uri(package), *modules, *map(_family_nav, subpackages(package))]}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _page(name: str, suffix: str = ".md") -> str:
    return f"reference/{name.replace('.', '/')}{suffix}"


def _family_page(package: Path) -> str:
    """Introduce a family by its docstring, and list its modules, figures and claims."""
    parts = [f"# {package.name}", docstring(package / "__init__.py")]
    listed = [(module.stem, f"{module.stem}.md", docstring(module)) for module in public_modules(package)]
    listed += [(f"{one.name}/", f"{one.name}/index.md", docstring(one / "__init__.py")) for one in subpackages(package)]
    parts.append("\n".join(f"- [`{name}`]({page}): {text.splitlines()[0]}" for name, page, text in listed))
    if (package / "plots.py").is_file():
        parts.append(f"## Figures\n\n::: {_name(package)}.plots{_options(heading_level=3)}")
    if (package / "claims.py").is_file():
        parts.append(f"## Claims\n\n{_claims_table(package)}")
    return "\n\n".join(parts) + "\n"


def _module_page(name: str) -> str:
    """Document what a module offers, and the columns of its probes' frames."""
    probes = probes_of(name)
    offered = [one.name for one in exports("probes") if one.target_path.startswith(f"{name}.")]
    offered += [one.summarise.__name__ for one in probes if one.summarise.__module__ == name]
    only = _options(members=offered) if offered else ""
    tables = [f"## Columns of `{probe.name}`\n\n{_columns_table(probe)}" for probe in probes]
    return "\n\n".join([f"# {name.rpartition('.')[2]}", f"::: {name}{only}", *tables]) + "\n"


def _options(**options: Any) -> str:
    return "\n    options:" + "".join(f"\n      {name}: {value}" for name, value in options.items())


def _columns_table(probe: Probe) -> str:
    schema = probe.schema
    rows = [(f"`{row.column}`", row.type, row.unit, row.meaning) for row in schema.describe().itertuples(index=False)]
    return f"One row: {schema.rows}. Paper: {schema.paper}.\n\n{_markdown(('column', 'type', 'unit', 'meaning'), rows)}"


def _claims_table(package: Path) -> str:
    claims = importlib.import_module(f"{_name(package)}.claims").CLAIMS
    rows = [(f"`{one.id}`", one.statement, str(one.comparison), short_citation(one.paper)) for one in claims]
    return _markdown(("claim", "statement", "held against", "paper"), rows)


def _names(module: str) -> str:
    """List every name that a module passes on, each linked to where it is documented."""
    rows = []
    for one in exports(module):
        target = one.final_target
        if target.docstring:
            place, text = f"[{target.path}]", target.docstring.value
        else:  # a type or an object, which its module's docstring explains
            place, text = f"({_beside(module, target.module.path)})", target.module.docstring.value
        rows.append((f"[`{one.name}`]{place}", " ".join(text.partition("\n\n")[0].split())))
    return _markdown(("name", "what it is"), rows)


def _beside(page: str, other: str) -> str:
    """Return the link from one module's page to another's."""
    return posixpath.relpath(_page(other), posixpath.dirname(_page(page)))


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


# The rest ------------------------------------------------------------------------------------------------------------


def _add(files: Files, config: MkDocsConfig, uri: str, content: str | bytes) -> None:
    if uri not in files.src_uris:
        files.append(File.generated(config, uri, content=content))


def _uri(path: Path) -> str:
    """Return where the site has a file or a family's folder of the repository."""
    if path.parent == GUIDES:
        return path.name
    if path in CODE:
        return _page(_name(path), "/index.md" if path.is_dir() else ".md")
    return re.sub(r"\.ipynb$", ".md", path.relative_to(ROOT).as_posix())


def _linked_files(page: Path, text: str) -> Iterator[Path]:
    """Yield the figures and code beside a page; what is missing is left for mkdocs to complain about."""
    for link in _LINK.findall(text):
        target = (page.parent / link).resolve()
        if target.is_file() and target not in CODE and target.suffix not in (".md", ".ipynb"):
            yield target


def _as_markdown(notebook: Path) -> tuple[str, dict[str, bytes]]:
    resources = {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    body, resources = MarkdownExporter().from_filename(str(notebook), resources=resources)
    return body, resources["outputs"]
