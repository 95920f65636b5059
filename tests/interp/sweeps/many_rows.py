"""A sweep's folder of as many rows as one likes, of a lens that nobody computed: reading does not ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import interp
from interp.data.folders import Folder
from interp.runs import registry
from interp.runs.store import Store
from interp.sweeps.manifest import Manifest, write_manifest
from interp.sweeps.shard import Shard

N_LAYERS, N_TOKENS = 31, 64  # as SmolLM2-135M has, and the prompts of the plan
KEPT_AS = "logit_lens-000000000000-000000000000"
PROVENANCE = {"probe": "logit_lens", "model": "drawn", "run_id": "000000000000"}


def rows(prompt_ids: Sequence[int], n_tokens: int = N_TOKENS, n_layers: int = N_LAYERS) -> pd.DataFrame:
    """Rows of `logit_lens` for some prompts, with drawn numbers."""
    draw = np.random.default_rng(prompt_ids[0])
    places = len(prompt_ids) * n_tokens
    n = places * n_layers
    words = np.array([f" word{number}" for number in range(2000)], dtype=object)
    token, top = np.repeat(draw.integers(0, 2000, places), n_layers), draw.integers(0, 2000, n)
    layer = np.tile(np.arange(n_layers), places)
    frame = pd.DataFrame(
        {
            "model": "drawn",
            "run_id": "000000000000",
            "prompt_id": np.repeat(prompt_ids, n_tokens * n_layers),
            "pos": np.tile(np.repeat(np.arange(n_tokens), n_layers), len(prompt_ids)),
            "token_id": token,
            "token": words[token],
            "layer": layer,
            "sublayer": np.where(layer == n_layers - 1, "final", "pre"),
            "lens": "logit",
            "target_id": token,
            "target": words[token],
            "log_prob": -draw.random(n),
            "rank": draw.integers(0, 1000, n),
            "entropy": draw.random(n),
            "kl_to_final": draw.random(n),
            "top1_id": top,
            "top1": words[top],
            "top1_prob": draw.random(n),
            "agrees_final": draw.random(n) < 0.5,
        }
    )
    return registry.get("logit_lens").schema.restored(frame)


def sweep_of(folder: Path, shards: Sequence[pd.DataFrame]) -> interp.Sweep:
    """Keep frames as the shards of a sweep."""
    manifest = Manifest("logit_lens", KEPT_AS, PROVENANCE)
    store = Store(folder, KEPT_AS)
    for number, frame in enumerate(shards):
        name, prompt_ids = f"{number:012x}", tuple(frame["prompt_id"].unique().tolist())
        store.write(name, frame, texts_once=True)
        manifest.add([Shard(name, prompt_ids)], {one: f"{one:012x}" for one in prompt_ids})
    write_manifest(Folder(str(folder)), manifest)
    return interp.Sweep(folder)


def sweep_of_copies(folder: Path, frame: pd.DataFrame, n_shards: int) -> interp.Sweep:
    """Keep a frame as the first of many shards, and give the others its file; only reading asks whose rows they are."""
    first = frame["prompt_id"].unique().tolist()
    manifest, store = Manifest("logit_lens", KEPT_AS, PROVENANCE), Store(folder, KEPT_AS)
    store.write("0", frame, texts_once=True)
    (content,) = (Path(path).read_bytes() for path in store.paths(["0"]))
    for number in range(n_shards):
        prompt_ids = tuple(one + number * len(first) for one in first)
        manifest.add([Shard(str(number), prompt_ids)], {one: f"{one:012x}" for one in prompt_ids})
        Path(*store.paths([str(number)])).write_bytes(content)
    write_manifest(Folder(str(folder)), manifest)
    return interp.Sweep(folder)
