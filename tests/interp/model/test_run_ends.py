"""`Subject.run_ends`: logits after one position of each text are the model's own, whatever was done to the model."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

import interp
from interp.errors import ModelError
from interp.model.sites import editing
from interp.model.weights import replaced
from interp.planted import copying

# A bridge computes attention with other kernels than transformers: float32 rounding, 6e-8 relative, in four blocks.
CLOSE = {"atol": 3e-5, "rtol": 1e-4}
IDS = torch.randint(0, 61, (4, 14), generator=torch.Generator().manual_seed(0))
ENDS = torch.tensor([13, 0, 6, 9])  # what stands behind them is padding; ids equal to the padding token are not


def ends_of(subject: interp.Subject) -> Tensor:
    return subject.next_token_logits(IDS, ENDS, lambda logits: logits)


def recorded(subject: interp.Subject) -> Tensor:
    return subject.run(IDS, lambda tape: tape.head(tape.last[torch.arange(len(IDS)), ENDS]))


def test_they_are_the_models_and_those_of_a_recorded_pass(small_model, small_subject, any_architecture, any_backend):
    subject, model = small_subject(any_architecture, any_backend), small_model(any_architecture)
    with torch.no_grad():
        alone = [model(row[None, : end + 1]).logits[0, -1] for row, end in zip(IDS, ENDS, strict=True)]
    logits = ends_of(subject)
    torch.testing.assert_close(logits, torch.stack(alone), **CLOSE)
    torch.testing.assert_close(logits, recorded(subject), **CLOSE)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_an_edit_is_seen_and_gone_after_it(small_subject, architecture, any_backend):
    subject = small_subject(architecture, any_backend)
    clean = ends_of(subject)
    for name in ("embed", "attn_out", "mlp_out", "neurons"):
        with editing(subject.site(name, 1), lambda value: value.flip(-1)):
            edited = ends_of(subject)
            torch.testing.assert_close(edited, recorded(subject), **CLOSE)
        assert (edited - clean).abs().max() > 0.01
        assert torch.equal(ends_of(subject), clean)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_other_weights_are_seen_and_gone_after_it(small_subject, architecture, any_backend):
    subject = small_subject(architecture, any_backend)
    clean = ends_of(subject)
    module = subject.weight_matrices()[-1].module
    with replaced({module: torch.nn.Parameter(2 * module.weight.detach())}):
        torch.testing.assert_close(ends_of(subject), recorded(subject), **CLOSE)
        assert (ends_of(subject) - clean).abs().max() > 0.01
    assert torch.equal(ends_of(subject), clean)


def test_what_a_user_does_to_the_bridge_is_seen(small_model):
    subject = interp.load(small_model("gpt2"))
    clean, bridge = ends_of(subject), subject.backend.bridge
    with bridge.hooks(fwd_hooks=[("blocks.1.hook_in", lambda value, hook: 0.5 * value)]):
        hooked = ends_of(subject)
        torch.testing.assert_close(hooked, recorded(subject), **CLOSE)
    handle = bridge.blocks[1].register_forward_pre_hook(lambda module, args: (0.5 * args[0], *args[1:]))
    torch.testing.assert_close(ends_of(subject), hooked, **CLOSE)
    handle.remove()
    seen = []
    handle = bridge.blocks[1].register_forward_pre_hook(lambda module, args: seen.append(module))
    ends_of(subject)
    handle.remove()
    assert len(seen) == 1  # who only looks sees the pass too
    assert (hooked - clean).abs().max() > 0.01
    assert torch.equal(ends_of(subject), clean)


def test_a_weight_written_to_on_the_bridge_is_seen(small_model):
    subject = interp.load(small_model("gpt_neox"))
    clean = ends_of(subject)
    with torch.no_grad():
        subject.backend.bridge.blocks[2].attn.v.weight.mul_(4)  # its own copy of a part of the fused weight
    torch.testing.assert_close(ends_of(subject), recorded(subject), **CLOSE)
    assert (ends_of(subject) - clean).abs().max() > 0.01


def test_a_bridge_is_run_only_where_it_must_be(small_model, monkeypatch):
    subject = interp.load(small_model("llama"))
    clean = ends_of(subject)

    def forward(*args, **kwargs):
        raise AssertionError("the bridge was run")

    monkeypatch.setattr(type(subject.backend.bridge), "forward", forward)
    assert torch.equal(ends_of(subject), clean)
    with pytest.raises(AssertionError, match="the bridge was run"), editing(subject.site("embed"), lambda value: value):
        ends_of(subject)


def test_a_passed_bridge_keeps_its_hooks(small_model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("llama")
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    bridge.add_hook("blocks.0.hook_in", lambda tensor, hook: tensor * 1.5, is_permanent=True)
    with torch.no_grad():
        own = bridge(IDS)[torch.arange(len(IDS)), ENDS]
    torch.testing.assert_close(ends_of(interp.load(bridge)), own, **CLOSE)


def test_a_native_model():
    planted = copying()
    ids = torch.tensor([[3, 0, 2, 3], [1, 1, 2, 0]])
    truth = planted.truth.logits(ids)[torch.arange(2), torch.tensor([3, 1])]
    logits = interp.load(planted.model).next_token_logits(ids, torch.tensor([3, 1]), lambda logits: logits)
    torch.testing.assert_close(logits.double(), truth.double(), atol=1e-5, rtol=0)


def test_a_model_whose_unembedding_is_elsewhere_is_refused(small_model, any_backend, monkeypatch):
    subject = interp.load(small_model("gpt2"), backend=any_backend)
    for module in ("structure", "nnsight"):
        monkeypatch.setattr(f"interp.model.backends.{module}.unembedding_only", lambda ends, head: nullcontext())
    with pytest.raises(ModelError, match="unembedding single positions of 'GPT2LMHeadModel'"):
        ends_of(subject)
