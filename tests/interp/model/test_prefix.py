"""Continuations of a shared prefix give the logits of whole passes, with a cache and without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import interp
from interp.authoring import SharedPrefix
from interp.errors import InputError, TooLong
from interp.options import options
from interp.planted import bigram

PREFIX = torch.tensor([1, 5, 9, 11, 40, 7, 8, 30, 22])  # longer than the attention windows of the tests' models
# float32 sums in another order: widths of 32, logits of a few units
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def draw(rows: int, width: int) -> Tensor:
    return torch.randint(3, 61, (rows, width), generator=torch.Generator().manual_seed(2))


def whole(subject: interp.Subject, ids: Tensor) -> Tensor:
    return torch.stack([one[-1] for one in subject.logits(torch.cat([PREFIX.expand(len(ids), -1), ids], dim=1))])


def same(logits: Tensor) -> Tensor:
    return logits.clone()


def test_continuations_equal_whole_passes(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> None:
    """Several tokens after the prefix, then one, then several: windows, positions and masks go on."""
    subject = small_subject(any_architecture, any_backend)
    prefix, ids = SharedPrefix(subject, PREFIX), draw(5, 8)
    assert prefix.cached
    branch = prefix.branch(5)
    for start, stop in ((0, 4), (4, 5), (5, 8)):
        got = branch.next_token_logits(ids[:, start:stop], same)
        torch.testing.assert_close(got, whole(subject, ids[:, :stop]), **CLOSE)
    again = prefix.branch(2).next_token_logits(ids[3:, :4], same)  # the prefix is as it was
    torch.testing.assert_close(again, whole(subject, ids[3:, :4]), **CLOSE)


def test_the_prefix_is_read_once(small_subject: Callable[[str, str], interp.Subject], any_backend: str) -> None:
    subject = small_subject("llama", any_backend)
    prefix, widths, step = SharedPrefix(subject, PREFIX), [], subject.backend.step

    def counting(ids: Tensor, cache: object) -> object:
        widths.append(tuple(ids.shape))
        return step(ids, cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "step", counting)
        for _ in range(3):
            prefix.branch(4).next_token_logits(draw(4, 2), same)
    assert widths == [(4, 2)] * 3


def test_an_empty_prefix_is_none(small_subject: Callable[[str, str], interp.Subject], any_backend: str) -> None:
    subject, ids = small_subject("gpt2", any_backend), draw(3, 4)
    branch = SharedPrefix(subject, torch.empty(0, dtype=torch.int64)).branch(3)
    branch.next_token_logits(ids[:, :3], same)
    got = branch.next_token_logits(ids[:, 3:], same)
    torch.testing.assert_close(got, torch.stack([one[-1] for one in subject.logits(ids)]), **CLOSE)


def test_a_model_without_a_cache_reads_whole_texts() -> None:
    made = bigram(vocab=61)
    subject, ids = interp.load(made.model), draw(4, 3)
    prefix = SharedPrefix(subject, PREFIX)
    assert not prefix.cached
    branch = prefix.branch(4)
    branch.next_token_logits(ids[:, :1], same)
    got = branch.next_token_logits(ids[:, 1:], same).double()
    torch.testing.assert_close(got, made.truth.transition.log()[ids[:, -1]], **CLOSE)


@pytest.mark.parametrize("fault", ["wrong numbers", "an error", "one row"])
def test_a_cache_that_is_not_exact_is_not_used(small_subject, any_backend, fault) -> None:
    subject = small_subject("llama", any_backend)
    step = subject.backend.step

    def faulty(ids: Tensor, cache: object) -> object:
        logits, after = step(ids, cache)
        if fault == "an error" and cache is not None:
            raise RuntimeError("this cache does not grow")
        if fault == "one row":  # as a state that is not repeated: the first row's, for all
            return logits[:1].expand(len(logits), -1), after
        return (logits + 1.0 if cache is not None else logits), after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "step", faulty)
        prefix = SharedPrefix(subject, PREFIX)
        assert not prefix.cached
        got = prefix.branch(5).next_token_logits(draw(5, 3), same)
    torch.testing.assert_close(got, whole(subject, draw(5, 3)), **CLOSE)


def test_an_edited_model_reads_whole_texts(small_subject: Callable[[str, str], interp.Subject], any_backend: str):
    """An edit of position 3 alone would not be seen by a pass that starts at position 9."""
    subject, ids = small_subject("gpt2", any_backend), draw(2, 2)
    before = SharedPrefix(subject, PREFIX)

    def at_three(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, 3, 0] += 3.0  # one coordinate: norms take a shift of all away
        return value

    with subject.edited([(subject.site("mlp_out", 1), at_three)], {"kind": "test"}):
        want = whole(subject, ids)
        for prefix in (before, SharedPrefix(subject, PREFIX)):
            torch.testing.assert_close(prefix.branch(2).next_token_logits(ids, same), want, **CLOSE)
    assert (before.branch(2).next_token_logits(ids, same) - want).abs().max() > 0.01


def test_rows_fit_the_memory(small_subject: Callable[[str, str], interp.Subject]) -> None:
    prefix = SharedPrefix(small_subject("gpt2", "bridge"), PREFIX)
    plenty = prefix.rows(4)
    with options.local(memory=1 << 20):
        assert 1 <= prefix.rows(4) < plenty
    with options.local(memory=1):
        assert prefix.rows(4) == 1


def test_what_cannot_be_read_is_refused(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("gpt2", "bridge")
    prefix = SharedPrefix(subject, PREFIX)
    with pytest.raises(TooLong, match=r"fills the context of 64"):
        SharedPrefix(subject, torch.ones(64, dtype=torch.int64))
    with pytest.raises(InputError, match=r"give ids \[2, pos\], not \[3, 1\]"):
        prefix.branch(2).next_token_logits(torch.ones(3, 1, dtype=torch.int64), same)
    with pytest.raises(InputError, match="the vocabulary has 61"):
        prefix.branch(1).next_token_logits(torch.tensor([[61]]), same)
    with pytest.raises(TooLong, match="more than the context of 64"):
        prefix.branch(1).next_token_logits(torch.ones(1, 60, dtype=torch.int64), same)
