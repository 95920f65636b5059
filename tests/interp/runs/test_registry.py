"""Probes are found through entry points, and those of the session from the moment they are marked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pandas as pd
import pytest

import interp
import probes
from interp.errors import InputError, InterpError, UnknownName
from interp.frames.schema import Schema, columns
from interp.runs import registry
from interp.runs.registry import GROUP

SCHEMA = Schema("guest", "nobody (2020)", "one per prompt", columns("model", "run_id", "prompt_id", "loss"))


@interp.probe(SCHEMA)
def guest(subject, texts) -> pd.DataFrame:
    return pd.DataFrame()


@interp.probe(replace(SCHEMA, probe="second"))
def second(subject, texts) -> pd.DataFrame:
    return pd.DataFrame()


@interp.probe(SCHEMA)
def another_guest(subject, texts) -> pd.DataFrame:
    return pd.DataFrame()


FAMILY, GUESTS = (guest, second), [another_guest]


@pytest.fixture
def installed(offer):
    """Pretend that a package offers these entry points beside our own."""
    with ExitStack() as packages:
        yield lambda **entries: packages.enter_context(offer(GROUP, entries))


def test_a_probe_is_the_function_that_users_import():
    assert registry.get("logit_lens").function is probes.logit_lens
    assert probes.top_tokens.probe is registry.get("top_tokens")


def test_an_unknown_probe_names_the_nearest():
    with pytest.raises(UnknownName, match="unknown probe 'logit_lense'; did you mean 'logit_lens'"):
        registry.get("logit_lense")
    with pytest.raises(UnknownName, match=r"unknown probe 'zzz'; known: .*'logit_lens', .*'top_tokens'"):
        registry.get("zzz")


def test_anyones_probe_is_found(installed):
    installed(guest=f"{__name__}:guest")
    assert "guest" in registry.names()
    assert registry.get("guest").function is guest and registry.get("guest").schema is SCHEMA


def test_entry_points_that_lead_nowhere_are_named(installed):
    installed(paths="pathlib:Path", lens="probes.lens.logit_lens:logit_lens", none="json:__all__")
    with pytest.raises(InterpError, match=r"entry point 'pathlib:Path' is not a function marked with @interp\.probe"):
        registry.get("paths")
    with pytest.raises(InterpError, match="leads to the probe 'logit_lens', not to 'lens'"):
        registry.get("lens")
    with pytest.raises(InterpError, match="is not a function marked with"):  # a sequence, but not of probes
        registry.get("none")


def test_a_package_that_cannot_be_imported_costs_its_own_probes_only(installed):
    installed(gone="no_such_package:probe")
    with pytest.warns(UserWarning, match="entry point 'no_such_package:probe' cannot be loaded"):
        assert "logit_lens" in registry.names() and "gone" not in registry.names()
    assert registry.get("logit_lens").function is probes.logit_lens
    with pytest.raises(InterpError, match=r"ModuleNotFoundError: No module named 'no_such_package'\.$"):
        registry.get("gone")


def test_two_packages_with_one_name_are_refused(installed):
    installed(guest=f"{__name__}:guest", guests=f"{__name__}:GUESTS")
    with pytest.raises(InputError, match="two packages offer a probe 'guest'"):
        registry.names()


def test_an_entry_point_may_lead_to_several_probes(installed):
    installed(family=f"{__name__}:FAMILY")
    assert {"guest", "second"} <= set(registry.names()) and "family" not in registry.names()
    assert registry.get("second").function is second


def test_marking_returns_the_function_itself():
    assert guest.__name__ == "guest" and guest(None, None).empty
    marked = guest.probe
    assert marked.plot is None and marked.schema is SCHEMA


def test_the_default_summary_leaves_position_0_out():
    schema = Schema("x", "y", "z", columns("model", "prompt_id", "pos", "loss"), summary_of=("loss",))
    frame = pd.DataFrame({"model": "m", "prompt_id": [0, 0, 1, 1], "pos": [0, 1, 0, 1], "loss": [9.0, 1.0, 9.0, 2.0]})
    summary = registry.summarise_by_prompt(schema, frame)
    assert summary["loss"].tolist() == [1.5] and "position 0 left out" in summary.attrs["note"]
    without_positions = registry.summarise_by_prompt(schema, frame.drop(columns="pos"))
    assert without_positions["loss"].tolist() == [5.25]
