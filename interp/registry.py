"""Probes, ours and anyone's, found through the entry-point group `interp.probes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pandas as pd

from interp.errors import InputError, InterpError, UnknownName
from interp.frames import Schema
from interp.stats import bootstrap_over_prompts

if TYPE_CHECKING:
    from interp.subject import Subject

GROUP = "interp.probes"
# The workbench's own frame: `frame.interp` must know it, but it is no probe of one model.
_TABLES = {"findings": EntryPoint("findings", "interp.findings.table:findings", GROUP)}
F = TypeVar("F", bound=Callable[..., pd.DataFrame])
Example: TypeAlias = "Callable[[Subject, pd.DataFrame], Mapping[str, Any]]"


@dataclass(frozen=True)
class Probe:
    """A probe as the workbench sees it.

    Attributes:
        function: `(subject, texts, *, ...) -> DataFrame`.
        schema: of the frame it returns.
        plot: frame -> matplotlib Figure, or None.
        summarise: frame -> summary frame.
        example: subject, texts -> arguments to show the probe with where its own defaults do not do; see `probe`.
    """

    function: Callable[..., pd.DataFrame]
    schema: Schema
    summarise: Callable[..., pd.DataFrame]
    plot: Callable[..., Any] | None = None
    example: Example | None = None

    @property
    def name(self) -> str:
        """The schema's name for the probe, and its entry point's."""
        return self.schema.probe


def probe(
    schema: Schema,
    *,
    plot: Callable[..., Any] | None = None,
    summarise: Callable[..., pd.DataFrame] | None = None,
    example: Example | None = None,
) -> Callable[[F], F]:
    """Mark a function as the probe of a schema; the function itself is returned unchanged.

    Args:
        schema: what its frame holds.
        plot: draws a frame; called by `frame.interp.plot()`.
        summarise: sums a frame up; by default means over prompts of the schema's `summary_of`, by its `summary_by`.
        example: called with a loaded model and texts (a frame), gives keyword arguments that show the probe on any
            model in seconds: what has no default, or fewer texts, under "texts". `interp report` asks for it.
    """

    def mark(function: F) -> F:
        def default(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
            return summarise_by_prompt(schema, frame, **options)

        function.probe = Probe(function, schema, summarise or default, plot, example)  # type: ignore[attr-defined]
        return function

    return mark


def summarise_by_prompt(schema: Schema, frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Means over prompts with bootstrap intervals, per model, run and `summary_by`; position 0 is left out.

    The first position is an outlier in nearly every statistic (attention sink, massive activations).
    """
    kept = frame[frame["pos"] > 0] if "pos" in frame.columns else frame
    # Runs are kept apart: prompts numbered alike in two runs may be different texts.
    keys = [name for name in ("model", "run_id") if name in frame.columns]
    summary = bootstrap_over_prompts(kept, [*keys, *schema.summary_by], schema.summary_of, **options)
    summary.attrs["note"] = "means per prompt, then over prompts; position 0 left out; 95 % bootstrap over prompts"
    return summary


def names() -> list[str]:
    """Names of all installed probes.

    >>> "logit_lens" in names()
    True
    """
    return sorted(_entry_points())


@cache
def get(name: str) -> Probe:
    """A probe by name; imports the module it lives in.

    Raises:
        UnknownName: no installed package offers it.
        InterpError: the entry point does not lead to a probe.
    """
    found = _entry_points()
    if name not in found | _TABLES:
        raise UnknownName("probe", name, found)
    found |= _TABLES
    function = found[name].load()
    marked = getattr(function, "probe", None)
    if not isinstance(marked, Probe) or marked.name != name:
        raise InterpError(f"entry point {found[name].value!r} is not a function marked with @interp.probe as {name!r}.")
    return marked


def _entry_points() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found and found[entry.name].value != entry.value:
            raise InputError(f"two packages offer a probe {entry.name!r}: {found[entry.name].value}, {entry.value}.")
        found[entry.name] = entry
    return found
