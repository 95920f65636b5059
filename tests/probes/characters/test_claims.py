"""Claims about letters, on embeddings that hold them and on others."""

from __future__ import annotations

import pytest
import torch

import interp
from interp.findings import get
from probes.vocab._words import alphabet, kinds_of_tokens


@pytest.fixture(scope="module")
def lettered() -> interp.Subject:
    """The shipped model with embeddings that are the sum of their letters' directions, and a little noise."""
    reference = interp.load("reference")
    _, words = kinds_of_tokens(reference, alphabet("ascii").word)
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(256, 256, generator=generator))[0][:26]
    has = torch.tensor([[float(letter in word.lower()) for letter in "abcdefghijklmnopqrstuvwxyz"] for word in words])
    return _with_embedding(reference, has @ directions + 0.01 * torch.randn(len(words), 256, generator=generator))


@pytest.fixture(scope="module")
def unlettered() -> interp.Subject:
    reference = interp.load("reference")
    return _with_embedding(reference, torch.randn(reference.d_vocab, 256, generator=torch.Generator().manual_seed(1)))


def _with_embedding(reference: interp.Subject, embedding: torch.Tensor) -> interp.Subject:
    from transformers import AutoModelForCausalLM

    from interp.data.shipped import shipped_path

    model = AutoModelForCausalLM.from_pretrained(shipped_path("reference"))
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(embedding)
    return interp.load(model, tokenizer=reference.tokenizer)


@pytest.mark.parametrize("id", ["characters.above_random", "characters.level", "characters.beyond_length"])
def test_letters_that_are_there_are_found_and_others_not(state_of, lettered, unlettered, id):
    assert "probe" not in get(id).parameters  # in closed form, so that this takes seconds and not minutes
    assert state_of(lettered, id) == "holds"
    assert state_of(unlettered, id) != "holds"
