"""Rows about all prompts together come from sums that shards add up: they are those of the probe itself."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

import interp
from interp.errors import InputError
from interp.probes import microscope, next_token_law
from tests.interp.sweeps.conftest import plain

PROBES = {
    "next_token_law": (next_token_law, {"tokens_per_dim": 2, "draws": 2, "held_out": 0.3}),
    "microscope": (microscope, {"tokens_per_dim": 2, "n_points": 60}),
}


def sweep(probe, source, prompts, out, **arguments):
    return interp.sweep(probe, source, prompts, out=out, shard_tokens=30, **(PROBES[probe][1] | arguments))


def kept(folder):
    return {file.name: file.stat().st_mtime_ns for file in (folder / "_sums").glob("*.parquet")}


def assert_equal(swept, whole):
    """Sums are added up in another order, of float32 states from other batches, whose products may round otherwise."""
    pd.testing.assert_frame_equal(plain(swept), plain(whole), rtol=1e-5, atol=1e-6, check_dtype=False)


# In workers one probe only: each of them imports torch anew.
@pytest.mark.parametrize(
    ("probe", "executor"), [("next_token_law", "local"), ("microscope", "local"), ("microscope", "processes")]
)
def test_rows_are_those_of_the_probe(probe, executor, model_path, subject, prompts, tmp_path):
    function, arguments = PROBES[probe]
    more = {"executor": executor, "workers": 2} if executor == "processes" else {}
    done = sweep(probe, model_path, prompts, tmp_path, **more)
    assert done.status()["shards"] == len(kept(tmp_path)) > 3
    whole = function(subject, prompts, **arguments)
    assert_equal(done.frame(), whole)
    assert_equal(pd.read_parquet(tmp_path), whole)  # other readers pass over plan and sums
    assert len(done.frame(where="layer == 2")) == (whole["layer"] == 2).sum()
    assert len(done.summary()) == len(whole.interp.summary())


def test_an_interrupted_sweep_goes_on(subject, prompts, tmp_path, monkeypatch):
    first = sweep("microscope", subject, prompts, tmp_path).frame()
    before = kept(tmp_path)
    # As it is left by a process that was killed: no rows yet, one shard gone and one cut short.
    (rows,) = tmp_path.glob("*.parquet")
    rows.unlink()
    gone, cut, *others = before
    (tmp_path / "_sums" / gone).unlink()
    cut_short = tmp_path / "_sums" / cut
    cut_short.write_bytes(cut_short.read_bytes()[:-9])
    with (
        pytest.warns(UserWarning, match="it was cut short"),
        pytest.raises(InputError, match=r"are missing in .*; call interp\.sweep again"),
    ):
        interp.Sweep(tmp_path).frame()
    again = sweep("microscope", subject, prompts, tmp_path)
    pd.testing.assert_frame_equal(again.frame(), first)
    after = kept(tmp_path)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in others)
    # Nothing is computed once the rows are there, be the sums there or not.
    shutil.rmtree(tmp_path / "_sums")
    monkeypatch.setattr(interp.Subject, "run", None)
    pd.testing.assert_frame_equal(sweep("microscope", subject, prompts, tmp_path).frame(), first)


def test_damaged_sums_are_not_added_up(subject, prompts, tmp_path):
    sweep("next_token_law", subject, prompts, tmp_path)
    (rows,) = tmp_path.glob("*.parquet")
    rows.unlink()
    damaged = tmp_path / "_sums" / next(iter(kept(tmp_path)))
    held = bytearray(damaged.read_bytes())
    held[len(held) // 2] ^= 255
    damaged.write_bytes(held)
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(InputError, match=r"call interp\.sweep again"):
        sweep("next_token_law", subject, prompts, tmp_path)
    assert len(sweep("next_token_law", subject, prompts, tmp_path).frame())


def test_other_texts_need_another_folder(subject, prompts, tmp_path):
    sweep("microscope", subject, prompts[:20], tmp_path)
    with pytest.raises(InputError, match="holds a sweep with another set of texts, which all its rows are about"):
        sweep("microscope", subject, prompts, tmp_path)


def test_too_few_tokens_are_refused_before_anything_is_planned(subject, prompts, tmp_path):
    with pytest.raises(InputError, match="too few to regress"):
        sweep("next_token_law", subject, prompts[:4], tmp_path)
    assert not list(tmp_path.iterdir())


def test_sums_are_kept_elsewhere_too(subject, prompts, tmp_path):
    here, there = (sweep("microscope", subject, prompts, out) for out in (tmp_path, "memory://sums"))
    pd.testing.assert_frame_equal(here.frame(), there.frame())
    assert here.status()["shards_done"] == there.status()["shards_done"]
