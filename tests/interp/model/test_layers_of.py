"""Layers that a user names mean the same in every probe: negative ones from the last, "all" all of them."""

from __future__ import annotations

import inspect

import pytest

import probes
from interp.authoring import layers_of
from interp.errors import InputError

TAKING = [one for one in probes.PROBES if {"layers", "layer"} & set(inspect.signature(one).parameters)]


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, [0, 1, 2]), ("all", [0, 1, 2]), (-1, [2]), ([2, 0, 2], [0, 2]), ([-3, 0], [0]), (range(2), [0, 1])],
)
def test_layers_are_counted_from_either_end(given, meant):
    assert layers_of(given, 2, "a model") == meant


@pytest.mark.parametrize("given", [3, -4, [0, 3]])
def test_a_layer_that_is_not_there_is_named(given):
    with pytest.raises(InputError, match="is not in 'a model': layers run from 0 to 2 here, or back from -1"):
        layers_of(given, 2, "a model")


@pytest.mark.parametrize("probe", TAKING, ids=lambda probe: probe.__name__)
def test_every_probe_of_layers_takes_them_so(probe):
    (name,) = {"layers", "layer"} & set(inspect.signature(probe).parameters)
    assert inspect.unwrap(probe).__annotations__[name] == "Layers"


def test_the_last_layer_by_number_and_from_the_end_have_the_same_rows():
    texts = ["Once upon a time"]
    for last in (-1, [8]):
        frame = probes.logit_lens("reference", texts, positions=-1, targets="argmax", layers=last)
        assert frame["layer"].tolist() == [8]
    assert probes.neuron_tokens("reference", layers=-1, k=1, n_random=0)["layer"].unique().tolist() == [7]
