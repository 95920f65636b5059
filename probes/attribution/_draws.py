"""Random draws that depend only on the prompt and the seed."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_for(seed: int, ids: np.ndarray, purpose: str, number: int = 0) -> np.random.Generator:
    """Return a generator keyed by the seed, the prompt's tokens, the purpose and a number; nothing else affects it."""
    key = f"{purpose} {number} ".encode() + ids.astype(np.int64).tobytes()
    words = np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), dtype=np.uint32)
    return np.random.default_rng([seed, *words.tolist()])
