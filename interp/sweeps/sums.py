"""Keep a shard's sums in a file, and merge those of all shards into the rows of a probe about all prompts together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import InputError
from interp.runs.progress import progress_bar
from interp.runs.run import Run
from interp.runs.store import Store
from interp.runs.streams import Sums
from interp.sweeps.manifest import ROWS, Manifest


def write_sums(store: Store, part: str, state: Mapping[str, Tensor]) -> None:
    """Keep a shard's sums, as float64, in which every number of a model's precision is itself."""
    values = [tensor.double().cpu().numpy() for tensor in state.values()]
    rows = {
        "name": list(state),
        "shape": [np.array(one.shape) for one in values],
        "value": [one.ravel() for one in values],
    }
    store.write(part, pd.DataFrame(rows))


def read_sums(store: Store, part: str) -> dict[str, Tensor] | None:
    """Return a shard's sums; None if they are absent, or damaged and now put aside."""
    rows = store.read_part(part)
    if rows is None:
        return None
    columns = zip(rows["name"], rows["shape"], rows["value"], strict=True)
    return {name: torch.from_numpy(value.copy()).reshape(shape.tolist()) for name, shape, value in columns}


def write_rows(manifest: Manifest, out: str, run: Run, total: Sums) -> None:
    """Merge the sums of all shards, in their order, and keep the rows that come from them.

    Args:
        manifest: the plan, of which every shard is kept.
        out: the folder.
        run: of the probe, over all prompts.
        total: the sums of no prompts, which are added to.

    Raises:
        InputError: the sums of a shard are gone or damaged.
    """
    kept = manifest.shard_store(out)
    with progress_bar(len(manifest.shards), "shard", f"{manifest.probe}, merging") as bar:
        for shard in manifest.shards:
            state = read_sums(kept, shard.name)
            if state is None:
                raise InputError(
                    f"the sums of {len(shard.prompt_ids):,} prompts are damaged in {out!r}; call interp.sweep again."
                )
            total.merge(state)
            bar.update()
    frame = run.frame(total.rows()).assign(run_id=manifest.provenance["run_id"])
    frame.attrs = {}
    manifest.row_store(out).write(ROWS, frame, texts_once=True)
