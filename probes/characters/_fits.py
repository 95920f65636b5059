"""The fits of one seed: the words' features and their controls, each letter's samples, and the probe's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from interp.authoring import UnknownName
from probes.characters._batched_mlp import Examples, MLPFit, Training, fit_mlps, n_steps_of
from probes.characters._lemma_splits import Split, balanced
from probes.characters._letters import Asked
from probes.characters._linear_probes import fit_logistic, fit_ridge

Control: TypeAlias = Literal["random", "permuted", "norm_matched", "shuffled_labels", "length_only", "frequency_only"]
ProbeKind: TypeAlias = Literal["mlp", "logistic", "ridge"]
CONTROLS: tuple[Control, ...] = get_args(Control)

_RANDOM_STD = 0.01  # standard deviation of the paper's control
_BINS = 16  # of length and frequency
_BINNED = ("length_only", "frequency_only")


@dataclass(frozen=True)
class Sample:
    """One letter's words in both parts of a split: places of words, int64."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class ProbeCondition:
    """Features of every word [n], and whether the training labels are shuffled.

    Attributes:
        control: "none" for the measurement itself.
        table: float32 [m, d]; conditions with the same table are trained together.
        examples: row of the table and factor of each word [n].
        shuffled: permute the training labels.
    """

    control: str
    table: Tensor
    examples: Examples
    shuffled: bool = False

    def features(self, places: np.ndarray) -> Tensor:
        """Return the features [len(places), d] of words."""
        device = self.table.device
        rows = torch.from_numpy(self.examples.rows[places]).to(device)
        return self.table[rows] * torch.from_numpy(self.examples.scale[places]).to(device)[:, None]


@dataclass(frozen=True)
class FitScores:
    """One probe's scores of one letter's test words; a positive score means yes."""

    control: str
    letter: int
    n_train: int
    answer: np.ndarray
    score: np.ndarray


class Conditions:
    """The measurement and its controls over one matrix of features; Gaussian vectors are redrawn in place per seed.

    Args:
        matrix: features of the words, float32 [n, d].
        lengths: letters per word, int64 [n].
        frequencies: how common each word is, [n]; only their order counts.
        controls: names of the controls.
    """

    def __init__(self, matrix: Tensor, lengths: np.ndarray, frequencies: np.ndarray, controls: Sequence[str]) -> None:
        from scipy.stats import rankdata

        for control in controls:
            if control not in CONTROLS:
                raise UnknownName("control", control, CONTROLS)
        self.n, d = matrix.shape
        self.controls = controls
        twin = self.n if {"random", "norm_matched"} & set(controls) else 0
        self.table = torch.empty(self.n + twin, d, device=matrix.device)
        self.table[: self.n] = matrix
        self.of_length = _one_hot(lengths.clip(max=_BINS) - 1).to(matrix.device)
        self.of_frequency = _one_hot((rankdata(frequencies) - 1).astype(np.int64) * _BINS // self.n).to(matrix.device)

    def of_seed(self, seed: int) -> list[ProbeCondition]:
        """Return the measurement and its controls; this overwrites the conditions of earlier seeds."""
        every, ones = np.arange(self.n), np.ones(self.n, dtype=np.float32)
        own = ProbeCondition("none", self.table, Examples(every, ones))
        conditions = [own]
        if len(self.table) > self.n:
            twin = self.table[self.n :]
            generator = torch.Generator().manual_seed(seed)
            for start in range(0, self.n, 4096):  # drawn on the CPU, so that all devices get the same
                rows = twin[start : start + 4096]
                rows.copy_(torch.randn(rows.shape, generator=generator))
        for control in self.controls:
            if control == "random":
                examples = Examples(every + self.n, _RANDOM_STD * ones)
            elif control == "norm_matched":
                ratio = self.table[: self.n].norm(dim=1) / twin.norm(dim=1)
                examples = Examples(every + self.n, ratio.cpu().numpy())
            elif control == "permuted":
                examples = Examples(np.random.default_rng([seed, 1]).permutation(self.n), ones)
            else:
                examples = own.examples
            table = {"length_only": self.of_length, "frequency_only": self.of_frequency}.get(control, self.table)
            conditions.append(ProbeCondition(control, table, examples, control == "shuffled_labels"))
        return conditions


def _one_hot(bins: np.ndarray) -> Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(bins), _BINS).float()


def draw_samples(asked: Asked, split: Split, seed: int, *, cut: bool) -> dict[int, Sample]:
    """Draw balanced samples by number of the letter, without letters for which a part lacks one of the two answers."""
    samples = {}
    for letter in range(len(asked.letters)):
        positive, eligible = asked.drawn[letter], asked.eligible[letter]
        train, test = (balanced(part, positive, eligible, cut=cut) for part in (split.train, split.test))
        if all(len(np.unique(asked.answer[letter, part])) == 2 for part in (train, test)):
            # Shuffled once: the paper does not reshuffle between epochs either.
            mixed = np.random.default_rng([seed, 2, *_key(asked.letters[letter])]).permutation(train)
            samples[letter] = Sample(mixed, test)
    return samples


def score(
    probe: ProbeKind,
    conditions: Sequence[ProbeCondition],
    asked: Asked,
    split: Split,
    samples: dict[int, Sample],
    *,
    seed: int,
    training: Training,
    memory: int,
    advance: Callable[[int], object],
) -> Iterator[FitScores]:
    """Fit the probe to every letter under every condition and score its test words.

    `advance` is called with what has been done in between, of `work` in all.
    """
    if probe == "ridge":
        yield from _score_ridge(conditions, asked, split, samples, seed)
        advance(1)
        return
    learnt = {
        (condition.control, letter): _labels(
            asked.answer[letter, sample.train], condition.shuffled, seed, asked.letters[letter]
        )
        for condition in conditions
        for letter, sample in samples.items()
    }
    found: dict[tuple[str, int], np.ndarray] = {}
    if probe == "logistic":
        for condition in conditions:
            for letter, sample in samples.items():
                labels = learnt[condition.control, letter]
                train, test = condition.features(sample.train), condition.features(sample.test)
                found[condition.control, letter] = fit_logistic(train, labels, test)
                advance(1)
    else:
        for table in {id(condition.table): condition.table for condition in conditions}.values():
            jobs = {
                (condition.control, letter): _fit(condition, sample, learnt[condition.control, letter], draw)
                for letter, sample in samples.items()
                for draw in [_seed_of(seed, asked.letters[letter])]
                for condition in conditions
                if condition.table is table
            }
            counted = advance if table is conditions[0].table else _ignored
            logits = fit_mlps(table, list(jobs.values()), training, memory=memory, seed=seed, advance=counted)
            found |= dict(zip(jobs, logits, strict=True))
    for (control, letter), scores in found.items():
        sample = samples[letter]
        yield FitScores(control, letter, len(sample.train), asked.answer[letter, sample.test], scores)


def work(probe: ProbeKind, controls: Sequence[str], samples: dict[int, Sample], training: Training) -> int:
    """Return by how much `score` advances for one split: ridge by 1, others by fits, or by steps of an MLP's networks.

    Networks on sixteen bins, of length or frequency, take no time beside those on vectors, and are not counted.
    """
    if probe == "ridge":
        return 1
    if probe == "logistic":
        return (1 + len(controls)) * len(samples)
    n_large = 1 + sum(control not in _BINNED for control in controls)
    return n_large * sum(n_steps_of(len(sample.train), training) for sample in samples.values())


def _ignored(done: int) -> None:
    """Do nothing with a count."""


def _fit(condition: ProbeCondition, sample: Sample, labels: np.ndarray, draw: int) -> MLPFit:
    rows, scale = condition.examples.rows, condition.examples.scale
    train, test = (Examples(rows[part], scale[part]) for part in (sample.train, sample.test))
    return MLPFit(train, labels, test, draw)


def _score_ridge(
    conditions: Sequence[ProbeCondition], asked: Asked, split: Split, samples: dict[int, Sample], seed: int
) -> Iterator[FitScores]:
    place_in_test = np.empty(asked.answer.shape[1], dtype=np.int64)
    place_in_test[split.test] = np.arange(len(split.test))
    pool = np.sort(np.concatenate(split.folds))
    alike: dict[tuple[int, int], list[ProbeCondition]] = {}
    for condition in conditions:  # those with the same features share their Gram matrices
        alike.setdefault((id(condition.table), id(condition.examples)), []).append(condition)
    for together in alike.values():
        answers = np.stack([_answers(asked, pool, condition.shuffled, seed) for condition in together])
        scores = fit_ridge(together[0].features, split.folds, answers, asked.eligible, split.test)
        for condition, of_condition in zip(together, scores, strict=True):
            for letter, sample in samples.items():
                n_train = int(asked.eligible[letter, pool].sum())
                of_sample = of_condition[letter, place_in_test[sample.test]]
                yield FitScores(condition.control, letter, n_train, asked.answer[letter, sample.test], of_sample)


def _answers(asked: Asked, pool: np.ndarray, shuffled: bool, seed: int) -> np.ndarray:
    """Return the labels for ridge, bool [k, n]: the answers, shuffled among the words of `pool` if `shuffled`."""
    answers = asked.answer.copy()
    if shuffled:
        for number, letter in enumerate(asked.letters):
            able = pool[asked.eligible[number, pool]]
            answers[number, able] = _labels(answers[number, able], shuffled, seed, letter)
    return answers


def _labels(answer: np.ndarray, shuffled: bool, seed: int, letter: str) -> np.ndarray:
    return np.random.default_rng([seed, 3, *_key(letter)]).permutation(answer) if shuffled else answer


def _key(letter: str) -> list[int]:
    return [ord(character) for character in letter]


def _seed_of(seed: int, letter: str) -> int:
    """Derive a letter's seed, which does not depend on the other letters."""
    return int(np.random.SeedSequence([seed, 4, *_key(letter)]).generate_state(1)[0])


def macro_f1(answer: np.ndarray, answered: np.ndarray) -> float:
    """Return the mean of the F1 of both answers; a constant answer scores 1/3 if both are equally frequent.

    >>> macro_f1(np.array([True, False]), np.array([True, True]))
    0.3333333333333333
    """
    right_yes, right_no = np.sum(answer & answered), np.sum(~answer & ~answered)
    wrong = len(answer) - right_yes - right_no
    return float(right_yes / (2 * right_yes + wrong or 1) + right_no / (2 * right_no + wrong or 1))
