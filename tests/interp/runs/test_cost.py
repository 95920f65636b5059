"""A run says what it costs before it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import interp
from interp.authoring import Run, say_cost
from interp.runs import cost, registry
from probes import attribute
from probes.geometry.microscope import MICROSCOPE


@pytest.fixture
def run(monkeypatch, small_subject, ids) -> Iterator[Run]:
    monkeypatch.setattr(cost, "_speed", lambda subject: 1e9)
    with interp.options.local(progress=True):
        yield Run(MICROSCOPE, small_subject("llama", "bridge"), ids, parameters={}, truncate=True)


def test_a_long_run_says_what_it_will_take(run, capsys):
    subject, n_tokens = run.subject, sum(map(len, run.tokens.ids))
    block = 4 * subject.d_model**2 + 3 * subject.d_model * subject.d_mlp
    passes = 6e11 / (n_tokens * subject.n_layers * block)
    say_cost(run, passes=passes, unembedded=3e11 / subject.W_U.numel(), products=3e11)
    said = capsys.readouterr().err
    assert said.startswith("microscope: about 20 minutes for ") and said.count("\n") == 1  # 1.2e12 at 1e9 a second
    assert f"passes of {n_tokens:,} tokens" in said and "unembeddings" in said and "3e+11 other" in said


def test_a_short_run_and_a_run_without_bars_say_nothing(run, capsys):
    say_cost(run, products=5.9e10)
    say_cost(run, products=1e11 - 1)
    with interp.options.local(progress=False):
        say_cost(run, products=1e15)
    assert capsys.readouterr().err == ""


def test_tokens_of_a_pass_may_be_others_than_the_runs(run, capsys):
    say_cost(run, passes=1e9, n_tokens=1234)
    assert "1,000,000,000 forward passes of 1,234 tokens" in capsys.readouterr().err


def test_attribute_says_what_its_methods_cost(small_subject, ids, monkeypatch, capsys):
    """Integrated gradients take a forward and a backward pass at 7 points, occlusion one pass more than tokens."""
    monkeypatch.setattr(cost, "_SURELY_SHORT", 1.0)
    monkeypatch.setattr(cost, "_speed", lambda subject: 1.0)
    methods = {"integrated_gradients": {"n_steps": 6}, "occlusion": {}, "norm": {}, "random": {}}
    n = ids.shape[1]
    with interp.options.local(progress=True):
        attribute(small_subject("llama", "bridge"), ids, methods=methods)
    assert f"for {2 * 7 + 1 + n + 1:.3g} forward passes of {2 * n} tokens" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["byte_log_prob", "next_byte", "tokenization_bias"])
def test_probes_of_bytes_say_what_their_contexts_cost(name, monkeypatch, capsys):
    monkeypatch.setattr(cost, "_SURELY_SHORT", 1.0)
    monkeypatch.setattr(cost, "_speed", lambda subject: 1.0)
    with interp.options.local(progress=True):
        registry.get(name).function("reference", ["Once upon a time there"])
    said = capsys.readouterr().err.partition("\n")[0]
    told = re.fullmatch(name + r": about .* for 1 forward pass of (\d+) tokens, (\d+) unembeddings\.", said)
    assert told is not None and 0 < int(told[2]) <= int(told[1])


def test_the_speed_is_that_of_a_product(small_subject):
    # From a slow core's to a large GPU's multiplications a second.
    assert 1e8 < cost._speed(small_subject("llama", "bridge")) < 1e16
