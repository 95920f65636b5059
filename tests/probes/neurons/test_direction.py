"""Directions: found where they were planted, steered along in closed form and as by hooks, and never in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import interp
from interp.errors import InputError, ModelError
from interp.planted import bigram
from probes import Direction, StateBank, contrast_direction, logit_lens, nearest_contexts, steer
from probes.neurons.steering._direction_controls import OF_DIRECTIONS, direction_conditions
from probes.neurons.steering._pushes import coordinates, shift
from probes.neurons.steering.contrast_direction import left_out_auroc

pytestmark = pytest.mark.trained

# A bridge computes attention with other kernels than transformers: float32 rounding through four blocks.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}
TEXTS = ["w3 w4 w5 w6 w7 w8 w9 w30", "w20 w21", "w11 w12 w13 w14", "w50 w7 w7 w8 w9"]
WORDS = ["w10", "w40", "w41"]
LAYERS = (1, 3)
BLOCKS = {"gpt2": "transformer.h.{}", "llama": "model.layers.{}"}
MODES = ("add", "override", "scale")


def vectors(d_model: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {layer: torch.randn(d_model, generator=generator) for layer in LAYERS}


def two_layers(subject: interp.Subject) -> Direction:
    of_each = [
        Direction.of(subject, v, layer, concept="c", words=WORDS) for layer, v in vectors(subject.d_model).items()
    ]
    return Direction(
        "c", of_each[0].words, {layer: one.by_layer[layer] for layer, one in zip(LAYERS, of_each, strict=True)},
        {}, subject.name, subject.fingerprint, {},
    )  # fmt: skip


@contextmanager
def pushed(model: nn.Module, architecture: str, mode: str, alpha: float) -> Iterator[None]:
    """Blocks whose output is pushed by a hook of PyTorch's own, position 0 left alone, nothing of ours."""

    def hook(vector: Tensor) -> Any:
        def edit(module: nn.Module, args: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            m = states @ vector / vector.square().sum()
            new = {"add": m + alpha, "override": torch.full_like(m, alpha), "scale": m * alpha}[mode]
            change = (new - m)[..., None] * vector
            change[:, 0] = 0.0
            return (states + change, *output[1:]) if isinstance(output, tuple) else states + change

        return edit

    found = vectors(model.config.hidden_size)
    handles = [
        model.get_submodule(BLOCKS[architecture].format(layer - 1)).register_forward_hook(hook(vector))
        for layer, vector in found.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# -- found -----------------------------------------------------------------------------------------------------------


def test_in_a_planted_bigram_model_the_contrast_and_its_effect_are_known_in_closed_form():
    """The last residual after word w is log P(. | w): the contrast is a difference of rows, and steering adds it."""
    planted = bigram(vocab=12)
    subject, rows = interp.load(planted.model), planted.truth.transition.log()
    found = contrast_direction(
        subject, ["w1", "w2", "w3"], ["w4", "w5"], layers=1, words=["w7", "w9"], concept="planted"
    )
    expected = rows[[1, 2, 3]].mean(0) - rows[[4, 5]].mean(0)
    torch.testing.assert_close(found.by_layer[1].double(), expected, rtol=0.0, atol=2e-6)  # of float32 weights
    ids = torch.tensor([[3, 5, 0, 5, 11]])
    for mode, alpha in (("add", -1.5), ("add", 2.0), ("override", 0.7), ("scale", 0.0)):
        m = rows[ids[0]] @ expected / expected.square().sum()
        change = {"add": torch.full_like(m, alpha), "override": alpha - m, "scale": (alpha - 1) * m}[mode]
        with found.steering(subject, alpha, mode=mode, skip_bos=False):
            steered = subject.logits(ids)[0].double()
        torch.testing.assert_close(steered, rows[ids[0]] + change[:, None] * expected, rtol=0.0, atol=1e-5)
        frame = steer(subject, ids, found, alphas=[alpha], mode=mode, controls=(), skip_bos=False)
        before, after = (one[1:].log_softmax(-1) for one in (rows[ids[0]], rows[ids[0]] + change[:, None] * expected))
        gain = (after[:, [7, 9]].logsumexp(-1) - before[:, [7, 9]].logsumexp(-1)).mean()
        assert frame["delta_log_prob"].item() == pytest.approx(float(gain), abs=1e-5)
        assert frame["kl"].item() == pytest.approx(float((before.exp() * (before - after)).sum(-1).mean()), abs=1e-5)
        # Without a norm behind it, the direct path is all there is.
        assert frame["delta_logit"].item() == pytest.approx(frame["delta_logit_predicted"].item(), abs=1e-5)


@pytest.mark.parametrize("read", ["last", "mean"])
def test_a_contrast_is_the_difference_of_mean_hidden_states(small_model, small_subject, word_level, read, any_backend):
    model, subject = small_model("llama"), small_subject("llama", any_backend)
    sides = TEXTS[:3], ["w50 w7", "w8 w9 w60 w31"]
    found = contrast_direction(subject, *sides, layers=[1, 3], read=read)
    for layer in (1, 3):
        means = []
        for side in sides:
            states = []
            for text in side:
                with torch.no_grad():
                    ids = torch.tensor([word_level(text)["input_ids"]])
                    of_text = model(ids, output_hidden_states=True).hidden_states[layer][0]
                states.append(of_text[-1] if read == "last" else of_text[1:].mean(0))
            means.append(torch.stack(states).mean(0))
        torch.testing.assert_close(found.by_layer[layer], means[0] - means[1], **CLOSE)
    assert found.words is None and found.how["positive"]["n"] == 3
    assert found.how["positive"]["digest"] == subject.tokens(sides[0]).digest


def test_the_order_of_texts_does_not_matter_and_sides_swapped_turn_the_direction_round(small_subject):
    subject = small_subject("gpt2", "bridge")
    one = contrast_direction(subject, TEXTS[:2], TEXTS[2:], layers=2)
    same = contrast_direction(subject, TEXTS[:2][::-1], TEXTS[2:][::-1], layers=2)
    turned = contrast_direction(subject, TEXTS[2:], TEXTS[:2], layers=2)
    for other, sign in ((same, 1), (turned, -1)):
        torch.testing.assert_close(other.by_layer[2], sign * one.by_layer[2], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(other.frame[["norm", "auroc"]], one.frame[["norm", "auroc"]], rtol=1e-6)
    torch.testing.assert_close(same.shuffled[2], one.shuffled[2], rtol=1e-6, atol=1e-7)


def test_a_group_offset_is_in_the_direction_and_not_in_its_shuffled_groups(small_model, word_level):
    """Words of one group are those of the other plus u: the contrast is u, and halves of groups hold none of it."""
    model = small_model("gpt2")
    groups = [list(range(10, 16)), list(range(20, 26))]
    offset = torch.zeros(32).index_fill_(0, torch.tensor([5]), 4.0)
    with torch.no_grad():
        base = model.transformer.wte.weight[groups[1]].clone()
        base[:, 5] = 0.0
        model.transformer.wte.weight[groups[1]] = base
        model.transformer.wte.weight[groups[0]] = base + offset
    subject = interp.load(model, tokenizer=word_level)
    names = [[f"w{index}" for index in group] for group in groups]
    found = contrast_direction(subject, *names, layers=0, words=["w40"])
    torch.testing.assert_close(found.by_layer[0], offset, rtol=0.0, atol=1e-6)
    assert found.frame["auroc"].item() == 1 and abs(found.shuffled[0][5]) < 1e-6 < found.shuffled[0].norm()


def test_words_are_read_alone_or_in_a_template(small_subject):
    subject = small_subject("llama", "bridge")
    for template, before in (("{}", [1]), ("w20 w21 {}", [1, 20, 21])):
        found = contrast_direction(subject, ["w3", "w4"], ["w5"], layers=2, template=template, words=["w9"])
        ids = torch.tensor([[*before, index] for index in (3, 4, 5)])
        states = subject.run(ids, lambda tape: tape.residual(2)[:, -1])
        torch.testing.assert_close(found.by_layer[2], states[:2].mean(0) - states[2], **CLOSE)


def test_a_word_of_an_attention_sink_is_warned_of(small_model, word_level):
    model = small_model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[11] *= 100
    subject = interp.load(model, tokenizer=word_level)
    sides = [f"w{index}" for index in range(10, 15)], [f"w{index}" for index in range(20, 25)]
    with pytest.warns(UserWarning, match="at layer 0 a state is .* times as long as the median"):
        contrast_direction(subject, *sides, layers=0, words=["w40"])


def test_pairs_are_left_out_as_by_the_definition_and_chance_is_one_half():
    random = np.random.default_rng(0)
    positive, negative = random.normal(size=(5, 7)) + 0.5, random.normal(size=(4, 7))
    right = []
    for i, p in enumerate(positive):
        for j, q in enumerate(negative):
            rest = np.delete(positive, i, axis=0).mean(0) - np.delete(negative, j, axis=0).mean(0)
            right.append((p - q) @ rest > 0)
    assert left_out_auroc(positive, negative) == pytest.approx(np.mean(right))
    drawn = [left_out_auroc(random.normal(size=(8, 30)), random.normal(size=(8, 30))) for _ in range(300)]
    assert abs(np.mean(drawn) - 0.5) < 4 * np.std(drawn) / np.sqrt(len(drawn))


# -- steered ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("architecture", BLOCKS)
def test_every_number_is_that_of_hooked_forward_passes(small_model, small_subject, architecture, any_backend, mode):
    model, subject = small_model(architecture), small_subject(architecture, any_backend)
    frame = steer(subject, TEXTS, two_layers(subject), alphas=[0.5, 3.0], mode=mode, controls=["sign_flip"])
    rows, concept = frame.set_index(["prompt_id", "control", "alpha"]), torch.tensor([10, 40, 41])
    assert (
        len(frame) == len(TEXTS) * 2 * 2 and (frame["n_neurons"] == 0).all() and (frame["layer_group"] == "full").all()
    )
    close = {"rel": CLOSE["rtol"], "abs": CLOSE["atol"]}
    for prompt_id, ids in enumerate(subject.tokens(TEXTS).ids):
        for alpha, sign in ((0.5, 1), (3.0, 1), (3.0, -1)):
            with torch.no_grad():
                base = model(ids[None]).logits[0, 1:].double()
                with pushed(model, architecture, mode, sign * alpha):
                    logits = model(ids[None]).logits[0, 1:].double()
            row = rows.loc[prompt_id, "none" if sign > 0 else "sign_flip", alpha]
            p, q = base.log_softmax(-1), logits.log_softmax(-1)
            gain = q[:, concept].logsumexp(-1) - p[:, concept].logsumexp(-1)
            assert row["delta_log_prob"] == pytest.approx(float(gain.mean()), **close)
            assert row["delta_logit"] == pytest.approx(float((logits - base)[:, concept].mean()), **close)
            assert row["kl"] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), **close)


@pytest.mark.parametrize("mode", MODES)
def test_steered_passes_are_hooked_passes_also_with_a_cache(small_model, small_subject, word_level, mode, any_backend):
    model, subject = small_model("llama"), small_subject("llama", any_backend)
    ids = torch.tensor([word_level("w3 w4 w5")["input_ids"]])
    direction = two_layers(subject)
    with torch.no_grad(), pushed(model, "llama", mode, 2.0):
        logits = model(ids).logits[0]
        for _ in range(6):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    with direction.steering(subject, 2.0, mode=mode):
        torch.testing.assert_close(subject.logits(["w3 w4 w5"])[0], logits, **CLOSE)
        text = subject.generate("w3 w4 w5", 6, temperature=0)
        lens = logit_lens(subject, ["w3 w4 w5"])
    assert text == f"w3 w4 w5 {word_level.decode(ids[0, 4:])}"
    (said,) = lens.interp.runs.values()
    assert {"steering": "c", "direction": direction.digest, "layers": [1, 3], "mode": mode}.items() <= said["edits"][
        0
    ].items()
    written = steer(subject, ["w3 w4 w5"], direction, alphas=[2.0], mode=mode, controls=(), generate=6, temperature=0)
    assert "w3 w4 w5" + written["text"].item() == text


def test_both_backends_give_the_same_frame(small_subject):
    frames = []
    for backend in ("bridge", "nnsight"):
        subject = small_subject("gemma2", backend)
        frames.append(steer(subject, TEXTS, two_layers(subject), alphas=[1, 2], through="lens"))
        with two_layers(subject).steering(subject, 2.0):
            frames[-1].attrs["logits"] = subject.logits(TEXTS[:1])[0]
    torch.testing.assert_close(frames[0].attrs["logits"], frames[1].attrs["logits"], rtol=1e-3, atol=1e-4)
    numbers = ["layer", "delta_log_prob", "delta_logit", "delta_logit_predicted", "kl"]
    np.testing.assert_allclose(frames[0][numbers], frames[1][numbers], rtol=1e-3, atol=1e-4)
    assert sorted(frames[0]["layer"].unique()) == [1, 2, 3, 4]


@pytest.mark.parametrize(("mode", "alpha"), [("add", 0.0), ("scale", 1.0)])
def test_doses_of_nothing_change_nothing(small_subject, mode, alpha):
    subject = small_subject("llama", "bridge")
    clean = subject.logits(TEXTS[:1])[0]
    with two_layers(subject).steering(subject, alpha, mode=mode):
        torch.testing.assert_close(subject.logits(TEXTS[:1])[0], clean, rtol=0.0, atol=0.0)
    frame = steer(subject, TEXTS, two_layers(subject), alphas=[alpha], mode=mode, controls=["random_direction"])
    assert frame[["delta_log_prob", "delta_logit", "kl"]].abs().max().max() < 2e-6  # float32 rounding


def test_a_coordinate_is_one_at_the_vector_and_its_moments_are_those_of_all_tokens_but_the_first(small_subject):
    subject = small_subject("gpt2", "bridge")
    direction = two_layers(subject)
    with interp.options.local(memory=1 << 20):  # several batches
        known = coordinates(subject, subject.tokens(TEXTS), direction.by_layer, 0)
    for layer, v in direction.by_layer.items():
        states = [
            subject.run(ids[None], lambda tape, at=layer: tape.residual(at))[0, 1:] for ids in subject.tokens(TEXTS).ids
        ]
        m = torch.cat(states).double() @ v.double() / v.double().square().sum()
        assert known[layer].mean == pytest.approx(float(m.mean()), abs=1e-5)
        assert known[layer].sd == pytest.approx(float(m.std(correction=0)), abs=1e-5)
        differences = (torch.cat(states)[:, None] - torch.cat(states)[None] - known[layer].difference).norm(dim=2)
        assert differences.min() < 1e-4 < known[layer].difference.norm()  # of two of the tokens
    in_sd = steer(subject, TEXTS, direction.at(3), alphas=[2], alpha_unit="sd", controls=())
    raw = steer(subject, TEXTS, direction.at(3), alphas=[2 * known[3].sd], controls=())
    np.testing.assert_allclose(in_sd["delta_log_prob"], raw["delta_log_prob"], atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_controls_change_every_token_as_much_as_the_direction_does(small_subject, mode):
    subject = small_subject("llama", "bridge")
    direction = contrast_direction(subject, TEXTS[:2], TEXTS[2:], layers=[1, 3], words=WORDS)
    known = coordinates(subject, subject.tokens(TEXTS), direction.by_layer, 0)
    pushes, by_control = direction_conditions(
        direction, (2.0,), OF_DIRECTIONS, known, mode=mode, alpha_unit="raw", seed=0
    )
    states = torch.randn(3, 5, subject.d_model, generator=torch.Generator().manual_seed(1))
    for layer in direction.by_layer:
        own = shift([pushes[by_control["none"][0]]], layer, states)
        for control in ("shuffled", "norm_matched", "random_direction"):
            other = shift([pushes[by_control[control][0]]], layer, states)
            torch.testing.assert_close(other.norm(dim=2), own.norm(dim=2))
            cosine = torch.nn.functional.cosine_similarity(other, own, dim=2)
            torch.testing.assert_close(cosine, cosine[:1, :1].expand_as(cosine))  # one vector for all tokens
        at_mean = states + shift([pushes[by_control["mean"][0]]], layer, states)
        m = at_mean @ direction.by_layer[layer] / direction.by_layer[layer].square().sum()
        torch.testing.assert_close(m, torch.full_like(m, known[layer].mean))


def test_a_planted_contrast_raises_its_held_out_words_more_than_its_controls_do():
    """Words of one group are followed by words of that group: the contrast of half of them raises the other half."""
    groups = (torch.arange(24) % 2)[:, None] == (torch.arange(24) % 2)
    noise = torch.randn(24, 24, generator=torch.Generator().manual_seed(0))
    subject = interp.load(bigram((2.0 * groups + noise).double().softmax(dim=1)).model)
    even, odd = ([f"w{index}" for index in range(start, 24, 2)] for start in (0, 1))
    found = contrast_direction(subject, even, odd, layers=1, concept="even")
    assert len(found.words.seeds) == len(found.words.held_out) == 6 and found.frame["auroc"].item() == 1
    # Behind odd words even ones have a share of 1 / (1 + e²): there is room above.
    frame = steer(subject, ["w1 w5 w3 w19", "w21 w23", "w9 w11 w7"], found, alphas=[0.5, 1, 2])
    summary = frame.interp.summary(at_kl=0.05).set_index("control")
    assert summary.loc["none", "monotone"] == 1 and summary.loc["none", "effect_low"] > 0.5
    assert summary.loc["sign_flip", "effect_high"] < 0
    others = summary.loc[["shuffled", "norm_matched", "random_direction"]]
    assert (others["effect"] < 0.5 * summary.loc["none", "effect"]).all() and (others["excess_low"] > 0).all()


def test_a_direction_goes_to_the_contexts_of_a_bank_in_one_line(small_subject):
    """Its nearest state has the largest product with it among the bank's states, less their mean, of length 1."""
    subject = small_subject("llama", "bridge")
    direction = contrast_direction(subject, TEXTS[:2], TEXTS[2:], layers=[1, 3])
    bank = StateBank.of(subject, TEXTS, layers=[1, 3])
    found = nearest_contexts(subject, states=direction, bank=bank, layers=3, k=1)
    states = bank.at(3).states(torch.arange(len(bank)))
    states = torch.nn.functional.normalize(states - states.mean(dim=0), dim=1)
    best = int((states @ direction.by_layer[3]).argmax())
    assert found["neighbour"].iat[0] == subject.token_strings[bank.places.token_id[best]]


def test_a_file_gives_the_direction_back(small_subject, tmp_path):
    subject = small_subject("llama", "bridge")
    one = contrast_direction(subject, TEXTS[:2], TEXTS[2:], layers=[1, 3], words=WORDS, concept="c")
    again = Direction.load(one.save(tmp_path / "c.safetensors"))
    assert again.digest == one.digest and repr(again) == repr(one) and list(again.by_layer) == [1, 3]
    assert again.how == one.how and again.frame.equals(one.frame)
    own, other = (steer(subject, TEXTS, direction, alphas=[1]) for direction in (one, again))
    assert own.equals(other)
    single = contrast_direction(subject, ["w3 w4"], ["w3 w5"], layers=2)
    alone = Direction.load(single.save(tmp_path / "single.safetensors"))
    assert alone.words is None and alone.shuffled == {} and alone.digest == single.digest


# -- refused ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_steered_or_measured_is_refused(small_subject, small_model, word_level):
    subject = small_subject("gpt2", "bridge")
    direction = two_layers(subject)
    other = interp.load(small_model("gpt2", seed=1), tokenizer=word_level)
    steering = {"texts": TEXTS, "neurons": direction, "alphas": [1]}
    calls: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ModelError, "this direction is of", lambda: steer(other, **steering)),
        (ModelError, "carry its vector over", lambda: direction.steering(other, 1.0).__enter__()),
        (InputError, "of neurons; for a Direction", lambda: steer(subject, **steering, controls=["random"])),
        (InputError, "no shuffled groups", lambda: steer(subject, **steering, controls=["shuffled"])),
        (InputError, "no vector at layer 2", lambda: direction.at(2)),
    ]  # fmt: skip
    at_0 = Direction.of(subject, torch.ones(32), [0, 2], concept="c", words=WORDS)
    calls.append((InputError, "stands at layer 0", lambda: steer(subject, TEXTS, at_0, alphas=[1])))
    unmeasured = contrast_direction(subject, TEXTS[:2], TEXTS[2:], layers=2)
    calls.append((InputError, "no words measure", lambda: steer(subject, TEXTS, unmeasured, alphas=[1])))
    same = "is a positive word and a negative one"
    calls.append((InputError, same, lambda: contrast_direction(subject, ["w3", "w4"], ["w3"], layers=2, words=["w9"])))
    circular = "is a positive word and a held-out one"
    calls.append((InputError, circular, lambda: contrast_direction(subject, ["w3"], ["w4"], layers=2, words=["w3"])))
    alike = "the same mean state at layer 2"
    calls.append((InputError, alike, lambda: contrast_direction(subject, TEXTS, TEXTS[::-1], layers=2)))
    for error, words, call in calls:
        with pytest.raises(error, match=words):
            call()
    assert "shuffled" not in steer(subject, TEXTS, direction, alphas=[1])["control"].unique()
    one_pair = contrast_direction(subject, ["w3 w4"], ["w3 w5"], layers=2)
    assert one_pair.shuffled == {} and np.isnan(one_pair.frame["auroc"].item())
