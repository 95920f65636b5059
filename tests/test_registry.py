"""Probes are found through entry points; the public names and the house rules about `datasets/` stay what they are."""

from __future__ import annotations

import importlib.metadata
import inspect
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest

import interp
import probes
from interp import registry
from interp.errors import InputError, InterpError, UnknownName
from interp.frames import Schema, columns
from interp.registry import GROUP, Probe

REPOSITORY = Path(__file__).parents[1]
SCHEMA = Schema("guest", "nobody (2020)", "one per prompt", columns("model", "run_id", "prompt_id", "loss"))


@interp.probe(SCHEMA)
def guest(subject, texts) -> pd.DataFrame:
    return pd.DataFrame()


def not_a_probe() -> None: ...


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package offers these entry points beside our own."""

    def install(**entries: str) -> None:
        ours = list(importlib.metadata.entry_points(group=GROUP))
        theirs = [EntryPoint(name, value, GROUP) for name, value in entries.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: [*ours, *theirs])
        registry.get.cache_clear()

    yield install
    monkeypatch.undo()
    registry.get.cache_clear()


def test_every_entry_point_is_a_probe():
    entries = {entry.name: entry.value for entry in importlib.metadata.entry_points(group=GROUP)}
    assert registry.names() == sorted(entries)
    assert {"logit_lens", "top_tokens"} <= set(entries)
    for name in entries:
        found = registry.get(name)
        assert isinstance(found, Probe) and found.name == name
        assert found.schema.paper and found.schema.rows and found.function.__doc__
        # The model comes first, and what may be left out is given by name.
        # The model comes first, and what may be left out is given by name.
        # The model comes first, and what may be left out is given by name.
        # The model comes first, and what may be left out is given by name.
        # The model comes first, and what may be left out is given by name.
        # The model comes first, and what may be left out is given by name.
        arguments = list(inspect.signature(found.function).parameters.values())
        assert arguments[0].name == "subject"
        assert all(one.kind is one.KEYWORD_ONLY or one.default is one.empty for one in arguments)


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
    installed(paths="pathlib:Path", lens="probes.logit_lens:logit_lens")
    with pytest.raises(InterpError, match=r"entry point 'pathlib:Path' is not a function marked with @interp\.probe"):
        registry.get("paths")
    with pytest.raises(InterpError, match="as 'lens'"):  # a probe, under another name than its own
        registry.get("lens")


def test_two_packages_with_one_name_are_refused(installed):
    installed(logit_lens="elsewhere:logit_lens")
    with pytest.raises(InputError, match="two packages offer a probe 'logit_lens'"):
        registry.names()


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


def test_public_names():
    """A name here is a promise: adding one is a decision, losing one breaks somebody's notebook."""
    assert interp.__all__ == [
        "Column", "InputError", "InterpError", "ModelError", "NumericalError", "Run", "Schema", "Subject", "Tape",
        "Tokens", "TooLong", "UnknownName", "concat", "load", "options", "probe",
    ]  # fmt: skip
    assert probes.__all__ == [
        "BigramModel",
        "Evaluation",
        "FoundSubnetworks",
        "NeuronSet",
        "Subnetwork",
        "TunedLens",
        "attribute",
        "bigram_model",
        "bigram_subnetwork",
        "character_content",
        "concept_neurons",
        "concept_scores",
        "evaluate_subnetwork",
        "faithfulness",
        "find_subnetwork",
        "iterative_inference",
        "kept_weights",
        "law_and_microscope",
        "layer_robustness",
        "load_tuned_lens",
        "logit_lens",
        "maskable",
        "microscope",
        "microscope_tokens",
        "neuron_kinds",
        "neuron_tokens",
        "next_token_law",
        "normxlogit",
        "random_model",
        "reagent",
        "reagent_ls",
        "reagent_probes",
        "released_subnetwork",
        "run_schedules",
        "spelling",
        "stages_of_inference",
        "steer",
        "subjoiner_heads",
        "subnetwork_covariance",
        "subnetwork_log",
        "subnetwork_overlap",
        "subnetwork_rotation",
        "subnetwork_surprisal",
        "top_tokens",
        "tuned_lens",
        "value_clusters",
        "vocabulary",
    ]
    for package in (interp, probes):
        assert all(getattr(package, name) is not None for name in package.__all__)


def test_datasets_holds_data_only():
    """A package of that name at the root would shadow the one TransformerLens imports."""
    folder = REPOSITORY / "datasets"
    assert folder.is_dir()
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.py*")] == []


def test_import_datasets_is_hugging_faces():
    import datasets

    assert datasets.__file__ is not None
    assert "site-packages" in Path(datasets.__file__).parts and hasattr(datasets, "load_dataset")
