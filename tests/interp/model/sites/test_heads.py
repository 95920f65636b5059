"""Sites of heads: what attention asks, mixes and writes, head by head, to read and to set on both backends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import interp
from interp.errors import ModelError
from interp.model.sites import Edit, editing, inside, recording
from interp.model.sites.site import SiteName

# float32 sums of some ten terms of size ten, in another order than the model's.
EXACT = {"rtol": 0.0, "atol": 2e-5}
D_HEAD = 8  # of every model here
NORMED = {"gemma2", "gemma3_text", "olmo2"}  # a norm stands between the heads' sum and attn_out
GROUPED = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "mixtral"}  # two of keys and values
NAMES: tuple[SiteName, ...] = ("q", "k", "v", "scores", "pattern", "z", "head_out")


@pytest.fixture
def subject(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> interp.Subject:
    return small_subject(any_architecture, any_backend)


def seen(subject: interp.Subject, ids: Tensor, *names: SiteName, layer: int = 1) -> list[Tensor]:
    with recording([subject.site(name, layer) for name in names]) as found:
        subject.run(ids, lambda tape: tape.last)
    return [value for value in found if value is not None]


def left_by(subject: interp.Subject, ids: Tensor, name: SiteName, edit: Edit) -> Tensor:
    with subject.edited([(subject.site(name, 1), edit)], {}):
        return subject.run(ids, lambda tape: tape.last)


def test_shapes_are_those_of_the_names(subject: interp.Subject, any_architecture: str, ids: Tensor) -> None:
    batch, pos = ids.shape
    n_kv = 2 if any_architecture in GROUPED else 4
    shapes: dict[SiteName, tuple[int, ...]] = {
        "q": (batch, pos, 4, D_HEAD),
        "k": (batch, pos, n_kv, D_HEAD),
        "v": (batch, pos, n_kv, D_HEAD),
        "scores": (batch, 4, pos, pos),
        "pattern": (batch, 4, pos, pos),
        "z": (batch, pos, 4, D_HEAD),
        "head_out": (batch, pos, 4, subject.d_model),
    }
    found = dict(zip(shapes, seen(subject, ids, *shapes), strict=True))
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes
    read = found["v"].repeat_interleave(4 // n_kv, dim=2)
    torch.testing.assert_close(torch.einsum("bhqk,bkhd->bqhd", found["pattern"], read), found["z"], **EXACT)
    torch.testing.assert_close(found["scores"].softmax(-1), found["pattern"], **EXACT)
    assert torch.equal(found["scores"].isneginf(), found["pattern"] == 0)
    assert found["pattern"].triu(1).abs().max() == 0


def test_outputs_of_heads_sum_to_what_attention_adds(
    subject: interp.Subject, any_architecture: str, ids: Tensor
) -> None:
    heads, added, z = seen(subject, ids, "head_out", "attn_out", "z")
    (matrix,) = (
        [one.weight for one in subject.weight_matrices() if one.name == "blocks.1.attn.o.weight"]
        if any_architecture != "mixtral"
        else [torch.zeros(0)]
    )
    if len(matrix):
        by_weight = torch.einsum("bphi,ohi->bpho", z, matrix.unflatten(1, (4, -1)))
        torch.testing.assert_close(heads, by_weight, **EXACT)
    if any_architecture not in NORMED:
        bias = added - heads.sum(dim=2)
        torch.testing.assert_close(bias, bias[:1, :1].expand_as(bias), **EXACT)


def test_both_backends_show_the_same(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, ids: Tensor
) -> None:
    ours, theirs = (seen(small_subject(any_architecture, backend), ids, *NAMES) for backend in ("bridge", "nnsight"))
    for name, one, other in zip(NAMES, ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_a_head_that_is_set_changes_what_is_read_of_it_and_no_other(subject: interp.Subject, ids: Tensor) -> None:
    z, heads = seen(subject, ids, "z", "head_out")

    def without_one(value: Tensor) -> Tensor:
        value[:, :, 2] = 0.0  # in place, which an edit may be
        return value

    with subject.edited([(subject.site("z", 1), without_one)], {}):
        edited, outputs = seen(subject, ids, "z", "head_out")
    others = [0, 1, 3]
    assert not edited[:, :, 2].any() and not outputs[:, :, 2].any()
    torch.testing.assert_close(edited[:, :, others], z[:, :, others], rtol=0.0, atol=0.0)
    torch.testing.assert_close(outputs[:, :, others], heads[:, :, others], **EXACT)
    # Without its output, a head is without its z: the projection is linear.
    torch.testing.assert_close(
        left_by(subject, ids, "head_out", without_one), left_by(subject, ids, "z", without_one), rtol=0.0, atol=2e-4
    )


def test_a_pattern_that_is_set_is_what_mixes_the_values(subject: interp.Subject, ids: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    other = torch.rand(len(ids), 4, ids.shape[1], ids.shape[1], generator=generator).tril()
    (v,) = seen(subject, ids, "v")
    for name, value in (("pattern", other), ("scores", other.log())):
        with subject.edited([(subject.site(name, 1), lambda _, value=value: value)], {}):
            pattern, z = seen(subject, ids, "pattern", "z")
        expected = other if name == "pattern" else other / other.sum(dim=-1, keepdim=True)
        torch.testing.assert_close(pattern, expected, **EXACT)
        read = v.repeat_interleave(4 // v.shape[2], dim=2)
        torch.testing.assert_close(torch.einsum("bhqk,bkhd->bqhd", pattern, read), z, **EXACT)


def test_values_that_are_set_are_what_is_mixed(subject: interp.Subject, ids: Tensor) -> None:
    v, pattern = seen(subject, ids, "v", "pattern")
    other = torch.randn(v.shape, generator=torch.Generator().manual_seed(0))
    with subject.edited([(subject.site("v", 1), lambda _: other)], {}):
        (z,) = seen(subject, ids, "z")
    read = other.repeat_interleave(4 // v.shape[2], dim=2)
    torch.testing.assert_close(z, torch.einsum("bhqk,bkhd->bqhd", pattern, read), **EXACT)


def test_a_site_may_be_asked_for_first_while_another_is_edited(
    small_model: Callable[..., nn.Module], any_backend: str, ids: Tensor
) -> None:
    """The identity that shows it is tried on the model itself, not on the edited one."""
    subject = interp.load(small_model("gpt2"), backend=any_backend)
    with subject.edited([(subject.site("v", 1), torch.zeros_like)], {}):
        (z,) = seen(subject, ids, "z")
    assert not z.any()
    (z,) = seen(subject, ids, "z")
    assert z.any()


@pytest.mark.parametrize("name", ["q", "k"])
def test_queries_and_keys_that_are_swapped_between_prompts_swap_their_scores(
    subject: interp.Subject, name: SiteName, ids: Tensor
) -> None:
    # Both prompts' queries and keys, each pair with each: what a score is made of is a query and a key.
    with subject.edited([(subject.site("q", 1), lambda value: value.flip(0))], {}):
        (by_queries,) = seen(subject, ids, "scores")
    with subject.edited([(subject.site("k", 1), lambda value: value.flip(0))], {}):
        (by_keys,) = seen(subject, ids, "scores")
    (clean,) = seen(subject, ids, "scores")
    torch.testing.assert_close(by_queries, by_keys.flip(0), **EXACT)
    assert not torch.allclose(by_queries, clean, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_set_to_what_it_was_changes_no_bit(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, name: SiteName, ids: Tensor
) -> None:
    for architecture in ("gpt2", "gemma2"):
        subject = small_subject(architecture, any_backend)
        with subject.showing_patterns():  # the same kernel, with and without the edit
            clean = subject.run(ids, lambda tape: tape.last)
            assert torch.equal(left_by(subject, ids, name, torch.clone), clean)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_is_taken_for_a_site(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, name: SiteName, ids: Tensor
) -> None:
    subject = small_subject("llama", any_backend)
    with recording([subject.site(name, 1)]) as found:
        last = subject.run(ids, lambda tape: tape.last, graph=True)
    value = found[0]
    assert value is not None
    direction = torch.randn(last.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((last * direction).sum(), value)
    step = 1e-2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    if name in ("scores", "pattern"):
        step = step.tril()
    up, down = (left_by(subject, ids, name, lambda value, by=sign * step: value + by) for sign in (1, -1))
    # A central difference errs by the square of the step, and float32 rounds sums of a thousand terms.
    measured = ((up - down) * direction).sum() / 2
    torch.testing.assert_close((gradient * step).sum(), measured, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_the_rounding_of_small_floats_hides_no_site(
    small_model: Callable[..., nn.Module], any_backend: str, shape: str, dtype: torch.dtype
) -> None:
    subject = interp.load(small_model(shape).to(dtype), backend=any_backend)
    for name in (*NAMES, "resid_pre", "resid_mid", "resid_post", "norm1", "norm2", "neurons_pre"):
        for layer in range(subject.n_layers):
            assert subject.site(name, layer).name == f"{name} of block {layer}"


@pytest.mark.parametrize("name", NAMES)
def test_no_hook_is_left_after_an_error(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, name: SiteName, ids: Tensor
) -> None:
    subject = small_subject("gpt2", any_backend)
    clean, before = subject.run(ids, lambda tape: tape.last), _hooks(subject)
    with pytest.raises(ZeroDivisionError), editing(subject.site(name, 1), lambda value: value / (1 // 0)):
        subject.run(ids, lambda tape: tape.last)
    assert _hooks(subject) == before and not inside._inside
    assert not torch.overrides._get_current_function_mode_stack()
    assert torch.equal(subject.run(ids, lambda tape: tape.last), clean)


def _hooks(subject: interp.Subject) -> int:
    modules = subject.backend.running.modules()
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)


def test_an_interrupt_inside_an_attention_leaves_no_mode(
    small_subject: Callable[[str, str], interp.Subject], ids: Tensor
) -> None:
    subject = small_subject("gpt2", "bridge")

    def interrupted(value: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), editing(subject.site("pattern", 1), interrupted):
        subject.run(ids, lambda tape: tape.last)
    assert not torch.overrides._get_current_function_mode_stack()


def test_outputs_of_scaled_heads_are_what_the_block_adds(
    small_model: Callable[..., nn.Module], any_backend: str, ids: Tensor
) -> None:
    subject = interp.load(small_model("granite", residual_multiplier=0.22), backend=any_backend)
    heads, added = seen(subject, ids, "head_out", "attn_out")
    torch.testing.assert_close(heads.sum(dim=2), added, **EXACT)


@pytest.mark.parametrize(
    ("shape", "changes", "name", "words"),
    [
        ("mamba", {}, "z", "shows no z"),
        ("mamba", {}, "pattern", "shows no pattern"),
    ],
)
def test_what_an_architecture_lacks_is_refused_by_name(
    small_model: Callable[..., nn.Module], shape: str, changes: dict[str, int], name: SiteName, words: str
) -> None:
    subject = interp.load(small_model(shape, **changes))
    with pytest.raises(ModelError, match=rf"Mamba.* {words}|{words}.*Mamba"):
        subject.site(name, 0)
