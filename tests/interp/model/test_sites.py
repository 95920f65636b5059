"""Sites: what is read and changed under one name is the same thing in every architecture and on both backends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import interp
from interp.errors import InputError, ModelError
from interp.model.sites import editing, observing, recording

# float32 sums of three terms of size ten, in another order than the model's.
EXACT = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture
def subject(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> interp.Subject:
    return small_subject(any_architecture, any_backend)


def test_attention_and_mlp_add_up_to_what_a_block_writes(subject: interp.Subject, ids: Tensor) -> None:
    for layer in range(subject.n_layers):
        with recording([subject.site("attn_out", layer), subject.site("mlp_out", layer)]) as seen:
            entered, left = subject.run(ids, lambda tape, at=layer: (tape.residual(at), tape.residual(at + 1)))
        attention, mlp = seen
        assert attention is not None and mlp is not None
        torch.testing.assert_close(entered + attention.view_as(entered) + mlp.view_as(entered), left, **EXACT)


def test_without_attention_and_mlp_a_block_writes_nothing(subject: interp.Subject, ids: Tensor) -> None:
    def program(tape: interp.Tape) -> tuple[Tensor, Tensor]:
        with ExitStack() as edits:
            for name in ("attn_out", "mlp_out"):
                edits.enter_context(editing(subject.site(name, 1), torch.zeros_like))  # type: ignore[arg-type]
            return tape.run_block(1, tape.residual(1)), tape.residual(1)

    left, entered = subject.run(ids, program)
    torch.testing.assert_close(left, entered, rtol=0.0, atol=0.0)


def test_the_embedding_of_a_token_is_that_of_the_token_alone(subject: interp.Subject, ids: Tensor) -> None:
    with recording([subject.site("embed")]) as seen:
        subject.run(ids, lambda tape: tape.residual(0))
    (embedded,) = seen
    assert embedded is not None and embedded.shape == (*ids.shape, subject.d_model)
    same = ids.flatten() == ids[0, 3]
    rows = embedded.flatten(0, 1)[same]
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), rtol=0.0, atol=0.0)


def test_patterns_are_causal_distributions(subject: interp.Subject, ids: Tensor) -> None:
    with recording([subject.site("pattern", 1)]) as seen:
        subject.run(ids, lambda tape: tape.residual(0))
    (pattern,) = seen
    assert pattern is not None and pattern.shape == (len(ids), subject.n_heads, ids.shape[1], ids.shape[1])
    torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(pattern.shape[:-1]), **EXACT)
    assert not pattern.triu(1).any()


def test_both_backends_show_the_same_neurons(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, ids: Tensor
) -> None:
    seen = []
    for backend in ("bridge", "nnsight"):
        subject = small_subject(any_architecture, backend)
        if any_architecture == "mixtral":
            with pytest.raises(ModelError):
                subject.site("neurons", 2)
            return
        with recording([subject.site("neurons", 2)]) as values:
            subject.run(ids, lambda tape: tape.residual(0))
        assert values[0] is not None
        seen.append(values[0].reshape(*ids.shape, subject.d_mlp))
    torch.testing.assert_close(seen[0], seen[1], rtol=0.0, atol=1e-4)  # the backends' attention kernels differ


def test_neurons_write_their_value_vectors(
    small_model: Callable[..., nn.Module], small_subject: Callable[[str, str], interp.Subject], ids: Tensor
) -> None:
    for subject in (small_subject("llama", "bridge"), interp.load(small_model("granite", residual_multiplier=0.22))):
        assert_neurons_write_their_value_vectors(subject, ids)


def assert_neurons_write_their_value_vectors(subject: interp.Subject, ids: Tensor) -> None:
    with recording([subject.site("neurons", 1), subject.site("mlp_out", 1)]) as seen:
        subject.run(ids, lambda tape: tape.residual(0))
    neurons, written = seen
    assert neurons is not None and written is not None
    torch.testing.assert_close(neurons @ subject.value_vectors(1), written, **EXACT)


def test_edits_see_batch_and_position_even_where_a_model_flattens_them(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, ids: Tensor
) -> None:
    subject = small_subject("opt", any_backend)
    shapes = []

    def last_position_off(value: Tensor) -> Tensor:
        shapes.append(value.shape)
        return torch.cat([value[:, :-1], torch.zeros_like(value[:, -1:])], dim=1)

    clean = subject.run(ids, lambda tape: tape.last)
    with editing(subject.site("neurons", 0), last_position_off):
        edited = subject.run(ids, lambda tape: tape.last)
    assert set(shapes) == {(*ids.shape, subject.d_mlp)}
    torch.testing.assert_close(edited[:, :-1], clean[:, :-1], rtol=0.0, atol=0.0)
    assert not torch.allclose(edited[:, -1], clean[:, -1])


def test_edits_of_a_scaled_branch_leave_the_bits_of_what_they_do_not_change(
    small_model: Callable[..., nn.Module], any_backend: str, ids: Tensor
) -> None:
    # Granite adds 0.22 times what its attention and MLP give; what is read and changed is what is added.
    subject = interp.load(small_model("granite", residual_multiplier=0.22), backend=any_backend)

    def last_position(value: Tensor) -> Tensor:
        value[:, -1] += 1.0  # in place, which an edit may be
        return value

    def program(tape: interp.Tape) -> tuple[Tensor, Tensor]:
        with editing(subject.site("mlp_out", 1), last_position):
            return tape.run_block(1, tape.residual(1)), tape.residual(2)

    edited, clean = subject.run(ids, program)
    torch.testing.assert_close(edited[:, :-1], clean[:, :-1], rtol=0.0, atol=0.0)
    torch.testing.assert_close(edited[:, -1], clean[:, -1] + 1.0, **EXACT)


def test_the_refusal_of_a_branch_advises_the_backend_that_shows_it(
    small_model: Callable[..., nn.Module], any_backend: str
) -> None:
    subject = interp.load(small_model("granite", residual_multiplier=0.22), backend=any_backend)
    shown = subject.backend.site
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "site", lambda name, layer: replace(shown(name, layer), scale=1.0))
        with pytest.raises(
            ModelError, match=r"block 2 of .*GraniteForCausalLM.* is not its input \+ attn_out"
        ) as caught:
            subject.site("mlp_out", 2)
    other = {"bridge": "nnsight", "nnsight": "bridge"}[any_backend]
    assert f"{any_backend} backend" in str(caught.value)
    assert str(caught.value).endswith(f"; use backend={other!r}.")


@pytest.mark.parametrize("shape", ["falcon", "llama"])
def test_what_an_edit_returns_is_not_written_to(
    small_model: Callable[..., nn.Module], shape: str, any_backend: str, ids: Tensor
) -> None:
    # Falcon adds the attention's output to the MLP's in place: a patch would be another one the second time.
    changes = {} if shape == "llama" else {"num_key_value_heads": None, "max_position_embeddings": 64}
    subject = interp.load(small_model(shape, **changes), backend=any_backend)
    patch = torch.ones_like(subject.run(ids, lambda tape: tape.last))
    with editing(subject.site("mlp_out", 0), lambda value: patch):
        first, second = (subject.run(ids, lambda tape: tape.last) for _ in range(2))
    assert torch.equal(patch, torch.ones_like(patch)) and torch.equal(first, second)


def test_observing_sees_every_pass_and_changes_nothing(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, ids: Tensor
) -> None:
    subject = small_subject("gpt2", any_backend)
    clean = subject.run(ids, lambda tape: tape.last)
    seen: list[Tensor] = []
    # What `look` returns is of no consequence, so that it may be any function.
    with observing(subject.site("mlp_out", 2), lambda value: seen.append(value.clone()) or torch.zeros_like(value)):
        first = subject.run(ids, lambda tape: tape.last)
        subject.run(ids[:1], lambda tape: tape.last)
    torch.testing.assert_close(first, clean, rtol=0.0, atol=0.0)
    assert [len(value) for value in seen] == [len(ids), 1]
    with pytest.raises(ModelError, match="nothing passed through mlp_out of block 2"):  # noqa: SIM117
        with observing(subject.site("mlp_out", 2), seen.append):
            pass


def test_an_edit_is_undone_after_an_error(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, ids: Tensor
) -> None:
    subject = small_subject("gpt2", any_backend)
    clean = subject.run(ids, lambda tape: tape.last)
    with pytest.raises(ZeroDivisionError), editing(subject.site("mlp_out", 0), torch.zeros_like):
        subject.run(ids, lambda tape: 1 // 0)
    torch.testing.assert_close(subject.run(ids, lambda tape: tape.last), clean, rtol=0.0, atol=0.0)


def test_an_edit_that_never_happens_is_an_error(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("gpt2", "bridge")
    with pytest.raises(ModelError, match="nothing passed through mlp_out of block 0"):  # noqa: SIM117
        with editing(subject.site("mlp_out", 0), torch.zeros_like):
            pass


def test_a_block_that_is_not_there_is_refused(small_subject: Callable[[str, str], interp.Subject]) -> None:
    with pytest.raises(InputError, match="layers run from 0 to 3"):
        small_subject("gpt2", "bridge").site("mlp_out", 4)
