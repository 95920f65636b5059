"""Claims about the logit lens and the tuned lens."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.authoring import Subject, Tokens, dataset
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import CORRELATION, N_POSITIONS, N_STORIES, SHARE, STORIES, mean_of, rank_correlation
from probes import papers
from probes.lens.logit_lens import logit_lens
from probes.lens.tuned_lens import load_tuned_lens, tuned_lens

_TRAINED_ON = 100
_TRAINING: dict[str, Any] = {"steps": 4, "tokens_per_step": 128, "held_out": 0.04}
"""From least squares, which lower the divergence most; each step costs an unembedding per layer and token."""
_N_READ, _N_READ_OF_EACH = 200, 24  # if all prompts agree, as on `approach`, only many show that nearly all would


def tuned_and_logit(subject: Subject, texts: Tokens, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Read texts through the logit lens and a tuned lens: the shipped one, or one trained on other stories."""
    lens = load_tuned_lens("reference")
    if lens.fingerprint != subject.fingerprint:
        corpus = dataset(STORIES)["text"].iloc[-_TRAINED_ON:].tolist()
        lens = tuned_lens(subject, corpus, seed=seed, truncate=truncate, **_TRAINING)
    return logit_lens(subject, texts, lens=lens, truncate=truncate)


def _last_layer(frame: pd.DataFrame) -> int:
    """Return L, the output's layer.

    Raises:
        NotApplicable: there are too few layers for a course over them, or for three quarters of the depth.
    """
    last = int(frame["layer"].max())
    if last < 4:
        raise NotApplicable(f"the model has {last} blocks; test one of four or more, that has a course over its depth.")
    return last


def _by_layer(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Average a column per prompt and layer, without position 0 and without the output itself."""
    kept = frame[(frame["pos"] > 0) & (frame["layer"] < _last_layer(frame))]
    return kept.groupby(["prompt_id", "layer"])[value].mean().reset_index()


def approach(frame: pd.DataFrame) -> pd.Series:
    """Return Spearman's correlation of depth and KL(output || lens) per prompt; -1 if every layer is nearer."""
    return rank_correlation(_by_layer(frame, "kl_to_final"), "layer", "kl_to_final")


def late_agreement(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share of positions where the lens at 3/4 of the depth has the model's own token; control: layer 0."""
    last = _last_layer(frame)
    late, first = (mean_of(frame[frame["layer"] == layer], "agrees_final") for layer in (-(-3 * last // 4), 0))
    return late, first


def _kl(frame: pd.DataFrame, lens: str, layers: range) -> pd.Series:
    return mean_of(frame[(frame["lens"] == lens) & frame["layer"].isin(layers)], "kl_to_final")


def tuned_is_nearer(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return KL(output || tuned lens) in nats over layers 1..L-1; control: the logit lens."""
    inside = range(1, int(frame["layer"].max()))
    return _kl(frame, "tuned", inside), _kl(frame, "logit", inside)


def tuned_reads_layers(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return KL(output || tuned lens) in nats over layers 1..L/2; control: layer 0, which has read only the token."""
    early = range(1, int(frame["layer"].max()) // 2 + 1)
    return _kl(frame, "tuned", early), _kl(frame, "tuned", range(1))


def _lens(
    id: str, statement: str, says: str, statistic: Any, note: str, bounds: tuple[float, float], **comparison: Any
) -> Claim:
    return Claim(
        id=f"lens.{id}",
        statement=statement,
        paper=papers.LOGIT_LENS,
        says=says,
        probe="logit_lens",
        texts=STORIES,
        n_texts=_N_READ,
        n_positions=_N_READ_OF_EACH,
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note=note,
    )


def _tuned(id: str, statement: str, says: str, statistic: Any, **comparison: Any) -> Claim:
    return Claim(
        id=f"tuned_lens.{id}",
        statement=statement,
        paper=papers.TUNED_LENS,
        says=says,
        probe="logit_lens",
        measure=tuned_and_logit,
        texts=STORIES,
        n_texts=N_STORIES,
        n_positions=N_POSITIONS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        note="The shipped model has its shipped lens, 40 steps of 512 tokens from least squares; for another model, "
        f"one is fitted by least squares to the last {_TRAINED_ON} shipped stories and trained for "
        f"{_TRAINING['steps']} steps of {_TRAINING['tokens_per_step']} tokens. The paper takes 250 steps on the Pile.",
    )


CLAIMS = (
    _lens(
        "approach",
        "read through the logit lens, nearly every layer is nearer to the output",
        "The distributions read from the residual stream come closer to the output from layer to layer, in GPT-2. "
        "Shown by plots; there is no control.",
        approach,
        "'Nearly' is a rank correlation of depth and KL of -0.9 or below; the number is ours.",
        CORRELATION,
        at_most=-0.9,
    ),
    _lens(
        "late_agreement",
        "at three quarters of the depth the lens says the model's own token at most positions",
        "In the later layers the lens mostly shows the token that the model predicts. Shown by plots, without a "
        "control; here the control is the lens of layer 0.",
        late_agreement,
        "'Mostly' is more than half.",
        SHARE,
        above=0.5,
    ),
    _tuned(
        "nearer",
        "the tuned lens is nearer to the output than the logit lens",
        "With an affine map per layer, trained towards the output, the lens has a lower KL at every layer, and works "
        "where the logit lens fails. The control is the logit lens.",
        tuned_is_nearer,
        below="control",
    ),
    _tuned(
        "reads_layers",
        "the tuned lens of early layers tells more than that of the embedding",
        "The tuned lens is meant to show what a layer knows. Chang and Bergen (2025, appendix A) object that a linear "
        "map from the embeddings alone, trained alike, reaches a surprisal correlation of up to 0.94 with bigrams: "
        "what the map knows must be separated from what the layer knows. The control is the tuned lens of layer 0.",
        tuned_reads_layers,
        below="control",
    ),
)
