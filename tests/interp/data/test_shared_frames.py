"""Frames are shared through a folder, and through a hub of which a folder takes the place."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pandas as pd
import pytest

import interp
from interp.errors import InputError, UnknownName
from probes import logit_lens


@pytest.fixture(scope="module")
def frame():
    return logit_lens("reference", ["Once upon a time"], positions=-1, targets="argmax")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A folder as the hub: `HfApi` writes and lists it, `hf_hub_download` reads it."""

    def place(repo_id, repo_type):
        assert repo_type == "dataset"
        return tmp_path / "hub" / repo_id

    class Api:
        def create_repo(self, repo_id, repo_type, private, exist_ok):
            place(repo_id, repo_type).mkdir(parents=True, exist_ok=exist_ok)
            (place(repo_id, repo_type) / "private").write_text(str(private))

        def file_exists(self, repo_id, filename, repo_type):
            return (place(repo_id, repo_type) / filename).exists()

        def upload_file(self, path_or_fileobj, path_in_repo, repo_id, repo_type, commit_message):
            (place(repo_id, repo_type) / path_in_repo).write_bytes(path_or_fileobj)

        def list_repo_files(self, repo_id, repo_type, revision):
            if not place(repo_id, repo_type).is_dir():
                raise OSError("Repository Not Found.")
            return [one.name for one in place(repo_id, repo_type).iterdir()]

    def download(repo_id, filename, repo_type, revision):
        return str(place(repo_id, repo_type) / filename)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return tmp_path / "hub"


def same(back, frame):
    pd.testing.assert_frame_equal(back, frame)
    assert back.interp.runs == frame.interp.runs


def test_through_the_hub_a_frame_keeps_its_provenance(frame, hub):
    assert frame.interp.push("me/lens") == f"hf://datasets/me/lens/logit_lens-{frame['run_id'].iat[0]}.parquet"
    same(interp.pull("me/lens"), frame)
    assert (hub / "me/lens/private").read_text() == "True"
    card = (hub / "me/lens/README.md").read_text("utf-8")
    assert 'interp.pull("me/lens", "logit_lens-' in card
    frame.interp.push("me/lens", "again")
    assert (hub / "me/lens/README.md").read_text("utf-8") == card
    same(interp.pull("me/lens", "again"), frame)


def test_through_a_folder_too(frame, tmp_path):
    where = frame.interp.push(tmp_path / "frames", "lens")
    assert Path(where) == tmp_path / "frames" / "lens.parquet"
    same(interp.pull(str(tmp_path / "frames")), frame)
    same(interp.pull(tmp_path / "frames", "lens.parquet"), frame)


def test_several_frames_are_told_apart_by_name(frame, tmp_path):
    for name in ("one", "two"):
        frame.interp.push(tmp_path, name)
    with pytest.raises(InputError, match="holds 2 frames; name one of one, two"):
        interp.pull(tmp_path)
    with pytest.raises(UnknownName, match="unknown frame 'tow'; did you mean 'two'"):
        interp.pull(tmp_path, "tow")


def test_what_cannot_be_reached_is_told_in_a_sentence(hub):
    with pytest.raises(InputError, match="'no/where' on the hub cannot be reached: Repository Not Found"):
        interp.pull("no/where")


def test_a_joined_frame_keeps_the_provenance_of_all_its_runs(frame, tmp_path):
    other = logit_lens("reference", ["The cat sat"], positions=-1, targets="argmax")
    both = pd.concat([frame, other], ignore_index=True)  # drops attrs that differ
    both.interp.push(tmp_path)
    assert set(interp.pull(tmp_path).attrs["interp"]) == {frame["run_id"].iat[0], other["run_id"].iat[0]}
