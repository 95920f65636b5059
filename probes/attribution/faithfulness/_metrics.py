"""The metrics of one target: hard ones remove tokens, soft ones drop elements of embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Usable
from probes.attribution._draws import generator_for
from probes.attribution._last_position import log_prob_and_rank, logit_difference, read_last
from probes.attribution._replacements import Replacements, replacements
from probes.attribution._unigram import Counts
from probes.attribution.faithfulness._attributions import Attribution, Scored
from probes.attribution.faithfulness._deletion import (
    Limits,
    Ranking,
    SetFunction,
    Values,
    area_draws,
    area_limits,
    drops,
    n_kept,
    sets_of,
)
from probes.attribution.faithfulness._removal import Passage, Replacement, mean_embedding, set_function, soft_distances

Metric: TypeAlias = Literal["soft_ns", "soft_nc", "sufficiency", "comprehensiveness", "aopc", "naopc"]

SOFT = ("soft_ns", "soft_nc")
METRICS = (*SOFT, "sufficiency", "comprehensiveness", "aopc", "naopc")

_NOTHING = 1e-9  # a squared Hellinger distance up to here counts as 0: float32 rounding gives about 1e-13


@dataclass(frozen=True)
class Measured:
    """One row of the frame, without the columns that all rows of its target share.

    Attributes:
        shuffled: the values of all shuffles, whose mean is `value_random`; they are not in the frame.
    """

    scored: Scored
    metric: str
    fraction: float | None
    value: float
    value_random: float
    control: str
    unclipped: float = float("nan")
    value_se: float = float("nan")
    shuffled: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """The measurement of a frame's targets, with the arguments of `probes.faithfulness`."""

    subject: Subject
    attributions: Sequence[Attribution]
    metrics: Sequence[str]
    replacement: Replacement | Counts
    usable: Usable
    fractions: Sequence[float]
    normalise: str
    log_odds: bool
    n_random: int
    n_draws: int
    n_samples: int
    seed: int

    @cached_property
    def intact(self) -> np.ndarray:
        """Probability, rank and logit difference of every target after its intact prompt, float64 [target, 3]."""
        passages = [one.passage for one in self.attributions]
        ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(one.ids) for one in passages], batch_first=True)
        lengths = torch.tensor([len(one.ids) for one in passages])
        own = torch.tensor([one.target_id for one in passages])
        alone = np.array([one.against_id is None for one in passages])
        other = torch.tensor([one.target_id if one.against_id is None else one.against_id for one in passages])
        single, contrast = log_prob_and_rank(own), logit_difference(own, other)

        def reduce(logits: Tensor, rows: Tensor) -> Tensor:
            return torch.cat([single(logits, rows), contrast(logits, rows)], dim=1)

        read = read_last(self.subject, ids, lengths, reduce).double().numpy()
        return np.stack([np.exp(read[:, 0]), read[:, 1], np.where(alone, np.nan, read[:, 2])], axis=1)

    def measure(self, index: int) -> Iterator[Measured]:
        """Yield all rows of one target."""
        attribution = self.attributions[index]
        if set(self.metrics) - set(SOFT):
            yield from self._hard(attribution)
        if set(self.metrics) & set(SOFT):
            yield from self._soft(attribution)

    def _hard(self, attribution: Attribution) -> Iterator[Measured]:
        n_units = len(attribution.passage.members)
        rankings, shuffles = self.rankings(attribution)
        values = Values(self._set_function(attribution.passage), n_units)
        if n_units:
            values(self.sets([*rankings, *shuffles]))  # evaluates all sets in large batches
        limits = area_limits(values) if n_units and "naopc" in self.metrics else None
        by_chance = [self._of_ranking(values, ranking, limits) for ranking in shuffles]
        for scored, ranking in zip(attribution.scored, rankings, strict=True):
            for key, (value, value_se) in self._of_ranking(values, ranking, limits).items():
                chance = np.array([one[key][0] for one in by_chance])
                yield from _with_control(scored, *key, value, chance, value_se=value_se)

    def rankings(self, attribution: Attribution) -> tuple[list[Ranking], list[Ranking]]:
        """Return the rankings of the methods and of the shuffles."""
        orders = _shuffles(attribution, self.seed, self.n_random)
        # Ties too many for the exact mean are broken as the shuffles are: equal scores are then chance itself.
        return [Ranking(one.scores, orders) for one in attribution.scored], [Ranking.of_order(one) for one in orders]

    def sets(self, rankings: Sequence[Ranking]) -> np.ndarray:
        """Return the sets that the hard metrics of rankings need, bool [n, unit]."""
        n_units = rankings[0].scores.size
        ends = [n_kept(fraction, n_units) for fraction in self.fractions]
        return sets_of(rankings, range(n_units + 1) if {"aopc", "naopc"} & set(self.metrics) else [0, *ends])

    def _of_ranking(
        self, values: Values, ranking: Ranking, limits: Limits | None
    ) -> dict[tuple[str, float | None], tuple[float, float]]:
        """Return the hard metrics of one ranking and their standard errors, by metric and fraction.

        Both are NaN if nothing may be removed.
        """
        n_units, none = values.n_units, np.array([float("nan")])
        counts = [n_kept(fraction, n_units) for fraction in self.fractions]
        found: dict[tuple[str, float | None], tuple[float, float]] = {}
        for name, kept in (("sufficiency", True), ("comprehensiveness", False)):
            if name in self.metrics:
                curve = drops(values, ranking, counts, kept=kept) if n_units else [none] * len(counts)
                pairs = zip(self.fractions, curve, strict=True)
                found |= {(name, fraction): _mean_and_error(drop) for fraction, drop in pairs}
        if {"aopc", "naopc"} & set(self.metrics):
            both = (ranking, ranking.reversed())
            areas = [area_draws(values, one) for one in both] if n_units else [none, none]
            for end, of_draws in zip(("comprehensiveness", "sufficiency"), areas, strict=True):
                if "aopc" in self.metrics:
                    found[f"aopc_{end}", None] = _mean_and_error(of_draws)
                if "naopc" in self.metrics:
                    shares = np.array([limits.share(float(one)) for one in of_draws]) if limits else none
                    found[f"naopc_{end}", None] = _mean_and_error(shares)
        return found

    def _soft(self, attribution: Attribution) -> Iterator[Measured]:
        kinds = [("", [self._normalised(one) for one in attribution.scored]), ("_rank", _ranks(attribution))]
        for suffix, profiles in kinds:
            distances, zero = self._distances(attribution, profiles)
            for scored, of_method in zip(attribution.scored, distances, strict=True):
                # axes: [kept or dropped by score, own or shuffled scores, draw]
                for place, name in enumerate(SOFT):
                    if name in self.metrics:
                        own, chance = of_method[place]
                        value = _soft_metric(name, own.mean(), zero)
                        value_se = _mean_and_error(own)[1] / zero if zero > _NOTHING else float("nan")
                        unclipped = 1 - own.mean() / zero if name == "soft_ns" and zero > _NOTHING else float("nan")
                        means = [_soft_metric(name, one.mean(), zero) for one in (chance, chance[::2], chance[1::2])]
                        shuffled = np.array([_soft_metric(name, float(one), zero) for one in chance])
                        yield from _with_control(
                            scored, name + suffix, None, value, shuffled,
                            means=means, unclipped=unclipped, value_se=value_se,
                        )  # fmt: skip

    def _distances(self, attribution: Attribution, profiles: list[np.ndarray]) -> tuple[np.ndarray, float]:
        """Return squared Hellinger distances [method, kept or dropped, own or shuffled, draw]; the empty prompt's."""
        n_units = len(attribution.passage.members)
        shape = (len(profiles), 2, 2, self.n_draws)
        if not n_units:
            return np.full(shape, np.nan), float("nan")
        shuffles = _shuffles(attribution, self.seed, self.n_draws)
        keep = np.empty((*shape, n_units))
        for method, profile in enumerate(profiles):
            keep[method, 0, 0] = profile
            keep[method, 0, 1] = profile[np.stack(shuffles)]
        keep[:, 1] = 1 - keep[:, 0]
        draws = np.broadcast_to(np.arange(self.n_draws), shape).ravel()
        distances, zero = soft_distances(self.subject, attribution.passage, keep.reshape(-1, n_units), draws, self.seed)
        return distances.reshape(shape), zero

    def _normalised(self, scored: Scored) -> np.ndarray:
        """Return scores as probabilities, float64 [unit]."""
        scores = scored.scores
        if self.normalise == "min_max":
            return min_max(scores)
        if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
            raise InputError(
                f"method {scored.method!r} has scores from {scores.min():.3g} to {scores.max():.3g}, outside 0..1; "
                "use normalise='min_max'."
            )
        return scores

    def _set_function(self, passage: Passage) -> SetFunction:
        table = None
        if not isinstance(self.replacement, str) or self.replacement == "unigram":
            table = self._tables[passage.ids.tobytes()]
        return set_function(
            self.subject, passage, self.replacement, table,
            fill=self._fill, n_samples=self.n_samples, log=self.log_odds, seed=self.seed,
        )  # fmt: skip

    @cached_property
    def _tables(self) -> dict[bytes, Replacements]:
        contexts = [one.passage.ids for one in self.attributions]
        tables = replacements(self.replacement, self.subject, [torch.from_numpy(ids) for ids in contexts], self.usable)
        return {ids.tobytes(): table for ids, table in zip(contexts, tables, strict=True)}

    @cached_property
    def _fill(self) -> Tensor | None:
        if not isinstance(self.replacement, str):
            return None
        if self.replacement == "mask_embedding":
            return mean_embedding(self.subject, self.attributions[0].passage.ids)
        return torch.zeros(self.subject.d_model) if self.replacement == "zero_embedding" else None


def min_max(scores: np.ndarray) -> np.ndarray:
    """Shift and scale scores to 0..1; 0.5 each if all are equal.

    >>> min_max(np.array([-1.0, 0.0, 3.0])).tolist(), min_max(np.array([2.0, 2.0])).tolist()
    ([0.0, 0.25, 1.0], [0.5, 0.5])
    """
    if not len(scores) or np.ptp(scores) == 0:
        return np.full(len(scores), 0.5)
    return (scores - scores.min()) / np.ptp(scores)


def n_ties(scores: np.ndarray) -> int:
    """Count the scores that equal another one."""
    _, counts = np.unique(scores, return_counts=True)
    return int(counts[counts > 1].sum())


def _ranks(attribution: Attribution) -> list[np.ndarray]:
    """Replace scores by their ranks, spread evenly over 0..1; ties get their mean rank."""
    from scipy.stats import rankdata

    return [min_max(rankdata(one.scores)) for one in attribution.scored]


def _soft_metric(name: str, distance: float, zero: float) -> float:
    if not zero > _NOTHING:  # the prompt does not matter, or (NaN) nothing may be removed: the metric is undefined
        return float("nan")
    return max(0.0, 1 - distance / zero) if name == "soft_ns" else distance / zero


def _shuffles(attribution: Attribution, seed: int, n: int) -> list[np.ndarray]:
    """Draw random orders of the units, the same for all methods."""
    generator = generator_for(seed, attribution.passage.ids, "shuffle")
    return [generator.permutation(len(attribution.passage.members)) for _ in range(n)]


def _with_control(
    scored: Scored,
    metric: str,
    fraction: float | None,
    value: float,
    chance: np.ndarray,
    *,
    means: Sequence[float] | None = None,
    unclipped: float = float("nan"),
    value_se: float,
) -> Iterator[Measured]:
    """Yield a method's row, and a control row that compares half of the shuffles with the other half.

    Args:
        scored: the method.
        metric: its name.
        fraction: of the tokens, if the metric has one.
        value: of the method.
        chance: of every shuffle.
        means: of all shuffles, of every other one and of the rest, if these are not the means of their values.
        unclipped: see `FAITHFULNESS`.
        value_se: the value's standard error.
    """
    every, one_half, other_half = means or (chance.mean(), chance[::2].mean(), chance[1::2].mean())
    shuffled = tuple(map(float, chance))
    yield Measured(scored, metric, fraction, value, every, scored.control, unclipped, value_se, shuffled)
    if scored.control == "none":
        yield Measured(scored, metric, fraction, one_half, other_half, "permuted")


def _mean_and_error(draws: np.ndarray) -> tuple[float, float]:
    """Return the mean of draws and its standard error, NaN if there is only one."""
    return float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(len(draws))) if len(draws) > 1 else float("nan")
