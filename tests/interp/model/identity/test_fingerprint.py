"""A fingerprint covers more than config and weights, and ordinary models have nothing more."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import accelerate
import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import interp
from interp.model.identity.description import describe, peculiarities
from interp.model.sites import editing, observing
from interp.model.sites.hooks import _edited
from interp.model.weights import replaced
from interp.planted import bias_ladder
from probes import logit_lens


def fingerprint(model: Any, **options: Any) -> str:
    return interp.load(model, **options).fingerprint


def test_an_ordinary_model_differs_in_nothing_from_a_new_one(small_model, any_architecture, tmp_path):
    model = small_model(any_architecture)
    model.save_pretrained(tmp_path)
    model(torch.arange(3, 40)[None])  # running it changes nothing either
    for one in (model, AutoModelForCausalLM.from_pretrained(tmp_path), model.to(torch.float64)):
        told, unknown = peculiarities(describe(one), one)
        assert set(told) <= {name for name, buffer in one.named_buffers() if buffer.dtype == torch.float64}
        assert unknown == []


def test_a_bridge_and_a_planted_model_too(small_model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("llama")
    for bridge in (
        bias_ladder().model,
        build_bridge_from_module(model, type(model).__name__, hf_config=model.config),
    ):
        told, unknown = peculiarities(describe(bridge.original_model), bridge.original_model)
        assert (told, unknown) == ({}, [])
        assert interp.load(bridge).fingerprint == interp.load(bridge).fingerprint


def test_building_the_new_model_draws_no_random_numbers(small_model):
    model, state = small_model("gpt2"), torch.get_rng_state()
    peculiarities(describe(model), model)
    assert torch.equal(torch.get_rng_state(), state)


def scale_frequencies(model: PreTrainedModel) -> None:
    model.model.rotary_emb.inv_freq.mul_(2)


def replace_frequencies(model: PreTrainedModel) -> None:
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq * 1.01


def coarsen_frequencies(model: PreTrainedModel) -> None:
    model.model.rotary_emb.to(torch.bfloat16)


def scale_attention(model: PreTrainedModel) -> None:
    model.model.layers[1].self_attn.scaling *= 3


def change_eps(model: PreTrainedModel) -> None:
    model.model.layers[1].input_layernorm.variance_epsilon = 0.5


def change_activation(model: PreTrainedModel) -> None:
    model.model.layers[1].mlp.act_fn = nn.ReLU()


def skip_a_norm(model: PreTrainedModel) -> None:
    model.model.layers[1].input_layernorm = nn.Identity()


CHANGES = (
    scale_frequencies,
    replace_frequencies,
    coarsen_frequencies,
    scale_attention,
    change_eps,
    change_activation,
    skip_a_norm,
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_no_config_and_no_weight_tells_is_in_the_fingerprint(small_model, any_backend, change):
    usual = fingerprint(small_model("llama"), backend=any_backend)
    models = [small_model("llama"), small_model("llama")]
    for model in models:
        change(model)
    first, second = (interp.load(model, backend=any_backend) for model in models)
    assert first.fingerprint == second.fingerprint != usual
    assert first.unknown_code == ()


def lora(model: PreTrainedModel, scaling: int) -> PreTrainedModel:
    torch.manual_seed(0)
    model.add_adapter(peft.LoraConfig(r=2, lora_alpha=scaling, target_modules=["q_proj"], init_lora_weights=False))
    return model.eval()


def test_adapters_are_in_the_fingerprint_with_their_scale_and_whether_they_are_on(small_model):
    off = lora(small_model("llama"), 16)
    off.disable_adapters()
    models = [lora(small_model("llama"), 16), lora(small_model("llama"), 16), lora(small_model("llama"), 32), off]
    known = [[fingerprint(model, backend=backend) for model in models] for backend in ("bridge", "nnsight")]
    assert known[0] == known[1]
    assert known[0][0] == known[0][1] and len(set(known[0])) == 3
    assert interp.load(models[0]).unknown_code == ()


def test_accelerates_own_hooks_are_none_of_the_users(small_model, any_backend):
    usual = fingerprint(small_model("llama"), backend=any_backend)
    model = accelerate.dispatch_model(small_model("llama"), {"": "cpu"}, force_hooks=True)
    subject = interp.load(model, backend=any_backend)
    assert (subject.fingerprint, subject.unknown_code) == (usual, ())
    logit_lens(subject, torch.tensor([[3, 4, 5]]))


def double(module: nn.Module, args: Any, output: Any) -> Any:
    return (output[0] * 2, *output[1:]) if isinstance(output, tuple) else output * 2


def hook(model: PreTrainedModel) -> None:
    model.model.layers[1].mlp.register_forward_hook(double)


def hook_before(model: PreTrainedModel) -> None:
    model.model.layers[1].mlp.register_forward_pre_hook(lambda module, args: (args[0] * 2,))


def replace_method(model: PreTrainedModel) -> None:
    mlp = model.model.layers[1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x) * 0


def replace_in_disguise(model: PreTrainedModel) -> None:
    mlp = model.model.layers[1].mlp
    forward = mlp.forward

    @functools.wraps(forward)  # which gives it the name and the module of the method that it replaces
    def zero(x: Tensor) -> Tensor:
        return forward(x) * 0

    mlp.forward = zero


class Doubling(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.inner(x)


def own_module(model: PreTrainedModel) -> None:
    model.model.layers[1].mlp.act_fn = Doubling(nn.SiLU())


CODE = {
    hook: "model.layers.1.mlp",
    hook_before: "model.layers.1.mlp",
    replace_method: "model.layers.1.mlp.forward",
    replace_in_disguise: "model.layers.1.mlp.forward",
    own_module: "model.layers.1.mlp.act_fn",
}


@pytest.mark.parametrize("change", CODE)
def test_code_that_cannot_be_identified_never_has_the_same_fingerprint(small_model, any_backend, change):
    model = small_model("llama")
    usual = fingerprint(model, backend=any_backend)
    change(model)
    subjects = [interp.load(model, backend=any_backend) for _ in range(2)]
    assert len({usual, *(subject.fingerprint for subject in subjects)}) == 3
    assert all(subject.unknown_code[0] == CODE[change] for subject in subjects)
    assert subjects[0].fingerprint == subjects[0].fingerprint


def test_code_in_a_passed_bridge_and_a_passed_nnsight_model(small_model):
    import nnsight
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("llama")
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    assert interp.load(bridge).unknown_code == ()
    with bridge.hooks(fwd_hooks=[("blocks.1.hook_in", lambda value, hook: 0.5 * value)]):
        hooked = interp.load(bridge)
        assert hooked.unknown_code == ("model.layers.1.hook_in",)
    handle = bridge.register_forward_hook(lambda *_: None)  # on the bridge itself
    assert interp.load(bridge).unknown_code == ("the model",)
    handle.remove()
    model = small_model("llama")
    replace_method(model)
    assert interp.load(nnsight.NNsight(model)).unknown_code == ("model.layers.1.mlp.forward",)
    assert interp.load(nnsight.NNsight(small_model("llama"))).unknown_code == ()


def test_code_put_into_a_class_or_into_every_module_or_into_attention(small_model, monkeypatch):
    from transformers import AttentionInterface
    from transformers.models.llama.modeling_llama import LlamaMLP

    model = small_model("llama")
    forward: Callable[..., Tensor] = LlamaMLP.forward
    with monkeypatch.context() as patch:
        patch.setattr(LlamaMLP, "forward", lambda self, x: 2 * forward(self, x))
        assert interp.load(model).unknown_code == ("LlamaMLP.forward",)
    handle = nn.modules.module.register_module_forward_hook(double)
    try:
        assert interp.load(model).unknown_code == ("every module",)
    finally:
        handle.remove()
    assert interp.load(model).unknown_code == ()
    usual = AttentionInterface._global_mapping["sdpa"]
    AttentionInterface.register("one_of_mine", lambda *args, **kwargs: usual(*args, **kwargs))
    model.config._attn_implementation = "one_of_mine"
    assert interp.load(model, backend="nnsight").unknown_code == ("the attention 'one_of_mine'",)


def test_an_edit_without_a_note_is_refused(small_model, any_backend):
    """A frame made inside it would have the id of the unedited model."""
    subject = interp.load(small_model("llama"), backend=any_backend)
    ids, site = torch.tensor([[3, 4, 5, 6]]), subject.site("mlp_out", 1)
    clean = logit_lens(subject, ids)
    weights = subject.weight_matrices()[0].module
    other = nn.Parameter(2 * weights.weight.detach())
    for edit in (lambda: editing(site, torch.zeros_like), lambda: replaced({weights: other})):
        with edit():
            subject.logits(ids)
            with pytest.raises(interp.ModelError, match=r"edited without a note.*Subject\.edited"):
                logit_lens(subject, ids)
            with subject.edited([], {"by": "hand"}):
                assert logit_lens(subject, ids)["run_id"].iat[0] != clean["run_id"].iat[0]
    with observing(site, lambda value: None):  # who only looks changes nothing
        assert logit_lens(subject, ids).equals(clean)
    assert not _edited
