"""Show a token in its sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from interp.authoring import Subject
from probes.contexts._occurrences import Occurrences

_WIDTH = 80  # characters


def contexts_of(subject: Subject, texts: Sequence[Tensor], places: Occurrences) -> np.ndarray:
    """Return the text around each place, in at most 80 characters, with the token between brackets, objects [n]."""
    found: dict[int, str] = {}
    for text, pos, key in zip(places.text.tolist(), places.pos.tolist(), places.key.tolist(), strict=True):
        if key not in found:
            found[key] = _around(subject, texts[text].tolist(), pos)
    return np.array([found[key] for key in places.key.tolist()], dtype=object)


def _around(subject: Subject, ids: Sequence[int], pos: int) -> str:
    strings = subject.token_strings
    token = f"[{strings[ids[pos]]}]"[:_WIDTH]
    room = _WIDTH - len(token)
    after = "".join(strings[ids[pos + 1 : pos + 1 + room]])[: room // 3]
    left = room - len(after)
    before = "".join(strings[ids[max(0, pos - room) : pos]])[-left:] if left else ""
    return (before + token + after).replace("\n", "↵")
