"""Runs of pytest with findings in them, good and bad: what passes, what fails and with which words, what is written."""

import json
from pathlib import Path

# Imported here, as the runs below are in this process and forget what they were the first to import.
import pandera.pandas  # noqa: F401
import pytest

import interp.findings
import interp.model.backends.bridge
import interp.planted  # noqa: F401
import probes  # noqa: F401

pytest_plugins = ["pytester"]

HEAD = """
import json
from pathlib import Path

import pandas as pd
import pytest

def ladder():
    from interp.planted import bias_ladder
    return bias_ladder().model
"""
RECORDING = (
    HEAD
    + """
@pytest.mark.finding(model=ladder)
def test_kept(finding):
    said = json.loads(Path("measured.json").read_text())
    finding.record("kept", pd.DataFrame(said["rows"]), by=said.get("by", "layer"), tolerance=said.get("tolerance"))
"""
)
ROWS = [{"layer": 0, "kept": 0.5, "top": "a"}, {"layer": 1, "kept": 0.02, "top": "b"}]


@pytest.fixture
def project(pytester):
    """`project(source, *options)`: a pytest run of one module, in this process."""

    def run(source, *options):
        pytester.makepyfile(test_depth=source)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    return run


@pytest.fixture
def recording(project):
    """`recording(rows, *options, **more)`: a run of a test that measures these rows."""

    def run(rows, *options, **more):
        Path("measured.json").write_text(json.dumps({"rows": rows, **more}))
        return project(RECORDING, *options)

    return run


def recorded():
    return json.loads(Path("test_depth.findings.json").read_text())


def test_values_are_recorded_when_asked_for_and_compared_from_then_on(recording):
    first = recording(ROWS)
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines("nothing is recorded as 'kept' in test_depth.findings.json; *--interp-update*")
    assert not Path("test_depth.findings.json").exists()

    update = recording(ROWS, "--interp-update")
    update.assert_outcomes(passed=1)
    update.stdout.fnmatch_lines("records: 1 recorded")
    record = recorded()["test_kept"]["kept"]
    assert record["rows"] == ROWS and record["by"] == ["layer"]
    assert record["model"] == "planted/bias_ladder"

    again = recording(ROWS[::-1])  # the order of rows is no finding
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines("records: 1 same")


@pytest.mark.parametrize(
    ("rows", "more", "line"),
    [
        ([ROWS[0] | {"kept": 0.7}, ROWS[1]], {}, "layer=0 kept: recorded 0.5, measured 0.7 (by +0.2; tolerance *)"),
        ([ROWS[0]], {}, "row layer=1 was recorded and is gone"),
        ([*ROWS, ROWS[1] | {"layer": 2}], {}, "row layer=2 is new"),
        ([{"layer": 0, "top": "a"}, {"layer": 1, "top": "b"}], {}, "column 'kept' was recorded and is gone"),
        ([row | {"more": 1} for row in ROWS], {}, "column 'more' is new"),
        (
            [ROWS[0], ROWS[1] | {"kept": -0.02}],
            {"tolerance": 1},
            "layer=1 kept: changed sign, recorded 0.02, measured -0.02",
        ),
        ([ROWS[0], ROWS[1] | {"top": "c"}], {}, "layer=1 top: recorded 'b', measured 'c'"),
        (ROWS, {"by": ["top"]}, "recorded by ?'layer'?, now by ?'top'?"),
    ],
)
def test_a_difference_fails_and_is_shown_and_an_update_takes_it_in(recording, rows, more, line):
    recording(ROWS, "--interp-update").assert_outcomes(passed=1)
    before = recorded()
    failed = recording(rows, **more)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["'kept' differs from test_depth.findings.json:", f"  {line}", "*--interp-update*"])
    assert recorded() == before  # a failing run writes nothing
    recording(rows, "--interp-update", **more).assert_outcomes(passed=1)
    recording(rows, **more).assert_outcomes(passed=1)


def test_a_long_list_of_differences_is_cut(recording):
    many = [{"layer": layer, "kept": 0.5} for layer in range(50)]
    recording(many, "--interp-update")
    failed = recording([row | {"kept": 0.6} for row in many])
    failed.stdout.fnmatch_lines(["  layer=19 kept*", "  and 30 more"])
    failed.stdout.no_fnmatch_line("  layer=20 kept*")


TWO = (
    HEAD
    + """
pytestmark = pytest.mark.finding(model=ladder)

def test_one(finding):
    finding.record("a", 1.5)
    finding.record("b", 2)

@pytest.mark.parametrize("k", [1, 2])
def test_two(finding, k):
    finding.record("k", k)
"""
)


def test_an_update_of_one_test_leaves_the_others_alone(project):
    project(TWO, "--interp-update").assert_outcomes(passed=3)
    before = recorded()
    assert set(before) == {"test_one", "test_two[1]", "test_two[2]"}
    changed = TWO.replace('"a", 1.5', '"a", 3.5').replace('"k", k', '"k", 10 * k')
    project(changed, "--interp-update", "test_depth.py::test_one").assert_outcomes(passed=1)
    after = recorded()
    assert after["test_one"]["a"]["rows"] == [{"value": 3.5}]
    assert {test: after[test] for test in ("test_two[1]", "test_two[2]")} == {
        test: before[test] for test in ("test_two[1]", "test_two[2]")
    }
    project(changed, "--interp-update", "-k", "1 and test_two").assert_outcomes(passed=1, deselected=2)
    assert recorded()["test_two[2]"] == before["test_two[2]"]


def test_unused_records_are_reported_and_an_update_removes_them(project):
    project(TWO, "--interp-update")
    renamed = TWO.replace('"b"', '"c"').replace("[1, 2]", "[1]")
    project(renamed, "--interp-update", "test_depth.py::test_one")  # which says nothing of test_two
    assert set(recorded()) == {"test_one", "test_two[1]", "test_two[2]"} and set(recorded()["test_one"]) == {"a", "c"}

    fewer = renamed.replace('    finding.record("a", 1.5)\n', "")
    run = project(fewer)
    run.assert_outcomes(passed=2)  # nothing is wrong with what is measured
    run.stdout.fnmatch_lines(
        ["test_depth.findings.json: test_one: 'a' unused; *", "test_depth.findings.json: test_two?2?: 'k' unused; *"]
    )
    project(fewer, "-k", "test_one").stdout.fnmatch_lines("*test_two?2?: 'k' unused*")  # collected, if not run: gone
    update = project(fewer, "--interp-update")
    update.stdout.fnmatch_lines(["*: test_one: 'a' removed", "*: test_two?2?: 'k' removed"])
    assert {test: set(names) for test, names in recorded().items()} == {"test_one": {"c"}, "test_two[1]": {"k"}}

    stopped = fewer.replace('    finding.record("c", 2)', '    assert False\n    finding.record("c", 2)')
    project(stopped, "--interp-update").assert_outcomes(passed=1, failed=1)
    assert "c" in recorded()["test_one"]  # a test that stopped before it came to a record has not given it up


def test_a_claim_without_an_interval_says_why(project):
    marked = "@pytest.mark.finding(model=ladder)\ndef test_ones(finding):\n"
    run = project(HEAD + marked + "    finding.check('one', [1.0], above=0.5)\n")
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["*effect     1, no interval", "*because    an interval needs two units, and there are 1"])


def test_an_identity_holds_and_says_what_it_does_not_show(project):
    marked = "@pytest.mark.finding(model=ladder)\ndef test_ones(finding):\n"
    run = project(HEAD + marked + "    finding.check('ones', [1.0] * 9, above=0.5)\n")
    run.assert_outcomes(passed=1)
    run.stdout.fnmatch_lines("*1 ?1, 1? > 0.5 (n = 9; all 9 values are equal, so that rarer values are unseen)")


def test_records_whose_module_is_gone_are_reported_and_an_update_removes_them(project):
    project(TWO, "--interp-update")
    orphan = Path("test_width.findings.json")
    Path("test_depth.findings.json").rename(orphan)
    project("def test_nothing():\n    pass").stdout.fnmatch_lines(
        "test_width.findings.json: its test module is gone; *"
    )
    assert orphan.exists()
    update = project("def test_nothing():\n    pass", "--interp-update")
    update.stdout.fnmatch_lines("test_width.findings.json: its test module is gone; removed")
    assert not orphan.exists()
    project("def test_nothing():\n    pass").stdout.no_fnmatch_line("*findings*")


def test_without_findings_their_file_goes(project):
    project(TWO, "--interp-update")
    run = project("def test_nothing():\n    pass", "--interp-update")
    run.assert_outcomes(passed=1)
    assert not Path("test_depth.findings.json").exists()


def test_a_broken_file_fails_with_one_sentence_and_is_kept(recording):
    Path("test_depth.findings.json").write_text("{\n<<<<<<< HEAD\n")
    for options in ([], ["--interp-update"]):
        run = recording(ROWS, *options)
        run.assert_outcomes(failed=1)
        run.stdout.fnmatch_lines("*test_depth.findings.json is not JSON at line 2*")
        assert Path("test_depth.findings.json").read_text().startswith("{\n<<<<<<<")


SOUND = {"model": "m", "fingerprint": "f", "by": ["layer"], "rows": [{"layer": 0, "kl": 0.5}]}
DAMAGED = {
    "empty": "",
    "list": "[]",
    "number": '{"test_one": 3}',
    "rows": json.dumps({"test_one": {"x": SOUND | {"rows": [3]}}}),
    "none": json.dumps({"test_one": {"x": SOUND | {"rows": []}}}),
    "nan": json.dumps({"test_one": {"x": SOUND}}).replace("0.5", "NaN"),
    "keys": json.dumps({"test_one": {"x": {"rows": SOUND["rows"]}}}),
    "bytes": "\xe9",
    "twice": '{"test_one": {}, "test_one": {}}',
}


@pytest.mark.parametrize("options", [[], ["--interp-update"]], ids=["compare", "update"])
def test_damaged_files_fail_their_own_test_and_no_session(pytester, options):
    """Each module records one value beside a damaged file, and has a test that asks nothing of it."""
    value = "@pytest.mark.finding(model=ladder)\ndef test_one(finding):\n    finding.record('x', 0.5)\n"
    for name, text in DAMAGED.items():
        pytester.makepyfile(**{f"test_{name}": f"{HEAD}\n{value}\ndef test_two():\n    pass\n"})
        (pytester.path / f"test_{name}.findings.json").write_text(text, "latin-1")
    (pytester.path / "test_gone.findings.json").mkdir()  # not a file that could be removed
    run = pytester.runpytest_inprocess(*options, "-p", "no:cacheprovider")
    run.assert_outcomes(passed=len(DAMAGED), failed=len(DAMAGED))
    assert run.ret == pytest.ExitCode.TESTS_FAILED and "INTERNALERROR" not in run.stdout.str() + run.stderr.str()
    for name, text in DAMAGED.items():
        run.stdout.fnmatch_lines(f"error: test_{name}.findings.json *; mend it, or delete the file and record again *")
        assert (pytester.path / f"test_{name}.findings.json").read_text("latin-1") == text


CHECKING = (
    HEAD
    + """
VALUES = {"holds": [0.8, 0.9] * 10, "fails": [0.5, 0.6] * 10, "undecided": [0.6, 0.8] * 10}

@pytest.mark.finding(model=ladder)
@pytest.mark.parametrize("expect", ["holds", "fails", "undecided"])
@pytest.mark.parametrize("state", ["holds", "fails", "undecided"])
def test_claim(finding, state, expect):
    verdict = finding.check(f"{state} surely", VALUES[state], at_least=0.7, control=[0.1] * 20, expect=expect)
    assert verdict.state == state
"""
)


def test_a_claim_fails_the_test_unless_it_comes_out_as_expected(project):
    run = project(CHECKING)
    run.assert_outcomes(passed=3, failed=6)
    run.stdout.fnmatch_lines(
        [
            "undecided on planted/bias_ladder, expected holds: undecided surely",
            "  effect     0.70, 95% interval 0.?? to 0.??",
            "  threshold  >= 0.7",
            "  control    0.10; effect - control 0.60, interval 0.?? to 0.??",
            "  prompts    20, 0 skipped; p = *",
            "  because    the interval spans 0.7",
            "Give more prompts, or pin the claim as open by expect='undecided'.",
        ]
    )
    run.stdout.fnmatch_lines("The interval lies beyond the threshold: *expect='fails'.")
    run.stdout.fnmatch_lines(
        [
            "*= findings =*",
            "holds     holds surely  ?planted/bias_ladder?",
            "          0.850 ?0.8*, 0.8*? >= 0.7 (n = 20, control 0.1)",
        ]
    )
    run.stdout.fnmatch_lines("fails     fails surely  ?planted/bias_ladder, expected holds?")


def test_an_expectation_that_is_no_state_is_refused(project):
    run = project(CHECKING.replace('["holds", "fails", "undecided"])\n@', '["true"])\n@'))
    run.stdout.fnmatch_lines("*expect='true': give 'holds', 'fails' or 'undecided'.")


LENS = (
    HEAD
    + """
LOADED = []

def ladder_once():
    LOADED.append(1)
    return ladder()

pytestmark = pytest.mark.finding(model=ladder_once, data=["w3 w4 w5", "w5 w6 w7 w8", "w3 w9"], n=2)

def test_depth(finding):
    frame = finding.run("logit_lens", positions=-1, targets="argmax")
    assert sorted(frame.prompt_id.unique()) == [0, 1]
    finding.record("layers", frame.groupby("layer").kl_to_final.mean())
    finding.record("n", len(frame))
    finding.check("entropy is positive", frame.entropy, above=0.0)
    frame["kl_to_final"] = -1.0

def test_again(finding):
    frame = finding.run("logit_lens", positions=-1, targets="argmax")
    assert (frame.kl_to_final >= 0).all()  # what another test did to its copy is not seen here
    other = finding.run("logit_lens", positions=-1, layers=[0], targets="argmax")
    assert frame.interp.provenance.loc["run_id"].tolist() != other.interp.provenance.loc["run_id"].tolist()
    same = finding.run("logit_lens", positions=-1, targets="argmax")
    assert same.interp.provenance.equals(frame.interp.provenance)  # to the second it took: one measurement
    assert len(LOADED) == 1 or not LOADED
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_model, word_level):
    """Another model than the tests' own, saved."""
    folder = tmp_path_factory.mktemp("models") / "other"
    small_model("gpt2").save_pretrained(folder)
    word_level.save_pretrained(folder)
    return folder


def test_another_model_is_asked_the_same_and_measured(project, folder):
    project(LENS, "--interp-update").assert_outcomes(passed=2)
    before = recorded()
    other = project(LENS, f"--interp-model={folder}")
    other.assert_outcomes(passed=2)
    other.stdout.fnmatch_lines(
        [
            "holds     entropy is positive  ?other?",
            "measured  test_depth: 'layers'  ?other; recorded on planted/bias_ladder, not compared?",
            "          layer=0, kl_to_final=*",
            "measured  test_depth: 'n'  ?other; recorded on planted/bias_ladder, not compared?",
            "          value=10",
            "records: 2 measured",
        ]
    )
    assert recorded() == before
    refused = project(LENS, f"--interp-model={folder}", "--interp-update")
    refused.stderr.fnmatch_lines("*--interp-update records the models that the tests name*; leave --interp-model out.")
    assert recorded() == before


def test_a_path_after_a_space_is_refused(project, folder):
    """Else pytest reads the configuration beside the model, and not the project's."""
    refused = project(LENS, "--interp-model", folder)
    refused.stderr.fnmatch_lines(f"*--interp-model {folder}: write --interp-model={folder}; after a space*")
    project(LENS, "--interp-model", "reference", "--collect-only").stdout.no_fnmatch_line("*write --interp-model*")


def test_the_models_own_name_is_no_other_model(project, folder):
    source = LENS.replace("model=ladder_once", f"model={str(folder)!r}")
    project(source, "--interp-update").assert_outcomes(passed=2)
    same = project(source, f"--interp-model={folder}")
    same.assert_outcomes(passed=2)
    same.stdout.fnmatch_lines("records: 2 same")


def test_device_and_dtype_reach_the_model(project, folder):
    source = HEAD + (
        f"@pytest.mark.finding(model={str(folder)!r})\n"
        "def test_type(finding):\n"
        "    assert (str(finding.subject.dtype), str(finding.subject.device)) == ('torch.bfloat16', 'cpu')\n"
    )
    project(source, "--interp-dtype", "bfloat16", "--interp-device", "cpu").assert_outcomes(passed=1)
    project(source, "--interp-dtype", "float33").stdout.fnmatch_lines("*unknown dtype 'float33'; did you mean*")


def test_a_model_and_data_beside_the_module_are_found(pytester, folder):
    tests = pytester.mkdir("tests")
    (tests / "models").symlink_to(folder.parent)
    (tests / "texts.txt").write_text("w3 w4 w5\n\nw6 w7\n")
    (tests / "test_beside.py").write_text(
        HEAD + "@pytest.mark.finding(model='models/other', data='texts.txt')\n"
        "def test_beside(finding):\n"
        "    assert finding.texts.text.tolist() == ['w3 w4 w5', 'w6 w7'] and finding.subject.name == 'other'\n"
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "tests").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "body", "words"),
    [
        ('finding("reference")', "finding.subject", "takes its arguments by name; write model='reference'."),
        ("finding(model=ladder, date=[])", "finding.subject", "unknown argument of *'date'; did you mean 'data'?"),
        ("finding(data='stories')", "finding.subject", "*names no model; write @pytest.mark.finding(model=*"),
        ("finding(model=ladder, data=['w1'], n=0)", "finding.subject", "*n=0*: give a whole number of texts*"),
        ("finding(model=ladder, n=3)", "finding.subject", "*n=3* names no data*"),
        ("finding(model=ladder)", "finding.texts", "*names no data; add data=*"),
        ("finding(model=ladder, data=['w1'], n=3)", "finding.texts", "*n=3, but * has 1 texts; lower n."),
        ("finding(model=ladder, data='storys')", "finding.texts", "*unknown dataset 'storys'; did you mean 'stories'*"),
        ("finding(model='refrence')", "finding.subject", "*unknown model 'refrence'; did you mean 'reference'*"),
        ("finding(model=ladder)", "finding.run('logit_lense')", "*unknown probe 'logit_lense'; did you mean*"),
        ("finding(model=ladder)", "finding.run('logit_lens')", "*'logit_lens' reads texts; add data= to *"),
        ("finding(model=ladder)", "finding.run('logit_lens', layer=0)", "*unknown parameter of 'logit_lens' 'layer'*"),
        ("finding(model=ladder)", "finding.record('x', object())", "*column 'value' holds a object*"),
        ("finding(model=ladder)", "finding.record('x', 1.0, tolerance=-1)", "*tolerance -1 of 'value'*"),
        ("timeout(9)", "finding.subject", "test_it takes the fixture `finding` but is not marked; *"),
    ],
)
def test_misuse_is_one_clear_sentence(project, marker, body, words):
    run = project(HEAD + f"@pytest.mark.{marker}\ndef test_it(finding):\n    {body}\n")
    assert run.ret == 1
    run.stdout.fnmatch_lines(f"*{words}*".replace("[", "[[]"))


def test_a_marker_without_the_fixture_would_do_nothing(project):
    run = project(HEAD + "@pytest.mark.finding(model=ladder)\ndef test_it():\n    pass\n")
    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines("test_it is marked as a finding but lacks the fixture `finding`; add it.")


def test_a_name_is_recorded_once_in_a_test(project):
    run = project(TWO.replace('"b"', '"a"'), "--interp-update", "-k", "test_one")
    run.stdout.fnmatch_lines("*'a' is recorded twice in this test; give each record a name of its own.")


def test_workers_of_xdist_write_one_file_and_tell_one_summary(pytester):
    three = TWO + "\ndef test_three(finding):\n    finding.check('ones', [1.0] * 9, above=0.5, bounds=(0, 1))\n"
    pytester.makepyfile(test_depth=three)
    old = {"model": "planted/bias_ladder", "fingerprint": "", "by": [], "rows": [{"value": 9}]}
    before = {"test_one": {"a": old, "z": old}, "test_two[3]": {"k": old}}
    Path("test_depth.findings.json").write_text(json.dumps(before))
    update = pytester.runpytest_inprocess("-n2", "--interp-update")
    update.assert_outcomes(passed=4)
    update.stdout.fnmatch_lines(
        ["holds     ones  ?planted/bias_ladder?", "records: 4 recorded", "*test_one: 'z' removed", "*: 'k' removed"]
    )
    values = {test: {name: one["rows"] for name, one in of.items()} for test, of in recorded().items()}
    assert values == {
        "test_one": {"a": [{"value": 1.5}], "b": [{"value": 2}]},
        "test_two[1]": {"k": [{"value": 1}]},
        "test_two[2]": {"k": [{"value": 2}]},
    }


def test_a_run_without_findings_imports_no_model_library(pytester):
    pytester.makepyfile(
        "import sys\n"
        "def test_light():\n"
        "    assert 'interp.pytest_plugin' in sys.modules\n"
        "    heavy = {'torch', 'transformers', 'transformer_lens', 'nnsight', 'matplotlib', 'scipy', 'sklearn'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    run = pytester.runpytest_subprocess()
    run.assert_outcomes(passed=1)
    run.stdout.no_fnmatch_line("*= findings =*")
