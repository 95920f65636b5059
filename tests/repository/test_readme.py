"""What the README shows is run as it stands there."""

import importlib.util
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
    """The script of `make readme`, as a module."""
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "docs" / "readme_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_python_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in snippets(README):
        exec(compile(snippet, "README.md", "exec"), names)
    assert "kl_to_final" in names["frame"].columns
    assert names["sureness"](names["subject"], ["Once upon a time"])["prob"].between(0, 1).all()


def test_the_guide_of_sweeps_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in snippets((GUIDES / "sweeps.md").read_text("utf-8")):
        exec(compile(snippet, "sweeps.md", "exec"), names)
    assert len(names["rows"]) == 24


def test_the_claim_of_the_guide_is_one():
    names: dict[str, object] = {}
    exec(compile(snippets((GUIDES / "findings.md").read_text("utf-8"))[0], "findings.md", "exec"), names)
    claim = names["SURE"]
    frame = registry.get(claim.probe).function("reference", ["Once upon a time"], **claim.parameters)
    assert claim.statistic(frame).between(0, 1).all()


@pytest.mark.parametrize("page", [ROOT / "README.md", GUIDES / "findings.md"], ids=lambda path: path.name)
def test_findings_shown_as_tests_pass_as_tests(pytester, page):
    (snippet,) = (one for one in snippets(page.read_text("utf-8")) if "mark.finding" in one)
    pytester.makepyfile(test_shown=snippet)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "--interp-update").assert_outcomes(passed=1)


def test_the_probe_shown_is_the_example_plugins():
    (shown,) = (one for one in snippets(README) if "@probe" in one)
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
    table = set(re.findall(r"^\| \[`(\w+)`\]", README, flags=re.MULTILINE))
    ours = {name for name in registry.names() if registry.get(name).function.__module__.startswith("probes.")}
    assert table == ours


def test_the_table_of_probes_is_the_one_that_make_readme_writes(readme_table):
    assert readme_table.updated(README) == README, "run `make readme`"
    row = re.search(r"^\| \[`logit_lens`\].*\n", README, flags=re.MULTILINE)[0]
    assert readme_table.updated(README.replace(row, "")) == README


def test_a_readme_without_marks_is_refused(readme_table):
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
