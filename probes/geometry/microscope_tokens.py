"""LLM-Microscope (Razzhigaev et al., arXiv 2502.15007), token by token: which tokens' steps are not linear?"""

from __future__ import annotations

from functools import partial

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
    one_core_each,
    options,
    probe,
    require_enough,
    rows_of_block,
    running_text,
    say_cost,
    select_positions,
)
from probes import papers
from probes.geometry import plots
from probes.geometry._linearity import StepMap, StepMoments, inner_tokens, step_distances, step_products

TOKENS = Schema(
    probe="microscope_tokens",
    paper=papers.LLM_MICROSCOPE,
    rows="one per prompt, position and step between layers",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "pos",
        "token_id",
        "token",
        Column("layer", "int", "the step from this layer to the next, 0..L-1", low=0),
        Column("nonlinearity", "float", "distance from the linear map's output; mean square 1 - linearity", low=0.0),
        Column("update", "float", "distance of the step from the mean step: error of leaving a state as is", low=0.0),
        Column("size", "float", "distance from the mean state: error of a constant map", low=0.0),
    ),
    summary_by=("layer",),
    summary_of=("nonlinearity", "update", "size"),
)


@probe(TOKENS, plot=plots.microscope_tokens, example=running_text, jointly=True, costly=True)
def microscope_tokens(
    subject: Source,
    texts: Texts,
    *,
    tokens_per_dim: float = 20.0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Measure how far each token's step between layers is from the best linear map of all tokens.

    The map is fitted to all tokens except first positions, which would dominate it. Distances are in units of the root
    mean square distance of those tokens from their mean, so that they do not depend on the number of tokens.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        tokens_per_dim: see `microscope`.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, position and step.

    Raises:
        InputError: there are too few tokens.

    Cost: two forward passes, the first to fit and the second to apply.

    Pitfall: the map is fitted to the same tokens, so sizes are comparable within one run only.

    >>> frame = microscope_tokens("reference", "prompts", tokens_per_dim=2)
    >>> inner = frame[frame.pos > 0]
    >>> bool(((inner["size"] ** 2).groupby(inner.layer).mean() - 1).abs().max() < 1e-6)
    True
    """
    parameters = {"tokens_per_dim": tokens_per_dim}
    run = Run(TOKENS, subject, texts, parameters=parameters, truncate=truncate)
    require_enough(inner_tokens(run), run.subject.d_model, tokens_per_dim)
    say_cost(run, passes=2, products=2 * step_products(run))
    gathered = StepMoments(run)
    collect(run, [gathered])
    with one_core_each() as pool:
        maps = list(pool.map(StepMap.of, gathered.inner[:-1]))
    del gathered
    parts: list[dict[str, np.ndarray]] = []
    with options.reserving(sum(one.coefficients.nbytes for one in maps)):
        for batch in run.batches(2):  # the tape, and a few layers in float64
            row, pos = select_positions(batch, None)
            distances = run.subject.run(batch.ids, partial(step_distances, at=(row, pos), maps=maps))
            found = dict(zip(("nonlinearity", "update", "size"), distances.cpu().numpy(), strict=True))
            parts.append(
                rows_of_block(
                    (len(row), len(maps), 1),
                    by_row=run.token_columns(batch, row, pos),
                    by_place={"layer": np.arange(len(maps))},
                    full={name: values[:, :, None] for name, values in found.items()},
                )
            )
    return run.frame(parts)
