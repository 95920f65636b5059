"""Several threads on one model give what one thread gives."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest
import torch

import interp
from interp.model.identity.exclusive import _locks
from interp.model.sites import editing
from probes import attribute, layer_robustness, logit_lens, stages_of_inference

PROMPTS = [torch.arange(3, 3 + n)[None] % 60 for n in (4, 7, 10, 13)]


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Start all calls at once, each in its own thread, and return their results."""
    start = threading.Barrier(len(calls))

    def go(call: Callable[[], Any]) -> Any:
        start.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result(120) for one in [pool.submit(go, call) for call in calls]]


def same(frames: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame]) -> bool:
    return all(one.equals(other) for one, other in zip(frames, others, strict=True))


@pytest.mark.filterwarnings("ignore:no control")
@pytest.mark.parametrize("probe", [layer_robustness, logit_lens, attribute, stages_of_inference])
def test_a_probe_in_several_threads(small_model, any_backend, probe):
    subject = interp.load(small_model("llama"), backend=any_backend)
    calls = [lambda ids=ids: probe(subject, ids) for ids in PROMPTS]
    assert same(together(calls), [call() for call in calls])


def test_the_first_pass_in_several_threads(small_model, any_backend):
    model = small_model("llama")
    known = torch.stack(interp.load(model, backend=any_backend).logits(PROMPTS[0]))
    subject = interp.load(model, backend=any_backend)
    for logits in together([lambda: torch.stack(subject.logits(PROMPTS[0]))] * 4):
        assert torch.equal(logits, known)


@pytest.mark.filterwarnings("ignore:no control")
def test_subjects_of_one_bridge_take_turns(small_model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("gpt2")
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    calls = [lambda ids=ids: layer_robustness(bridge, ids) for ids in PROMPTS]
    assert same(together(calls), [call() for call in calls])


def test_an_edit_is_its_own_threads(small_model, any_backend):
    """A pass of another thread waits until the edit ends, and an edit of this thread until that pass has ended."""
    subject = interp.load(small_model("llama"), backend=any_backend)
    ids = PROMPTS[1]
    site = subject.site("mlp_out", 1)
    clean = torch.stack(subject.logits(ids))

    def edited() -> torch.Tensor:
        with subject.edited([(site, torch.zeros_like)], {"silenced": 1}):
            return torch.stack(subject.logits(ids))

    def bare() -> torch.Tensor:
        with editing(site, torch.zeros_like):
            return torch.stack(subject.logits(ids))

    changed = edited()
    assert not torch.equal(changed, clean)
    results = together([edited, lambda: torch.stack(subject.logits(ids)), bare] * 5)
    for place, logits in enumerate(results):
        assert torch.equal(logits, clean if place % 3 == 1 else changed)
    assert not subject.edits


def test_a_run_does_not_record_another_threads_edits(small_model):
    subject = interp.load(small_model("llama"))
    inside, result = threading.Event(), []

    def probe() -> None:
        inside.wait(30)
        result.append(logit_lens(subject, PROMPTS[0]))

    thread = threading.Thread(target=probe)
    thread.start()
    with subject.edited([(subject.site("mlp_out", 1), torch.zeros_like)], {"silenced": 1}):
        inside.set()
        subject.logits(PROMPTS[0])
        thread.join(0.5)
        assert not result  # it waits
    thread.join(60)
    assert result[0].equals(logit_lens(subject, PROMPTS[0]))


def test_a_lock_is_gone_with_its_model(small_model):
    n_before = len(_locks)
    subject = interp.load(small_model("gpt2"), backend="nnsight")
    assert len(_locks) == n_before + 1
    del subject
    gc.collect()
    assert len(_locks) <= n_before
