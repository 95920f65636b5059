"""`interp.probes`: every installed probe and its companions under one name, found when they are asked for."""

from __future__ import annotations

import builtins

import pytest

import interp.probes
import probes
from interp.runs import registry


def test_a_probe_is_the_function_itself():
    from interp.probes import logit_lens

    assert logit_lens is probes.logit_lens is interp.probes.logit_lens


def test_it_holds_every_public_name_of_the_built_in_probes():
    """What trains for a probe or goes into one is there beside it: `tuned_lens` and `TunedLens`, `NeuronSet`."""
    assert {name: getattr(interp.probes, name) for name in probes.__all__} == {
        name: getattr(probes, name) for name in probes.__all__
    }
    assert interp.probes.tuned_lens is probes.tuned_lens and interp.probes.TunedLens is probes.TunedLens


def test_it_lists_what_it_holds():
    listed = dir(interp.probes)
    assert listed == sorted(listed) and len(set(listed)) == len(listed)
    assert set(listed) == {*registry.names(), *registry.companions()} >= set(probes.__all__)
    assert all(getattr(interp.probes, name) is not None for name in listed)


def test_a_star_imports_what_it_holds_and_hides_nothing_of_python():
    held: dict[str, object] = {}
    exec("from interp.probes import *", held)
    assert held["logit_lens"] is probes.logit_lens and set(dir(interp.probes)) <= set(held)
    assert not set(dir(interp.probes)) & set(dir(builtins))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logit_lense", "unknown probe 'logit_lense'; did you mean 'logit_lens'"),
        ("TunedLense", "unknown probe 'TunedLense'; did you mean 'TunedLens'"),
        ("zzz", "unknown probe 'zzz'; known: .*'logit_lens'.*'vocabulary'"),
        ("__wrapped__", "__wrapped__"),
    ],
)
def test_an_unknown_name_is_an_attribute_error_that_names_the_nearest(name, message):
    with pytest.raises(AttributeError, match=message):
        getattr(interp.probes, name)
    assert not hasattr(interp.probes, name)
