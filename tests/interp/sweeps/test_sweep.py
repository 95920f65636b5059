"""A sweep's rows are the probe's own, once each, whatever happened on the way."""

from __future__ import annotations

import errno
import os
import re
import resource
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import interp
from interp.errors import InputError, UnknownName
from interp.probes import layer_robustness, logit_lens, next_token_law
from tests.interp.sweeps.conftest import plain
from tests.interp.sweeps.drivers import copy_of_this

LENS = {"positions": -1, "targets": "argmax"}


def sweep(subject, prompts, out, **arguments):
    return interp.sweep("logit_lens", subject, prompts, out=out, shard_tokens=30, **(LENS | arguments))


def assert_equal(swept, whole):
    """Batches are divided otherwise, so that a matrix product may round otherwise: a float32 sum of 16 terms."""
    pd.testing.assert_frame_equal(plain(swept), plain(whole), rtol=1e-5, atol=1e-6)


def files(folder):
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.parquet")}


def test_rows_are_those_of_the_probe(subject, prompts, tmp_path):
    done = sweep(subject, prompts, tmp_path)
    assert done.status()["shards"] == len(files(tmp_path)) > 3
    # Batches are divided otherwise, so that a matrix product may round otherwise.
    pd.testing.assert_frame_equal(
        plain(done.frame()), plain(logit_lens(subject, prompts, **LENS)), rtol=1e-5, atol=1e-6
    )


def test_a_second_call_computes_nothing(subject, prompts, tmp_path, monkeypatch):
    first = sweep(subject, prompts, tmp_path).frame()
    kept = files(tmp_path)
    monkeypatch.setattr(interp.Subject, "run", None)
    pd.testing.assert_frame_equal(sweep(subject, prompts, tmp_path).frame(), first)
    assert files(tmp_path) == kept


def test_more_prompts_add_shards_and_keep_those_that_are_there(subject, prompts, tmp_path):
    sweep(subject, prompts[:14], tmp_path)
    kept = files(tmp_path)
    done = sweep(subject, prompts, tmp_path)
    now = files(tmp_path)
    assert kept.items() < now.items()
    pd.testing.assert_frame_equal(
        plain(done.frame()), plain(logit_lens(subject, prompts, **LENS)), rtol=1e-5, atol=1e-6
    )
    few = sweep(subject, prompts[:5], tmp_path)
    assert files(tmp_path) == now
    assert few.frame()["prompt_id"].unique().tolist() == [0, 1, 2, 3, 4]
    assert few.dataset.count_rows() == len(few.frame())


@pytest.fixture(scope="module")
def reference():
    return interp.load("reference")


@pytest.fixture(scope="module")
def texts():
    return interp.dataset("prompts").head(12)


def test_the_order_of_a_frame_does_not_matter(reference, texts, tmp_path):
    first = sweep(reference, texts, tmp_path).frame()
    kept = files(tmp_path)
    other = sweep(reference, texts.iloc[::-1], tmp_path)
    assert files(tmp_path) == kept
    pd.testing.assert_frame_equal(other.frame(), first)


def test_users_columns_come_along_and_count(reference, texts, tmp_path):
    marked = texts.assign(mark=np.arange(len(texts)) % 2)
    assert sweep(reference, marked, tmp_path).frame()["mark"].sum() > 0
    with pytest.raises(InputError, match=r"prompt 0 is another one in out=.*give another folder"):
        sweep(reference, marked.assign(mark=2), tmp_path)


def test_a_list_in_another_order_is_refused(subject, prompts, tmp_path):
    sweep(subject, prompts, tmp_path)
    with pytest.raises(InputError, match="whose column 'prompt_id' tells them apart"):
        sweep(subject, prompts[::-1], tmp_path)


def test_another_sweep_is_not_mixed_in(subject, prompts, tmp_path, monkeypatch):
    sweep(subject, prompts, tmp_path)
    with pytest.raises(InputError, match="holds a sweep with another parameters; give another folder"):
        sweep(subject, prompts, tmp_path, targets=3)
    with pytest.raises(InputError, match="holds a sweep with another probe, parameters"):
        interp.sweep("top_tokens", subject, prompts, out=tmp_path)
    monkeypatch.setattr("interp.runs.run.code_digest_of_probe", lambda name: "other")
    with pytest.raises(InputError, match="holds a sweep with another code"):
        sweep(subject, prompts, tmp_path)


def test_the_name_of_the_device_does_not_matter(subject, prompts, tmp_path, monkeypatch):
    sweep(subject, prompts, tmp_path)
    kept = files(tmp_path)
    from interp.runs import run

    original = run.identity_of
    monkeypatch.setattr(run, "identity_of", lambda *arguments: original(*arguments) | {"device": "cuda:1"})
    sweep(subject, prompts, tmp_path)
    assert files(tmp_path) == kept


def test_the_summary_of_shards_is_that_of_all_rows(subject, prompts, tmp_path):
    """Means per prompt are taken within a shard, which holds whole prompts; pyarrow adds ten numbers up in order."""
    for probe, arguments in (("logit_lens", {"targets": "argmax"}), ("layer_robustness", {}), ("top_tokens", {"k": 2})):
        done = interp.sweep(probe, subject, prompts, out=tmp_path / probe, shard_tokens=30, **arguments)
        whole = done.frame()
        whole = whole.astype({name: "str" for name in whole.columns if whole[name].dtype == "category"})
        pd.testing.assert_frame_equal(done.summary(), whole.interp.summary(), rtol=1e-12)


def test_a_summary_by_target_is_that_of_all_rows(subject, prompts, tmp_path):
    done = sweep(subject, prompts, tmp_path, positions=None, targets=[1, 2])
    whole = done.frame()
    pd.testing.assert_frame_equal(done.summary(), whole.interp.summary(), rtol=1e-12)
    assert set(done.summary()["target_id"]) == {1, 2}


def test_a_summary_that_needs_all_rows_is_refused_beyond_the_memory(subject, prompts, tmp_path):
    done = sweep(subject, prompts, tmp_path)
    assert len(done.summary(by="position")) == len(prompts)
    with (
        interp.options.local(memory=1 << 12),
        pytest.raises(InputError, match=r"needs all rows at once, about 0\.0 GiB"),
    ):
        done.summary(by="position")


def test_columns_and_conditions(subject, prompts, tmp_path):
    done = sweep(subject, prompts, tmp_path)
    chosen = done.frame(columns=["prompt_id", "entropy"], where="layer == 3 and rank < 1")
    whole = done.frame()
    expected = whole[(whole["layer"] == 3) & (whole["rank"] < 1)]
    assert list(chosen.columns) == ["prompt_id", "entropy", "run_id"]
    np.testing.assert_array_equal(chosen["entropy"], expected["entropy"])
    with pytest.raises(UnknownName, match="unknown column 'entropie'"):
        done.frame(columns=["entropie"])
    with pytest.raises(InputError, match="where='layer ==' is not a condition"):
        done.frame(where="layer ==")
    with pytest.raises(InputError, match="where='lair == 3' cannot be applied"):
        done.frame(where="lair == 3")


def test_texts_are_grouped_in_the_order_of_a_frame_of_texts(reference, texts, tmp_path):
    whole = sweep(reference, texts, tmp_path).frame()
    by_text = whole.astype({"top1": "str"}).groupby("top1").size()
    assert whole.groupby("top1").size().to_dict() == by_text.to_dict()
    assert whole.groupby("top1").size().index.tolist() == by_text.index.tolist()


def test_other_readers_read_the_folder(subject, prompts, tmp_path):
    done = sweep(subject, prompts, tmp_path)
    assert done.dataset.count_rows() == len(pd.read_parquet(tmp_path)) == len(done.frame())


def test_parameters_of_each_prompt_go_with_it(subject, prompts, tmp_path):
    targets = [[number % 50] for number in range(len(prompts))]
    given = {"positions": -1}
    done = interp.sweep(
        "logit_lens", subject, prompts, out=tmp_path, shard_tokens=30, per_prompt={"targets": targets}, **given
    )
    whole = logit_lens(subject, prompts, targets=targets, **given)
    assert_equal(done.frame(), whole)
    with pytest.raises(InputError, match=r"targets holds 24 lists for . prompts.*in per_prompt="):
        interp.sweep(
            "logit_lens", subject, prompts, out=tmp_path / "other", shard_tokens=30, targets=targets, **given
        )  # fmt: skip
    with pytest.raises(InputError, match=r"per_prompt\['targets'\] has 2 values for 24 prompts"):
        interp.sweep("logit_lens", subject, prompts, out=tmp_path, per_prompt={"targets": [[1], [2]]}, **given)


def test_a_url_is_a_folder_too(subject, prompts, tmp_path):
    remote = sweep(subject, prompts, "memory://sweeps-of-a-test")
    local = sweep(subject, prompts, f"file://{tmp_path}/rows")
    pd.testing.assert_frame_equal(remote.frame(), local.frame())
    assert interp.Sweep("memory://sweeps-of-a-test").status()["prompts_done"] == len(prompts)
    assert sweep(subject, prompts, "memory://sweeps-of-a-test").status()["shards_done"] == len(files(tmp_path / "rows"))


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["deleted", "cut short", "of another sweep", "a link", "a flipped bit"])
def test_a_harmed_shard_is_computed_again(subject, prompts, tmp_path, harm):
    out = tmp_path / "rows"
    whole = sweep(subject, prompts, out).frame()
    victim, other = sorted(out.glob("*.parquet"))[:2]
    content = victim.read_bytes()
    if harm == "deleted":
        victim.unlink()
    elif harm == "cut short":
        victim.write_bytes(content[: len(content) // 2])
    elif harm == "of another sweep":
        victim.write_bytes(other.read_bytes())
    elif harm == "a link":
        target = tmp_path / "mine.parquet"
        target.write_bytes(content)
        victim.unlink()
        victim.symlink_to(target)
    else:
        group = pq.ParquetFile(victim).metadata.row_group(0)
        column = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "entropy")
        place = column.data_page_offset + 3 * (column.total_compressed_size // 4)
        victim.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = sweep(subject, prompts, out)
        if harm in ("of another sweep", "a flipped bit"):  # what only reading shows
            with pytest.raises(InputError, match=r"are missing in .*; call interp\.sweep again"):
                done.frame()
            done = sweep(subject, prompts, out)
        again = done.frame()
    pd.testing.assert_frame_equal(again, whole)
    assert len(pd.read_parquet(out)) == len(whole)
    if harm == "a link":
        assert target.read_bytes() == content


def test_a_damaged_plan_is_said(subject, prompts, tmp_path):
    sweep(subject, prompts, tmp_path)
    (tmp_path / "_manifest.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="no plan of a sweep can be read"):
        sweep(subject, prompts, tmp_path)
    with pytest.raises(InputError, match=r"has no _manifest.json, so that no sweep is there"):
        interp.Sweep(tmp_path / "elsewhere")


def test_unfinished_prompts_that_are_not_given_now_do_not_stand_in_the_way(subject, prompts, tmp_path):
    whole = sweep(subject, prompts, tmp_path).frame()
    for file in sorted(tmp_path.glob("*.parquet"))[::2]:
        file.unlink()
    with pytest.raises(InputError, match="prompts are missing in"):
        interp.Sweep(tmp_path).frame()
    few = sweep(subject, prompts[:11], tmp_path).frame()
    assert_equal(few, whole[whole["prompt_id"] < 11].reset_index(drop=True))
    again = sweep(subject, prompts, tmp_path)
    assert again.status()["prompts_done"] == len(prompts)
    assert len(pd.read_parquet(tmp_path)) == len(whole)


def _in_files_below(room, model_path, prompts, out, said):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        interp.sweep("logit_lens", model_path, prompts, out=out, shard_tokens=30, **LENS)
    except InputError as error:
        Path(said).write_text(str(error))


def test_a_file_that_finds_no_room_leaves_nothing_behind(model_path, subject, prompts, tmp_path):
    """A limit of the operating system on the size of a file, in a process of its own, stands for a full disk."""
    whole = sweep(subject, prompts, tmp_path / "whole").frame()
    sizes = sorted(file.stat().st_size for file in (tmp_path / "whole").glob("*.parquet"))
    room = sizes[len(sizes) // 2] - 1
    assert (tmp_path / "whole" / "_manifest.json").stat().st_size < room
    out, said = tmp_path / "rows", tmp_path / "said"
    process = copy_of_this(_in_files_below, room, model_path, prompts, str(out), str(said))
    process.join()
    assert re.fullmatch(
        rf"the rows of a run cannot be written to '{out}/logit_lens-.*': File too large\.", said.read_text()
    )
    assert not list(out.glob(".*.unfinished")) and len(files(out)) < len(sizes)
    assert interp.Sweep(out).status()["shards_done"] == len(files(out))
    pd.testing.assert_frame_equal(sweep(subject, prompts, out).frame(), whole)


def test_a_full_disk_elsewhere_leaves_nothing_behind(subject, prompts, tmp_path):
    whole = sweep(subject, prompts, tmp_path).frame()
    room = sum(file.stat().st_size for file in tmp_path.iterdir()) // 2
    opened = MemoryFileSystem._open

    def _open(self, path, mode="rb", **settings):
        file = opened(self, path, mode, **settings)
        write = file.write

        def write_if_there_is_room(data):
            nonlocal room
            room -= len(data)
            if room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(data)

        if "w" in mode:
            file.write = write_if_there_is_room
        return file

    out = "memory://a-full-disk-of-a-test"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "_open", _open)
        with pytest.raises(
            InputError, match=r"^the rows of a run cannot be .* '/a-full.*': No space left on device\.$"
        ):
            sweep(subject, prompts, out)
    kept = MemoryFileSystem().ls("/a-full-disk-of-a-test", detail=False)
    assert not [name for name in kept if "unfinished" in name]
    assert 0 < interp.Sweep(out).status()["shards_done"] < len(files(tmp_path))
    pd.testing.assert_frame_equal(sweep(subject, prompts, out).frame(), whole)


# -- what cannot be swept --------------------------------------------------------------------------------------------


def test_what_cannot_be_swept_is_refused_before_anything_runs(subject, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(interp.Subject, "run", None)
    for arguments, says in (
        ({"probe": "vocabulary"}, "'vocabulary' reads no texts"),
        ({"probe": "next_token_law"}, "tokens are too few to regress on 16 dimensions"),
        ({"probe": "stages_of_inference"}, "rows of 'stages_of_inference' are about all texts together"),
        ({"probe": next_token_law, "per_prompt": {"seed": [0]}}, "those of 'next_token_law' are not"),
        ({"probe": len}, "'len' is not a probe; mark it with @interp.probe"),
        ({"executor": "processes"}, "give its name or path, not Subject"),
        ({"workers": 0}, "workers=0: give at least 1"),
        ({"shard_tokens": 0}, "shard_tokens=0: give at least 1"),
        ({"positions": 99}, "position 99"),
        ({"out": "/dev/full"}, "is not a folder and cannot be created"),
        ({"out": "nowhere://x"}, "out='nowhere://x' cannot be opened"),
    ):
        given = {"probe": "logit_lens", "out": tmp_path} | arguments
        with pytest.raises(InputError, match=says):
            interp.sweep(given.pop("probe"), subject, prompts, **given)


def test_a_probe_given_as_a_function(subject, prompts, tmp_path):
    done = interp.sweep(layer_robustness, subject, prompts, out=tmp_path, shard_tokens=30, controls=())
    whole = layer_robustness(subject, prompts, controls=())
    assert_equal(done.frame(), whole)
