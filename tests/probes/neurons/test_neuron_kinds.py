"""Moments against plain PyTorch and against closed forms; kinds under rescaling and change of sign."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import interp
from interp.errors import InputError, ModelError
from interp.planted import bigram
from probes import neuron_kinds
from probes.neurons._final_gain import final_gain
from probes.neurons.neuron_kinds import CosineMoments, TokenDirections, kinds

pytestmark = pytest.mark.trained

# float32 products of some dozen terms, divided by standard deviations of 0.1: 1e-5 of moments of size 1 to 10.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
LAYER_NORMS = {"gpt2", "gpt_neox", "opt", "gpt_neo", "bloom", "phi", "gptj"}


def directions_of(columns: Tensor, *, gain: Tensor | None = None, centred: bool = False) -> TokenDirections:
    """Directions of a vocabulary given as columns [d_model, d_vocab], without a model."""
    return TokenDirections.of_columns(columns, torch.ones(len(columns)) if gain is None else gain, centred)


def plain_moments(columns: Tensor, vectors: Tensor, gain: Tensor, centred: bool) -> tuple[np.ndarray, ...]:
    """Variance, skew and kurtosis of every cosine written out in float64, by scipy."""
    columns, vectors = gain.double()[:, None] * columns.double(), vectors.double()
    columns = columns - columns.mean(dim=1, keepdim=True)
    if centred:
        columns = columns - columns.mean(dim=0)
        vectors = vectors - vectors.mean(dim=1, keepdim=True)
    lengths = vectors.norm(dim=1)[:, None] * columns.norm(dim=0)
    cosines = (vectors @ columns / lengths).numpy()
    return cosines.var(axis=1), stats.skew(cosines, axis=1), stats.kurtosis(cosines, axis=1, fisher=False)


def assert_moments(found: CosineMoments, expected: tuple[np.ndarray, ...]) -> None:
    for values, known in zip((found.variance, found.skew, found.kurtosis), expected, strict=True):
        np.testing.assert_allclose(values.numpy(), known, **CLOSE)


# -- moments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [False, True])
def test_moments_equal_those_of_all_cosines(centred: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    # More tokens and neurons than one tile holds; a common direction, a stretch of large columns, skewed entries.
    columns = torch.randn(12, 9001, generator=generator).exp() + 3
    columns[:, :50] *= 30
    vectors = torch.randn(1500, 12, generator=generator) + 1
    gain = torch.rand(12, generator=generator) + 0.2
    found = directions_of(columns, gain=gain, centred=centred).moments(vectors)
    assert_moments(found, plain_moments(columns, vectors, gain, centred))


def test_the_kurtosis_of_normal_cosines_is_three() -> None:
    """Cosines with random columns of many dimensions are as good as normal."""
    generator = torch.Generator().manual_seed(1)
    d_model, d_vocab, n = 400, 20_000, 50
    columns = torch.randn(d_model, d_vocab, generator=generator)
    found = directions_of(columns).moments(torch.randn(n, d_model, generator=generator))
    # A cosine in d dimensions has kurtosis 3 d / (d + 2); the estimate's standard error is sqrt(24 / V), for one vector
    # and 1 / sqrt(n) of it for the mean; 4 of them.
    expected = 3 * d_model / (d_model + 2)
    assert (found.kurtosis - expected).abs().max() < 4.5 * math.sqrt(24 / d_vocab)
    assert abs(found.kurtosis.mean() - expected) < 4 * math.sqrt(24 / d_vocab / n)
    assert found.skew.abs().max() < 4.5 * math.sqrt(6 / d_vocab)
    np.testing.assert_allclose(found.variance, 1 / d_model, rtol=4.5 * math.sqrt(2 / d_vocab))


def test_the_kurtosis_of_a_spike_is_about_the_vocabulary() -> None:
    """One cosine of 1 among V - 1 of nearly 0: p = 1 / V, kurtosis (1 - 3 p (1 - p)) / (p (1 - p)), about V."""
    d_vocab = 500
    columns = torch.eye(d_vocab)  # centred over the vocabulary, token 7 has cosine -1 / (V - 1) with all others
    found = directions_of(columns).moments(torch.eye(d_vocab)[[7]] - 1 / d_vocab)
    p = 1 / d_vocab
    assert float(found.kurtosis) == pytest.approx((1 - 3 * p * (1 - p)) / (p * (1 - p)), rel=1e-4)
    assert float(found.kurtosis) == pytest.approx(d_vocab, rel=0.01)
    assert float(found.skew) == pytest.approx((1 - 2 * p) / math.sqrt(p * (1 - p)), rel=1e-4)


def test_a_direction_that_all_tokens_share_does_not_matter() -> None:
    """What W_U's columns have in common is not in favour of any token."""
    generator = torch.Generator().manual_seed(2)
    columns, common = torch.randn(16, 300, generator=generator), 5 * torch.randn(16, 1, generator=generator)
    vectors = torch.randn(9, 16, generator=generator)
    found, shifted = (directions_of(one).moments(vectors) for one in (columns, columns + common))
    torch.testing.assert_close(found.kurtosis, shifted.kurtosis, **CLOSE)
    torch.testing.assert_close(found.skew, shifted.skew, **CLOSE)


def test_a_neuron_that_writes_nothing_has_no_kind() -> None:
    found = directions_of(torch.eye(30)).moments(torch.zeros(1, 30))
    assert found.variance.isnan().all() and found.kurtosis.isnan().all()
    assert kinds(found).tolist() == ["neither"]


def test_kinds_go_by_kurtosis_then_skew() -> None:
    found = CosineMoments(
        torch.ones(5), torch.tensor([2.0, -2.0, 2.0, 0.0, -2.0]), torch.tensor([10.1, 10.1, 10.0, 50.0, 3.0])
    )
    assert kinds(found).tolist() == ["prediction", "suppression", "neither", "neither", "neither"]


# -- the final norm --------------------------------------------------------------------------------------------------


def test_the_gain_is_the_final_norms_own(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> None:
    gain, centred = final_gain(small_subject(any_architecture, any_backend))
    assert centred == (any_architecture in LAYER_NORMS)
    weights = dict(small_subject(any_architecture, "nnsight").backend.named_weights())
    names = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
    (weight,) = (
        value
        for name, value in weights.items()
        if name.split(".")[-2] in names and name.endswith("weight") and ".layers." not in name and ".h." not in name
    )
    # Gemma's norm multiplies by 1 + its weight.
    expected = weight + 1 if any_architecture.startswith("gemma") else weight
    torch.testing.assert_close(gain, expected, rtol=1e-5, atol=1e-6)  # a few float32 roundings


def test_without_a_final_norm_the_gain_is_one() -> None:
    for vocab in (5, 12):  # an odd width too
        gain, centred = final_gain(interp.load(bigram(vocab=vocab).model))
        assert not centred and bool((gain == 1).all())


# -- whole models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_equals_plain_pytorch_on_both_backends(
    small_subject: Callable[[str, str], interp.Subject], architecture: str, any_backend: str
) -> None:
    subject = small_subject(architecture, any_backend)
    frame = neuron_kinds(subject)
    gain, centred = final_gain(subject)
    for layer in range(subject.n_layers):
        rows = frame[(frame["layer"] == layer) & (frame["control"] == "none")]
        expected = plain_moments(subject.W_U, subject.value_vectors(layer), gain, centred)
        for column, known in zip(("variance", "skew", "kurtosis"), expected, strict=True):
            np.testing.assert_allclose(rows[column], known, **CLOSE)
        assert rows["neuron"].tolist() == list(range(subject.d_mlp))


def test_kinds_do_not_depend_on_length_and_change_with_sign(small_model: Callable[..., torch.nn.Module]) -> None:
    def edited(factor: Tensor) -> interp.Subject:
        model = small_model("gpt2", n_embd=128, n_layer=2, vocab_size=300)  # a token's direction is like no other's
        with torch.no_grad():
            for block in model.transformer.h:
                weight = block.mlp.c_proj.weight  # [d_mlp, d_model]
                weight[:2] = 0.01 * weight[:2] + model.lm_head.weight[[5, 9]] * torch.tensor([[1.0], [-1.0]])
                weight *= factor[:, None]
        return interp.load(model)

    lengths = torch.rand(512, generator=torch.Generator().manual_seed(3)) * 100 + 0.01
    plain, scaled, turned = (neuron_kinds(edited(one)) for one in (torch.ones(512), lengths, -lengths))
    assert {"prediction", "suppression"} <= set(plain["kind"])  # else there would be nothing to compare
    counts = [frame.interp.summary().query("control == 'none'") for frame in (plain, scaled, turned)]
    for kind, opposite in (("prediction", "suppression"), ("suppression", "prediction")):
        assert counts[0][f"n_{kind}"].tolist() == counts[1][f"n_{kind}"].tolist()
        assert counts[0][f"n_{kind}"].tolist() == counts[2][f"n_{opposite}"].tolist()
    own = plain["control"] == "none"
    np.testing.assert_allclose(plain["skew"][own], -turned["skew"][own], **CLOSE)
    np.testing.assert_allclose(plain["kurtosis"][own], turned["kurtosis"][own], **CLOSE)


def test_random_directions_stand_beside_the_neurons(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("gpt2", "bridge")
    frame, again, other = (neuron_kinds(subject, layers=1, seed=seed) for seed in (0, 0, 1))
    control = frame[frame["control"] == "random"]
    assert len(control) == subject.d_mlp and control["layer"].isna().all()
    assert frame["kurtosis"].equals(again["kurtosis"])
    assert not control["kurtosis"].equals(other.loc[control.index, "kurtosis"])
    own = frame["control"] == "none"
    assert frame["kurtosis"][own].equals(other["kurtosis"][own])


def test_the_summary_counts_and_the_figure_draws(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("gpt2", "bridge")
    frame = neuron_kinds(subject, layers=[0, 2])
    summary = frame.interp.summary()
    assert summary["layer"].fillna(-1).tolist() == [0, 2, -1]
    assert summary["n_neurons"].tolist() == [subject.d_mlp] * 3
    assert summary["n_prediction"].sum() == (frame["kind"] == "prediction").sum()
    figure = frame.interp.plot()
    assert [line.get_label() for line in figure.axes[0].get_lines()[::2]] == [
        "prediction neurons",
        "suppression neurons",
    ]


def test_what_cannot_be_read_is_refused(small_subject: Callable[[str, str], interp.Subject]) -> None:
    with pytest.raises(InputError, match="layer 4 is not in"):
        neuron_kinds(small_subject("gpt2", "bridge"), layers=[0, 4])
    with pytest.raises(InputError, match="layers is empty"):
        neuron_kinds(small_subject("gpt2", "bridge"), layers=[])
    with pytest.raises(ModelError, match="mixture of experts"):
        neuron_kinds(small_subject("mixtral", "nnsight"))
