"""The `interp` command: what it prints, what it writes, and how it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

import interp
from interp.cli import app
from interp.data.shipped import shipped_path
from interp.options import options
from interp.runs import commands, progress, registry


@pytest.fixture
def cli():
    runner = CliRunner()

    def call(*arguments):
        return runner.invoke(app, [str(argument) for argument in arguments])

    return call


def test_probes_lists_the_built_in_ones(cli):
    rows = json.loads(cli("probes", "--json").stdout)
    assert {"logit_lens", "top_tokens"} <= {row["probe"] for row in rows}
    assert all(row["paper"] and row["rows"] for row in rows)


def test_describe_gives_every_column_with_its_meaning(cli):
    described = json.loads(cli("describe", "logit_lens", "--json").stdout)
    columns = {row["column"]: row for row in described["columns"]}
    assert columns["kl_to_final"]["unit"] == "nats"
    assert all(row["meaning"] for row in columns.values())
    assert "kl_to_final" in cli("describe", "logit_lens").stdout


def test_models_names_the_shipped_one(cli):
    assert json.loads(cli("models", "--json").stdout)[0]["model"] == "reference"


def test_run_writes_the_frame_it_sums_up(cli, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("Once upon a time\n\nThere was a king\n")
    out = tmp_path / "frame.parquet"
    asked = "--param", "positions=[-1]", "--param", "targets=argmax"
    done = cli("run", "logit_lens", "--data", texts, "--out", out, *asked, "--json")
    assert done.exit_code == 0, done.output
    frame = pd.read_parquet(out)
    assert frame["prompt_id"].unique().tolist() == [0, 1]
    assert len(frame) == 2 * 9
    assert frame.interp.provenance.loc["probe"].tolist() == ["logit_lens"]
    told = json.loads(done.stdout)
    summary = told["rows"]
    assert told["units"]["kl_to_final"] == "nats"
    assert [run["parameters"]["targets"] for run in told["provenance"].values()] == ["argmax"]
    assert [row["layer"] for row in summary] == list(range(9))
    assert summary[-1]["agrees_final"] == 1.0


@pytest.mark.parametrize(("name", "read"), [("f.csv", pd.read_csv), ("f.json", pd.read_json)])
def test_run_writes_by_the_name_of_the_file(cli, tmp_path, name, read):
    (tmp_path / "t.txt").write_text("Once\n")
    done = cli("run", "top_tokens", "--data", tmp_path / "t.txt", "--out", tmp_path / name, "--param", "k=1")
    assert done.exit_code == 0, done.output
    assert read(tmp_path / name)["layer"].max() == 8


def test_text_parameters_need_no_quotes(cli, tmp_path):
    out = tmp_path / "frame.parquet"
    assert cli("run", "logit_lens", "--out", out, "--param", "targets=argmax", "--param", "positions=-1").exit_code == 0
    assert (pd.read_parquet(out).query("layer == 8")["rank"] == 0).all()


@pytest.mark.parametrize(("name", "content"), [("n.csv", "text\n1984\n"), ("n.jsonl", '{"text": "1984"}\n')])
def test_a_text_of_digits_is_a_text(cli, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    done = cli("run", "logit_lens", "--data", tmp_path / name, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"][0]["n_prompts"] == 1


def test_settings_that_a_probe_passes_on_are_parameters_too(cli):
    """`bigram_subnetwork` hands most of its arguments to `find_subnetwork`."""
    small = {"unit": "head", "steps": 2, "batch": 1, "length": 8, "sparsity": 1}
    given = [part for name, value in small.items() for part in ("--param", f"{name}={value}")]
    done = cli("run", "bigram_subnetwork", *given, "--json")
    assert done.exit_code == 0, done.output
    assert {row["sparsity"] for row in json.loads(done.stdout)["rows"]} == {1.0}
    assert "'fast'" in cli("describe", "bigram_subnetwork").stdout
    assert "did you mean 'steps'" in cli("run", "subnetwork_log", "--param", "stps=2").stderr


def test_brackets_and_colons_of_a_text_are_printed_as_they_are(cli, tmp_path):
    """To rich they are markup and emoji."""
    text = "[/INST] [bold] :smile:"
    done = cli("demo", "--no-subnetwork", "--out", tmp_path / "demo", "--text", text)
    assert done.exit_code == 0, done.output
    assert repr(text) in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "logit_lense"], "did you mean 'logit_lens'"),
        (["run", "logit_lense"], "did you mean 'logit_lens'"),
        (["run", "logit_lens", "--model", "refrence"], "did you mean 'reference'"),
        (["run", "logit_lens", "--data", "promts"], "did you mean 'prompts'"),
        (["run", "logit_lens", "--param", "target=next"], "did you mean 'targets'"),
        (["run", "logit_lens", "--param", "targets"], "--param 'targets' has no '='; write key=value"),
        (["run", "vocabulary", "--data", "prompts"], "--data 'prompts': 'vocabulary' reads no texts; leave it out."),
        (["run", "vocabulary", "--limit", "3"], "--limit 3: 'vocabulary' reads no texts; leave it out."),
        (["run", "logit_lens", "--limit", "0"], "n_prompts=0: give at least 1."),
        (["run", "logit_lens", "--seed", "1"], "--seed 1: 'logit_lens' makes no random choices; leave it out."),
        (["run", "logit_lens", "--memory", "2"], "memory '2' is not a size; write a number and its unit"),
        (["run", "logit_lens", "--example"], "--example: 'logit_lens' runs on texts alone"),
        (["run", "value_clusters"], "or add --example, which takes the probe's own."),
        (["run", "logit_lens", "--param", "layers=[9]"], "layers run from 0 to 8"),
        (["run", "logit_lens", "--param", "targets= zebrafishes"], "not one"),
        (["run", "logit_lens", "--dtype", "float33"], "did you mean 'float32'"),
        (["run", "logit_lens", "--out", "nowhere/frame.parquet"], "does not exist"),
        (["run", "logit_lens", "--backend", "bridges"], "did you mean 'bridge'"),
        (["run", "logit_lens", "--out", "."], "'.' is a folder"),
        (
            ["run", "logit_lens", "--model", "no/such", "--out", "a.xlsx"],
            "'a.xlsx' has no known format; give a name that",
        ),
        (
            ["findings", "--model", "no/such", "--out", "a"],
            "'a' has no known format; give a name that ends with .parquet",
        ),
        (["run", "steer"], "'steer' needs a value for 'neurons'"),
        (["run", "logit_lens", "--data", "columns.csv"], "no column 'text', only ['a', 'b']"),
        (["report", "--data", "columns.csv"], "no column 'text', only ['a', 'b']"),
        (["findings", "--data", "columns.csv"], "no column 'text', only ['a', 'b']"),
        (["findings", "--data", "columns.jsonl"], "no column 'text', only ['a']"),
        (["findings", "--data", "rows.csv"], "no texts were given"),
        (["findings", "--data", "gap.csv"], "'gap.csv' has no text in row 1 but nan"),
        (["run", "logit_lens", "--data", "empty.csv"], "cannot read 'empty.csv' as .csv: No columns"),
        (["run", "logit_lens", "--data", "torn.jsonl"], "cannot read 'torn.jsonl' as .jsonl"),
        (["run", "logit_lens", "--data", "torn.parquet"], "cannot read 'torn.parquet' as .parquet"),
        (["run", "logit_lens", "--data", "bytes.txt"], "cannot read 'bytes.txt' as .txt: 'utf-8' codec"),
        (["demo", "--out", "bytes.txt"], "the folder 'bytes.txt' cannot be created: File exists."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(cli, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "columns.csv": b"a,b\n1,2\n",
        "columns.jsonl": b'{"a": 1}\n',
        "rows.csv": b"text\n",
        "gap.csv": b"text,b\nOnce,1\n,2\n",
        "empty.csv": b"",
        "torn.jsonl": b'{"text": "Onc',
        "torn.parquet": b"PAR1",
        "bytes.txt": b"\xff\xfeO\x00",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = cli(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.output


def test_demo_writes_tables_and_a_figure(cli, tmp_path):
    done = cli("demo", "--no-subnetwork", "--out", tmp_path / "demo")
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"logit_lens.parquet", "top_tokens.parquet", "prompts_logit_lens.parquet", "logit_lens.png"}
    assert all(name in done.stdout for name in written)
    frame = pd.read_parquet(tmp_path / "demo" / "logit_lens.parquet")
    assert (frame.query("layer == 8")["kl_to_final"] == 0).all()


def test_the_version_is_the_packages(cli):
    assert cli("--version").stdout.split() == ["interp", interp.__version__]


def test_probes_say_what_they_ask_need_and_draw(cli):
    rows = {row["probe"]: row for row in json.loads(cli("probes", "--json").stdout)}
    assert rows["steer"]["needs"] == "texts, neurons, alphas" and rows["vocabulary"]["needs"] == ""
    assert rows["logit_lens"]["family"] == "lens" and rows["logit_lens"]["figure"] == "yes"
    assert all(row["what it does"].endswith(".") for row in rows.values())


def test_describe_says_what_each_argument_means_and_what_to_try(cli):
    for name in registry.names():
        described = json.loads(cli("describe", name, "--json").stdout)
        unsaid = [one["argument"] for one in described["arguments"] if not one["meaning"]]
        assert not unsaid, (name, unsaid)
        assert described["example"].startswith(f"interp run {name} ")


def test_claims_lists_those_that_can_be_tested(cli):
    rows = json.loads(cli("claims", "--json").stdout)
    assert [row["claim"] for row in rows] == interp.findings.names()
    assert all(row["statement"] and row["paper"] for row in rows)
    assert [row["reads"] for row in rows] == [interp.findings.get(row["claim"]).reads for row in rows]


def test_several_files_are_read_one_after_the_other(cli, tmp_path):
    for name, text in {"a": "Once\nThere was", "b": "A king"}.items():
        (tmp_path / f"{name}.txt").write_text(f"{text}\n")
    out = tmp_path / "frame.parquet"
    files = "--data", tmp_path / "a.txt", "--data", tmp_path / "b.txt"
    done = cli("run", "top_tokens", *files, "--out", out, "--param", "k=1", "--param", "layers=8")
    assert done.exit_code == 0, done.output
    frame = pd.read_parquet(out).drop_duplicates("prompt_id")
    assert frame["prompt_id"].tolist() == [0, 1, 2]
    assert [Path(name).stem for name in frame["data"]] == ["a", "a", "b"]


def test_a_limit_takes_texts_at_even_distances(cli):
    told = json.loads(cli("run", "logit_lens", "--limit", 3, "--param", "targets=argmax", "--json").stdout)
    assert {row["n_prompts"] for row in told["rows"]} == {3}
    (run,) = told["provenance"].values()
    assert run["n_prompts"] == 3


def test_an_example_stands_in_for_what_is_not_given(cli):
    done = cli("run", "value_clusters", "--example", "--seed", 1, "--json")
    assert done.exit_code == 0, done.output
    (run,) = json.loads(done.stdout)["provenance"].values()
    assert run["seed"] == 1


def test_an_argument_may_be_the_file_that_holds_it(cli, tmp_path):
    """Attributions from a frame, weights from a subnetwork."""
    scores = tmp_path / "scores.parquet"
    asked = "--limit", 2, "--param", "target_pos=-1", "--param", 'methods=["logit"]'
    assert cli("run", "attribute", *asked, "--out", scores).exit_code == 0
    few = "--param", "n_random=2", "--param", "n_draws=2", "--param", 'metrics=["comprehensiveness"]'
    done = cli("run", "faithfulness", "--param", f"frame={scores}", *few)
    assert done.exit_code == 0, done.output
    mask = shipped_path("subnetworks") / "bigram-10.safetensors"
    done = cli("run", "kept_weights", "--param", f"subnetwork={mask}", "--json")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("word", ["logit_l", "stories", "smol"])
def test_names_are_completed(word):
    known = commands._probes(word) + commands._datasets(word) + commands._models(word)
    assert known in (["logit_lens"], ["stories"], ["smollm2"])


def test_parameters_are_completed_by_the_probe():
    context = SimpleNamespace(params={"probe": "logit_lens"})
    assert commands._parameters(context, "pos") == ["positions="]
    assert commands._parameters(SimpleNamespace(params={}), "pos") == []


def test_a_log_is_given_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0)
    with options.local(progress=True), progress.progress_bar(3, "step", "toy") as bar:
        for _ in range(3):
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and all(line.startswith("toy: ") for line in lines)
    assert "\r" not in "".join(lines)


def test_a_log_is_given_no_line_at_each_change(capsys):
    """Ten seconds have not passed, whatever the bar is asked to show."""
    with options.local(progress=True), progress.progress_bar(3, "step", "toy") as bar:
        for name in "abc":
            bar.set_postfix_str(name)
            bar.update()
    assert capsys.readouterr().err == ""
