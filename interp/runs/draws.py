"""Random choices among prompts that depend on their contents and the seed, never on their order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from interp.checks import checked

_FEW = 4096  # prompts that are all ranked for each other


@checked
def content_keys(prompts: Sequence[Tensor], seed: int) -> np.ndarray:
    """Hash the token ids of each prompt together with the seed, uint64 [n]; equal prompts have equal keys.

    >>> import torch
    >>> one, other = torch.tensor([5, 3]), torch.tensor([3, 5])
    >>> bool((content_keys([one, other], 0) == content_keys([other, one], 0)[::-1]).all())
    True
    """
    hashes = (hashlib.blake2b(ids.numpy().tobytes(), digest_size=8, salt=_salt(seed)).digest() for ids in prompts)
    return np.frombuffer(b"".join(hashes), dtype=np.uint64)


@checked
def content_order(prompts: Sequence[Tensor], seed: int) -> np.ndarray:
    """Return the prompts in a random order that their contents and the seed decide, int64 [n].

    Equal prompts are neighbours. A prompt more leaves the others' order as it is.
    """
    return np.argsort(content_keys(prompts, seed), kind="stable")


@checked
def donor_prompts(prompts: Sequence[Tensor], seed: int) -> np.ndarray:
    """Draw a donor for each prompt among the others at least as long; the longest gets one of the longest others.

    Each prompt ranks the others by a hash of both contents and the seed, and takes the first. So a donor depends
    neither on the order of prompts nor on their batches, and a prompt more changes it only by becoming the donor. An
    equal prompt is a donor only if there are no other ones. Among more than 4,096 prompts the same holds, but the hash
    of a prompt is a point on the circle of all hashes, and the next prompt on it is the donor: to rank all for each
    would take hours for a million.

    Args:
        prompts: token ids, two prompts or more.
        seed: of the draw.

    Returns:
        Indices, int64 [n].
    """
    keys, lengths = content_keys(prompts, seed), np.array([len(ids) for ids in prompts])
    return _first_of_all(keys, lengths) if len(keys) <= _FEW else _next_on_circle(keys, lengths)


def _first_of_all(keys: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    found = np.empty(len(keys), dtype=np.int64)
    for index, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        others = keys != key
        if not others.any():
            others = np.arange(len(keys)) != index
        useful = np.where(others, np.minimum(lengths, length), 0)
        rank = np.where(useful == useful.max(), _mixed(keys + _mixed(key[None])), 0)
        found[index] = rank.argmax()
    return found


def _next_on_circle(keys: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    found = np.empty(len(keys), dtype=np.int64)
    points = _mixed(keys)
    by_length = np.argsort(-lengths, kind="stable")
    groups = np.split(by_length, np.flatnonzero(np.diff(lengths[by_length])) + 1)
    circle = waiting = np.empty(0, dtype=np.int64)  # prompts at least as long, each content once, by key
    for group in groups:  # the longest first
        own = group[np.unique(keys[group], return_index=True)[1]]
        circle = np.concatenate([circle, own])
        circle = circle[np.argsort(keys[circle], kind="stable")]
        if len(circle) == 1:
            waiting = group  # all of the longest are equal: one of the next length is their donor
            continue
        found[group] = circle[_next(keys[circle], keys[group], points[group])]
        if len(waiting):
            found[waiting] = own[_next(keys[own], keys[waiting], points[waiting])]
            waiting = waiting[:0]
    found[waiting] = np.roll(waiting, 1)
    return found


def _next(circle: np.ndarray, keys: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the place on a circle of sorted keys that follows each point, leaving out the prompt's own key."""
    places = np.searchsorted(circle, points) % len(circle)
    return (places + (circle[places] == keys)) % len(circle)


def _mixed(keys: np.ndarray) -> np.ndarray:
    """Scatter uint64 keys over their range by the finaliser of SplitMix64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))


def _salt(seed: int) -> bytes:
    return hashlib.blake2b(str(seed).encode(), digest_size=hashlib.blake2b.SALT_SIZE).digest()
