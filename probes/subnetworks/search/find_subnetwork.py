"""Bigram subnetworks (Chang & Bergen, arXiv 2504.15471): a few weights that predict as bigrams do.

A mask over every weight of attention and MLP is trained by continuous sparsification, until the model with only the
kept weights predicts a target: the bigram distribution of the current token, or another. Finding such a mask proves
little, because it is possible in a random network too: correlation is not evidence, ablation is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from interp.authoring import (
    InputError,
    Run,
    Source,
    Store,
    Subject,
    Texts,
    UnknownName,
    checked,
    context_windows,
    kept_as,
    load,
    run_id,
    start_ids,
    warn,
)
from probes.subnetworks.bigram_model import BigramModel
from probes.subnetworks.search._batches import Contexts, DrawnContexts, TextContexts
from probes.subnetworks.search._forecast import Forecast
from probes.subnetworks.search._frames import COMPONENTS, LOG, component_columns, log_rows
from probes.subnetworks.search._parameters import MaskUnit
from probes.subnetworks.search._targets import BigramTarget, Distributions, GivenTarget, MaskTarget, ModelTarget
from probes.subnetworks.search._training import MaskSchedule, MaskTraining
from probes.subnetworks.subnetwork import Subnetwork

MaskRecipe: TypeAlias = Literal["fast", "paper", "cpu", "pilot"]
TargetName: TypeAlias = Literal["bigram", "unigram", "model"]

RECIPES: Mapping[MaskRecipe, MaskSchedule] = {
    "fast": MaskSchedule(lr=3e-3, growth=1.01, steps=800, batch=4, length=128, retries=0),
    "paper": MaskSchedule(lr=5e-5, growth=1.001, steps=15_000, batch=32, length=128, retries=3),
    "cpu": MaskSchedule(lr=1.3e-2, growth=1.0186, steps=450, batch=4, length=32, retries=0),
    "pilot": MaskSchedule(lr=1e-1, growth=1.15, steps=60, batch=4, length=64, retries=0),
}


@checked
@dataclass(frozen=True, eq=False, repr=False)
class FoundSubnetworks(Mapping[float, Subnetwork]):
    """Subnetworks by sparsity: `found[10]`.

    Attributes:
        log: log of the training, see `probes.subnetworks.search._frames.LOG`.
        components: kept weights by block and matrix, see `probes.subnetworks.search._frames.COMPONENTS`.
    """

    subnetworks: Mapping[float, Subnetwork]
    log: pd.DataFrame
    components: pd.DataFrame

    def __getitem__(self, sparsity: float) -> Subnetwork:
        if sparsity not in self.subnetworks:
            raise UnknownName("sparsity", f"{sparsity:g}", [f"{one:g}" for one in self.subnetworks])
        return self.subnetworks[sparsity]

    def __iter__(self) -> Iterator[float]:
        return iter(self.subnetworks)

    def __len__(self) -> int:
        return len(self.subnetworks)

    def __repr__(self) -> str:
        return f"FoundSubnetworks({{{', '.join(f'{key:g}: {value!r}' for key, value in self.subnetworks.items())}}})"


@checked
def find_subnetwork(
    subject: Source,
    bigrams: BigramModel,
    *,
    sparsity: float | Sequence[float] = (1, 10, 100),
    target: TargetName | Distributions = "bigram",
    unit: MaskUnit | None = None,
    recipe: MaskRecipe = "fast",
    steps: int | None = None,
    batch: int | None = None,
    length: int | None = None,
    lr: float | None = None,
    texts: Texts | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> FoundSubnetworks:
    """Train a mask over all weights of attention and MLP for each sparsity, all on the same batches.

    The loss is the cross-entropy with the target distribution, averaged over batch and positions, plus `sparsity` times
    the mean soft mask sigmoid(T m). m starts at 0, or far below for weights that are 0; T starts at 1 and grows with
    every step; the optimiser is AdamW. Training ends when fewer than one soft mask is between 0.1 and 0.9 per hundred
    above, or after the last step. Weights with m > 0 are kept. The model runs in evaluation mode (the paper's runs with
    its dropout).

    Args:
        subject: anything `interp.load` takes; a loaded subject is never changed.
        bigrams: of `bigram_model`, for the same tokenizer.
        sparsity: lambda, 0 or more; one or several.
        target: "bigram": the row of the current token; "unigram"; "model": the full model's prediction (the paper's
            "optimal" subnetworks); or a function from ids [batch, pos] to probabilities [batch, pos, V].
        unit: the weights kept or dropped together. "weight": each alone (the paper's); "row": the weights into an
            output of a matrix; "neuron": MLP neurons and attention heads; "head": attention heads and whole MLPs. None
            takes the recipe's: "row" for "cpu", otherwise "weight".
        recipe: "fast" (ours, for a laptop): AdamW at 3e-3, T times 1.01 in each of at most 800 steps with 4 sequences
            of 128 tokens. "paper": 5e-5, 1.001, 15,000, 32 and 128; an unstable training is repeated up to three times.
            "cpu" (ours, for real models without a GPU; over rows): 1.3e-2, 1.0186, 450, 4 and 32. "pilot" (ours, for a
            first look at coarse units): 1e-1, 1.15, 60, 4 and 64. What "cpu" finds is compared with single weights in
            datasets/subnetworks/README.md.
        steps: replaces the recipe's, for an earlier answer: the same annealing in fewer steps, with learning rate and
            growth of T larger in proportion.
        batch: sequences per step; replaces the recipe's.
        length: tokens per sequence; replaces the recipe's.
        lr: replaces the recipe's.
        texts: texts to train on, in windows of `length` tokens; the paper's is web text. None draws sequences from
            `bigrams`: the target depends only on the current token, and these sequences have its frequencies.
        out: a folder where the state is saved every minute and at the end; an interrupted call resumes from it.
        seed: of batches.

    Returns:
        `FoundSubnetworks`: `found[10]` is a `Subnetwork`, `found.log` and `found.components` are frames. A subnetwork
        that keeps no weight, or predicts the target worse than the full model, comes with a warning, and the latter
        also shows it. Of the target "model" every subnetwork does; then it does not.

    Raises:
        InputError: an argument cannot be used.
        UnknownName: there is no such target, unit or recipe.
        ModelError: the bigrams are of another tokenizer, or the model's weight matrices cannot be identified.
        NumericalError: the loss is no longer finite.

    Cost: a forward and a backward pass per step and sparsity; beyond the model and these passes, memory for the masked
    weights and three float32 copies of the masks. Memory and the least time of all steps are told before the first
    step, and the likely time after the third; a search of over an hour warns, at the first step if it can. A "fast"
    step of the shipped model takes a quarter second on two idle cores, a "cpu" step of a model of 135 million weights
    1.5 processor seconds.

    >>> from probes import bigram_model
    >>> bigrams = bigram_model("reference")
    >>> found = find_subnetwork("reference", bigrams, sparsity=10, unit="head", steps=2, batch=1, length=8)
    >>> found[10].n_total, len(found.log), sorted(found.components["control"].unique())
    (6291456, 2, ['none', 'size'])
    """
    loaded = load(subject)
    bigrams.check(loaded)
    chosen, schedule = settings_of(
        loaded, sparsity, recipe=recipe, steps=steps, batch=batch, length=length, lr=lr, out=out
    )
    unit = unit or ("row" if recipe == "cpu" else "weight")
    wanted, name = _target(loaded, bigrams, target)
    parameters = {"target": name, "unit": unit, "schedule": asdict(schedule), "bigrams": bigrams.digest}
    tokens = None if texts is None else context_windows(loaded, texts)
    run = Run(LOG, loaded, tokens, parameters=parameters | {"sparsity": chosen}, seed=seed)
    shape = schedule.batch, schedule.length

    def contexts(attempt: int) -> Contexts:
        if tokens is not None:
            return TextContexts(tokens, shape, seed=seed + attempt)
        return DrawnContexts(bigrams, shape, start=_start(loaded, bigrams), seed=seed + attempt)

    contexts(0)  # refuses texts that are too short before anything is trained
    forecast = Forecast(loaded, unit, schedule, len(chosen))
    found: dict[float, Subnetwork] = {}
    logs = []
    for one in chosen:
        # Keyed by what decides this training alone, so that a call with more sparsities finds the finished ones.
        key = run_id(LOG, loaded, tokens, parameters | {"sparsity": one}, seed)
        checkpoint = None if out is None else _checkpoint(out, kept_as(key, loaded, LOG))
        start = partial(
            MaskTraining, loaded, wanted, contexts, sparsity=one, unit=unit, schedule=schedule, checkpoint=checkpoint
        )
        with forecast.bar(one, start) as (training, report):
            training.run(report)
        origin = parameters | {"sparsity": one, "seed": seed, "data_sha256": None if tokens is None else tokens.digest}
        found[one] = _subnetwork(loaded, training, contexts(0), origin)
        _doubt(found[one], one)
        logs += log_rows(training.progress.log, one, name)
    log = run.frame(logs)
    parts = Run(COMPONENTS, loaded, tokens, parameters=run.parameters, seed=seed)
    return FoundSubnetworks(found, log, parts.frame(component_columns(found, name)))


def _doubt(found: Subnetwork, sparsity: float) -> None:
    """Warn of a subnetwork that is not what was searched for."""
    name, told = f"the subnetwork at sparsity {sparsity:g}", found.origin["held_out_nats"]
    if not found.n_kept:
        warn(f"{name} keeps no weight; lower sparsity= or lr=.")
    elif found.worse_by > 0:
        warn(
            f"{name} predicts its target worse than the full model, with a cross-entropy of {told['xent']:.3f} nats "
            f"against {told['xent_full_model']:.3f}; give it more steps=, or another lr= or sparsity=."
        )


def settings_of(
    subject: Subject,
    sparsity: float | Sequence[float],
    *,
    recipe: MaskRecipe = "fast",
    steps: int | None = None,
    batch: int | None = None,
    length: int | None = None,
    lr: float | None = None,
    out: str | Path | None = None,
    **others: Any,
) -> tuple[list[float], MaskSchedule]:
    """Return the sparsities and the schedule that the arguments of `find_subnetwork` ask for.

    Raises:
        InputError: a number is out of range, a sparsity is given twice, or `out` is not a folder to write to.
    """
    if out is not None:
        _checkpoint(out, "masks")
    several = [float(one) for one in np.atleast_1d(np.asarray(sparsity, dtype=float))]
    if not several or min(several) < 0 or len(set(several)) < len(several):
        raise InputError(f"sparsity={sparsity!r}: give one number of 0 or more, or several different ones.")
    schedule = RECIPES[recipe]
    given = {"steps": steps, "batch": batch, "length": length, "lr": lr}
    for name, value in given.items():
        if value is not None and not value > 0:
            raise InputError(f"{name}={value}: give a number above 0.")
    if length is not None and length > subject.n_ctx:
        raise InputError(f"length={length}: give at most the context, {subject.n_ctx}.")
    if steps is not None:
        schedule = schedule.within(steps)
    return several, replace(
        schedule,
        batch=batch or schedule.batch,
        length=length or min(schedule.length, subject.n_ctx),
        lr=lr or schedule.lr,
    )


def _target(subject: Subject, bigrams: BigramModel, target: TargetName | Distributions) -> tuple[MaskTarget, str]:
    if callable(target):
        return GivenTarget(target, bigrams.d_vocab), getattr(target, "__qualname__", repr(target))
    if target == "model":
        return ModelTarget(subject), target
    return BigramTarget(bigrams, subject.device, unigram=target == "unigram"), target


def _start(subject: Subject, bigrams: BigramModel) -> list[int]:
    """Return the tokens with which the model's tokenizer begins texts, if the bigrams have them."""
    start = start_ids(subject.tokenizer)
    return start if all(index < bigrams.d_vocab for index in start) else []


def _checkpoint(out: str | Path, name: str) -> Path:
    Store(out, name)  # refuses what is not a folder
    return Path(out) / f"{name}.masks.pt"


def _subnetwork(
    subject: Subject, training: MaskTraining, contexts: Contexts, parameters: Mapping[str, Any]
) -> Subnetwork:
    """Return the hard masks, with their loss and the full model's on sequences that were not trained on."""
    progress, ids = training.progress, contexts.batch(-1)
    full, entropy = training.measure(ids)
    origin = dict(parameters) | {
        "steps": progress.step,
        "decided": progress.stopped,
        "attempt": progress.attempt,
        "stable": training.stable,
        "seconds": round(progress.seconds, 1),
    }
    masked = Subnetwork(training.masks.hard(), subject.name, subject.fingerprint, {"made": "find_subnetwork", **origin})
    with masked.applied(subject):
        kept, _ = training.measure(ids)
    held_out = {"entropy": entropy, "xent": kept, "xent_full_model": full}
    return replace(masked, origin={**masked.origin, "held_out_nats": held_out})
