"""A run is fixed when it is made: what decides its numbers, and the id under which its rows are kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from interp.frames.schema import Schema, columns
from interp.planted import copying
from interp.runs.run import run_id

SCHEMA = Schema("fixed", "nobody (2020)", "one per prompt", columns("model", "run_id", "prompt_id", "loss"))


@pytest.fixture(scope="module")
def subject():
    return interp.load(copying(vocab=6).model)


def part(*prompts: int) -> dict[str, np.ndarray]:
    return {"prompt_id": np.array(prompts), "loss": np.ones(len(prompts))}


def test_parameters_cannot_be_changed_once_a_run_is_made(subject):
    given = {"k": 1}
    run = interp.Run(SCHEMA, subject, ["w1 w2"], parameters=given)
    with pytest.raises(TypeError, match="does not support item assignment"):
        run.parameters["k"] = 2
    before = run.run_id
    given["k"] = 2
    assert run.parameters["k"] == 1 and run.provenance()["run_id"] == before


def test_rows_are_kept_under_the_frames_own_id(subject, tmp_path):
    run = interp.Run(SCHEMA, subject, ["w1 w2", "w3"], parameters={"k": 1}, out=tmp_path)
    frame = run.frame(iter([part(0), part(1)]))
    assert frame["run_id"].unique().tolist() == [run.run_id]
    assert {file.name.partition("-")[0] for file in tmp_path.glob("*.parquet")} == {run.run_id}
    assert all(pd.read_parquet(file)["run_id"].eq(run.run_id).all() for file in tmp_path.glob("*.parquet"))


def test_an_id_can_be_known_without_a_run(subject):
    tokens = subject.tokens(["w1 w2"])
    run = interp.Run(SCHEMA, subject, tokens, parameters={"k": 1}, seed=3)
    assert run_id(SCHEMA, subject, tokens, {"k": 1}, 3) == run.run_id
    others = [(None, {"k": 1}, 3), (tokens, {"k": 2}, 3), (tokens, {"k": 1}, 4)]
    assert run.run_id not in {run_id(SCHEMA, subject, *other) for other in others}


def test_edits_are_those_of_the_moment_it_was_made(subject):
    with subject.edited([], {"made": "an edit"}):
        run = interp.Run(SCHEMA, subject, ["w1 w2"], parameters={})
    assert run.provenance()["edits"] == [{"made": "an edit"}]
    assert interp.Run(SCHEMA, subject, ["w1 w2"], parameters={}).run_id != run.run_id
