"""Baselines against their definitions in plain PyTorch, and against what theory says of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import interp
from interp.errors import ModelError, UnknownName
from interp.planted import bigram, copying
from probes import attribute
from probes.attribution import baselines
from probes.attribution._finding import find_targets
from probes.attribution._path import integrate, rule
from probes.attribution._targets import Scores

TARGET = 9
# Gradients of float32 models through four blocks, summed in another order; scores are of size 0.1 to 10.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def scores_of(method: Callable[..., Scores], subject: interp.Subject, ids: Tensor, **options) -> np.ndarray:
    """Scores [prompt, pos] for one target after the last position of every prompt."""
    targets = find_targets(subject, subject.tokens(ids), target=TARGET)
    return np.stack(method(subject, targets, **options).score)


@pytest.fixture(scope="module")
def pair(small_model, word_level) -> Callable[[str, str], tuple[PreTrainedModel, interp.Subject]]:
    def build(architecture: str, backend: str) -> tuple[PreTrainedModel, interp.Subject]:
        model = small_model(architecture, attn_implementation="eager")
        return model, interp.load(model, backend=backend, tokenizer=word_level)

    return build


def plain_output(model: PreTrainedModel, embeddings: Tensor, of: str = "log_prob") -> Tensor:
    """Output of the target after the last position, [batch], from token embeddings as the model takes them."""
    logits = model(inputs_embeds=embeddings, use_cache=False).logits[:, -1]
    transform = {"log_prob": logits.log_softmax(-1), "logit": logits, "prob": logits.softmax(-1)}[of]
    return transform[:, TARGET]


def plain_baseline(model: PreTrainedModel, baseline: str) -> Tensor:
    """The embedding a token is compared with, [d_model]: the mean of every token's as the model embeds it, or zero."""
    everything = model.get_input_embeddings()(torch.arange(model.config.vocab_size)).detach()
    return everything.mean(0) * (baseline == "mean")


def plain_gradient(model: PreTrainedModel, embeddings: Tensor, of: str = "log_prob") -> Tensor:
    embeddings = embeddings.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(plain_output(model, embeddings, of).sum(), embeddings)
    return gradient


# -- definitions -----------------------------------------------------------------------------------------------------

# Positions are added (GPT-2), rotated (Llama) or a bias (none here); Gemma scales embeddings.
LINEAR = ("gpt2", "llama", "gemma2", "gpt_neox")


@pytest.mark.parametrize("architecture", LINEAR)
@pytest.mark.parametrize(("of", "baseline"), [("log_prob", "mean"), ("logit", "zero"), ("prob", "mean")])
def test_embedding_times_gradient(pair, any_backend, architecture, of, baseline, ids):
    model, subject = pair(architecture, any_backend)
    embeddings = model.get_input_embeddings()(ids).detach()
    change = embeddings - plain_baseline(model, baseline)
    expected = (change * plain_gradient(model, embeddings, of)).sum(-1)
    found = scores_of(baselines.input_x_gradient, subject, ids, of=of, baseline=baseline)
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_norm_of_the_gradient(pair, any_backend, architecture, ids):
    model, subject = pair(architecture, any_backend)
    gradient = plain_gradient(model, model.get_input_embeddings()(ids))
    np.testing.assert_allclose(scores_of(baselines.gradient_norm, subject, ids), gradient.norm(dim=-1), **CLOSE)


def test_integrated_gradients_are_an_average_of_gradients(pair, any_backend, ids):
    """Against a midpoint sum of many more steps, written out."""
    model, subject = pair("gpt2", any_backend)
    embeddings = model.get_input_embeddings()(ids).detach()
    base = plain_baseline(model, "mean")
    alphas = (torch.arange(200) + 0.5) / 200
    average = torch.stack([plain_gradient(model, base + alpha * (embeddings - base)) for alpha in alphas]).mean(0)
    found = scores_of(baselines.integrated_gradients, subject, ids, keep="none")
    # A midpoint sum errs by the square of its step, 2.5e-5, times derivatives of size 100 and less.
    np.testing.assert_allclose(found, ((embeddings - base) * average).sum(-1), rtol=0, atol=2e-3)


@pytest.mark.parametrize("architecture", LINEAR)
@pytest.mark.parametrize("baseline", ["mean", "zero"])
@torch.no_grad()
def test_occlusion_takes_one_embedding_away_at_a_time(pair, any_backend, architecture, baseline, ids):
    model, subject = pair(architecture, any_backend)
    embeddings = model.get_input_embeddings()(ids)
    full = plain_output(model, embeddings)
    expected = []
    for position in range(ids.shape[1]):
        without = embeddings.clone()
        without[:, position] = plain_baseline(model, baseline)
        expected.append(full - plain_output(model, without))
    found = scores_of(baselines.occlusion, subject, ids, baseline=baseline)
    np.testing.assert_allclose(found, torch.stack(expected, 1), **CLOSE)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
@torch.no_grad()
def test_rollout_multiplies_patterns_through(pair, any_backend, architecture, ids):
    model, subject = pair(architecture, any_backend)
    patterns = model(ids, output_attentions=True, use_cache=False).attentions
    mixed = torch.eye(ids.shape[1])
    for pattern in patterns:
        mixed = (0.5 * pattern.mean(1) + 0.5 * torch.eye(ids.shape[1])) @ mixed
    found = scores_of(baselines.rollout, subject, ids)
    np.testing.assert_allclose(found, mixed[:, -1], atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_norm_and_logit_are_the_factors_of_normxlogit(small_subject, ids):
    subject = small_subject("gpt2", "bridge")
    both = attribute(subject, ids, methods=("normxlogit", "norm", "logit"), target=TARGET)
    scores = both.pivot(index=["prompt_id", "pos"], columns="method", values="score")
    np.testing.assert_array_equal(scores["normxlogit"], scores["norm"] * scores["logit"])
    assert (scores["norm"] > 0).all()


# -- completeness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "bloom", "gptj", "olmo2"])
@pytest.mark.parametrize("keep", ["sinks", "none"])
def test_integrated_gradients_are_complete(pair, any_backend, architecture, keep, ids):
    """They add up to the output less that of baselines alone, also where a norm follows the embedding (BLOOM)."""
    model, subject = pair(architecture, any_backend)
    every = scores_of(baselines.integrated_gradients, subject, ids, keep=keep)
    assert keep == "none" or (every[:, 0] == 0).all()
    found = every.sum(-1)
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(ids)
        empty = plain_baseline(model, "mean").expand_as(embeddings).clone()
        if keep == "sinks":
            empty[:, 0] = embeddings[:, 0]
        change = plain_output(model, embeddings) - plain_output(model, empty)
    np.testing.assert_allclose(found, change, rtol=0, atol=1e-3)  # of changes of 0.2 to 3 nats


def test_from_zero_a_model_of_rms_norms_is_not_complete_and_says_so(small_subject, ids):
    """Scaled down to a millionth, a prompt looks to its norms as before: the path from zero is a jump and a plateau."""
    with pytest.warns(UserWarning, match="2 of 2 targets have not converged"):
        scores_of(baselines.integrated_gradients, small_subject("llama", "bridge"), ids, baseline="zero")


def test_too_few_steps_are_told(small_subject, ids):
    with pytest.warns(UserWarning, match=r"2 of 2 targets have not converged: .* raise n_steps=1"):
        scores_of(baselines.integrated_gradients, small_subject("gpt2", "bridge"), ids, n_steps=1)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("occlusion", {"baseline": "pad"}, "unknown baseline 'pad'"),
        ("gradient_norm", {"of": "loss"}, "unknown output 'loss'"),
        ("occlusion", {"keep": "start"}, "unknown keep 'start'"),
    ],
)
def test_bad_options(small_subject, ids, method, options, message):
    with pytest.raises(UnknownName, match=message):
        scores_of(getattr(baselines, method), small_subject("gpt2", "bridge"), ids, **options)


def test_embeddings_that_are_no_rows_of_w_e_have_no_mean(small_subject, ids, monkeypatch):
    subject = small_subject("gpt2", "bridge")
    monkeypatch.setattr(type(subject), "W_E", property(lambda self: self.backend.embedding().flip(0)))
    with pytest.raises(ModelError, match="are not rows of its W_E; use baseline='zero'"):
        scores_of(baselines.occlusion, subject, ids)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 25, 50])
def test_the_rule_is_exact_for_polynomials_and_nested(n):
    points, weights = rule(n)
    for degree in range(n + 1):
        assert weights @ points**degree == pytest.approx(1 / (degree + 1), abs=1e-12)
    np.testing.assert_allclose(rule(2 * n)[0][::2], points, atol=1e-15)


def test_a_path_of_a_polynomial_is_integrated_exactly_and_its_half_is_simpsons():
    """Output (sum x)^4 along x = alpha a: each element's integral is a · s^3, with s the sum of a."""

    def forward(added: Tensor) -> Tensor:
        return added.sum(dim=(1, 2)) ** 4

    added = torch.tensor([[[0.5, 1.0], [0.25, -0.5]], [[1.0, 0.0], [0.0, 0.0]]])
    for variants in (1, 3, 100):
        path = integrate(forward, added, 4, variants)
        expected = added.sum(-1).double() * added.double().sum(dim=(1, 2))[:, None] ** 3
        torch.testing.assert_close(path.scores, expected)
        torch.testing.assert_close(path.half, expected)  # a gradient of degree 3 is Simpson's to integrate
        torch.testing.assert_close(path.change, expected.sum(-1))
        assert float(path.gaps().max()) < 1e-6


def test_sums_that_add_up_by_chance_are_told_by_half_the_steps():
    """Two steep tokens whose errors cancel: complete to the bit, and wrong on each token."""

    def forward(added: Tensor) -> Tensor:
        steep = torch.sigmoid(40 * (added[..., 0] - 0.3))
        return steep[:, 0] - steep[:, 1] + added[:, 2, 0]

    path = integrate(forward, torch.ones(1, 3, 1), 10, 4)
    missed, _, moved = path.gaps()[0].tolist()
    assert missed < 1e-5 and moved > 0.05
    with pytest.warns(UserWarning, match="1 of 1 targets have not converged"):
        baselines._warn_of_gaps(path.gaps().numpy(), 10, torch.float32)


def test_what_sinks_keep(pair):
    """Position 0, whatever its token, and special tokens anywhere; the rest is compared as ever."""
    model, subject = pair("gpt2", "bridge")
    bos = subject.tokenizer.bos_token_id
    ids = torch.tensor([[9, 12, bos, 7, 20], [bos, 12, 33, 7, 20]])
    kept = torch.tensor([[True, False, True, False, False], [True, False, False, False, False]])
    for method in (baselines.integrated_gradients, baselines.occlusion, baselines.input_x_gradient):
        found = torch.tensor(scores_of(method, subject, ids, keep="sinks"))
        assert torch.equal(found == 0, kept)
    embeddings = model.get_input_embeddings()(ids)
    empty = torch.where(kept[..., None], embeddings, plain_baseline(model, "mean"))
    change = (plain_output(model, embeddings) - plain_output(model, empty)).detach()
    found = scores_of(baselines.integrated_gradients, subject, ids).sum(-1)
    np.testing.assert_allclose(found, change, rtol=0, atol=1e-3)


# -- what theory decides ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["input_x_gradient", "gradient_norm", "integrated_gradients", "occlusion"])
def test_without_attention_only_the_last_token_counts(name):
    frame = attribute(bigram(vocab=6, seed=1).model, "w3 w1 w4 w5", methods=name)
    assert (frame["score"].abs().to_numpy() > 1e-3).tolist() == [False, False, False, True]
    assert (frame["score"].iloc[:3] == 0).all()


@pytest.mark.parametrize("name", ["input_x_gradient", "integrated_gradients", "occlusion"])
def test_where_logits_are_linear_all_three_are_the_closed_form(name):
    """Copy model: the logit of y is 1[t_n = y] + a · (share of y); every embedding's part in it is exact."""
    ids, a = [3, 1, 4, 3, 2, 3], 2.0
    planted = copying(vocab=6, a=a)
    options = {"of": "logit", "baseline": "zero", "keep": "none"}
    frame = attribute(planted.model, torch.tensor([ids]), methods={name: options}, target=3)
    is_target = np.array(ids) == 3
    expected = a * is_target / len(ids)
    expected[-1] += is_target[-1]
    np.testing.assert_allclose(frame["score"], expected, atol=1e-6)
    assert frame["score"].sum() == pytest.approx(float(planted.truth.logits(torch.tensor(ids))[-1, 3]), abs=1e-5)


def test_occlusion_of_the_copy_model_under_log_prob():
    ids = [3, 1, 4, 3]
    logits = copying(vocab=6).truth.logits(torch.tensor(ids))[-1]
    expected = []
    for position, token in enumerate(ids):
        without = logits.clone()
        without[token] -= 1 / len(ids) + (position == len(ids) - 1)
        expected.append(float(logits.log_softmax(0)[3] - without.log_softmax(0)[3]))
    frame = attribute(
        copying(vocab=6).model, torch.tensor([ids]), methods={"occlusion": {"baseline": "zero"}}, target=3
    )
    np.testing.assert_allclose(frame["score"], expected, atol=1e-6)


def test_uniform_attention_rolls_out_evenly():
    """One block that attends to all alike: half the identity, half 1 / length each."""
    frame = attribute(copying(vocab=6).model, "w1 w2 w3 w4", methods="rollout")
    np.testing.assert_allclose(frame["score"], [0.125, 0.125, 0.125, 0.625], atol=1e-6)
