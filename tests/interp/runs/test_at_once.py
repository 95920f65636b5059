"""Two calls at once that keep rows in one folder: both end, with the same rows, and nothing of either is lost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

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
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("twice", [find_twice, report_twice])
def test_twenty_times_two_at_once(tmp_path, twice):
    for trial in range(20):
        twice(tmp_path / str(trial))
        print(f"{twice.__name__}: trial {trial + 1}", flush=True)
