"""The law of next-token prediction (He & Su, arXiv 2408.13442): each layer reduces the error by the same factor.

The next token's id, taken as a number, is regressed on the states of each layer. According to the paper, the share of
its variance that is left falls by the same factor from layer to layer. A token id is an arbitrary coordinate, and an
in-sample fit of d parameters looks too good, so the regression is repeated with ids shuffled, tokens shuffled, prompts
held out, and with the next token's unembedding vector in place of its id.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from interp.authoring import (
    Column,
    Run,
    Schema,
    Source,
    Texts,
    collect,
    columns,
    probe,
    running_text,
    say_cost,
)
from probes import papers
from probes.geometry import plots
from probes.geometry._law_sums import LawSettings, law_sums
from probes.geometry._linearity import step_products

LAW = Schema(
    probe="next_token_law",
    paper=papers.NEXT_TOKEN_LAW,
    rows="one per layer, response, sample, control and draw",
    columns=columns(
        "model",
        "run_id",
        "layer",
        Column("response", "str", "the predicted quantity: 'next' token id, or its 'unembedding' vector"),
        Column("sample", "str", "'in_sample' as published, or 'held_out': fitted on other prompts"),
        "control",
        Column("draw", "int", "number of the draw of a control", low=0),
        Column("residual", "float", "share of the response's variance left; above 1 only held out", "share", low=0.0),
        Column("log10_residual", "float", "decimal logarithm of `residual`", "decades"),
        Column("null", "float", "the share left in sample by unrelated states", "share", low=0.0, missing=True),
        Column("n_tokens", "int", "tokens the residual is measured on", low=1),
        Column("n_dims", "int", "dimensions in which the fitted states vary", low=0),
    ),
)

_KEYS = ("model", "run_id", "response", "sample", "control")


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Fit the law's line for every response, sample and control: log10 residual against layer, 1..L as published.

    Args:
        frame: of `next_token_law`.

    Returns:
        Per curve and `layers` ("1..L" as published, "1..L-1", without the last): `slope` (decades per layer),
        `pearson_r`, `r2`, `max_deviation` from the line and `odd_deviation` of odd layers from the line through even
        ones (decades), and `last_over_first`. Draws of a control are averaged first; a curve of fewer than three layers
        has no fit. The corpus is one sample, so there are no intervals over prompts.
    """
    rows = []
    for keys, curve in frame[frame["layer"] > 0].groupby(list(_KEYS), sort=False):
        points = curve.groupby("layer")["log10_residual"].mean()
        for name, chosen in (("1..L", points), ("1..L-1", points.iloc[:-1])):
            facts = fit_line(chosen.index.to_numpy(float), chosen.to_numpy())
            rows.append(dict(zip(_KEYS, keys, strict=True)) | {"layers": name} | facts)
    return pd.DataFrame(rows)


def fit_line(layer: np.ndarray, log10_residual: np.ndarray) -> dict[str, float]:
    """Fit a least-squares line to a curve [n]; measure the deviations from it, and from a line through even layers.

    >>> fit = fit_line(np.arange(1.0, 7.0), -0.1 * np.arange(1.0, 7.0))
    >>> round(fit["slope"], 6), round(fit["pearson_r"], 6), round(fit["last_over_first"], 6)
    (-0.1, -1.0, 0.316228)
    """
    names = ("slope", "pearson_r", "r2", "max_deviation", "odd_deviation", "last_over_first")
    if len(layer) < 3:
        return dict.fromkeys(names, float("nan"))
    slope, intercept = np.polyfit(layer, log10_residual, 1)
    deviation = log10_residual - (slope * layer + intercept)
    flat = np.ptp(log10_residual) == 0
    r = float("nan") if flat else float(np.corrcoef(layer, log10_residual)[0, 1])
    even = layer % 2 == 0
    odd_deviation = float("nan")
    if even.sum() >= 2:
        through_even = np.polyval(np.polyfit(layer[even], log10_residual[even], 1), layer[~even])
        odd_deviation = float(np.abs(log10_residual[~even] - through_even).max())
    ratio = float(10 ** (log10_residual[-1] - log10_residual[0]))
    return dict(zip(names, (float(slope), r, r * r, float(np.abs(deviation).max()), odd_deviation, ratio), strict=True))


@probe(LAW, plot=plots.next_token_law, summarise=summarise, sums=law_sums, example=running_text, costly=True)
def next_token_law(
    subject: Source,
    texts: Texts,
    *,
    normalised: bool = True,
    held_out: float = 0.2,
    draws: int = 5,
    tokens_per_dim: float = 20.0,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure how much of the next token a linear regression on each layer's states leaves unexplained.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; all tokens that are followed by another are pooled over prompts.
        normalised: apply a norm to the states, as published; False takes them raw. The paper uses a norm without gain
            and bias on every layer but the last, and the model's final norm on the last; here it is the model's final
            norm everywhere. Gain and bias are an invertible map, which does not change a regression, so the residuals
            are the paper's.
        held_out: share of the prompts held out for the held-out residual.
        draws: number of draws of each control.
        tokens_per_dim: the fewest tokens in the fit per dimension of the residual stream. Unrelated states leave
            1 - d / (n - 1) in sample: with few tokens everything seems explained.
        seed: of the choice of held-out prompts and of the controls.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per layer 0..L, response ("next", the id as a number, and "unembedding", the vector W_U[:, next]),
        sample and control: "shuffled_vocabulary" renames all token ids at random, "shuffled_tokens" gives every state
        the next token of another state.

    Raises:
        InputError: there are too few tokens or prompts, or an argument is out of range.
        ModelError: the model's head is on another machine.

    Cost: one forward pass and 2 d² float64 multiplications per token and layer; memory 4 d² numbers per layer.

    Pitfall: in-sample fits of d parameters fall by themselves; read "held_out", and beside it the control with renamed
    ids.

    >>> frame = next_token_law("reference", "prompts", tokens_per_dim=2, draws=1)
    >>> frame[(frame.response == "next") & (frame.control == "none")].groupby("sample").layer.max().to_dict()
    {'held_out': 8, 'in_sample': 8}
    """
    settings = LawSettings(normalised, held_out, draws, tokens_per_dim)
    run = law_run(subject, texts, settings, seed=seed, truncate=truncate)
    stream = law_sums(run)
    say_cost(run, passes=1, products=step_products(run))
    collect(run, [stream])
    return run.frame(stream.rows())


def law_run(subject: Source, texts: Texts, settings: LawSettings, *, seed: int, truncate: bool) -> Run:
    """Start the run of a `next_token_law`."""
    return Run(LAW, subject, texts, parameters=asdict(settings), truncate=truncate, seed=seed)
