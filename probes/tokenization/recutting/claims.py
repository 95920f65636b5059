"""Claims about texts cut otherwise, with random tokens at the same places as the control."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from interp.findings import Claim, Comparison
from interp.findings.per_prompt import SHARE, STORIES
from probes import papers

_N_STORIES, _N_POSITIONS = 24, 48


def divergence(scheme: str, frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the divergence of the next token after a text cut otherwise, nats per prompt; control: random tokens."""
    rows = frame[(frame["scheme"] == scheme) & (frame["layer"] == frame["layer"].min())]
    found = rows.groupby(["prompt_id", "control"])["kl"].mean().unstack()
    return found["none"], found["random_token"]


def repair(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return how much nearer a split last word is than a replaced one, at the last layer; control: at the first."""
    rows = frame[frame["scheme"] == "split_last"]
    cosine = rows.groupby(["prompt_id", "layer", "control"])["cosine"].mean().unstack()
    nearer = (cosine["none"] - cosine["random_token"]).unstack()
    return nearer[nearer.columns.max()], nearer[nearer.columns.min()]


def written(frame: pd.DataFrame) -> pd.Series:
    """Return the share of tokens in samples that the tokenizer writes, too, per prompt."""
    return frame.groupby("prompt_id")["share_canonical"].mean().dropna()


def _claim(id: str, statement: str, says: str, statistic: Any, note: str, **comparison: Any) -> Claim:
    return Claim(
        id=f"retokenisation.{id}",
        statement=statement,
        paper=papers.STOCHASTOK,
        says=says,
        probe="retokenisation",
        texts=STORIES,
        n_texts=_N_STORIES,
        n_positions=_N_POSITIONS,
        parameters={"schemes": ("split_last", "stochastic")},
        statistic=statistic,
        comparison=Comparison(**comparison),
        note=note,
    )


CLAIMS = (
    _claim(
        "last",
        "splitting the last word changes the next token less than replacing it does",
        "A model reads the same text in other tokens as nearly the same text. The control, ours, puts a random token "
        "where the last token that can be split was; one elsewhere, farther from the end, would change less.",
        partial(divergence, "split_last"),
        "Worded after it was seen on the shipped model.",
        below="control",
    ),
    _claim(
        "tenth",
        "cutting a tenth of the tokens otherwise changes the next token less than replacing them does",
        "As `retokenisation.last`, for cuts anywhere in the text, as StochasTok makes them in training. The control "
        "puts random tokens at the same places, so that both are as far from the end.",
        partial(divergence, "stochastic"),
        "Open when it was worded: on the shipped model the two are about as large.",
        below="control",
    ),
    _claim(
        "repair",
        "through the layers a split last word comes nearer to itself than a replaced one does",
        "Models put words together again from their pieces in early layers. The states' cosine with the word's own "
        "state is held against that of a random token in its place; the control is that difference where blocks begin.",
        repair,
        "Cosines rise for random tokens too, by the direction that all states of a layer share. Worded after it was "
        "seen on the shipped model.",
        above="control",
    ),
    Claim(
        id="retokenisation.writes",
        statement="of the tokens that the model writes, 99 % are those that its tokenizer would write",
        paper=papers.PHANTOM_EDITS,
        says="A non-trivial share of models' answers reads as it should in tokens that no tokenizer writes. There is "
        "no control: an untrained model, which draws tokens at random, hardly writes a token that its tokenizer does.",
        probe="written_tokens",
        texts=STORIES,
        n_texts=_N_STORIES,
        n_positions=16,
        parameters={"samples": 2},
        statistic=written,
        comparison=Comparison(at_least=0.99),
        bounds=SHARE,
        note="Samples at temperature 1 that go on stories; the paper asks instruction-tuned models to replace words. "
        "The 99 % are ours.",
    ),
)
