"""Evaluation of subnetworks: a planted bigram model, identities, an independent implementation, controls, bad input."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

import interp
from interp.data.shipped import shipped_path
from interp.errors import InputError, ModelError, UnknownName
from interp.planted.bigrams import bigram
from probes import (
    BigramModel,
    Subnetwork,
    evaluate_subnetwork,
    kept_weights,
    random_model,
    subnetwork_covariance,
    subnetwork_overlap,
    subnetwork_rotation,
    subnetwork_surprisal,
)
from probes.subnetworks.evaluation._linear_bigrams import linear_states

pytestmark = pytest.mark.trained

FLOAT32 = 1e-4  # bits: some float32 roundings of logits of order ten, through a log-sum-exp


def chain(transition: Tensor, n_prompts: int, length: int, seed: int = 0) -> Tensor:
    """Token ids [n_prompts, length] drawn from a transition matrix."""
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(len(transition), (n_prompts,), generator=generator)]
    while len(ids) < length:
        ids.append(torch.multinomial(transition[ids[-1]], 1, generator=generator)[:, 0])
    return torch.stack(ids, dim=1)


def subnetwork_of(subject: interp.Subject, masks: Mapping[str, Tensor]) -> Subnetwork:
    return Subnetwork(masks, subject.name, subject.fingerprint, {"made": "test"})


def random_subnetwork(subject: interp.Subject, share: float = 0.5, seed: int = 0) -> Subnetwork:
    generator = torch.Generator().manual_seed(seed)
    whole = Subnetwork.full(subject).masks
    return subnetwork_of(
        subject, {name: torch.rand(mask.shape, generator=generator) < share for name, mask in whole.items()}
    )


def counts_of(vocab: int, seed: int = 0) -> BigramModel:
    """A bigram model that has seen some pairs only."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab, (400,), generator=generator).tolist()
    pairs = np.zeros((vocab, vocab))
    np.add.at(pairs, (ids[:-1], ids[1:]), 1.0)
    from scipy import sparse

    return BigramModel(sparse.csr_array(pairs), pairs.sum(0), pairs.sum(1), "test")


# -- the planted bigram model, with decoys ---------------------------------------------------------------------------


class Bigrams:
    """A model whose first MLP is a bigram model, buried under decoys; the subnetwork that digs it out."""

    def __init__(self) -> None:
        planted = bigram(vocab=12, noise_blocks=1, seed=0)
        names = [name for name, _ in planted.model.named_parameters()]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in planted.model.named_parameters():
                decoy = weight.ndim == 2 and ("attn" in name or "layers.1" in name or "blocks.1" in name)
                if decoy:
                    weight.copy_(0.7 * torch.randn(weight.shape, generator=generator))
        assert any("attn" in name for name in names)
        self.truth = planted.truth
        self.subject = interp.load(planted.model)
        masks = {name: torch.zeros_like(mask) for name, mask in Subnetwork.full(self.subject).masks.items()}
        for matrix in self.subject.weight_matrices():
            if matrix.layer == 0 and matrix.component.startswith("mlp"):
                masks[matrix.name] = matrix.weight != 0
        self.true = subnetwork_of(self.subject, masks)
        self.bigrams = BigramModel.from_transition(planted.truth.transition)
        self.ids = chain(planted.truth.transition, 24, 40)


@pytest.fixture(scope="module")
def planted() -> Bigrams:
    return Bigrams()


@pytest.fixture(scope="module")
def planted_frame(planted: Bigrams) -> pd.DataFrame:
    return subnetwork_surprisal(planted.subject, planted.true, planted.ids, bigrams=planted.bigrams)


def rows(frame: pd.DataFrame, condition: str, control: str = "none") -> pd.DataFrame:
    return frame[(frame["condition"] == condition) & (frame["control"] == control)].reset_index(drop=True)


def test_the_true_mask_is_the_bigram_model(planted, planted_frame):
    found = rows(planted_frame, "only")
    np.testing.assert_allclose(found["surprisal"], found["bigram_surprisal"], atol=FLOAT32)
    summary = planted_frame.interp.summary().set_index(["condition", "control"])
    assert summary.loc[("only", "none"), "r"] > 0.999
    assert summary.loc[("full", "none"), "r"] < 0.9


def test_the_true_mask_has_its_cross_entropy_at_the_entropy_floor(planted):
    with planted.true.applied(planted.subject) as subject:
        logits = torch.stack(subject.logits(planted.ids)).double()
    target = planted.truth.transition[planted.ids]
    loss = -(target * logits.log_softmax(-1)).sum(-1)
    assert float((loss - planted.truth.entropy()[planted.ids]).abs().max()) < 1e-6


def test_without_the_true_mask_and_the_decoys_the_model_repeats_its_token(planted, planted_frame):
    """With no weight at all the logits are those of the one-hot token: a closed form."""
    found = rows(planted_frame, "only", "empty")
    log_total = math.log(math.e + 11)
    expected = (log_total - (found["token_id"] == found["target_id"])) / math.log(2)
    np.testing.assert_allclose(found["surprisal"], expected, atol=FLOAT32)


def test_a_linear_map_of_one_hot_embeddings_is_a_bigram_model_too(planted, planted_frame):
    """Here a map from embedding to unembedding can hold any transition matrix, and is fitted until it does."""
    states = linear_states(planted.subject, planted.bigrams, seed=0, n_steps=400)
    found = (states @ planted.subject.W_U).double().log_softmax(-1).exp()
    assert float((found - planted.truth.transition).abs().max()) < 0.05
    summary = planted_frame.interp.summary().set_index("control")
    assert summary.loc["linear_map", "r"] > 0.95
    assert summary.loc["unigram", "partial_r"] != summary.loc["unigram", "partial_r"]  # NaN: nothing is left


def test_the_summary_of_a_planted_model_says_what_is_evidence(planted):
    evaluation = evaluate_subnetwork(planted.subject, planted.true, planted.ids, bigrams=planted.bigrams)
    summary = evaluation.summary().set_index("claim")
    assert summary.loc["the model needs it", "evidence"] in ("yes", "no")
    assert summary.loc["says what an untrained model cannot be masked into", "evidence"] == "not measured"
    assert summary.loc["it is part of the optimal subnetwork", "evidence"] == "not measured"
    simple = summary.loc["says more than simple models of words"]
    assert simple["value"] > 0.999 and simple["evidence"] == "yes"


def test_what_is_needed_is_told_from_what_is_not():
    """Weights by which the planted MLP reads its token, and those of a noise block, which change nothing."""
    model = bigram(vocab=12, noise_blocks=1)
    subject, bigrams = interp.load(model.model), BigramModel.from_transition(model.truth.transition)
    nothing = Subnetwork.empty(subject).masks
    of = {
        1: {one.name: one.weight != 0 for one in subject.weight_matrices() if one.name == "blocks.0.mlp.in.weight"},
        2: {one.name: one.weight != 0 for one in subject.weight_matrices() if one.layer == 1},
    }
    assert of[1]["blocks.0.mlp.in.weight"].sum() == 12
    found = {sparsity: subnetwork_of(subject, {**nothing, **masks}) for sparsity, masks in of.items()}
    ids = chain(model.truth.transition, 30, 20)
    evaluation = evaluate_subnetwork(subject, found, ids, bigrams=bigrams, linear_steps=1)
    needed = evaluation.summary().query("claim == 'the model needs it'").set_index("sparsity")
    assert needed.loc[1, "low"] > 0 and needed.loc[1, "evidence"] == "yes"
    assert needed.loc[2, "value"] == pytest.approx(0, abs=FLOAT32) and needed.loc[2, "evidence"] == "no"


# -- identities and parity -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_a_mask_of_ones_is_the_model_bit_for_bit(architecture, any_backend, small_subject, ids):
    subject = small_subject(architecture, any_backend)
    frame = subnetwork_surprisal(
        subject, Subnetwork.full(subject), ids, bigrams=counts_of(subject.d_vocab), linear_steps=1
    )
    assert rows(frame, "only")["surprisal"].tolist() == rows(frame, "full")["surprisal"].tolist()
    assert rows(frame, "minus")["surprisal"].tolist() == rows(frame, "only", "empty")["surprisal"].tolist()
    assert rows(frame, "minus")["surprisal"].tolist() != rows(frame, "full")["surprisal"].tolist()


def test_surprisals_are_those_of_a_model_with_its_weights_multiplied(small_model, word_level, ids):
    """Plain PyTorch: the weights of a copy multiplied by the masks, cross-entropies of its logits."""
    model = small_model("llama")
    subject = interp.load(model, tokenizer=word_level)
    subnetwork = random_subnetwork(subject)
    frame = subnetwork_surprisal(subject, subnetwork, ids, bigrams=counts_of(subject.d_vocab), linear_steps=1)
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj"}
    names |= {"in": "mlp.up_proj", "gate": "mlp.gate_proj", "out": "mlp.down_proj"}
    for condition, keep in (("only", subnetwork), ("minus", subnetwork.complement())):
        pruned = copy.deepcopy(model)
        with torch.no_grad():
            for name, mask in keep.masks.items():
                _, layer, _, which, _ = name.split(".")
                pruned.get_submodule(f"model.layers.{layer}.{names[which]}").weight.mul_(mask)
            logits = pruned(ids).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        np.testing.assert_allclose(rows(frame, condition)["surprisal"], loss / math.log(2), atol=FLOAT32)


def test_backends_and_batches_give_the_same_frame(small_subject, ids):
    frames = []
    for backend in ("bridge", "nnsight"):
        subject = small_subject("gpt2", backend)
        bigrams, subnetwork = counts_of(subject.d_vocab), random_subnetwork(subject)
        for memory in (1 << 30, 1 << 14):
            with interp.options.local(memory=memory):
                frames.append(subnetwork_surprisal(subject, subnetwork, ids, bigrams=bigrams, linear_steps=2))
    for other in frames[1:]:
        pd.testing.assert_frame_equal(frames[0].drop(columns="run_id"), other.drop(columns="run_id"), atol=FLOAT32)


def test_the_model_is_left_as_it_was(small_subject, ids):
    subject = small_subject("gpt2", "bridge")
    before, bigrams = subject.logits(ids), counts_of(subject.d_vocab)
    subnetwork_surprisal(subject, random_subnetwork(subject), ids, bigrams=bigrams, linear_steps=1)
    assert all(bool((one == other).all()) for one, other in zip(before, subject.logits(ids), strict=True))
    assert not subject.edits


@pytest.fixture(scope="module")
def small(request: pytest.FixtureRequest):
    """A small model with two subnetworks, texts enough to regress on, and counts."""
    subject = request.getfixturevalue("small_subject")("gpt2", "bridge")
    ids = torch.randint(3, subject.d_vocab, (40, 16), generator=torch.Generator().manual_seed(2))
    found = {1.0: random_subnetwork(subject, 0.6), 10.0: random_subnetwork(subject, 0.2, seed=1)}
    return subject, found, ids, counts_of(subject.d_vocab)


@pytest.fixture(scope="module")
def evaluation(small):
    subject, found, ids, bigrams = small
    untrained = random_model(subject, keep_embeddings=True)
    return evaluate_subnetwork(
        subject, found, ids, bigrams=bigrams, optimal=random_subnetwork(subject, seed=5), tokens_per_dim=10,
        random_models={"random_blocks": (untrained, random_subnetwork(untrained))}, linear_steps=5,
    )  # fmt: skip


def test_shared_passes_give_each_probes_own_frame(small, evaluation):
    subject, found, ids, bigrams = small
    untrained = random_model(subject, keep_embeddings=True)
    alone = subnetwork_surprisal(
        subject, found, ids, bigrams=bigrams, linear_steps=5,
        random_models={"random_blocks": (untrained, random_subnetwork(untrained))},
    )  # fmt: skip
    pd.testing.assert_frame_equal(alone, evaluation.surprisal)
    # Sums over all prompts, and over those fitted and held out apart.
    pd.testing.assert_frame_equal(subnetwork_covariance(subject, found, ids), evaluation.covariance, atol=1e-9)
    rotation = subnetwork_rotation(subject, found, ids, tokens_per_dim=10)
    pd.testing.assert_frame_equal(rotation, evaluation.rotation)
    pd.testing.assert_frame_equal(kept_weights(subject, found), evaluation.kept)


def test_the_summary_of_surprisals_is_scipys(evaluation):
    summary = evaluation.surprisal.interp.summary()
    assert len(summary) == 1 + 2 * 6 + 1 + 1 + 2  # full; two of six; empty; an untrained one; linear map and unigram
    for row in summary.to_dict("records"):
        chosen = evaluation.surprisal[
            (evaluation.surprisal["condition"] == row["condition"])
            & (evaluation.surprisal["control"] == row["control"])
            & (evaluation.surprisal["sparsity"].fillna(-1) == (-1 if np.isnan(row["sparsity"]) else row["sparsity"]))
            & (evaluation.surprisal["pos"] > 0)
        ]
        assert row["n_tokens"] == len(chosen) == 40 * 14
        seen = np.isfinite(chosen["bigram_surprisal"])
        assert not seen.all() and seen.any()
        largest = chosen["bigram_surprisal"][seen].max()
        filled = chosen["bigram_surprisal"].where(seen, largest)
        assert row["r"] == pytest.approx(stats.pearsonr(chosen["surprisal"], filled).statistic, abs=1e-9)
        kept = chosen[seen]
        expected = stats.pearsonr(kept["surprisal"], kept["bigram_surprisal"]).statistic
        assert row["r_dropped"] == pytest.approx(expected, abs=1e-9)
        assert row["surprisal"] == pytest.approx(chosen["surprisal"].mean())
        assert row["surprisal_sd"] == pytest.approx(chosen["surprisal"].std(ddof=0))


def test_claims_are_told_by_their_controls(evaluation):
    """Random subnetworks of a random model are no bigram model, and no one needs them."""
    summary = evaluation.summary()
    assert set(summary["sparsity"]) == {1.0, 10.0} and len(summary) == 12
    assert set(summary.query("claim == 'the model needs it'").evidence) == {"no"}
    untrained = summary[summary["claim"] == "says what an untrained model cannot be masked into"]
    assert (untrained["control"] == "random_blocks").all() and set(untrained["evidence"]) == {"no"}


# -- where the weights are -------------------------------------------------------------------------------------------


def test_kept_weights_add_up_by_every_unit(small_subject):
    subject = small_subject("llama", "bridge")  # with grouped keys and values, and a gate
    subnetwork = random_subnetwork(subject, 0.3)
    by_matrix = kept_weights(subject, subnetwork)
    assert by_matrix["kept_count"].sum() == subnetwork.n_kept and by_matrix["total_count"].sum() == subnetwork.n_total
    assert by_matrix["share_of_kept"].sum() == pytest.approx(1) == by_matrix["share_if_even"].sum()
    per_matrix = by_matrix.set_index(["layer", "component"])["kept_count"]
    for by, n_units in (
        ("head", {"q": 4, "k": 2, "v": 2, "o": 4}),
        ("neuron", dict.fromkeys(["mlp_in", "mlp_gate", "mlp_out"], 48)),
    ):
        frame = kept_weights(subject, subnetwork, by=by)
        grouped = frame.groupby(["layer", "component"])["kept_count"]
        assert grouped.size().xs(0, level="layer").to_dict() == n_units
        assert grouped.sum().to_dict() == per_matrix.loc[grouped.sum().index].to_dict()
    heads = kept_weights(subject, subnetwork, by="head").set_index(["layer", "component", "index"])["kept_count"]
    masks = subnetwork.masks
    assert heads[1, "q", 2] == masks["blocks.1.attn.q.weight"][16:24].sum()  # outputs of heads of 8
    assert heads[1, "o", 2] == masks["blocks.1.attn.o.weight"][:, 16:24].sum()  # and what o reads of them


def test_a_subnetwork_overlaps_with_itself_and_not_with_its_complement(small):
    subject, found, _, _ = small
    one = found[10.0]
    for other, observed, share in ((one, one.n_kept, 1.0), (one.complement(), 0, 0.0)):
        whole = subnetwork_overlap(subject, one, other).interp.summary()
        assert whole["null"].tolist() == ["scattered", "rows", "columns"]
        assert (whole["observed"] == observed).all() and (whole["share_in_other"] == share).all()
        assert whole["layer"].isna().all()
    frame = subnetwork_overlap(subject, found, one)
    parts = frame[frame["component"] != "all"].groupby(["sparsity", "null"])[["observed", "expected", "n_kept"]].sum()
    whole = frame.interp.summary().set_index(["sparsity", "null"])
    np.testing.assert_allclose(whole.loc[parts.index, parts.columns].to_numpy(dtype=float), parts, rtol=1e-12)


def test_random_subnetworks_share_what_chance_gives(small):
    subject, found, _, _ = small
    z = [
        subnetwork_overlap(subject, found[10.0].random_like(seed), found[1.0]).interp.summary()["z"].to_numpy()
        for seed in range(5)
    ]
    assert float(np.abs(z).max()) < 4.5  # 15 standard normal numbers, give or take


# -- rotations and covariances ---------------------------------------------------------------------------------------


def turning_model(degrees: float) -> interp.Subject:
    """One block that turns every one-hot token by the angle, in planes beside the direction of all tokens together."""
    vocab, angle = 13, math.radians(degrees)
    planted = bigram(vocab=vocab, noise_blocks=1)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(vocab, vocab, generator=generator, dtype=torch.float64)
    start[:, 0] = 1.0
    basis = torch.linalg.qr(start).Q
    plane = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    turn = basis @ torch.block_diag(torch.ones(1, 1, dtype=torch.float64), *[plane] * 6) @ basis.T
    subject = interp.load(planted.model)
    (down,) = (one for one in subject.weight_matrices() if one.name == "blocks.0.mlp.out.weight")
    with torch.no_grad():
        down.weight[:vocab] = (turn - torch.eye(vocab)).float()
    return interp.load(planted.model)


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 120])
def test_a_block_that_turns_the_stream_is_measured(degrees):
    subject = turning_model(degrees)
    ids = torch.randint(13, (40, 30), generator=torch.Generator().manual_seed(3))
    noise_free = subnetwork_of(
        subject, {matrix.name: (matrix.weight != 0) & (matrix.layer == 0) for matrix in subject.weight_matrices()}
    )
    frame = subnetwork_rotation(subject, noise_free, ids, alpha=1e-6)
    found = frame[(frame["condition"] == "only") & (frame["control"] == "none") & (frame["target"] == "in")]
    angles = found.set_index("layer")["angle"]
    # Of 21 dimensions 8 hold nothing and count as 0 degrees, as does the one of all tokens together: the median of the
    # other 12 is the angle. Residuals are float32.
    assert angles[0] == 0
    assert angles[1] == pytest.approx(degrees, abs=0.01)
    assert found.set_index("layer")["recall_1"][1] == 1.0


def test_layers_that_nothing_changes_are_similar_and_turn_nowhere(planted):
    empty = Subnetwork.empty(planted.subject)
    covariance = subnetwork_covariance(planted.subject, empty, planted.ids)
    alone = covariance[(covariance["condition"] == "only") & (covariance["control"] == "none")]
    assert (alone["similarity"] - 1).abs().max() < 1e-9
    assert len(alone) == 9
    rotation = subnetwork_rotation(planted.subject, empty, planted.ids, tokens_per_dim=10)
    none = rotation[(rotation["condition"] == "only") & (rotation["control"] == "none")]
    assert none.loc[none["target"] == "out", "angle"].max() == 0
    assert none.loc[none["target"] == "out", "lens_r"].min() > 0.999  # the ridge shrinks the identity a little


def test_the_last_layer_reads_itself_and_strangers_have_no_angle(evaluation):
    rotation = evaluation.rotation
    last = rotation[(rotation["layer"] == 4) & (rotation["target"] == "out") & (rotation["control"] != "unrelated")]
    # Ridge shrinks the identity a little, and turns nothing.
    assert last["angle"].max() < 1e-3 and last["lens_r"].min() > 0.999
    assert rotation.loc[rotation["control"] == "unrelated", "angle"].median() == pytest.approx(90, abs=15)
    assert (evaluation.covariance.query("layer == other_layer")["similarity"] - 1).abs().max() < 1e-9


# -- untrained models ------------------------------------------------------------------------------------------------


def test_the_shipped_control_fits_the_model_that_is_drawn_on_this_processor():
    """The control was found on another one; the draws of torch's own `normal_` differ with the vector unit."""
    shipped = Subnetwork.load(shipped_path("subnetworks") / "untrained-10.safetensors")
    shipped.check(random_model("reference", keep_embeddings=True))
    with pytest.raises(ModelError, match="other weights or processing"):
        shipped.check(random_model("reference", keep_embeddings=True, seed=1))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_an_untrained_model_is_drawn_by_its_seed_alone(architecture, any_backend, small_subject):
    subject = small_subject(architecture, any_backend)
    before, state = subject.fingerprint, torch.get_rng_state()
    one, again, other = (random_model(subject, seed=seed) for seed in (0, 0, 1))
    assert bool((torch.get_rng_state() == state).all())
    assert one.fingerprint == again.fingerprint and len({one.fingerprint, other.fingerprint, before}) == 3
    assert (one.architecture, one.backend.kind, one.d_vocab) == (subject.architecture, any_backend, subject.d_vocab)
    kept = random_model(subject, keep_embeddings=True)
    assert bool((kept.W_E == subject.W_E).all()) and bool((kept.W_U == subject.W_U).all())
    assert not any(
        bool((mine.weight == theirs.weight).all())
        for mine, theirs in zip(kept.weight_matrices(), subject.weight_matrices(), strict=True)
    )
    assert interp.load(subject).fingerprint == before


def test_a_planted_model_can_be_drawn_anew(planted):
    kept = random_model(planted.subject, keep_embeddings=True)
    assert bool((kept.W_E == planted.subject.W_E).all()) and bool((kept.W_U == planted.subject.W_U).all())
    assert kept.fingerprint != random_model(planted.subject, keep_embeddings=True, seed=1).fingerprint


# -- figures and bad input -------------------------------------------------------------------------------------------


def test_figures(small, evaluation, tmp_path):
    for name in ("surprisal", "kept", "rotation", "covariance"):
        getattr(evaluation, name).interp.plot(path=tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    left, right = evaluation.surprisal.interp.plot().axes
    labels = left.get_legend_handles_labels()[1]
    assert {
        "subnetwork",
        "random weights",
        "random rows",
        "random blocks",
        "a linear map",
        "unigrams",
        "no weights",
        "full model",
    } == set(labels)
    assert len(right.get_legend_handles_labels()[1]) == 7
    cells = evaluation.kept.interp.plot(sparsity=1.0).axes[0].texts
    assert len(cells) == 4 * 6
    with pytest.raises(InputError, match="the frame has no subnetwork of sparsity 3; choose from"):
        evaluation.kept.interp.plot(sparsity=3)
    heads = kept_weights(small[0], small[1], by="head")
    with pytest.raises(InputError, match="made with by='component'"):
        heads.interp.plot()


def test_bad_input(small, planted):
    subject, found, ids, bigrams = small
    with pytest.raises(InputError, match="prompt 0 has a single token; give it two or more"):
        subnetwork_surprisal(subject, found, ids[:, :1], bigrams=bigrams)
    with pytest.raises(InputError, match=r"'all of it': give a Subnetwork \(made by find_subnetwork\) or a dictionary"):
        subnetwork_surprisal(subject, "all of it", ids, bigrams=bigrams)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no subnetworks were given"):
        subnetwork_surprisal(subject, {}, ids, bigrams=bigrams)
    with pytest.raises(InputError, match="linear_steps=0: give at least 1"):
        subnetwork_surprisal(subject, found, ids, bigrams=bigrams, linear_steps=0)
    with pytest.raises(ModelError, match="it is of another model"):
        subnetwork_surprisal(subject, planted.true, ids, bigrams=bigrams)
    with pytest.raises(ModelError, match="more tokens than the 61"):
        subnetwork_surprisal(subject, found, ids, bigrams=counts_of(99))
    with pytest.raises(InputError, match="one prompt cannot be both fitted and held out"):
        subnetwork_rotation(subject, found, ids[:1])
    with pytest.raises(InputError, match=r"alpha=-1, held_out=0\.2: give a ridge of 0 or more"):
        subnetwork_rotation(subject, found, ids, alpha=-1)
    with pytest.raises(InputError, match="480 tokens are too few to regress on 32 dimensions"):
        subnetwork_rotation(subject, found, ids)
    with pytest.raises(InputError, match="n_dropped=32 of 32 dimensions"):
        subnetwork_covariance(subject, found, ids, n_dropped=32)
    with pytest.raises(InputError, match=r"other=\{.*: give a Subnetwork \(made by find_subnetwork\)"):
        subnetwork_overlap(subject, found, found)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown by 'layer'; known: 'component', 'head', 'neuron'"):
        kept_weights(subject, found, by="layer")  # type: ignore[arg-type]
