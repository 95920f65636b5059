"""A model that changed after it was loaded is refused before it is run again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import interp
from interp.errors import ModelError
from interp.model.identity.unchanged import sums_of_bits
from interp.model.weights import replaced
from interp.runs.run import run_id
from probes import logit_lens
from probes.lens.logit_lens import LENS

IDS = torch.tensor([[3, 4, 5, 6, 7]])


def down(model: PreTrainedModel) -> nn.Module:
    return model.model.layers[2].mlp.down_proj


def write(model: PreTrainedModel) -> None:
    with torch.no_grad():
        down(model).weight[3, 5] = 0


def other_parameter(model: PreTrainedModel) -> None:
    down(model).weight = nn.Parameter(down(model).weight.detach() * 3)


def other_state(model: PreTrainedModel) -> None:
    model.load_state_dict({key: value * 1.5 for key, value in model.state_dict().items()}, assign=True)


def other_module(model: PreTrainedModel) -> None:
    model.model.layers[2].mlp.down_proj = copy.deepcopy(down(model))


def other_block(model: PreTrainedModel) -> None:
    model.model.layers[2] = copy.deepcopy(model.model.layers[2])


def other_memory(model: PreTrainedModel) -> None:
    down(model).weight.data = down(model).weight.data * 3


def other_storage(model: PreTrainedModel) -> None:
    with torch.no_grad():
        down(model).weight.set_(down(model).weight.detach() * 3)


def other_buffer(model: PreTrainedModel) -> None:
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq * 2


def write_to_buffer(model: PreTrainedModel) -> None:
    model.model.rotary_emb.inv_freq.mul_(2)


BEFORE_A_PASS = (
    write,
    other_parameter,
    other_state,
    other_module,
    other_block,
    other_memory,
    other_storage,
    other_buffer,
    write_to_buffer,
)


def write_uncounted(model: PreTrainedModel) -> None:
    down(model).weight.data[3, 5] += 1e-3


def swap_uncounted(model: PreTrainedModel) -> None:
    down(model).weight.data[[0, 1]] = down(model).weight.data[[1, 0]]


def scale_attention(model: PreTrainedModel) -> None:
    model.model.layers[1].self_attn.scaling *= 3


def hook(model: PreTrainedModel) -> None:
    model.model.layers[1].register_forward_hook(lambda *_: None)


def other_method(model: PreTrainedModel) -> None:
    mlp = model.model.layers[1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: 2 * forward(x)


BEFORE_A_RUN = (write_uncounted, swap_uncounted, scale_attention, hook, other_method)


@pytest.mark.parametrize("change", [*BEFORE_A_PASS, *BEFORE_A_RUN])
def test_a_probe_refuses_a_changed_model(small_model, any_backend, change):
    model = small_model("llama")
    subject = interp.load(model, backend=any_backend)
    before = logit_lens(subject, IDS)
    change(model)
    with pytest.raises(ModelError, match="changed since it was loaded; load it again") as caught:
        logit_lens(subject, IDS)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="changed since it was loaded"):
        run_id(LENS, subject, subject.tokens(IDS), {})
    again = interp.load(model, backend=any_backend)
    if change not in (other_module, other_block):  # these are copies with the same weights
        assert logit_lens(again, IDS)["run_id"].iat[0] != before["run_id"].iat[0]


@pytest.mark.parametrize("change", BEFORE_A_PASS)
def test_so_does_every_forward_pass_and_every_reading_of_weights(small_model, any_backend, change):
    model = small_model("llama")
    subject = interp.load(model, backend=any_backend)
    subject.run(IDS, lambda tape: tape.last)
    change(model)
    for call in (
        lambda: subject.run(IDS, lambda tape: tape.last),
        lambda: subject.next_token_logits(IDS, torch.tensor([4]), lambda logits: logits),
        lambda: subject.logits(IDS),
        lambda: subject.continue_ids([IDS[0]], 1),
        lambda: subject.value_vectors(2),
        lambda: subject.weight_matrices(),
        lambda: subject.W_U,
    ):
        with pytest.raises(ModelError, match="changed since it was loaded"):
            call()


def test_a_change_between_loading_and_the_first_pass_is_refused(small_model, any_backend):
    model = small_model("llama")
    subject = interp.load(model, backend=any_backend)
    scale_attention(model)
    with pytest.raises(ModelError, match=r"changed: 'model.layers.1.self_attn.scaling'"):
        subject.run(IDS, lambda tape: tape.last)


def test_what_is_done_to_a_passed_bridge_between_runs(small_model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("gpt2")
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    subject = interp.load(bridge)
    logit_lens(subject, IDS)
    halved = [("blocks.1.hook_in", lambda value, hook: 0.5 * value)]
    with bridge.hooks(fwd_hooks=halved), pytest.raises(ModelError, match=r"changed: hooks or methods at .*hook_in"):
        logit_lens(subject, IDS)
    logit_lens(subject, IDS)
    bridge.blocks[2].attn.v.weight.data.mul_(4)  # the bridge's own copy of a part of the fused weight
    with pytest.raises(ModelError, match="changed: the contents of weights"):
        logit_lens(subject, IDS)


def test_what_a_user_does_to_the_bridge_of_a_subject_between_runs(small_model):
    subject = interp.load(small_model("gpt2"))
    halved = [("blocks.1.hook_in", lambda value, hook: 0.5 * value)]
    with (
        subject.backend.bridge.hooks(fwd_hooks=halved),
        pytest.raises(ModelError, match="changed since it was loaded"),
    ):
        logit_lens(subject, IDS)
    logit_lens(subject, IDS)


def test_running_changes_nothing(small_model, any_architecture, any_backend):
    model = small_model(any_architecture)
    subject = interp.load(model, backend=any_backend)
    ids = torch.arange(3, 43)[None]
    with torch.no_grad():
        for call in (lambda: model(ids), lambda: logit_lens(subject, ids), lambda: subject.continue_ids([ids[0]], 3)):
            call()
            logit_lens(subject, ids[:, :5])


def test_a_rotary_embedding_that_follows_the_length_is_not_taken_for_changed(small_model, any_backend):
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model = small_model("llama", max_position_embeddings=16, rope_parameters=scaling)
    subject = interp.load(model, backend=any_backend)
    known = subject.fingerprint
    with torch.no_grad():
        model(torch.arange(3, 43)[None])
    logit_lens(subject, IDS)
    assert interp.load(model, backend=any_backend).fingerprint == known


def test_masked_weights_are_no_change(small_model):
    """Weights that interp itself replaces for a while, in a model whose modules are its owner's."""
    import nnsight

    subject = interp.load(nnsight.NNsight(small_model("llama")))
    module = subject.weight_matrices()[-1].module
    own = module._parameters["weight"]
    with replaced({module: nn.Parameter(2 * own.detach())}), replaced({module: nn.Parameter(3 * own.detach())}):
        subject.run(IDS, lambda tape: tape.last)
    assert module._parameters["weight"] is own
    subject.run(IDS, lambda tape: tape.last)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (64, 129), (2, 4096), (5, 3000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_sums_of_bits_see_any_one_number(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(shape, generator=generator).mul(10).to(dtype)
    (before, *more) = pair = sums_of_bits([tensor])
    assert len(more) == 1 and sums_of_bits([tensor.clone()]) == pair
    flat = tensor.view(-1)
    for place in {0, len(flat) // 2, len(flat) - 1}:
        was = flat[place].clone()
        flat[place] = ~was if dtype is torch.bool else was + 1
        assert sums_of_bits([tensor])[0] != before or sums_of_bits([tensor]) != pair
        flat[place] = was
    assert sums_of_bits([tensor]) == pair


def _rows(tensor: Tensor) -> Tensor:
    return tensor[torch.tensor([1, 0, *range(2, len(tensor))])]


def _columns(tensor: Tensor) -> Tensor:
    return _rows(tensor.T).T


@pytest.mark.parametrize("move", [_rows, _columns, lambda tensor: tensor.flip(0, 1), lambda tensor: -tensor])
@pytest.mark.parametrize("shape", [(6, 5), (300, 200), (8, 4096)])
def test_sums_of_bits_see_numbers_that_moved(shape, move: Callable[[Any], Tensor]):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert sums_of_bits([move(tensor)]) != sums_of_bits([tensor])


def test_sums_of_bits_of_parts_and_of_nothing():
    whole = torch.arange(20, dtype=torch.float32)
    assert sums_of_bits([whole[1:10]]) == sums_of_bits([whole[1:10].clone()])  # not where words of 8 bytes begin
    assert sums_of_bits([]) == []
    assert sums_of_bits([torch.empty(0)]) == [0, 0]
