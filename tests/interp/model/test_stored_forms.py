"""Quantised and adapted models: their own numbers, never changed, and weights that are effective or refused by name."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import interp
from interp.errors import ModelError
from interp.model.backends.effective import effective_weight, stored_tensors
from interp.model.sources import wrappers
from probes import (
    attribute,
    layer_robustness,
    logit_lens,
    neuron_tokens,
    normxlogit,
    run_schedules,
    stages_of_inference,
    top_tokens,
)

IDS = torch.tensor([[1, 3, 4, 5, 6, 30, 31], [1, 9, 8, 7, 12, 13, 14]])
# 64 numbers share a scale in 4 bits, so every width is a multiple of it.
WIDE = {"hidden_size": 64, "intermediate_size": 128}
FORMS: dict[str, dict[str, Any]] = {
    "8-bit": {"load_in_8bit": True},
    "4-bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "4-bit twice": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
}
# The largest error of a weight, as a share of the largest in its row (8 bits: half a step of a
# scale in float16) or among its 64 (4 bits).
STEP = {"8-bit": 0.57 / 127, "4-bit": 0.16, "4-bit twice": 0.18}


@pytest.fixture(scope="module")
def folder(small_model, word_level, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "wide-llama"
    small_model("llama", **WIDE).save_pretrained(path)
    word_level.save_pretrained(path)
    return path


@pytest.fixture
def quantised(folder) -> Callable[..., Any]:
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

    def make(form: str, **changes: Any) -> Any:
        how = BitsAndBytesConfig(**FORMS[form] | changes)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=how).eval()

    return make


def test_that_inputs_are_cast_is_said_once_and_not_at_each_product(quantised, caplog, monkeypatch):
    monkeypatch.setattr(wrappers, "_said", set())
    caplog.set_level(logging.WARNING, logger=wrappers._SAYS_OFTEN)
    logit_lens(interp.load(quantised("8-bit")), IDS)
    assert [one.message for one in caplog.records if "will be cast" in one.message] == [
        "MatMul8bitLt: inputs will be cast from torch.float32 to float16 during quantization"
    ]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def provenance(frame: Any) -> dict[str, Any]:
    (run,) = frame.interp.runs.values()
    return run


def stored(model: nn.Module) -> dict[str, Tensor]:
    # Not by `state_dict`, which unpacks packed 4-bit weights, and wrongly.
    return {name: tensor.detach().clone() for name, tensor in (*stored_tensors(model), *model.named_buffers())}


@pytest.mark.parametrize("ran_before", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_probe_leaves_a_quantised_model_as_it_was(quantised, form, ran_before, any_backend):
    untouched, model = quantised(form), quantised(form)
    if ran_before:  # the first forward pass moves the scales from the weight to the module, or packs the weights
        logits(model)
    before, kinds = stored(model), [type(module) for module in model.modules()]
    subject = interp.load(model, backend=any_backend)
    assert torch.equal(torch.stack(subject.logits(IDS)), logits(untouched))
    frame = logit_lens(subject, IDS)
    after = stored(model)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert kinds == [type(module) for module in model.modules()]
    assert torch.equal(logits(model), logits(untouched))
    again = logit_lens(interp.load(model, backend=any_backend), IDS)
    assert (frame["entropy"] == again["entropy"]).all()
    assert frame["run_id"].iat[0] == again["run_id"].iat[0]


@pytest.mark.parametrize("form", FORMS)
def test_value_vectors_are_dequantised(quantised, folder, form, any_backend):
    subject, full = interp.load(quantised(form), backend=any_backend), interp.load(folder)
    assert (subject.d_mlp, subject.d_vocab, subject.dtype) == (full.d_mlp, full.d_vocab, torch.float32)
    for layer in range(subject.n_layers):
        found, wanted = subject.value_vectors(layer), full.value_vectors(layer)
        assert found.dtype is torch.float32
        # Rows of the module's own matrix, [out, in], cut into what shares a scale.
        own, theirs = (
            matrix.T.reshape(-1, matrix.shape[0] if form == "8-bit" else 64).double() for matrix in (found, wanted)
        )
        assert ((own - theirs).abs().amax(1) <= 1.01 * STEP[form] * theirs.abs().amax(1)).all()
        assert (own != theirs).any()
    assert torch.equal(subject.W_U, full.W_U) and torch.equal(subject.W_E, full.W_E)  # these are not quantised
    assert len(neuron_tokens(subject)) == len(neuron_tokens(full))


@pytest.mark.parametrize("form", FORMS)
def test_what_a_quantised_module_does_is_what_its_effective_weight_does(quantised, form):
    model = quantised(form)
    logits(model)
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    for layer in model.model.layers:
        given, weight = layer.mlp.down_proj(x), effective_weight(layer.mlp.down_proj, "it")
        # Activations in 8 bits, or products in bfloat16: a hundredth of the output's length.
        assert (given - x @ weight.T.float()).norm() < 0.012 * given.norm()


def test_a_quantised_unembedding_is_dequantised_and_read_as_the_model_reads_it(quantised, folder, any_backend):
    subject, full = interp.load(quantised("8-bit", llm_int8_skip_modules=[]), backend=any_backend), interp.load(folder)
    error = (subject.W_U - full.W_U).abs().amax(0)
    assert (error > 0).all() and (error <= 1.01 * STEP["8-bit"] * full.W_U.abs().amax(0)).all()
    frame = logit_lens(subject, IDS)
    own = torch.stack(subject.logits(IDS)).log_softmax(-1)
    last = frame[frame["layer"] == subject.n_layers]
    entropy = -(own.exp() * own).sum(-1).flatten()
    torch.testing.assert_close(torch.tensor(last["entropy"].to_numpy()), entropy, atol=1e-5, rtol=0, check_dtype=False)


@pytest.mark.parametrize("form", ["8-bit", "4-bit"])
def test_probes_that_read_activations_run_on_quantised_models(quantised, folder, word_level, form, any_backend):
    subject, full = interp.load(quantised(form), backend=any_backend, tokenizer=word_level), interp.load(folder)
    texts = ["w3 w4 w5 w6 w7", "w8 w9 w10"]
    for probe in (layer_robustness, top_tokens, normxlogit, stages_of_inference, attribute):
        own, theirs = probe(subject, texts), probe(full, texts)
        assert own.shape == theirs.shape
        numbers = own.select_dtypes("number")
        assert (numbers.notna() == theirs[numbers.columns].notna()).all().all()
    own, theirs = (run_schedules(one, texts, {"all": range(4), "skip": [0, 1, 3]}) for one in (subject, full))
    final = own[own["schedule"] == "all"]
    assert (final["kl"].abs() < 1e-6).all() and (own[own["schedule"] == "skip"]["kl"] > 1e-3).all()
    assert subject.generate("w3 w4", 3, temperature=0).startswith("w3 w4")


@pytest.mark.parametrize("form", ["8-bit", "4-bit"])
def test_a_saved_quantised_folder(quantised, form, any_backend, tmp_path):
    model = quantised(form)
    model.save_pretrained(tmp_path)
    subject = interp.load(tmp_path, backend=any_backend)
    assert torch.equal(torch.stack(subject.logits(IDS)), logits(quantised(form)))
    (how,) = provenance(logit_lens(subject, IDS))["form"]["quantised"]
    assert how == f"bitsandbytes {form}"


def test_the_scales_are_part_of_the_fingerprint(quantised):
    model, other = quantised("8-bit"), quantised("8-bit")
    other.model.layers[0].mlp.down_proj.weight.SCB.mul_(2)
    prints = [interp.load(one, backend="nnsight").fingerprint for one in (model, model, other)]
    assert prints[0] == prints[1] != prints[2]


def test_quantised_matrices_are_not_masked(quantised, any_backend):
    subject = interp.load(quantised("8-bit"), backend=any_backend)
    with pytest.raises(ModelError, match=r"blocks\.0\.attn\.q\.weight of .* is a Linear8bitLt .*without quantisation"):
        subject.weight_matrices()


class Packed(nn.Module):
    """As libraries store 4-bit weights that interp does not know."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("qweight", torch.zeros(linear.out_features, linear.in_features // 8, dtype=torch.int32))
        self.register_buffer("full", linear.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.full.T


class Scaled(nn.Linear):
    """A matrix whose weight means nothing without a scale beside it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 3.0


@pytest.mark.parametrize("kind", ["packed", "narrow", "scaled", "subclass"])
def test_weights_in_an_unknown_form_are_refused_by_name(small_model, kind, any_backend):
    model = small_model("llama")
    for layer in model.model.layers:
        linear = layer.mlp.down_proj
        if kind == "packed":
            layer.mlp.down_proj = Packed(linear)
        elif kind == "narrow":
            linear.weight = nn.Parameter(linear.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
            linear.forward = lambda x, linear=linear: x @ linear.weight.to(x.dtype).T
        elif kind == "scaled":
            layer.mlp.down_proj = Scaled(linear.in_features, linear.out_features, bias=False)
        else:
            linear.weight = nn.Parameter(linear.weight.detach().as_subclass(Own), requires_grad=False)
    subject = interp.load(model, backend=any_backend)
    with pytest.raises(
        ModelError, match=r"the MLP of block 0 of 'LlamaForCausalLM' is a .*plain floating-point matrix"
    ):
        subject.value_vectors(0)
    with pytest.raises(ModelError, match="block 0"):
        neuron_tokens(subject)


class Own(Tensor):
    """A tensor of someone else's class, as torchao stores weights."""


def adapted(model: Any, *targets: str, **given: Any) -> Any:
    """A PEFT model whose adapters are not zero."""
    torch.manual_seed(1)
    settings = {"r": 4, "lora_alpha": 64, "init_lora_weights": False} | given
    config = peft.LoraConfig(target_modules=list(targets), task_type="CAUSAL_LM", **settings)
    return peft.get_peft_model(model, config).eval()


EVERYWHERE = ("down_proj", "q_proj", "lm_head", "embed_tokens")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rank-stabilised": {"use_rslora": True},
    "saved modules": {"modules_to_save": ["lm_head"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_under_an_adapter_are_those_of_the_merged_model(small_model, kind, any_backend):
    targets = [one for one in EVERYWHERE if one not in KINDS[kind].get("modules_to_save", ())]
    wrapper = adapted(small_model("llama"), *targets, **KINDS[kind])
    if kind == "saved modules":
        with torch.no_grad():
            wrapper.base_model.model.lm_head.weight.mul_(2)
    before = stored(wrapper)
    subject = interp.load(wrapper, backend=any_backend)
    merged = interp.load(copy.deepcopy(wrapper).merge_and_unload(), backend="nnsight")
    torch.testing.assert_close(torch.stack(subject.logits(IDS)), logits(wrapper), atol=3e-5, rtol=1e-4)
    for own, theirs in [(subject.W_U, merged.W_U), (subject.W_E, merged.W_E), (subject.b_U, merged.b_U)]:
        torch.testing.assert_close(own, theirs, atol=1e-6, rtol=1e-5)
    for layer in range(subject.n_layers):
        torch.testing.assert_close(subject.value_vectors(layer), merged.value_vectors(layer), atol=1e-6, rtol=1e-5)
    assert (neuron_tokens(subject)["token_id"] == neuron_tokens(merged)["token_id"]).all()
    after = stored(wrapper)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_an_adapted_unembedding_is_read_in_tiles_and_once(small_model, any_backend):
    subject = interp.load(adapted(small_model("llama"), "lm_head"), backend=any_backend)
    assert subject.W_U.data_ptr() == subject.W_U.data_ptr()  # kept, for it is read in every pass
    weight, whole = subject.run(IDS, lambda tape: (tape.head.weight, tape.head(tape.last)))
    torch.testing.assert_close(weight, subject.W_U.T)
    torch.testing.assert_close(whole, torch.stack(subject.logits(IDS)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("state", ["merged", "disabled", "two"])
def test_the_adapters_that_act_are_counted(small_model, state, any_backend):
    wrapper = adapted(small_model("gpt2"), "c_proj")
    if state == "two":
        wrapper.add_adapter("second", peft.LoraConfig(r=2, target_modules=["c_proj"], init_lora_weights=False))
        wrapper.base_model.set_adapter(["default", "second"])
    elif state == "merged":
        wrapper.merge_adapter()
    else:
        wrapper.base_model.disable_adapter_layers()
    subject = interp.load(wrapper, backend=any_backend)
    torch.testing.assert_close(torch.stack(subject.logits(IDS)), logits(wrapper), atol=3e-5, rtol=1e-4)
    x = torch.randn(3, subject.d_mlp, generator=torch.Generator().manual_seed(0))
    for layer, block in enumerate(wrapper.base_model.model.transformer.h):
        given = (block.mlp.c_proj(x) - block.mlp.c_proj(0 * x)).detach()
        torch.testing.assert_close(x @ subject.value_vectors(layer), given, atol=1e-4, rtol=1e-4)


def test_merged_adapters_that_are_disabled_are_refused(small_model):
    # Their forward pass would subtract them from the user's weights.
    wrapper = adapted(small_model("llama"), "down_proj")
    wrapper.merge_adapter()
    wrapper.base_model.disable_adapter_layers()
    before = stored(wrapper)
    with pytest.raises(ModelError, match=r"merged adapters that are disabled.*unmerge_adapter\(\)"):
        interp.load(wrapper)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stored(wrapper).items())


def test_an_adapter_on_a_quantised_model(quantised, any_backend):
    base = quantised("8-bit")
    plain = interp.load(base, backend="nnsight")
    values = plain.value_vectors(0)
    wrapper = adapted(base, "down_proj")
    subject = interp.load(wrapper, backend=any_backend)
    layer = wrapper.base_model.model.model.layers[0].mlp.down_proj
    torch.testing.assert_close(subject.value_vectors(0), values + layer.get_delta_weight("default").T)
    assert torch.equal(torch.stack(subject.logits(IDS)), logits(wrapper))


def test_adapted_matrices_are_not_masked_or_drawn_anew(small_model, any_backend):
    subject = interp.load(adapted(small_model("llama"), "down_proj"), backend=any_backend)
    with pytest.raises(ModelError, match=r"has an adapter.*merge_and_unload\(\)"):
        subject.weight_matrices()
    with pytest.raises(ModelError, match=r"merge_and_unload\(\)"):
        subject.backend.untrained(keep_embeddings=True)


def test_the_provenance_says_what_is_adapted(small_model):
    wrapper = adapted(small_model("llama"), "down_proj")
    found = provenance(logit_lens(interp.load(wrapper), IDS))
    assert found["form"] == {"adapted": {"default": {"modules": 4, "scaling": [16.0], "merged": False}}}
    assert "form" not in provenance(logit_lens(interp.load(small_model("llama")), IDS))


def test_the_scaling_of_an_adapter_is_part_of_the_fingerprint(small_model):
    prints = {interp.load(adapted(small_model("llama"), "down_proj", lora_alpha=a)).fingerprint for a in (8, 8, 16)}
    assert len(prints) == 2


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_a_prompt_that_was_learned_is_refused(small_model, kind):
    settings = {"num_virtual_tokens": 2, "task_type": "CAUSAL_LM"}
    config = peft.PromptTuningConfig(**settings) if kind == "prompt" else peft.PrefixTuningConfig(**settings)
    with pytest.raises(ModelError, match="learned prompt"):
        interp.load(peft.get_peft_model(small_model("llama"), config))


def test_a_folder_of_an_adapter(small_model, tmp_path):
    adapted(small_model("llama"), "down_proj").save_pretrained(tmp_path)
    with pytest.raises(interp.InputError, match=r"holds an adapter.*merge_and_unload\(\)"):
        interp.load(tmp_path)
