"""Residuals as sites: what enters a block, stands between its parts and leaves it, to read and to set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import interp
from interp.errors import ModelError
from interp.model.sites import Edit, editing, hooks, recording
from interp.model.sites.site import SiteName

# float32 sums of three terms of size ten, in another order than the model's.
EXACT = {"rtol": 0.0, "atol": 1e-5}
# A residual that is set is rounded once more, and the norm and the MLP after it magnify that some ten times.
NORMED = {"rtol": 0.0, "atol": 1e-4}
PARALLEL = {"gpt_neox", "phi", "gptj"}
LAST = 3  # of the four blocks of each model


@pytest.fixture
def subject(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> interp.Subject:
    return small_subject(any_architecture, any_backend)


def seen(subject: interp.Subject, ids: Tensor, *wanted: tuple[SiteName, int]) -> list[Tensor]:
    with recording([subject.site(*one) for one in wanted]) as found:
        subject.run(ids, lambda tape: tape.last)
    return [value for value in found if value is not None]


def left_by(subject: interp.Subject, ids: Tensor, edits: dict[tuple[SiteName, int], Edit]) -> Tensor:
    with subject.edited([(subject.site(*at), edit) for at, edit in edits.items()], {}):
        return subject.run(ids, lambda tape: tape.last)


def test_residuals_add_up(subject: interp.Subject, any_architecture: str, ids: Tensor) -> None:
    clean = subject.run(ids, lambda tape: [tape.residual(layer) for layer in range(tape.n_layers + 1)])
    for layer in range(subject.n_layers):
        names: list[SiteName] = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
        entered, attended, wrote, left = seen(subject, ids, *((name, layer) for name in names))
        assert torch.equal(entered, clean[layer]) and torch.equal(left, clean[layer + 1])
        torch.testing.assert_close(entered + attended + wrote, left, **EXACT)
        if any_architecture not in PARALLEL:
            (between,) = seen(subject, ids, ("resid_mid", layer))
            torch.testing.assert_close(between, entered + attended, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("layer", [1, LAST])
def test_a_residual_that_is_set_is_what_the_next_block_reads(subject: interp.Subject, ids: Tensor, layer: int) -> None:
    other = subject.run(ids.flip(1), lambda tape: tape.residual(layer + 1))
    expected = subject.run(ids, lambda tape: _run_on(tape, other, layer + 1))
    by_post = left_by(subject, ids, {("resid_post", layer): lambda value: other})
    torch.testing.assert_close(by_post, expected, rtol=0.0, atol=0.0)
    if layer < LAST:
        by_pre = left_by(subject, ids, {("resid_pre", layer + 1): lambda value: other})
        torch.testing.assert_close(by_pre, expected, rtol=0.0, atol=0.0)


def _run_on(tape: interp.Tape, residual: Tensor, layer: int) -> Tensor:
    for block in range(layer, tape.n_layers):
        residual = tape.run_block(block, residual)
    return residual


def test_the_residual_in_the_middle_is_all_that_the_mlp_reads(
    subject: interp.Subject, any_architecture: str, ids: Tensor
) -> None:
    if any_architecture in PARALLEL:
        with pytest.raises(ModelError, match=rf"block 1 of .*{subject.architecture}.* shows no resid_mid: its MLP"):
            subject.site("resid_mid", 1)
        return
    (other,) = seen(subject, ids.flip(1), ("resid_mid", 1))
    set_to_other = left_by(subject, ids, {("resid_mid", 1): lambda value: other})
    # A block whose attention adds nothing to the residual that it runs on is the same MLP on the same residual.
    without = left_by(subject, ids, {("resid_pre", 1): lambda value: other, ("attn_out", 1): torch.zeros_like})
    torch.testing.assert_close(set_to_other, without, **NORMED)
    clean = subject.run(ids, lambda tape: tape.last)
    assert not torch.allclose(set_to_other, clean, atol=1e-2)


def test_what_is_set_to_what_it_was_changes_no_bit(subject: interp.Subject, any_architecture: str, ids: Tensor) -> None:
    clean = subject.run(ids, lambda tape: tape.last)
    names: list[SiteName] = ["resid_pre", "resid_post", *(() if any_architecture in PARALLEL else ("resid_mid",))]
    for name in names:
        (own,) = seen(subject, ids, (name, 1))
        assert torch.equal(left_by(subject, ids, {(name, 1): lambda value, own=own: own.clone()}), clean)


@pytest.mark.parametrize("reversed_order", [False, True])
def test_edits_of_a_residual_and_of_the_next_one_meet_in_any_order(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, reversed_order: bool, ids: Tensor
) -> None:
    subject = small_subject("llama", any_backend)
    edits: dict[tuple[SiteName, int], Edit] = {
        ("resid_pre", 1): lambda value: value + 1.0,
        ("resid_mid", 1): lambda value: value * 2.0,
    }
    ordered = dict(reversed(edits.items())) if reversed_order else edits
    (attended,) = _attended(subject, ids)
    by_edits = left_by(subject, ids, ordered)
    entered = subject.run(ids, lambda tape: tape.residual(1))
    doubled = 2.0 * (entered + 1.0 + attended)
    torch.testing.assert_close(by_edits, left_by(subject, ids, {("resid_mid", 1): lambda value: doubled}), **NORMED)


def _attended(subject: interp.Subject, ids: Tensor) -> list[Tensor]:
    with subject.edited([(subject.site("resid_pre", 1), lambda value: value + 1.0)], {}):
        return seen(subject, ids, ("attn_out", 1))


def test_a_gradient_is_taken_for_a_residual_in_the_middle(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, ids: Tensor
) -> None:
    subject = small_subject("llama", any_backend)
    with recording([subject.site("resid_mid", LAST)]) as found:
        last = subject.run(ids, lambda tape: tape.last, graph=True)
    assert found[0] is not None
    direction = torch.randn(last.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((last * direction).sum(), found[0])
    step = 1e-2 * torch.randn(last.shape, generator=torch.Generator().manual_seed(1))
    up, down = (
        left_by(subject, ids, {("resid_mid", LAST): lambda value, by=sign * step: value + by}) for sign in (1, -1)
    )
    # A central difference errs by the square of the step, and float32 rounds sums of a thousand terms.
    measured = ((up - down) * direction).sum() / 2
    torch.testing.assert_close((gradient * step).sum(), measured, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["resid_pre", "resid_mid", "resid_post"])
def test_no_hook_is_left_after_an_error(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, name: SiteName, ids: Tensor
) -> None:
    subject = small_subject("gpt2", any_backend)
    clean, before = subject.run(ids, lambda tape: tape.last), _hooks(subject)
    with pytest.raises(ZeroDivisionError), editing(subject.site(name, 1), lambda value: value / (1 // 0)):
        subject.run(ids, lambda tape: tape.last)
    assert _hooks(subject) == before and not hooks._noting
    assert torch.equal(subject.run(ids, lambda tape: tape.last), clean)


def _hooks(subject: interp.Subject) -> int:
    modules = subject.backend.running.modules()
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)
