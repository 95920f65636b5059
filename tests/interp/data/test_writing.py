"""A file is written whole or not at all, through nobody else's name."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pandas as pd
import pytest
import torch

from interp.data import tensor_file
from interp.data.writing import written
from interp.errors import InputError
from interp.pytest_plugin import reading, records
from interp.runs.store import Store

KEPT = {"test": {"a": {"model": "m", "fingerprint": "f", "by": ["layer"], "rows": [{"layer": 0, "value": 0.5}]}}}
FRAME = pd.DataFrame({"prompt_id": [0, 1], "value": [0.5, 1.5]})


def put(path: Path, content: bytes = b"new") -> None:
    with written(path) as file:
        file.write(content)


def test_what_was_written_is_there_and_nothing_else(tmp_path):
    put(tmp_path / "a.txt")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.txt": b"new"}


def test_until_the_end_the_old_file_is_in_its_place(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with written(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def interrupted():
        with written(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.txt": b"old"}


def test_the_unfinished_name_is_another_each_time_and_opened_exclusively(tmp_path, monkeypatch):
    opened, open_ = [], os.open

    def noting(path, flags, *mode):
        opened.append((Path(path).name, flags))
        return open_(path, flags, *mode)

    monkeypatch.setattr(os, "open", noting)
    put(tmp_path / "a.txt")
    put(tmp_path / "a.txt")
    (first, flags), (second, _) = opened
    assert first != second
    assert flags & os.O_EXCL and flags & os.O_NOFOLLOW


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "out.txt"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    put(link)
    assert (victim.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"precious", b"new", False)


def test_a_link_under_the_unfinished_name_is_not_followed(tmp_path, monkeypatch):
    # As if the name had been guessed.
    monkeypatch.setattr("secrets.token_hex", lambda n: "guessed")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".guessed.unfinished").symlink_to(victim)
    with pytest.raises(InputError, match="cannot be written"):
        put(tmp_path / "out.txt")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / ".guessed.unfinished").is_symlink()  # not ours to remove
    assert not (tmp_path / "out.txt").exists()


def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path):
    path, fresh = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    put(path)
    put(fresh)
    (tmp_path / "c.txt").write_bytes(b"")
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, fresh, tmp_path / "c.txt")]
    assert modes[0] == 0o640 and modes[1] == modes[2]


@pytest.mark.parametrize("where", ["folder", "fifo", "link to a device", "no/such/folder/a.txt"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, where):
    path = tmp_path / where
    if where == "folder":
        path.mkdir()
    if where == "fifo":
        os.mkfifo(path)
    if where.startswith("link"):
        path.symlink_to(os.devnull)
    with pytest.raises(InputError, match=f"the file cannot be written to '.*{where}': ") as caught:
        put(path)
    assert "\n" not in str(caught.value)
    assert Path(os.devnull).is_char_device()
    assert not list(tmp_path.rglob("*.unfinished"))


def planted(folder: Path, *names: str) -> Path:
    """A file of someone else, and links to it under the names that unfinished files used to have."""
    victim = folder / "victim"
    victim.write_bytes(b"precious")
    for name in names:
        (folder / name).symlink_to(victim)
    return victim


@pytest.mark.parametrize("writer", ["store", "records", "tensors", "figure", "report", "probe frames", "counts"])
def test_no_writer_follows_a_planted_link(tmp_path, writer, small_subject):
    victim = planted(tmp_path, "run-00000.unfinished", "findings.unfinished", "out.unfinished", "out.npz", "out.st")
    before = {path.name for path in tmp_path.iterdir()}
    if writer == "store":
        Store(tmp_path, "run").write("a", FRAME)
        pd.testing.assert_frame_equal(Store(tmp_path, "run").read(), FRAME)
    elif writer == "records":
        records.write(tmp_path / "findings.json", KEPT)
        assert reading.read(tmp_path / "findings.json") == KEPT
    elif writer == "tensors":
        tensor_file.write(tmp_path / "out.st", "a lens", {"weight": torch.eye(2)}, {"format": "test"})
        about, tensors = tensor_file.read(tmp_path / "out.st", "lens", "test")
        assert about == {"format": "test"} and torch.equal(tensors["weight"], torch.eye(2))
    elif writer == "counts":
        from probes.subnetworks.bigram_model import BigramModel

        BigramModel.from_transition(torch.full((4, 4), 0.25)).save(tmp_path / "out.npz")
    else:
        from interp.report.every_probe import run_every_probe
        from interp.report.page import report
        from probes import logit_lens

        subject = small_subject("gpt2", "nnsight")
        frame = logit_lens(subject, ["w3 w4 w5"], positions=-1)
        if writer == "figure":
            frame.interp.plot(path=tmp_path / "out.png")
            assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
        elif writer == "report":
            report([frame], tmp_path / "out.html")
        else:
            (kept,) = run_every_probe(subject, ["w3 w4 w5"], probes=["logit_lens"], folder=tmp_path)
            file = next(tmp_path.glob("logit_lens-*.parquet"))
            pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(file.read_bytes())), kept.frame)
    assert victim.read_bytes() == b"precious"
    new = {path.name for path in tmp_path.iterdir()} - before
    assert not [name for name in new if "unfinished" in name]
