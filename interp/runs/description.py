"""Describe a probe in words, from its docstring and signature: what it asks, needs and takes, and how to call it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from interp.checks import example_call
from interp.display.text import short_citation
from interp.runs.registry import Probe

_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def question(probe: Probe) -> str:
    """Return the first sentence of a probe's docstring."""
    (first, *_) = (inspect.getdoc(probe.function) or "").split("\n\n")
    return " ".join(first.split())


def family(probe: Probe) -> str:
    """Return the folder that a built-in probe stands in; of another package's probe, the package.

    >>> from probes import logit_lens
    >>> family(logit_lens.probe)
    'lens'
    """
    package, *inner = probe.function.__module__.split(".")
    return inner[0] if package == "probes" and inner else package


def needs(probe: Probe) -> list[str]:
    """Return the arguments without a default, besides the model.

    >>> from probes import logit_lens, steer
    >>> needs(logit_lens.probe), needs(steer.probe)
    (['texts'], ['texts', 'neurons', 'alphas'])
    """
    _, *taken = inspect.signature(probe.function).parameters.values()
    return [one.name for one in taken if one.default is one.empty and one.kind not in _OPEN]


def in_words(probe: Probe) -> dict[str, str]:
    """Return a probe's row in a list of probes: what it asks, needs and draws."""
    return {
        "probe": probe.name,
        "family": family(probe),
        "what it does": question(probe),
        "needs": ", ".join(needs(probe)),
        "figure": "yes" if probe.plot is not None else "no",
        "paper": short_citation(probe.schema.paper),
    }


def arguments_of(probe: Probe) -> pd.DataFrame:
    """Return one row per argument besides the model: name, default ("" where one must be given) and meaning."""
    meaning = _meanings(probe.function)
    _, *taken = inspect.signature(probe.function).parameters.values()
    rows = [
        (one.name, "" if one.default is one.empty else repr(one.default), meaning.get(one.name, ""))
        for one in taken
        if one.kind not in _OPEN
    ]
    return pd.DataFrame(rows, columns=["argument", "default", "meaning"])


def call(probe: Probe) -> str:
    """Return the call from Python that the docstring shows, with its import; empty if it shows none."""
    shown = example_call(probe.function)
    package = probe.function.__module__.partition(".")[0]
    return "" if shown is None else f"python: from {package} import {probe.name}; {ast.unparse(shown)}"


def command(probe: Probe) -> str:
    """Return a command that runs the probe, on its example's arguments where it needs more than texts."""
    example = " --example" if set(needs(probe)) - {"texts"} else ""
    return f"interp run {probe.name} --model reference{example}"


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring says of each argument, on one line, by name."""
    _, _, after = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    section = re.split(r"^(?=\S)", after, maxsplit=1, flags=re.MULTILINE)[0]
    entries = re.split(r"^ {4}(?=\S)", section, flags=re.MULTILINE)[1:]
    named = (entry.partition(":") for entry in entries)
    return {one.strip(): " ".join(text.split()) for names, _, text in named for one in names.split(",")}
