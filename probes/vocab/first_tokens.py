"""Ask what a model says after one token alone, over the whole vocabulary, for texts that it knows by heart.

After the detection of hidden texts by Hościłowicz et al. (2024): a model that was trained to reveal a text, or that has
memorised its boiler-plate, continues the first token with probabilities near 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.authoring import (
    Column,
    InputError,
    Run,
    Schema,
    SharedPrefix,
    Source,
    Store,
    Subject,
    Usable,
    columns,
    continuation,
    hash_of,
    kept_as,
    load,
    probe,
    progress_bar,
    run_id,
    start_of_text,
    usable_facts,
    usable_tokens,
    whole_numbers,
)
from interp.model.weights import require_known_tokens, require_one_vocabulary
from probes import papers
from probes.vocab import plots
from probes.vocab._greedy import continued, period

_STEPS = 3

FIRST_TOKENS = Schema(
    probe="first_tokens",
    paper=papers.HIDDEN_TEXT,
    rows="one per first token",
    columns=columns(
        *("model", "run_id", "token_id", "token"),
        Column("p1", "float", "probability of the most probable token after it", "0..1", 0.0, 1.0),
        Column("p2", "float", "and of the most probable one after that", "0..1", 0.0, 1.0, missing=True),
        Column("p3", "float", "and of the one after that", "0..1", 0.0, 1.0, missing=True),
        Column("score", "float", "mean of 1, for the first token, and the probabilities: as published", "0..1", 0, 1),
        Column("geometric", "float", "geometric mean of the probabilities", "0..1", 0.0, 1.0),
        Column("is_candidate", "bool", "whether the score reaches the threshold"),
        Column("continued", "str", "why it was continued: best, by the geometric mean, or random; empty if not"),
        Column("continuation", "str", "its most probable continuation; missing if not continued", missing=True),
        Column(
            "period", "id", "tokens of the loop that it ends in, 0 for none; missing if not continued", "", 0, 25, True
        ),
    ),
)


def _by_choice(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the tokens that were continued and those that were not, with the share that end in a loop."""
    groups = frame.assign(looped=frame["period"].gt(0)).groupby(["model", "run_id", "continued"], sort=True)
    found = groups.agg(
        n_tokens=("token_id", "size"), n_candidates=("is_candidate", "sum"), score=("score", "mean"),
        geometric=("geometric", "mean"), looped=("looped", "mean"),
    )  # fmt: skip
    return found.reset_index()


def _some(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    """Choose few tokens, so that the probe shows itself in seconds."""
    return {"token_ids": range(min(48, subject.backend.facts.n_ids)), "n_continue": 12, "n_best": 4}


@probe(FIRST_TOKENS, plot=plots.first_tokens, summarise=_by_choice, example=_some)
def first_tokens(
    subject: Source,
    *,
    token_ids: Sequence[int] | None = None,
    n_steps: int = 3,
    n_continue: int = 50,
    n_best: int = 15,
    threshold: float = 0.95,
    usable: Usable = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Continue every token of the vocabulary greedily, and find those after which the model knows what comes.

    Each text is the start of text, if the tokenizer has one, and one token. Probabilities near 1 all along are a text
    known by heart: boiler-plate, or one that was hidden there. Loops are probable too, whatever they begin with: read
    `period` beside that of the random tokens.

    Args:
        subject: anything `interp.load` takes.
        token_ids: the first tokens; by default all that the model reads.
        n_steps: tokens to continue by, 1 to 3.
        n_continue: tokens to continue the best ones by, in all.
        n_best: how many tokens, best by the geometric mean, to continue, and how many others at random as a control.
        threshold: the score from which a token is a candidate; the published one counts the first token as 1.
        usable: the frame of `token_health`: only tokens that it calls usable are continued, as the best or at random.
        seed: of the random tokens.
        out: a folder to save probabilities as Parquet as they are computed; after an interruption the same call
            continues, and so does one about other tokens, with another threshold or seed.

    Returns:
        One row per first token; `.interp.summary()` compares the best ones, the random ones and the rest.

    Raises:
        InputError: the model came without a tokenizer, or a number is out of bounds.
        ModelError: the model embeds other tokens than it predicts.

    Cost: `n_steps` passes of a token over all first tokens, each unembedded in full, behind a start of text that is
    read once; and `n_continue` over 2 `n_best` of them.

    Pitfall: a loop is as probable as a memorised text; read `period`.

    >>> frame = first_tokens("reference", token_ids=range(500, 700), n_continue=6, n_best=1)
    >>> frame.nlargest(1, "geometric")[["token", "continuation"]].values.tolist()
    [[' mu', 'ddy, and the old gentleman']]
    """
    for name, value, least in (("n_continue", n_continue, 1), ("n_best", n_best, 0)):
        if value < least:
            raise InputError(f"{name}={value}: give {least} or more.")
    if not 1 <= n_steps <= _STEPS:
        raise InputError(f"n_steps={n_steps}: give 1 to {_STEPS}.")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold}: give a score from 0 to 1.")
    given = None if token_ids is None else sorted(set(whole_numbers(token_ids, "token_ids")))
    parameters = {
        "token_ids": given, "n_steps": n_steps, "n_continue": n_continue, "n_best": n_best, "threshold": threshold
    }  # fmt: skip
    loaded = load(subject)
    run = Run(FIRST_TOKENS, loaded, None, parameters=parameters | usable_facts(usable, loaded), seed=seed)
    model = run.subject
    if model.tokenizer is None:
        raise InputError(f"{model.name!r} came without a tokenizer: its continuations have no text; pass tokenizer=.")
    require_one_vocabulary(model, "first_tokens")
    ids = torch.tensor(given if given is not None else range(model.backend.facts.n_ids))
    start = start_of_text(model.tokenizer)
    _check(model, ids, len(start) + max(n_steps, n_continue))
    kept = _kept(out, model, n_steps)
    probs = np.full((len(ids), _STEPS), np.nan)
    probs[:, :n_steps] = _known(kept, ids.numpy(), n_steps)
    left = torch.from_numpy(np.flatnonzero(np.isnan(probs[:, 0])))
    allowed = usable_tokens(usable, model)
    prefix = SharedPrefix(model, torch.tensor(start, dtype=torch.int64))
    steps, known = len(ids) * n_steps, (len(ids) - len(left)) * n_steps
    with progress_bar(steps + 2 * n_best * n_continue, "token", FIRST_TOKENS.probe, done=known) as bar:
        for some in torch.split(left, prefix.rows(n_steps)) if len(left) else ():
            found = continued(prefix, ids[some], n_steps)[1].numpy()
            probs[some.numpy(), :n_steps] = found
            _keep(kept, ids[some].numpy(), found)
            bar.update(len(some) * n_steps)
        geometric = np.exp(np.log(probs[:, :n_steps]).mean(axis=1))
        chosen = _chosen(geometric, np.ones(len(ids), bool) if allowed is None else _at(allowed, ids), n_best, seed)
        texts, periods = np.full(len(ids), None, dtype=object), np.full(len(ids), -1)
        for some in torch.split(torch.tensor(np.flatnonzero(chosen != "")), prefix.rows(n_continue)):
            if not len(some):
                continue
            for place, tail in zip(some.tolist(), continued(prefix, ids[some], n_continue)[0].tolist(), strict=True):
                before = torch.tensor([*start, int(ids[place])])
                whole = torch.cat([before, torch.tensor(tail)])
                texts[place], periods[place] = continuation(model.tokenizer, before, whole), period(tail)
            bar.update(len(some) * n_continue)
    score = (1 + probs[:, :n_steps].sum(axis=1)) / (1 + n_steps)
    part = {"token_id": ids.numpy(), "score": score, "geometric": geometric, "is_candidate": score >= threshold}
    part |= {f"p{step + 1}": probs[:, step] for step in range(_STEPS)}
    part |= {"continued": chosen, "continuation": pd.array(texts, dtype="str"), "period": periods}
    return run.frame([part])


def _check(subject: Subject, ids: torch.Tensor, length: int) -> None:
    require_known_tokens(subject, ids.tolist())
    if length > subject.n_ctx:
        raise InputError(f"a text of {length} tokens does not fit the context of {subject.n_ctx}; lower n_continue.")


def _kept(out: str | Path | None, subject: Subject, n_steps: int) -> Store | None:
    """Return the place of probabilities, named by what decides those of a token; None if none are to be kept."""
    if out is None:
        return None
    id_of_steps = run_id(FIRST_TOKENS, subject, None, {"n_steps": n_steps})
    return Store(out, kept_as(id_of_steps, subject, FIRST_TOKENS), key="token_id")


def _known(store: Store | None, ids: np.ndarray, n_steps: int) -> np.ndarray:
    """Return the probabilities that are kept, float64 [tokens, n_steps]; NaN for the others."""
    read = [] if store is None else [store.read_part(part) for part in store.parts()]
    frames = [frame for frame in read if frame is not None]  # a damaged part is put aside
    if not frames:
        return np.full((len(ids), n_steps), np.nan)
    table = pd.concat(frames).drop_duplicates("token_id").set_index("token_id")
    return table.reindex(ids).to_numpy(dtype=float)


def _keep(store: Store | None, ids: np.ndarray, probs: np.ndarray) -> None:
    if store is not None:
        columns = {f"p{step + 1}": probs[:, step] for step in range(probs.shape[1])}
        store.write(hash_of({"tokens": ids.tolist()}), pd.DataFrame({"token_id": ids} | columns))


def _at(allowed: np.ndarray, ids: torch.Tensor) -> np.ndarray:
    """Return which of some tokens are allowed; a row of the embedding alone, which is never predicted, is not."""
    return np.array([index < len(allowed) and bool(allowed[index]) for index in ids.tolist()])


def _chosen(geometric: np.ndarray, allowed: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return which tokens to continue and why: the `n` best allowed, and as many others, object [tokens]."""
    chosen = np.full(len(geometric), "", dtype=object)
    order = np.argsort(-geometric, kind="stable")
    order = order[allowed[order]]
    chosen[order[:n]] = "best"
    chosen[np.random.default_rng(seed).permutation(np.sort(order[n:]))[:n]] = "random"
    return chosen
