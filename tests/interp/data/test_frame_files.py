"""A frame is written in the format that its file's name says."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from interp.data.frame_files import check_frame_file, read_frame, sidecar, write_frame
from interp.errors import InputError

FRAME = pd.DataFrame(
    {
        "x": [1 / 3, 1e-20, np.nan, -2.5e-308, 123456789.123456789],
        "token": pd.array(["a\rb\nc", 'é "q"', "\u2028,", None, " NA "], dtype="str"),
        "id": pd.array([1, None, 3, 4, 5], dtype="Int64"),
        "ok": [True, False, True, True, False],
    }
)


def test_csv_keeps_every_digit_and_every_character(tmp_path):
    write_frame(FRAME, tmp_path / "a.csv")
    back = pd.read_csv(tmp_path / "a.csv", dtype={"id": "Int64", "token": "str"})
    pd.testing.assert_frame_equal(back, FRAME, check_exact=True)


def test_json_is_a_list_of_objects(tmp_path):
    write_frame(FRAME, tmp_path / "a.JSON")
    rows = json.loads((tmp_path / "a.JSON").read_text("utf-8"))
    assert [row["token"] for row in rows] == ["a\rb\nc", 'é "q"', "\u2028,", None, " NA "]
    assert [row["id"] for row in rows] == [1, None, 3, 4, 5] and rows[2]["x"] is None and rows[0]["ok"] is True
    np.testing.assert_allclose(
        [rows[row]["x"] for row in (0, 1, 4)], FRAME["x"].iloc[[0, 1, 4]], rtol=1e-14
    )  # 15 digits


def test_parquet_keeps_everything(tmp_path):
    FRAME.attrs["interp"] = {"a": {"probe": "p"}}
    write_frame(FRAME, tmp_path / "a.parquet")
    back = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(back, FRAME, check_exact=True)
    assert back.attrs == FRAME.attrs


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_provenance_stands_beside_a_file_that_cannot_hold_it(tmp_path, name):
    frame = pd.DataFrame({"x": [1.5, 2.5], "run_id": ["a", "a"]})
    frame.attrs["interp"] = {"a": {"probe": "p", "tokens": ["é"]}}
    write_frame(frame, tmp_path / name)
    assert sidecar(tmp_path / name).name == f"{name}.provenance.json"
    assert read_frame(tmp_path / name).attrs == frame.attrs
    text = (tmp_path / name).read_text("utf-8")
    (tmp_path / name).write_text(text.replace("2.5", "3.5"), "utf-8")  # somebody changed a number
    assert read_frame(tmp_path / name).attrs == {}


def test_a_frame_without_provenance_has_nothing_beside_it(tmp_path):
    write_frame(pd.DataFrame({"x": [1]}), tmp_path / "a.csv")
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.csv.gz", "csv", ".parquet"])
def test_a_name_of_another_format_is_refused(tmp_path, name):
    for act in (check_frame_file, lambda path: write_frame(FRAME, path)):
        with pytest.raises(InputError, match="has no known format; give a name that ends with"):
            act(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
