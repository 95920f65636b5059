"""Claims read through lenses: the logit lens, the tuned lens and iterative inference."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.findings import Claim, Comparison, NotApplicable
from interp.shipped import read_texts
from interp.stats import pseudo_values
from interp.subject import Subject
from probes._detection import auc, uncertainty_scores
from probes._lens import PAPER
from probes.claims._per_prompt import CORRELATION, N_STORIES, SHARE, STORIES, mean_of, rank_correlation
from probes.iterative_inference import PAPER as ITERATIVE_PAPER
from probes.logit_lens import logit_lens
from probes.tuned_lens import load_tuned_lens, tuned_lens

TUNED_PAPER = (
    "Belrose et al. (2023), Eliciting Latent Predictions from Transformers with the Tuned Lens, arXiv 2303.08112"
)
_TRAINED_ON = 100
_STEPS = 10  # from least squares: 30 more take another 7 % off the divergence of the shipped model's lens
_N_READ = 200  # where all prompts agree, as on `approach`, only many of them settle that nearly all would


def tuned_and_logit(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Read texts through the logit lens, and the tuned lens that ships for the model or is trained on other stories."""
    lens = load_tuned_lens("reference")
    if lens.fingerprint != subject.fingerprint:
        corpus = read_texts(STORIES)["text"].iloc[-_TRAINED_ON:].tolist()
        lens = tuned_lens(subject, corpus, steps=_STEPS, seed=seed, truncate=truncate)
    return logit_lens(subject, texts, lens=lens, truncate=truncate)


def _last_layer(frame: pd.DataFrame) -> int:
    """The output's layer.

    Raises:
        NotApplicable: there are too few for a course over layers, or for three quarters of the depth.
    """
    last = int(frame["layer"].max())
    if last < 4:
        raise NotApplicable(f"the model has {last} blocks; a course over its depth needs four.")
    return last


def _by_layer(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean per prompt and layer of a column, the output itself left out."""
    kept = frame[(frame["pos"] > 0) & (frame["layer"] < _last_layer(frame))]
    return kept.groupby(["prompt_id", "layer"])[value].mean().reset_index()


def approach(frame: pd.DataFrame) -> pd.Series:
    """Spearman's correlation of depth and KL(output || lens), per prompt; -1 where every layer is nearer."""
    return rank_correlation(_by_layer(frame, "kl_to_final"), "layer", "kl_to_final")


def late_agreement(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Share of positions where the lens says what the model says, at three quarters of the depth; control: layer 0."""
    last = _last_layer(frame)
    late, first = (mean_of(frame[frame["layer"] == layer], "agrees_final") for layer in (-(-3 * last // 4), 0))
    return late, first


def _kl(frame: pd.DataFrame, lens: str, layers: range) -> pd.Series:
    return mean_of(frame[(frame["lens"] == lens) & frame["layer"].isin(layers)], "kl_to_final")


def tuned_is_nearer(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """KL(output || lens) in nats over layers 1..L-1: the tuned lens, against the logit lens."""
    inside = range(1, int(frame["layer"].max()))
    return _kl(frame, "tuned", inside), _kl(frame, "logit", inside)


def tuned_reads_layers(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The same of layers 1..L/2, against the tuned lens of layer 0, which has read the token alone."""
    early = range(1, int(frame["layer"].max()) // 2 + 1)
    return _kl(frame, "tuned", early), _kl(frame, "tuned", range(1))


def _detector(frame: pd.DataFrame, score: str) -> pd.Series:
    scores = uncertainty_scores(frame).set_index("prompt_id")
    n_wrong = int((~scores["correct"]).sum())
    if min(n_wrong, len(scores) - n_wrong) < 6:
        raise NotApplicable(f"{n_wrong} of {len(scores)} answers are wrong: an AUC needs six or more of either kind.")
    return pseudo_values(scores, lambda some: auc(some[score].to_numpy(), ~some["correct"].to_numpy()))


def confidence(frame: pd.DataFrame) -> pd.Series:
    """AUC of the output's loss of the generated token for telling wrong answers, as pseudo-values per prompt."""
    return _detector(frame, "output_loss")


def trajectory(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """AUC of that loss averaged over all layers, against the output's alone."""
    return _detector(frame, "area"), confidence(frame)


def _lens(
    id: str, statement: str, says: str, statistic: Any, note: str, bounds: tuple[float, float], **comparison: Any
) -> Claim:
    return Claim(
        id=f"lens.{id}",
        statement=statement,
        paper=PAPER,
        says=says,
        probe="logit_lens",
        texts=STORIES,
        n_texts=_N_READ,
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note=note,
    )


def _tuned(id: str, statement: str, says: str, statistic: Any, **comparison: Any) -> Claim:
    return Claim(
        id=f"tuned_lens.{id}",
        statement=statement,
        paper=TUNED_PAPER,
        says=says,
        probe="logit_lens",
        measure=tuned_and_logit,
        texts=STORIES,
        n_texts=N_STORIES,
        statistic=statistic,
        comparison=Comparison(**comparison),
        note=f"The lens that ships for the shipped model, 40 steps from least squares; for another model {_STEPS} such "
        f"steps on the last {_TRAINED_ON} shipped stories. The paper trains for 250 steps of the Pile.",
    )


def _iterative(id: str, statement: str, says: str, statistic: Any, note: str, **comparison: Any) -> Claim:
    return Claim(
        id=f"iterative.{id}",
        statement=statement,
        paper=ITERATIVE_PAPER,
        says=says,
        probe="iterative_inference",
        texts="prompts",
        statistic=statistic,
        comparison=Comparison(**comparison),
        note=note,
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
        "In the later layers the lens mostly shows the token that the model will say. Shown by plots; there is no "
        "control, and here stands the lens of layer 0.",
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
        "what the map knows must be told from what the layer knows. The control is the tuned lens of layer 0.",
        tuned_reads_layers,
        below="control",
    ),
    _iterative(
        "confidence",
        "the output's confidence tells wrong answers with an AUC of 0.9",
        "On idioms without their last word, GPT-2 XL's loss of the token it generates tells wrong completions from "
        "right ones with an AUC of 0.92. This is the last layer's confidence, and the paper has no other detector as a "
        "control.",
        confidence,
        "120 short prompts of other kinds; the paper's idioms are not public. The figure is from secondary sources.",
        at_least=0.9,
    ),
    _iterative(
        "trajectory",
        "the loss along all layers tells wrong answers better than the output's alone",
        "The rate at which the residual converges is said to tell uncertainty. The control, ours, is the detector that "
        "reads the last layer only: without it, all that is shown is that confidence is informative.",
        trajectory,
        "The mean of the generated token's loss over layers stands for the rate of convergence, which the abstract "
        "leaves open.",
        above="control",
    ),
)
