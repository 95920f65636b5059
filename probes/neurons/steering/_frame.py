"""The rows of a `steer` frame: which positions are edited and read, and the columns of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Batch, Run
from probes.neurons.steering._effect import Effect, EffectRows


def rows_of(batch: Batch, positions: str, skip_bos: bool) -> EffectRows:
    """Return the positions of a batch that are edited and those that are read."""
    place = torch.arange(batch.ids.shape[1]).expand(len(batch.ids), -1)
    ends = batch.lengths[:, None]
    edited = {"all": place < ends, "last": place == ends - 1, "generated": torch.zeros_like(place, dtype=torch.bool)}
    read = (place == ends - 1) if positions == "last" else (place > 0) & (place < ends)
    row, pos = read.nonzero(as_tuple=True)
    following = batch.ids[row, (pos + 1).clamp(max=batch.ids.shape[1] - 1)].where(pos + 1 < batch.lengths[row], -1)
    return EffectRows(edited[positions] & ((place > 0) | (not skip_bos)), row, pos, following)


def columns_of(
    run: Run,
    batch: Batch,
    rows: EffectRows,
    effect: Effect,
    written: Mapping[str, np.ndarray],
    which: np.ndarray,
    layers: Sequence[int],
) -> dict[str, np.ndarray]:
    """Return the columns of a batch, prompt by prompt, layer by layer, condition by condition."""
    n = len(batch.ids)

    def per_prompt(values: Tensor) -> np.ndarray:
        """Average [places, doses, rows] over each prompt's rows without NaN, and flatten."""
        known = ~values.isnan()
        sums, counts = (
            torch.zeros(*values.shape[:2], n, dtype=torch.float64).index_add_(2, rows.row, one.double())
            for one in (values.nan_to_num(), known)
        )
        means: np.ndarray = (sums / counts).permute(2, 0, 1).numpy()[:, :, which].ravel()
        return means

    def per_text(name: str, absent: Any) -> np.ndarray:
        """Flatten [prompts, doses], which stand at the model's output only."""
        table = np.full((n, len(layers), len(which)), absent, dtype=object if absent is None else float)
        if name in written:
            table[:, -1] = written[name][:, which]
        return table.ravel()

    shape = (n, len(layers), len(which))
    prompts = run.prompt_ids(batch)
    return {
        "prompt_id": np.broadcast_to(prompts[:, None, None], shape).ravel(),
        "layer": np.broadcast_to(np.array(layers)[None, :, None], shape).ravel(),
        "delta_log_prob": per_prompt(effect.log_prob),
        "delta_logit_predicted": per_prompt(effect.predicted),
        "delta_logit": per_prompt(effect.logit),
        "kl": per_prompt(effect.kl),
        "loss_ratio": np.exp(per_prompt(effect.loss)),
        "concept_frequency": per_text("concept_frequency", np.nan),
        "unsteered_frequency": per_text("unsteered_frequency", np.nan),
        "text": per_text("text", None),
        "unsteered_text": per_text("unsteered_text", None),
    }
