"""Every bad call of the table is refused in one sentence with the value and the mend, before anything is computed.

The table is in `calls/`, a file per kind of fault; a row is a call and words of the sentence.
"""

from __future__ import annotations

import inspect
import runpy
import shlex
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

import interp
import interp.authoring
import probes
from interp.cli import app

TABLE = {
    file.stem: runpy.run_path(str(file))["ROWS"] for file in sorted((Path(__file__).parent / "calls").glob("*.py"))
}
OTHER = ("command_line", "magics")  # not calls of Python
CALLS = [(call, words) for kind, rows in TABLE.items() if kind not in OTHER for call, words in rows]


def check_sentence(sentence: str, words: str) -> None:
    """Assert that a message holds the words, on one line, and is neither a Python error's name alone nor unfinished."""
    assert words in sentence
    assert "\n" not in sentence.strip()
    assert sentence.rstrip().endswith((".", "?", ")", "!"))


@pytest.mark.parametrize(("call", "words"), CALLS, ids=[call for call, _ in CALLS])
def test_a_bad_call_is_refused_in_one_sentence(names, in_folder, without_a_pass, call, words):
    with pytest.raises(interp.InterpError) as caught:
        exec(call, dict(names))
    check_sentence(str(caught.value), words)


@pytest.mark.parametrize(("line", "words"), TABLE["command_line"], ids=[line for line, _ in TABLE["command_line"]])
def test_a_bad_command_ends_with_one_sentence_and_code_two(in_folder, loaded_once, without_a_pass, line, words):
    done = CliRunner().invoke(app, shlex.split(line))
    assert isinstance(done.exception, SystemExit) and done.exit_code == 2
    assert "Traceback" not in done.output
    if "Usage:" not in done.stderr:  # how typer answers what it cannot parse
        check_sentence(done.stderr.removeprefix("interp: "), words)
    assert words in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(("line", "words"), TABLE["magics"], ids=[line for line, _ in TABLE["magics"]])
def test_a_bad_magic_prints_one_sentence(magic, in_folder, without_a_pass, line, words):
    from IPython.core.error import UsageError

    with pytest.raises(UsageError) as caught:
        magic(line)
    check_sentence(str(caught.value), words)


# What takes no argument, or is a type of values that functions return.
UNASKED = {"InputError", "InterpError", "ModelError", "NumericalError", "TooLong", "UnknownName", "Stream", "Tape"}
UNASKED |= {
    "Sums",
    "text_dataset_names",
    "ChosenPositions",
    "checked",
    "warn",
    "answering",
    "shows_parameters_of",
    "with_concept",
    "Example",
    "Layers",
    "Source",
    "Texts",
    "TypeAlias",
    "Usable",
}


def test_the_table_holds_every_public_callable():
    text = "\n".join(call for call, _ in CALLS)
    public = {name: getattr(interp, name) for name in interp.__all__}
    public |= {name: getattr(interp.authoring, name) for name in interp.authoring.__all__}
    public |= {name: getattr(probes, name) for name in probes.__all__}
    methods = {
        f".{method}"
        for owner in (
            *(interp.Subject, probes.Subnetwork, probes.BigramModel, probes.TunedLens, probes.NeuronSet),
            *(probes.Direction, probes.JacobianLens),
        )
        for method, value in vars(owner).items()
        if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))
        if len(inspect.signature(getattr(owner, method)).parameters) > isinstance(value, classmethod) - 1
        and set(inspect.signature(getattr(owner, method)).parameters) - {"self", "cls"}
    }
    wanted = {name for name, value in public.items() if callable(value) and name not in UNASKED} | methods
    assert {name for name in wanted if f"{name}(" not in text} == set()


def test_the_table_is_long_and_has_no_row_twice():
    counts = Counter(call for rows in TABLE.values() for call, _ in rows)
    assert len(counts) == sum(counts.values()) >= 600
    assert all(words.strip() for rows in TABLE.values() for _, words in rows)
