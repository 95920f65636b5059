"""Claims about the logit lens, the tuned lens and the Jacobian lens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from interp.authoring import Subject, Tokens, dataset
from interp.data.cache import cache_folder
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import CORRELATION, N_POSITIONS, N_STORIES, SHARE, STORIES, mean_of, rank_correlation
from probes import papers
from probes.lens.jacobian_lens import jacobian_lens, load_jacobian_lens
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


_DERIVED_FROM = slice(200, 225)  # ten stories give the same lens: see datasets/lenses
_DERIVED_TOKENS = 64


def all_lenses(subject: Subject, texts: Tokens, *, seed: int, train: bool | str = False) -> pd.DataFrame:
    """Read texts through the logit lens, the Jacobian lens, and a tuned lens trained on the same tokens as that.

    Raises:
        NotApplicable: the model is another than the shipped one, and `train` is False; the message says what to do.
    """
    jacobian = load_jacobian_lens("reference")
    shipped = jacobian.fingerprint == subject.fingerprint
    if not shipped and train is False:
        raise NotApplicable(_HOW_TO.format(subject.d_model))
    whole = subject.tokens(dataset(STORIES)["text"].iloc[_DERIVED_FROM].tolist(), truncate=True)
    corpus = replace(whole, ids=[ids[:_DERIVED_TOKENS] for ids in whole.ids])
    if not shipped:
        folder = cache_folder("lenses", subject.fingerprint)
        jacobian = jacobian_lens(subject, corpus, max_tokens=_DERIVED_TOKENS, out=folder)
    tuned = tuned_lens(subject, corpus, seed=seed, **_TRAINING | {"held_out": 0.1})
    return logit_lens(subject, texts, lens=[tuned, jacobian])


_HOW_TO = (
    "the shipped Jacobian lens is of the model 'reference'; to make yours first, run interp findings --model MODEL "
    "--claim 'jacobian_lens.*' --train, which takes {0} backward passes over 1,600 tokens: on a CPU, of a model of a "
    "hundred million weights, an hour."
)


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


def _halves(frame: pd.DataFrame) -> tuple[range, range]:
    """Return the layers 1..L/2 and those after them, without the output."""
    last = _last_layer(frame)
    return range(1, last // 2 + 1), range(last // 2 + 1, last)


def jacobian_is_nearer(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return KL(output || Jacobian lens) in nats over layers 1..L-1; control: the logit lens."""
    inside = range(1, _last_layer(frame))
    return _kl(frame, "jacobian", inside), _kl(frame, "logit", inside)


def jacobian_beside_tuned(frame: pd.DataFrame, half: int) -> tuple[pd.Series, pd.Series]:
    """Return KL(output || Jacobian lens) in nats over one half of the depth; control: the tuned lens."""
    layers = _halves(frame)[half]
    return _kl(frame, "jacobian", layers), _kl(frame, "tuned", layers)


def jacobian_reads_layers(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return KL(output || Jacobian lens) in nats over layers 1..L/2; control: layer 0, of the token alone."""
    return _kl(frame, "jacobian", _halves(frame)[0]), _kl(frame, "jacobian", range(1))


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


def _jacobian(id: str, statement: str, says: str, statistic: Any) -> Claim:
    return Claim(
        id=f"jacobian_lens.{id}",
        statement=statement,
        paper=papers.JACOBIAN_LENS,
        says=says,
        probe="logit_lens",
        measure=all_lenses,
        texts=STORIES,
        n_texts=N_STORIES,
        n_positions=N_POSITIONS,
        statistic=statistic,
        comparison=Comparison(below="control"),
        note="Both lenses are made from the same 25 shipped stories of 64 tokens: the tuned lens by least "
        f"squares and {_TRAINING['steps']} steps. Transformer-lens calls a hundred texts of 128 tokens usable; ten of "
        "these stories already give the shipped model's lens the same KL within 5 %. KL is our measure: the paper "
        "reads words.",
    )


_BESIDE_TUNED = (
    "The Jacobian lens is proposed for reading what a layer disposes the model to say. Transformer-lens fits it beside "
    "the logit lens, and nobody reports its distance from the output with an interval. The control is a tuned lens "
    "trained on the same tokens: it minimises this KL, while the derivatives know nothing of it, so that only their "
    "being causal, not their being near, sets them apart where this fails."
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
    _jacobian(
        "nearer",
        "the Jacobian lens is nearer to the output than the logit lens",
        "Transport by the mean derivative is meant to mend what the logit lens cannot read: residuals in another basis "
        "than the last layer's. Transformer-lens calls the logit lens the special case of the identity. The control is "
        "the logit lens, over all layers between the embedding and the output.",
        jacobian_is_nearer,
    ),
    _jacobian(
        "nearer_than_tuned_early",
        "in the first half of the depth the Jacobian lens is nearer to the output than a tuned lens",
        _BESIDE_TUNED,
        partial(jacobian_beside_tuned, half=0),
    ),
    _jacobian(
        "nearer_than_tuned_late",
        "in the second half of the depth the Jacobian lens is nearer to the output than a tuned lens",
        _BESIDE_TUNED,
        partial(jacobian_beside_tuned, half=1),
    ),
    _jacobian(
        "reads_layers",
        "the Jacobian lens of early layers tells more than that of the embedding",
        "A lens is meant to show what a layer knows. The control is the Jacobian lens of layer 0, which has read only "
        "the token: what the mean derivative adds to that must come from the blocks below. Mean derivatives learn "
        "nothing from the output, so a map cannot know more than its layer does.",
        jacobian_reads_layers,
    ),
)
