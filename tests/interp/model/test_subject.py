"""A subject says what its model says, leaves it alone, and refuses what it would get wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers import logging as transformers_logging

import interp
from interp.errors import InputError, ModelError, NumericalError
from interp.model import verification
from interp.model.head import Head
from probes import logit_lens

LIVE = ("gpt2", "llama", "gpt_neox", "gemma2")
# A bridge computes attention with other kernels than transformers: float32 rounding, 6e-8 relative, in four blocks.
CLOSE = {"atol": 3e-5, "rtol": 1e-4}

# Where each architecture keeps the projection out of its MLP.
MLP_OUT = {
    "gpt2": "mlp.c_proj",
    "llama": "mlp.down_proj",
    "gpt_neox": "mlp.dense_4h_to_h",
    "mistral": "mlp.down_proj",
    "qwen2": "mlp.down_proj",
    "qwen3": "mlp.down_proj",
    "gemma2": "mlp.down_proj",
    "gemma3_text": "mlp.down_proj",
    "opt": "fc2",
    "gpt_neo": "mlp.c_proj",
    "bloom": "mlp.dense_4h_to_h",
    "phi": "mlp.fc2",
    "olmo2": "mlp.down_proj",
    "gptj": "mlp.fc_out",
}
# The module whose output a sequential block adds to the stream last.
ADDED_LAST = MLP_OUT | {
    "gemma2": "post_feedforward_layernorm",
    "gemma3_text": "post_feedforward_layernorm",
    "olmo2": "post_feedforward_layernorm",
    "mixtral": "mlp",
}


def blocks_of(model: nn.Module) -> nn.ModuleList:
    return next(
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers
    )


def state_of(model: nn.Module) -> dict[str, Any]:
    """What a probe could leave behind in a module tree."""
    return {
        "classes": [(name, type(module)) for name, module in model.named_modules()],
        "instance attributes": [(name, sorted(vars(module))) for name, module in model.named_modules()],
        "forward hooks": sum(len(module._forward_hooks) for module in model.modules()),
        "pre-hooks": sum(len(module._forward_pre_hooks) for module in model.modules()),
        "backward hooks": sum(len(module._backward_hooks) for module in model.modules()),
        "training": [module.training for module in model.modules()],
        "state": [(name, tensor.data_ptr(), tensor._version) for name, tensor in model.state_dict().items()],
        "needs gradient": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad is None for parameter in model.parameters()],
        "config": model.config.to_dict() if isinstance(model, PreTrainedModel) else None,
        "attention": model.config._attn_implementation if isinstance(model, PreTrainedModel) else None,
    }


def probe_it(model: Any, *, backend: str | None = None) -> None:
    """A whole probe, then programs that raise: at once, and after running blocks."""
    ids = torch.tensor([[3, 4, 5, 6, 7, 8, 9, 10]])
    subject = interp.load(model, backend=backend)
    logit_lens(subject, ids)
    subject.logits(ids)
    subject.next_token_logits(ids, torch.tensor([3]), lambda logits: logits)
    subject.run(ids, lambda tape: tape.replay((0, 2, 1, 3)))

    def fails_at_once(read: object) -> Tensor:
        raise ZeroDivisionError("midway")

    def fails_late(tape: interp.Tape) -> Tensor:
        tape.run_block(1, tape.residual(0))
        return tape.replay((0, 9))

    with pytest.raises(ZeroDivisionError, match="midway"):
        subject.run(ids, fails_at_once, mids=subject.architecture != "GPTNeoXForCausalLM")
    with pytest.raises(ZeroDivisionError, match="midway"):
        subject.next_token_logits(ids, torch.tensor([3]), fails_at_once)
    with pytest.raises(InputError, match="block 9 is not in a model of 4 blocks"):
        subject.run(ids, fails_late)


def seeded_logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits of the model in its own mode, which may be that of training: with the same dropouts every time."""
    torch.manual_seed(0)
    with torch.no_grad():
        return model(ids).logits


@pytest.fixture
def long_ids() -> Tensor:
    return torch.randint(3, 61, (3, 20), generator=torch.Generator().manual_seed(2))


def test_logits_are_the_models(small_model, small_subject, any_architecture, any_backend, long_ids):
    with torch.no_grad():
        own = small_model(any_architecture)(long_ids).logits
    logits = small_subject(any_architecture, any_backend).logits(long_ids)
    torch.testing.assert_close(torch.stack(logits), own, **CLOSE)


@pytest.mark.parametrize("architecture", LIVE)
def test_a_live_model_is_left_as_it_was(small_model, architecture, any_backend, long_ids):
    model = small_model(architecture).train()
    blocks_of(model)[1].eval()  # modes that differ within the model
    model.register_forward_hook(lambda *_: None)  # a hook of the user's own
    logits = seeded_logits(model, long_ids)
    before = copy.deepcopy(state_of(model))
    probe_it(model, backend=any_backend)
    after = state_of(model)
    assert {key: after[key] for key in before} == before
    assert torch.equal(seeded_logits(model, long_ids), logits)


@pytest.mark.parametrize("architecture", LIVE)
def test_a_passed_bridge_is_left_as_it_was(small_model, architecture, long_ids):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model(architecture)
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    bridge.add_hook("blocks.0.hook_in", lambda tensor, hook: tensor * 1.5, is_permanent=True)
    with torch.no_grad():
        logits = bridge(long_ids)
    before = copy.deepcopy(state_of(bridge))
    hooks = {name: len(point.fwd_hooks) for name, point in bridge.hook_dict.items()}
    probe_it(bridge)
    after = state_of(bridge)
    assert {key: after[key] for key in before} == before
    assert {name: len(point.fwd_hooks) for name, point in bridge.hook_dict.items()} == hooks
    with torch.no_grad():
        assert torch.equal(bridge(long_ids), logits)


@pytest.mark.parametrize("wrapper", ["TransformersModel", "LanguageModel", "NNsight"])
@pytest.mark.filterwarnings("ignore:LanguageModel is deprecated")
def test_a_passed_nnsight_model_is_left_as_it_was(small_model, word_level, wrapper, any_backend, long_ids):
    import nnsight

    model = small_model("gpt2").train()
    given = {} if wrapper == "NNsight" else {"tokenizer": copy.deepcopy(word_level)}
    wrapped = getattr(nnsight, wrapper)(model, **given)
    wrapped._module.train()
    blocks_of(model)[1].eval()
    before = copy.deepcopy(state_of_traced(wrapped._module))
    traced = []
    for study in (lambda: probe_it(wrapped, backend=any_backend), lambda: None):
        torch.manual_seed(0)  # of the dropouts
        with torch.no_grad(), wrapped.trace(input_ids=long_ids):
            logits = nnsight.save(wrapped.output.logits)
        traced.append(logits)
        study()
        assert state_of_traced(wrapped._module) == before
    assert torch.equal(*traced)


def state_of_traced(model: nn.Module) -> dict[str, Any]:
    state = state_of(model)
    del state["config"], state["instance attributes"]  # holding nnsight's own state, which a trace may write
    return state


@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_a_tokenizer_is_left_as_it_was(small_model, word_level, backend):
    tokenizer = copy.deepcopy(word_level)
    before = (repr(tokenizer), tokenizer.padding_side, len(tokenizer), tokenizer("w3 w4")["input_ids"])
    subject = interp.load(small_model("llama"), tokenizer=tokenizer, backend=backend)
    subject.logits(["w3 w4", "w5"])
    assert (repr(tokenizer), tokenizer.padding_side, len(tokenizer), tokenizer("w3 w4")["input_ids"]) == before


def test_evaluation_mode_whatever_the_models_own(small_model, any_backend, long_ids):
    dropout = {"resid_pdrop": 0.5, "attn_pdrop": 0.5, "embd_pdrop": 0.5}
    model = small_model("gpt2", **dropout)
    with torch.no_grad():
        evaluated = model(long_ids).logits
        model.train()
        assert (model(long_ids).logits - evaluated).abs().max() > 0.1  # dropout does something
    subject = interp.load(model, backend=any_backend)
    torch.testing.assert_close(torch.stack(subject.logits(long_ids)), evaluated, **CLOSE)
    replayed = subject.run(long_ids, lambda tape: tape.head(tape.replay((0, 1, 2, 3))))
    torch.testing.assert_close(replayed, evaluated, **CLOSE)
    assert all(module.training for module in model.modules())


def test_two_runs_and_a_run_after_an_error_give_the_same_bits(small_subject, any_backend, long_ids):
    subject = small_subject("llama", any_backend)
    first = subject.run(long_ids, lambda tape: tape.head(tape.last))
    for error in (InputError("an input."), ModelError("a model."), NumericalError("a number."), KeyError("any")):

        def fail(tape: interp.Tape, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            subject.run(long_ids, fail)
        assert caught.type is type(error)  # nnsight could have made another class of it
        assert caught.value.args == error.args
        assert torch.equal(subject.run(long_ids, lambda tape: tape.head(tape.last)), first)
    assert torch.equal(subject.backend.logits(long_ids), first)


def test_one_subject_runs_inside_anothers_program(small_subject, any_backend, long_ids):
    outer, inner = small_subject("llama", any_backend), small_subject("gpt2", any_backend)
    alone = inner.run(long_ids, lambda tape: tape.last)
    within = outer.run(long_ids, lambda tape: inner.run(long_ids, lambda other: other.last))
    assert torch.equal(within, alone)


def test_residuals_between_attention_and_mlp(small_model, small_subject, parallel, any_architecture, any_backend, ids):
    subject = small_subject(any_architecture, any_backend)
    if any_architecture in parallel:
        with pytest.raises(ModelError, match="no residual between attention and MLP"):
            subject.run(ids, lambda tape: tape.mids, mids=True)
        return
    model, added = small_model(any_architecture), []
    for block in blocks_of(model):
        last = block.get_submodule(ADDED_LAST[any_architecture])
        last.register_forward_hook(
            lambda module, args, out: added.append((out[0] if isinstance(out, tuple) else out).reshape(*ids.shape, -1))
        )
    with torch.no_grad():
        model(ids)
    mids, after = subject.run(
        ids, lambda tape: (list(tape.mids), [tape.residual(layer) for layer in range(1, tape.n_layers + 1)]), mids=True
    )
    for mid, contribution, residual in zip(mids, added, after, strict=True):
        torch.testing.assert_close(mid + contribution, residual, **CLOSE)


def test_a_gpt_neox_whose_parts_run_in_turn_has_that_residual(small_model, any_backend, ids):
    subject = interp.load(small_model("gpt_neox", use_parallel_residual=False), backend=any_backend)
    mids = subject.run(ids, lambda tape: list(tape.mids), mids=True)
    blocks = subject.run(ids, lambda tape: [tape.residual(layer) for layer in range(tape.n_layers)])
    assert all((mid - before).abs().max() > 0.1 for mid, before in zip(mids, blocks, strict=True))


def test_weights_under_one_name(small_model, small_subject, any_architecture, any_backend, ids):
    model, subject = small_model(any_architecture), small_subject(any_architecture, any_backend)
    assert torch.equal(subject.W_E, model.get_input_embeddings().weight)
    assert subject.W_E.shape == (subject.d_vocab, subject.d_model) == subject.W_U.T.shape
    assert subject.b_U.shape == (subject.d_vocab,)
    assert any_architecture not in ("phi", "gptj") or subject.b_U.abs().sum() > 0  # these two have a bias
    cap = getattr(model.config, "final_logit_softcapping", None)

    def unembed(tape: interp.Tape) -> tuple[Tensor, Tensor]:
        return tape.last, tape.raw_head(tape.last)

    last, logits = subject.run(ids, unembed)
    by_hand = last @ subject.W_U + subject.b_U
    torch.testing.assert_close(cap * torch.tanh(by_hand / cap) if cap else by_hand, logits, **CLOSE)


@pytest.mark.parametrize("architecture", MLP_OUT)
def test_value_vectors_are_what_neurons_write(small_model, small_subject, architecture, any_backend):
    subject, model = small_subject(architecture, any_backend), small_model(architecture)
    neurons = torch.randn(5, subject.d_mlp, generator=torch.Generator().manual_seed(3))
    for layer, block in enumerate(blocks_of(model)):
        project = block.get_submodule(MLP_OUT[architecture])
        with torch.no_grad():
            written = project(neurons) - project(torch.zeros_like(neurons))
        vectors = subject.value_vectors(layer)
        assert vectors.shape == (subject.d_mlp, subject.d_model)
        # Sums of 48 to 128 products in float32.
        torch.testing.assert_close(neurons @ vectors, written, atol=1e-5, rtol=1e-5)


def test_a_mixture_of_experts_has_no_value_vectors(small_subject, any_backend):
    with pytest.raises(ModelError, match="no single MLP") as caught:
        small_subject("mixtral", any_backend).value_vectors(0)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("layer", [-1, 4])
def test_value_vectors_of_a_block_that_is_not_there(small_subject, any_backend, layer):
    with pytest.raises(InputError, match="layers run from 0 to 3"):
        small_subject("gpt2", any_backend).value_vectors(layer)


def test_both_backends_see_the_same_shape(small_subject, any_architecture):
    bridge, nnsight = (small_subject(any_architecture, backend).backend.facts for backend in ("bridge", "nnsight"))
    assert bridge == nnsight
    assert (bridge.n_layers, bridge.n_heads, bridge.d_model, bridge.d_vocab) == (4, 4, 32, 61)


def test_fingerprints(small_model, small_subject, any_architecture):
    fingerprint = small_subject(any_architecture, "bridge").fingerprint
    assert len(fingerprint) == 16
    assert fingerprint == small_subject(any_architecture, "nnsight").fingerprint
    model = small_model(any_architecture)
    name, weight = list(model.named_parameters())[5]
    with torch.no_grad():
        weight.view(-1)[0] += 1e-6
    assert fingerprint != interp.load(model, backend="nnsight").fingerprint, name


def test_a_fingerprint_knows_what_no_weight_says(small_model):
    models = [
        small_model("llama"),
        small_model("llama", rms_norm_eps=1e-3),
        small_model("llama", num_key_value_heads=4, seed=1),
        small_model("llama").to(torch.bfloat16),
    ]
    assert len({interp.load(model, backend="nnsight").fingerprint for model in models}) == len(models)


def test_generation_at_temperature_0_takes_the_argmax(small_model, small_subject, word_level, any_backend):
    model, text = small_model("llama"), "w3 w4 w5"
    ids = torch.tensor([word_level(text)["input_ids"]])
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    continuation = word_level.decode(ids[0, 4:])
    subject = small_subject("llama", any_backend)
    assert subject.generate(text, 8, temperature=0) == f"{text} {continuation}"
    assert subject.generate(text, 8, temperature=0, seed=5) == f"{text} {continuation}"


def test_generation_follows_its_seed(small_subject, any_backend):
    subject = small_subject("llama", any_backend)
    torch.manual_seed(0)
    first = subject.generate("w3 w4", 12, seed=1)
    torch.manual_seed(1)  # the global generator has no say
    assert subject.generate("w3 w4", 12, seed=1) == first
    assert subject.generate("w3 w4", 12, seed=2) != first
    assert first.startswith("w3 w4 ")
    assert subject.generate("w3 w4", 0) == "w3 w4"


def test_both_backends_generate_the_same_text(small_subject):
    texts = {small_subject("gpt_neox", backend).generate("w3", 12, seed=4) for backend in ("bridge", "nnsight")}
    assert len(texts) == 1


def test_generation_ends_with_the_context_or_the_end_token(small_model, word_level):
    model = small_model("gpt2", n_positions=16)
    subject = interp.load(model, tokenizer=word_level)
    assert len(subject.generate("w3 w4", 100).split()) <= 15
    with torch.no_grad():
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(model.lm_head.weight[2] * 100)  # always says </s>
    assert interp.load(model, tokenizer=word_level).generate("w3 w4", 100) == "w3 w4"


def test_a_character_of_several_tokens_comes_out_whole():
    subject = interp.load("reference")
    ids = subject.tokens(["漢"], bos=False).ids[0]
    assert len(ids) > 1  # else this shows nothing

    class Saying:
        """A backend that says the tokens of one text, whatever it is asked."""

        def __init__(self, backend: Any, ids: Tensor) -> None:
            self._backend, self._said = backend, iter(ids.tolist())

        def __getattr__(self, name: str) -> Any:
            return getattr(self._backend, name)

        def step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
            return torch.nn.functional.one_hot(torch.tensor([next(self._said)]), 8192).float() * 1e3, None

    subject._check = lambda ids: None
    subject.backend = Saying(subject.backend, ids)
    assert subject.generate("He said ", len(ids), temperature=0) == "He said 漢"


def test_a_negative_temperature_is_refused(small_subject):
    with pytest.raises(InputError, match="temperature=-1"):
        small_subject("gpt2", "bridge").generate("w3", 1, temperature=-1)


@pytest.fixture
def broken() -> Iterator[Callable[[Any, str], interp.Subject]]:
    """A Gemma-2 whose soft cap the backend forgets, so that its own read-out is not reproduced."""
    with pytest.MonkeyPatch.context() as patch:

        def build(model: Any, backend: str) -> interp.Subject:
            subject = interp.load(model, backend=backend)
            if backend == "nnsight":
                patch.setattr(subject.backend, "_transform", lambda logits: logits)
            else:
                patch.setattr(
                    subject.backend,
                    "_head",
                    lambda norm: Head(lambda residual: subject.backend.bridge.unembed(norm(residual))),
                )
            return subject

        yield build


def test_a_model_whose_replay_differs_is_refused_by_name(small_model, broken, any_backend, ids):
    model = small_model("gemma2")
    model.name_or_path = "some/gemma"
    subject = broken(model, any_backend)
    for _ in range(2):  # not only the first time
        with pytest.raises(ModelError, match="replaying 'some/gemma'") as caught:
            subject.run(ids, lambda tape: tape.last)
        assert one_sentence(caught.value)


def test_a_bridge_that_is_another_model_is_refused(ids):
    # TransformerLens 4.3 gives a Falcon with ALiBi the wrong biases; with its own logits alone nobody would notice.
    from transformers import FalconConfig, FalconForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = FalconForCausalLM(FalconConfig(**shape, alibi=True, parallel_attn=False)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
        own = model(ids).logits
    with pytest.raises(ModelError, match=r"rebuilds 'FalconForCausalLM'.*use backend='nnsight'"):
        interp.load(model).run(ids, lambda tape: tape.last)
    torch.testing.assert_close(torch.stack(interp.load(model, backend="nnsight").logits(ids)), own, **CLOSE)


def test_an_architecture_without_a_bridge(ids):
    from transformers import BioGptConfig, BioGptForCausalLM

    shape = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = BioGptForCausalLM(BioGptConfig(**shape, intermediate_size=48, max_position_embeddings=64)).eval()
    with pytest.raises(ModelError, match=r"cannot build a bridge.*use backend='nnsight'") as caught:
        interp.load(model)
    assert one_sentence(caught.value)
    assert torch.equal(torch.stack(interp.load(model, backend="nnsight").logits(ids)), model(ids).logits.detach())


def test_a_model_whose_embedding_is_narrower_than_its_residuals(small_model, any_backend, ids):
    # OPT-350m: norms after the branches, no final norm, and a projection before the unembedding.
    model = small_model("opt", word_embed_proj_dim=16, do_layer_norm_before=False)
    subject = interp.load(model, backend=any_backend)
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True)
        decoder = model.model.decoder
        vectors = model.lm_head.weight @ decoder.project_out.weight
    residuals, logits = subject.run(
        ids, lambda tape: ([tape.residual(at) for at in range(5)], [tape.head(tape.residual(at)) for at in range(5)])
    )
    for layer, hidden in enumerate(expected.hidden_states[:4]):
        torch.testing.assert_close(residuals[layer], hidden, **CLOSE)
        torch.testing.assert_close(logits[layer], hidden @ vectors.T, **CLOSE)
    torch.testing.assert_close(logits[4], expected.logits, **CLOSE)
    torch.testing.assert_close(subject.W_U.T, vectors, **CLOSE)
    torch.testing.assert_close(subject.W_E, decoder.project_in(decoder.embed_tokens.weight).detach(), **CLOSE)
    for name in ("attn_out", "mlp_out"):
        with pytest.raises(ModelError, match=r"block 0 of 'OPTForCausalLM'.* is not its input \+ attn_out") as caught:
            subject.site(name, 0)
        assert one_sentence(caught.value) and any_backend in str(caught.value)
    with pytest.raises(ModelError, match="no residual between attention and MLP"):
        subject.run(ids, lambda tape: tape.last, mids=True)


@pytest.mark.parametrize("length", [1, 6])
def test_a_model_that_looks_ahead_is_refused(small_model, any_backend, length):
    # A causal architecture whose mask is gone; seen on a prompt of one token too.
    model = small_model("gpt2")
    subject = interp.load(model, backend=any_backend)
    honest = subject.backend.logits

    def looks_ahead(ids: Tensor) -> Tensor:
        return honest(ids) + honest(ids).mean(dim=1, keepdim=True)

    def replayed(ids: Tensor, program: Any, *, mids: bool) -> tuple[Tensor, None]:
        return looks_ahead(ids).repeat(2, 1, 1), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "logits", looks_ahead)
        patch.setattr(subject.backend, "run", replayed)
        patch.setattr(verification, "learn_growth", lambda backend, ids: None)  # which runs the model itself
        with pytest.raises(ModelError, match="'GPT2LMHeadModel' is not causal"):
            subject.run(torch.arange(3, 3 + length)[None], lambda tape: tape.last)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert"])
def test_encoders_are_refused(model_type, any_backend, tmp_path):
    transformers_logging.set_verbosity_error()
    small = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **small, intermediate_size=32))
    model.save_pretrained(tmp_path / "encoder")
    for source in (model, tmp_path / "encoder"):
        with pytest.raises(ModelError, match="not a causal language model") as caught:
            interp.load(source, backend=any_backend)
        assert one_sentence(caught.value)


def test_encoder_decoders_are_refused(any_backend, tmp_path):
    AutoConfig.for_model("t5", vocab_size=61, d_model=32, num_layers=1).save_pretrained(tmp_path / "t5")
    with pytest.raises(ModelError, match="'t5' is an encoder-decoder") as caught:
        interp.load(tmp_path / "t5", backend=any_backend)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(small_model, any_backend, ids, value):
    model = small_model("gpt2")
    with torch.no_grad():
        model.lm_head.weight[7, 0] = value
    with pytest.raises(NumericalError, match="hold NaN or infinity") as caught:
        interp.load(model, backend=any_backend).run(ids, lambda tape: tape.last)
    assert one_sentence(caught.value)


def test_a_model_trained_after_loading_is_refused(small_model, any_backend, ids):
    # A bridge of GPT-2 holds copies of q, k and v: half of it would be the old model.
    model = small_model("gpt2")
    subject = interp.load(model, backend=any_backend)
    subject.run(ids, lambda tape: tape.last)
    model(ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    for call in (lambda: subject.run(ids, lambda tape: tape.last), lambda: subject.logits(ids)):
        with pytest.raises(ModelError, match="changed since it was loaded; load it again"):
            call()
    with torch.no_grad():
        torch.testing.assert_close(
            torch.stack(interp.load(model, backend=any_backend).logits(ids)), model(ids).logits, **CLOSE
        )


def test_half_precision_runs(small_model, any_backend, ids):
    model = small_model("llama").to(torch.bfloat16)
    subject = interp.load(model, backend=any_backend)
    with torch.no_grad():
        own = model(ids).logits
    logits = torch.stack(subject.logits(ids))
    assert subject.dtype is logits.dtype is torch.bfloat16
    # bfloat16 rounds at 4e-3 relative, in other places in a bridge's attention: a few such of logits up to 3.
    torch.testing.assert_close(logits, own, atol=0.1, rtol=0.05)
    assert subject.run(ids, lambda tape: torch.equal(tape.head(tape.replay(range(4))), tape.head(tape.last)))


def one_sentence(error: Exception) -> bool:
    text = str(error)
    return "\n" not in text and len(text) < 300 and text[:1] not in ("", " ")


def test_provenance_tells_a_bridge_in_compatibility_mode(small_model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("gpt2")
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    assert interp.load(bridge).backend.weights == "raw"
    bridge.enable_compatibility_mode()
    assert interp.load(bridge).backend.weights == "compatibility"
