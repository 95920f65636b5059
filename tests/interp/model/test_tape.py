"""Record and replay: exact on every architecture, equal to a reordered model, nothing run twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interp.errors import InputError
from interp.model.head import Head
from interp.model.schedules import plan
from interp.model.tape import Call, Tape

# float32 rounds at 6e-8 relative; logits here are below 10 and pass four blocks, in which a bridge and transformers
# multiply matrices in different orders.
CLOSE = {"atol": 3e-5, "rtol": 1e-4}
# What an ablation of any block of these models changes in some logit, at least.
VISIBLE = 1e-2

SCHEDULES = {
    "deletion": (0, 2, 3),
    "first deleted": (1, 2, 3),
    "swap": (0, 2, 1, 3),
    "reversal": (3, 2, 1, 0),
    "repeat": (0, 1, 1, 2, 3),
    "much": (2, 0, 3, 3, 0),
    "nothing": (),
}


def from_layer_0(tape: Tape) -> Tensor:
    """Logits with every block run again: `Tape.replay` would not run a prefix in the model's own order."""
    residual = tape.residual(0)
    for index in range(tape.n_layers):
        residual = tape.run_block(index, residual)
        assert torch.equal(residual, tape.residual(index + 1))
    return tape.head(residual)


def reordered_logits(model, ids: Tensor, order: Sequence[int], *, masks_follow: bool = True) -> Tensor:
    """What transformers itself says when its blocks stand in another order, [batch, pos, vocab]; changes the model."""
    model.set_attn_implementation("eager")
    config = model.config
    n_layers = config.num_hidden_layers
    path, blocks = next(
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    )
    parent, name = model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]
    types = getattr(config, "layer_types", None)
    try:
        setattr(parent, name, nn.ModuleList([blocks[index] for index in order]))
        config.num_hidden_layers = len(order)
        if types is not None and masks_follow:  # newer models choose a block's mask by its place, from the config
            config.layer_types = [types[index] for index in order]
        with torch.no_grad():
            return model(ids, use_cache=False).logits
    finally:
        setattr(parent, name, blocks)
        config.num_hidden_layers, config.layer_types = n_layers, types


def test_a_full_replay_gives_the_models_own_logits_to_the_bit(small_subject, any_architecture, any_backend, ids):
    subject = small_subject(any_architecture, any_backend)
    own = subject.backend.logits(ids)
    assert torch.equal(subject.run(ids, from_layer_0), own)
    assert torch.equal(subject.run(ids, lambda tape: tape.head(tape.replay(range(tape.n_layers)))), own)
    assert own.std() > 0.1


def test_schedules_equal_a_reordered_model(small_model, small_subject, any_architecture, ids):
    model = small_model(any_architecture)
    expected = {name: reordered_logits(model, ids, order) for name, order in SCHEDULES.items()}
    for backend in ("bridge", "nnsight"):
        run = small_subject(any_architecture, backend).run
        logits = run(ids, lambda tape: {name: tape.head(tape.replay(order)) for name, order in SCHEDULES.items()})
        for name in SCHEDULES:
            torch.testing.assert_close(logits[name], expected[name], **CLOSE)


def test_every_schedule_differs_from_the_clean_pass(small_subject, any_architecture, ids):
    # Else the comparison above could pass with blocks that do nothing.
    subject = small_subject(any_architecture, "bridge")
    own = subject.backend.logits(ids)
    orders = list(SCHEDULES.values())
    for logits in subject.run(ids, lambda tape: [tape.head(residual) for residual in tape.replay_all(orders)]):
        assert (logits - own).abs().max() > VISIBLE


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text"])
def test_a_sliding_window_follows_its_block(small_model, small_subject, architecture, any_backend, ids):
    model, order = small_model(architecture), (1, 0, 2, 3)  # 0 has a window, 1 sees everything
    logits = small_subject(architecture, any_backend).run(ids, lambda tape: tape.head(tape.replay(order)))
    torch.testing.assert_close(logits, reordered_logits(model, ids, order), **CLOSE)
    assert (logits - reordered_logits(model, ids, order, masks_follow=False)).abs().max() > VISIBLE


def test_a_swap_of_the_recorded_masks_would_be_seen(small_subject, any_backend, ids):
    def with_each_others_arguments(tape: Tape) -> tuple[Tensor, Tensor]:
        first, second = (Call(tape.calls[i].args, tape.calls[1 - i].kwargs) for i in (0, 1))
        mixed = replace(tape, calls=[first, second, *tape.calls[2:]])
        return tape.head(tape.replay((1, 0, 2, 3))), tape.head(mixed.replay((1, 0, 2, 3)))

    right, wrong = small_subject("gemma2", any_backend).run(ids, with_each_others_arguments)
    assert (right - wrong).abs().max() > VISIBLE


@pytest.mark.parametrize("architecture", ["mistral", "gpt_neo"])
def test_windows_are_short_enough_to_matter(small_model, architecture, ids):
    wide = {"sliding_window": None} if architecture == "mistral" else {"window_size": 64}
    with torch.no_grad():
        narrow = small_model(architecture)(ids).logits
        difference = (small_model(architecture, **wide)(ids).logits - narrow).abs()
    assert difference[:, :6].max() < 1e-5  # nothing lies outside a window of 6 yet; kernels may round differently
    assert difference[:, 6:].max() > VISIBLE


def test_many_schedules_at_once_equal_one_by_one(small_subject, any_architecture, any_backend, ids):
    orders = [*permutations(range(4)), (0, 1, 3), (0, 1), (), (0, 1, 2, 3), (0, 1, 3), (0, 0)]

    def both(tape: Tape) -> tuple[list[Tensor], list[Tensor]]:
        return tape.replay_all(orders), [tape.replay(order) for order in orders]

    together, alone = small_subject(any_architecture, any_backend).run(ids, both)
    # The same blocks on larger batches: products of other shapes round differently.
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize(
    "orders",
    [
        [(0, 1, 2, 3)],
        [()],
        [(0, 1, 2, 3), (0, 1, 2, 3)],
        [(0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2)],
        [(0, 2, 1, 3), (0, 2, 3), (0, 2, 1), (0, 2, 1, 3)],
        list(permutations(range(4))),
        [(3, 3, 3), (3, 3), (3,), (3, 3, 0)],
        [(0, 1, 2, 3, 3)],
    ],
)
def test_the_count_of_block_runs_is_what_runs(orders):
    # Blocks that write their history into the residual: what ran can be counted, and shared prefixes cannot hide.
    calls: list[int] = []

    def block(index: int):
        def run(residual: Tensor) -> Tensor:
            calls.extend([index] * len(residual))  # a row for each variant that rides along
            return residual * 5 + index + 1

        return run

    tape = Tape(
        calls=[Call((torch.full((1, 1, 1), float(x)),), {}) for x in (0, 1, 7, 38)],  # 0, then *5 + 1, + 2, + 3
        last=torch.full((1, 1, 1), 194.0),
        mids=[],
        blocks=[block(index) for index in range(4)],
        head=Head(lambda residual: residual),
        raw_head=Head(lambda residual: residual),
    )
    for index, residual in enumerate(tape.replay_all(orders)):
        expected = 0
        for block_index in orders[index]:
            expected = expected * 5 + block_index + 1
        assert residual == expected
    assert len(calls) == plan(orders).n_block_runs
    # A prefix in the model's own order is on the tape, and each other prefix is run once.
    prefixes = {order[:n] for order in orders for n in range(1, len(order) + 1)}
    assert len(calls) == len(prefixes - {(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)})


def test_deleting_each_block_in_turn_costs_half_the_naive_work():
    orders = [tuple(i for i in range(12) if i != deleted) for deleted in range(12)]
    assert plan(orders).n_block_runs == sum(11 - deleted for deleted in range(12)) == 66


def test_block_runs_are_counted_on_a_real_model_too(small_subject, any_backend, ids):
    orders = [(0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 2, 1, 3)]

    def count(tape: Tape) -> int:
        runs: list[int] = []

        def counted(index: int):
            def run(*args, **kwargs):
                runs.extend([index] * (len(args[0] if args else kwargs["hidden_states"]) // len(ids)))
                return tape.blocks[index](*args, **kwargs)

            return run

        watched = replace(tape, blocks=[counted(index) for index in range(tape.n_layers)])
        assert len(list(watched.replay_all(orders))) == len(orders)
        return len(runs)

    assert small_subject("llama", any_backend).run(ids, count) == plan(orders).n_block_runs == 8


def test_a_replay_leaves_the_tape_as_it_was(small_subject, any_architecture, ids):
    def twice(tape: Tape) -> bool:
        before = [tape.residual(layer).clone() for layer in range(tape.n_layers + 1)]
        first = tape.replay((2, 0, 3, 1))
        again = tape.replay((2, 0, 3, 1))
        same = all(torch.equal(tape.residual(layer), before[layer]) for layer in range(tape.n_layers + 1))
        return torch.equal(first, again) and same

    assert small_subject(any_architecture, "bridge").run(ids, twice)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([(0, 4)], "block 4 is not in a model of 4 blocks"),
        ([(0, 1), (-1,)], "block -1 is not"),
        ([0, 1, 2], "0 is not a schedule"),
        ([(0, 1.0)], "is not a schedule"),
        (["01"], "is not a schedule"),
        ([{0, 1}], "is not a schedule"),
    ],
)
def test_bad_schedules_are_refused(small_subject, any_backend, ids, bad, says):
    with pytest.raises(InputError, match=says):
        small_subject("gpt2", any_backend).run(ids, lambda tape: tape.replay_all(bad))


def test_schedules_of_numpy_integers_are_taken(small_subject, ids):
    subject = small_subject("gpt2", "bridge")
    as_tuple = subject.run(ids, lambda tape: tape.replay((0, 2, 1, 3)))
    assert torch.equal(subject.run(ids, lambda tape: tape.replay(np.array([0, 2, 1, 3]))), as_tuple)


@pytest.mark.parametrize("layer", [-1, 5])
def test_a_layer_that_is_not_on_the_tape_is_refused(small_subject, ids, layer):
    with pytest.raises(InputError, match=f"layer {layer} is not on the tape"):
        small_subject("gpt2", "bridge").run(ids, lambda tape: tape.residual(layer))
