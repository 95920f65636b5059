"""A hash that identifies a model by its architecture, config and weights."""

from __future__ import annotations

import hashlib
import json

import torch

from interp.model.backends.base import Backend


def fingerprint(backend: Backend) -> str:
    """Hash a model's architecture, config and weights into 16 hex digits.

    Remote weights cannot be hashed: the model's name is hashed instead.
    """
    config = json.dumps(dict(backend.config()), sort_keys=True, default=str)
    digest = hashlib.blake2b(f"{backend.facts.architecture} {config}".encode(), digest_size=8)
    for name, weight in backend.named_weights():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if weight.is_meta:
            digest.update(backend.facts.name.encode())
            continue
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
