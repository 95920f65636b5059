"""LLM-Microscope (Razzhigaev et al., arXiv 2502.15007): linearity, anisotropy and dimension of each layer.

Linearity is high if the residual stream carries most of a state on unchanged, if a few dimensions or the first position
hold most of the variance, or if tokens are few. So the frame also holds the linearity of the update alone, its value
for unrelated states, and the same without first positions, without massive dimensions, and with all dimensions of equal
variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Batch,
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Texts,
    collect,
    columns,
    content_order,
    one_core_each,
    probe,
    progress_bar,
    require_enough,
    running_text,
    say_cost,
    select_positions,
    whole_frame,
)
from interp.model.tape import Tape
from interp.stats.least_squares import Accumulate, Explained, Moments, Scatter
from probes import papers
from probes.geometry import plots
from probes.geometry._linearity import (
    StepMoments,
    anisotropy,
    inner_tokens,
    linearity,
    massive_dimensions,
    step_products,
)
from probes.geometry._two_nn import Cloud

MICROSCOPE = Schema(
    probe="microscope",
    paper=papers.LLM_MICROSCOPE,
    rows="one per layer and control",
    columns=columns(
        "model",
        "run_id",
        "layer",
        "control",
        Column("linearity", "float", "of the step to the next layer; missing at L", "0..1", 0, 1, True),
        Column("linearity_adjusted", "float", "the same with unrelated states at 0", "", None, 1, True),
        Column("linearity_null", "float", "its mean over shuffles of the next layer's states", "0..1", 0, 1, True),
        Column("linearity_centred", "float", "linearity of the update, next layer - this one", "0..1", 0, 1, True),
        Column("anisotropy", "float", "share of the variance in its largest direction", "0..1", 0, 1, True),
        Column("intrinsic_dimension", "float", "TwoNN on a sample of the tokens", "dimensions", 0, None, True),
        Column("n_points", "int", "different states in that sample", low=0),
        Column("n_tokens", "int", "tokens measured", low=1),
        Column("n_dims", "int", "dimensions of the residual stream measured", low=0),
    ),
)


@dataclass(frozen=True)
class MicroscopeSettings:
    """A checked set of the arguments of `microscope` that decide its numbers."""

    massive: float = 10.0
    n_points: int = 4096
    tokens_per_dim: float = 20.0

    def __post_init__(self) -> None:
        if not self.massive > 1 or self.n_points < 1:
            raise InputError(
                f"massive={self.massive}, n_points={self.n_points}: give a ratio above 1, and at least one point."
            )


def microscope_sums(run: Run) -> MicroscopeStream:
    """Return the sums of a run of `microscope`; refuse too few tokens."""
    settings = MicroscopeSettings(**run.parameters)
    require_enough(inner_tokens(run), run.subject.d_model, settings.tokens_per_dim)
    return MicroscopeStream(run, settings)


@probe(
    MICROSCOPE, plot=plots.microscope, summarise=whole_frame, sums=microscope_sums, example=running_text, costly=True
)
def microscope(
    subject: Source,
    texts: Texts,
    *,
    massive: float = 10.0,
    n_points: int = 4096,
    tokens_per_dim: float = 20.0,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure the linearity of each step between layers, and anisotropy and intrinsic dimension of each layer.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; all tokens of all prompts are pooled.
        massive: a dimension is massive if its root mean square, without first positions, is in some layer more than
            this many times the median dimension's.
        n_points: number of tokens drawn for the intrinsic dimension.
        tokens_per_dim: the fewest tokens allowed per dimension of the residual stream; see `next_token_law`.
        seed: of the draw of tokens.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per layer 0..L and control. "none": all tokens and dimensions, as published; "without_first": without
        position 0; "without_massive": without massive dimensions; "without_both"; "standardised": without position 0,
        every dimension scaled to variance 1. The step into layer L is to the raw residual, not to the normed one.

    Raises:
        InputError: there are too few tokens, or an argument is out of range.

    Cost: one forward pass and 2 d² float64 multiplications per token and layer; memory 2 d² numbers and `n_points`
    states per layer.

    Pitfall: linearity near 1 is what a residual stream gives for nothing: read it beside "without_both" and the
    unrelated states, and give it many more tokens than dimensions.

    >>> frame = microscope("reference", "prompts", tokens_per_dim=2, n_points=256)
    >>> bool(frame.linearity.dropna().between(0.5, 1).all()), frame.control.nunique()
    (True, 5)
    """
    settings = MicroscopeSettings(massive, n_points, tokens_per_dim)
    run = microscope_run(subject, texts, settings, seed=seed, truncate=truncate)
    stream = microscope_sums(run)
    say_cost(run, passes=1, products=step_products(run))
    collect(run, [stream])
    return run.frame(stream.rows())


def microscope_run(subject: Source, texts: Texts, settings: MicroscopeSettings, *, seed: int, truncate: bool) -> Run:
    """Start the run of a `microscope`."""
    return Run(MICROSCOPE, subject, texts, parameters=asdict(settings), truncate=truncate, seed=seed)


class MicroscopeStream(StepMoments):
    """A sum of moments, with the states of the tokens drawn: the data of `microscope`."""

    def __init__(self, run: Run, settings: MicroscopeSettings) -> None:
        super().__init__(run)
        self._massive = settings.massive
        seed = run.seed or 0
        by_content = torch.from_numpy(content_order(run.tokens.ids, seed))  # so that no draw follows the given order
        lengths = torch.tensor([len(ids) for ids in run.tokens.ids])[by_content]
        n_tokens = int(lengths.sum())
        self._starts = torch.empty_like(lengths).scatter_(0, by_content, lengths.cumsum(0) - lengths)
        order = torch.randperm(n_tokens, generator=torch.Generator().manual_seed(seed))
        drawn = order[: settings.n_points].sort().values
        self._slot = torch.full((n_tokens,), -1).scatter_(0, drawn, torch.arange(len(drawn)))
        self._drawn_first = torch.zeros(len(drawn), dtype=torch.bool)
        self._read = torch.zeros(len(drawn), dtype=torch.bool)  # the drawn tokens whose states are here
        shape = run.subject.n_layers + 1, len(drawn), run.subject.d_model
        self._drawn = torch.zeros(shape, dtype=run.subject.dtype)

    @property
    def n_bytes(self) -> int:
        """Memory of the sums and of the drawn states."""
        return super().n_bytes + self._drawn.nbytes

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Add a batch to the moments, and keep the states of its drawn tokens."""
        super().add(tape, batch, accumulate)
        row, pos = select_positions(batch, None)
        slot = self._slot[self._starts[batch.prompts[row]] + pos]
        row, pos, slot = row[slot >= 0], pos[slot >= 0], slot[slot >= 0]
        self._drawn_first[slot] = pos == 0
        self._read[slot] = True
        for layer in range(tape.n_layers + 1):
            states = tape.residual(layer)[row.to(tape.last.device), pos.to(tape.last.device)]
            self._drawn[layer, slot] = states.to("cpu", self._drawn.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the moments of the batches that were read, and the drawn states among them."""
        slots = self._read.nonzero()[:, 0]
        drawn = {"slots": slots, "first": self._drawn_first[slots], "drawn": self._drawn[:, slots]}
        return super().state() | drawn

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the moments of other batches, and their drawn states."""
        super().merge(state)
        slots = state["slots"].long()
        self._read[slots] = True
        self._drawn_first[slots] = state["first"].bool()
        self._drawn[:, slots] = state["drawn"].to(self._drawn.dtype)

    def rows(self) -> list[dict[str, Any]]:
        """Return the frame's rows: layer by layer, and within a layer control by control."""
        usual = ~massive_dimensions(self.inner, self._massive)
        pairs = zip(self.first, self.inner, strict=True)
        n_layers = len(self._drawn)
        rows: list[dict[str, Any]] = []
        with one_core_each() as pool, progress_bar(n_layers, "layer", "microscope, fits and dimensions") as bar:
            for of_layer in pool.map(partial(self._layer, usual), range(n_layers), pairs):
                rows += of_layer
                bar.update()
        return rows

    def _layer(self, usual: Tensor, layer: int, moments: tuple[Moments, Moments]) -> list[dict[str, Any]]:
        """Return the rows of a layer, one for each control."""
        sizes = self._intrinsic_dimensions(self._drawn[layer].double().numpy(), usual.cpu().numpy())
        rows = []
        for control, facts in _steps(*moments, usual):
            size, n_points = sizes[control]
            own = {"layer": layer, "control": control, "intrinsic_dimension": size, "n_points": n_points}
            rows.append(own | facts)
        return rows

    def _intrinsic_dimensions(self, points: np.ndarray, usual: np.ndarray) -> dict[str, tuple[float, int]]:
        """Return, for every control, the dimension and number of different points of a layer's sample [n, d_model]."""
        first = self._drawn_first.numpy()
        order = np.argsort(first, kind="stable")  # of points that coincide, one after position 0 is kept
        points, inner = points[order], ~first[order]
        clouds = [Cloud.of(points)]
        # If no dimension is massive, the cloud without them is the same.
        clouds.append(clouds[0] if usual.all() else Cloud.of(points[:, usual]))
        spread = points[inner].std(0) if inner.any() else np.ones(points.shape[1])
        standardised = Cloud.of(points[inner] / np.where(spread > 0, spread, 1.0))
        found = (*clouds, *(cloud.part(inner) for cloud in clouds), standardised)
        names = ("none", "without_massive", "without_first", "without_both", "standardised")
        return {name: cloud.dimension() for name, cloud in zip(names, found, strict=True)}


def _steps(first: Moments, inner: Moments, usual: Tensor) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield linearity and anisotropy under each control."""
    every, whole = inner.centred(), (first + inner).centred()
    (whole_all, whole_usual), (every_all, every_usual) = (step.explained(usual) for step in (whole, every))
    yield "none", _facts(whole, whole_all)
    yield "without_first", _facts(every, every_all)
    yield "without_massive", _facts(whole.of(usual), whole_usual)
    yield "without_both", _facts(every.of(usual), every_usual)
    standardised = every.standardised()
    # Scaling changes what is explained of a dimension of y as it changes the variance of that dimension.
    shares = (every_all.squares / every.yy).nan_to_num()
    yield "standardised", _facts(standardised, Explained(shares * standardised.yy, every_all.rank))


def _facts(step: Scatter, explained: Explained) -> dict[str, float]:
    anisotropic = {"anisotropy": anisotropy(step.xx)}
    return {"n_tokens": step.n, "n_dims": len(step.xx)} | anisotropic | linearity(step, explained)
