"""When a progress bar is shown, and what it says."""

from __future__ import annotations

import io
import sys

import pandas as pd
import pytest

import interp
from interp.authoring import in_batches, progress_bar
from interp.planted import bias_ladder
from interp.report.every_probe import run_every_probe

LADDER = interp.load(bias_ladder(n_layers=2).model)


class Stream(io.StringIO):
    """What stderr is in a terminal, or where it is sent to a file."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def stderr(monkeypatch):
    """Puts a terminal, or a file, where stderr is; what is written to it can be asked for."""

    def put(*, terminal: bool) -> Stream:
        stream = Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return put


def last_line(stream: Stream) -> str:
    return stream.getvalue().replace("\n", "\r").rstrip("\r").split("\r")[-1]


def work(total: int = 5, **options) -> None:
    with progress_bar(total, "prompt", "reading", **options) as bar:
        for _ in range(total - options.get("done", 0)):
            bar.update()


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, True, True), (None, False, False), (True, False, True), (True, True, True), (False, True, False)],
)
def test_it_is_shown_on_a_terminal_unless_the_session_says_otherwise(stderr, monkeypatch, progress, terminal, shown):
    monkeypatch.setattr("interp.runs.progress.SECONDS", 0)  # between two lines of a log
    stream = stderr(terminal=terminal)
    with interp.options.local(progress=progress):
        work()
    assert bool(stream.getvalue()) == shown


def test_it_says_what_is_done_of_how_much_and_nothing_goes_to_stdout(stderr, capsys):
    stream = stderr(terminal=True)
    work()
    line = last_line(stream)
    assert line.startswith("reading: 100%") and "5/5" in line and "prompt/s" in line
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("total", "n_steps", "shown"), [(0, None, False), (1, None, False), (100, 1, False), (100, 2, True)]
)
def test_a_single_step_has_no_bar_whatever_the_session_says(stderr, total, n_steps, shown):
    stream = stderr(terminal=True)
    with interp.options.local(progress=True):
        work(total, n_steps=n_steps)
    assert bool(stream.getvalue()) == shown


def test_it_goes_on_from_what_is_done(stderr):
    stream = stderr(terminal=True)
    work(done=3)
    first = stream.getvalue().strip("\r").split("\r")[0]
    assert "3/5" in first and "5/5" in last_line(stream)


def test_batches_count_tokens(stderr):
    tokens = LADDER.tokens(["w1 w2 w3", "w1 w2", "w4"])
    stream = stderr(terminal=True)
    assert len(list(in_batches(tokens, 3, "some probe"))) == 3
    assert last_line(stream).startswith("some probe: 100%") and "6/6" in last_line(stream)
    stream = stderr(terminal=True)
    assert len(list(in_batches(tokens, 100, "some probe"))) == 1
    assert stream.getvalue() == ""


def test_a_report_names_the_probe_it_runs_and_counts_what_it_kept(stderr, tmp_path):
    texts, stream = pd.DataFrame({"prompt_id": [0], "text": ["w1 w2 w3"]}), stderr(terminal=True)
    for kept in (False, True):
        entries = list(run_every_probe(LADDER, texts, probes=["logit_lens", "top_tokens"], folder=tmp_path))
        assert [entry.kept for entry in entries] == [kept, kept]
        assert last_line(stream).startswith("top_tokens: 100%") and "2/2" in last_line(stream)
        assert "logit_lens:" in stream.getvalue()
        stream = stderr(terminal=True)
    list(run_every_probe(LADDER, texts, probes=["logit_lens"], folder=tmp_path))
    assert stream.getvalue() == ""
