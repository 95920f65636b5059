"""Files of texts are read as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
from interp.data.shipped import read_data
from interp.errors import InputError

ONE_LINE = "one\u2028line\x0cstill\x85here\x0b\x1c\rtoo"
WORDS = ["NA", "null", "NaN", "nan", "None", "007", "123", "1e5", "2020-01-01", "True"]


def read(folder: Path, name: str, content: bytes | str) -> pd.DataFrame:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_data(str(folder / name))


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("bom.txt", b"\xef\xbb\xbfOnce\r\nThe\r\n", ["Once", "The"]),
        ("lines.txt", f"{ONE_LINE}\n\n \ntwo", [ONE_LINE, "two"]),
        ("UPPER.TXT", " spaces stay \n", [" spaces stay "]),
        ("bom.csv", b"\xef\xbb\xbftext\r\nhi\r\n", ["hi"]),
        ("words.csv", "\n".join(["text", *WORDS]), WORDS),
        ("quoted.csv", 'text,k\n"a, ""b""\nc",1\n', ['a, "b"\nc']),
        ("bom.jsonl", b'\xef\xbb\xbf{"text": "hi"}\r\n\r\n', ["hi"]),
        ("words.jsonl", "\n".join(json.dumps({"text": word}) for word in WORDS), WORDS),
        ("lines.jsonl", '{"text":"one\u2028line"}\n{"text":"two"}\n', ["one\u2028line", "two"]),
    ],
)  # fmt: skip
def test_texts_are_as_they_are(tmp_path, name, content, texts):
    assert read(tmp_path, name, content)["text"].tolist() == texts


def test_parquet_keeps_texts(tmp_path):
    texts = ["NA", "007", "\ufeffone\u2028line", "null"]
    pd.DataFrame({"text": pd.Categorical(texts)}).to_parquet(tmp_path / "a.parquet")
    assert read_data(str(tmp_path / "a.parquet"))["text"].tolist() == texts


def test_other_columns_of_a_csv_have_the_type_of_all_their_values(tmp_path):
    frame = read(
        tmp_path, "a.csv",
        "text,prompt_id,expected,group,x,y,flag,mixed\n"
        "a,7,07,NA,0.1,1,True,1\n"
        "b,3,,null,NA,,False,two\n"
        "c,5,NA,,2,3,True,\n",
    )  # fmt: skip
    assert frame["prompt_id"].tolist() == [7, 3, 5] and frame["prompt_id"].dtype == np.int64
    assert frame["expected"].tolist()[::2] == ["07", "NA"] and frame["expected"].isna().tolist() == [False, True, False]
    assert frame["group"].tolist()[:2] == ["NA", "null"] and frame["group"].isna()[2]
    assert frame["x"].dtype == frame["y"].dtype == np.float64
    assert frame["x"].fillna(-1).tolist() == [0.1, -1, 2] and frame["y"].fillna(-1).tolist() == [1, -1, 3]
    assert frame["flag"].tolist() == [True, False, True] and frame["flag"].dtype == bool
    assert frame["mixed"].tolist()[:2] == ["1", "two"] and frame["mixed"].isna()[2]


def test_other_columns_of_json_lines_keep_their_types(tmp_path):
    frame = read(
        tmp_path, "a.jsonl", '{"text":"a","date":"2020-01-01","k":1,"g":"NA"}\n{"text":"b","date":"x","k":2}\n'
    )
    assert frame["date"].tolist() == ["2020-01-01", "x"] and frame["k"].tolist() == [1, 2]
    assert frame["g"][0] == "NA" and frame["g"].isna()[1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text\nOnce, there\n", "Expected 1 fields in line 2, saw 2; put a text that holds a comma in"),
        ("a.csv", "text,k\na,1\n,2\n", "has no text in row 1 but nan; fill it in or take the row out"),
        ("a.csv", "text,k\na,1\n\"\",2\n", "has no text in row 1 but nan"),
        ("a.csv", "k\n1\n", r"has no column 'text', only \['k'\]"),
        ("a.csv", "text,text\na,b\n", "two columns have one name"),
        ("a.csv", "", "No columns to parse from file"),
        ("a.jsonl", '{"text":7}\n', "has no text in row 0 but 7"),
        ("a.jsonl", '{"text":""}\n', "has no text in row 0 but ''"),
        ("a.jsonl", '{"text":"a"}\n[1]\n', "line 2 is not a JSON object"),
        ("a.jsonl", '{"text":"a"}\n\n{"text"\n', "line 3: Expecting"),
        ("a.txt", "héllo".encode("utf-16"), "'utf-8' codec"),
        ("a.json", "[]", r"cannot read .*a\.json': give a \.txt, \.jsonl, \.csv or \.parquet file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_are_one_sentence(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, name, content)
    assert "\n" not in str(caught.value)


def test_a_dataset_is_a_frame_of_texts():
    frame = interp.dataset("stories")
    assert len(frame) == 300 and frame.columns.tolist() == ["prompt_id", "text", "seed", "n_tokens"]
    pd.testing.assert_frame_equal(frame, read_data("stories"))
    with pytest.raises(interp.UnknownName, match="unknown dataset 'promptss'; did you mean 'prompts'"):
        interp.dataset("promptss")
