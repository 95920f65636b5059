"""SmolLM2, fetched: a cut inside a token costs the usual way nats and the exact one nothing, as boundaries do both.

Bounds are of what the methods are for, far from the measured numbers: -0.3 nats exact and -6 naive inside tokens.
"""

from __future__ import annotations

import pytest
import torch

import interp
from interp.authoring import logits_after
from interp.model.prefixes import tree
from probes import byte_log_prob, next_byte, retokenisation, tokenization_bias

pytestmark = pytest.mark.filterwarnings(
    "ignore::interp.errors.WithoutTemplate", "ignore::interp.errors.EndsInsideToken"
)
TEXT = "The capital of France is Paris, and the weather there is wonderful in summer."
INSIDE, BOUNDARIES = [13, 18, 27, 43], [24, 35, 39]  # "The capital o", ..., "The capital of France is"


@pytest.fixture(scope="module")
def bias(smollm2):
    frame = tokenization_bias(smollm2, [TEXT], cuts=INSIDE + BOUNDARIES)
    assert frame.groupby("control")["cut"].unique().map(sorted).to_dict() == {"boundary": BOUNDARIES, "none": INSIDE}
    return frame.groupby(["control", "method"]).mean(numeric_only=True)


def test_inside_a_token_the_usual_way_is_wrong_by_nats_and_the_exact_one_is_not(bias):
    inside = bias.loc["none"]
    assert inside.loc["exact", "log_prob"] > -1 and inside.loc["naive", "log_prob"] < -3
    assert inside.loc["naive", "tv"] > 0.5 and inside.loc["exact", "share_canonical"] < 0.1
    assert inside.loc["healed", "log_prob"] > (inside.loc["exact", "log_prob"] + inside.loc["naive", "log_prob"]) / 2


def test_at_the_end_of_a_token_the_two_agree(bias):
    at_end = bias.loc["boundary"]
    assert abs(at_end.loc["exact", "log_prob"] - at_end.loc["naive", "log_prob"]) < 0.3
    assert at_end.loc["naive", "tv"] < 0.15 and at_end.loc["exact", "share_canonical"] > 0.85
    assert at_end.loc["exact", "lost"] < 0.01  # the model hardly writes what its tokenizer would not


def test_a_space_at_the_end_hides_paris_from_the_usual_way_alone(smollm2):
    frame = next_byte(smollm2, ["The capital of France is "])
    of_p = frame[frame["text"] == "P"].set_index("method")["prob"]
    assert of_p["exact"] > 0.5 and of_p["healed"] > 0.5 and of_p["naive"] < 0.05


def test_a_text_costs_the_same_in_bytes_unless_it_ends_inside_a_token(smollm2):
    frame = byte_log_prob(smollm2, [TEXT[:30], TEXT[:34]])  # "... is Paris", "... is Paris, an"
    bits = frame.groupby("prompt_id")[["bits", "bits_by_tokens"]].sum()
    too_many = bits["bits_by_tokens"] - bits["bits"]
    assert (too_many >= -1e-6).all()  # more ways to write a text; sums in float64, of logits in float32
    assert too_many[0] < 0.5 and too_many[1] > 4


def test_a_word_split_in_two_says_more_of_the_next_token_than_a_random_one(smollm2):
    frame = retokenisation(smollm2, [TEXT[:30], TEXT[36:]], schemes=("split_last",), n_variants=3, layers=0)
    kl = frame.groupby("control")["kl"].mean()
    assert kl["none"] < kl["random_token"]


@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_a_tree_of_contexts_gives_the_logits_of_each(smollm2, backend):
    subject = smollm2 if backend == "bridge" else interp.load("smollm2", backend=backend)
    words = [TEXT[:n] for n in (13, 16, 18, 24, 27, 43)]
    contexts = {tuple(ids.tolist()) for ids in subject.tokens(words).ids}
    assert tree._longest_in_tree(subject) == subject.n_ctx
    for some, logits in logits_after(subject, contexts, torch.clone):
        for context, row in zip(some, logits, strict=True):
            own = subject.next_token_logits(torch.tensor([context]), torch.tensor([len(context) - 1]), torch.clone)
            # float32 sums in another order, through 30 blocks: logits are of tens
            torch.testing.assert_close(row, own[0], atol=1e-3, rtol=1e-4)
