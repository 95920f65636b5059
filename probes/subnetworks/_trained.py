"""Masks for a model that has no shipped ones: found by the recipe "cpu", and kept in the user's cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interp.authoring import Subject, dataset, warn
from interp.data.cache import cache_folder
from probes.subnetworks.bigram_model import BigramModel, bigram_model
from probes.subnetworks.random_model import random_model
from probes.subnetworks.search.find_subnetwork import find_subnetwork
from probes.subnetworks.subnetwork import Subnetwork

SPARSITY = 10.0


@dataclass(frozen=True)
class Trained:
    """A model's subnetwork and its most important control.

    Attributes:
        bigrams: what both were trained to predict.
        found: of the model.
        untrained: the model with untrained blocks and its own embeddings.
        control: the subnetwork of `untrained`.
    """

    bigrams: BigramModel
    found: Subnetwork
    untrained: Subject
    control: Subnetwork


def trained_for(subject: Subject, corpus: str | Path | None, n_read: int) -> Trained:
    """Find masks of a model and of its untrained twin, or take those that an earlier call has kept.

    The state of a training is kept every minute, by the fingerprint of its model, and the next call resumes from it.

    Args:
        subject: the model.
        corpus: what bigrams are counted on, see `bigram_model`; None takes the shipped stories.
        n_read: stories from the first on that are left out, as they are read later.
    """
    stories = dataset("stories")["text"].tolist()[n_read:]
    bigrams = bigram_model(subject, stories if corpus is None else corpus)
    untrained = random_model(subject, keep_embeddings=True)
    folder = cache_folder("subnetworks", subject.fingerprint)
    found, control = (
        find_subnetwork(model, bigrams, sparsity=SPARSITY, recipe="cpu", out=folder)[SPARSITY]
        for model in (subject, untrained)
    )
    told = found.origin["held_out_nats"]
    warn(
        f"the masks are this model's own, found by the recipe 'cpu' over rows of matrices ({found.kept_fraction:.1%} "
        f"of the weights, {told['xent']:.2f} nats; the full model {told['xent_full_model']:.2f}), with bigrams of "
        f"{bigrams.unigram.sum():,.0f} tokens"
    )
    return Trained(bigrams, found, untrained, control)
