"""The file of recorded values: what goes into it, how it reads, that it comes back as it went."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError, UnknownName
from interp.pytest_plugin.records import as_rows, as_text, file_of, plain, read, write

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
