"""Phrase carriers: which of a phrase's tokens holds what the rest of the text reads of it, layer by layer.

All states of a phrase are replaced by those of a filler but one; the target's log-probability says how much of the
phrase that one state holds. The states of another phrase at the same places are the control. After Kaplan et al.
(2025), who ask it of the text encoders of image generators; here the model is causal and the answer is its next token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import (
    VOCABULARY,
    Column,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    columns,
    layers_of,
    load,
    probe,
    progress_bar,
    warn,
)
from interp.stats import bootstrap_over_prompts
from probes import papers
from probes.contexts.phrases import plots
from probes.contexts.phrases._kept import Variant, log_probs, variants
from probes.contexts.phrases._prompts import Phrases, Prompt, fillers, other_phrases, read_prompts

LEAST = 0.5
"""Nats between all states kept and none, below which nothing is left to recover."""

CARRIERS = Schema(
    probe="phrase_carriers",
    paper=papers.FOLLOW_THE_FLOW,
    rows="one per prompt, layer, set of kept states and control",
    columns=columns(
        *("model", "run_id", "prompt_id", "layer"),
        Column("kept", "str", "states of the phrase that are its own: 'all', 'one', 'others' (all but one) or 'none'"),
        Column("pos", "id", "position of that one", low=0, missing=True),
        Column("token_id", "id", "the token there", low=0, missing=True),
        Column("token", "str", "the token there, as text", missing=True),
        VOCABULARY["control"].with_(meaning="'none', or 'other': the kept states are those of another phrase"),
        "target_id",
        "target",
        VOCABULARY["log_prob"].with_(missing=False),
        Column(
            "recovered", "float", "log_prob between none kept (0) and all (1); missing where these are near",
            missing=True,
        ),
        Column(
            "left_at", "id", "the first layer from which less than half a nat is left to recover", low=0, missing=True
        ),
    ),
    summary_by=("layer", "control"),
    summary_of=("best", "carried"),
)  # fmt: skip


def best_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the best single state recovers of each prompt, `best`, and whether that is at least 0.8, `carried`.

    Prompts of which too little is left to recover at a layer are left out there.
    """
    one = frame[(frame["kept"] == "one") & frame["recovered"].notna()]
    keys = ["model", "run_id", "prompt_id", "layer", "control"]
    best = one.groupby(keys, observed=True)["recovered"].max().rename("best").reset_index()
    return best.assign(carried=(best["best"] >= CARRIES).astype(float))


CARRIES = 0.8
"""The share of a phrase that a state recovers which carries it."""


def _summarise(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Average over prompts what the best single state recovers, with 95 % bootstrap intervals."""
    best = best_of(frame)
    if best.empty:  # nothing is left to recover of any prompt
        best = frame.assign(best=np.nan, carried=np.nan)
    return bootstrap_over_prompts(best, ["model", "run_id", "layer", "control"], ["best", "carried"], **options)


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    given = [("The old grey cat", " sat on the", " mat"), ("The little brown dog", " ran in the", " park")]
    layers = sorted({0, subject.n_layers // 2, subject.n_layers})
    return {"prompts": pd.DataFrame(given, columns=["phrase", "context", "target"]), "layers": layers}


@probe(CARRIERS, plot=plots.phrase_carriers, summarise=_summarise, example=_example, jointly=True)
def phrase_carriers(
    subject: Source,
    prompts: Phrases,
    *,
    layers: Layers = "all",
    filler: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Replace all states of a phrase but one at every layer, and read how much of the phrase that one recovers.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        prompts: a frame with the columns `phrase` (which begins the text), `context` (which follows it, " is in the
            city of") and `target` (which comes then, " Paris"); of a target of several tokens the first is read. Other
            columns come along. "phrases" means the shipped ones.
        layers: the layer or layers at which states are replaced, 0..L, negative ones from the last.
        filler: a text whose tokens take the phrase's places, over and over; None draws words for each phrase.
        seed: of the draws of fillers and of other phrases.

    Returns:
        For each prompt and layer: "all" kept (the prompt itself), "none", and for each token of the phrase "one" (it
        alone) and "others" (all but it); the latter two again with states of another phrase of as many tokens and
        another target, the control "other". A phrase without such another one has no control. The summary holds what
        the `best` single state recovers, and the share of phrases `carried` by one (at least 0.8).

    Raises:
        InputError: a column is missing, a text is empty, the tokenizer joins phrase and context, or there is no such
            layer.

    Cost for a phrase of P tokens and L layers: about 2 L P passes through half of the blocks, as all variants ride one
    batch that grows from block to block; twice that with the control.

    Pitfall: where the rest of the text has read the phrase, `left_at`, nothing is left to recover and the ratio is
    missing; just before that it has a small denominator and may exceed 1.

    >>> import pandas as pd
    >>> given = pd.DataFrame({"phrase": ["A boy named Tim"], "context": [" went home with"], "target": [" his"]})
    >>> frame = phrase_carriers("reference", given, layers=[0, 4])
    >>> frame[frame.kept == "one"].groupby("layer").token.apply(list).tolist()[0]
    ['A', ' boy', ' named', ' Tim']
    """
    subject = load(subject)
    chosen = layers_of(layers, subject.n_layers, subject.name)
    tokens, given = read_prompts(subject, prompts)
    replacing = fillers(subject, given, filler, seed)
    targets = [one.target for one in given]
    parameters = {"layers": chosen, "filler": filler, "targets": targets}
    run = Run(CARRIERS, subject, tokens, parameters=parameters, seed=seed)
    others = other_phrases(given, seed)
    lacking = sum(other is None for other in others)
    if lacking:
        warn(f"no control for {lacking} of {len(given)} phrases: no other has as many tokens and another target.")
    parts = []
    with progress_bar(len(given), "phrase", "phrase_carriers") as bar:
        for number, one, fill, other in zip(tokens.table["prompt_id"], given, replacing, others, strict=True):
            found = variants(len(one.phrase), chosen, other=other is not None)
            with_other = [fill] if other is None else [fill, other]
            parts.append({"prompt_id": number} | _columns(one, found, log_probs(subject, one, with_other, found)))
            bar.update()
    return run.frame(parts)


def _columns(prompt: Prompt, chosen: list[Variant], log_prob: np.ndarray) -> dict[str, Any]:
    """Return the columns of one prompt: its variants', and behind them a row for each layer with all states kept."""
    layers = list(dict.fromkeys(variant.layer for variant in chosen))
    layer = np.array([variant.layer for variant in chosen] + layers)
    place = np.array([variant.place for variant in chosen] + [-1] * len(layers))
    kept = np.array([variant.kept for variant in chosen] + ["all"] * len(layers), dtype=object)
    whole = log_prob[-1]
    value = np.concatenate([log_prob[:-1], np.full(len(layers), whole)])
    none = {at: of for at, of, what in zip(layer.tolist(), value.tolist(), kept, strict=True) if what == "none"}
    least = np.array([none[at] for at in layer.tolist()])
    enough = whole - least >= LEAST
    left = [at for at in layers if all(whole - none[later] < LEAST for later in layers if later >= at)]
    inside = place >= 0
    return {
        "layer": layer,
        "kept": kept,
        "pos": np.where(inside, place + prompt.first, -1),
        "token_id": np.where(inside, prompt.phrase.numpy()[place], -1),
        "control": np.array([variant.control for variant in chosen] + ["none"] * len(layers), dtype=object),
        "target_id": prompt.target,
        "log_prob": value,
        "recovered": np.where(enough, (value - least) / np.where(enough, whole - least, 1.0), np.nan),
        "left_at": left[0] if left else -1,
    }
