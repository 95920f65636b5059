"""A subnetwork is what its masks say, on both backends, and goes without a trace."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import interp
from interp.errors import InputError, ModelError
from interp.model.weights import replaced
from probes import Subnetwork, logit_lens, maskable, released_subnetwork

MIXTURES = {"mixtral"}


def drawn(subject, density=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = {one.name: torch.rand(one.shape, generator=generator) < density for one in maskable(subject)}
    return Subnetwork(masks, subject.name, subject.fingerprint, {"made": "test"})


def small(masks):
    return Subnetwork(masks, "m", None, {})


def test_matrices_are_those_of_the_model_on_both_backends(small_subject, any_architecture):
    if any_architecture in MIXTURES:
        for backend in ("bridge", "nnsight"):
            with pytest.raises(ModelError, match="shows no weight matrix"):
                maskable(small_subject(any_architecture, backend))
        return
    bridge, traced = (small_subject(any_architecture, backend) for backend in ("bridge", "nnsight"))
    assert maskable(bridge) == maskable(traced)
    for one, other in zip(bridge.weight_matrices(), traced.weight_matrices(), strict=True):
        assert torch.equal(one.weight.reshape(one.shape), other.weight.reshape(other.shape)), one.name
    biggest = sum(weight.numel() for name, weight in bridge.backend.named_weights() if weight.ndim == 2)
    heads = {"embed", "lm_head", "wte", "wpe", "embed_in", "embed_out"}
    not_blocks = sum(
        weight.numel()
        for name, weight in bridge.backend.named_weights()
        if weight.ndim == 2 and (heads & set(name.split(".")) or "embed" in name)
    )
    assert sum(one.shape[0] * one.shape[1] for one in maskable(bridge)) == biggest - not_blocks


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2", "bloom"])
def test_applied_is_a_model_with_those_weights_set_to_0(small_model, word_level, ids, architecture):
    """Against transformers' own model with zeros written into a copy; queries, keys and values fused there."""
    model = small_model(architecture)
    subjects = [interp.load(model, backend=backend, tokenizer=word_level) for backend in ("bridge", "nnsight")]
    found = drawn(subjects[0])
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for matrix in interp.load(zeroed, backend="nnsight", tokenizer=word_level).weight_matrices():
            matrix.weight.mul_(found.masks[matrix.name].view(matrix.weight.shape))
        expected = zeroed(ids).logits
    for subject in subjects:
        with found.applied(subject) as pruned:
            logits = torch.stack(pruned.logits(ids))
        # Other kernels of attention on the bridge: float32 roundings of logits of order 10.
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_all_ones_change_nothing_and_all_zeros_see_only_token_and_position(
    small_subject, any_backend, architecture, ids
):
    subject = small_subject(architecture, any_backend)
    whole = torch.stack(subject.logits(ids))
    with Subnetwork.full(subject).applied(subject):
        assert torch.equal(torch.stack(subject.logits(ids)), whole)
    other = ids.clone()
    other[:, :-1] = other[:, :-1].flip(1)
    with Subnetwork.empty(subject).applied(subject):
        one, two = (torch.stack(subject.logits(each))[:, -1] for each in (ids, other))
    assert torch.equal(one, two) and not torch.equal(one, whole[:, -1])


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_applied_is_undone_to_the_bit_also_after_an_exception(small_model, word_level, any_backend, architecture, ids):
    model = small_model(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subject = interp.load(model, backend=any_backend, tokenizer=word_level)
    whole, found = torch.stack(subject.logits(ids)), drawn(subject)
    with pytest.raises(InputError, match="position 99 is outside"), found.applied(subject):
        logit_lens(subject, ids, positions=99)
    assert torch.equal(torch.stack(subject.logits(ids)), whole)
    assert type(subject)(subject.backend).fingerprint == subject.fingerprint and not subject.edits
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_applied_within_applied_is_the_intersection(small_subject, ids):
    subject = small_subject("gpt2", "bridge")
    one, two = drawn(subject, seed=1), drawn(subject, seed=2)
    with one.applied(subject), two.applied(subject):
        nested = torch.stack(subject.logits(ids))
    with (one & two).applied(subject):
        assert torch.equal(torch.stack(subject.logits(ids)), nested)


def test_frames_made_within_say_so(small_subject, ids):
    subject = small_subject("gpt2", "bridge")
    found = drawn(subject)
    with found.applied(subject):
        frame = logit_lens(subject, ids)
    (edit,) = next(iter(frame.interp.runs.values()))["edits"]
    assert edit == {"subnetwork": found.digest, "kept_count": found.n_kept, "total_count": found.n_total}
    assert frame["run_id"].iloc[0] != logit_lens(subject, ids)["run_id"].iloc[0]


masks = st.integers(0, 2**31).map(
    lambda seed: {
        f"blocks.{layer}.mlp.in.weight": torch.rand(
            (7, 5), generator=torch.Generator().manual_seed(seed + layer)
        ) < (seed % 11) / 10
        for layer in range(2)
    }
)  # fmt: skip


@given(masks=masks, others=masks, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_laws_of_sets_and_of_controls(masks, others, seed):
    one, two = small(masks), small(others)
    rest = one.complement()
    assert (one & rest).n_kept == 0 and (one | rest).n_kept == one.n_total == 70
    assert (one & two).n_kept + (one | two).n_kept == one.n_kept + two.n_kept
    assert one.complement().complement().digest == one.digest
    for structured in (False, True):
        control = one.random_like(seed, structured=structured)
        assert control.counts()["kept_count"].equals(one.counts()["kept_count"])
        assert control.digest == one.random_like(seed, structured=structured).digest
        if structured:
            for name, mask in control.masks.items():
                rows = [sorted(map(tuple, each.tolist())) for each in (mask, one.masks[name])]
                assert rows[0] == rows[1]
                assert torch.equal(mask.sum(dim=0), one.masks[name].sum(dim=0))  # of every input


def test_random_rows_do_not_keep_which_outputs_are_dense():
    """As the description says: the numbers of an output go to another."""
    one = small({"blocks.0.mlp.in.weight": torch.arange(100).view(10, 10) < 50})
    dense = [one.random_like(seed, structured=True).masks["blocks.0.mlp.in.weight"].all(dim=1) for seed in range(20)]
    assert all(int(rows.sum()) == 5 for rows in dense)
    assert len({tuple(rows.tolist()) for rows in dense}) > 10


def test_random_weights_are_spread_evenly():
    one = small({"blocks.0.mlp.in.weight": torch.arange(10_000).view(100, 100) < 5000})
    top = one.random_like(0).masks["blocks.0.mlp.in.weight"][:50].sum()
    assert abs(int(top) - 2500) < 125  # five standard deviations of a hypergeometric draw (25)


def test_saved_and_loaded_is_the_same(tmp_path, small_subject):
    subject = small_subject("llama", "bridge")
    found = drawn(subject)
    path = found.save(tmp_path / "new" / "masks.safetensors")
    again = Subnetwork.load(path)
    assert again.digest == found.digest and again.fingerprint == subject.fingerprint
    assert again.origin == {"made": "test"} and list(again.masks) == list(found.masks)
    assert path.stat().st_size < found.n_total / 8 + 10_000  # a bit per weight, and what is said of them


def test_counts_place_every_matrix(small_subject):
    subject = small_subject("llama", "bridge")
    counts = drawn(subject).counts()
    assert list(zip(counts["layer"], counts["component"], strict=True)) == [
        (one.layer, one.component) for one in maskable(subject)
    ]
    assert counts["share_of_kept"].sum() == pytest.approx(1)


def test_another_models_subnetwork_is_refused(small_model, small_subject, word_level, tmp_path):
    subject = small_subject("gpt2", "bridge")
    found = drawn(subject)
    with pytest.raises(ModelError, match="of another model"), found.applied(small_subject("llama", "bridge")):
        pass
    other = interp.load(small_model("gpt2", seed=1), tokenizer=word_level)
    with pytest.raises(ModelError, match="other weights"), found.applied(other):
        pass
    with pytest.raises(ModelError, match="subnetworks of different models"):
        _ = found & drawn(other)
    with pytest.raises(InputError, match=r"the mask of x is torch.float32"):
        small({"x": torch.ones(2, 2)})
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors", metadata={"interp": json.dumps({"format": "y"})})
    with pytest.raises(InputError, match="holds no subnetwork of this project"):
        Subnetwork.load(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="no subnetwork can be read"):
        Subnetwork.load(tmp_path / "absent.safetensors")


def test_replaced_puts_back_what_was_there_after_an_exception():
    linear = torch.nn.Linear(2, 2)
    own, other = linear.weight, torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(RuntimeError), replaced({linear: other}):
        linear(torch.ones(3))
    assert linear.weight is own


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_released_dictionaries_are_converted(small_model, word_level, ids, tmp_path, architecture):
    """Masks by Hugging Face's names, applied to a copy by plain PyTorch, and converted to either backend."""
    model = small_model(architecture)
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(weight.shape, generator=generator) < 0.5
        for name, weight in model.named_parameters()
        if weight.ndim == 2
        and "embed" not in name
        and "wte" not in name
        and "wpe" not in name
        and "lm_head" not in name
    }
    torch.save(masks | {"orig_model_name": "x"}, tmp_path / "masks.pt")
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in masks.items():
            zeroed.get_parameter(name).mul_(mask)
        expected = zeroed(ids).logits
    bridge, traced = (interp.load(model, backend=backend, tokenizer=word_level) for backend in ("bridge", "nnsight"))
    found = released_subnetwork(traced, tmp_path / "masks.pt")
    with found.applied(bridge):
        torch.testing.assert_close(torch.stack(bridge.logits(ids)), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="renames weights; use backend='nnsight'"):
        released_subnetwork(bridge, tmp_path / "masks.pt")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_pickle_that_runs_code_is_refused_unread(small_subject, tmp_path):
    torch.save({"transformer.h.0.attn.c_attn.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="holds more than tensors and is not unpickled"):
        released_subnetwork(small_subject("gpt2", "nnsight"), tmp_path / "evil.pt")
