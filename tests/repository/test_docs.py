"""Check what the documentation covers, without building it: `make docs` does that, and fails at a broken link."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import probes

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def of_docs():
    """Import a module of `docs/`, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        yield importlib.import_module


@pytest.mark.parametrize("package", ["interp", "interp.authoring", "probes"])
def test_the_reference_covers_every_public_name(of_docs, package):
    layout = of_docs("layout")
    homes = layout.homes(package)
    assert sorted(homes) == sorted(importlib.import_module(package).__all__)
    pages = {name for names in layout.MODULES.values() for name in names}
    pages |= {layout.module_name(path) for path in layout.CODE}
    assert set(homes.values()) <= pages
    assert set(layout.INDEXES) <= pages  # each lists its names


@pytest.mark.parametrize("probe", probes.PROBES, ids=lambda probe: probe.__name__)
def test_every_probe_says_what_it_costs_and_how_it_misleads(probe):
    said = re.findall(r"^(Cost|Pitfall)\b.{10}", inspect.getdoc(probe), flags=re.MULTILINE)
    assert sorted(said) == ["Cost", "Pitfall"]


def test_the_architectures_are_those_of_the_tests(of_docs):
    table = of_docs("architectures_table")
    page = table.PAGE.read_text("utf-8")
    assert table.page(page) == page, "run `make readme`"
    _, *rows = re.findall(r"^\| `(\w[\w-]*)` \| .* \|$", page, flags=re.MULTILINE)
    assert sorted(rows) == sorted(one.model_type for one in table.tested().TABLE)
    assert "| `falcon` | rw | refused: “rebuilds 'FalconForCausalLM'” | yes | yes |" in page


def test_the_readme_is_a_screen_with_one_picture_and_six_findings():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 90
    assert len(re.findall(r"!\[", readme)) == 1
    _, _, findings = readme.partition("| claim |")
    assert len(re.findall(r"^\| [a-z]", findings.partition("<!--")[0], flags=re.MULTILINE)) == 6


def test_the_citation_is_of_this_version():
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {PROJECT['version']}\nlicense: {PROJECT['license']}\n" in cited


def test_links_of_the_readme_are_absolute_where_pypi_shows_it():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = "![a](x/y.png) [b](docs/c.md) [d](https://e.org) [f](#g)"
    where = {"GITHUB_SERVER_URL": "https://git.example", "GITHUB_REPOSITORY": "us/it", "GITHUB_SHA": "0a1"}
    assert hook.absolute(text, {}) == text
    assert hook.absolute(text, where) == (
        "![a](https://git.example/us/it/raw/0a1/x/y.png) [b](https://git.example/us/it/blob/0a1/docs/c.md) "
        "[d](https://e.org) [f](#g)"
    )
    readme = hook.absolute((ROOT / "README.md").read_text("utf-8"), where)
    assert not re.findall(r"\]\((?!https://)", readme)
