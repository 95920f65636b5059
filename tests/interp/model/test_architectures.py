"""Every architecture of the table: right on both backends by plain PyTorch, or refused by name."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

import interp
from interp.errors import InputError, ModelError, TooLong
from interp.model.sites import Site, SiteName, editing, recording
from probes import layer_robustness, logit_lens

_SPEC = importlib.util.spec_from_file_location("architectures", Path(__file__).with_name("architectures.py"))
assert _SPEC is not None and _SPEC.loader is not None
architectures = sys.modules["architectures"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(architectures)

N_LAYERS, N_HEADS = 3, 4  # of every row
INSIDE: tuple[SiteName, ...] = (
    *("q", "k", "v", "scores", "pattern", "z", "head_out"),
    *("norm1", "norm2", "neurons_pre", "router"),
)
# Of the largest number compared: float32 rounds at 6e-8, a bridge adds up in another order than transformers in some
# ten products of 32 to 48 terms per block, and a skipped block's successors magnify what came before.
CLOSE = 5e-6

# A norm stands between the neurons and what is added.
NORMED_MLPS = {"gemma2", "gemma3_text", "vaultgemma", "olmo2", "olmo3", "flex_olmo", "glm4", "exaone4", "hyperclovax"}

ROWS = [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in architectures.TABLE]


def build(row: Any) -> nn.Module:
    """A random model in evaluation mode; weights of 0.15 make attention and MLP matter, biases and norms differ too."""
    settings = {"vocab_size": architectures.VOCAB, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if row.model_type == "gpt_neo":  # which has no padding token in its config
        del settings["pad_token_id"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(row.model_type, **settings | row.config)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.15 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise if parameter.ndim > 1 else parameter + noise)
    return model


@contextmanager
def skipping(model: nn.Module, skipped: Iterable[int]) -> Iterator[None]:
    """Let these blocks return what they were given; the plain meaning of their deletion."""

    def returned(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        entered = args[0] if args else kwargs["hidden_states"]
        return (entered, *out[1:]) if isinstance(out, tuple | list) else entered

    blocks = next(one for one in model.modules() if isinstance(one, nn.ModuleList) and len(one) == N_LAYERS)
    with ExitStack() as hooks:
        for index in skipped:
            hooks.callback(blocks[index].register_forward_hook(returned, with_kwargs=True).remove)
        yield


def logits_without(model: nn.Module, ids: Tensor, skipped: Iterable[int]) -> Tensor:
    with torch.no_grad(), skipping(model, skipped):
        return model(ids, use_cache=False).logits


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= CLOSE * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("row", ROWS)
def test_every_architecture_is_right_or_refused_by_name(row: Any, any_backend: str, ids: Tensor) -> None:
    model = build(row)
    if any_backend in row.refused:
        with pytest.raises((ModelError, InputError), match=row.refused[any_backend]) as caught:
            interp.load(model, backend=any_backend).run(ids, lambda tape: tape.last)
        assert type(model).__name__ in str(caught.value) and "\n" not in str(caught.value)
        return
    embedded = _embedded(model, ids)
    lens = [logits_without(model, ids, range(layer, N_LAYERS)) for layer in range(N_LAYERS + 1)]
    deleted = [logits_without(model, ids, [block]) for block in range(N_LAYERS)]
    subject = interp.load(model, backend=any_backend)  # after the plain passes, which change a RecurrentGemma's state
    _assert_embedding(subject, ids, embedded)
    _assert_replays(subject, ids, lens, deleted)
    _assert_probes(subject, ids, lens, deleted)
    _assert_branches(subject, ids, row.branches)
    _assert_residuals(subject, ids, bool(row.branches))
    _assert_inside(subject, ids, [*row.hidden.get(any_backend, "").split(), "neurons_pre" if row.mixture else "router"])
    if row.name not in NORMED_MLPS and not row.branches:
        _assert_value_vectors(subject, ids)


def _assert_replays(subject: interp.Subject, ids: Tensor, lens: list[Tensor], deleted: list[Tensor]) -> None:
    orders = [tuple(index for index in range(N_LAYERS) if index != block) for block in range(N_LAYERS)]

    def program(tape: interp.Tape) -> tuple[list[Tensor], list[Tensor]]:
        read = [tape.head(tape.residual(layer)) for layer in range(N_LAYERS + 1)]
        return read, [tape.head(residual) for residual in tape.replay_all(orders)]

    # One text, two, and as many as there are heads: none of these numbers may be taken for another.
    for batch in (ids[:1], ids, ids.repeat(N_HEADS // len(ids), 1)):
        read, replayed = subject.run(batch, program)
        for ours, theirs in zip([*read, *replayed], [*lens, *deleted], strict=True):
            assert_close(ours, theirs.repeat(2, 1, 1)[: len(batch)])


def _embedded(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the embeddings of tokens, [batch, pos, d_model], after OPT-350m's projection."""
    module = next((one for path, one in model.named_modules() if path.endswith("project_in")), None)
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        seen.append(out.clone())  # CTRL scales it in place

    with torch.no_grad(), (module or model.get_input_embeddings()).register_forward_hook(keep):
        model(ids, use_cache=False)
    return seen[0]


def _assert_embedding(subject: interp.Subject, ids: Tensor, embedded: Tensor) -> None:
    with recording([subject.site("embed")]) as seen:
        subject.run(ids, lambda tape: tape.last)
    assert seen[0] is not None
    assert_close(seen[0], embedded)
    scale = (subject.W_E[ids] * embedded).sum() / subject.W_E[ids].square().sum()  # Gemma's is sqrt(d_model)
    assert_close(scale * subject.W_E[ids], embedded)


def _assert_probes(subject: interp.Subject, ids: Tensor, lens: list[Tensor], deleted: list[Tensor]) -> None:
    following = ids[:, 1:, None]
    frame = logit_lens(subject, ids).dropna(subset="log_prob")
    expected = torch.stack([logits[:, :-1].log_softmax(-1).gather(2, following)[..., 0] for logits in lens])
    ours = frame.sort_values(["layer", "prompt_id", "pos"])["log_prob"].to_numpy()
    assert_close(torch.tensor(ours).float(), expected.flatten())
    frame = layer_robustness(subject, ids, interventions=["delete"], controls=()).dropna(subset="loss")
    expected = torch.stack([-logits[:, :-1].log_softmax(-1).gather(2, following)[..., 0] for logits in deleted])
    ours = frame.sort_values(["layer", "prompt_id", "pos"])["loss"].to_numpy()
    assert_close(torch.tensor(ours).float(), expected.flatten())


def _assert_branches(subject: interp.Subject, ids: Tensor, refused: str) -> None:
    refusals = []
    for layer in range(N_LAYERS):
        try:
            sites = subject.site("attn_out", layer), subject.site("mlp_out", layer)
        except ModelError as error:
            refusals.append(str(error))
        else:
            _assert_sum(subject, ids, layer, *sites)
    assert bool(refusals) == bool(refused)
    for refusal in refusals:
        assert re.search(refused, refusal) and subject.architecture in refusal


def _assert_sum(subject: interp.Subject, ids: Tensor, layer: int, attention: Site, mlp: Site) -> None:
    """The block is its input and both branches; what is added to a branch is added to the block's output."""
    added = torch.randn(ids.shape[1], subject.d_model, generator=torch.Generator().manual_seed(2))

    def program(tape: interp.Tape) -> tuple[Tensor, ...]:
        entered, left = tape.residual(layer), tape.residual(layer + 1)
        with recording([attention, mlp]) as seen:
            tape.run_block(layer, entered)
        assert seen[0] is not None and seen[1] is not None
        attended, computed = (value.reshape(entered.shape) for value in seen)
        with editing(mlp, lambda value: value + added):
            by_mlp = tape.run_block(layer, entered)
        # The MLP is held, else a sequential one would answer to what is added before it.
        with editing(attention, lambda value: value + added), editing(mlp, lambda value: computed):
            by_attention = tape.run_block(layer, entered)
        return entered, left, attended, computed, by_mlp, by_attention

    entered, left, attended, computed, by_mlp, by_attention = subject.run(ids, program)
    assert attended.abs().max() > 1e-2 and computed.abs().max() > 1e-2  # else one could be the other's
    assert_close(entered + attended + computed, left)
    assert_close(by_mlp, left + added)
    assert_close(by_attention, left + added)
    mids = _mids(subject, ids)
    if mids:
        assert_close(mids[layer], entered + attended)


def _assert_residuals(subject: interp.Subject, ids: Tensor, without_sum: bool) -> None:
    """Residuals are those of the tape; that between attention and MLP is shown exactly where a tape has it."""
    mids, clean = _mids(subject, ids), subject.run(ids, lambda tape: [*map(tape.residual, range(N_LAYERS + 1))])
    for layer in range(N_LAYERS):
        with recording([subject.site("resid_pre", layer), subject.site("resid_post", layer)]) as seen:
            subject.run(ids, lambda tape: tape.last)
        for ours, theirs in zip(seen, clean[layer : layer + 2], strict=True):
            assert_close(ours, theirs)
        refusal = _refusal(subject, "resid_mid", layer)
        if refusal:
            assert subject.architecture in refusal and (without_sum or not mids)
            assert without_sum or "shows no resid_mid: its MLP does not read the residual after" in refusal
            continue
        with recording([subject.site("resid_mid", layer)]) as seen:
            subject.run(ids, lambda tape: tape.last)
        if mids or not without_sum:
            assert_close(seen[0], mids[layer])


def _assert_inside(subject: interp.Subject, ids: Tensor, hidden: list[str]) -> None:
    """Heads mix values by their patterns; what is not shown inside attention and MLP is refused by name."""
    refused = set()
    for layer in range(N_LAYERS):
        refusals = {name: _refusal(subject, name, layer) for name in INSIDE}
        assert all(name in words and subject.architecture in words for name, words in refusals.items() if words)
        refused |= {name for name, words in refusals.items() if words}
        shown = [name for name in INSIDE if not refusals[name]]
        with recording([subject.site(name, layer) for name in shown]) as seen:
            subject.run(ids, lambda tape: tape.last)
        found = dict(zip(shown, seen, strict=True))
        if {"pattern", "v", "z"} <= found.keys():
            read = found["v"].repeat_interleave(N_HEADS // found["v"].shape[2], dim=2)
            assert_close(torch.einsum("bhqk,bkhd->bqhd", found["pattern"], read), found["z"])
        if {"pattern", "scores"} <= found.keys() and subject.architecture != "GptOssForCausalLM":  # which has sinks
            assert_close(found["scores"].softmax(dim=-1), found["pattern"])
        if "head_out" in found and found["head_out"] is not None:
            assert found["head_out"].shape == (*ids.shape, N_HEADS, subject.d_model)
    assert refused == set(hidden)


def _refusal(subject: interp.Subject, name: SiteName, layer: int) -> str:
    """Return the words with which a site is refused; an empty string if it is shown."""
    try:
        subject.site(name, layer)
    except ModelError as error:
        return str(error)
    return ""


def _assert_value_vectors(subject: interp.Subject, ids: Tensor) -> None:
    """An MLP adds its neurons times their value vectors, and a bias that is the same everywhere."""
    for layer in range(N_LAYERS):
        try:
            vectors, neurons = subject.value_vectors(layer), subject.site("neurons", layer)
        except ModelError as error:
            if not re.search("no single MLP|shows no neurons", str(error)):
                raise
            continue
        with recording([neurons, subject.site("mlp_out", layer)]) as seen:
            subject.run(ids, lambda tape: tape.last)
        activations, written = (value.reshape(*ids.shape, -1) for value in seen if value is not None)
        bias = written - activations @ vectors
        assert_close(written - bias[:1, :1], activations @ vectors)


def _mids(subject: interp.Subject, ids: Tensor) -> list[Tensor]:
    try:
        return list(subject.run(ids, lambda tape: tape.mids, mids=True))
    except ModelError as error:
        if "no residual between attention and MLP" not in str(error):
            raise
        return []


def _named(*names: str) -> list[Any]:
    return [pytest.param(row, id=row.name) for row in architectures.TABLE if row.name in names]


@pytest.mark.parametrize("row", _named("bloom", "gpt_bigcode", "gpt_neox", "falcon"))
def test_both_backends_find_the_same_matrices_in_a_fused_one(row: Any) -> None:
    # A bridge multiplies by its own q, k and v, apart, and its logits are those of the model.
    model = build(row)
    ours, theirs = (interp.load(model, backend=backend).weight_matrices() for backend in ("nnsight", "bridge"))
    for one, other in zip(ours, theirs, strict=True):
        assert one.name == other.name
        assert torch.equal(one.weight.reshape(other.shape), other.weight.reshape(other.shape))


@pytest.mark.parametrize("row", _named("gpt_bigcode-multihead", "persimmon", "gpt_neox_japanese"))
def test_a_fused_matrix_is_cut_into_queries_keys_and_values(row: Any, ids: Tensor) -> None:
    def without(component: str) -> interp.Subject:
        model = build(row)
        with torch.no_grad():
            for matrix in interp.load(model, backend="nnsight").weight_matrices()[:3]:
                if getattr(matrix.module, "bias", None) is not None:
                    matrix.module.bias.zero_()
                if matrix.component == component:
                    matrix.view(matrix.module.weight).zero_()
        return interp.load(model, backend="nnsight")

    # Persimmon normalises queries and keys, so that those without a query are all the norm's bias.
    for component in ("q", "k") if row.name != "persimmon" else ():
        subject = without(component)
        with subject.showing_patterns(), recording([subject.site("pattern", 0)]) as seen:
            subject.run(ids, lambda tape: tape.last)
        uniform = torch.ones(ids.shape[1], ids.shape[1]).tril()
        assert_close(seen[0], (uniform / uniform.sum(dim=1, keepdim=True)).expand_as(seen[0]))
    subject = without("v")
    with recording([subject.site("attn_out", 0)]) as seen:
        subject.run(ids, lambda tape: tape.last)
    assert_close(seen[0], seen[0][:1, :1].expand_as(seen[0]))


@pytest.mark.parametrize("row", _named("mistral", "gemma3_text", "gpt_neo"))
def test_masks_that_only_longer_texts_need_are_repeated_with_them(row: Any, any_backend: str) -> None:
    # The window is longer than the texts on which the model is verified, and shorter than those that follow.
    window = {name: 40 for name in ("sliding_window", "window_size") if name in row.config}
    model = build(replace(row, config=row.config | window))
    ids = torch.randint(3, architectures.VOCAB, (N_HEADS, 60), generator=torch.Generator().manual_seed(1))
    deleted = [logits_without(model, ids, [block]) for block in range(N_LAYERS)]
    subject = interp.load(model, backend=any_backend)
    subject.run(ids[:2, :20], lambda tape: tape.last)
    orders = [tuple(index for index in range(N_LAYERS) if index != block) for block in range(N_LAYERS)]
    for batch in (1, 2, N_HEADS):
        replayed = subject.run(ids[:batch], lambda tape: [tape.head(one) for one in tape.replay_all(orders)])
        for ours, theirs in zip(replayed, deleted, strict=True):
            assert_close(ours, theirs[:batch])


def test_a_text_longer_than_the_biases_of_mpt_is_refused_before_it_runs(any_backend: str) -> None:
    (row,) = (one for one in architectures.TABLE if one.name == "mpt")
    subject = interp.load(build(row), backend=any_backend)
    whole = torch.randint(3, architectures.VOCAB, (1, 64), generator=torch.Generator().manual_seed(1))
    assert subject.logits(whole)[0].shape == (64, architectures.VOCAB)
    with pytest.raises(TooLong, match="65"):
        subject.logits(torch.cat([whole, whole[:, :1]], dim=1))


def test_a_fused_matrix_of_another_layout_is_refused_by_name() -> None:
    (row,) = (one for one in architectures.TABLE if one.name == "falcon-new")
    with pytest.raises(ModelError, match="'FalconForCausalLM' shows no weight matrix k, q, v"):
        interp.load(build(row), backend="nnsight").weight_matrices()


def test_the_table_is_long_enough_and_each_row_has_its_own_name() -> None:
    names = [row.name for row in architectures.TABLE]
    assert len(set(names)) == len(names)
    assert len({row.model_type for row in architectures.TABLE if not row.refused}) >= 44
