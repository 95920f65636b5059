"""One contract for every built-in probe: described, run on a tiny model, and gone without a trace."""

from __future__ import annotations

import doctest
import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import nn

import interp
import probes
from interp.authoring import CONCEPT, VOCABULARY, ModelError, Run, dataset, logits_after
from interp.model.sites import SiteName
from interp.runs import registry
from interp.runs.accessor import attach
from probes.neurons.concept_neurons import concept_neurons

PROBES = {function.probe.name: function for function in probes.PROBES}
LITTLE_MEMORY = 1 << 18  # every text is a batch of its own
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

STORIES = dataset("stories").head(3)
TEXTS = pd.DataFrame(
    {
        "text": [
            "Once upon a time an unflinching hippopotamus was",
            "The astronomers of the town photographed a very bright",
            "One day a little girl named Lily went to the",
            "He opened the old box and inside there was a",
        ],
        "expected": ["sad", "star", "park", "key"],
    }
)

# For probes that read a text in hundreds of ways.
SHORT = pd.DataFrame({"text": ["Once upon a time", "The astronomers"], "expected": [" there", " saw"]})

every_probe = pytest.mark.parametrize("name", PROBES)


def half(subject: interp.Subject, seed: int = 0) -> probes.Subnetwork:
    """A subnetwork of every other weight or so."""
    generator = torch.Generator().manual_seed(seed)
    masks = {one.name: torch.rand(one.shape, generator=generator) < 0.5 for one in probes.maskable(subject)}
    return probes.Subnetwork(masks, subject.name, subject.fingerprint, {"made": "half"})


PAIRS = pd.DataFrame(
    [("a", *pair) for pair in pairwise(CONCEPT[:4])] + [("b", *pair) for pair in pairwise(CONCEPT[4:8])],
    columns=["concept", "left", "right"],
)
SEARCH = {"unit": "head", "target": "model", "steps": 4, "batch": 2, "length": 8}
# Where a probe's own example needs the shipped model, or takes longer than the others.
ARGUMENTS: dict[str, Callable[[interp.Subject], dict[str, Any]]] = {
    "bigram_subnetwork": lambda subject: SEARCH,
    "byte_log_prob": lambda subject: {"texts": SHORT},
    "character_content": lambda subject: {"letters": ["e", "s"], "probe": "ridge", "seeds": 1, "controls": ["random"]},
    "concept_angles": lambda subject: {"pairs": PAIRS},
    "concept_directions": lambda subject: {"pairs": PAIRS, "n_null": 20},
    "concept_scores": lambda subject: {"words": CONCEPT},
    "faithfulness": lambda subject: {
        "frame": probes.attribute(subject, TEXTS.head(2), methods=("normxlogit", "random")),
        "n_draws": 4,
        "n_random": 2,
        "n_samples": 2,
    },
    "kept_weights": lambda subject: {"subnetwork": half(subject)},
    # Without the fresh model, whose check would answer an error in its first pass with one of its own.
    "position_variance": lambda subject: {"controls": ("iid",)},
    "spelling": lambda subject: {"words": CONCEPT[:3]},
    "steer": lambda subject: {"neurons": concept_neurons(subject, CONCEPT, n=2, min_hits=1), "alphas": (1.0,)},
    "subnetwork_covariance": lambda subject: {"subnetwork": half(subject)},
    "subnetwork_log": lambda subject: SEARCH,
    "subnetwork_overlap": lambda subject: {"subnetwork": half(subject), "other": half(subject, 1)},
    "subnetwork_rotation": lambda subject: {"subnetwork": half(subject), "texts": STORIES, "tokens_per_dim": 3},
    "subnetwork_surprisal": lambda subject: {"subnetwork": half(subject), "linear_steps": 3},
    "tokenization_bias": lambda subject: {"texts": SHORT, "cuts": 4},
    "written_tokens": lambda subject: {"max_new_tokens": 12, "samples": 2},
}


def arguments_of(name: str, subject: interp.Subject) -> dict[str, Any]:
    """What the probe is called with beside the subject, as `interp report` calls it but for what is in the table."""
    probe = PROBES[name].probe
    example = ARGUMENTS.get(name) or (lambda subject: probe.example(subject, TEXTS) if probe.example else {})
    known = inspect.signature(probe.function).parameters
    return {key: value for key, value in (("texts", TEXTS), ("truncate", True)) if key in known} | example(subject)


# -- described -------------------------------------------------------------------------------------------------------


def test_the_list_of_probes_is_that_of_the_registry():
    assert set(PROBES) == {one for one in registry.names() if registry.get(one).origin.startswith("probes.")}
    assert set(ARGUMENTS) <= set(PROBES)


@every_probe
def test_its_schema_says_what_a_frame_holds(name):
    schema, columns = PROBES[name].probe.schema, PROBES[name].probe.schema.columns
    assert schema.probe == name and schema.paper.strip() and schema.rows.strip()
    assert {"model", "run_id"} <= {column.name for column in columns}
    assert all(column.meaning.strip() for column in columns)
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:  # one name, one meaning: a probe may narrow a shared column, or leave it out of some rows
        shared = VOCABULARY.get(column.name, column)
        assert column.kind == shared.kind or (column.kind, shared.kind, column.missing) == ("id", "int", True), column
        assert column.unit == shared.unit or not shared.unit, column


@every_probe
def test_it_takes_the_model_first_and_options_by_name(name):
    parameters = list(inspect.signature(PROBES[name]).parameters.values())
    assert parameters[0].name == "subject"
    for one in parameters[1:]:
        instead = one.name == "texts" and any(other.name == "states" for other in parameters)  # vectors have no text
        assert one.default is one.empty or one.kind is one.KEYWORD_ONLY or instead, one
    data = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    assert len(data) <= 3, "the model, what is asked about, and the texts"


@every_probe
def test_its_docstring_describes_every_argument_and_shows_a_call(name):
    function = PROBES[name]
    text = inspect.getdoc(function)
    described, returned = text.partition("\nArgs:\n")[2].split("\n\n")[0], text.partition("\nReturns:\n")[2]
    listed = [one for line in re.findall(r"^ {4}(\w[\w, ]*):", described, re.MULTILINE) for one in line.split(", ")]
    assert listed == list(inspect.signature(function).parameters)
    assert returned.strip()
    examples = [example for test in doctest.DocTestFinder().find(function, name) for example in test.examples]
    assert any(f"{name}(" in example.source for example in examples)
    assert any(example.want for example in examples)


# -- run on a tiny model ---------------------------------------------------------------------------------------------


@dataclass
class Tiny:
    """A model of one backend that reads English, and what a probe made of it."""

    model: nn.Module
    subject: interp.Subject
    found: dict[str, tuple[pd.DataFrame, int]]
    arguments: dict[str, dict[str, Any]]

    def run(self, name: str, stop: int | None = None) -> tuple[pd.DataFrame, int]:
        """The frame of a probe, and how often it called a module; the call of number `stop` fails."""
        if name not in self.arguments:
            self.arguments[name] = arguments_of(name, self.subject)
        with calling(stop) as calls:
            frame = PROBES[name](self.subject, **self.arguments[name])
        return frame, len(calls)

    def usual(self, name: str) -> tuple[pd.DataFrame, int]:
        """The same, from the one run that all tests compare with."""
        if name not in self.found:
            self.found[name] = self.run(name)
        return self.found[name]

    def state(self) -> dict[str, Any]:
        """Everything that a probe may touch on its way and has to leave as it was."""
        of_backend = [part for part in vars(self.subject.backend).values() if isinstance(part, nn.Module)]
        modules = [module for part in (self.model, *of_backend) for module in part.modules()]
        parameters = [one for module in modules for one in module.parameters(recurse=False)]
        buffers = [one for module in modules for one in module.buffers(recurse=False)]
        return {
            "bits": [digest(one) for one in (*parameters, *buffers)],
            "gradients": [(one.requires_grad, one.grad is None) for one in parameters],
            "hooks": [len(getattr(module, hooks)) for module in modules for hooks in HOOKS],
            "training": [module.training for module in modules],
            "config": dict(self.subject.backend.config()),
            "attention": self.model.config._attn_implementation,
            "edits": [*self.subject.edits, self.subject.generating],
            "process": (torch.get_num_threads(), torch.is_grad_enabled(), interp.options.memory),
            "random": (digest(torch.random.get_rng_state())),
            "forward pass": [digest(one) for one in self.subject.logits(TEXTS)],
        }


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()


class Interrupted(Exception):
    """The error that a test brings about."""


@contextmanager
def calling(stop: int | None = None) -> Iterator[list[str]]:
    """Note the class of every module that is called; the call of number `stop` fails."""
    calls: list[str] = []

    def noted(module: nn.Module, *arguments: Any, **options: Any) -> Any:
        calls.append(type(module).__name__)
        if len(calls) == stop:
            raise Interrupted
        return call(module, *arguments, **options)

    call = nn.Module.__call__  # not a hook of every module: a model that has got one since it was loaded is refused
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "__call__", noted)
        yield calls


@pytest.fixture(scope="module")
def tiny(small_model) -> Callable[[str], Tiny]:
    """`tiny(backend)`: random float64 weights, and the vocabulary of the shipped model."""

    @cache
    def build(backend: str) -> Tiny:
        model = small_model("gpt2", vocab_size=8192).double()
        tokenizer = interp.load("reference").tokenizer
        subject = interp.load(model, backend=backend, tokenizer=tokenizer)
        # What is tried at the first use is done here, so that no probe's calls hang on which one is run before it: the
        # first pass checks the model and lays a bridge's own wires; trees and sites are tried when they are asked for.
        subject.logits(TEXTS)
        list(logits_after(subject, [(1, 2), (1, 3)], lambda logits: None))
        for name in get_args(SiteName):
            with suppress(ModelError):
                subject.site(name)
        return Tiny(model, subject, {}, {})

    return build


def untimed(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame.drop(columns=[column for column, unit in PROBES[name].probe.schema.units.items() if unit == "s"])


@every_probe
def test_it_leaves_the_model_as_it_was(tiny, name, any_backend):
    one = tiny(any_backend)
    before = one.state()
    frame, _ = one.usual(name)
    after = one.state()
    assert [what for what in before if before[what] != after[what]] == []
    probe = PROBES[name].probe
    probe.schema.validate(frame)
    assert len(frame) > 0 and set(frame["model"]) == {one.subject.name}
    (provenance,) = frame.interp.runs.values()
    assert (provenance["probe"], provenance["backend"], provenance["edits"]) == (name, any_backend, [])
    own = frame[[column.name for column in probe.schema.columns]]
    assert not own.duplicated().any()  # or a repeated row could not be told from a run that is there twice
    for backend in ("numpy_nullable", "pyarrow"):  # so that summaries and figures are those of the same values
        pd.testing.assert_frame_equal(own.convert_dtypes(dtype_backend=backend).interp.rows, own)
    summary = frame.interp.summary()
    assert len(summary) > 0
    assert {*probe.schema.summary_by, *probe.schema.summary_of} <= {*frame.columns, *summary.columns}


@every_probe
def test_its_frame_does_not_depend_on_the_memory_it_may_use(tiny, name, any_backend):
    one = tiny(any_backend)
    usual, calls = one.usual(name)
    with interp.options.local(memory=LITTLE_MEMORY):
        frame, more = one.run(name)
    # The model is float64 and most statistics of its states are float32: another batch moves their last digits.
    pd.testing.assert_frame_equal(untimed(frame, name), untimed(usual, name), rtol=1e-6, atol=1e-6)
    if "texts" in inspect.signature(PROBES[name]).parameters:
        assert more > calls > 0  # there were more batches


@every_probe
def test_an_interrupted_run_leaves_no_trace(tiny, name, any_backend, monkeypatch):
    one = tiny(any_backend)
    usual, calls = one.usual(name)
    before = one.state()
    with monkeypatch.context() as patch:
        if not calls:  # nothing of the model is run: the error comes where the frame is made
            patch.setattr(Run, "frame", interrupt)
        with pytest.raises(Interrupted):
            one.run(name, stop=calls // 2)
    after = one.state()
    assert [what for what in before if before[what] != after[what]] == []
    again, _ = one.run(name)
    pd.testing.assert_frame_equal(untimed(again, name), untimed(usual, name), check_exact=True)


def interrupt(*arguments: Any) -> None:
    raise Interrupted


@every_probe
def test_its_figure_draws_where_it_is_told_one_model_or_two(tiny, name):
    frame, _ = tiny("bridge").usual(name)
    probe, prompts = PROBES[name].probe, frame.get("prompt_id", pd.Series(dtype="Int64")).dropna()
    alone = frame.interp.plot(**({"prompt_id": prompts.iat[0]} if len(prompts) else {}))
    panels = panels_of(alone)
    assert re.search(r"95 %|no interval", alone.get_supxlabel()), "the caption says what the bands are"
    words = " ".join(text.get_text() for text in alone.findobj(Text))
    raw = {column.name for column in probe.schema.columns if "_" in column.name}
    assert not raw & set(re.findall(r"\w+", words)), "labels are words, not names of columns"
    twin = frame.assign(model="twin", run_id="0123456789ab")
    (facts,) = frame.interp.runs.values()
    attach(twin, facts | {"run_id": "0123456789ab", "model": "twin"})
    both = interp.concat([frame, twin])
    told, axes = plt.subplots(2, len(panels_of(frame.interp.plot())))
    assert both.interp.plot(axes=axes) is told
    plt.close(told)
    drawn = [one for one in np.atleast_1d(axes).flat if one.has_data() or one.texts or not one.axison]
    titles = " ".join([text.get_text() for text in told.findobj(Text)])
    assert "twin" in titles and frame["model"].iat[0] in titles
    assert len(drawn) >= len(panels)
    one = both.interp.plot(model="twin")
    assert len(panels_of(one)) == len(axes.flat) // 2
    assert "twin: " in (one.get_suptitle() or one.axes[0].get_title()) or name == "loss_by_frequency"


def panels_of(figure: Figure) -> list[Any]:
    """The axes that were asked for, without those of colour bars."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
