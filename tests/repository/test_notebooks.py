"""What a reader of the notebooks relies on, without running them: `make notebooks` does that."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIGURES = ROOT / "notebooks" / "figures"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    """The notebook's PNG figures, in order."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def test_the_tour_is_there():
    assert NOTEBOOKS[0].name == "00_tour.ipynb"


def test_it_is_valid(notebook):
    nbformat.validate(notebook)


def test_it_opens_with_a_question(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\?\n", first.source), first.source.partition("\n")[0]


def test_it_was_executed_once_from_the_top(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))


def test_it_shows_figures_and_neither_errors_nor_warnings(notebook):
    assert pictures(notebook)
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_it_ends_with_its_finding_as_a_test(notebook):
    assert re.search(r"^assert ", code(notebook)[-1].source, flags=re.MULTILINE)


def test_it_names_no_machine(notebook):
    text = nbformat.writes(notebook)
    assert not re.findall(r"/(?:work|root|home|Users|tmp)/[^\s\"']*", text)


def shown_in(page):
    return re.findall(r"\]\((?:\.\./\.\./)?notebooks/figures/(\w+\.png)\)", (ROOT / page).read_text("utf-8"))


def test_the_pictures_of_the_seven_questions_are_those_of_the_tour():
    tour = pictures(nbformat.read(NOTEBOOKS[0], as_version=4))
    assert [(FIGURES / name).read_bytes() for name in shown_in("docs/pages/questions.md")] == tour
    assert shown_in("README.md") == ["logit_lens.png"]
