"""Our claims on models whose answer is known, and on frames written by hand: each must hold where it is true."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp import planted
from interp.findings import findings, get, judge
from interp.findings.per_prompt import mean_of, middle, rank_correlation
from probes.attention import claims as attention
from probes.attribution import claims as attribution
from probes.geometry import claims as lens_family
from probes.lens import claims as lens
from probes.neurons import claims as steering
from probes.subnetworks import claims as bigrams
from probes.uncertainty import claims as uncertainty
from probes.vocab._words import alphabet, kinds_of_tokens

TEXTS = [" ".join(f"w{(start * 5 + step * 7) % 12}" for step in range(9)) for start in range(1, 12)]


def state_of(model, id: str, texts=TEXTS, **changes) -> str:
    claim = get(id)
    own = texts if claim.texts is not None else None
    frame = findings(model, replace(claim, texts=own, n_texts=None, **changes), n_resamples=499)
    assert frame["state"].iat[0] != "skipped", frame["reason"].iat[0]
    return frame["state"].iat[0]


# Blocks --------------------------------------------------------------------------------------------------------------


def test_a_ladder_can_lose_or_swap_any_rung():
    """Eight rungs of 0.75: without one the target still leads by more than 1, and rungs commute."""
    ladder = interp.load(planted.bias_ladder(n_layers=8, a=6.0).model)
    assert state_of(ladder, "robustness.delete") == "holds"
    assert state_of(ladder, "robustness.swap") == "holds"
    # All rungs are alike: none is worse to lose, so that nothing is shown either way.
    assert state_of(ladder, "robustness.first_block") == "undecided"


def test_a_chain_of_steps_can_not():
    """Blocks 0 and 2 of five carry the two steps: 2 is a middle block, and nothing is predicted right without it."""
    model = planted.two_step(noise_blocks=3)
    assert model.truth.layout.planted == (0, 3) and model.truth.layout.n_layers == 5
    chain = interp.load(model.model)
    frame = findings(chain, replace(get("robustness.delete"), texts=TEXTS), n_resamples=499)
    # Middle blocks are 2 and 3 of 0..4; deleting 2 (noise) changes nothing, deleting 3 everything: half is kept.
    assert frame["effect"].iat[0] == pytest.approx(0.5) and frame["state"].iat[0] == "fails"
    assert state_of(chain, "robustness.last_block") == "fails"  # the last block is noise, a middle one is not


def test_few_blocks_have_no_middle():
    claims = [replace(get(id), texts=TEXTS) for id in ("robustness.delete", "lens.approach", "lens.late_agreement")]
    frame = findings(interp.load(planted.two_step().model), claims)
    assert frame["state"].eq("skipped").all() and frame["reason"].str.contains("the model has 2 blocks").all()
    assert list(middle(pd.DataFrame({"layer": range(8)}))) == [2, 3, 4, 5, 6]


def test_a_model_that_cannot_read_the_texts_is_skipped():
    frame = findings(interp.load(planted.bias_ladder().model), ["robustness.delete", "characters.spelling"])
    assert frame["state"].tolist() == ["skipped", "skipped"]
    assert all(frame["reason"].str.len() > 20)


# Lenses --------------------------------------------------------------------------------------------------------------


def test_a_ladder_approaches_its_output():
    ladder = interp.load(planted.bias_ladder(n_layers=8, a=6.0).model)
    # Every prompt's correlation is -1. That eleven agree leaves one in four open, and 154 one in forty.
    assert state_of(ladder, "lens.approach") == "undecided"
    assert state_of(ladder, "lens.approach", TEXTS * 14) == "holds"
    assert state_of(ladder, "lens.late_agreement") == "holds"
    assert state_of(ladder, "stages.entropy_falls") == "holds"


def test_a_low_ladder_decides_at_its_last_rung():
    """1.1 in all: at three quarters the target has 0.825, less than the current token's 1."""
    low = interp.load(planted.bias_ladder(n_layers=8, a=1.1).model)
    assert state_of(low, "lens.late_agreement") == "fails"


def trajectories(n: int = 40) -> pd.DataFrame:
    """Wrong answers of output loss 2, right ones of 1, a few exchanged; the middle layer knows nothing."""
    random = np.random.default_rng(0)
    rows = []
    for prompt in range(n):
        correct = prompt % 2 == 0
        loss = (1.0 if correct else 2.0) + 0.3 * random.normal()
        for layer, value in enumerate((3.0 + random.normal(), 3.0 + random.normal(), loss)):
            rows.append((prompt, layer, correct, value))
    frame = pd.DataFrame(rows, columns=["prompt_id", "layer", "correct", "loss_generated"])
    return frame.assign(model="m", run_id="r", entropy=1.0, margin=1.0, kl_to_final=0.0, agrees_final=True)


def test_confidence_that_tells_right_from_wrong_holds_and_a_trajectory_of_noise_fails():
    frame = trajectories()
    assert judge(uncertainty.confidence(frame), at_least=0.9).state == "holds"
    values, control = uncertainty.trajectory(frame)
    assert judge(values, control=control, above="control").state == "fails"
    with pytest.raises(interp.InterpError, match="an AUC needs six or more of either kind"):
        uncertainty.confidence(frame[frame["correct"] | (frame["prompt_id"] < 8)])


def test_the_tuned_lens_is_compared_layer_by_layer():
    rows = [
        (prompt, 1, layer, kind, kl)
        for prompt in range(8)
        for kind, kls in (("logit", (9.0, 4.0, 2.0, 1.0, 0.0)), ("tuned", (3.0, 1.0, 0.5, 0.2, 0.0)))
        for layer, kl in enumerate(kls)
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "pos", "layer", "lens", "kl_to_final"])
    nearer, beside = lens.tuned_is_nearer(frame)
    assert nearer.tolist() == pytest.approx([1.7 / 3] * 8) and beside.tolist() == pytest.approx([7 / 3] * 8)
    early, embedding = lens.tuned_reads_layers(frame)
    assert early.tolist() == [0.75] * 8 and embedding.tolist() == [3.0] * 8


# The law and the microscope ------------------------------------------------------------------------------------------


def law_frame(slope: float, shuffled: float, bend: float = 0.0, noise: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (part, layer, control, of * layer + bend * (layer % 2) + noise * random.normal())
        for part in range(12)
        for control, of in (("none", slope), ("shuffled_vocabulary", shuffled))
        for layer in range(9)
    ]
    frame = pd.DataFrame(rows, columns=["part", "layer", "control", "log10_residual"])
    return frame.assign(response="next", sample="in_sample")


def test_the_law_holds_of_a_line_and_fails_of_a_zigzag():
    values, control = lens_family.straightness(law_frame(-0.05, -0.01))
    assert values.tolist() == pytest.approx([-1.0] * 12) == control.tolist()
    line, zigzag = (law_frame(-0.05, -0.01, bend=bend, noise=0.003) for bend in (0.0, 0.5))
    assert judge(lens_family.straightness(line)[0], at_most=-0.95).state == "holds"
    assert judge(lens_family.straightness(zigzag)[0], at_most=-0.95).state == "fails"
    slopes, renamed = lens_family.steepness(law_frame(-0.05, -0.01))
    assert slopes.tolist() == pytest.approx([-0.05] * 12) and renamed.tolist() == pytest.approx([-0.01] * 12)


def test_linearity_is_what_the_map_explains_of_a_prompt():
    frame = pd.DataFrame(
        {"prompt_id": 0, "pos": [0, 1, 2], "layer": 0, "nonlinearity": [9.0, 1.0, 2.0], "size": [9.0, 5.0, 5.0]}
    )
    linear, carried = lens_family.linearity(frame.assign(update=[9.0, 3.0, 4.0]))
    assert linear.tolist() == [1 - (1 + 4) / (25 + 25)] and carried.tolist() == [1 - (9 + 16) / (25 + 25)]


# Neurons -------------------------------------------------------------------------------------------------------------


def test_neurons_that_write_one_token_are_prediction_neurons(small_model, word_level):
    """Value vectors that are tokens' own unembedding directions, orthogonal: one large cosine in 61."""
    random = small_model("gpt2", n_embd=64)
    sharp = copy.deepcopy(random)
    with torch.no_grad():
        directions = torch.linalg.qr(torch.randn(64, 61, generator=torch.Generator().manual_seed(0)))[0].T
        sharp.transformer.wte.weight.copy_(3 * directions)
        for block in sharp.transformer.h:
            block.mlp.c_proj.weight.copy_(directions[torch.arange(256) % 61])
        sharp.transformer.ln_f.weight.fill_(1.0)
    for model, expected in ((random, "fails"), (sharp, "holds")):
        assert state_of(interp.load(model, tokenizer=word_level), "neurons.prediction") == expected


def test_random_value_vectors_are_not_readable(small_model, word_level):
    random = interp.load(small_model("gpt2"), tokenizer=word_level)
    assert state_of(random, "neurons.readable") in ("undecided", "fails")


def test_heads_and_neurons_are_compared_in_pairs():
    heads = pd.DataFrame({"layer": [0, 1, 2, 3], "head": 0, "within": [0.5, 0.1, 0.0, 0.0], "across": [0.1, 0.2, 0, 0]})
    within, across = attention.early_heads(heads)
    assert within.tolist() == [0.5] and across.tolist() == [0.1]  # the first quarter of four blocks
    tops = pd.DataFrame({"layer": [0, 0, 1, 1], "neuron": [0, 1, 0, 1], "k": 0, "zscore": [1.0, 2.0, 5.0, 7.0]})
    later, earlier = steering.later_reads_better(tops.assign(control="none"))
    assert later.tolist() == [5.0, 7.0] and earlier.tolist() == [1.0, 2.0]


def test_a_dose_must_raise_more_than_the_one_before_and_than_none():
    """Three prompts: rising; falling back at the largest dose; below the unsteered model at the smallest."""
    raised = {0: (0.1, 0.5, 0.9), 1: (0.1, 0.5, 0.4), 2: (-0.1, 0.5, 0.9)}
    rows = [
        (prompt, control, alpha, change if control == "none" else -alpha)
        for prompt, changes in raised.items()
        for alpha, change in zip((4.0, 1.0, 2.0), (changes[2], changes[0], changes[1]), strict=True)
        for control in ("none", "random")
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "control", "alpha", "delta_log_prob"])
    assert steering.dose_response(frame).to_dict() == {0: 1.0, 1: 0.0, 2: 0.0}


# Letters -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lettered() -> interp.Subject:
    """The shipped model with embeddings that are the sum of their letters' directions, and a little noise."""
    reference = interp.load("reference")
    _, words = kinds_of_tokens(reference, alphabet("ascii").word)
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(256, 256, generator=generator))[0][:26]
    has = torch.tensor([[float(letter in word.lower()) for letter in "abcdefghijklmnopqrstuvwxyz"] for word in words])
    return _with_embedding(reference, has @ directions + 0.01 * torch.randn(len(words), 256, generator=generator))


@pytest.fixture(scope="module")
def unlettered() -> interp.Subject:
    reference = interp.load("reference")
    return _with_embedding(reference, torch.randn(reference.d_vocab, 256, generator=torch.Generator().manual_seed(1)))


def _with_embedding(reference: interp.Subject, embedding: torch.Tensor) -> interp.Subject:
    from transformers import AutoModelForCausalLM

    from interp.data.shipped import shipped_path

    model = AutoModelForCausalLM.from_pretrained(shipped_path("reference"))
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(embedding)
    return interp.load(model, tokenizer=reference.tokenizer)


@pytest.mark.parametrize("id", ["characters.above_random", "characters.level", "characters.beyond_length"])
def test_letters_that_are_there_are_found_and_others_not(lettered, unlettered, id):
    parameters = get(id).parameters | {"probe": "ridge"}  # linear and closed form: seconds, not minutes
    assert state_of(lettered, id, parameters=parameters) == "holds"
    assert state_of(unlettered, id, parameters=parameters) != "holds"


# Attribution ---------------------------------------------------------------------------------------------------------


def test_normxlogit_finds_causes_where_its_own_stream_is_what_is_copied():
    """Uniform attention: a token that equals the target is the cause, and its own logit says so."""
    random = np.random.default_rng(0)
    texts = []
    for _ in range(24):  # one word five times among five others, and last, so that the argmax is clear
        words = random.permutation(12)
        texts.append(" ".join(f"w{word}" for word in [*random.permutation([*[words[0]] * 4, *words[1:6]]), words[0]]))
    copying = interp.load(planted.copying().model)
    assert state_of(copying, "normxlogit.finds_causes", texts) == "holds"


def test_normxlogit_finds_no_cause_where_only_the_last_token_matters():
    """No attention: removing an earlier token changes nothing, so that there is no order to agree with."""
    frame = findings(interp.load(planted.bigram().model), replace(get("normxlogit.finds_causes"), texts=TEXTS))
    assert frame["state"].iat[0] == "undecided" and frame["n"].iat[0] == 0
    assert frame["n_skipped"].iat[0] == len(TEXTS)


def test_metrics_are_taken_of_the_method_itself():
    rows = [
        (prompt, method, "comprehensiveness", control, value, value / 2)
        for prompt in range(3)
        for method, control, value in (("reagent", "none", 0.4), ("reagent", "permuted", 9.0), ("logit", "none", 0.2))
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "method", "metric", "control", "value", "value_random"])
    values, shuffled = attribution.against_shuffles(frame, "reagent", "comprehensiveness")
    assert values.tolist() == [0.4] * 3 and shuffled.tolist() == [0.2] * 3
    values, other = attribution.against_method(frame, "reagent", "logit", "comprehensiveness")
    assert values.tolist() == [0.4] * 3 and other.tolist() == [0.2] * 3


# Bigrams -------------------------------------------------------------------------------------------------------------


def surprisal_frame(n_prompts: int = 12) -> pd.DataFrame:
    """Bigram surprisals; the subnetwork adds a little noise, the unigram model a lot, and position 0 would spoil both.

    The intact model has 3 bits everywhere; without the subnetwork 7 (a little more by prompt), without random weights
    4, in shuffled rows 8.
    """
    random = np.random.default_rng(0)
    rows = []
    for prompt in range(n_prompts):
        for pos in range(40):
            bigram = random.gamma(2.0, 2.0)
            said = {
                ("only", "none"): bigram + 0.3 * random.normal(),
                ("only", "unigram"): bigram + 4.0 * random.normal(),
                ("only", "linear_map"): bigram + 0.3 * random.normal(),
                ("full", "none"): 3.0,
                ("minus", "none"): 7.0 + 0.25 * prompt / n_prompts,
                ("minus", "random"): 4.0,
                ("minus", "random_structured"): 8.0,
            }
            rows += [(prompt, pos, *key, 99.0 * prompt if pos == 0 else x, bigram) for key, x in said.items()]
    return pd.DataFrame(rows, columns=["prompt_id", "pos", "condition", "control", "surprisal", "bigram_surprisal"])


def bigram_state(frame: pd.DataFrame, id: str) -> str:
    claim = get(f"bigrams.{id}")
    values, control = claim.statistic(frame)
    return judge(
        values, control=control, **{claim.comparison.kind: getattr(claim.comparison, claim.comparison.kind)}
    ).state


def test_a_subnetwork_is_held_against_what_says_as_much_without_it():
    frame = surprisal_frame()
    states = {id: bigram_state(frame, id) for id in ("correlates", "beyond_unigrams", "needed", "needed_by_row")}
    assert states == {"correlates": "holds", "beyond_unigrams": "holds", "needed": "holds", "needed_by_row": "fails"}
    # A linear map with the same noise is as good: nothing is shown.
    assert bigram_state(frame, "beyond_linear_map") == "undecided"
    untrained = frame[frame["control"] == "linear_map"].assign(control=bigrams.UNTRAINED)
    assert bigram_state(pd.concat([frame, untrained]), "beyond_untrained") == "undecided"


def test_the_correlation_is_over_all_tokens_and_unseen_pairs_are_the_most_surprising():
    frame = surprisal_frame()
    unseen = frame["bigram_surprisal"] > 14
    assert unseen.any()
    own, _ = bigrams.follows_bigrams(
        frame.assign(bigram_surprisal=frame["bigram_surprisal"].mask(unseen, np.inf)), "unigram"
    )
    kept = frame.query("condition == 'only' and control == 'none' and pos > 0")
    known = kept["bigram_surprisal"].where(kept["bigram_surprisal"] <= 14)
    whole = np.corrcoef(kept["surprisal"], known.fillna(known.max()))[0, 1]
    # The jackknife's mean is the whole's correlation up to its bias, of order (1 - r^2) / tokens.
    assert own.mean() == pytest.approx(whole, abs=2e-3) and len(own) == 12


def test_what_is_lost_is_counted_from_the_intact_model():
    own, other = bigrams.lost_without(surprisal_frame(3), "random")
    assert own.tolist() == pytest.approx([4.0, 4.0 + 0.25 / 3, 4.0 + 0.5 / 3]) and other.tolist() == [1.0] * 3


def test_the_shipped_subnetwork_is_of_one_model():
    frame = findings(interp.load(planted.bigram().model), "bigrams.*")
    assert frame["state"].eq("skipped").all() and frame["reason"].str.contains("it is of another model").all()


# What they share -----------------------------------------------------------------------------------------------------


def test_position_0_is_left_out_and_every_prompt_counts_once():
    rows = pd.DataFrame({"prompt_id": [0, 0, 0, 1, 1], "pos": [0, 1, 2, 0, 1], "x": [9, 1, 3, 9, 5]})
    assert mean_of(rows, "x").to_dict() == {0: 2.0, 1: 5.0}


def test_a_constant_has_no_rank_correlation():
    rows = pd.DataFrame({"prompt_id": [0] * 3 + [1] * 3, "x": [1, 2, 3] * 2, "y": [5, 6, 9, 1, 1, 1]})
    found = rank_correlation(rows, "x", "y")
    assert found[0] == pytest.approx(1.0) and np.isnan(found[1])


MEASURED = {
    "characters.above_random": "holds", "characters.level": "fails", "iterative.trajectory": "fails",
    "lens.late_agreement": "holds", "microscope.linearity": "holds",
    "neurons.prediction": "fails", "neurons.readable": "holds", "robustness.delete": "holds",
    "robustness.first_block": "holds", "robustness.swap": "holds", "robustness.swap_is_milder": "holds",
    "steering.norm_matched": "holds", "steering.raises_concept": "holds", "tuned_lens.nearer": "holds",
    "tuned_lens.reads_layers": "holds",
}  # fmt: skip
"""A regression of findings: what was measured on the shipped model, where p is far from the level. None is derived."""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # five minutes of one free core
def test_every_claim_runs_on_the_shipped_model():
    frame = findings("reference").set_index("claim")
    assert "skipped" not in set(frame["state"]), frame["reason"].to_string()
    assert (frame["n"] > 0).all() and (frame["low"] <= frame["effect"]).all()
    assert frame["state"].loc[list(MEASURED)].to_dict() == MEASURED
