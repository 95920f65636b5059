"""Pages of the site that are not written in `pages/`: the README, the notebooks, the cards and the docstrings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CARDS = sorted((ROOT / "datasets").glob("*/README.md"))
MODULES = {
    "Models": (
        "interp.model.loading",
        "interp.model.subject",
        "interp.model.sites",
        "interp.model.tape",
        "interp.model.schedules",
    ),
    "Frames": ("interp.frames", "interp.runs.accessor", "interp.runs.registry", "interp.runs.run", "interp.options"),
    "Findings": ("interp.findings", "interp.pytest_plugin.finding", "interp.report", "interp.notebook"),
    "Statistics": ("interp.model.readout", "interp.stats", "interp.model.tokens", "interp.planted"),
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lay the navigation out: notebooks and probes are whatever there is."""
    written = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    config.nav = [
        {"Home": "README.md"},
        {"Guides": written},
        {"Notebooks": [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]},
        {"Probes": [{name.partition(".")[2]: f"reference/{name}.md"} for name in _probe_modules()]},
        {"Reference": [{part: [{name: f"reference/{name}.md"} for name in names]} for part, names in MODULES.items()]},
        {"Data": [{path.parent.name: path.relative_to(ROOT).as_posix()} for path in CARDS]},
        {"Changes": "CHANGELOG.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages where the repository has their sources, so that links between these lead on."""
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *CARDS):
        text = path.read_text("utf-8")
        _add(files, config, path.relative_to(ROOT).as_posix(), text)
        for target in _linked_files(path, text):
            _add(files, config, target.relative_to(ROOT).as_posix(), target.read_bytes())
    for path in NOTEBOOKS:
        body, figures = _as_markdown(path)
        _add(files, config, f"notebooks/{path.stem}.md", body)
        for name, figure in figures.items():
            _add(files, config, f"notebooks/{name}", figure)
    for name in (*_probe_modules(), *(name for names in MODULES.values() for name in names)):
        _add(files, config, f"reference/{name}.md", f"# {name}\n\n::: {name}\n")
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead links where the site has what they mean: a notebook's page, a guide beside the README."""
    return _LINK.sub(_to_page, markdown)


def _add(files: Files, config: MkDocsConfig, uri: str, content: str | bytes) -> None:
    if uri not in files.src_uris:
        files.append(File.generated(config, uri, content=content))


def _to_page(link: re.Match[str]) -> str:
    return re.sub(r"\.ipynb$", ".md", link[1]).removeprefix("docs/pages/").removeprefix("../../")


def _linked_files(page: Path, text: str) -> Iterator[Path]:
    """Figures and code beside the pages; what is missing is left for mkdocs to complain of."""
    for link in _LINK.findall(text):
        target = (page.parent / link).resolve()
        if target.is_file() and target.suffix not in (".md", ".ipynb"):
            yield target


def _as_markdown(notebook: Path) -> tuple[str, dict[str, bytes]]:
    resources = {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    body, resources = MarkdownExporter().from_filename(str(notebook), resources=resources)
    return body, resources["outputs"]


def _probe_modules() -> list[str]:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["interp.probes"]
    return sorted({function.partition(":")[0] for function in points.values()})
