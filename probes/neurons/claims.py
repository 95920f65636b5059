"""Claims of Geva et al. (2022) and Häon et al. (2025): value vectors read as tokens, and neurons that steer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Subject
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import SHARE, n_blocks
from probes import papers
from probes.neurons.concept_neurons import concept_neurons
from probes.neurons.steering.steer import steer

CONCEPT = "time"
WORDS = "time day moment hour minute night morning evening week year month afternoon"
_ALPHAS = (1.0, 2.0, 4.0, 8.0)


def steered(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Steer with up to twenty neurons that promote words of time, chosen by half of the words."""
    neurons = concept_neurons(subject, WORDS.split(), n=20, concept=CONCEPT, seed=seed)
    return steer(
        subject, texts[["prompt_id", "text"]], neurons, alphas=_ALPHAS, alpha_unit="sd",
        controls=("random", "norm_matched", "direction"), seed=seed, truncate=truncate,
    )  # fmt: skip


def _strongest(frame: pd.DataFrame, control: str) -> pd.Series:
    rows = frame[(frame["control"] == control) & (frame["alpha"] == max(_ALPHAS))]
    if rows.empty:
        raise NotApplicable(f"there is no control {control!r} on this model.")
    return rows.groupby("prompt_id")["delta_log_prob"].mean()


def against(frame: pd.DataFrame, control: str) -> tuple[pd.Series, pd.Series]:
    """Return the change of log P(held-out words) in nats at the largest dose, and that of a control."""
    return _strongest(frame, "none"), _strongest(frame, control)


def dose_response(frame: pd.DataFrame) -> pd.Series:
    """Check for each prompt that every dose raises log P(held-out words) further than the dose before."""
    own = frame[frame["control"] == "none"].pivot(index="prompt_id", columns="alpha", values="delta_log_prob")
    own.insert(0, 0.0, 0.0)  # the unsteered model, from which changes are counted
    return (own.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).astype(float)


def readable(frame: pd.DataFrame) -> pd.Series:
    """Check for each neuron that its top token stands out further than 95 % of its block's random directions do."""
    top = frame[frame["k"] == 0]
    random = top[top["control"] == "random"].groupby("layer")["zscore"].quantile(0.95)
    own = top[top["control"] == "none"]
    return (own["zscore"] > own["layer"].map(random)).astype(float).reset_index(drop=True)


def later_reads_better(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the z-scores of neurons' top tokens in the second half of the blocks, and in the first half."""
    own = frame[(frame["k"] == 0) & (frame["control"] == "none")]
    layers = np.sort(own["layer"].unique())
    table = own.pivot(index="neuron", columns="layer", values="zscore")
    return table[layers[len(layers) // 2 :]].mean(axis=1), table[layers[: len(layers) // 2]].mean(axis=1)


def _steering(
    id: str,
    statement: str,
    says: str,
    statistic: Any,
    bounds: tuple[float, float] | None = None,
    **comparison: Any,
) -> Claim:
    return Claim(
        id=f"steering.{id}",
        statement=statement,
        paper=papers.TOKEN_BASIS,
        says=says,
        probe="steer",
        measure=steered,
        texts="prompts",
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note="The paper steers a robot's model by neurons chosen by hand; here neurons are chosen by half of the words "
        "of one concept (time), set to up to eight standard deviations of their own activation, and judged by the "
        "other half of the words.",
    )


def _reading(
    id: str, statement: str, says: str, statistic: Any, note: str, bounds: tuple[float, float] | None, **comparison: Any
) -> Claim:
    return Claim(
        id=f"neurons.{id}",
        statement=statement,
        paper=papers.VALUE_VECTORS,
        says=says,
        probe="neuron_tokens",
        parameters={"k": 1, "n_random": 256},
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        unit="neurons",
        note=note,
    )


def prediction_neurons(frame: pd.DataFrame) -> pd.Series:
    """Check for each neuron of the last half of the blocks that it is a prediction or suppression neuron."""
    rows = frame[frame["control"] == "none"]
    late = rows[rows["layer"] >= n_blocks(rows) // 2]
    return (late["kind"] != "neither").astype(float).reset_index(drop=True)


CLAIMS = (
    _steering(
        "raises_concept",
        "setting a concept's neurons raises held-out words of the concept more than random neurons do",
        "Setting the neurons of 'fast', 'slow' or 'up' to a constant moves the robot that way. The control is random "
        "neurons; here as many in the same blocks.",
        partial(against, control="random"),
        above="control",
    ),
    _steering(
        "norm_matched",
        "a concept's neurons raise held-out words more than neurons of like size and activity do",
        "Neurons of a concept move the robot, random ones do not. The paper's random neurons are not matched; the "
        "control here has the same norms of value vectors and mean activations.",
        partial(against, control="norm_matched"),
        above="control",
    ),
    _steering(
        "neurons_matter",
        "a concept's neurons raise held-out words more than their mean direction, as long, does",
        "The paper holds that the cluster of neurons carries the concept. It does not compare with adding a "
        "direction, which is the control here.",
        partial(against, control="direction"),
        above="control",
    ),
    _steering(
        "dose_response",
        "the effect grows with every dose, after nine prompts in ten",
        "Stronger coefficients should move the robot more; in the paper's plots some settings fall below the unsteered "
        "baseline, its control, and the curves are not monotone.",
        dose_response,
        SHARE,
        at_least=0.9,
    ),
    _reading(
        "readable",
        "more value vectors stand out in the token basis than random directions would",
        "Many value vectors, read as tokens, have a meaning to people: 10 to 60 % of ten vectors sampled per layer. "
        "The paper has no random directions as a control; here 5 % of random directions of like length pass, by "
        "construction.",
        readable,
        "Standing out is not meaning: the top token's z-score is above the 95th percentile of random directions'.",
        SHARE,
        above=0.05,
    ),
    _reading(
        "later_read_better",
        "value vectors of the second half read better than those of the first",
        "Patterns of lower layers are shallow and their values say little of the output; from the upper layers on, "
        "values agree with next tokens (Geva et al., 2021). The control is the first half of the blocks.",
        later_reads_better,
        "Neurons with the same number in every block are averaged, although neurons of different blocks are unrelated: "
        "the interval is that of two samples. It is over neurons, because there are too few blocks.",
        None,
        above="control",
    ),
    Claim(
        id="neurons.prediction",
        statement="over one in a hundred late neurons promotes or suppresses a few tokens",
        paper=papers.STAGES_OF_INFERENCE,
        says="Prediction and then suppression neurons, defined by the kurtosis (above 10) and skew of their output "
        "weights' cosines with the unembedding, grow in number in the second half of the depth. The paper has no "
        "control; here random directions, of which none passes, are in the probe's frame.",
        probe="neuron_kinds",
        statistic=prediction_neurons,
        comparison=Comparison(above=0.01),
        bounds=SHARE,
        unit="neurons",
        note="One in a hundred is our reading of 'there are such neurons'; the paper counts, and sets no bound. "
        "Neurons of one model are not independent draws.",
    ),
)
