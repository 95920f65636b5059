"""The `interp` command: what it prints, what it writes, and how it refuses."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from interp.cli import app


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
    summary = json.loads(done.stdout)
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
    assert json.loads(done.stdout)[0]["n_prompts"] == 1


def test_settings_that_a_probe_passes_on_are_parameters_too(cli):
    """`bigram_subnetwork` hands most of its arguments to `find_subnetwork`."""
    small = {"unit": "head", "steps": 2, "batch": 1, "length": 8, "sparsity": 1}
    given = [part for name, value in small.items() for part in ("--param", f"{name}={value}")]
    done = cli("run", "bigram_subnetwork", *given, "--json")
    assert done.exit_code == 0, done.output
    assert {row["sparsity"] for row in json.loads(done.stdout)} == {1.0}
    assert "recipe: 'MaskRecipe' = 'fast'" in cli("describe", "bigram_subnetwork").stdout
    assert "did you mean 'steps'" in cli("run", "subnetwork_log", "--param", "stps=2").stderr


def test_brackets_and_colons_of_a_text_are_printed_as_they_are(cli, tmp_path):
    """To rich they are markup and emoji."""
    text = "[/INST] [bold] :smile:"
    done = cli("demo", "--no-subnetwork", "--out", tmp_path / "demo", "--text", text)
    assert done.exit_code == 0, done.output
    assert repr(text) in " ".join(done.stdout.split())
    assert "float | Sequence[float]" in cli("describe", "bigram_subnetwork").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "logit_lense"], "did you mean 'logit_lens'"),
        (["run", "logit_lense"], "did you mean 'logit_lens'"),
        (["run", "logit_lens", "--model", "refrence"], "did you mean 'reference'"),
        (["run", "logit_lens", "--data", "promts"], "did you mean 'prompts'"),
        (["run", "logit_lens", "--param", "target=next"], "did you mean 'targets'"),
        (["run", "logit_lens", "--param", "targets"], "--param 'targets' has no '='; write key=value"),
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
