"""Can the model be made to say a token? The verification of tokens that `token_health` suspects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    SharedPrefix,
    Source,
    Subject,
    Usable,
    columns,
    dataset,
    load,
    probe,
    progress_bar,
    text_ids,
    usable_facts,
    usable_tokens,
    whole_numbers,
)
from interp.model.weights import require_known_tokens
from probes import papers
from probes.vocab import plots
from probes.vocab._directions import suspects
from probes.vocab._prompts import Prompt, Shots, Template, template

BOUNDS = {"unlearned": 0.001, "hardly learned": 0.01, "doubtful": 0.1}
"""The verdicts, with the probability below which each is given; a token that reaches the last is "learned"."""

TOKEN_REPETITION = Schema(
    probe="token_repetition",
    paper=papers.UNDERTRAINED_TOKENS,
    rows="one per token, control and prompt",
    columns=columns(
        *("model", "run_id", "token_id", "token"),
        Column("category", "str", "see `token_health`; candidates that you name may be special, or pieces"),
        Column("script", "str", "Unicode script of its first letter; empty without one"),
        Column("prompt", "str", "echo: after a device that repeats its input; repeat: after the token, twelve times"),
        "control",
        Column("direction", "float", "see `token_health`; low is suspicious", low=0.0, high=2.0),
        "prob",
        "log_prob",
        "rank",
        Column("verdict", "str", "by the token's largest probability: unlearned, hardly learned, doubtful, learned"),
    ),
)


def _share_of_verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the tokens of each control, with the share of each verdict among them."""
    tokens = frame.drop_duplicates(["model", "run_id", "control", "token_id"])
    groups = tokens.groupby(["model", "run_id", "control"], sort=True)
    named = {name.replace(" ", "_"): name for name in (*BOUNDS, "learned")}
    shares = {
        short: groups["verdict"].agg(lambda one, name=name: float((one == name).mean()))
        for short, name in named.items()
    }
    return pd.DataFrame({"n_tokens": groups.size()} | shares).reset_index()


def _some(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    """Choose few tokens, so that the probe shows itself in seconds."""
    return {"token_ids": np.flatnonzero(suspects(subject).candidate)[:8].tolist() or [0], "n_random": 8}


@probe(TOKEN_REPETITION, plot=plots.token_repetition, summarise=_share_of_verdicts, example=_some)
def token_repetition(
    subject: Source,
    *,
    token_ids: Sequence[int] | None = None,
    prompts: Sequence[Prompt] = ("echo", "repeat"),
    shots: Shots = "fixed",
    n_random: int = 200,
    usable: Usable = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask the model to say each token, and judge by the probability it gives it.

    Models say tokens that they have learned when a prompt asks them to. One kind of prompt is not enough: pieces that
    never end a word fail at "echo". Read the verdicts beside those of the random tokens.

    Args:
        subject: anything `interp.load` takes.
        token_ids: the candidates; by default those that `token_health` finds by their direction.
        prompts: "echo", a device that repeats its input; "repeat", the token itself, twelve times behind a few
            words. Chat models are asked without their template.
        shots: of "echo": "fixed" shows other words, read once for all candidates; "self" shows the candidate in each,
            as published.
        n_random: how many other ordinary tokens to ask for as a control; a quarter as many of the most frequent tokens
            of the shipped stories are another, where the tokenizer reads these.
        usable: the frame of `token_health`: the controls' tokens are among those that it calls usable. Without it, they
            are ordinary tokens that `token_health` does not suspect by its defaults.
        seed: of the random tokens.

    Returns:
        One row per token, control ("none" for candidates, "random", "frequent") and prompt; `.interp.summary()` gives
        the share of each verdict.

    Raises:
        InputError: the model came without a tokenizer or has no candidates, or a prompt cannot be read.
        ModelError: the model embeds other tokens than it predicts.

    Cost: `SharedPrefix` reads each kind of prompt once, then a few tokens for every token asked.

    Pitfall: pieces that never end a word fail although the model knows them; judge beside the random tokens.

    >>> frame = token_repetition("reference", token_ids=[300, 301, 302], n_random=4)
    >>> frame.groupby("control")["token_id"].nunique().to_dict()
    {'frequent': 1, 'none': 3, 'random': 4}
    """
    asked = list(prompts)
    if not asked or len(set(asked)) < len(asked):
        raise InputError(f"prompts={asked!r}: name at least one, each once.")
    if n_random < 0:
        raise InputError(f"n_random={n_random}: give 0 or more.")
    given = None if token_ids is None else whole_numbers(token_ids, "token_ids")
    parameters = {"token_ids": given, "prompts": asked, "shots": shots, "n_random": n_random}
    loaded = load(subject)
    parameters |= usable_facts(usable, loaded)
    run = Run(TOKEN_REPETITION, loaded, None, parameters=parameters, seed=seed)
    model = run.subject
    candidate, ordinary, direction, table = suspects(model)
    ids = np.flatnonzero(candidate) if given is None else np.array(given)
    _check(model, ids)
    templates = {prompt: template(model, prompt, shots) for prompt in asked}
    allowed = usable_tokens(usable, model)
    healthy = ordinary & ~candidate if allowed is None else allowed
    tokens = {"none": np.unique(ids)} | _controls(model, healthy, ids, n_random, seed)
    every = np.unique(np.concatenate(list(tokens.values())))
    n_passes = len(every) * len(templates)
    with progress_bar(n_passes, "token", TOKEN_REPETITION.probe) as bar:
        found = {}
        for prompt, one in templates.items():
            found[prompt] = {name: np.concatenate(parts) for name, parts in _asked(model, one, every, bar).items()}
    largest = np.max([one["log_prob"] for one in found.values()], axis=0)
    verdict = np.array([*BOUNDS, "learned"], dtype=object)[np.digitize(np.exp(largest), list(BOUNDS.values()))]

    def parts() -> Iterator[Mapping[str, Any]]:
        for control, chosen in tokens.items():
            at = np.searchsorted(every, chosen)
            for prompt, values in found.items():
                log_prob = values["log_prob"][at]
                yield {
                    "token_id": chosen, "prompt": prompt, "control": control, "direction": direction[chosen],
                    **{name: table[name].to_numpy()[chosen] for name in ("category", "script")},
                    "prob": np.exp(log_prob), "log_prob": log_prob, "rank": values["rank"][at], "verdict": verdict[at],
                }  # fmt: skip

    return run.frame([part for part in parts() if len(part["token_id"])])


def _check(subject: Subject, ids: np.ndarray) -> None:
    if not len(ids):
        raise InputError(f"{subject.name!r} has no candidates, its tokens' directions are alike; pass token_ids=.")
    require_known_tokens(subject, ids.tolist())


def _controls(subject: Subject, healthy: np.ndarray, ids: np.ndarray, n: int, seed: int) -> dict[str, np.ndarray]:
    """Return ordinary tokens that are not asked for: drawn at random, and the most frequent of the shipped stories."""
    healthy = healthy.copy()
    healthy[ids] = False
    others = np.flatnonzero(healthy)
    drawn = np.random.default_rng(seed).permutation(others)[:n]
    try:
        stories = text_ids(dataset("stories")["text"].tolist(), subject.tokenizer)
    except InputError:  # a tokenizer of few words
        return {"random": np.sort(drawn)}
    counts = np.bincount(np.concatenate([np.array(one, dtype=int) for one in stories]), minlength=len(healthy))
    counts = np.where(healthy, counts[: len(healthy)], 0)
    frequent = np.argsort(-counts, kind="stable")[: n // 4]
    return {"random": np.sort(drawn), "frequent": np.sort(frequent[counts[frequent] > 0])}


def _asked(subject: Subject, prompt: Template, ids: np.ndarray, bar: Any) -> dict[str, list[np.ndarray]]:
    """Return the log-probability and the rank of each token after its own prompt, in parts."""
    prefix = SharedPrefix(subject, prompt.prefix)
    found: dict[str, list[np.ndarray]] = {"log_prob": [], "rank": []}
    for some in torch.split(torch.from_numpy(ids), prefix.rows(len(prompt.tail))):

        def answers(logits: Tensor, some: Tensor = some) -> tuple[Tensor, Tensor]:
            return said(logits, some)

        log_prob, rank = prefix.branch(len(some)).next_token_logits(prompt.filled(some), answers)
        found["log_prob"].append(log_prob.cpu().double().numpy())
        found["rank"].append(rank.cpu().numpy())
        bar.update(len(some))
    return found


def said(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability and the rank of one token of each row of logits [n, V], float32 and int64 [n]."""
    logits = logits.float()
    own = logits.gather(1, ids.to(logits.device)[:, None])
    return (own[:, 0] - logits.logsumexp(dim=1)).clamp(max=0), (logits > own).sum(dim=1)
