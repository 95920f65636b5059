"""Frames that a run joins from parts, whose columns are arrays or single values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.authoring import Column, InputError, Run, Schema, columns
from interp.planted import bias_ladder

SCHEMA = Schema(
    probe="thing",
    paper="someone (2020)",
    rows="one per prompt",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "layer",
        "control",
        "target_id",
        Column("share", "float", "a share", "0..1", missing=True),
        Column("agrees", "bool", "whether it does"),
        Column("note", "str", "what to say of it", missing=True),
    ),
)


FOUR_TEXTS = torch.tensor([[1, 2], [2, 3], [3, 4], [4, 5]])


def run(**options) -> Run:
    return Run(SCHEMA, bias_ladder(n_layers=2).model, FOUR_TEXTS, parameters={}, **options)


def part(prompt_ids: list[int], **given: object) -> dict[str, object]:
    single = {"layer": 3, "control": "none", "target_id": -1, "share": 0.5, "agrees": True, "note": None}
    return {"prompt_id": np.array(prompt_ids, dtype=np.int64)} | single | given


def test_a_single_value_stands_in_every_row_of_its_part():
    frame = run().frame([part([0, 1]), part([2], layer=7, control="size", target_id=5, agrees=False, note="late")])
    assert frame["layer"].tolist() == [3, 3, 7] and frame["control"].tolist() == ["none", "none", "size"]
    assert frame["target_id"].tolist() == [pd.NA, pd.NA, 5]
    assert frame["share"].tolist() == [0.5] * 3 and frame["agrees"].tolist() == [True, True, False]
    assert frame["note"].isna().tolist() == [True, True, False] and frame["note"].iat[2] == "late"
    assert frame.dtypes.astype(str).to_dict() == {
        "model": "str", "run_id": "str", "prompt_id": "int64", "layer": "int64", "control": "str",
        "target_id": "Int64", "share": "float64", "agrees": "bool", "note": "str",
    }  # fmt: skip


def test_a_column_is_a_single_value_in_one_part_and_an_array_in_another():
    arrays = part([2, 3], layer=np.array([8, 9]), control=np.array(["a", "longer"]), share=np.array([0.25, np.nan]))
    frame = run().frame([part([0, 1]), arrays])
    assert frame["layer"].tolist() == [3, 3, 8, 9] and frame["control"].tolist() == ["none", "none", "a", "longer"]
    assert frame["share"].tolist()[:3] == [0.5, 0.5, 0.25] and frame["share"].isna().tolist()[3]


def test_single_values_go_with_their_rows_where_prompts_are_put_in_order():
    frame = run().frame([part([3, 1], control="late"), part([0, 2], control="early")])
    assert frame["prompt_id"].tolist() == [0, 1, 2, 3]
    assert frame["control"].tolist() == ["early", "late", "early", "late"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_part_without_rows_adds_none(at):
    parts = [part([0, 1]), part([2], control="size")]
    parts.insert(at, part([], control="never"))
    frame = run().frame(parts)
    assert frame["prompt_id"].tolist() == [0, 1, 2] and frame["control"].tolist() == ["none", "none", "size"]
    assert str(frame["layer"].dtype) == "int64" and str(frame["agrees"].dtype) == "bool"


def test_a_part_of_single_values_alone_is_one_row():
    frame = run().frame([part([0]) | {"prompt_id": 0}, part([0]) | {"prompt_id": 1, "layer": 4}])
    assert frame["prompt_id"].tolist() == [0, 1] and frame["layer"].tolist() == [3, 4]


def test_columns_of_other_lengths_in_one_part_are_refused_though_another_makes_up_for_them():
    """Joined, both columns have four rows, each of them beside the wrong other."""
    one, other = part([0], layer=np.array([0, 1, 2])), part([1, 2, 3], layer=np.array([3]))
    with pytest.raises(InputError, match=r"the columns of 'thing' have different lengths \[1, 3\]"):
        run().frame([one, other])


def test_rows_kept_in_a_folder_have_their_single_values(tmp_path):
    parts = [part([0, 1]), part([2, 3], control="size", note="late")]
    kept = run(out=tmp_path).frame(iter(parts))
    pd.testing.assert_frame_equal(kept, run().frame(parts))
    pd.testing.assert_frame_equal(run(out=tmp_path).frame(iter(())), run().frame(parts))
