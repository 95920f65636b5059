"""Reading tiles of the vocabulary gives what reading whole logits gives, to the last rank."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import interp
from interp.errors import NumericalError
from interp.model import readout as module
from interp.model.head import Head
from interp.model.readout import Readout, read_out

WIDTH = 7  # of the tiles here: every stretch of vocabulary is ragged somewhere
# The same float32 products summed in stretches: a few roundings of sums of tens of nats.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def narrow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_WIDTH", WIDTH)
    monkeypatch.setattr(module, "_CPU_ROWS", 4)


def head_of(weight: Tensor, bias: Tensor | None = None, transform: Callable[[Tensor], Tensor] = lambda x: x) -> Head:
    return Head(
        lambda residual: transform(torch.nn.functional.linear(2 * residual, weight, bias)),
        weight,
        bias,
        lambda residual: 2 * residual,
        transform,
    )


def random_head(vocab: int = 60, d_model: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return head_of(
        torch.randn(vocab, d_model, generator=generator).to(dtype), torch.randn(vocab, generator=generator).to(dtype)
    )


def both(head: Head, states: list[Tensor], reference: int = -1, **wanted) -> tuple[Readout, Readout]:
    """Read in tiles, and whole by the same modules."""
    assert head.weight is not None
    arguments = {"d_vocab": len(head.weight), "memory": 1 << 24} | wanted
    return tuple(read_out(one, states, states[reference], **arguments) for one in (head, Head(head.whole)))


def assert_same(tiled: Readout, whole: Readout, **close) -> None:
    for name in ("rank", "target_ids", "reference_top1"):
        ours, theirs = getattr(tiled, name), getattr(whole, name)
        assert ours is theirs is None or torch.equal(ours, theirs), name
    if tiled.top_id.shape[-1] == 1:
        assert torch.equal(tiled.top_id, whole.top_id)
    for name in ("log_prob", "entropy", "kl", "top_log_prob"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), **(CLOSE | close))


def residuals(n: int, rows: int, d_model: int = 5, scale: float = 1.0) -> list[Tensor]:
    return list(scale * torch.randn(n, rows, d_model, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("k", [1, 3, 60])
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("reference", [0, -1])
def test_tiles_equal_whole_logits(k: int, scale: float, reference: int) -> None:
    targets = torch.randint(60, (11, 2), generator=torch.Generator().manual_seed(3))
    assert_same(*both(random_head(), residuals(3, 11, scale=scale), reference, k=k, targets=targets))


def test_argmax_targets() -> None:
    tiled, whole = both(random_head(), residuals(3, 11), targets="argmax")
    assert_same(tiled, whole)
    assert (tiled.rank[-1] == 0).all()


def test_tokens_with_the_same_column_tie() -> None:
    """All 60 logits of a row are equal: each token's rank is 0, though its tile comes before or after theirs.

    In whole numbers: otherwise a matrix product itself may round equal columns differently.
    """
    head = head_of(torch.tensor([[1.0, -2.0, 0.0, 3.0, 1.0]]).repeat(60, 1))
    targets = torch.arange(0, 60, 6)[None].expand(4, -1)
    tiled, whole = both(head, [state.round() for state in residuals(2, 4, scale=5.0)], targets=targets)
    assert_same(tiled, whole)
    assert not tiled.rank.any() and not tiled.top_id.any()


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_small_whole_numbers_tie_often(data: st.DataObject) -> None:
    """Products of small whole numbers are exact, so ranks are known however sums are ordered."""
    vocab, d_model = data.draw(st.integers(WIDTH + 1, 40)), data.draw(st.integers(1, 4))
    numbers = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    head = head_of(torch.randint(-2, 3, (vocab, d_model), generator=numbers).float())
    states = list(torch.randint(-2, 3, (2, 5, d_model), generator=numbers).float())
    targets = torch.randint(vocab, (5, 2), generator=numbers)
    tiled, whole = both(head, states, targets=targets)
    assert_same(tiled, whole)
    logits = torch.stack([head(state) for state in states])
    chosen = logits.gather(2, targets.expand(2, -1, -1))
    assert torch.equal(tiled.rank, (logits[:, :, None] > chosen[..., None]).sum(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Logits of 8 bits tie by the dozen."""
    states = [state.to(dtype) for state in residuals(3, 9)]
    targets = torch.randint(60, (9, 1), generator=torch.Generator().manual_seed(3))
    tiled, whole = both(random_head(dtype=dtype), states, targets=targets)
    # A product of other shape may round one logit of size ten to the next number of its type.
    steps = 16 * torch.finfo(dtype).eps
    for name in ("log_prob", "entropy", "kl"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), atol=steps, rtol=0.0)
    assert (tiled.rank - whole.rank).abs().max() <= 3  # those a rounding moved past the target


def test_soft_cap() -> None:
    head = random_head()
    capped = head_of(head.weight, head.bias, lambda logits: torch.tanh(logits / 3.0) * 3.0)
    targets = torch.randint(60, (11, 1), generator=torch.Generator().manual_seed(3))
    assert_same(*both(capped, residuals(3, 11), targets=targets))


@pytest.mark.parametrize("ruled_out", [range(WIDTH), range(20, 60), range(0, 60, 2)])
def test_impossible_tokens(ruled_out: range) -> None:
    """Whole tiles of probability zero, the first one too; some of the targets among them."""
    bias = torch.zeros(60)
    bias[list(ruled_out)] = -math.inf
    head = head_of(random_head().weight, bias)
    targets = torch.randint(60, (11, 2), generator=torch.Generator().manual_seed(3))
    assert_same(*both(head, residuals(3, 11), targets=targets))


def test_logits_far_from_zero() -> None:
    """A constant of -300 in all logits: exponentials taken as they are would all be zero."""
    head = random_head()
    low = head_of(head.weight, head.bias - 300.0)
    targets = torch.zeros(11, 1, dtype=torch.long)
    tiled, _ = both(low, residuals(3, 11), targets=targets)
    near_zero, _ = both(head, residuals(3, 11), targets=targets)
    # float32 steps are 3e-5 at 300.
    assert_same(tiled, near_zero, atol=2e-4)


def test_ranks_are_right_also_where_the_bounds_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = torch.randint(60, (11, 2), generator=torch.Generator().manual_seed(3))

    def wrong(self: Head, normed: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full(ids.shape, -0.5), torch.full(ids.shape, 0.5)

    monkeypatch.setattr(Head, "bounds", wrong)
    assert_same(*both(random_head(), residuals(3, 11), targets=targets))


@pytest.mark.parametrize("token", [0, 30, 59])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_refused_in_any_tile(bad: float, token: int) -> None:
    bias = torch.zeros(60)
    bias[token] = bad
    head = head_of(random_head().weight, bias)
    states = residuals(2, 5)
    with pytest.raises(NumericalError):
        read_out(head, states, states[1], d_vocab=60, memory=1 << 24, targets=torch.zeros(5, 1, dtype=torch.long))


def test_bounds_hold_and_are_narrow() -> None:
    head = random_head(vocab=500, d_model=64)
    normed = head.norm(torch.randn(40, 64, generator=torch.Generator().manual_seed(1)))
    ids = torch.randint(500, (40, 3), generator=torch.Generator().manual_seed(2))
    low, high = head.bounds(normed, ids)
    logits = head.tile(normed, 0, 500, torch.empty(40, 500)).gather(1, ids)
    assert ((low <= logits) & (logits <= high)).all()
    assert (high - low).max() < 1e-3  # of logits of size 16: a handful of tokens lie between at most


@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_every_architecture_reads_in_tiles(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, backend: str, ids: Tensor
) -> None:
    subject = small_subject(any_architecture, backend)
    memory = 1 << 24

    def program(tape: interp.Tape) -> tuple[Readout, Readout]:
        states = [tape.residual(layer).flatten(0, 1) for layer in (0, 2, 4)]
        assert tape.head.weight is not None
        whole = Head(tape.head.whole)
        return tuple(
            read_out(head, states, states[-1], d_vocab=subject.d_vocab, memory=memory, targets="argmax")
            for head in (tape.head, whole)
        )

    tiled, whole = subject.run(ids, program)
    for name in ("log_prob", "entropy", "kl"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), **CLOSE)
    assert torch.equal(tiled.rank, whole.rank)
