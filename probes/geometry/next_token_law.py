"""The law of next-token prediction (He & Su, arXiv 2408.13442): each layer reduces the error by the same factor.

The next token's id, taken as a number, is regressed on the states of each layer. According to the paper, the share of
its variance that is left falls by the same factor from layer to layer. A token id is an arbitrary coordinate, and an
in-sample fit of d parameters looks too good, so the regression is repeated with ids shuffled, tokens shuffled, prompts
held out, and with the next token's unembedding vector in place of its id.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Batch,
    Column,
    InputError,
    ModelError,
    Run,
    Schema,
    Source,
    Texts,
    collect,
    columns,
    content_order,
    followed,
    held_out_prompts,
    one_core_each,
    probe,
    progress_bar,
    require_fitted,
    running_text,
    say_cost,
)
from interp.model.tape import Tape
from interp.stats.least_squares import Accumulate, Moments
from probes import papers
from probes.geometry import plots
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


@probe(LAW, plot=plots.next_token_law, summarise=summarise, example=running_text)
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
    say_cost(run, passes=1, products=step_products(run))
    stream = LawStream(run, settings)
    collect(run, [stream])
    return run.frame([stream.columns()])


@dataclass(frozen=True)
class LawSettings:
    """A checked set of the arguments of `next_token_law` that decide its numbers."""

    normalised: bool = True
    held_out: float = 0.2
    draws: int = 5
    tokens_per_dim: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.draws < 1:
            raise InputError(
                f"held_out={self.held_out}, draws={self.draws}: give a share between 0 and 1, and at least one draw."
            )


def law_run(subject: Source, texts: Texts, settings: LawSettings, *, seed: int, truncate: bool) -> Run:
    """Start the run of a `next_token_law`; refuse too few tokens."""
    run = Run(LAW, subject, texts, parameters=asdict(settings), truncate=truncate, seed=seed)
    require_fitted(run, held_out=settings.held_out, tokens_per_dim=settings.tokens_per_dim, seed=seed)
    return run


class LawStream:
    """A sum of the moments of every layer's regressions, [layer][fitted, held out]."""

    def __init__(self, run: Run, settings: LawSettings) -> None:
        subject = run.subject
        self._normalised, self._draws = settings.normalised, settings.draws
        seed = 0 if run.seed is None else run.seed
        self._held_out = held_out_prompts(run.tokens.ids, settings.held_out, seed)
        self._unembedding = subject.W_U.T
        generator = torch.Generator().manual_seed(seed)
        renamed = [torch.randperm(subject.d_vocab, generator=generator) for _ in range(self._draws)]
        self._renamed = torch.stack(renamed)  # [draws, d_vocab]
        order = torch.from_numpy(content_order(run.tokens.ids, seed))  # a shuffle must not follow the given order
        following = torch.cat([run.tokens.ids[index][1:] for index in order])
        shuffles = [torch.randperm(len(following), generator=generator) for _ in range(self._draws)]
        self._shuffled = following[torch.stack(shuffles)]  # [draws, tokens], prompt after prompt
        lengths = torch.tensor([len(ids) - 1 for ids in run.tokens.ids])[order]
        self._starts = torch.empty_like(lengths).scatter_(0, order, lengths.cumsum(0) - lengths)
        n_responses = 1 + 2 * self._draws + subject.d_model
        layers = range(subject.n_layers + 1)
        self._moments = [
            [Moments.zeros(subject.d_model, n_responses, subject.device) for _ in range(2)] for _ in layers
        ]

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return sum(one.n_bytes for layer in self._moments for one in layer)

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Add a batch to the moments.

        Raises:
            ModelError: the model's head is on another machine.
        """
        if tape.head.weight is None:
            raise ModelError(
                "next_token_law needs the unembedding as a matrix on this machine; load the model without remote=True, "
                "and without quantising its unembedding."
            )
        (row, pos), following = followed(batch)
        # Fitted rows first, so that each part is a slice; within a part, equal responses side by side.
        held_out = self._held_out[batch.prompts[row]].long()
        order = (held_out * len(self._unembedding) + following).argsort()
        row, pos, following, held_out = (one[order] for one in (row, pos, following, held_out))
        numbers = self._numbers(batch, row, pos, following).to(tape.last.device)
        parts = [(held_out == part).nonzero()[:, 0] for part in range(2)]
        runs = [self._runs(following[part]) for part in parts]
        for layer, moments in enumerate(self._moments):
            states = tape.residual(layer)[row.to(tape.last.device), pos.to(tape.last.device)]
            states = (tape.head.norm(states) if self._normalised else states).double()
            start = 0
            for one, rows, shared in zip(moments, parts, runs, strict=True):
                stop = start + len(rows)
                one.add(states[start:stop], numbers[start:stop], shared, accumulate)
                start = stop

    def columns(self) -> dict[str, np.ndarray]:
        """Return the frame's columns, layer by layer."""
        n_layers = len(self._moments)
        parts = []
        with one_core_each() as pool, progress_bar(n_layers, "layer", "next_token_law, fits") as bar:
            for part in pool.map(self._layer, range(n_layers)):
                parts.append(part)
                bar.update()
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _numbers(self, batch: Batch, row: Tensor, pos: Tensor, following: Tensor) -> Tensor:
        """Return the scalar responses, float64 [n, 1 + 2 draws]: id, renamed ids, shuffled tokens' ids."""
        shuffled = self._shuffled[:, self._starts[batch.prompts[row]] + pos].T
        return torch.cat([following[:, None], self._renamed[:, following].T, shuffled], dim=1).double()

    def _runs(self, following: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unembeddings of the different tokens among sorted ids, and the count of each."""
        ids, lengths = torch.unique_consecutive(following.to(self._unembedding.device), return_counts=True)
        return self._unembedding[ids].double(), lengths

    def _layer(self, layer: int) -> dict[str, np.ndarray]:
        fitted, tested = self._moments[layer]
        whole = (fitted + tested).centred()
        in_sample = whole.fit()
        centre = fitted.x / fitted.n, fitted.y / fitted.n
        trained = fitted.about(*centre).fit()
        errors = tested.about(*centre).residual(trained.coefficients)
        rows = []
        null = 1 - in_sample.rank / (whole.n - 1)
        for response, control, draw, at in self._curves():
            left = float((whole.yy - in_sample.explained)[at].sum().clamp(min=0.0) / whole.yy[at].sum())
            rows.append((layer, response, "in_sample", control, draw, left, null, whole.n, in_sample.rank))
            left = float(errors[at].sum() / tested.centred().yy[at].sum())
            rows.append((layer, response, "held_out", control, draw, left, np.nan, tested.n, trained.rank))
        names = ("layer", "response", "sample", "control", "draw", "residual", "null", "n_tokens", "n_dims")
        found = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        with np.errstate(divide="ignore"):
            return found | {"log10_residual": np.log10(found["residual"])}

    def _curves(self) -> list[tuple[str, str, int, slice]]:
        """Return response, control, draw and slice of columns of each curve."""
        draws = range(self._draws)
        first = 1 + self._draws
        return [
            ("next", "none", 0, slice(0, 1)),
            *(("next", "shuffled_vocabulary", draw, slice(1 + draw, 2 + draw)) for draw in draws),
            *(("next", "shuffled_tokens", draw, slice(first + draw, first + draw + 1)) for draw in draws),
            ("unembedding", "none", 0, slice(first + self._draws, None)),
        ]
