"""A hash that identifies a model by what decides its numbers."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interp.model.backends.base import Backend
from interp.model.identity.description import Description, bytes_of, peculiarities


@dataclass(frozen=True)
class Fingerprint:
    """An identity of a model.

    Attributes:
        text: 16 hex digits.
        unknown: places where code runs that cannot be identified: hooks, replaced methods, modules of one's own. If
            there are any, `text` is different for every loaded model.
    """

    text: str
    unknown: tuple[str, ...]


def fingerprint(backend: Backend, description: Description, hooks: Sequence[tuple[str, Any]] = ()) -> Fingerprint:
    """Hash a model's architecture, config and weights, and what its config and class do not tell.

    That is: buffers, settings and classes of modules that differ from those of a new model of the config. An ordinary
    model has none. Remote weights cannot be hashed: the model's name is hashed instead.

    Args:
        backend: of the model.
        description: of `backend.source`, made when it was loaded.
        hooks: of `backend.original`, which may have some beside those of the source.
    """
    config = json.dumps(dict(backend.config()), sort_keys=True, default=str)
    digest = hashlib.blake2b(f"{backend.facts.architecture} {config}".encode(), digest_size=8)
    for name, weight in backend.named_weights():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(backend.facts.name.encode() if weight.is_meta else bytes_of(weight))
    told, unknown = peculiarities(description, backend.source)
    if told:
        digest.update(json.dumps(told, sort_keys=True).encode())
    known = [hook for _, hook in description.hooks]
    places = [place for place, hook in (*description.hooks, *(one for one in hooks if one[1] not in known))]
    unknown = list(dict.fromkeys(places + unknown))
    if unknown:
        digest.update(uuid.uuid4().bytes)
    return Fingerprint(digest.hexdigest(), tuple(unknown))
