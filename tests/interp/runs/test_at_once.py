"""Two calls at once that keep rows in one folder: both end, with the same rows, and nothing of either is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from interp.cli.studies import _remove
from interp.findings import findings
from interp.report.page import report
from tests.interp.sweeps.drivers import copy_of_this

CLAIMS = ["neurons.prediction", "lens.approach", "robustness.first_block"]
TEXTS = ["Once upon a time there was a cat", "The dog ran home", "It was a dark night"]
PROBES = ["logit_lens", "layer_robustness"]


def _find(folder, number):
    findings("reference", CLAIMS, texts=TEXTS, n_resamples=99, out=Path(folder) / "parts").to_parquet(
        Path(folder) / f"frame{number}.parquet"
    )


def _report(folder, _):
    report("reference", Path(folder) / "page.html", texts=TEXTS, probes=PROBES, findings=False)


def two_at_once(target, folder):
    folder.mkdir()
    several = [copy_of_this(target, str(folder), number) for number in range(2)]
    for process in several:
        process.join()
    assert [process.exitcode for process in several] == [0, 0]


def find_twice(folder):
    two_at_once(_find, folder)
    first, second = (pd.read_parquet(folder / f"frame{number}.parquet") for number in range(2))
    pd.testing.assert_frame_equal(first, second)
    parts = sorted((folder / "parts").iterdir())
    assert len(parts) == first["state"].isin(["holds", "fails", "undecided"]).sum() > 0
    assert len(pd.read_parquet(folder / "parts")) == len(parts)


def report_twice(folder):
    two_at_once(_report, folder)
    assert len(list((folder / "page_frames").iterdir())) == len(PROBES)
    assert all(f'id="{name}-' in (folder / "page.html").read_text("utf-8") for name in PROBES)
    assert sorted(one.name for one in folder.iterdir()) == ["page.html", "page_frames"]


@pytest.mark.parametrize("twice", [find_twice, report_twice])
def test_two_at_once(tmp_path, twice):
    twice(tmp_path / "folder")


@pytest.mark.slow
def test_two_commands_at_once(tmp_path):
    """The one that ends first takes away what it kept, while the other still keeps its own."""
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    asked = [part for claim in CLAIMS for part in ("--claim", claim)]
    command = [sys.executable, "-m", "interp", "findings", *asked, "--data", "texts.txt", "--out", "found.csv"]
    several = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in several] == [0, 0]
    assert sorted(pd.read_csv(tmp_path / "found.csv")["claim"]) == sorted(CLAIMS)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["found.csv", "texts.txt"]


def test_what_another_took_away_is_no_error(tmp_path):
    _remove(tmp_path / "found.csv.parts")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("twice", [find_twice, report_twice])
def test_twenty_times_two_at_once(tmp_path, twice):
    for trial in range(20):
        twice(tmp_path / str(trial))
        print(f"{twice.__name__}: trial {trial + 1}", flush=True)
