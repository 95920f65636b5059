"""A probe that a notebook or a script defines itself is known to the session as installed ones are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# A cell, as a notebook runs it: in the module `__main__`. {n} tells one run of it from another.
CELL = '''
@interp.probe(SCHEMA, plot=draw)
def lengths(subject, texts):
    """The length of every prompt, version {n}."""
    run = interp.Run(SCHEMA, subject, texts, parameters={{}})
    ids = run.tokens.ids
    return run.frame([{{"prompt_id": np.arange(len(ids)), "length": np.array([{n} * len(one) for one in ids])}}])
'''
SCRIPT = f"""
import json
import matplotlib
import numpy as np
import interp

matplotlib.use("agg")
CELL = {CELL!r}
SCHEMA = interp.Schema(
    "lengths", "nobody (2020)", "one per prompt",
    (*interp.authoring.columns("model", "run_id", "prompt_id"), interp.Column("length", "int", "tokens")),
    summary_of=("length",),
)


def draw(frame):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(frame["length"])
    return figure


said = {{}}
model = interp.planted.bias_ladder().model
for n in (1, 2):
    exec(CELL.format(n=n), globals())
    frame = interp.probes.lengths(model, ["w1 w2 w3", "w4"])
    said[n] = {{
        "rows": frame["length"].tolist(),
        "summary": frame.interp.summary()["length"].tolist(),
        "drawn": frame.interp.plot().axes[0].lines[0].get_ydata().tolist(),
        "listed": interp.runs.registry.names().count("lengths"),
        "in_dir": "lengths" in dir(interp.probes),
        "newest": interp.runs.registry.get("lengths").function is lengths,
        "described": interp.runs.registry.get("lengths").function.__doc__,
    }}
earlier = frame
exec(CELL.format(n=3).replace("def lengths", "def renamed"), globals())  # the function, and not the probe
said["renamed"] = interp.probes.lengths is renamed
said["an earlier frame"] = earlier.interp.summary()["length"].tolist()

SCHEMA = interp.Schema("logit_lens", SCHEMA.paper, SCHEMA.rows, SCHEMA.columns)
exec(CELL.format(n=1), globals())
said["refused"] = []
for ask in (lambda: interp.probes.logit_lens, lambda: interp.runs.registry.get("logit_lens")):
    try:
        ask()
    except interp.InputError as error:
        said["refused"].append(str(error))
said["others"] = interp.probes.top_tokens.__module__
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a script finds that defines a probe, defines it again, renames it, and takes the name of a built-in one."""
    script = tmp_path_factory.mktemp("session") / "script.py"
    script.write_text("import interp.authoring, interp.planted\n" + SCRIPT, "utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_run_summed_up_and_drawn_without_a_package(said):
    first = said["1"]
    assert first["rows"] == first["drawn"] == [3, 1] and first["summary"] == [2.0]


def test_it_is_listed(said):
    assert said["1"]["listed"] == 1 and said["1"]["in_dir"]


def test_a_cell_run_again_replaces_its_probe(said):
    second = said["2"]
    assert second["rows"] == second["drawn"] == [6, 2] and second["summary"] == [4.0]
    assert second["listed"] == 1 and second["newest"] and "version 2" in second["described"]


def test_the_newest_function_of_a_name_is_its_probe(said):
    assert said["renamed"] and said["an earlier frame"] == [4.0]


def test_the_name_of_a_built_in_probe_is_refused_in_one_sentence(said):
    assert said["refused"] == [
        "two probes are called 'logit_lens', one of probes.lens.logit_lens.logit_lens and one defined in this "
        "session; give yours another name in its schema."
    ] * 2  # fmt: skip


def test_another_built_in_probe_is_found_nevertheless(said):
    assert said["others"] == "probes.lens.top_tokens"
