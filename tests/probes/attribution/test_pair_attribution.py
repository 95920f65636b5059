"""Pair attribution: exact for a linear encoder, the plain Jacobian's numbers, and sums that are complete."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import ModelError
from probes import pair_attribution

PAIRS = [("w3 w9 w4", "w20 w6"), ("w7 w8", "w30 w31 w5 w6")]


@pytest.fixture(scope="module")
def model(small_model):
    return small_model("llama").double()


@pytest.fixture(scope="module")
def llama(model, word_level):
    return interp.load(model, tokenizer=word_level)


def matrix(frame, prompt=0, control="none"):
    rows = frame[(frame["prompt_id"] == prompt) & (frame["control"] == control)]
    return rows.pivot(index="pos_a", columns="pos_b", values="score").to_numpy()


def changes(llama, text):
    """Return each token's embedding without the mean embedding, of the text alone."""
    ids = llama.tokens([text]).ids[0][1:]
    return llama.W_E[ids] - llama.W_E.float().mean(dim=0)


def test_a_linear_encoder_is_exact_at_one_step(llama):
    frame = pair_attribution(llama, PAIRS, layer=0, steps=1)
    for prompt, (a, b) in enumerate(PAIRS):
        one, other = changes(llama, a), changes(llama, b)
        expected = (one @ other.T / (len(one) * len(other))).numpy()
        assert np.allclose(matrix(frame, prompt), expected, atol=1e-6)  # the mean row is float32
    assert np.allclose(frame["completeness"], 0, atol=1e-12)


def test_it_is_what_the_whole_jacobian_gives(llama, model):
    steps = 3
    frame = pair_attribution(llama, PAIRS[:2], layer=3, steps=steps)
    parts = []
    for text in PAIRS[0]:
        ids = llama.tokens([text]).ids[0]
        n = len(ids) - 1
        own = model.model.embed_tokens(ids)[None].detach()
        base = own.clone()
        base[0, 1:] = llama.W_E.float().mean(dim=0)

        def pooled(embedded, n=n):
            seen = []
            handle = model.model.layers[3].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
            model(inputs_embeds=embedded)
            handle.remove()
            return seen[0][0, 1:].sum(dim=0) / n

        total = torch.zeros(n, 32, dtype=torch.float64)
        for step in range(steps):
            at = base + (step + 0.5) / steps * (own - base)
            jacobian = torch.autograd.functional.jacobian(pooled, at)[:, 0]  # [d, pos, d]
            total += torch.einsum("opi,pi->po", jacobian, (own - base)[0])[1:] / steps
        parts.append(total)
    assert np.allclose(matrix(frame), (parts[0] @ parts[1].T).numpy(), atol=1e-8)


def test_sums_are_complete_as_steps_grow(llama):
    errors = {}
    for steps in (4, 32):
        frame = pair_attribution(llama, PAIRS, steps=steps)
        errors[steps] = frame["completeness"].abs().max()
        own = frame[(frame["prompt_id"] == 0) & (frame["control"] == "none")]
        missed = (own["score"].sum() - own["sum_of_scores"].iat[0]) / own["completeness"].iat[0]
        assert missed >= abs(
            own["sum_of_scores"].iat[0]
        )  # relative to the two lengths' product, as Cauchy-Schwarz has it
    # The midpoint rule's error falls with the square of the steps: by 64 here, were the path smooth.
    assert errors[32] < errors[4] / 8 and errors[32] < 0.02


def test_the_total_is_of_states_and_references(llama):
    frame = pair_attribution(llama, PAIRS, layer=2, steps=2, pooling="last")
    centre = torch.randn(32, generator=torch.Generator().manual_seed(0))
    off = pair_attribution(llama, PAIRS, layer=2, steps=2, pooling="last", centre=centre)
    pd.testing.assert_series_equal(off["score"], frame["score"])
    pd.testing.assert_series_equal(off["sum_of_scores"], frame["sum_of_scores"])
    states = [llama.run(llama.tokens([text]).ids[0][None], lambda tape: tape.residual(2)[0, -1]) for text in PAIRS[0]]
    assert frame["dot"].iat[0] == pytest.approx(float(states[0] @ states[1]))
    assert off["cosine"].iat[0] == pytest.approx(
        float(torch.cosine_similarity(*(one - centre for one in states), dim=0))
    )


def test_the_control_is_another_second_text_by_contents_alone(llama):
    frame = pair_attribution(llama, PAIRS, layer=1, steps=1)
    assert matrix(frame, 0, "other").shape == (3, 4) and matrix(frame, 1, "other").shape == (2, 2)
    turned = pd.DataFrame(PAIRS, columns=["text_a", "text_b"]).assign(prompt_id=range(2), mine=["x", "y"]).iloc[::-1]
    again = pair_attribution(llama, turned, layer=1, steps=1)
    assert np.allclose(matrix(again, 0, "other"), matrix(frame, 0, "other"))
    assert again.groupby("prompt_id")["mine"].first().tolist() == ["x", "y"]
    with pytest.warns(UserWarning, match="no control: it needs a second pair"):
        assert set(pair_attribution(llama, PAIRS[:1], layer=1, steps=1)["control"]) == {"none"}


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma3_text"])
def test_architectures_have_forward_mode_derivatives(small_subject, architecture):
    frame = pair_attribution(small_subject(architecture, "bridge"), PAIRS, steps=8)
    assert frame["completeness"].abs().max() < 0.3  # random weights bend the path
    assert frame["score"].notna().all()


def test_a_model_without_them_is_refused(small_subject):
    with pytest.raises(ModelError, match="has an operation without a forward-mode derivative"):
        pair_attribution(small_subject("mixtral", "bridge"), PAIRS, steps=1)
