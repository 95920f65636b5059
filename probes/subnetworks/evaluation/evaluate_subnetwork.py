"""All evaluations of a bigram subnetwork in Chang and Bergen (2025), from shared passes, and what is evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from interp.authoring import Source, Stream, Texts, checked, collect, held_out_prompts
from probes.subnetworks.bigram_model import BigramModel
from probes.subnetworks.evaluation._conditions import RandomModels, Subnetworks, by_sparsity
from probes.subnetworks.evaluation._evidence import evidence
from probes.subnetworks.evaluation._linear_bigrams import N_STEPS
from probes.subnetworks.evaluation._state_moments import StateMoments
from probes.subnetworks.evaluation._surprisals import SurprisalStream, with_counts
from probes.subnetworks.evaluation.kept_weights import kept_weights
from probes.subnetworks.evaluation.subnetwork_covariance import covariance_columns, covariance_run
from probes.subnetworks.evaluation.subnetwork_overlap import subnetwork_overlap
from probes.subnetworks.evaluation.subnetwork_rotation import (
    RotationSettings,
    is_rotated,
    rotation_rows,
    rotation_run,
)
from probes.subnetworks.evaluation.subnetwork_surprisal import surprisal_conditions, surprisal_run, without_blocks
from probes.subnetworks.subnetwork import Subnetwork

_N_DROPPED = 1  # directions, as `subnetwork_covariance` drops by default


@checked
@dataclass(frozen=True)
class Evaluation:
    """The frames of an evaluation, each as its own probe returns it, with `.interp.summary()` and `.interp.plot()`.

    Attributes:
        surprisal: of `subnetwork_surprisal`: the subnetwork alone, the model without it, and all controls.
        kept: of `kept_weights`, by component.
        rotation: of `subnetwork_rotation`.
        covariance: of `subnetwork_covariance`.
        overlap: of `subnetwork_overlap`; None if there was no other subnetwork to compare with.
    """

    surprisal: pd.DataFrame
    kept: pd.DataFrame
    rotation: pd.DataFrame
    covariance: pd.DataFrame
    overlap: pd.DataFrame | None = None

    def summary(self) -> pd.DataFrame:
        """Return one row per subnetwork and claim: its value, the control to beat, and whether this is evidence.

        `evidence` is "yes" if the interval is clear of the control, "no" if it is not, "not measured" if the control
        was not run, and "description" for values without an interval.
        """
        return evidence(self.surprisal, self.rotation, self.covariance, self.overlap)

    def selected(self, margin: float = 0.04) -> float:
        """Return the sparsity the paper would report: the fewest weights within `margin` of the best correlation."""
        summary = self.surprisal.interp.summary()
        alone = summary[(summary["condition"] == "only") & (summary["control"] == "none")]
        near = alone[alone["r"] >= alone["r"].max() - margin]
        return float(near.loc[near["kept"].idxmin(), "sparsity"])


@checked
def evaluate_subnetwork(
    subject: Source,
    subnetwork: Subnetworks,
    texts: Texts,
    *,
    bigrams: BigramModel | None = None,
    optimal: Subnetwork | None = None,
    random_models: RandomModels | None = None,
    linear_steps: int = N_STEPS,
    tokens_per_dim: float = 20.0,
    seed: int = 0,
    truncate: bool = False,
) -> Evaluation:
    """Run every evaluation of a subnetwork, with shared forward passes.

    Args:
        subject: anything `interp.load` takes.
        subnetwork: a `Subnetwork`, a result of `find_subnetwork`, or subnetworks by their sparsity.
        texts: anything `Subject.tokens` takes; two prompts or more.
        bigrams: the bigram model to compare with; None takes that of the reference model's corpus.
        optimal: the subnetwork found with target="model", to measure the overlap with.
        random_models: see `subnetwork_surprisal`. They are not trained here: finding a subnetwork in an untrained model
            takes as long as finding this one did, and the failure of a shorter run proves nothing. Without them, the
            summary marks the comparison with masks in an untrained model as "not measured".
        linear_steps: see `subnetwork_surprisal`.
        tokens_per_dim: see `subnetwork_rotation`.
        seed: of all controls and of the held-out prompts.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        An `Evaluation`.

    Raises:
        InputError: there are too few tokens or prompts, or an argument cannot be used.
        ModelError: a subnetwork or a bigram model belongs to another model.

    Cost: see the probes. They share all passes except one over the held-out prompts.

    >>> import interp, torch
    >>> from interp.planted.bigrams import bigram
    >>> planted = bigram(vocab=6)
    >>> subject, bigrams = interp.load(planted.model), BigramModel.from_transition(planted.truth.transition)
    >>> ids = torch.randint(6, (10, 20), generator=torch.Generator().manual_seed(0))
    >>> evaluation = evaluate_subnetwork(subject, Subnetwork.full(subject), ids, bigrams=bigrams, linear_steps=1)
    >>> evaluation.summary().value.round(3).tolist()[0]
    1.0
    """
    found = by_sparsity(subnetwork)
    common: dict[str, Any] = {"seed": seed, "truncate": truncate}
    run, bigrams = surprisal_run(
        subject, found, texts, bigrams=bigrams, random_models=random_models, linear_steps=linear_steps, **common
    )
    settings = RotationSettings(tokens_per_dim=tokens_per_dim)
    rotation = rotation_run(run.subject, found, run.tokens, settings, **common)
    covariance = covariance_run(run.subject, found, run.tokens, n_dropped=_N_DROPPED, **common)
    fresh = held_out_prompts(run.tokens.ids, settings.held_out, seed)
    kept = kept_weights(run.subject, subnetwork)
    overlap = None if optimal is None else subnetwork_overlap(run.subject, subnetwork, optimal)
    parts: dict[str, list[dict[str, Any]]] = {"surprisal": [], "rotation": [], "covariance": []}
    for condition in surprisal_conditions(run.subject, found, random_models, seed):
        with condition.applied() as model:
            streams: list[Stream] = [SurprisalStream(run, condition, model, parts["surprisal"])]
            if not is_rotated(condition):
                collect(run, streams, model)
                continue
            moments = StateMoments(rotation, fresh)
            collect(run, [*streams, moments], model)
            parts["rotation"] += rotation_rows(rotation, condition, model, moments, settings, fresh)
            parts["covariance"].append(covariance_columns(condition, moments, _N_DROPPED))
    parts["surprisal"] += without_blocks(run, bigrams, linear_steps)
    return Evaluation(
        run.frame(with_counts(parts["surprisal"], bigrams)),
        kept,
        rotation.frame(parts["rotation"]),
        covariance.frame(parts["covariance"]),
        overlap,
    )
