"""Say what the metrics of a frame's targets cost, by the number of texts that they ask for."""

from __future__ import annotations

from interp.authoring import Run, say_cost
from probes.attribution.faithfulness._attributions import Attribution
from probes.attribution.faithfulness._metrics import SOFT, Measurement

# The share of the tokens of texts with replaced sets that is read where what they begin with alike is read once.
_ALIKE = 0.5


def say_cost_of(run: Run, measurement: Measurement) -> None:
    """Say what the texts of all targets cost, without those that the search for "naopc" adds."""
    given = measurement.replacement
    embedded = isinstance(given, str) and given in ("mask_embedding", "zero_embedding")
    share = 1.0 if embedded or run.subject.device.type != "cpu" else _ALIKE
    read, n_texts, n_tokens = 0.0, 0, 0
    for attribution in measurement.attributions:
        length = len(attribution.passage.ids)
        hard, soft = n_texts_of(measurement, attribution)
        read += (share * hard + soft) * length
        n_texts += hard + soft
        n_tokens += length
    say_cost(run, passes=read / n_tokens, n_tokens=n_tokens, unembedded=n_texts)


def n_texts_of(measurement: Measurement, attribution: Attribution) -> tuple[int, int]:
    """Count the texts of a target's hard metrics and of its soft ones."""
    hard = soft = 0
    if set(measurement.metrics) - set(SOFT) and len(attribution.passage.members):
        rankings, shuffles = measurement.rankings(attribution)
        drawn = measurement.replacement if isinstance(measurement.replacement, str) else "unigram"
        hard = len(measurement.sets([*rankings, *shuffles])) * (measurement.n_samples if drawn == "unigram" else 1)
    if set(measurement.metrics) & set(SOFT):
        # Of scores and ranks, kept and dropped, own and shuffled; and without any token.
        soft = 8 * len(attribution.scored) * measurement.n_draws + 2
    return hard, soft
