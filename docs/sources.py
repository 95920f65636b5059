"""Build the pages that are not written in `pages/`: of the README, notebooks, cards, probes and docstrings."""

from __future__ import annotations

import importlib
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
import probe_pages
from layout import (
    CARDS,
    CODE,
    FAMILIES,
    GUIDES,
    INDEXES,
    MODULES,
    NOTEBOOKS,
    PACKAGES,
    REFERENCE,
    ROOT,
    docstring,
    module_name,
    public_modules,
    subpackages,
)
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from probe_pages import markdown
from readme_table import first_clause, probes_of

from interp.display.text import short_citation

_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")
GUIDE_ORDER = (
    "your-model", "memory", "chat", "coming-from", "comparing", "figures", "tokenizers", "saving", "sweeps", "findings",
    "claim", "probe", "sites", "attribution", "known-answers", "architectures", "guarantees", "costs", "speed", "found",
    "models", "contributing",
)  # fmt: skip
"""The guides in the order of the navigation; a page that is not named here comes last."""


@cache
def exports(package: str) -> list[griffe.Alias]:
    """Return the names in a package's `__all__` that it imports from elsewhere."""
    loaded = griffe.load(package, search_paths=[ROOT], resolve_aliases=True)
    members = (loaded.members[name] for name in loaded.exports or ())
    return [one for one in members if isinstance(one, griffe.Alias)]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lay the navigation out: notebooks and probes are whatever there is."""
    order = {f"{name}.md": place for place, name in enumerate(GUIDE_ORDER)}
    pages = {path.name for path in Path(config.docs_dir).glob("*.md")} - {"probes.md"}
    written = sorted(pages, key=lambda name: (order.get(name, len(order)), name))
    config.nav = [
        {"Home": "README.md"},
        {"Guides": written},
        {"Notebooks": [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]},
        {"Probes": [{"All probes": "probes.md"}, *map(_probes_nav, FAMILIES)]},
        {
            "Reference": [
                *({part: [{name: _page(name)} for name in names]} for part, names in MODULES.items()),
                {"Families": [*map(_family_nav, FAMILIES)]},
            ]
        },
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
            _add(files, config, _page(module_name(module)), _module_page(module_name(module)))
    for probe in probe_pages.ours().values():
        uri = probe_pages.uri(probe)
        reference = posixpath.relpath(_page(probe.function.__module__), posixpath.dirname(uri))
        text, figure = probe_pages.page(probe, reference)
        _add(files, config, uri, text)
        if figure is not None:
            _add(files, config, uri.replace(".md", ".png"), figure)
    for name in (name for names in MODULES.values() for name in names):
        text = f"{_options(members=False)}\n\n{_names(name)}" if name in INDEXES else ""
        _add(files, config, _page(name), f"# {name}\n\n::: {name}{text}\n")
    _add(files, config, "llms.txt", _llms(config))
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


def _probes_nav(package: Path) -> dict[str, list[Any]]:
    pages = [{one.name: probe_pages.uri(one)} for one in probes_of(module_name(package))]
    return {package.name: [_uri(package), *pages]}


def _family_nav(package: Path) -> dict[str, list[Any]]:
    modules = [{module.stem: _page(module_name(module))} for module in public_modules(package)]
    inner = [_uri(package)] if package.parent not in (ROOT / "probes",) else []
    return {package.name: [*inner, *modules, *map(_family_nav, subpackages(package))]}


def _page(name: str, suffix: str = ".md") -> str:
    return f"reference/{name.replace('.', '/')}{suffix}"


def _family_page(package: Path) -> str:
    """Introduce a family by its docstring, and list its modules, figures and claims."""
    parts = [f"# {package.name}", docstring(package / "__init__.py")]
    listed = [(module.stem, f"{module.stem}.md", docstring(module)) for module in public_modules(package)]
    listed += [(f"{one.name}/", f"{one.name}/index.md", docstring(one / "__init__.py")) for one in subpackages(package)]
    parts.append("\n".join(f"- [`{name}`]({page}): {text.splitlines()[0]}" for name, page, text in listed))
    if (package / "plots.py").is_file():
        parts.append(f"## Figures\n\n::: {module_name(package)}.plots{_options(heading_level=3)}")
    if (package / "claims.py").is_file():
        parts.append(f"## Claims\n\n{_claims_table(package)}")
    return "\n\n".join(parts) + "\n"


def _module_page(name: str) -> str:
    """Document what a module offers, and lead to the pages of its probes."""
    probes = probes_of(name)
    offered = [one.name for one in exports("probes") if one.target_path.startswith(f"{name}.")]
    offered += [one.summarise.__name__ for one in probes if one.summarise.__module__ == name]
    only = _options(members=offered) if offered else ""
    here = posixpath.dirname(_page(name))
    links = (f"[`{one.name}`]({posixpath.relpath(probe_pages.uri(one), here)})" for one in probes)
    more = [f"Rows, figure, columns and cost: {', '.join(links)}."] if probes else []
    return "\n\n".join([f"# {name.rpartition('.')[2]}", *more, f"::: {name}{only}"]) + "\n"


def _options(**options: Any) -> str:
    return "\n    options:" + "".join(f"\n      {name}: {value}" for name, value in options.items())


def _claims_table(package: Path) -> str:
    claims = importlib.import_module(f"{module_name(package)}.claims").CLAIMS
    rows = [(f"`{one.id}`", one.statement, str(one.comparison), short_citation(one.paper)) for one in claims]
    return markdown(("claim", "statement", "held against", "paper"), rows)


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
    return markdown(("name", "what it is"), rows)


def _beside(page: str, other: str) -> str:
    """Return the link from one module's page to another's."""
    return posixpath.relpath(_page(other), posixpath.dirname(_page(page)))


# The rest ------------------------------------------------------------------------------------------------------------


def _add(files: Files, config: MkDocsConfig, uri: str, content: str | bytes) -> None:
    if uri not in files.src_uris:
        files.append(File.generated(config, uri, content=content))


def _uri(path: Path) -> str:
    """Return where the site has a file or a family's folder of the repository."""
    if path.parent == GUIDES:
        return path.name
    if path in CODE:
        if (page := _probe_page(path)) is not None:
            return page
        if path in REFERENCE:
            return _page(REFERENCE[path])
        return _page(module_name(path), "/index.md" if path.is_dir() else ".md")
    return re.sub(r"\.ipynb$", ".md", path.relative_to(ROOT).as_posix())


def _probe_page(path: Path) -> str | None:
    """Return where the page is of the probe that a file is named after."""
    probe = probe_pages.ours().get(path.stem) if ROOT / "probes" in path.parents else None
    return None if probe is None or probe.function.__module__ != module_name(path) else probe_pages.uri(probe)


def _llms(config: MkDocsConfig) -> str:
    """Return the map of the site for language models, as llmstxt.org describes it."""
    summary = (ROOT / "README.md").read_text("utf-8").split("\n\n")[1]
    lines = [f"# {config.site_name}", "", f"> {' '.join(summary.split())}", "", "## Guides", ""]
    guides = [GUIDES / name for part in config.nav or () for name in part.get("Guides", ())]
    lines += [f"- [{_title(path)}]({path.stem}.html)" for path in guides]
    lines += ["", "## Probes", ""]
    pages = ((one, probe_pages.uri(one).replace(".md", ".html")) for one in probe_pages.ours().values())
    lines += [f"- [{one.name}]({page}): {first_clause(one)}" for one, page in pages]
    lines += ["", "## Reference", ""]
    lines += [f"- [{name}]({_page(name, '.html')})" for names in MODULES.values() for name in names]
    return "\n".join(lines) + "\n"


def _title(path: Path) -> str:
    return path.read_text("utf-8").partition("\n")[0].removeprefix("# ")


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
