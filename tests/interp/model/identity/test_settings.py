"""Settings of torch under which a probe would give other numbers, or torch's own errors, are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import interp
from interp.errors import InputError
from probes import attribute, logit_lens, neuron_tokens

IDS = torch.tensor([[3, 4, 5, 6, 7]])


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS: dict[str, Callable[[], Any]] = {
    r"torch\.autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    r"default dtype is torch\.float64": default_dtype,
    r"default device is meta": lambda: torch.device("meta"),
    r"torch\.inference_mode": torch.inference_mode,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_is_named_before_anything_is_computed(small_model, any_backend, setting):
    model = small_model("llama")
    subject = interp.load(model, backend=any_backend)
    before = logit_lens(subject, IDS)
    for call in (
        lambda: interp.load(model),
        lambda: logit_lens(subject, IDS),
        lambda: attribute(subject, IDS),
        lambda: neuron_tokens(subject),  # which runs no forward pass
        lambda: subject.run(IDS, lambda tape: tape.last),
        lambda: subject.continue_ids([IDS[0]], 1),
    ):
        with SETTINGS[setting](), pytest.raises(InputError, match=setting) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert logit_lens(subject, IDS).equals(before)


def test_probes_run_where_gradients_are_off(small_model, any_backend):
    subject = interp.load(small_model("llama"), backend=any_backend)
    with torch.no_grad():
        within = attribute(subject, IDS)
    assert within.equals(attribute(subject, IDS))


def test_weights_made_under_inference_mode(small_model, any_backend):
    """No gradient passes through them, but what needs none runs."""
    with torch.inference_mode():
        model = small_model("llama")
    subject = interp.load(model, backend=any_backend)
    logit_lens(subject, IDS)
    with pytest.raises(interp.ModelError, match=r"weights .* under torch\.inference_mode"):
        attribute(subject, IDS)
