"""The file of recorded values: what goes into it, how it reads, that it comes back as it went."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError, UnknownName
from interp.pytest_plugin.reading import read
from interp.pytest_plugin.records import as_rows, as_text, file_of, plain, write

WORDS = st.text(max_size=4)
CELLS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
RECORDS = st.fixed_dictionaries(
    {
        "model": WORDS,
        "fingerprint": WORDS,
        "by": st.lists(WORDS, max_size=2),
        "rows": st.lists(st.dictionaries(WORDS, CELLS, min_size=1, max_size=2), min_size=1, max_size=2),
    }
)
RECORDED = st.dictionaries(WORDS, st.dictionaries(WORDS, RECORDS, min_size=1, max_size=2), min_size=1, max_size=2)


@settings(deadline=None)
@given(RECORDED)
def test_what_is_written_is_read_back(recorded):
    assert json.loads(as_text(recorded)) == recorded


def test_the_file_is_sorted_with_one_row_a_line(tmp_path):
    file = file_of(tmp_path / "test_depth.py")
    record = {
        "model": "m",
        "fingerprint": "f",
        "by": ["layer"],
        "rows": [{"layer": 0, "kl": 0.5}, {"layer": 1, "kl": 0}],
    }
    write(file, {"test_b": {"x": record}, "test_a": {"z": record, "y": record}})
    text = file.read_text()
    assert list(tmp_path.iterdir()) == [file] and file.name == "test_depth.findings.json"
    names = ["test_a", '"y"', '"z"', "test_b", '"x"']
    assert [text.index(name) for name in names] == sorted(text.index(name) for name in names)
    assert text.count('\n    {"layer": 0, "kl": 0.5},\n    {"layer": 1, "kl": 0}\n') == 3
    write(file, {"test_a": {}})
    assert not file.exists() and read(file) == {}


def test_a_file_that_is_none_is_named_with_the_line(tmp_path):
    file = tmp_path / "test_depth.findings.json"
    file.write_text('{\n<<<<<<< HEAD\n "test_a": {}')
    with pytest.raises(InputError, match=r"test_depth\.findings\.json is not JSON at line 2 .* --interp-update"):
        read(file)


ROW = {"layer": 0, "kl": 0.5}
RECORD = {"model": "m", "fingerprint": "f", "by": ["layer"], "rows": [ROW, {"layer": 1, "kl": None}]}


def text_with(**changes: object) -> str:
    """A file with one sound record, changed."""
    return json.dumps({"test_a": {"x": {**RECORD, **changes}}})


DAMAGED = {
    "": r"is not JSON at line 1",
    "{": r"is not JSON at line 1",
    "[]": r"holds a list for the file where an object of tests is due",
    "7": r"holds a number for the file",
    "null": r"holds a null for the file",
    '{"test_a": 3}': r"holds a number for the test 'test_a' where an object of names of records is due",
    '{"test_a": []}': r"holds a list for the test 'test_a'",
    '{"test_a": {"x": 0.5}}': r"holds a number for 'x' of test_a where an object of model, fingerprint, by and rows",
    '{"test_a": {}, "test_a": {}}': r"holds 'test_a' twice in one object",
    '{"test_a": {"x": {}}}': r"holds no 'model' in 'x' of test_a",
    text_with(more=1): r"holds an unknown 'more' in 'x' of test_a",
    text_with(model=None): r"holds a null as model of 'x' of test_a where text is due",
    text_with(fingerprint=["f"]): r"holds a list as fingerprint of 'x'",
    text_with(by="layer"): r"holds a 'by' of 'x' of test_a that is not a list of different names",
    text_with(by=["layer", "layer"]): r"holds a 'by' of 'x'",
    text_with(by=[["layer"]]): r"holds a 'by' of 'x'",
    text_with(by=["block"]): r"holds a row 1 of 'x' of test_a whose columns are not those of row 1 and of 'by'",
    text_with(by=[]): r"holds 2 rows of 'x' of test_a, and no 'by' that distinguishes them",
    text_with(by=["kl"]): r"holds a row 2 of 'x' of test_a whose key {'kl': None} is missing or taken",
    text_with(rows={}): r"holds 'rows' of 'x' of test_a that are not a list of at least one row",
    text_with(rows=[]): r"holds 'rows' of 'x'",
    text_with(rows=[3]): r"holds 'rows' of 'x'",
    text_with(rows=[ROW, {"layer": 1}]): r"holds a row 2 of 'x' of test_a whose columns are not those of row 1",
    text_with(rows=[ROW, ROW]): r"holds a row 2 of 'x' of test_a whose key {'layer': 0} is missing or taken",
    text_with(rows=[{"layer": 0, "kl": [1]}]): r"holds a list as 'kl' in row 1 of 'x' of test_a where a number",
    text_with(rows=[{"layer": 0, "kl": 10**400}]): r"holds a number too large for float64 as 'kl' in row 1",
    text_with().replace("0.5", "1e999"): r"holds a number too large for float64 as 'kl' in row 1",
    text_with().replace("0.5", "9" * 5000): r"holds a number of too many digits",
    text_with().replace("0.5", "NaN"): r'holds the number NaN, which is written "inf", "-inf" or null',
    text_with(model="\ud800"): r"is not text in UTF-8",
    "[" * 100_000: r"is nested too deeply",
}


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:24])
def test_a_damaged_file_is_refused_in_one_sentence(text, tmp_path):
    file = tmp_path / "test_depth.findings.json"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"^test_depth\.findings\.json {DAMAGED[text]}") as caught:
        read(file)
    assert str(caught.value).endswith("; mend it, or delete the file and record again with --interp-update.")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "test_depth.findings.json"
    file.write_bytes(text_with(model="é").encode().replace(b"\\u00e9", b"\xe9"))
    with pytest.raises(InputError, match=r"test_depth\.findings\.json is not text in UTF-8"):
        read(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=r"test_depth\.findings\.json cannot be read \(Is a directory\)"):
        read(file)


def test_what_is_recorded_is_sound(tmp_path):
    """Whatever `as_rows` makes of a frame is read back as it was."""
    file = file_of(tmp_path / "test_depth.py")
    keys, rows = as_rows(
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "v": [np.inf, np.nan], "t": [True, False]}), ["a", "b"]
    )
    alone = as_rows(0.25, None)
    recorded = {
        "test_a": {"frame": {"model": "m", "fingerprint": "f", "by": keys, "rows": rows}},
        "test_b[1-x]": {"one": {"model": "", "fingerprint": "f", "by": alone[0], "rows": alone[1]}},
    }
    write(file, recorded)
    assert read(file) == recorded


def test_frames_are_sorted_by_key_and_leave_out_what_names_the_run():
    frame = pd.DataFrame({"model": "m", "run_id": "r", "layer": [2, 0, 1], "kl": [0.2, 1 / 3, np.nan]})
    rows = [{"layer": 0, "kl": 0.333333}, {"layer": 1, "kl": None}, {"layer": 2, "kl": 0.2}]
    assert as_rows(frame, "layer") == (["layer"], rows)
    keyed, kept = as_rows(frame, ["model", "layer"])
    assert keyed == ["model", "layer"] and list(kept[0]) == ["model", "layer", "kl"]


def test_series_are_keyed_by_their_index():
    series = pd.DataFrame({"layer": [1, 0], "kl": [0.1, 0.2]}).groupby("layer").kl.mean()
    assert as_rows(series, None) == (["layer"], [{"layer": 0, "kl": 0.2}, {"layer": 1, "kl": 0.1}])


def test_cells():
    assert plain(np.float32(0.1), "v") == 0.1 and plain(-1234567.8, "v") == -1234570.0
    assert plain(np.int64(3), "v") == 3 and type(plain(np.int64(3), "v")) is int
    assert plain(np.bool_(True), "v") is True and plain("a", "v") == "a"
    assert plain(math.inf, "v") == "inf" and plain(pd.NA, "v") is None


FRAME = pd.DataFrame({"layer": [0, 0], "kl": [0.1, 0.2]})


@pytest.mark.parametrize(
    ("value", "by", "words"),
    [
        (FRAME, "layr", "unknown column 'layr'; did you mean 'layer'"),
        (FRAME, "layer", r"several rows have layer=0; add columns that distinguish them to by="),
        (FRAME, None, "the frame has 2 rows; name the columns that distinguish them with by="),
        (FRAME.head(0), "layer", "the frame has no rows"),
        (FRAME.assign(layer=[0, None]), "layer", "a key in .*'layer'.* is missing"),
        (FRAME.kl, None, "name its levels"),
        (FRAME.groupby("layer").kl.mean(), "layer", "leave by= out"),
        (0.5, "layer", "a float has none; leave by= out"),
        (FRAME.assign(kl=[[1], [2]]), ["layer", "kl"], "column 'kl' holds a list"),
        (object(), None, "column 'value' holds a object"),
    ],
)
def test_what_cannot_be_recorded_is_refused(value, by, words):
    with pytest.raises((InputError, UnknownName), match=words):
        as_rows(value, by)
