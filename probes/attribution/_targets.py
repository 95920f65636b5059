"""The schema, targets and scores that all attribution methods share.

A target is a token predicted at a position: the model reads tokens 0..target_pos and predicts the next one.
`target_pos` is the last position read, not the position of the target, which need not be in the text. Rows run over
pos 0..target_pos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import VOCABULARY, Batch, Column, Tokens, columns

TARGET_POS = Column("target_pos", "int", "the last position read: the target is the token predicted after it", low=0)
ATTRIBUTION = columns(
    "model",
    "run_id",
    "prompt_id",
    "method",
    TARGET_POS,
    "target_id",
    "target",
    "against_id",
    "against",
    "pos",
    "token_id",
    "token",
    VOCABULARY["score"].with_(meaning="how much this token matters for the target, in the method's own unit"),
    Column("score_se", "float", "standard error of the score, if the method samples", low=0.0, missing=True),
    VOCABULARY["control"].with_(meaning="'none', or 'random' for scores that do not use the model"),
)
"""The columns of every attribution method; a method may add its own."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The T targets of all prompts, ordered by prompt, then position.

    Attributes:
        tokens: the tokens read, prompt by prompt: the prompt and, with a continuation, all its tokens but the last.
        prompt: index into `tokens`, int64 [T].
        pos: `target_pos`, the last position read for this target, int64 [T].
        ids: the token predicted there, int64 [T]; -1 is the model's argmax, not yet known (`plan_targets` only).
        against: the token that each target is contrasted with, int64 [T]; -1 is the likeliest but the target, not yet
            known. None if the targets are explained alone.
    """

    tokens: Tokens
    prompt: Tensor
    pos: Tensor
    ids: Tensor
    against: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt_ids(self) -> np.ndarray:
        """`prompt_id` of each target, [T]."""
        ids: np.ndarray = self.tokens.table["prompt_id"].to_numpy()[self.prompt.numpy()]
        return ids

    @cached_property
    def contexts(self) -> Tokens:
        """The tokens read for each target, ids [target_pos + 1]; `prompts` of their batches are indices of targets."""
        ids = [self.tokens.ids[prompt][: pos + 1] for prompt, pos in zip(self.prompt, self.pos, strict=True)]
        return as_tokens(ids, self.tokens.bos)

    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the targets of a batch of `tokens`: their indices and their rows in the batch, int64 [k] each."""
        row_of = torch.full((len(self.tokens),), -1)
        row_of[batch.prompts] = torch.arange(len(batch.prompts))
        row = row_of[self.prompt]
        index = (row >= 0).nonzero()[:, 0]
        return index, row[index]


@dataclass(frozen=True)
class Scores:
    """A method's scores for T targets.

    Attributes:
        score: of every token read, float [target_pos + 1] per target; larger means more important.
        score_se: standard errors of the same shapes; None if the method does not sample.
        extra: the method's own additional columns, of the same shapes.
    """

    score: Sequence[np.ndarray]
    score_se: Sequence[np.ndarray] | None = None
    extra: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)


Method: TypeAlias = Callable[..., Scores]
"""`(subject, targets, *, seed, **options) -> Scores`: a method that `attribute` can call."""


def attribution_columns(targets: Targets, scores: Scores, *, method: str, control: str = "none") -> dict[str, Any]:
    """Return the columns of one method for `Run.frame`, one row per target and position read."""
    n_read = (targets.pos + 1).numpy()
    per_target = {
        "prompt_id": targets.prompt_ids,
        "target_pos": targets.pos.numpy(),
        "target_id": targets.ids.numpy(),
        "against_id": np.full(len(targets), -1) if targets.against is None else targets.against.numpy(),
    }
    per_token = {
        "pos": [np.arange(n) for n in n_read],
        "token_id": [ids.numpy() for ids in targets.contexts.ids],
        "score": scores.score,
        **({} if scores.score_se is None else {"score_se": scores.score_se}),
        **scores.extra,
    }
    return (
        {"method": method, "control": control, "score_se": np.nan}
        | {name: np.repeat(values, n_read) for name, values in per_target.items()}
        | {name: np.concatenate(list(values)) for name, values in per_token.items()}
    )


def target_key(frame: pd.DataFrame) -> list[str]:
    """Return the columns that tell the targets of a prompt apart; group by them with `dropna=False`."""
    contrasts = "against_id" in frame.columns and bool(frame["against_id"].notna().any())
    return ["target_pos", "target_id", *(["against_id"] if contrasts else [])]


def as_tokens(ids: list[Tensor], bos: bool | None) -> Tokens:
    """Return `Tokens` of generated sequences, numbered in the given order."""
    table = pd.DataFrame({"prompt_id": np.arange(len(ids))})
    return Tokens(ids, table, bos, np.zeros(len(ids), dtype=np.int64))
