"""Random draws that depend on a prompt and the seed alone."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_for(seed: int, ids: np.ndarray, purpose: str, number: int = 0) -> np.random.Generator:
    """The random numbers of one purpose and prompt, whatever else runs: keyed by the prompt's tokens."""
    key = f"{purpose} {number} ".encode() + ids.astype(np.int64).tobytes()
    words = np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), dtype=np.uint32)
    return np.random.default_rng([seed, *words.tolist()])
