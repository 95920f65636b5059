"""ReAGent's recursion over any number of probes of any number of prompts, independent of the model.

All probes advance together. The tokens replaced in a step do not depend on any score, so the proposals of several steps
share one batch, and their stop tests share the next; a probe that stops is removed. Draws are keyed by (seed, prompt,
probe) and made in a fixed order, so the result depends neither on the batch nor on the other prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from probes.attribution._draws import generator_for
from probes.attribution._replacements import OwnSampler, Replacements

Read: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(token ids [n, pos], index of each one's case [n]) -> probability of the case's target [n], its rank [n]."""

LARGEST_CHANGE = 1 - 1e-6  # of a probability: a change of 1 (possible in half precision) is infinite in logits


@dataclass(frozen=True, eq=False)
class Case:
    """One target of one prompt.

    Attributes:
        ids: the tokens read, int64 [pos].
        free: the positions that may be replaced, bool [pos].
        sampler: the source of replacements: a distribution, or the user's own sampler.
        prob: probability of the target after the intact prompt.
    """

    ids: np.ndarray
    free: np.ndarray
    sampler: Replacements | OwnSampler
    prob: float


@dataclass(frozen=True)
class Recursion:
    """The settings of the recursion; see `probes.reagent`."""

    replace_ratio: float = 0.3
    keep: int = 5
    tolerance: int = 3
    max_steps: int = 3000
    n_probes: int = 16
    seed: int = 0

    def run(
        self,
        cases: Sequence[Case],
        read: Read,
        *,
        tokens_per_round: int,
        stopped: Callable[[int], object] = lambda n: None,
    ) -> list[ProbeOutcome]:
        """Run every probe of every case until it stops, or for `max_steps`.

        Args:
            cases: the targets to explain.
            read: the model.
            tokens_per_round: take as many steps at once as fit in a batch of this many tokens; results do not depend
                on it.
            stopped: called with the number of probes that a round stopped, for a progress bar.
        """
        probes = [
            _Probe(index, case, self, number) for index, case in enumerate(cases) for number in range(self.n_probes)
        ]
        active, done = probes, 0
        while active and done < self.max_steps:
            # Take at most as many steps ahead as were taken before: a probe that stops wastes no more than it used.
            fitting = tokens_per_round // sum(len(probe.case.ids) for probe in active)
            ahead = max(1, min(fitting, max(1, done), self.max_steps - done))
            self._advance(active, ahead, done, read)
            done += ahead
            before, active = len(active), [probe for probe in active if not probe.stop_step]
            stopped(before - len(active))
        per_case = np.array(probes, dtype=object).reshape(len(cases), self.n_probes)
        return [_outcome(list(group)) for group in per_case]

    def _advance(self, active: list[_Probe], ahead: int, done: int, read: Read) -> None:
        rows = np.repeat([probe.case_index for probe in active], ahead)
        drawn = [probe.draw(ahead) for probe in active]
        proposals = [
            np.where(masks, tokens, probe.case.ids) for probe, (masks, tokens, _) in zip(active, drawn, strict=True)
        ]
        probs, _ = read(_padded(proposals), rows)
        paths, tests = [], []
        for probe, (masks, _, others), prob in zip(active, drawn, probs.reshape(-1, ahead), strict=True):
            path = probe.path(masks, prob)
            kept = top(path, probe.case.free, self.keep) | ~probe.case.free
            paths.append(path)
            tests.append(np.where(kept, probe.case.ids, others))
        kept_probs, ranks = read(_padded(tests), rows)
        passed = (ranks < self.tolerance).reshape(-1, ahead)
        for probe, path, stops, prob in zip(active, paths, passed, kept_probs.reshape(-1, ahead), strict=True):
            at = int(stops.argmax()) if stops.any() else ahead - 1
            probe.logit, probe.prob_kept = path[at], float(prob[at])
            probe.stop_step = done + at + 1 if stops.any() else 0


@dataclass(frozen=True, eq=False)
class ProbeOutcome:
    """The results of the probes of one case.

    Attributes:
        importance: softmax of the score over the free positions, 0 elsewhere, float64 [probe, pos].
        stop_step: the step at which each probe stopped, from 1; 0 if it never did, int64 [probe].
        prob_kept: probability of the target in each probe's last stop test, float64 [probe].
    """

    importance: np.ndarray
    stop_step: np.ndarray
    prob_kept: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """Mask of the probes that stopped, bool [probe]."""
        return self.stop_step > 0


class _Probe:
    """A copy of a prompt, with its score in logits and its own random numbers."""

    def __init__(self, case_index: int, case: Case, settings: Recursion, number: int) -> None:
        self.case_index, self.case = case_index, case
        self._ratio = settings.replace_ratio
        self._uniforms = generator_for(settings.seed, case.ids, "probe", number)
        self._own = generator_for(settings.seed, case.ids, "own sampler", number)
        self.logit = self._uniforms.random(len(case.ids))
        self.stop_step = 0
        self.prob_kept = float("nan")

    def draw(self, n_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw masks, and replacements for the proposals and the stop tests, for the next steps: [step, pos] each."""
        uniforms = self._uniforms.random((n_steps, 3, len(self.case.ids)))
        masks = (uniforms[:, 0] < self._ratio) & self.case.free
        sampler = self.case.sampler
        if isinstance(sampler, Replacements):
            return masks, sampler.draw(uniforms[:, 1]), sampler.draw(uniforms[:, 2])
        tokens = np.array([[sampler(self.case.ids.copy(), self._own) for _ in range(2)] for _ in range(n_steps)])
        return masks, tokens[:, 0], tokens[:, 1]

    def path(self, masks: np.ndarray, probs: np.ndarray) -> np.ndarray:
        """Return the score after each of the next steps, float64 [step, pos]: S + logit(1/2 + delta/2)."""
        change = np.clip(self.case.prob - probs.astype(float), -LARGEST_CHANGE, LARGEST_CHANGE)
        steps = np.where(masks, 1.0, -1.0) * (2 * np.arctanh(change))[:, None]
        # A running sum that starts at the score rounds the same for any number of steps at once.
        return np.cumsum(np.concatenate([self.logit[None], steps]), axis=0)[1:]


def top(scores: np.ndarray, free: np.ndarray, keep: int) -> np.ndarray:
    """Mark the `keep` free positions with the largest scores, ties to the earlier: [..., pos] -> bool [..., pos].

    >>> top(np.array([3.0, 1.0, 2.0, 9.0]), np.array([True, True, True, False]), 2).tolist()
    [True, False, True, False]
    """
    order = np.argsort(np.where(free, -scores, np.inf), axis=-1, kind="stable")
    kept = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(kept, order[..., :keep], True, axis=-1)
    return kept & free


def softmax(logit: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the softmax over the free positions, 0 elsewhere; it sums to 1 if any is free."""
    if not free.any():
        return np.zeros_like(logit)
    weights = np.where(free, np.exp(logit - logit[free].max()), 0.0)
    return weights / weights.sum()


def _outcome(probes: list[_Probe]) -> ProbeOutcome:
    return ProbeOutcome(
        importance=np.stack([softmax(probe.logit, probe.case.free) for probe in probes]),
        stop_step=np.array([probe.stop_step for probe in probes]),
        prob_kept=np.array([probe.prob_kept for probe in probes]),
    )


def _padded(sequences: list[np.ndarray]) -> np.ndarray:
    """Concatenate blocks [k, pos] of several lengths to [n, longest], padded with zeros on the right."""
    width = max(block.shape[1] for block in sequences)
    return np.concatenate([np.pad(block, ((0, 0), (0, width - block.shape[1]))) for block in sequences])
