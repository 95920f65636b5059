"""What every planted model promises, noise or none: its truth is the model's own forward pass."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from interp.errors import InputError
from interp.planted import bias_ladder, bigram, copying, cue, two_step

MODELS = [bias_ladder, copying, bigram, cue, two_step]
IDS = torch.tensor([[3, 0, 0, 3, 7, 3], [11, 5, 4, 3, 2, 1]])

# float64 rounds at 2e-16; a logit here is at most 10 and the sum of a few terms.
FLOAT64 = {"atol": 1e-13, "rtol": 0}
# float32 rounds at 6e-8 relative.
FLOAT32 = {"atol": 5e-6, "rtol": 0}


@pytest.fixture(params=MODELS, ids=lambda build: build.__name__)
def build(request):
    return request.param


@pytest.mark.parametrize("noise_blocks", [0, 1, 3])
def test_truth_is_the_forward_pass_at_every_layer(build, noise_blocks, lens):
    planted = build(noise_blocks=noise_blocks, dtype=torch.float64)
    truth = planted.truth.lens(IDS)
    torch.testing.assert_close(lens(planted.model, IDS), truth, **FLOAT64)
    torch.testing.assert_close(planted.model(IDS).detach(), truth[-1], **FLOAT64)
    assert torch.equal(planted.truth.logits(IDS), truth[-1])
    assert len(truth) == planted.model.cfg.n_layers + 1


def test_float32_agrees(build, lens):
    planted = build(noise_blocks=2)
    assert next(planted.model.parameters()).dtype is torch.float32
    torch.testing.assert_close(lens(planted.model, IDS).double(), planted.truth.lens(IDS), **FLOAT32)


@pytest.mark.parametrize("noise_blocks", [0, 1])
def test_every_schedule_of_the_blocks(build, noise_blocks, run_schedule):
    """All subsets in all orders: the empty schedule, deletions, swaps, and everything between."""
    small = {"n_layers": 2} if build is bias_ladder else {}
    planted = build(noise_blocks=noise_blocks, dtype=torch.float64, **small)
    blocks = range(planted.model.cfg.n_layers)
    for size in range(len(blocks) + 1):
        for schedule in permutations(blocks, size):
            expected = planted.truth.logits(IDS, schedule)
            torch.testing.assert_close(
                run_schedule(planted.model, IDS, schedule), expected, **FLOAT64, msg=str(schedule)
            )


def test_noise_works_hard_for_nothing(build, run_schedule):
    clean, noisy = build(dtype=torch.float64), build(noise_blocks=3, dtype=torch.float64)
    # Not the same bits: a wider residual is summed in another order.
    torch.testing.assert_close(noisy.model(IDS), clean.model(IDS), **FLOAT64)
    noise = noisy.truth.layout.noise
    assert len(noise) == 3
    _, cache = noisy.model.run_with_cache(IDS)
    for i in noise:
        assert cache[f"blocks.{i}.attn.hook_out"].abs().max() > 0.1
        assert cache[f"blocks.{i}.mlp.hook_out"].abs().max() > 0.1
        uneven = cache[f"blocks.{i}.attn.hook_pattern"][:, :, -1]
        assert uneven.max() - uneven.min() > 0.01
    without = [i for i in range(noisy.model.cfg.n_layers) if i not in noise]
    torch.testing.assert_close(run_schedule(noisy.model, IDS, without), clean.model(IDS).detach(), **FLOAT64)


def test_seed_decides_the_noise_in_every_dtype(build):
    def weights(seed, dtype):
        model = build(noise_blocks=1, seed=seed, dtype=dtype).model
        return torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()])

    one = weights(1, torch.float64)
    assert torch.equal(one, weights(1, torch.float64))
    assert not torch.equal(one, weights(2, torch.float64))
    assert torch.equal(one.float().double(), weights(1, torch.float32))


def test_building_leaves_the_global_generator_alone(build):
    before = torch.get_rng_state()
    build(noise_blocks=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_model_is_ready_for_a_probe(build):
    planted = build()
    assert planted.model.tokenizer is planted.tokenizer
    assert len(planted.tokenizer) == planted.model.cfg.d_vocab == 12
    assert not planted.model.training
    assert planted.model.cfg.model_name == f"planted/{build.__name__}"
    ids = planted.tokenizer("w3 w0 w11")["input_ids"]
    assert ids == [3, 0, 11]
    assert planted.tokenizer.convert_ids_to_tokens(ids) == ["w3", "w0", "w11"]


def test_truth_takes_ids_without_a_batch(build):
    planted = build()
    assert torch.equal(planted.truth.lens(IDS[0]), planted.truth.lens(IDS)[:, 0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"noise_blocks": -1}, "noise_blocks is -1"),
        ({"n_ctx": 0}, "n_ctx is 0"),
    ],
)
def test_bad_sizes(build, kwargs, message):
    with pytest.raises(InputError, match=message):
        build(**kwargs)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [((0, 0), "names a block twice"), ((9,), "names block 9"), ((-1,), "names block -1")],
)
def test_bad_schedules(build, schedule, message):
    with pytest.raises(InputError, match=message):
        build().truth.logits(IDS, schedule)


@pytest.mark.parametrize("token", [-1, 12])
def test_ids_outside_the_vocabulary(build, token):
    with pytest.raises(InputError, match=f"token id {token} is outside"):
        build().truth.logits(torch.tensor([[token]]))
