"""How much of what was planted `find_subnetwork` finds: all of it where that is the optimum of its loss."""

from __future__ import annotations

import math

import pytest
import torch

import interp
from interp.planted import bigram
from probes import BigramModel, Subnetwork, find_subnetwork
from probes.subnetworks.search._batches import DrawnContexts

pytestmark = pytest.mark.trained

VOCAB = 8
RAISED = 4.0  # what the planted block adds to the logit of each successor
SPARSITY = 20.0


def planted_among_noise(seed):
    """A model whose bigrams 24 of its 3840 weights hold, all others being noise: subject, bigrams, the 24 as masks.

    Token w is followed by w + 1 or w + 3. Neuron w reads token w and raises the logits of those two; the logit of 1 of
    w itself is the residual's own. So the distribution's logits are exactly these: no normalisation is planted, which
    would be a negative weight on every likely successor.
    """
    successors = sum(torch.eye(VOCAB, dtype=torch.float64).roll(step, dims=1) for step in (1, 3))
    transition = (torch.eye(VOCAB) + RAISED * successors).softmax(dim=1)
    planted = bigram(transition, noise_blocks=2, seed=seed)
    at = planted.truth.layout.planted[0]
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for matrix in interp.load(planted.model).weight_matrices():
        mask, value = torch.zeros(matrix.shape, dtype=torch.bool), 0.0
        if (matrix.layer, matrix.component) == (at, "mlp_in"):
            mask[:, :VOCAB].fill_diagonal_(True)
            value = 1.0
        elif (matrix.layer, matrix.component) == (at, "mlp_out"):
            mask[:VOCAB] = successors.T > 0
            value = RAISED
        noise = 0.3 * torch.randn(matrix.shape, generator=generator)
        with torch.no_grad():
            matrix.weight.copy_(torch.where(mask, value, noise))
        masks[matrix.name] = mask
    subject = interp.load(planted.model)
    truth = Subnetwork(masks, subject.name, subject.fingerprint, {})
    return subject, BigramModel.from_transition(transition), truth


def predictions(subject, subnetwork, ids):
    """log2 of the subnetwork's probabilities, float64 [batch, pos, V]."""
    with subnetwork.applied(subject):
        return torch.stack(subject.logits(ids)).double().log_softmax(-1) / math.log(2)


def excess(subject, subnetwork, model):
    """Nats by which its cross-entropy with the target is above the target's entropy, over tokens alike often."""
    every = torch.arange(VOCAB)[None]
    log_q = predictions(subject, subnetwork, every) * math.log(2)
    return float((-(model.probs(every) * log_q).sum(-1) - model.entropy()[every]).mean())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_exactly_the_planted_weights_are_kept(seed):
    """Ten seeds of ten do; with noise of 0.5 instead of 0.3 three of ten keep one weight of it too."""
    subject, model, truth = planted_among_noise(seed)
    found = find_subnetwork(subject, model, sparsity=SPARSITY, steps=600, batch=8, length=8, lr=2e-2)[SPARSITY]
    assert found.origin["decided"]  # by the stop rule
    for name, planted in truth.masks.items():
        assert torch.equal(found.masks[name], planted), name
    told = found.origin["held_out_nats"]
    assert told["xent"] == pytest.approx(told["entropy"], abs=1e-5)  # float32 logits of order 1
    assert told["xent_full_model"] > 5 * told["entropy"]
    ids = DrawnContexts(model, (40, 40), start=(), seed=9).batch(0)
    ours = -predictions(subject, found, ids)[:, :-1].gather(-1, ids[:, 1:, None]).flatten()
    theirs = model.surprisal(ids[:, :-1], ids[:, 1:]).flatten()
    assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.999


def test_the_planted_weights_are_the_optimum_of_what_is_trained():
    """They reach the bound that no mask goes below, so a better one would have to keep fewer of them.

    But to lose any costs more in cross-entropy than the penalty on all of them together.
    """
    subject, model, truth = planted_among_noise(1)
    assert truth.n_kept == 24
    assert excess(subject, truth, model) == pytest.approx(0, abs=1e-6)  # float32 logits of order 1
    penalty = SPARSITY * truth.n_kept / truth.n_total
    for name, mask in truth.masks.items():
        for place in mask.nonzero().tolist():
            lesser = dict(truth.masks) | {name: mask.clone()}
            lesser[name][*place] = False
            one_less = Subnetwork(lesser, truth.model, truth.fingerprint, {})
            assert excess(subject, one_less, model) > penalty, (name, place)


def test_a_planted_normalisation_is_not_recovered():
    """Where the planted weights are log P, those of likely continuations are lost, and this says why.

    They are the negative weights that only lower those logits. With all masks at a half every row is too flat, so that
    the gradient drops them; that is wrong once the others are whole, but by then they are decided. Which ones are lost
    hangs on the last bits of the sums, and so on the processor; what is asserted here does not.
    """
    planted = bigram(noise_blocks=2, vocab=VOCAB, seed=1)
    subject = interp.load(planted.model)
    transition = planted.truth.transition
    found = find_subnetwork(
        subject, BigramModel.from_transition(transition), sparsity=1, steps=400, batch=8, length=8, lr=5e-2
    )[1]
    at = planted.truth.layout.planted[0]
    counts = found.counts().set_index(["layer", "component"])["kept_count"]
    assert counts.drop(index=[(at, "mlp_in"), (at, "mlp_out")]).sum() == 0  # every noise weight is dropped
    assert counts[at, "mlp_in"] == VOCAB  # and every planted unit weight kept
    lost = ~found.masks[f"blocks.{at}.mlp.out.weight"][:VOCAB, :VOCAB]  # [next token, neuron of the current one]
    assert lost.any()
    planted_weights = transition.log() - torch.eye(VOCAB)
    at_first = (torch.eye(VOCAB) + planted_weights / 4).softmax(dim=1)  # neuron and output at a half each
    assert float((transition - at_first).T[lost].mean()) > 0  # too flat at first, where weights were lost
    told = found.origin["held_out_nats"]
    # Nats, of a bound of more than one: near it, not at it. Over three kinds of vector unit, and weights changed by one
    # part in ten million, 11 to 13 weights are lost and the gap is 0.09 to 0.10.
    assert 0.08 < told["xent"] - told["entropy"] < 0.11
    assert found.origin["decided"]


@pytest.mark.slow
def test_decoys_that_spoil_the_output_are_dropped():
    """Decoys write where the unembedding reads: the full model is far off, and exact recovery is not to be expected."""
    planted = bigram(noise_blocks=1, vocab=12, seed=1)
    subject = decoyed(planted)
    model = BigramModel.from_transition(planted.truth.transition)
    found = find_subnetwork(subject, model, sparsity=(0, 10), steps=1600, batch=8, length=8, lr=2e-2)
    at = planted.truth.layout.planted[0]
    for sparsity in (0, 10):
        counts = found[sparsity].counts()
        mlp = (counts["layer"] == at) & counts["component"].str.startswith("mlp")
        density = {name: part["kept_count"].sum() / part["total_count"].sum() for name, part in counts.groupby(mlp)}
        told = found[sparsity].origin["held_out_nats"]
        assert told["entropy"] < told["xent"] < 0.1 * told["xent_full_model"]
    assert density[False] < 0.5 * density[True]
    assert found[10].n_kept < found[0].n_kept


def decoyed(planted):
    generator = torch.Generator().manual_seed(3)
    at = planted.truth.layout.planted[0]
    subject = interp.load(planted.model)
    with torch.no_grad():
        for matrix in subject.weight_matrices():
            if matrix.layer != at or not matrix.component.startswith("mlp"):
                matrix.weight.copy_(0.7 * torch.randn(matrix.weight.shape, generator=generator))
    return interp.load(planted.model)
