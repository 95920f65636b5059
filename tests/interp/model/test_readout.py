"""Read-out statistics against float64 arithmetic that shares no code with them, identities, and memory."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

import interp
from interp.errors import InputError, NumericalError
from interp.model.head import Head
from interp.model.readout import Readout, read_out
from interp.planted import bias_ladder

MEMORY = 1 << 26
# float32 carries 7.2 digits, and every statistic here is at most some tens of nats summed without cancellation beyond
# a digit: 1e-5 is what the workbench promises.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def identity(states: Tensor) -> Tensor:
    """A head that takes its states for logits."""
    return states


def read_logits(logits: Tensor, reference: int = -1, **wanted) -> Readout:
    """Read float32 logits [n, r, V] as they are; the reference is one of them."""
    states = list(logits)
    wanted = {"memory": MEMORY} | wanted
    return read_out(identity, states, states[reference], d_vocab=logits.shape[-1], **wanted)


def expected(logits: Tensor, reference: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The definitions, term by term: logits [n, r, V], reference [r, V], targets [r, t]."""
    log_q, log_p = logits.double().log_softmax(-1), reference.double().log_softmax(-1)
    terms = -log_q.exp() * log_q
    divergences = log_p.exp() * (log_p - log_q)
    at_targets = logits.gather(-1, targets.expand(len(logits), -1, -1))
    return {
        "log_prob": log_q.gather(-1, targets.expand(len(logits), -1, -1)),
        "rank": torch.stack([(logits > one[..., None]).sum(-1) for one in at_targets.unbind(-1)], dim=-1),
        "entropy": terms.masked_fill(log_q == -math.inf, 0.0).sum(-1),
        "kl": divergences.masked_fill(log_p == -math.inf, 0.0).sum(-1),
        "top1": logits.argmax(-1),
        "top1_log_prob": log_q.amax(-1),
    }


def assert_equal(readout: Readout, truth: dict[str, Tensor]) -> None:
    assert torch.equal(readout.rank, truth["rank"])
    if readout.top_id.shape[-1] == 1:  # among equals the first; of several top tokens, any order
        assert torch.equal(readout.top_id[..., 0], truth["top1"])
    for ours, name in (
        (readout.log_prob, "log_prob"),
        (readout.entropy, "entropy"),
        (readout.kl, "kl"),
        (readout.top_log_prob[..., 0], "top1_log_prob"),
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), truth[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def random_logits(n: int, rows: int, vocab: int, *, scale: float = 3.0, offset: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, rows, vocab, generator=generator) + offset


@pytest.mark.parametrize(
    ("n", "rows", "vocab", "t", "scale", "offset"),
    [
        (3, 7, 50, 1, 3.0, 0.0),
        (1, 1, 2, 2, 1.0, 0.0),
        (4, 5, 1000, 3, 10.0, 0.0),  # peaked: nearly all the mass on one token
        (3, 6, 5000, 1, 0.01, 0.0),  # flat: KL is a small difference of large terms
        (3, 7, 50, 1, 3.0, -100.0),  # logits as GPT-2's are, far below zero
        (3, 7, 50, 1, 3.0, 1000.0),
    ],
)
def test_equals_float64_definitions(n, rows, vocab, t, scale, offset):
    logits = random_logits(n, rows, vocab, scale=scale, offset=offset)
    targets = torch.randint(vocab, (rows, t), generator=torch.Generator().manual_seed(1))
    truth = expected(logits, logits[-1], targets)
    readout = read_logits(logits.clone(), targets=targets)
    assert_equal(readout, truth)
    assert torch.equal(readout.reference_top1, logits[-1].argmax(-1))
    assert torch.equal(readout.target_ids, targets)


def test_kl_runs_from_the_reference_to_the_state():
    p, q = torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])
    readout = read_logits(torch.stack([q, p]).log()[:, None])
    assert readout.kl[0, 0].item() == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), abs=1e-6)
    assert readout.kl[0, 0].item() != pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5), abs=0.1)


def test_rank_counts_strictly_larger_logits_before_any_rounding():
    # 1e-7 and 2e-7 differ, and both are 0 beside the maximum: float32 steps are 9.5e-7 at 10.
    logits = torch.tensor([[[10.0, 1e-7, 2e-7, 1e-7, -1.0]]])
    targets = torch.tensor([[0, 1, 2, 3, 4]])
    assert read_logits(logits, targets=targets).rank.tolist() == [[[0, 2, 1, 2, 4]]]


def test_top_k_and_argmax_targets():
    logits = random_logits(3, 8, 40)
    values, ids = logits.double().log_softmax(-1).topk(5)
    readout = read_logits(logits.clone(), targets="argmax", k=5)
    assert torch.equal(readout.top_id, ids)
    torch.testing.assert_close(readout.top_log_prob.double(), values, **CLOSE)
    assert torch.equal(readout.target_ids[:, 0], logits[-1].argmax(-1))
    assert (readout.rank[-1] == 0).all()
    agrees = readout.top_id[..., 0] == readout.reference_top1
    assert torch.equal(agrees, logits.argmax(-1) == logits[-1].argmax(-1))


def test_all_of_the_vocabulary_as_top_k():
    logits = random_logits(2, 3, 6)
    readout = read_logits(logits.clone(), k=6)
    assert torch.equal(readout.top_id, logits.argsort(-1, descending=True))
    torch.testing.assert_close(readout.top_log_prob.exp().sum(-1), torch.ones(2, 3), atol=1e-6, rtol=0)  # 6 terms of 1


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("kl", [True, False])
@pytest.mark.parametrize("reference", [0, 1])
def test_only_what_is_asked_for_is_returned(entropy, kl, reference):
    logits = random_logits(2, 4, 9)
    full = read_logits(logits.clone(), reference)
    part = read_logits(logits.clone(), reference, entropy=entropy, kl=kl)
    assert set(part.requested) == {name for wanted, name in ((entropy, "entropy"), (kl, "kl")) if wanted}
    for wanted, name in ((entropy, "entropy"), (kl, "kl")):
        if wanted:
            assert torch.equal(getattr(part, name), getattr(full, name))
        else:
            with pytest.raises(InputError, match=f"does not have '{name}'; read the states with {name}=True"):
                getattr(part, name)


@pytest.mark.parametrize("name", ["log_prob", "rank", "target_ids"])
def test_what_a_readout_without_targets_says_of_them(name):
    with pytest.raises(InputError, match=f"does not have '{name}'; read the states with targets="):
        getattr(read_logits(random_logits(2, 4, 9)), name)


def test_a_readout_travels():
    """A program's result is sent to where the probe is."""
    readout = read_logits(random_logits(2, 4, 9), targets="argmax")
    arrived = pickle.loads(pickle.dumps(readout))
    for name in ("top_id", "top_log_prob", "reference_top1", "target_ids", "log_prob", "rank", "entropy", "kl"):
        assert torch.equal(getattr(arrived, name), getattr(readout, name))


def test_a_reference_read_through_another_head():
    """As with `final_norm=False`: states through one head, what they are compared with through another."""
    logits = random_logits(2, 5, 12)
    targets = torch.arange(5)[:, None]
    readout = read_out(
        lambda states: 2 * states,
        list(logits),
        logits[1],
        reference_head=lambda states: states + torch.arange(12.0),
        d_vocab=12,
        memory=MEMORY,
        targets=targets,
    )
    truth = expected(2 * logits, logits[1] + torch.arange(12.0), targets)
    assert_equal(readout, truth)
    assert (readout.kl[1] > 0).all()  # the same state, not the same distribution
    assert torch.equal(readout.reference_top1, (logits[1] + torch.arange(12.0)).argmax(-1))


def test_states_are_not_written_over():
    logits = random_logits(3, 4, 10)
    before = logits.clone()
    read_logits(logits, targets="argmax", k=2)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_statistics_are_float32_whatever_the_head_gives(dtype):
    logits = random_logits(3, 6, 200).to(dtype)
    targets = torch.arange(6)[:, None]
    assert_equal(read_logits(logits, targets=targets), expected(logits, logits[-1], targets))


# -- identities ------------------------------------------------------------------------------------------------------

bounded = st.floats(-60, 60, width=32, allow_nan=False)


@st.composite
def any_logits(draw) -> Tensor:
    n, rows, vocab = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 12))
    values = draw(st.lists(bounded, min_size=n * rows * vocab, max_size=n * rows * vocab))
    return torch.tensor(values).reshape(n, rows, vocab)


@given(logits=any_logits(), data=st.data())
@settings(deadline=None, max_examples=50)
def test_identities(logits, data):
    n, rows, vocab = logits.shape
    target = data.draw(st.integers(0, vocab - 1))
    readout = read_logits(logits.clone(), targets=torch.full((rows, 1), target), k=vocab)
    # The sum of V probabilities is 1 within V roundings: entropy may pass log V by as much.
    assert (readout.entropy >= 0).all() and (readout.entropy <= math.log(vocab) + 1e-6 * vocab).all()
    assert (readout.kl >= 0).all()
    assert (readout.kl[-1] == 0).all()
    assert (readout.rank >= 0).all() and (readout.rank < vocab).all()
    assert (readout.log_prob <= 0).all() and (readout.top_log_prob <= 0).all()
    assert (readout.top_log_prob.diff(dim=-1) <= 0).all()
    assert torch.equal(readout.top_id.sort(-1).values, torch.arange(vocab).expand(n, rows, -1))
    of_argmax = read_logits(logits.clone(), targets="argmax")
    assert (of_argmax.rank[-1] == 0).all()
    assert torch.equal(of_argmax.log_prob[-1, :, 0], of_argmax.top_log_prob[-1, :, 0])
    assert_equal(readout, expected(logits, logits[-1], torch.full((rows, 1), target)))


@given(logits=any_logits(), shift=st.integers(-(2**12), 2**12))
@settings(deadline=None, max_examples=30)
def test_a_constant_added_to_all_logits_changes_nothing(logits, shift):
    # Rounded to 2**-10, so that the shifted logits are exact float32 and nothing but the constant differs.
    exact = (logits * 1024).round() / 1024
    targets = torch.zeros(logits.shape[1], 1, dtype=torch.long)
    before = read_logits(exact.clone(), targets=targets)
    after = read_logits(exact + shift, targets=targets)
    for name in ("log_prob", "rank", "entropy", "kl", "top_id", "top_log_prob"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name


@given(permutation=st.permutations(range(9)))
@settings(deadline=None, max_examples=20)
def test_names_of_tokens_do_not_matter(permutation):
    logits, order = random_logits(2, 3, 9), torch.tensor(permutation)
    before, after = read_logits(logits.clone(), targets="argmax"), read_logits(logits[..., order], targets="argmax")
    assert torch.equal(order[after.top_id], before.top_id) and torch.equal(after.rank, before.rank)
    # The same terms in another order: a few float32 roundings of at most log 9.
    torch.testing.assert_close(after.kl, before.kl, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("memory", [0, 1, 30_000, 60_000, 1 << 40])
def test_the_budget_does_not_change_a_number(memory):
    """Chunks of one row, of a few with a ragged last one, of all 11; each with its own reference."""
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 300)
    states = list(torch.randn(3, 11, 6, generator=torch.Generator().manual_seed(0)))
    targets = torch.randint(300, (11, 2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = torch.stack([head(state) for state in states])
    readout = read_out(head, states, states[1], d_vocab=300, memory=memory, targets=targets, k=4)
    truth = expected(logits, logits[1], targets)
    # A matrix product of fewer rows may round in another order: no two of these 300 logits are that close.
    assert torch.equal(readout.rank, truth["rank"])
    assert torch.equal(readout.top_id, logits.topk(4).indices)
    for name in ("log_prob", "entropy", "kl"):
        torch.testing.assert_close(getattr(readout, name).double(), truth[name], **CLOSE)


@pytest.mark.parametrize(("rows", "products"), [(1, 1), (3, 1), (100, 2), (300, 7)])
@pytest.mark.parametrize("bounds", ["right", "wrong"])
def test_states_of_few_rows_are_read_together(monkeypatch, rows, products, bounds):
    """Seven states beside the reference, in tiles of at most 512 rows, whose numbers are those of the definitions."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5000, 16, generator=generator, dtype=torch.float64).float() / 4
    head = Head(lambda states: states @ weight.T, weight)
    states = list(torch.randn(8, rows, 16, generator=generator))
    targets = torch.randint(5000, (rows, 2), generator=generator)
    if bounds == "wrong":  # then ranks are counted anew
        monkeypatch.setattr(Head, "bounds", lambda self, normed, ids: (torch.full(ids.shape, 99.0),) * 2)
    read, tile = [], Head.tile
    monkeypatch.setattr(
        Head, "tile", lambda self, normed, *at, out: (read.append(len(normed)), tile(self, normed, *at, out=out))[1]
    )
    readout = read_out(head, states, states[5], d_vocab=5000, memory=MEMORY, targets=targets, k=3)
    logits = torch.stack(states) @ weight.T
    n_tiles = 3 * (2 if bounds == "wrong" else 1)
    assert sum(read) == n_tiles * 8 * rows and len(read) == n_tiles * (1 + products)
    truth = expected(logits, logits[5], targets)
    # A matrix product of other shape may round in another order: of 5,000 logits a few are that close.
    assert (readout.rank - truth["rank"]).abs().max() <= 1 and torch.equal(readout.top_id[..., 0], truth["top1"])
    for name in ("log_prob", "entropy", "kl"):
        torch.testing.assert_close(getattr(readout, name).double(), truth[name], **CLOSE)
    assert not readout.kl[5].any() and torch.equal(readout.reference_top1, truth["top1"][5])


@pytest.mark.parametrize(("memory", "most"), [(1 << 20, 5), (1 << 30, 35)])
def test_states_with_many_targets_are_read_together_within_the_budget(monkeypatch, memory, most):
    """A row of the unembedding for each target, in float64: 5 rows of 500 targets take a megabyte a state."""
    weight = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    head, states = Head(lambda states: states @ weight.T, weight), list(torch.randn(8, 5, 16))
    read, bounds = [], Head.bounds
    monkeypatch.setattr(
        Head, "bounds", lambda self, normed, ids: (read.append(len(normed)), bounds(self, normed, ids))[1]
    )
    read_out(head, states, states[0], d_vocab=3000, memory=memory, targets=torch.arange(2500).view(5, 500))
    assert max(read) == most


# -- what cannot be read ---------------------------------------------------------------------------------------------


def test_tokens_of_probability_zero():
    """Entropy stays finite; KL is infinite where the model's output allows a token that the state rules out."""
    zero = -math.inf
    logits = torch.tensor([[[0.0, 1.0, zero, 2.0]], [[0.0, 1.0, 3.0, zero]], [[0.0, zero, zero, 1.0]], [[0.0] * 4]])
    targets = torch.tensor([[2, 0]])
    readout = read_logits(logits.clone(), 0, targets=targets)
    assert_equal(readout, expected(logits, logits[0], targets))
    assert torch.isfinite(readout.entropy).all()
    # The reference never says 2: state 1 rules out 3 and state 2 rules out 1, which it does say; state 3 nothing.
    assert readout.kl[:, 0].isinf().tolist() == [False, True, True, False]
    assert readout.log_prob[0, 0, 0] == zero and readout.rank[0, 0].tolist() == [3, 2]


def test_a_token_ruled_out_by_both_costs_nothing():
    zero = -math.inf
    logits = torch.tensor([[[0.0, 2.0, zero]], [[1.0, 0.0, zero]]])
    without = read_logits(logits[..., :2].clone())
    assert torch.equal(read_logits(logits.clone()).kl, without.kl)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("state", [0, 1])
@pytest.mark.parametrize("k", [1, 2])
def test_nan_and_infinity_are_refused(bad, state, k):
    logits = random_logits(2, 5, 8)
    logits[state, 3, 2] = bad
    with pytest.raises(NumericalError, match="NaN or infinity"):
        read_logits(logits, k=k, targets="argmax")


def test_a_row_without_any_possible_token_is_refused():
    logits = random_logits(2, 3, 4)
    logits[0, 1] = -math.inf
    with pytest.raises(NumericalError):
        read_logits(logits)


def test_nothing_to_read_is_refused():
    with pytest.raises(InputError, match="nothing to read"):
        read_out(identity, [], torch.zeros(1, 3), d_vocab=3, memory=MEMORY)
    with pytest.raises(InputError, match="nothing to read"):
        read_out(identity, [torch.zeros(0, 3)], torch.zeros(0, 3), d_vocab=3, memory=MEMORY)


# -- parity with TransformerLens' own kernel -------------------------------------------------------------------------


def gpt2() -> interp.Subject:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_positions=32, n_embd=24, n_layer=3, n_head=2)
    return interp.load(GPT2LMHeadModel(config).eval())


def gemma2() -> interp.Subject:
    """A soft cap after the unembedding, sharp enough to matter: without it the logits differ by several nats."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=97,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
        sliding_window=8,
        pad_token_id=0,
    )
    return interp.load(Gemma2ForCausalLM(config).eval())


def planted() -> interp.Subject:
    return interp.load(bias_ladder(vocab=20, noise_blocks=2).model)


@pytest.mark.parametrize("build", [gpt2, gemma2, planted])
@pytest.mark.parametrize("final_norm", [True, False])
def test_equals_transformer_lens(build: Callable[[], interp.Subject], final_norm: bool):
    from transformer_lens.tools.analysis.logit_lens import logit_readout

    subject = build()
    ids = torch.randint(subject.d_vocab, (2, 9), generator=torch.Generator().manual_seed(0))
    targets = torch.randint(subject.d_vocab, (18, 1), generator=torch.Generator().manual_seed(1))

    def program(tape: interp.Tape) -> tuple[list[Tensor], Readout]:
        states = [tape.residual(layer).flatten(0, 1) for layer in range(tape.n_layers + 1)]
        return states, subject.read_out(tape, states, states[-1], final_norm=final_norm, targets=targets)

    states, ours = subject.run(ids, program)
    bridge = subject.backend.bridge.eval()
    theirs = logit_readout(
        bridge, torch.stack(states), targets=targets[:, 0], return_type="log_probs", apply_ln=final_norm
    )
    top = logit_readout(bridge, torch.stack(states), top_k=1, return_type="log_probs", apply_ln=final_norm)
    assert torch.equal(ours.rank, theirs.target_ranks)
    # Top tokens may tie (a planted model's do): their probability is compared, not which of them comes first.
    torch.testing.assert_close(ours.top_log_prob, top.values, **CLOSE)
    torch.testing.assert_close(ours.log_prob, theirs.values, **CLOSE)
    torch.testing.assert_close(ours.entropy, theirs.entropy, **CLOSE)


# -- memory ----------------------------------------------------------------------------------------------------------


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that was allocated at once beyond what was there before, by torch's own allocator's account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    allocated = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(torch.tensor(allocated).cumsum(0).max())


def test_the_measure_of_memory_measures():
    assert 12_000_000 <= peak_bytes(lambda: torch.ones(1_000_000) + torch.ones(1_000_000)) < 12_100_000


def softcapped(head: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """As a bridge does it: the logits are still held by the caller while the cap makes two more of them."""

    def cap(logits: Tensor) -> Tensor:
        return torch.tanh(logits / 30.0) * 30.0

    return lambda states: cap(head(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wrap", [lambda head: head, softcapped], ids=["plain", "softcapped"])
def test_peak_memory_stays_within_the_budget(dtype, wrap):
    n, rows, vocab, memory = 3, 80, 20_000, 8_000_000
    head = wrap(torch.nn.Linear(8, vocab, dtype=dtype).requires_grad_(False))
    states = list(torch.randn(n, rows, 8, dtype=dtype))
    targets = torch.zeros(rows, 2, dtype=torch.long)
    peak = peak_bytes(lambda: read_out(head, states, states[-1], d_vocab=vocab, memory=memory, targets=targets, k=3))
    # The budget is for the chunks; the result, some hundred bytes per row, is there in parts and then as a whole.
    assert peak < memory + 2 * (200 * n * rows)
    assert peak > memory / 3  # most of a budget is used: a smaller chunk than it allows is slower for nothing


def test_extra_memory_is_a_tenth_of_all_logits_at_the_size_of_gpt2():
    """13 states of 8 x 64 tokens over 50,257, at the default budget; and more states or rows need no more."""
    vocab, budget = 50_257, interp.options.memory // 2
    head = torch.nn.Linear(4, vocab).requires_grad_(False)

    def peak(n: int, rows: int) -> int:
        states = list(torch.randn(n, rows, 4))
        targets = torch.zeros(rows, 1, dtype=torch.long)
        return peak_bytes(lambda: read_out(head, states, states[-1], d_vocab=vocab, memory=budget, targets=targets))

    one_chunk, two_chunks = peak(1, 128), peak(3, 200)
    assert two_chunks < min(budget, 0.1 * (4 * 13 * 512 * vocab))
    # What remains of a state are five numbers per row.
    assert two_chunks - one_chunk < 0.01 * one_chunk


@pytest.mark.parametrize("k", [1, 9])
def test_a_list_of_some_tokens_leaves_all_other_statistics_alone(k):
    """In tiles, some of which hold the largest logit but no token of the list."""
    generator = torch.Generator().manual_seed(0)
    weight = 3 * torch.randn(5000, 16, generator=generator)
    listed = torch.rand(5000, generator=generator) < 0.01
    listed[:2048] = False
    head = Head(lambda states: states @ weight.T, weight)
    states = list(torch.randn(2, 5, 16, generator=generator))
    wanted = {"d_vocab": 5000, "memory": MEMORY, "targets": torch.arange(5)[:, None]}
    whole = read_out(head, states, states[0], k=5000, **wanted)
    some = read_out(head, states, states[0], k=k, listed=listed, **wanted)
    assert torch.equal(whole.rank, some.rank)
    for name in ("log_prob", "entropy", "kl"):
        assert torch.equal(getattr(whole, name), getattr(some, name)), name
    for state in range(2):
        for row in range(5):
            ids = whole.top_id[state, row]
            assert some.top_id[state, row].tolist() == ids[listed[ids]][:k].tolist()
            kept = whole.top_log_prob[state, row][listed[ids]][:k]
            assert torch.equal(some.top_log_prob[state, row], kept)
