"""Check the arguments of both probes of patching, begin the run, and go through its batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from interp.authoring import (
    ChosenPositions,
    InputError,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Texts,
    load,
    positions_of,
    warn,
    warn_of_end,
)
from probes.patching._batch import Sides, donors_of, mean_of
from probes.patching._layout import Asked, Rows, rows_of
from probes.patching._metric import Metric
from probes.patching._pairs import Corruption, Tokened, corrupt_of, ids_of
from probes.patching._sites import WITH_HEADS, SiteNames, heads_of, places_of, sites_of
from probes.patching._states import n_residuals

Mode: TypeAlias = Literal["denoise", "noise"]
"""Put clean activations into the corrupt run, or corrupt ones into the clean run."""

Control: TypeAlias = Literal["other", "random"]
"""The same place of an unrelated prompt's run, or a random change of the norm of the patch's own."""

MOST_BESIDE = 32
"""Patched runs of a prompt for which a batch leaves room; more are run in parts."""


@dataclass(frozen=True)
class Settings:
    """The arguments that both probes take; `probes.patching.patch.patch` describes them."""

    sites: SiteNames
    positions: Positions
    layers: Layers
    heads: Layers
    metric: Metric
    mode: Mode
    target: Tokened
    against: Tokened
    corruption: Corruption
    noise: float
    noised: Positions
    draws: int
    seed: int
    truncate: bool


def begin(
    schema: Schema,
    subject: Source,
    clean: Texts,
    corrupt: Texts | None,
    given: Settings,
    *,
    controls: Sequence[Control] = (),
    more: Mapping[str, Any] | None = None,
) -> tuple[Run, Asked]:
    """Check all arguments and begin a run.

    Args:
        schema: of the probe.
        subject: as a user gave it.
        clean: the clean prompts.
        corrupt: the corrupt prompts, or the set.
        given: the settings.
        controls: beside the patches.
        more: the probe's own parameters, which decide the run's id too.

    Raises:
        InputError: an argument cannot be used.
    """
    loaded = load(subject)
    tokens = loaded.tokens(clean, truncate=given.truncate)
    if given.corruption == "mean" and given.mode == "denoise":
        raise InputError("corruption='mean' has no corrupt run to put clean activations into: use mode='noise'.")
    other = corrupt_of(
        loaded, tokens, corrupt, given.corruption, size=given.noise, noised=given.noised, draws=given.draws,
        seed=given.seed, truncate=given.truncate,
    )  # fmt: skip
    where: ChosenPositions | Literal["all"] | None = positions_of(loaded, tokens, given.positions)
    if where is None and given.positions is not None:
        where = "all"  # together
    places = places_of(loaded, given.sites, given.layers)
    heads = heads_of(loaded, places, given.heads)
    asked_for = ids_of(loaded, tokens, given.target, "target"), ids_of(loaded, tokens, given.against, "against")
    names = ("layers", "heads", "positions", "metric", "mode", "target", "against", "corruption", "draws")
    parameters = {
        "sites": list(dict.fromkeys(place.site for place in places)),
        **{name: getattr(given, name) for name in names},
        **{"corrupt": other.digest, **({} if more is None else more)},
        **({"controls": list(controls)} if controls or more is None else {}),
        **({"noise": given.noise, "noised": given.noised} if given.corruption == "noise" else {}),
    }
    run = Run(schema, loaded, tokens, parameters=parameters, truncate=given.truncate, seed=given.seed)
    warn_of_end(loaded, tokens)
    chosen: list[str] = list(dict.fromkeys(controls))
    if "other" in chosen and len(tokens) < 2:
        warn("no control 'other': it needs a second prompt to take activations from; pass at least two.")
        chosen.remove("other")
    denoise, sites = given.mode == "denoise", sites_of(loaded, places)
    asked = Asked(places, sites, heads, where, given.metric, denoise, ("none", *chosen), other, *asked_for, given.seed)
    return run, asked


def n_patches_of(run: Run, asked: Asked) -> int:
    """Return how many patched runs the longest prompt has, or a few more."""
    subject = run.subject
    n_slots = 1 if isinstance(asked.positions, str) else max(map(len, run.tokens.ids))
    if isinstance(asked.positions, ChosenPositions):
        n_slots = max(map(len, asked.positions.by_prompt))
    n_heads = len(asked.heads or range(subject.n_heads))
    per_place = sum(n_heads if place.site in WITH_HEADS else 1 for place in asked.places)
    return per_place * n_slots * len(asked.controls)


def batches_of(run: Run, asked: Asked, *, states_per_layer: float) -> Iterator[tuple[Rows, Sides]]:
    """Yield batches within the memory budget, each with its runs.

    Args:
        run: whose prompts.
        asked: what is asked of them.
        states_per_layer: residuals held per layer, beside those of the runs themselves.
    """
    subject, tokens = run.subject, run.tokens
    donors, mean = donors_of(run, asked), mean_of(subject, asked, tokens)
    states = 3 + 2 * n_residuals(subject, asked.sites, max(map(len, tokens.ids))) + states_per_layer
    for batch in tokens.batches(max(1, int(subject.batch_tokens(states) / asked.corrupt.draws))):
        rows = rows_of(asked, batch)
        yield rows, Sides(run, asked, rows, donors, mean)
