"""The simplest bigram model: one linear map from a model's own embedding to its unembedding, without any block."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.authoring import Subject, progress_bar
from interp.model.weights import require_one_vocabulary
from probes.subnetworks.bigram_model import BigramModel
from probes.subnetworks.search._targets import BigramTarget

N_STEPS = 200
BATCH = 512
# Learning rate of Adam times the width. Inputs have unit variance in every direction and unembedding vectors unit
# length on average, so one value suits models of any size.
_RATE = 13.0
_BETAS = (0.9, 0.99)
_NO_VARIANCE = 1e-6  # embedding directions with less variance are left out; a share of the largest variance


def linear_states(subject: Subject, bigrams: BigramModel, seed: int, n_steps: int) -> Tensor:
    """Fit a linear map of the embeddings to the bigram distributions, and return what it hands to the unembedding.

    Minimises the cross-entropy of `bigrams` against softmax(W_U (A e_w + b) + b_U) over tokens w as frequent as in its
    corpus: a convex problem, solved by Adam on batches of tokens drawn with that frequency.

    Args:
        subject: the model that gives embedding and unembedding.
        bigrams: the target.
        seed: of the batches.
        n_steps: steps of Adam; the learning rate falls linearly to 0.

    Returns:
        States of every token before the unembedding, float32 [tokens of `bigrams`, d_model].
    """
    require_one_vocabulary(subject, "the linear bigram model")
    length = subject.W_U.float().norm(dim=0).square().mean().sqrt()
    # A model can have more tokens than the corpus's tokenizer; the others are never used.
    vocabulary = slice(bigrams.d_vocab)
    unembedding, bias = subject.W_U[:, vocabulary].float() / length, subject.b_U[vocabulary].float()
    frequency = torch.as_tensor(bigrams.current, dtype=torch.float64, device=subject.device)
    inputs = _whitened(subject.W_E[vocabulary].double(), frequency / frequency.sum()).float()
    d_in, d_out = inputs.shape[1], len(unembedding)
    weights = torch.zeros(d_in + 1, d_out, device=subject.device)  # the last row is b
    inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    generator = torch.Generator().manual_seed(seed)
    rows = BigramTarget(bigrams, subject.device).begin
    with progress_bar(n_steps, "step", "linear bigram model") as bar:
        for step in range(n_steps):
            drawn = torch.multinomial(frequency.cpu(), BATCH, replacement=True, generator=generator)
            ids, counts = torch.unique(drawn, return_counts=True)
            x, share = inputs[ids], (counts / BATCH).to(inputs)
            error = (x @ weights @ unembedding + bias).softmax(dim=1)
            # The target is a few pairs of each row, and never [tokens, V] itself.
            rows(ids[None].to(subject.device))(slice(None)).subtract_from(error)
            error *= share[:, None]
            gradient = x.T @ (error @ unembedding.T)
            first.lerp_(gradient, 1 - _BETAS[0])
            second.lerp_(gradient.square(), 1 - _BETAS[1])
            size = (second / (1 - _BETAS[1] ** (step + 1))).sqrt_().clamp_(min=1e-12)
            rate = _RATE / d_in * (1 - step / n_steps)
            weights -= rate * first / (1 - _BETAS[0] ** (step + 1)) / size
            bar.update()
    return inputs @ weights / length


def _whitened(embedding: Tensor, share: Tensor) -> Tensor:
    """Whiten embeddings [d_vocab, d]: mean 0 and unit covariance for tokens as frequent as `share`."""
    centred = embedding - share @ embedding
    values, vectors = torch.linalg.eigh((centred * share[:, None]).T @ centred)
    kept = values > _NO_VARIANCE * values[-1]
    return centred @ (vectors[:, kept] * values[kept].rsqrt())
