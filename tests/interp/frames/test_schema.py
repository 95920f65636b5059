"""Schemas, and frames built from arrays."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from interp.errors import InputError, UnknownName
from interp.frames.build import build
from interp.frames.schema import VOCABULARY, Column, Schema, columns
from interp.runs import registry

SCHEMA = Schema(
    probe="thing",
    paper="someone (2020)",
    rows="one per prompt",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "token_id",
        "token",
        "layer",
        "target_id",
        "target",
        "log_prob",
        "rank",
        "entropy",
        Column("share", "float", "a share", "0..1", low=0.0, high=1.0),
        Column("agrees", "bool", "whether it does"),
    ),
)


def values(n: int = 4) -> dict[str, object]:
    return {
        "model": "m",
        "run_id": "r",
        "prompt_id": np.arange(n),
        "token_id": np.arange(n, dtype=np.int32),
        "token": np.array([f"w{i}" for i in range(n)], dtype=object),
        "layer": 3,
        "target_id": np.arange(n) - 1,
        "target": pd.array([None, *(f"w{i}" for i in range(n - 1))], dtype="str"),
        "log_prob": np.linspace(-1, 0, n),
        "rank": np.arange(n) - 1,
        "entropy": np.linspace(0, 1, n, dtype=np.float32),
        "share": 1.0,
        "agrees": np.arange(n) > 1,
    }


# -- frames from arrays ----------------------------------------------------------------------------------------------


def test_build_gives_the_schemas_columns_and_types():
    frame = build(SCHEMA, values())
    assert frame.columns.tolist() == [column.name for column in SCHEMA.columns]
    assert dict(frame.dtypes.astype(str)) == {
        "model": "str", "run_id": "str", "prompt_id": "int64", "token_id": "int64", "token": "str", "layer": "int64",
        "target_id": "Int64", "target": "str", "log_prob": "float64", "rank": "Int64", "entropy": "float64",
        "share": "float64", "agrees": "bool",
    }  # fmt: skip
    assert frame["layer"].tolist() == [3] * 4 and frame["model"].tolist() == ["m"] * 4
    assert frame["target_id"].isna().tolist() == [True, False, False, False]
    assert frame["rank"].tolist()[1:] == [0, 1, 2] and frame["target"].tolist()[1:] == ["w0", "w1", "w2"]
    assert SCHEMA.validate(frame) is frame


def test_one_row_of_single_values():
    singles = {name: 0 if column.kind in ("int", "id") else 0.0 for name, column in _by_name().items()}
    singles |= {name: "x" for name, column in _by_name().items() if column.kind == "str"} | {"agrees": True}
    assert len(SCHEMA.validate(build(SCHEMA, singles))) == 1


def _by_name() -> dict[str, Column]:
    return {column.name: column for column in SCHEMA.columns}


def test_build_does_not_share_memory_that_a_probe_goes_on_using():
    given = values()
    frame = build(SCHEMA, given)
    frame.loc[0, "log_prob"] = -5.0
    frame["prompt_id"] += 1
    assert given["log_prob"][0] == -1.0 and given["prompt_id"][0] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": None}, r"no values for \['rank'\] of 'thing'"),
        ({"prompt_id": np.arange(5)}, r"different lengths \[4, 5\]"),
        ({"prompt_id": np.arange(4) + 0.5}, "column 'prompt_id' holds int64, not float64"),
        ({"agrees": np.arange(4)}, "column 'agrees' holds bool, not int64"),
        ({"entropy": np.array(["a"] * 4)}, "column 'entropy' holds float64, not <U1"),
    ],
)
def test_build_refuses_what_does_not_fit(changes, message):
    given = values() | changes
    if changes == {"rank": None}:
        del given["rank"]
    with pytest.raises(InputError, match=message):
        build(SCHEMA, given)


def test_a_million_rows_are_built_and_checked_in_a_second():
    n = 1_000_000
    strings = pd.array([f" w{i}" for i in range(50_000)], dtype="str")
    ids = np.random.default_rng(0).integers(0, 50_000, n)
    given = values(1) | {
        "prompt_id": np.arange(n),
        "token_id": ids,
        "token": strings.take(ids),
        "layer": np.broadcast_to(np.arange(10), (n // 10, 10)).ravel(),
        "target_id": ids - 1,
        "target": strings.take(ids - 1, allow_fill=True),
        "log_prob": np.full(n, -1.0),
        "rank": ids,
        "entropy": np.full(n, 1.0, dtype=np.float32),
        "agrees": ids > 9,
    }
    SCHEMA.validate(build(SCHEMA, values()))  # pandera is imported here
    started = time.process_time()  # the processor's time: another process may have the machine
    frame = SCHEMA.validate(build(SCHEMA, given))
    assert time.process_time() - started < 1.0
    assert len(frame) == n


# -- schemas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entropy": -0.1}, "'entropy' failed .*greater_than_or_equal_to"),
        ({"log_prob": 0.1}, "'log_prob' failed .*less_than_or_equal_to"),
        ({"share": 1.5}, "'share' failed .*less_than_or_equal_to"),
        ({"layer": -1}, "'layer' failed"),
        ({"entropy": np.nan}, "'entropy' contains null"),
        ({"token": None}, "'token'"),
        ({"prompt_id": 0.5}, "'prompt_id' to have type int64, got float64"),
        ({"agrees": 1}, "'agrees' to have type bool"),
        ({"token": 3}, "'token' to have type"),
        ({"rank": 2.0}, "'rank' to have type Int64"),
    ],
)
def test_frames_that_break_the_schema_are_named_in_one_sentence(changes, message):
    frame = build(SCHEMA, values()).assign(**changes)
    with pytest.raises(InputError, match=f"this is not a frame of 'thing': .*{message}") as caught:
        SCHEMA.validate(frame)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="column 'rank' not in dataframe"):
        SCHEMA.validate(build(SCHEMA, values()).drop(columns="rank"))


def test_what_may_be_missing_and_what_a_user_adds_is_let_be():
    frame = build(SCHEMA, values()).assign(mine="x")
    frame["log_prob"] = np.nan
    frame["rank"] = pd.array([None] * 4, dtype="Int64")
    SCHEMA.validate(frame)
    SCHEMA.validate(frame.assign(log_prob=-np.inf, entropy=np.inf))  # impossible tokens are a result, not a mistake


def test_describe_units_and_columns_by_name():
    described = SCHEMA.describe()
    assert described.columns.tolist() == ["column", "type", "unit", "meaning"]
    assert described["column"].tolist() == [column.name for column in SCHEMA.columns]
    assert (described["meaning"].str.len() > 0).all()
    assert SCHEMA.units == {"log_prob": "nats", "entropy": "nats", "share": "0..1"}
    assert SCHEMA["rank"].kind == "id"
    with pytest.raises(UnknownName, match="unknown column 'rnak'; did you mean 'rank'"):
        SCHEMA["rnak"]


@pytest.mark.parametrize("name", ["logit_lens", "top_tokens"])
def test_probes_keep_to_the_vocabulary(name):
    """One name, one meaning: a probe may narrow a shared column, not change what it holds or its unit."""
    schema = registry.get(name).schema
    assert {"model", "run_id", "prompt_id"} <= {column.name for column in schema.columns}
    for column in schema.columns:
        shared = VOCABULARY.get(column.name, column)
        assert (column.kind, column.unit) == (shared.kind, shared.unit)
    assert {*schema.summary_by, *schema.summary_of} <= {column.name for column in schema.columns}


def test_columns_that_pandas_hides_say_how_to_read_them():
    """`frame.rank` is a method: every description of such a column, of every probe, says so, and no other does."""
    for name in registry.names():
        schema = registry.get(name).schema
        for row in schema.describe().itertuples():
            said = f'read frame["{row.column}"], since frame.{row.column} is pandas\' own' in row.meaning
            assert said == (row.column in dir(pd.DataFrame)), (name, row.column)
    hidden = registry.get("logit_lens").schema.describe().set_index("column")["meaning"]
    assert hidden["rank"].endswith('; read frame["rank"], since frame.rank is pandas\' own')
