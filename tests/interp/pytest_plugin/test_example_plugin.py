"""A probe and a claim from a package of its own: found everywhere, with nothing of ours touched."""

import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd
import pandera.pandas  # noqa: F401  imported here: a run in this process forgets what it was the first to import
import pytest
from typer.testing import CliRunner

import interp.findings
import interp.model.backends.bridge
import interp.probes
from interp.cli import app
from interp.report.page import report
from interp.runs import registry

pytest_plugins = ["pytester"]
PACKAGE = Path(__file__).parents[2] / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the package is installed, as pip does it, from its own folder and without a network."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", folder]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, PACKAGE], check=True, capture_output=True)
    assert {path.name for path in folder.iterdir()} >= {"example_plugin.py", "example_plugin-0.1.0.dist-info"}
    return folder


@pytest.fixture
def installed(site, monkeypatch, forget):
    """The same, importable for one test."""
    monkeypatch.syspath_prepend(site)
    forget()
    yield site
    sys.modules.pop("example_plugin", None)


@pytest.fixture
def cli():
    def call(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return call


def test_without_the_package_nobody_knows_of_it():
    assert "sureness" not in registry.names() and "example.sure" not in interp.findings.names()
    assert "sureness" not in dir(interp.probes) and not hasattr(interp.probes, "sureness")


def test_the_package_brings_entry_points_and_nothing_else(installed):
    entries = distribution("example-plugin").entry_points
    assert {entry.group for entry in entries} == {"interp.probes", "interp.claims"}


def test_the_probe_is_listed_described_and_run(installed, cli):
    assert "sureness" in [row["probe"] for row in cli("probes", "--json")]
    assert "prob" in [row["column"] for row in cli("describe", "sureness", "--json")["columns"]]
    (row,) = cli("run", "sureness", "--model", "reference", "--data", "prompts", "--json")["rows"]
    assert row["n_prompts"] == 120 and row["prob_low"] < row["prob"] < row["prob_high"]


def test_the_probe_stands_beside_the_built_in_ones(installed):
    from interp.probes import sureness

    assert sureness is registry.get("sureness").function and sureness.__module__ == "example_plugin"
    assert {"sureness", "logit_lens"} <= set(dir(interp.probes))


def test_it_says_what_the_lens_says_of_the_last_layer(installed):
    texts = ["Once upon a time there was a little", "The old man"]
    sure, lens = (registry.get(name).function("reference", texts) for name in ("sureness", "logit_lens"))
    final = lens.query("layer == 8").top1_prob
    # one softmax of float32 against a sum in tiles
    assert sure.prob.to_numpy() == pytest.approx(final.to_numpy(), abs=1e-5)


def test_the_claim_is_listed_and_tested(installed, cli):
    assert interp.findings.get("example.sure").probe == "sureness"
    (row,) = cli("findings", "--model", "reference", "--claim", "example.sure", "--json")["rows"]
    assert (row["state"], row["probe"], row["n"]) == ("holds", "sureness", 120)


def test_the_probe_is_on_the_report_page(installed, tmp_path):
    """Run because it is installed, and because a page of chosen probes names it."""
    assert "sureness" in registry.names()  # all of which a page shows unless told otherwise
    page = report("reference", tmp_path / "page.html", texts=["Once upon a time"], probes=["sureness"], findings=False)
    text = page.read_text("utf-8")
    assert "<h3>sureness</h3>" in text and "Measure how probable the most probable next token is" in text
    (kept,) = (tmp_path / "page_frames").glob("sureness-*.parquet")
    prob = pd.read_parquet(kept)["prob"].iloc[1:].mean()  # one prompt: its mean without position 0 is the summary's
    assert f"{prob:.3g}" in text


def test_the_probe_runs_in_a_finding(installed, pytester):
    pytester.makepyfile(
        test_sure="""
        import pytest

        @pytest.mark.finding(model="reference", data="prompts", n=12)
        def test_sure(finding):
            frame = finding.run("sureness")
            per_prompt = frame.query("pos > 0").groupby("prompt_id").prob.mean()
            finding.check("the model is sure of something", per_prompt, above=0.05)
            finding.record("sureness", per_prompt.mean(), tolerance=0.02)
        """
    )
    run = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--interp-update")
    run.assert_outcomes(passed=1)
    run.stdout.fnmatch_lines(["holds     the model is sure of something  ?reference?", "records: 1 recorded"])
