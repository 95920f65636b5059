"""The control for masks: the same architecture, untrained."""

from __future__ import annotations

from interp.authoring import Source, Subject, checked, untrained


@checked
def random_model(subject: Source, *, seed: int = 0, keep_embeddings: bool = False) -> Subject:
    """Make an untrained model of the same architecture and size.

    Masks can make an untrained network do what it never learnt: with trained embeddings, as well as the trained one
    (Chang and Bergen 2025, table 3). A subnetwork found here is not evidence of what the model has learnt.

    Args:
        subject: anything `interp.load` takes.
        seed: of the weights.
        keep_embeddings: keep token and position embeddings and the unembedding; draw only the rest at random.

    Returns:
        Another subject with the same tokenizer; `subject` is not changed.

    Raises:
        ModelError: the model is on another machine.

    >>> from interp import load
    >>> fresh = random_model("reference", keep_embeddings=True)
    >>> fresh.name, bool((fresh.W_E == load("reference").W_E).all())
    ('reference, random but for embeddings', True)
    """
    return untrained(subject, seed=seed, keep_embeddings=keep_embeddings)
