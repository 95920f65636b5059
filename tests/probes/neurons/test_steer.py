"""Steering: exact identities, a plain PyTorch reference, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import interp
from interp.errors import InputError, ModelError, UnknownName
from interp.model.sites import observing, recording
from interp.model.verification import verify
from interp.planted import bigram
from probes import NeuronSet, logit_lens, steer
from probes.neurons.steering._controls import conditions, other_neurons
from probes.neurons.steering._dose_response import effect_at
from probes.neurons.steering._doses import doses_of, moments, written
from probes.neurons.steering.steer import CONTROLS

pytestmark = pytest.mark.trained

# A bridge computes attention with other kernels than transformers: float32 rounding through four blocks.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}
EXACT = {"rtol": 0.0, "atol": 0.0}
TEXTS = ["w3 w4 w5 w6 w7 w8 w9 w30", "w20 w21", "w11 w12 w13 w14", "w50 w7 w7 w8 w9"]
WORDS = ["w10", "w40", "w41"]
CHOSEN = {1: [3, 7, 30], 3: [0, 5]}
DOWN = {"gpt2": "transformer.h.{}.mlp.c_proj", "llama": "model.layers.{}.mlp.down_proj"}


@pytest.fixture
def subject(small_subject: Callable[[str, str], interp.Subject], any_backend: str) -> interp.Subject:
    return small_subject("llama", any_backend)


@pytest.fixture
def neurons(subject: interp.Subject) -> NeuronSet:
    return NeuronSet.of(subject, CHOSEN, WORDS)


@contextmanager
def overridden(model: nn.Module, architecture: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Chosen neurons changed by a hook of PyTorch's own, position 0 left alone, nothing of ours."""

    def hook(layer: int) -> Any:
        def edit(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            value = args[0].clone()
            value[:, 1:, CHOSEN[layer]] = change(value[:, 1:, CHOSEN[layer]])
            return (value,)

        return edit

    handles = [
        model.get_submodule(DOWN[architecture].format(layer)).register_forward_pre_hook(hook(layer)) for layer in CHOSEN
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


CHANGES = {
    "override": lambda alpha: lambda value: torch.full_like(value, alpha),
    "add": lambda alpha: lambda value: value + alpha,
    "scale": lambda alpha: lambda value: value * alpha,
}


# -- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 0.7, 5.0])
def test_in_the_last_block_of_a_model_without_norms_the_value_vectors_are_the_whole_effect(alpha):
    model = bigram(vocab=12).model
    subject, ids, chosen = interp.load(model), torch.tensor([[3, 5, 0, 5, 11]]), [0, 5, 8]
    clean = subject.logits(ids)[0]
    with recording([subject.site("neurons", 0)]) as seen:
        subject.logits(ids)
    own = seen[0][0][:, chosen]
    with NeuronSet.of(subject, {0: chosen}, ["w1"]).steering(subject, alpha, skip_bos=False):
        steered = subject.logits(ids)[0]
    expected = clean + (alpha - own) @ subject.value_vectors(0)[chosen] @ subject.W_U
    # One product of three terms of size ten, rounded once or twice.
    torch.testing.assert_close(steered, expected, rtol=0.0, atol=1e-6 * max(1.0, float(expected.abs().max())))
    assert (steered - clean).abs().max() > 0.5


def test_a_neuron_set_to_its_own_activation_changes_nothing(subject):
    ids = torch.tensor([[1, 17]])
    with recording([subject.site("neurons", 2)]) as seen:
        clean = subject.logits(ids)[0]
    alpha = float(seen[0].reshape(1, 2, -1)[0, 1, 9])
    assert abs(alpha) > 1e-3
    with NeuronSet.of(subject, {2: [9]}, WORDS).steering(subject, alpha):
        torch.testing.assert_close(subject.logits(ids)[0], clean, **EXACT)


@pytest.mark.parametrize(("mode", "alpha"), [("add", 0.0), ("scale", 1.0)])
def test_doses_of_nothing_change_nothing(subject, neurons, mode, alpha):
    clean = subject.logits(TEXTS[:1])[0]
    with neurons.steering(subject, alpha, mode=mode):
        torch.testing.assert_close(subject.logits(TEXTS[:1])[0], clean, **EXACT)
    frame = steer(subject, TEXTS, neurons, alphas=[alpha], mode=mode, controls=["random", "direction"])
    # Statistics of equal residuals; the divergence of a distribution from itself rounds at float32.
    assert frame[["delta_log_prob", "delta_logit", "kl"]].abs().max().max() < 2e-6
    assert (frame["loss_ratio"] - 1).abs().max() < 2e-6


def test_an_empty_set_changes_nothing(subject):
    empty = NeuronSet.of(subject, {}, WORDS)
    clean = subject.logits(TEXTS[:1])[0]
    with empty.steering(subject, 9.0):
        torch.testing.assert_close(subject.logits(TEXTS[:1])[0], clean, **EXACT)
    frame = steer(subject, TEXTS, empty, alphas=[1, 2])
    assert (frame[["delta_log_prob", "delta_logit", "delta_logit_predicted"]] == 0).all().all()
    assert (frame["layer_group"] == "none").all() and (frame["n_neurons"] == 0).all() and frame["kl"].max() < 2e-6


def test_overriding_twice_is_overriding_once_and_zero_everywhere_leaves_the_bias(small_subject, any_backend):
    subject = small_subject("gpt2", any_backend)
    everything = NeuronSet.of(subject, {1: range(subject.d_mlp)}, WORDS)
    ids = torch.tensor([[1, 4, 5, 6]])
    with everything.steering(subject, 0.0, skip_bos=False), recording([subject.site("mlp_out", 1)]) as seen:
        once = subject.logits(ids)[0]
    written = seen[0].reshape(4, -1)
    torch.testing.assert_close(written, written[:1].expand_as(written), **EXACT)
    with everything.steering(subject, 0.0, skip_bos=False), everything.steering(subject, 0.0, skip_bos=False):
        torch.testing.assert_close(subject.logits(ids)[0], once, **EXACT)


def test_random_neurons_of_a_random_model_average_to_nothing(small_subject):
    subject = small_subject("gpt2", "bridge")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 61, (4, 9), generator=generator)
    effects = {}
    for size in (4, 36):
        changes = []
        for _ in range(30):
            # Words are drawn too: a given word may well lie towards what the neurons of a given model write.
            word = f"w{int(torch.randint(3, 61, (1,), generator=generator))}"
            drawn = torch.randperm(subject.d_mlp, generator=generator)[:size].tolist()
            chosen = NeuronSet.of(subject, {3: drawn}, [word])
            changes.append(steer(subject, ids, chosen, alphas=[2.0], mode="add", controls=())["delta_logit"].mean())
        effects[size] = np.array(changes)
        assert abs(effects[size].mean()) < 4 * effects[size].std() / 30**0.5
    # Independent vectors add up like a random walk: nine times as many go three times as far.
    assert 1.8 < effects[36].std() / effects[4].std() < 5


# -- against plain PyTorch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHANGES)
@pytest.mark.parametrize("architecture", DOWN)
def test_every_number_is_that_of_hooked_forward_passes(small_model, small_subject, architecture, any_backend, mode):
    model, subject = small_model(architecture), small_subject(architecture, any_backend)
    chosen = NeuronSet.of(subject, CHOSEN, WORDS)
    frame = steer(subject, TEXTS, chosen, alphas=[0.5, 3.0], mode=mode, controls=["sign_flip", "mean"])
    assert len(frame) == len(TEXTS) * 2 * 3
    known = moments(subject, subject.tokens(TEXTS), list(CHOSEN))
    means = {layer: known[layer].mean[of] for layer, of in CHOSEN.items()}
    rows = frame.set_index(["prompt_id", "control", "alpha"])
    concept = torch.tensor([10, 40, 41])
    for prompt_id, ids in enumerate(subject.tokens(TEXTS).ids):
        with torch.no_grad():
            base = model(ids[None]).logits[0, 1:].double()
            for alpha in (0.5, 3.0):
                for control, change in (
                    ("none", CHANGES[mode](alpha)),
                    ("sign_flip", CHANGES[mode](-alpha)),
                    ("mean", lambda value: means[1 if value.shape[-1] == 3 else 3].expand_as(value)),
                ):
                    with overridden(model, architecture, change):
                        logits = model(ids[None]).logits[0, 1:].double()
                    row = rows.loc[prompt_id, control, alpha]
                    p, q = base.log_softmax(-1), logits.log_softmax(-1)
                    gain = q[:, concept].logsumexp(-1) - p[:, concept].logsumexp(-1)
                    assert row["delta_log_prob"] == pytest.approx(float(gain.mean()), **_pytest(CLOSE))
                    assert row["delta_logit"] == pytest.approx(
                        float((logits - base)[:, concept].mean()), **_pytest(CLOSE)
                    )
                    assert row["kl"] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), **_pytest(CLOSE))
                    losses = [-one[:-1].gather(1, ids[2:, None]).mean() for one in (p, q)]
                    assert row["loss_ratio"] == pytest.approx(float((losses[1] - losses[0]).exp()), **_pytest(CLOSE))


def _pytest(tolerance: dict[str, float]) -> dict[str, float]:
    return {"rel": tolerance["rtol"], "abs": tolerance["atol"]}


@pytest.mark.parametrize("architecture", DOWN)
def test_steered_generation_with_a_cache_is_that_of_hooked_passes_without(
    small_model, small_subject, word_level, architecture, any_backend
):
    model, subject = small_model(architecture), small_subject(architecture, any_backend)
    ids = torch.tensor([word_level("w3 w4 w5")["input_ids"]])
    with torch.no_grad(), overridden(model, architecture, CHANGES["override"](2.0)):
        for _ in range(8):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    chosen = NeuronSet.of(subject, CHOSEN, WORDS)
    with chosen.steering(subject, 2.0):
        text = subject.generate("w3 w4 w5", 8, temperature=0)
    assert text == f"w3 w4 w5 {word_level.decode(ids[0, 4:])}"
    assert text != subject.generate("w3 w4 w5", 8, temperature=0)


def test_mean_and_standard_deviation_of_activations(small_subject, any_backend):
    subject = small_subject("gpt2", any_backend)
    with interp.options.local(memory=1 << 20):  # several batches
        known = moments(subject, subject.tokens(TEXTS), [2])
    rows = []
    for text in TEXTS:
        with recording([subject.site("neurons", 2)]) as seen:
            subject.logits([text])
        rows.append(seen[0].reshape(-1, subject.d_mlp)[1:])
    torch.testing.assert_close(known[2].mean, torch.cat(rows).mean(0), **CLOSE)
    torch.testing.assert_close(known[2].sd, torch.cat(rows).std(0, correction=0), **CLOSE)


# -- the frame -------------------------------------------------------------------------------------------------------


def test_a_planted_concept_rises_with_the_dose_and_more_than_its_controls(small_model, word_level):
    model = small_model("gpt2")
    with torch.no_grad():
        toward = sum(model.lm_head.weight[index] for index in (10, 40, 41))
        model.transformer.h[2].mlp.c_proj.weight[[1, 8]] = toward
    subject = interp.load(model, tokenizer=word_level)
    frame = steer(subject, TEXTS, NeuronSet.of(subject, {2: [1, 8]}, WORDS), alphas=[0, 1, 2, 4])
    summary = frame.interp.summary(at_kl=0.05).set_index("control")
    assert summary.loc["none", "monotone"] == 1 and summary.loc["none", "effect_low"] > 0.5
    assert summary.loc["sign_flip", "monotone"] == -1
    assert summary.loc["random", "excess_low"] > 0 or np.isnan(summary.loc["random", "effect_at_kl"])
    assert summary.loc["none", "slope"] == pytest.approx(1, abs=0.5) and summary.loc["none", "r"] > 0.9
    assert (frame["layer_group"] == "late").all()


def test_the_linear_prediction_is_exact_where_everything_is_linear(any_backend):
    subject = interp.load(bigram(vocab=12).model)
    frame = steer(subject, ["w3 w5 w0 w5", "w1 w2"], NeuronSet.of(subject, {0: [5, 8]}, ["w4"]), alphas=[0, 1, 5])
    known = frame[["delta_logit", "delta_logit_predicted"]]
    np.testing.assert_allclose(known["delta_logit"], known["delta_logit_predicted"], atol=2e-5)
    summary = frame.interp.summary().set_index("control")
    assert summary.loc["none", "slope"] == pytest.approx(1, abs=1e-5) and summary.loc["none", "linear_until"] == 5


def test_nothing_is_predicted_behind_a_norm(small_subject, any_backend):
    subject = small_subject("gemma2", any_backend)
    frame = steer(subject, TEXTS[:2], NeuronSet.of(subject, CHOSEN, WORDS), alphas=[1], controls=["direction"])
    assert frame["delta_logit_predicted"].isna().all() and frame["kl"].min() > 0
    assert frame.interp.summary()["slope"].isna().all()


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gpt_neox", "bloom", "gemma2", "mistral"])
def test_both_backends_and_any_batch_give_the_same_frame(small_subject, architecture):
    options: dict[str, Any] = {"alphas": [0, 2], "through": "lens"}
    frames = []
    for backend in ("bridge", "nnsight"):
        subject = small_subject(architecture, backend)
        chosen = NeuronSet.of(subject, CHOSEN, WORDS)
        frames.append(steer(subject, TEXTS, chosen, **options))
        with interp.options.local(memory=1 << 18):  # prompts one by one, and doses a few at a time
            frames.append(steer(subject, TEXTS, chosen, **options))
    for other in frames[1:]:
        pd.testing.assert_frame_equal(
            frames[0].drop(columns="run_id"), other.drop(columns="run_id"), rtol=1e-3, atol=1e-4
        )


def test_adding_the_mean_direction_is_adding_the_neurons(subject):
    """Of one block, in mode "add": their value vectors' sum is along their mean, and as long."""
    chosen = NeuronSet.of(subject, {2: [1, 5, 9]}, WORDS)
    frame = steer(subject, TEXTS, chosen, alphas=[-1, 2], mode="add", controls=["direction"])
    numbers = ["delta_log_prob", "delta_logit", "delta_logit_predicted", "kl"]
    own, along = (frame[frame["control"] == control][numbers].to_numpy() for control in ("none", "direction"))
    np.testing.assert_allclose(own, along, atol=2e-5)
    assert np.abs(own).min(axis=0).max() > 1e-3


@pytest.fixture
def one_neuron_writes_a_word(small_model, word_level, any_backend) -> interp.Subject:
    """In block 2 one neuron writes the directions of the words, and in block 3 another."""
    model = small_model("llama")
    with torch.no_grad():
        written = model.lm_head.weight[[10, 40, 41]].sum(dim=0)
        for layer, neuron in ((2, 5), (3, 8)):
            model.model.layers[layer].mlp.down_proj.weight[:, neuron] = 3.0 * written / written.norm()
    return interp.load(model, tokenizer=word_level, backend=any_backend)


def test_where_blocks_hold_one_neuron_the_mean_direction_is_left_out_and_a_random_one_does_less(
    one_neuron_writes_a_word,
):
    """The mean direction of one neuron is the neuron; a random direction, as long, does not write the words."""
    subject = one_neuron_writes_a_word
    chosen = NeuronSet.of(subject, {2: [5], 3: [8]}, WORDS)
    controls = ["direction", "random_direction"]
    with pytest.warns(UserWarning, match="is the neuron itself in blocks 2, 3, where one is chosen, and is left out"):
        frame = steer(subject, TEXTS, chosen, alphas=[1, 4], controls=controls)
    assert frame["control"].unique().tolist() == ["none", "random_direction"]
    effect = frame.groupby(["control", "alpha"])["delta_log_prob"].mean().unstack("alpha")
    assert effect.loc["none", 4] > 1 and effect.loc["random_direction", 4] < 0.5 * effect.loc["none", 4]
    mixed = NeuronSet.of(subject, {2: [5, 6], 3: [8]}, WORDS)
    with pytest.warns(UserWarning, match="is the neuron itself in blocks 3, where one is chosen: compare with"):
        frame = steer(subject, TEXTS, mixed, alphas=[1], controls=controls)
    assert frame["control"].unique().tolist() == ["none", *controls]


def test_a_random_direction_is_as_long_as_the_effect_of_the_neurons_and_as_often_of_either_sign(subject):
    """Compute what is added behind an MLP by plain arithmetic on the clean run's activations."""
    by_layer = {1: torch.tensor([3, 7, 30])}
    doses, by_control = conditions(
        subject, by_layer, (2.0,), ("direction", "random_direction"), {}, mode="override", alpha_unit="raw", seed=4
    )
    activations = 3 * torch.randn(2, 5, subject.d_mlp, generator=torch.Generator().manual_seed(0))
    vectors = subject.value_vectors(1)
    everywhere = torch.ones(2, 5, dtype=torch.bool)
    own, mean, random = (
        written(doses[by_control[name][0]], 1, activations, everywhere, vectors)
        for name in ("none", "direction", "random_direction")
    )
    torch.testing.assert_close(own, (2.0 - activations[..., by_layer[1]]) @ vectors[by_layer[1]])
    for along in (mean, random):
        torch.testing.assert_close(along.norm(dim=2), own.norm(dim=2))
        assert torch.linalg.matrix_rank(along.flatten(0, 1), rtol=1e-4) == 1
    # The signs are the mean direction's, place by place: a random direction does not choose its own.
    cosine = torch.nn.functional.cosine_similarity(mean.flatten(0, 1)[:, None], mean.flatten(0, 1)[None], dim=2)
    same = torch.nn.functional.cosine_similarity(random.flatten(0, 1)[:, None], random.flatten(0, 1)[None], dim=2)
    torch.testing.assert_close(cosine, same)
    assert set(cosine.round().flatten().tolist()) == {-1.0, 1.0}


def test_through_the_lens_the_last_layer_is_the_output(subject, neurons):
    lens = steer(subject, TEXTS, neurons, alphas=[2], controls=["random"], through="lens")
    output = steer(subject, TEXTS, neurons, alphas=[2], controls=["random"])
    assert sorted(lens["layer"].unique()) == [2, 3, 4]
    last = lens[lens["layer"] == 4].reset_index(drop=True)
    pd.testing.assert_frame_equal(last.drop(columns="run_id"), output.drop(columns="run_id"), atol=1e-6)
    with neurons.steering(subject, 2.0):
        steered = logit_lens(subject, TEXTS, targets="w10")
    clean = logit_lens(subject, TEXTS, targets="w10")
    one_word = NeuronSet.of(subject, CHOSEN, ["w10"])
    alone = steer(subject, TEXTS, one_word, alphas=[2], controls=(), through="lens")
    change = (steered["log_prob"] - clean["log_prob"]).where(steered["pos"] > 0)
    by = change.groupby([steered["prompt_id"], steered["layer"]]).mean()
    for row in alone.itertuples():
        assert row.delta_log_prob == pytest.approx(by[row.prompt_id, row.layer], abs=2e-5)


def test_alpha_in_standard_deviations(subject, neurons):
    known = moments(subject, subject.tokens(TEXTS), [1, 3])
    one = NeuronSet.of(subject, {1: [7]}, WORDS)
    in_sd = steer(subject, TEXTS, one, alphas=[2], alpha_unit="sd", controls=())
    raw = steer(subject, TEXTS, one, alphas=[2 * float(known[1].sd[7])], controls=())
    np.testing.assert_allclose(in_sd["delta_log_prob"], raw["delta_log_prob"], atol=1e-6)
    with one.steering(subject, 2.0, alpha_unit="sd", reference=TEXTS):
        inside = subject.logits(TEXTS[:1])[0]
    with one.steering(subject, 2 * float(known[1].sd[7])):
        torch.testing.assert_close(subject.logits(TEXTS[:1])[0], inside, **CLOSE)


def test_where_it_is_edited(subject, neurons):
    clean = subject.logits(TEXTS[:1])[0]
    with neurons.steering(subject, 4.0):
        steered = subject.logits(TEXTS[:1])[0]
    torch.testing.assert_close(steered[0], clean[0], **EXACT)
    assert (steered[1:] - clean[1:]).abs().amax(1).min() > 1e-3
    with neurons.steering(subject, 4.0, skip_bos=False):
        assert (subject.logits(TEXTS[:1])[0][0] - clean[0]).abs().max() > 1e-3
    with neurons.steering(subject, 4.0, positions="generated"):
        torch.testing.assert_close(subject.logits(TEXTS[:1])[0], clean, **EXACT)
        later = subject.generate("w3 w4 w5", 8, temperature=0)
    with neurons.steering(subject, 4.0, positions="last"):
        last = subject.generate("w3 w4 w5", 8, temperature=0)
    plain = subject.generate("w3 w4 w5", 8, temperature=0)
    # The first generated token is read at the prompt's last position, which "last" edits and "generated" does not.
    assert later.split()[3] == plain.split()[3] and later != last != plain
    frame = steer(subject, TEXTS, neurons, alphas=[4], positions="last", controls=())
    assert frame["loss_ratio"].isna().all()  # the text does not go on
    with torch.no_grad():
        ends = [subject.logits([text])[0][-1].double().log_softmax(0)[[10, 40, 41]].logsumexp(0) for text in TEXTS]
    assert frame["delta_log_prob"].abs().min() > 1e-4 and len(frame) == len(ends)


def test_generated_texts_stand_beside_unsteered_ones(subject, neurons):
    frame = steer(subject, TEXTS[:2], neurons, alphas=[0, 3], controls=["sign_flip"], generate=5, seed=7)
    for prompt_id, text in enumerate(TEXTS[:2]):
        rows = frame[frame["prompt_id"] == prompt_id]
        plain = subject.generate(text, 5, seed=7)
        assert (text + rows["unsteered_text"] == plain).all()
        for alpha, control in ((3, "none"), (-3, "sign_flip")):
            with neurons.steering(subject, float(alpha)):
                steered = subject.generate(text, 5, seed=7)
            row = rows[(rows["control"] == control) & (rows["alpha"] == 3)].iloc[0]
            assert text + row["text"] == steered
            words = row["text"].split()
            assert row["concept_frequency"] == pytest.approx(np.mean([word in WORDS for word in words]) if words else 0)
    assert frame["text"].nunique() > 2
    assert steer(subject, TEXTS[:1], neurons, alphas=[1])["text"].isna().all()


def test_a_dose_for_each_text(subject, neurons):
    alphas = [0.0, 2.0, -3.0]
    with neurons.steering(subject, alphas):
        together = subject.generate(TEXTS[:3], 6, temperature=0)
    for alpha, text, steered in zip(alphas, TEXTS, together, strict=False):
        with neurons.steering(subject, alpha):
            assert subject.generate(text, 6, temperature=0) == steered
    with pytest.raises(InputError, match="3 alphas were given for 2 texts"), neurons.steering(subject, alphas):
        subject.generate(TEXTS[:2], 6)


# -- nothing stays behind --------------------------------------------------------------------------------------------


def test_steering_is_undone_after_an_exception_inside_generation(subject, neurons, monkeypatch):
    clean = subject.logits(TEXTS[:1])[0]
    step, calls = subject.backend.step, []

    def failing(ids: Tensor, cache: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return step(ids, cache)

    monkeypatch.setattr(subject.backend, "step", failing)
    with pytest.raises(ZeroDivisionError), neurons.steering(subject, 5.0):
        subject.generate("w3 w4", 9)
    assert subject.edits == [] and subject.generating is None
    torch.testing.assert_close(subject.logits(TEXTS[:1])[0], clean, **EXACT)


def test_frames_made_under_steering_say_so(subject, neurons):
    before = logit_lens(subject, TEXTS)
    with neurons.steering(subject, 2.0, mode="add"):
        steered = logit_lens(subject, TEXTS)
        nested = steer(subject, TEXTS, neurons, alphas=[1], controls=())
    after = logit_lens(subject, TEXTS)
    (said,) = steered.interp.runs.values()
    expected = {"steering": "w10", "neurons": {"1": [3, 7, 30], "3": [0, 5]}, "alpha": 2.0, "mode": "add"}
    assert len(said["edits"]) == 1 and expected.items() <= said["edits"][0].items()
    assert next(iter(nested.interp.runs.values()))["edits"] == said["edits"]
    assert next(iter(after.interp.runs.values()))["edits"] == []
    assert steered["run_id"].iat[0] != before["run_id"].iat[0] == after["run_id"].iat[0]
    pd.testing.assert_frame_equal(before, after)
    assert (steered["log_prob"] - before["log_prob"]).abs().max() > 0.01


def test_a_fresh_subject_is_verified_before_it_is_edited(small_model, word_level, any_backend, monkeypatch):
    subject = interp.load(small_model("llama"), tokenizer=word_level, backend=any_backend)
    verified = []
    monkeypatch.setattr(
        "interp.model.identity.guard.verify",
        lambda backend, ids: (verified.append(len(subject.edits)), verify(backend, ids)),
    )
    with NeuronSet.of(subject, CHOSEN, WORDS).steering(subject, 50.0):
        subject.logits(TEXTS)
    assert verified == [0]


# -- controls, summary, figure, bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("controls", "alpha_unit", "n_passes"),
    [
        ((), "raw", 1),
        (("random", "sign_flip", "direction"), "raw", 1),
        (("mean",), "raw", 2),
        (("random", "norm_matched"), "raw", 2),
        ((), "sd", 2),
    ],
)
def test_texts_are_run_once_unless_something_asks_what_neurons_do_on_them(
    subject, neurons, controls, alpha_unit, n_passes
):
    asked = {"controls": controls, "alpha_unit": alpha_unit}
    steer(subject, TEXTS, neurons, alphas=(1.0,), **asked)  # the model and its sites are tried, once
    passed: list[Tensor] = []
    with observing(subject.site("neurons", 0), passed.append):  # before every edit: nothing is replayed there
        steer(subject, TEXTS, neurons, alphas=(1.0, 2.0), **asked)
    assert len(passed) == n_passes


def test_the_first_thing_ever_run_on_a_subject_may_be_steering(small_model, word_level, any_backend):
    """Its check of itself passes the places that are recorded too."""
    subject = interp.load(small_model("llama"), tokenizer=word_level, backend=any_backend)
    neurons = NeuronSet.of(subject, CHOSEN, WORDS)
    first, second = (steer(subject, TEXTS, neurons, alphas=(2.0,), controls=("random",)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_conditions_share_the_doses_that_are_the_same(small_subject):
    subject = small_subject("gpt2", "bridge")
    by_layer = {layer: torch.tensor(of) for layer, of in CHOSEN.items()}
    known = moments(subject, subject.tokens(TEXTS), list(CHOSEN))
    doses, by_control = conditions(
        subject, by_layer, (-1.0, 0.0, 2.0), CONTROLS, known, mode="override", alpha_unit="raw", seed=0
    )
    assert by_control == {
        "none": [0, 1, 2],
        "random": [3, 4, 5],
        "norm_matched": [6, 7, 8],
        "sign_flip": [9, 1, 10],  # minus nothing is nothing
        "direction": [11, 12, 13],
        "random_direction": [14, 15, 16],
        "mean": [17, 17, 17],  # which has no alpha
    }
    assert len(doses) == 18
    put = [dose.put[1].tolist() for dose in doses]
    assert put[0] == [-1.0] * 3 and put[9] == [1.0] * 3 and put[10] == [-2.0] * 3
    assert put[17] == known[1].mean[CHOSEN[1]].tolist()
    assert [dose.along for dose in doses] == [False] * 11 + [True] * 6 + [False]
    assert [dose.instead is not None for dose in doses] == [False] * 14 + [True] * 3 + [False]


def test_control_neurons_are_others_of_the_same_blocks(small_subject):
    subject = small_subject("gpt2", "bridge")
    by_layer = {1: torch.tensor([3, 7, 30]), 3: torch.tensor([0, 5])}
    known = moments(subject, subject.tokens(TEXTS), [1, 3])
    for matched in (False, True):
        others = other_neurons(subject, by_layer, known, 0, matched=matched)
        again, elsewhere = (other_neurons(subject, by_layer, known, seed, matched=matched) for seed in (0, 1))
        for layer, chosen in by_layer.items():
            assert len(set(others[layer].tolist())) == len(chosen)
            assert not set(others[layer].tolist()) & set(chosen.tolist())
            assert torch.equal(others[layer], again[layer])
        assert any(not torch.equal(others[layer], elsewhere[layer]) for layer in by_layer)
    norms = subject.value_vectors(1).norm(dim=1)
    ranks = norms.argsort().argsort().float()
    gap = (ranks[others[1]] - ranks[by_layer[1]]).abs()
    assert gap.max() < subject.d_mlp / 3  # matched ones are near in rank; random ones would be a third away on average


def test_effect_at_equal_damage_is_read_off_the_curve():
    assert effect_at(np.array([0.4, 0.1]), np.array([3.0, 1.0]), 0.25) == pytest.approx(2.0)
    assert effect_at(np.array([0.4]), np.array([2.0]), 0.1) == pytest.approx(0.5)
    assert np.isnan(effect_at(np.array([0.05]), np.array([2.0]), 0.1))


def test_summaries_and_figures(subject, neurons):
    frame = steer(subject, TEXTS, neurons, alphas=[0, 1, 2], through="lens")
    summary = frame.interp.summary()
    assert summary["control"].tolist() == ["none", *CONTROLS]
    assert (summary["n_prompts"] == 4).all() and (summary["alpha"] == 2).all()
    output = frame[(frame["layer"] == 4) & (frame["alpha"] == 2) & (frame["control"] == "none")]
    assert summary["effect"].iat[0] == pytest.approx(output["delta_log_prob"].mean())
    assert np.isnan(summary["monotone"].iat[-1])  # its own mean, at every alpha
    by_alpha = frame.interp.summary(by="alpha")
    assert len(by_alpha) == 7 * 3 and len(frame.interp.summary(by="layer")) == 7 * 3 * frame["layer"].nunique()
    figure = frame.interp.plot()
    assert len(figure.axes) == 2 and "KL" in figure.axes[0].get_xlabel()
    with pytest.raises(InputError, match="by='prompt': choose"):
        frame.interp.summary(by="prompt")


def test_bad_input(subject, neurons):
    circular = NeuronSet.of(subject, CHOSEN, WORDS)
    object.__setattr__(circular.words, "held_out_ids", torch.tensor([], dtype=torch.long))
    for arguments, message in (
        ({"alphas": []}, r"alphas are \[\]"),
        ({"alphas": [float("nan")]}, "finite numbers"),
        ({"alphas": [1], "positions": "generated"}, "pass generate= too"),
        ({"alphas": [1], "generate": -1}, "generate=-1: give 0 or more"),
        ({"alphas": [1], "mode": "scale", "alpha_unit": "sd"}, "alpha has no unit"),
    ):
        with pytest.raises(InputError, match=message):
            steer(subject, TEXTS, neurons, **arguments)
    for name, value in (("mode", "replace"), ("alpha_unit", "z"), ("through", "head"), ("controls", ["placebo"])):
        with pytest.raises(UnknownName, match="unknown"):
            steer(subject, TEXTS, neurons, alphas=[1], **{name: value})
    with pytest.raises(InputError, match=r"\['w10'\]: give a NeuronSet .made by concept_neurons"):
        steer(subject, TEXTS, ["w10"], alphas=[1])
    with pytest.raises(InputError, match="circular"):
        steer(subject, TEXTS, circular, alphas=[1])
    with pytest.raises(InputError, match="prompt 0 has a single token"):
        steer(subject, torch.tensor([[5]]), neurons, alphas=[1])
    with pytest.raises(InputError, match=f"prompt 0 fills the context of {subject.n_ctx} tokens; shorten it"):
        steer(subject, torch.full((1, subject.n_ctx), 5), neurons, alphas=[1], generate=2)
    crowd = NeuronSet.of(subject, {0: range(40)}, WORDS)
    with pytest.raises(InputError, match="too few are left to compare with"):
        steer(subject, TEXTS, crowd, alphas=[1])
    with pytest.raises(UnknownName, match="unknown positions 'first'"), neurons.steering(subject, 1, positions="first"):
        pass
    with pytest.raises(ModelError, match="nothing passed through neurons of block"), neurons.steering(subject, 1):
        pass
    with pytest.raises(ModelError, match=r"block 1 of .* shows no neurons"):
        steer(_mixtral(), torch.tensor([[3, 4, 5]]), replace(neurons, fingerprint=None), alphas=[1])


def _mixtral() -> interp.Subject:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=64,
    )  # fmt: skip
    return interp.load(MixtralForCausalLM(config).eval())


def test_several_alphas_serve_generation_alone(small_subject):
    subject = small_subject("llama", "bridge")
    chosen = NeuronSet.of(subject, CHOSEN, WORDS)
    with (
        pytest.raises(InputError, match="several alphas give one to each text of `generate`"),
        chosen.steering(subject, [1, 2]),
    ):
        subject.logits(TEXTS[:2])
    with (
        pytest.raises(InputError, match="needs to know where texts end"),
        chosen.steering(subject, 1, positions="last"),
    ):
        subject.logits(TEXTS[:2])


def test_doses():
    neurons = {2: torch.tensor([4, 9])}
    (override,) = doses_of(neurons, [3.0], alpha_unit="sd", sd={2: torch.tensor([0.5, 2.0])})
    assert override.keep[2].tolist() == [0, 0] and override.put[2].tolist() == [1.5, 6.0]
    (add,), (scale,) = (doses_of(neurons, [3.0], mode=mode) for mode in ("add", "scale"))
    assert add.keep[2].tolist() == [1, 1] and add.put[2].tolist() == [3, 3]
    assert scale.keep[2].tolist() == [3, 3] and scale.put[2].tolist() == [0, 0]
