"""Measure how wrong the usual next-byte distribution is where a prompt ends inside a token (Phan et al., 2410.09303).

A prompt cut inside a word ends in tokens that the model never saw before the rest of that word. Every prompt is cut at
places inside its tokens; where its own tokens end, the control, the usual distribution and the exact one must nearly
agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import VOCABULARY, Column, Run, Schema, Source, Texts, columns, load, probe
from interp.tokenization import lattice_of
from probes import papers
from probes.tokenization import plots
from probes.tokenization._contexts import Contexts
from probes.tokenization._covers import Cut, Distribution
from probes.tokenization._prompts import Cuts, check_cuts, places, read_prompts
from probes.tokenization.next_byte import CUT, METHOD, RANK, Healing, methods, name_of

TOKENIZATION_BIAS = Schema(
    probe="tokenization_bias",
    paper=papers.EXACT_BYTES,
    rows="one per prompt, cut and method",
    columns=columns(
        *("model", "run_id", "prompt_id"),
        CUT,
        Column("at_boundary", "bool", "whether the tokens before the cut are the first ones of the whole prompt"),
        METHOD.with_(meaning=f"{METHOD.meaning}; aligned: one word back"),
        Column("next_byte", "int", "the byte that follows in the prompt", low=0, high=255),
        Column("text", "str", "that byte as it reads"),
        VOCABULARY["log_prob"].with_(meaning="log-probability of that byte; missing where it is ruled out"),
        RANK,
        VOCABULARY["entropy"].with_(meaning="entropy of the next byte"),
        Column("tv", "float", "total variation from the exact distribution", "0..1", low=0.0, high=1.0),
        Column("kl_to_exact", "float", "KL(exact || here); missing if infinite", "nats", low=0.0, missing=True),
        Column("lost", "float", "share of what no tokenizer writes, left out of exact", "0..1", low=0.0),
        Column("noncanonical", "float", "their share after the prompt's own tokens", "0..1", low=0.0),
        Column("n_covers", "int", "token sequences that were counted", low=1),
        Column("share_canonical", "float", "P(the prompt's own tokens) / P(the prompt)", "0..1", low=0.0, high=1.0),
        VOCABULARY["control"].with_(meaning="'none' for cuts inside a token, 'boundary' for those at its end"),
    ),
    summary_by=("method", "control"),
    summary_of=("log_prob", "tv", "share_canonical"),
)


@probe(TOKENIZATION_BIAS, plot=plots.tokenization_bias)
def tokenization_bias(
    subject: Source,
    texts: Texts,
    *,
    cuts: Cuts = 8,
    seed: int = 0,
    healing: Healing = True,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure what a cut inside a token does to the next-byte distribution: the usual one against the exact one.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes.
        cuts: how many byte places to draw in each prompt, between characters, or the places.
        seed: of the draw.
        healing: True or "token" adds token healing, method "healed": the last token is taken back, and only tokens that
            begin with it follow. "pretoken" adds token alignment, "aligned" (Athiwaratkun et al., arXiv 2403.08688):
            the last word is taken back, and only tokens that agree with it follow; unlike the exact distribution it
            does not weigh the ways to write that word.
        bos: see `Subject.tokens`. Where a prompt begins with no special token, its first token is taken as given.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, cut and method. The control, rows at "boundary", is not to differ.

    Raises:
        InputError: the tokenizer loses a byte of a text or has none for its tokens, or a cut cannot be made.
        TooLong: a text fills the context.

    Cost: a forward pass over the prompt and the other ways to begin the words before its cuts, and an unembedding for
    each beginning after which a token could stand that passes a cut, about seven per cut.

    Pitfall: the size of the bias hangs on where the prompts are cut; compare models on the same cuts.

    >>> frame = tokenization_bias("reference", ["Once upon a time there was a girl"], cuts=[14, 16])
    >>> frame.pivot(index="cut", columns="method", values="log_prob").round(1)[["exact", "naive"]].values.tolist()
    [[-0.0, -5.4], [-1.5, -1.5]]
    """
    check_cuts(cuts, end=False)
    subject = load(subject)
    parameters = {"cuts": cuts, "healing": healing}
    tokens = subject.tokens(texts, bos=bos, truncate=truncate)
    run = Run(TOKENIZATION_BIAS, subject, tokens, parameters=parameters, seed=seed)
    lattice = lattice_of(subject)
    prompts = read_prompts(run.tokens, lattice, texts)
    contexts = Contexts()
    chosen = places(prompts, lattice, cuts, seed=seed, last=False)
    made = [Cut(lattice, one, place, contexts) for one, at in zip(prompts, chosen, strict=True) for place in at]
    contexts.read(run)
    return run.frame([row for cut in made for row in _rows(cut, healing)])


def _rows(cut: Cut, healing: Healing) -> Iterator[dict[str, Any]]:
    found = methods(cut, healing=healing)
    exact = found["exact"]
    truth = cut.prompt.text[cut.place + cut.prompt.added]
    for method, one in found.items():
        yield {
            "prompt_id": cut.prompt.prompt_id,
            "cut": cut.place,
            "at_boundary": cut.at_boundary,
            "method": method,
            "next_byte": truth,
            "text": name_of(truth),
            "log_prob": min(0.0, float(np.log(one.prob[truth]))) if one.prob[truth] > 0 else np.nan,
            "rank": int((one.prob > one.prob[truth]).sum()),
            "entropy": _entropy(one),
            "tv": min(1.0, float(np.abs(one.prob - exact.prob).sum() / 2)),
            "kl_to_exact": _divergence(exact, one),
            "lost": exact.lost,
            "noncanonical": exact.noncanonical,
            "n_covers": exact.n_covers,
            "share_canonical": exact.share_canonical,
            "control": "boundary" if cut.at_boundary else "none",
        }


def _entropy(one: Distribution) -> float:
    kept = one.prob[one.prob > 0]
    return max(0.0, float(-(kept * np.log(kept)).sum()))


def _divergence(exact: Distribution, other: Distribution) -> float:
    kept = exact.prob > 0
    if (other.prob[kept] == 0).any():
        return float("nan")
    return max(0.0, float((exact.prob[kept] * np.log(exact.prob[kept] / other.prob[kept])).sum()))
