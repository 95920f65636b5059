"""Hit rates of attribution methods on planted models, where the token that matters is known.

    python -m probes.attribution.known_answers.planted_scores

prints the table of hit rates. On each planted model one position causes the target by construction; a method hits if
that position has its highest score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError
from interp.planted import bigram, copying, cue, two_step
from probes.attribution.attribute import METHODS, Methods, attribute

VOCAB = 12
TIE = 0.01  # of a prompt's largest absolute score: a smaller difference is a tie


@dataclass(frozen=True)
class PlantedCase:
    """Prompts of one length on one planted model.

    Attributes:
        model: the planted model.
        ids: int64 [prompt, pos].
        target: id of the token to explain, per prompt.
        cause: the position that decides it, int64 [prompt].
    """

    model: Any
    ids: Tensor
    target: list[int]
    cause: np.ndarray


def planted_scores(
    methods: Methods | None = None, *, n_prompts: int = 32, length: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Score prompts on planted models, where the token that matters is known, and count each method's hits.

    `copying`: the target occurs once in the prompt, and that position is the cause. `cue`: a token at a random position
    makes every later position predict the target; it is the cause. `bigram` and `two_step` have no attention, so only
    the last position can matter. `attention_free` is `bigram` on prompts in which an earlier token would predict the
    target with more probability than the last token does: NormXLogit must choose the earlier one.

    Args:
        methods: as for `attribute`; None takes all.
        n_prompts: per model.
        length: of the prompts, in tokens, at least 3 and at most 11.
        seed: of prompts and methods.

    Returns:
        One row per planted model, method and prompt: the position of the cause, that of the highest score, and `hit`:
        1 if they agree, 0 if not, and 1 / n if n positions, including the cause, share the highest score to within
        1 % of the largest absolute one.

    >>> frame = planted_scores(("occlusion", "normxlogit"), n_prompts=4)
    >>> frame.groupby(["planted", "method"])["hit"].mean()["attention_free"].to_dict()
    {'normxlogit': 0.0, 'occlusion': 1.0}
    """
    if n_prompts < 1 or not 3 <= length < VOCAB:
        raise InputError(f"n_prompts={n_prompts}, length={length}; give at least 1 prompt of 3 to {VOCAB - 1} tokens.")
    chosen = _keeping_nothing(tuple(METHODS) if methods is None else methods)
    parts = []
    for name, build in CASES.items():
        case = build(np.random.default_rng(seed), n_prompts, length)
        frame = attribute(case.model, case.ids, methods=chosen, target=case.target, seed=seed)
        parts.append(_hits(frame, case).assign(planted=name))
    columns = ["planted", "method", "prompt_id", "cause_pos", "top_pos", "hit"]
    return pd.concat(parts, ignore_index=True)[columns]


def hit_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean hits: one row per method, in the frame's order, one column per planted model."""
    rates = frame.pivot_table(index="method", columns="planted", values="hit", sort=False)
    return rates.reindex(columns=list(CASES))


def _keeping_nothing(methods: Methods) -> dict[str, dict[str, Any]]:
    """Return the options by method; integrated gradients score position 0 too, which is no sink of a planted model."""
    if not isinstance(methods, Mapping):
        methods = {name: {} for name in ((methods,) if isinstance(methods, str) else methods)}
    chosen = {name: dict(options) for name, options in methods.items()}
    if "integrated_gradients" in chosen:
        chosen["integrated_gradients"].setdefault("keep", "none")
    return chosen


def _hits(frame: pd.DataFrame, case: PlantedCase) -> pd.DataFrame:
    rows = []
    for (method, prompt), scores in frame.groupby(["method", "prompt_id"], sort=False):
        values = scores["score"].to_numpy()
        top = values >= values.max() - TIE * np.abs(values).max()
        cause = int(case.cause[prompt])
        rows.append((method, prompt, cause, int(values.argmax()), top[cause] / top.sum()))
    return pd.DataFrame(rows, columns=["method", "prompt_id", "cause_pos", "top_pos", "hit"])


def _distinct(rng: np.random.Generator, n_prompts: int, length: int) -> np.ndarray:
    """Return prompts without repeated tokens."""
    return np.stack([rng.permutation(VOCAB)[:length] for _ in range(n_prompts)])


def _copy(rng: np.random.Generator, n_prompts: int, length: int) -> PlantedCase:
    ids = _distinct(rng, n_prompts, length)
    cause = rng.integers(0, length - 1, n_prompts)
    target = ids[np.arange(n_prompts), cause]
    return PlantedCase(copying(vocab=VOCAB).model, torch.tensor(ids), target.tolist(), cause)


def _cue(rng: np.random.Generator, n_prompts: int, length: int) -> PlantedCase:
    planted = cue(vocab=VOCAB)
    ids = rng.integers(2, VOCAB, (n_prompts, length))  # neither cue nor answer
    cause = rng.integers(0, length - 1, n_prompts)
    ids[np.arange(n_prompts), cause] = planted.truth.cue
    return PlantedCase(planted.model, torch.tensor(ids), [planted.truth.answer] * n_prompts, cause)


def _bigram(rng: np.random.Generator, n_prompts: int, length: int) -> PlantedCase:
    planted = bigram(vocab=VOCAB)
    ids = torch.tensor(_distinct(rng, n_prompts, length))
    target = planted.truth.transition[ids[:, -1]].argmax(dim=-1)
    return PlantedCase(planted.model, ids, target.tolist(), np.full(n_prompts, length - 1))


def _two_step(rng: np.random.Generator, n_prompts: int, length: int) -> PlantedCase:
    planted = two_step(vocab=VOCAB)
    ids = torch.tensor(_distinct(rng, n_prompts, length))
    return PlantedCase(planted.model, ids, planted.truth.answer(ids)[:, -1].tolist(), np.full(n_prompts, length - 1))


def _attention_free(rng: np.random.Generator, n_prompts: int, length: int) -> PlantedCase:
    planted = bigram(vocab=VOCAB)
    transition = planted.truth.transition.numpy()
    likeliest = transition.argmax(axis=1)
    surest = transition.argmax(axis=0)[likeliest]  # the token that predicts the same with most probability
    outdone = np.flatnonzero(transition[surest, likeliest] > 1.5 * transition.max(axis=1))
    ids = []
    for last in rng.choice(outdone, n_prompts):
        others = rng.permutation([token for token in range(VOCAB) if token not in (last, surest[last])])
        ids.append([*rng.permutation([surest[last], *others[: length - 2]]), last])
    target = likeliest[np.array(ids)[:, -1]]
    return PlantedCase(planted.model, torch.tensor(np.array(ids)), target.tolist(), np.full(n_prompts, length - 1))


CASES: dict[str, Callable[[np.random.Generator, int, int], PlantedCase]] = {
    "copying": _copy,
    "cue": _cue,
    "bigram": _bigram,
    "two_step": _two_step,
    "attention_free": _attention_free,
}


def table_lines(rates: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table of rates in Markdown."""
    yield "| method | " + " | ".join(f"`{name}`" for name in rates.columns) + " |"
    yield "|---|" + "---|" * len(rates.columns)
    for method, row in rates.iterrows():
        yield f"| {method} | " + " | ".join(f"{rate:.2f}" for rate in row) + " |"


if __name__ == "__main__":
    print("\n".join(table_lines(hit_rates(planted_scores()))))
