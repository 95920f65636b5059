"""The control for masks: the same architecture, untrained."""

from __future__ import annotations

import torch

from interp.authoring import Source, Subject, checked, load


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

    >>> untrained = random_model("reference", keep_embeddings=True)
    >>> untrained.name, bool((untrained.W_E == load("reference").W_E).all())
    ('reference, random but for embeddings', True)
    """
    own = load(subject)
    with torch.random.fork_rng(devices=[own.device] if own.device.type == "cuda" else []):
        torch.manual_seed(seed)
        live = own.backend.untrained(keep_embeddings)
        # Loaded inside the fork: a bridge draws random weights before it overwrites them.
        fresh = load(live, backend=own.backend.kind, tokenizer=own.tokenizer)  # type: ignore[arg-type]
    fresh.name = f"{own.name}, random but for embeddings" if keep_embeddings else f"{own.name}, random"
    return fresh
