"""Models that predict other tokens than they embed are read as they are, or refused where the two are paired."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import interp
from interp.errors import InputError, ModelError
from probes import layer_robustness, logit_lens, neuron_tokens, normxlogit, top_tokens, vocabulary

N_IN = 61
TEXTS = ["w3 w4 w5 w6 w7", "w8 w9 w10"]
IDS = torch.tensor([[1, 3, 4, 5, 6, 7]])


@pytest.fixture
def with_outputs(small_model, word_level) -> Any:
    """`with_outputs(n, backend)`: a model of 61 embedded tokens that predicts n, and the subject around it."""

    def build(n: int, backend: str, architecture: str = "llama") -> tuple[Any, interp.Subject]:
        model = small_model(architecture, tie_word_embeddings=False)
        torch.manual_seed(3)
        head = nn.Linear(32, n, bias=False)
        shared = min(n, N_IN)
        with torch.no_grad():
            head.weight[:shared] = model.get_output_embeddings().weight[:shared]
        model.set_output_embeddings(head)
        return model, interp.load(model, backend=backend, tokenizer=word_level)

    return build


@pytest.mark.parametrize("n", [50, 70])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_output_vocabulary_is_the_vocabulary(with_outputs, n, architecture, any_backend):
    model, subject = with_outputs(n, any_backend, architecture)
    assert (subject.d_vocab, subject.d_embedding) == (n, N_IN)
    assert subject.W_U.shape == (32, n) and subject.W_E.shape == (N_IN, 32) and len(subject.token_strings) == n
    with torch.no_grad():
        own = model(input_ids=IDS).logits[0]
    torch.testing.assert_close(subject.logits(IDS)[0], own, atol=3e-5, rtol=1e-4)
    frame = logit_lens(subject, IDS)
    last = frame[frame["layer"] == subject.n_layers]
    log_probs = own.double().log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    torch.testing.assert_close(torch.tensor(last["entropy"].to_numpy()), entropy, atol=1e-4, rtol=0, check_dtype=False)
    assert top_tokens(subject, TEXTS, k=n)["pred_id"].max() == n - 1  # every token of the output has a rank
    for probe in (layer_robustness, normxlogit):
        assert len(probe(subject, TEXTS))
    assert neuron_tokens(subject)["token_id"].max() < n


def test_tokens_that_are_not_both_read_and_predicted_are_refused(with_outputs, any_backend):
    _, fewer = with_outputs(50, any_backend)
    why = r"'w3 w55', holds the token 'w55' \(id 55\), but this model's embedding has 61 tokens and its output 50"
    with pytest.raises(InputError, match=why):
        logit_lens(fewer, ["w3 w55"])
    _, more = with_outputs(70, any_backend)
    why = "id 65, but this model's embedding has 61 tokens and its output 70; give ids from 0 to 60"
    with pytest.raises(InputError, match=why):
        logit_lens(more, [[3, 65]])


def test_an_answer_that_cannot_be_read_ends_generation(with_outputs, any_backend):
    model, _ = with_outputs(70, any_backend)
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.get_output_embeddings().weight[:N_IN] = 0
    subject = interp.load(model, backend=any_backend)
    with pytest.raises(ModelError, match=r"predicts the token id 6\d next and embeds 61 tokens"):
        subject.continue_ids([IDS[0]], 3, temperature=0)


@pytest.mark.parametrize("n", [50, 70])
def test_methods_that_pair_both_are_refused_with_the_reason(with_outputs, n, any_backend):
    _, subject = with_outputs(n, any_backend)
    reason = rf"embeds 61 tokens and predicts {n}, so that .* has no row for each token"
    for call in (
        lambda: vocabulary(subject),
        lambda: neuron_tokens(subject, basis="embedding"),
    ):
        with pytest.raises(ModelError, match=reason):
            call()
