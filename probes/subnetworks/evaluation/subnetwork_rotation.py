"""Angles by which each layer's residuals are turned away from the embeddings and towards the output.

Chang and Bergen see a rotation in the first block, which bigram subnetworks keep. The angle is the median over the
eigenvalues of a linear map between layers. A map without any structure also gives 90 degrees: compare the controls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    collect,
    columns,
    held_out_prompts,
    probe,
    require_fitted,
    running_text,
    whole_frame,
)
from probes import papers
from probes.subnetworks._examples import with_subnetwork
from probes.subnetworks.evaluation import plots
from probes.subnetworks.evaluation._conditions import (
    SubnetworkCondition,
    Subnetworks,
    alone,
    by_sparsity,
    digests,
    full,
)
from probes.subnetworks.evaluation._ridge import median_angle
from probes.subnetworks.evaluation._state_moments import Reading, StateMoments
from probes.subnetworks.evaluation.subnetwork_surprisal import CONDITION, KEPT, SPARSITY
from probes.subnetworks.subnetwork import Subnetwork

TARGETS = ("in", "out", "second_last")
_OTHER = ("lens_r", "recall_1", "recall_5", "recall_10")

ROTATION = Schema(
    probe="subnetwork_rotation",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per condition, control, layer and target",
    columns=columns(
        "model",
        "run_id",
        CONDITION,
        "control",
        SPARSITY,
        KEPT,
        "layer",
        Column("target", "str", "in: the token's embedding; out: the last layer's residual; second_last: one before"),
        Column("angle", "float", "median over the eigenvalues of the map to it; 90 without any structure", "degrees"),
        Column("lens_r", "float", "out: Pearson's r of surprisals through the map with the output's", missing=True),
        Column("recall_1", "float", "in: share of tokens nearest to the mapped state", "0..1", 0.0, 1.0, True),
        Column("recall_5", "float", "in: share of tokens among the nearest 5", "0..1", 0.0, 1.0, True),
        Column("recall_10", "float", "in: share of tokens among the nearest 10", "0..1", 0.0, 1.0, True),
    ),
)


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    return {**with_subnetwork(subject, texts), **running_text(subject, texts)}


@probe(ROTATION, plot=plots.subnetwork_rotation, summarise=whole_frame, example=_example)
def subnetwork_rotation(
    subject: Source,
    subnetwork: Subnetworks,
    texts: Texts,
    *,
    alpha: float = 1.0,
    held_out: float = 0.2,
    tokens_per_dim: float = 20.0,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure the angles of linear maps from each layer to the embedding and the last layers, and what they recover.

    Args:
        subject: anything `interp.load` takes.
        subnetwork: a `Subnetwork`, a result of `find_subnetwork`, or subnetworks by their sparsity.
        texts: anything `Subject.tokens` takes; all tokens except the first of each prompt are pooled.
        alpha: of the ridge regressions, in units of the residuals' sum of squares; intercepts are not penalised.
        held_out: share of the prompts, drawn by `seed`, on which lens and recall are measured.
        tokens_per_dim: the fewest tokens in the fit per dimension of the residual stream.
        seed: of held-out prompts and controls.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per condition ("full", "only"), layer 0..L, target and control. Controls: "random", another subnetwork
        with as many weights in every matrix; "unrelated", the same states and targets paired at random, which gives
        the angle without any relation.

    Raises:
        InputError: there are too few tokens or prompts, or an argument cannot be used.
        ModelError: a subnetwork belongs to another model, or the token embedding and the residual stream differ in
            width.

    Cost: one forward pass per condition, another over the held-out prompts with 2 L + 2 unembeddings; 3 d²
    float64 multiplications per token and layer, and 4 d² numbers of memory per layer.

    Pitfall: a map without any structure has an angle of 90 degrees too.

    >>> import interp
    >>> from interp.planted.bigrams import bigram
    >>> subject = interp.load(bigram(vocab=6).model)
    >>> ids = torch.randint(6, (10, 20), generator=torch.Generator().manual_seed(0))
    >>> frame = subnetwork_rotation(subject, Subnetwork.full(subject), ids)
    >>> frame.query("target == 'out' and layer == 1 and control == 'none'").angle.tolist()
    [0.0, 0.0]
    """
    found = by_sparsity(subnetwork)
    settings = RotationSettings(alpha, held_out, tokens_per_dim)
    run = rotation_run(subject, found, texts, settings, seed=seed, truncate=truncate)
    fresh = held_out_prompts(run.tokens.ids, held_out, seed)
    parts: list[dict[str, Any]] = []
    for condition in rotation_conditions(run.subject, found, seed):
        with condition.applied() as model:
            moments = StateMoments(run, fresh)
            collect(run, [moments], model)
            parts += rotation_rows(run, condition, model, moments, settings, fresh)
    return run.frame(parts)


@dataclass(frozen=True)
class RotationSettings:
    """A checked set of the arguments of `subnetwork_rotation` that decide its numbers."""

    alpha: float = 1.0
    held_out: float = 0.2
    tokens_per_dim: float = 20.0

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not 0 < self.held_out < 1:
            raise InputError(
                f"alpha={self.alpha}, held_out={self.held_out}: give a ridge of 0 or more, and a share between 0 and 1."
            )


def rotation_run(
    subject: Source,
    found: Mapping[float, Subnetwork],
    texts: Texts,
    settings: RotationSettings,
    *,
    seed: int,
    truncate: bool,
) -> Run:
    """Start the run of `subnetwork_rotation`; refuses too few tokens."""
    parameters = asdict(settings) | {"subnetworks": digests(found)}
    run = Run(ROTATION, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    for one in found.values():
        one.check(run.subject)
    require_fitted(run, held_out=settings.held_out, tokens_per_dim=settings.tokens_per_dim, seed=seed)
    return run


def rotation_conditions(
    subject: Subject, found: Mapping[float, Subnetwork], seed: int
) -> Iterator[SubnetworkCondition]:
    """Yield the model, its subnetworks, and random ones."""
    yield full(subject)
    yield from alone(subject, found, seed, structured=False)


def is_rotated(condition: SubnetworkCondition) -> bool:
    """Return whether a condition is one of `rotation_conditions`."""
    return condition.name == "full" or (condition.name == "only" and condition.control in ("none", "random"))


def rotation_rows(
    run: Run,
    condition: SubnetworkCondition,
    model: Subject,
    moments: StateMoments,
    settings: RotationSettings,
    fresh: Tensor,
) -> list[dict[str, Any]]:
    """Return the rows of one condition, from its moments and another forward pass over the held-out prompts.

    Args:
        run: the probe's run.
        condition: the condition that was run.
        model: the condition's model.
        moments: of its states.
        settings: of the probe.
        fresh: the prompts to which no map is fitted, bool [n_prompts].
    """
    alpha, layers = settings.alpha, range(len(moments.fitted))
    maps = [moments.maps(layer, alpha) for layer in layers]
    read = Reading(model, maps).collect(run, fresh)
    rows: list[dict[str, Any]] = []
    for layer in layers:
        for target in TARGETS:
            shown = [name for name in _OTHER if name.startswith({"in": "recall", "out": "lens"}.get(target, "none"))]
            values = dict.fromkeys(_OTHER, np.nan) | {name: float(read[name][layer]) for name in shown}
            angle = median_angle(maps[layer][target].coefficients)
            rows.append(condition.columns() | {"layer": layer, "target": target, "angle": angle} | values)
    if condition.control == "none":
        generator = torch.Generator().manual_seed(run.seed or 0)
        for layer in layers:
            for target in TARGETS:
                angle = median_angle(moments.unrelated(layer, target, alpha, generator))
                facts = condition.columns() | {"control": "unrelated", "layer": layer, "target": target}
                rows.append(facts | {"angle": angle} | dict.fromkeys(_OTHER, np.nan))
    return rows
