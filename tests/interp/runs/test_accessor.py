"""Provenance of a frame: how it is kept, joined and lost, what it is the same for, and what the user adds."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from interp.planted import bias_ladder
from interp.runs import accessor, registry
from probes import logit_lens, top_tokens

LADDER = interp.load(bias_ladder().model)
TEXTS = ["w1 w2 w3", "w4 w5"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return logit_lens(LADDER, TEXTS)


@pytest.fixture
def forgetful(monkeypatch) -> None:
    """As in a process that has run no probe."""
    monkeypatch.setattr(accessor, "_runs", {})


def run_id(frame: pd.DataFrame) -> str:
    (one,) = frame["run_id"].unique()
    return one


def test_a_frame_says_how_to_run_it_again(frame):
    run = frame.interp.runs[run_id(frame)]
    assert run["probe"] == "logit_lens" and run["model"] == LADDER.name == frame["model"].iat[0]
    assert run["fingerprint"] == LADDER.fingerprint and run["backend"] == "bridge"
    assert run["parameters"]["targets"] == "next" and run["bos"] is False and run["dtype"] == "float32"
    assert (run["n_prompts"], run["n_tokens"], run["n_tokens_cut"]) == (2, 5, 0)
    assert run["seconds"] > 0 and {"torch", "transformer-lens", "python"} <= set(run["versions"])
    assert frame.interp.provenance.loc["probe"].tolist() == ["logit_lens"]
    assert frame.interp.units["kl_to_final"] == "nats" and frame.interp.schema.probe == "logit_lens"


def test_parquet_keeps_numbers_types_and_provenance(frame, tmp_path, forgetful):
    file = tmp_path / "lens.parquet"
    frame.to_parquet(file)
    back = pd.read_parquet(file)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert back.interp.runs == frame.interp.runs
    registry.get("logit_lens").schema.validate(back)


def test_selections_keep_provenance(frame, forgetful):
    assert frame[frame["layer"] > 2].interp.schema.probe == "logit_lens"
    assert frame.query("pos == 1").sort_values("kl_to_final").interp.runs == frame.interp.runs
    assert frame.assign(bits=frame["entropy"] / np.log(2)).interp.runs == frame.interp.runs


def test_pandas_concat_finds_provenance_by_run(frame):
    other = logit_lens(bias_ladder(a=2.0).model, TEXTS)
    both = pd.concat([frame, other], ignore_index=True)
    assert set(both.interp.runs) == {run_id(frame), run_id(other)}
    assert both.interp.provenance.columns.tolist() == [run_id(frame), run_id(other)]
    assert both.interp.schema.probe == "logit_lens"
    only = both[both["run_id"] == run_id(other)]
    assert set(only.interp.runs) == {run_id(other)}


def test_joined_frames_survive_parquet(frame, tmp_path, forgetful):
    other = logit_lens(bias_ladder(a=2.0).model, TEXTS)
    third = logit_lens(bias_ladder(a=3.0).model, TEXTS)
    # One of the parts is a `pd.concat`, whose attrs pandas dropped: what this session ran it still knows.
    joined = interp.concat([pd.concat([other, third]), frame])
    joined.to_parquet(tmp_path / "joined.parquet")
    accessor._runs.clear()
    back = pd.read_parquet(tmp_path / "joined.parquet")
    assert set(back.interp.runs) == {run_id(one) for one in (frame, other, third)}
    assert len(back) == 3 * len(frame)


def test_files_joined_by_pandas_lose_provenance_and_say_so(frame, forgetful):
    other = logit_lens(bias_ladder(a=2.0).model, TEXTS)
    accessor._runs.clear()
    lost = pd.concat([frame, other])
    with pytest.raises(InputError, match=r"join those read from files with interp\.concat"):
        lost.interp.provenance  # noqa: B018
    assert set(interp.concat([frame, other]).interp.runs) == {run_id(frame), run_id(other)}


def test_a_process_that_never_ran_a_probe_reads_everything_back(frame, tmp_path):
    frame.to_parquet(tmp_path / "a.parquet")
    logit_lens(bias_ladder(a=2.0).model, TEXTS).to_parquet(tmp_path / "b.parquet")
    script = """
        import sys
        import pandas as pd
        import interp
        frames = [pd.read_parquet(path) for path in sys.argv[1:]]
        joined = interp.concat(frames)
        assert len(joined.interp.runs) == 2 and set(joined.interp.runs) == set(joined["run_id"])
        assert joined.interp.units["entropy"] == "nats"
        summary = joined.interp.summary(n_resamples=10)
        print(summary["layer"].max(), sorted(joined.interp.provenance.loc["probe"]))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, sorted(Path(tmp_path).glob("*.parquet")))],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "4 ['logit_lens', 'logit_lens']\n"


def test_frames_of_nobody():
    strange = pd.DataFrame({"x": [1]})
    with pytest.raises(InputError, match="no column 'run_id': it was not made by a probe"):
        strange.interp.runs  # noqa: B018
    with pytest.raises(InputError, match="no frames were given"):
        interp.concat([])
    assert interp.concat([strange, strange])["x"].tolist() == [1, 1]


def test_a_mixture_of_probes_has_no_schema(frame):
    mixed = interp.concat([frame, top_tokens(LADDER, TEXTS, k=1)])
    with pytest.raises(InputError, match=r"mixes runs of \['logit_lens', 'top_tokens'\]"):
        mixed.interp.summary()


# -- run_id ----------------------------------------------------------------------------------------------------------


def test_run_id_is_that_of_the_measurement(frame):
    same = [
        logit_lens(LADDER, TEXTS),
        logit_lens(bias_ladder().model, TEXTS),  # another object, the same weights
        logit_lens(LADDER, pd.DataFrame({"text": TEXTS, "group": ["a", "b"]})),
        logit_lens(LADDER, LADDER.tokens(TEXTS, bos=False)),
    ]
    with interp.options.local(memory=1 << 16):
        same.append(logit_lens(LADDER, TEXTS))
    assert {run_id(one) for one in same} == {run_id(frame)}


def test_run_id_changes_with_whatever_changes_the_numbers(frame):
    ids = [
        run_id(one)
        for one in (
            frame,
            top_tokens(LADDER, TEXTS),
            top_tokens(LADDER, TEXTS, k=3),
            logit_lens(LADDER, TEXTS, targets="argmax"),
            logit_lens(LADDER, TEXTS, positions=-1, targets="argmax"),
            logit_lens(LADDER, TEXTS, layers=[0, 1]),
            logit_lens(LADDER, TEXTS, sublayers=True),
            logit_lens(LADDER, TEXTS, final_norm=False),
            logit_lens(LADDER, TEXTS[::-1]),
            logit_lens(LADDER, TEXTS[:1]),
            logit_lens(LADDER, ["w1 w2 w3", "w4 w6"]),
            logit_lens(LADDER, pd.DataFrame({"text": TEXTS, "prompt_id": [1, 0]})),
            logit_lens(bias_ladder(a=6.001).model, TEXTS),
            logit_lens(bias_ladder(dtype=torch.float64).model, TEXTS),
        )
    ]
    assert len(set(ids)) == len(ids)


def test_the_same_parameters_in_another_type_are_the_same_run():
    ids = {run_id(logit_lens(LADDER, TEXTS, layers=layers)) for layers in ([0, 2], (0, 2), np.array([0, 2]))}
    assert len(ids) == 1
    assert len({run_id(logit_lens(LADDER, TEXTS, targets=targets)) for targets in ([3, 1], np.array([3, 1]))}) == 1


# -- the user's own columns ------------------------------------------------------------------------------------------


def test_columns_of_the_texts_follow_their_prompt():
    texts = pd.DataFrame(
        {
            "text": ["w1", "w2 w3 w4", "w5 w6"],
            "prompt_id": [30, 10, 20],
            "group": ["a", "b", "a"],
            "weight": [1.5, 2, 3],
        }
    )
    frame = logit_lens(LADDER, texts, layers=[0])
    assert frame.columns.tolist()[-2:] == ["group", "weight"]
    assert frame["prompt_id"].tolist() == [10, 10, 10, 20, 20, 30]
    assert frame["group"].tolist() == ["b"] * 3 + ["a"] * 3
    assert frame["weight"].tolist() == [2.0] * 3 + [3.0] * 2 + [1.5]
    assert frame["token"].tolist() == [" w2", " w3", " w4", " w5", " w6", " w1"]
    assert frame.interp.provenance.loc["n_prompts"].item() == 3


def test_a_column_of_a_probes_own_name_is_refused():
    texts = pd.DataFrame({"text": ["w1"], "layer": [1], "entropy": [0.0], "group": ["a"]})
    with pytest.raises(InputError, match=r"columns \['entropy', 'layer'\] of your frame are logit_lens's too"):
        logit_lens(LADDER, texts)


# -- frames that went through other hands ----------------------------------------------------------------------------


def test_a_run_concatenated_twice_counts_once(frame):
    other = logit_lens(bias_ladder(a=2.0).model, TEXTS)
    usual = pd.concat([frame, other], ignore_index=True)
    for twice in (
        pd.concat([frame, frame]),
        pd.concat([frame, other, frame.iloc[:7]], ignore_index=True),
        interp.concat([frame, other, other.sample(frac=1, random_state=0)]),
    ):
        expected = frame if twice["run_id"].nunique() == 1 else usual
        with pytest.warns(
            UserWarning, match=r"in this frame more than once \(a cell run twice\?\): \d+ repeated rows"
        ) as seen:
            summary = twice.interp.summary()
        pd.testing.assert_frame_equal(summary, expected.interp.summary())
        assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="repeated rows are left out"):
        pd.concat([frame, frame]).interp.plot()


def test_a_part_of_a_run_twice_counts_once(frame):
    part = frame[frame["prompt_id"] == 0]
    assert part.interp.rows is not None and len(part.interp.rows) == len(part)
    with pytest.warns(UserWarning, match=rf"{len(part)} repeated rows are left out"):
        pd.testing.assert_frame_equal(pd.concat([part, part]).interp.rows, part)


def test_a_run_with_other_values_is_refused(frame):
    changed = frame.assign(entropy=frame["entropy"] + 1e-9)
    message = rf"the runs \['{run_id(frame)}'\] are in this frame more than once, with different values; keep one"
    with pytest.raises(InputError, match=message):
        pd.concat([frame, changed]).interp.summary()


def test_frames_of_one_run_each_are_returned_as_they_are(frame, recwarn):
    assert frame.interp.rows is frame
    joined = interp.concat([frame, logit_lens(bias_ladder(a=2.0).model, TEXTS)])
    assert joined.interp.rows is joined and not recwarn.list


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_converted_frames_are_summed_up_and_drawn(frame, backend):
    converted = frame.convert_dtypes(dtype_backend=backend)
    assert (converted.dtypes != frame.dtypes).any()
    pd.testing.assert_frame_equal(converted.interp.rows, frame)
    pd.testing.assert_frame_equal(converted.interp.summary(), frame.interp.summary())
    for axes, others in zip(converted.interp.plot().axes, frame.interp.plot().axes, strict=True):
        assert [text.get_text() for text in axes.texts] == [text.get_text() for text in others.texts]
    assert converted.interp._repr_html_() == frame.interp._repr_html_()


def test_a_frame_from_csv_is_told_what_applies(frame, tmp_path, forgetful):
    frame.to_csv(tmp_path / "a.csv", index=False)
    back = pd.read_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"CSV and JSON files do not hold it.*keep frames with to_parquet"):
        back.interp.summary()
    assert "do not hold it" in back.interp._repr_html_()
