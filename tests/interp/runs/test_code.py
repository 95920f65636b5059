"""Kept results are keyed by all code they depend on."""

from __future__ import annotations

import importlib
import sys
from functools import partial

import pytest

from interp.runs import code
from interp.runs.code import code_digest
from probes import faithfulness


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a probe and a private helper in a folder of its own."""
    folder = tmp_path / "somebodys"
    (folder / "family").mkdir(parents=True)
    for file, text in {"__init__.py": "", "family/__init__.py": "", "family/_helper.py": "FACTOR = 1\n"}.items():
        (folder / file).write_text(text)
    (folder / "family" / "guest.py").write_text("from somebodys.family._helper import FACTOR\n\ndef guest(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder, importlib.import_module("somebodys.family.guest").guest
    for name in [name for name in sys.modules if name.partition(".")[0] == "somebodys"]:
        del sys.modules[name]


def test_it_changes_with_a_private_helper(package):
    folder, guest = package
    before = code_digest(guest)
    assert code_digest(guest) == before != code_digest()
    (folder / "family" / "_helper.py").write_text("FACTOR = 2\n")
    assert code_digest(guest) != before


def test_it_changes_with_a_file_that_is_added_or_renamed(package):
    folder, guest = package
    before = code_digest(guest)
    (folder / "family" / "_helper.py").rename(folder / "family" / "_renamed.py")
    renamed = code_digest(guest)
    (folder / "_new.py").write_text("")
    assert len({before, renamed, code_digest(guest)}) == 3


def test_a_partial_is_its_function(package):
    _, guest = package
    assert code_digest(partial(partial(guest), 1)) == code_digest(guest)


def test_it_changes_with_a_version(monkeypatch):
    before = code_digest(faithfulness)
    monkeypatch.setattr(code, "versions", lambda: {"torch": "0"})
    assert code_digest(faithfulness) != before


def test_what_a_session_defines_is_another_in_every_session(monkeypatch):
    def own(): ...

    own.__module__ = "__main__"
    before = code_digest(own)
    assert code_digest(own) == before
    monkeypatch.setattr(code, "_SESSION", "another")
    assert code_digest(own) != before
