"""The contributing guide is followed to the letter: its toy probe is added to a copy of the code, and its tests run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pages" / "contributing.md"
SNIPPET = re.compile(r'```(python|diff) title="([^"]+)"\n(.*?)```', flags=re.DOTALL)
COPIED, LINKED = ("interp", "probes", "tests"), ("datasets", "pyproject.toml")


def patched(text: str, diff: str) -> str:
    """Insert a diff's new lines behind the line of the text that stands before them in the diff."""
    lines, at = text.splitlines(), 0
    for line in diff.splitlines():
        if line.startswith("+"):
            lines.insert(at, line[1:])
            at += 1
        else:
            assert line[1:] in lines, f"the guide shows {line[1:]!r}, which is no longer there"
            at = lines.index(line[1:]) + 1
    return "\n".join(lines) + "\n"


def added(text: str, code: str) -> str:
    """Put code at the end of a module, or above its CLAIMS."""
    before, claims, after = text.partition("CLAIMS = (\n")
    return f"{before}{code}\n\n{claims}{after}" if claims else f"{text}\n\n{code}"


def follow(page: str, folder: Path) -> list[Path]:
    """Write what the page says, in a folder; the files, in order."""
    files = []
    for kind, name, code in SNIPPET.findall(page):
        file = folder / name
        if not file.exists():
            file.write_text(code, "utf-8")
        else:
            file.write_text((patched if kind == "diff" else added)(file.read_text("utf-8"), code), "utf-8")
        files.append(file)
    return files


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The code with the guide's toy probe in it."""
    folder = tmp_path_factory.mktemp("contributed")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    follow(PAGE.read_text("utf-8"), folder)
    return folder


def run(folder, *arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_guide_adds_passes_its_own_tests_and_those_of_every_probe(copy):
    files = ("tests/probes/geometry/test_residual_norm.py", "probes/geometry/residual_norm.py")
    files += ("tests/probes/test_every_probe.py",)
    out = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "residual_norm", "-rA")
    passed = re.findall(r"^PASSED .*", out, flags=re.MULTILINE)
    own = [line for line in passed if "test_every_probe" not in line]
    assert len(own) == 6, out  # four tests, one of them for both backends, and the docstring's
    assert len(passed) > len(own), out


def test_what_the_guide_adds_keeps_the_house_in_order(copy):
    run(copy, "-m", "ruff", "check", "--no-cache", "probes", "tests/probes/geometry")
    run(copy, "-m", "ruff", "format", "--no-cache", "--check", "probes", "tests/probes/geometry")


def test_a_line_that_is_no_longer_there_is_named():
    with pytest.raises(AssertionError, match="the guide shows 'b', which is no longer there"):
        patched("a\n", " b\n+c\n")


def test_files_and_folders_that_the_guide_names_exist():
    text = SNIPPET.sub("", PAGE.read_text("utf-8"))
    named = re.findall(r"`((?:probes|interp|tests|docs|notebooks|benchmarks|datasets)/[\w/.]*)`", text)
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).exists() or "residual_norm" in name, name
