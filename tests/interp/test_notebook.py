"""`%load_ext interp` in a real IPython shell: what it adds and shows, how it refuses, and that it leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("IPython", reason="IPython is not installed; pip install 'interp-probes[notebook]'")

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from typer.testing import CliRunner

import interp
from interp.cli import app
from interp.runs import registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def shell():
    made = InteractiveShell.instance()  # `display` speaks to this one only
    yield made
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.fixture
def run(shell):
    """Run a cell with the extension loaded: its last value and that value's HTML, what it displayed and printed."""
    shell.run_line_magic("load_ext", "interp")

    def call(cell: str) -> SimpleNamespace:
        with capture_output() as captured:
            result = shell.run_cell(cell)
        shown = [output.data["text/html"] for output in captured.outputs if "text/html" in output.data]
        own = shell.display_formatter.format(result.result)[0].get("text/html")
        return SimpleNamespace(value=result.result, html=shown, own=own, printed=captured.stdout + captured.stderr)

    return call


def magics(shell) -> dict[str, set[str]]:
    return {kind: set(names) for kind, names in shell.magics_manager.magics.items()}


def formatters(shell) -> dict[str, tuple[set[object], set[object]]]:
    found = shell.display_formatter.formatters
    return {kind: (set(one.type_printers), set(one.deferred_printers)) for kind, one in found.items()}


def test_loading_adds_one_magic_and_unloading_leaves_nothing(shell):
    before, shown = magics(shell), formatters(shell)
    shell.run_line_magic("load_ext", "interp")
    assert magics(shell) == {kind: names | {"interp"} for kind, names in before.items()}
    assert formatters(shell) == shown
    shell.run_line_magic("unload_ext", "interp")
    assert magics(shell) == before and formatters(shell) == shown


def test_importing_changes_no_display():
    """In a process of its own: this one has long imported everything."""
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "import pandas\n"
        "shell = InteractiveShell()\n"
        "def state():\n"
        "    found = shell.display_formatter.formatters\n"
        "    printers = {kind: (dict(one.type_printers), dict(one.deferred_printers)) for kind, one in found.items()}\n"
        "    magics = {kind: set(names) for kind, names in shell.magics_manager.magics.items()}\n"
        "    return printers, pandas.DataFrame._repr_html_, magics\n"
        "before = state()\n"
        "shell.run_cell('import interp, probes', silent=True)\n"
        "assert shell.user_ns['interp'].__name__ == 'interp'\n"
        "assert state() == before\n"
        "print('unchanged')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("unchanged"), done.stderr


def test_a_probe_returns_its_frame_and_shows_figure_and_tokens(run):
    done = run('%interp logit_lens --model reference "Once upon a time" --layers [0,8]')
    assert done.value["layer"].unique().tolist() == [0, 8]
    figure, tokens = done.html[:2]  # then the frame itself, as pandas shows it
    assert '<img alt="Figure of logit_lens' in figure and "data:image/svg+xml" in figure
    assert "layer 0, sublayer pre" in tokens and "target_id" not in tokens and " time</span>" in tokens
    assert not any(script in figure + tokens for script in ("<script", "http:", "https:"))


def test_an_assignment_takes_the_frame(run):
    done = run('frame = %interp top_tokens "Once upon" --k 2\nframe["k"].max()')
    assert done.value == 1


def test_attributions_are_shown_as_tokens_alone(run):
    done = run('%interp normxlogit "Once upon a time"')
    assert sum("<img" in one for one in done.html) == 0
    assert "position 1:" in done.html[0]


def test_a_cell_holds_a_text_a_line(run):
    done = run("%%interp logit_lens --positions -1 --targets argmax\nOnce upon a\u2028time\n\nThere was a king")
    assert done.value["prompt_id"].unique().tolist() == [0, 1]


def test_variables_serve_as_model_and_texts(run, shell, small_subject):
    shell.user_ns |= {"mine": small_subject("gpt2", "bridge"), "some": ["w5 w6 w7", "w8 w9"]}
    done = run("%interp logit_lens --model mine --data some")
    assert done.value["model"].unique().tolist() == [shell.user_ns["mine"].name]
    assert done.value["prompt_id"].nunique() == 2


def test_a_model_is_loaded_once(run, monkeypatch):
    loaded = []

    def load(name, **more):
        loaded.append(name)
        return interp.load(name)

    monkeypatch.setattr("interp.notebook.load_model", load)
    for _ in range(2):
        run('%interp top_tokens "Once"')
    assert loaded == ["reference"]


def test_probes_are_listed(run):
    listed = run("%interp probes").value
    assert sorted(listed["probe"]) == registry.names()
    printed = json.loads(CliRunner().invoke(app, ["probes", "--json"]).stdout)
    assert [set(row) - {"rows"} for row in printed] == [set(listed.columns)] * len(printed)  # --json has one more
    assert listed["what it does"].tolist() == [row["what it does"] for row in printed]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%interp", "name a probe: "),
        ('%interp logit_lense "a"', "did you mean 'logit_lens'"),
        ("%interp logit_lens", "give texts"),
        ('%interp logit_lens "a" --data prompts', "give texts"),
        ('%interp logit_lens "a', "quotation mark is not closed"),
        ('%interp logit_lens "a" --model refrence', "did you mean 'reference'"),
        ('%interp logit_lens "a" --layer 3', "did you mean 'layers'"),
        ('%interp logit_lens "a" --layers 9', "layers run from 0 to 8"),
        ('%interp logit_lens "a" --layers', "--layers has no value"),
        ('%interp neuron_kinds "a"', "reads weights only; leave the texts out"),
        ("%interp probes now", "takes nothing else"),
        ('%interp findings "a"', "takes --model and --backend"),
        ("%interp logit_lens --data promts", "did you mean 'prompts'"),
    ],
)
def test_bad_input_is_one_sentence(run, line, words):
    done = run(line)
    assert done.value is None and words in done.printed
    assert done.printed.startswith("UsageError: ") and done.printed.count("\n") == 1
    assert "Traceback" not in done.printed


def test_a_frame_shows_itself_through_its_accessor(run):
    done = run("import interp, probes\nframe = probes.logit_lens('reference', ['Once upon a time'])\nframe.interp")
    for words in ("logit_lens", "45 rows", "1 texts of 5 tokens", "layer 8", "kl_to_final", "the model&#39;s output"):
        assert words in done.own
    assert "<script" not in done.own


def test_texts_of_models_are_escaped(run):
    done = run('%interp normxlogit "<script>alert(1)</script> <b>&amp;"')
    shown = done.html[0]
    assert "&lt;</span>" in shown and "&amp;</span>" in shown
    assert "<script" not in shown and "<b>" not in shown
