"""Contexts read as a tree give the logits of whole passes, and those that no tree gives are read whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import interp
from interp.authoring import logits_after, n_read_after
from interp.errors import InputError, TooLong
from interp.model.prefixes import tree
from interp.options import options
from interp.planted import bigram

CONTEXTS = [  # branches behind branches, a root of its own, a context within another, one twice
    *[(1, 5, 9), (1, 5, 9, 11, 40), (1, 5, 9, 12), (1, 5, 9, 12, 40, 41), (1, 6), (30, 5, 9, 11), (1, 6)],
    (1, 5, 9, 11, 40, 7, 8, 30, 22, 4),  # longer than the attention windows of the tests' models
]
# float32 sums in another order: widths of 32, logits of a few units
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def read(subject: interp.Subject, contexts: Sequence[tuple[int, ...]] = CONTEXTS) -> dict[tuple[int, ...], Tensor]:
    found: dict[tuple[int, ...], Tensor] = {}
    for some, logits in logits_after(subject, contexts, torch.clone):
        assert len(logits) == len(some) and not found.keys() & set(some)
        found |= zip(some, logits, strict=True)
    return found


def check(subject: interp.Subject, contexts: Sequence[tuple[int, ...]] = CONTEXTS) -> None:
    found = read(subject, contexts)
    assert found.keys() == set(contexts)
    for context, logits in found.items():
        want = subject.next_token_logits(torch.tensor([context]), torch.tensor([len(context) - 1]), torch.clone)[0]
        torch.testing.assert_close(logits, want, **CLOSE)


def test_contexts_equal_whole_passes(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> None:
    check(small_subject(any_architecture, any_backend))


@pytest.mark.parametrize("architecture", ["gpt_neo", "mistral"])
def test_trees_stay_within_windows_that_a_trial_cannot_see(small_model, word_level, architecture: str) -> None:
    """GPT-Neo narrows any mask to its window by the tokens' order in the pass, which a short tree does not show."""
    window = {"mistral": {"sliding_window": 16}, "gpt_neo": {"window_size": 16}}[architecture]
    subject = interp.load(small_model(architecture, **window), tokenizer=word_level)
    assert tree._longest_in_tree(subject) == 16
    check(subject, [(1, *range(3, 3 + n), last) for n in range(2, 24) for last in (40, 41)])


def test_a_tree_is_read_in_parts_that_fit(small_subject, any_backend, monkeypatch) -> None:
    subject = small_subject("llama", any_backend)
    contexts = [(1, *range(3, 3 + n), last) for n in range(20) for last in (40, 41)]
    monkeypatch.setattr(tree, "_AT_ONCE", 8)
    check(subject, contexts)
    sizes, read_tree = [], subject.backend.tree_logits

    def counting(ids: Tensor, above: Tensor, at: Tensor) -> Tensor:
        sizes.append((len(ids), len(at)))
        return read_tree(ids, above, at)

    monkeypatch.setattr(subject.backend, "tree_logits", counting)
    with options.local(memory=1 << 14):  # the logits of a few contexts
        read(subject, contexts)
        assert n_read_after(subject, contexts) == sum(n for n, _ in sizes)
    assert len(sizes) > 10 and max(n for n, _ in sizes) <= 42 and sum(n for _, n in sizes) == 40


def test_what_contexts_share_is_read_once(small_subject, any_backend, monkeypatch) -> None:
    subject, sizes = small_subject("gpt2", any_backend), []
    read(subject)  # tries the model
    read_tree = subject.backend.tree_logits
    monkeypatch.setattr(
        subject.backend, "tree_logits", lambda ids, above, at: (sizes.append(len(ids)), read_tree(ids, above, at))[1]
    )
    read(subject)
    assert sizes == [len({one[: n + 1] for one in CONTEXTS for n in range(len(one))})]
    assert sizes == [n_read_after(subject, CONTEXTS)]


def test_a_model_that_takes_no_tree_reads_whole_contexts() -> None:
    made = bigram(vocab=61)
    subject = interp.load(made.model)
    assert not tree._longest_in_tree(subject)
    assert n_read_after(subject, CONTEXTS) == sum(map(len, set(CONTEXTS)))
    for context, logits in read(subject).items():
        torch.testing.assert_close(logits.double(), made.truth.transition.log()[context[-1]], **CLOSE)


@pytest.mark.parametrize("fault", ["takes no mask", "an error", "positions of one text", "modified"])
def test_a_tree_that_is_not_exact_is_not_used(small_model, any_backend, fault: str) -> None:
    subject = interp.load(small_model("llama"), backend=any_backend)
    read_tree = subject.backend.tree_logits

    def faulty(ids: Tensor, above: Tensor, at: Tensor) -> Tensor | None:
        if fault == "an error":
            raise TypeError("forward() got an unexpected keyword argument 'position_ids'")
        if fault == "takes no mask":
            return read_tree(ids, torch.ones_like(above).tril(), at)
        if fault == "positions of one text":  # close, and yet wrong
            right, wrong = (read_tree(ids, mask, at) for mask in (above, torch.ones_like(above).tril()))
            return right + 0.2 * (wrong - right)
        return None  # as of a bridge with hooks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "tree_logits", faulty)
        assert not tree._longest_in_tree(subject)
        check(subject)


def test_a_bridge_that_its_user_hooks_reads_whole_contexts(small_model) -> None:
    subject = interp.load(small_model("gpt2"), backend="bridge")
    assert tree._longest_in_tree(subject)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "tree_logits", lambda ids, above, at: None)
        check(subject)


def test_an_edited_model_reads_whole_contexts(small_subject, any_backend) -> None:
    """An edit of position 3 alone would change another context's token."""
    subject = small_subject("gpt2", any_backend)

    def at_three(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, 3:4, 0] += 3.0  # one coordinate: norms take a shift of all away
        return value

    before = read(subject)
    with subject.edited([(subject.site("mlp_out", 1), at_three)], {"kind": "test"}):
        check(subject)
        assert (read(subject)[CONTEXTS[1]] - before[CONTEXTS[1]]).abs().max() > 0.01


def test_what_cannot_be_read_is_refused(small_subject) -> None:
    subject = small_subject("gpt2", "bridge")
    assert not read(subject, [])
    with pytest.raises(InputError, match=r"contexts hold \(\): give tuples"):
        logits_after(subject, [(1,), ()], torch.clone)
    with pytest.raises(TooLong, match="more than the context of 64"):
        logits_after(subject, [(1,) * 65], torch.clone)
    with pytest.raises(InputError, match="the vocabulary has 61"):
        logits_after(subject, [(1, 61)], torch.clone)
