"""What the README shows is run as it stands there."""

import importlib
import re
from pathlib import Path

import numpy as np
import pandas as pd

# Imported here, as the runs below are in this process and forget what they were the first to import.
import pandera.pandas  # noqa: F401
import pytest

import interp.findings
import interp.model.backends.bridge
import probes  # noqa: F401
from interp.runs import registry

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "pages"
PAPERS = ("https://arxiv.org/abs/", "https://www.lesswrong.com/posts/")
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def readme_table():
    """The first script of `make readme`, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        return importlib.import_module("readme_table")


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_python_snippets_run(tmp_path, monkeypatch):
    names = run_snippets(ROOT / "README.md", tmp_path, monkeypatch)
    assert "kl_to_final" in names["frame"].columns


def run_snippets(page: Path, folder: Path, monkeypatch) -> dict[str, object]:
    """Run a page's Python in a folder, one snippet after the other, tests aside; return the names.

    The options that a page sets are put back, since the tests that follow run in this process too.
    """
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    with interp.options.local():
        for snippet in snippets(page.read_text("utf-8")):
            if "mark.finding" not in snippet:
                exec(compile(snippet, page.name, "exec"), names)
    return names


def test_a_page_leaves_the_options_as_they_were(tmp_path, monkeypatch):
    """It was not so: a page's smaller memory reached whatever ran next."""
    page = tmp_path / "page.md"
    page.write_text("```python\nimport interp\ninterp.options.memory = 1 << 20\n```\n", "utf-8")
    before = interp.options.memory
    run_snippets(page, tmp_path, monkeypatch)
    assert interp.options.memory == before


# Contributing shows files, which `test_contributing.py` adds to a copy of the repository.
WITH_PYTHON = [page for page in sorted(GUIDES.glob("*.md")) if "```python\n" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_guides_run(page, tmp_path, monkeypatch):
    """Each on its own; and what a guide says of its numbers is so."""
    names = run_snippets(page, tmp_path, monkeypatch)
    if page.stem == "sweeps":
        assert len(names["rows"]) == 24
    if page.stem == "probe":
        assert names["sureness"](names["frame"].model[0], ["Once upon a time"])["prob"].between(0, 1).all()
    if page.stem == "claim":
        assert names["found"]["state"].item() == names["verdict"].state == "undecided"


def test_the_claim_of_the_guide_is_one():
    names: dict[str, object] = {}
    exec(compile(snippets((GUIDES / "findings.md").read_text("utf-8"))[0], "findings.md", "exec"), names)
    claim = names["SURE"]
    frame = registry.get(claim.probe).function("reference", ["Once upon a time"], **claim.parameters)
    assert claim.statistic(frame).between(0, 1).all()


@pytest.mark.parametrize("page", [GUIDES / "claim.md", GUIDES / "findings.md"], ids=lambda path: path.name)
def test_findings_shown_as_tests_pass_as_tests(pytester, page):
    (snippet,) = (one for one in snippets(page.read_text("utf-8")) if "mark.finding" in one)
    pytester.makepyfile(test_shown=snippet)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "--interp-update").assert_outcomes(passed=1)


def test_the_probe_shown_is_the_example_plugins():
    (shown,) = (one for one in snippets((GUIDES / "probe.md").read_text("utf-8")) if "@probe" in one)
    lines = [line for line in (ROOT / "tests/example_plugin/example_plugin.py").read_text("utf-8").splitlines() if line]
    asked = [line for line in shown.splitlines() if line]
    assert [line for line in lines if line in asked] == asked
    assert len(asked) <= 20
    imported = [line for line in asked if "import" in line]
    assert imported and all(line.startswith("from interp.authoring import ") for line in imported)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_every_installed_probe_of_ours_is_in_the_table():
    table = set(re.findall(r"^\| \[`(\w+)`\]", (GUIDES / "probes.md").read_text("utf-8"), flags=re.MULTILINE))
    ours = {name for name in registry.names() if registry.get(name).function.__module__.startswith("probes.")}
    assert table == ours


def test_the_table_of_probes_is_the_one_that_make_readme_writes(readme_table):
    page = readme_table.PAGE.read_text("utf-8")
    assert readme_table.updated(page) == page, "run `make readme`"
    row = re.search(r"^\| \[`logit_lens`\].*\n", page, flags=re.MULTILINE)[0]
    assert readme_table.updated(page.replace(row, "")) == page


def test_a_page_without_marks_is_refused(readme_table):
    with pytest.raises(SystemExit, match="put them around the table"):
        readme_table.updated("# interp\n")


def test_papers_are_linked_to_where_they_can_be_read(readme_table):
    two = "DeYoung et al. (2020), ERASER, arXiv 1911.03429; nostalgebraist (2020), LessWrong AcKRB8wDpdaN6v6ru"
    assert readme_table.citations(two) == (
        "[DeYoung et al. 2020](https://arxiv.org/abs/1911.03429); "
        "[nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru)"
    )
    assert readme_table.citations("of each method; see there") == "of each method"


@pytest.fixture(scope="module")
def findings_table():
    """The second script of `make readme`, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        return importlib.import_module("findings_table")


def test_the_matrices_of_findings_are_those_that_make_readme_writes(findings_table):
    page = findings_table.PAGE.read_text("utf-8")
    assert findings_table.page(page) == page, "run `make readme`"
    assert findings_table.readme(README) == README, "run `make readme`"


def test_the_costs_are_those_that_make_readme_writes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    costs_table = importlib.import_module("costs_table")
    page = costs_table.PAGE.read_text("utf-8")
    assert costs_table.page(page) == page, "run `make readme`"


def test_every_claim_of_ours_is_in_the_matrix(findings_table):
    matrix, _, _ = findings_table.PAGE.read_text("utf-8").partition("## Reasons")
    rows = re.findall(r"^\| ([^|`]+) \| .* \|$", matrix, flags=re.MULTILINE)[1:]
    assert sorted(rows) == sorted(interp.findings.get(id).statement for id in interp.findings.names())


def test_probes_and_claims_are_counted():
    ours = [name for name in registry.names() if registry.get(name).function.__module__.startswith("probes.")]
    assert f"[{len(ours)} probes]" in README
    assert f"[{len(interp.findings.names())} claims]" in README


def test_a_claim_without_a_verdict_is_shown_as_not_run(findings_table):
    """And a verdict is shown with its reason, of which Markdown changes nothing."""
    row = {
        "state": "holds",
        "effect": 0.5,
        "low": 0.4,
        "high": 0.6,
        "control_effect": np.nan,
        "n": 9,
        "comparison": ">= 0.72",
    }
    more = {"unit": "prompts", "reason": "a < b | c_d"}
    frame = pd.DataFrame([row | more], index=pd.Index(["robustness.delete"], name="claim"))
    skipped = frame.assign(state="skipped", effect=np.nan, reason="no blocks")
    table = findings_table.matrix({"one": frame, "two": skipped}, ("robustness.delete", "robustness.swap"))
    *_, first, second = table.splitlines()
    assert first.endswith("| **holds**: 0.50 [0.40, 0.60] >= 0.72, 9 prompts | skipped |")
    assert second.endswith("| not run | not run |")
    said = findings_table.reasons({"one": frame, "two": skipped})
    assert r"- *holds*, `robustness.delete`: a &lt; b \| c\_d" in said
    assert "- *skipped*, `robustness.delete`: no blocks" in said and "- *not run yet*: `" in said
    answers = findings_table.answers({"one": frame, "two": skipped}).splitlines()
    statement = interp.findings.get("robustness.delete").statement
    assert f"- {statement}: one **holds** (0.50 [0.40, 0.60] >= 0.72), two **skipped**" in answers
    assert f"- {interp.findings.get('robustness.swap').statement}: not run" in answers


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES.glob("*.md")], ids=lambda path: path.name
)
def test_linked_files_exist(page):
    """All links lead to files, but for those of the papers."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert target.startswith(PAPERS) or (page.parent / target).exists(), target
