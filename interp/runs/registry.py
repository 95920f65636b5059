"""Find probes by name: those that packages offer in the entry-point group `interp.probes`, and the session's own.

A probe defined in a notebook or a script is known from the moment it is marked with `@interp.probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from interp.checks import checked
from interp.errors import InputError, InterpError, UnknownName
from interp.frames.schema import Schema
from interp.runs.plugins import offered
from interp.stats import bootstrap_over_prompts, means_of_table

if TYPE_CHECKING:
    from interp.model.subject import Subject

GROUP = "interp.probes"
F = TypeVar("F", bound=Callable[..., pd.DataFrame])
Example: TypeAlias = "Callable[[Subject, pd.DataFrame], Mapping[str, Any]]"


@checked
@dataclass(frozen=True)
class Probe:
    """A probe: its function, schema, summary, figure and example.

    Attributes:
        function: `(subject, texts, *, ...) -> DataFrame`.
        schema: of the frame it returns.
        plot: frame -> matplotlib Figure, or None.
        explore: frame -> `interp.display.interactive.Page`, or None.
        summarise: frame -> summary frame.
        example: subject, texts -> arguments that show the probe if its own defaults are not enough; see `probe`.
        reduce: rows of whole prompts -> fewer rows with the same summary, or None; see `reduction`.
        reduce_from: the columns that `reduce` reads; None for all.
        jointly: True if rows of a prompt hang on the other prompts, so that no sweep may divide them.
        costly: True if it takes long on a real model whatever the texts are; `interp report --quick` leaves it out.
        sums: run -> the sums over prompts that its rows come from, or None; sweeps divide and merge them.
        listed: False if `names()` leaves it out, as it does the workbench's own tables, which `get` finds.
    """

    function: Callable[..., pd.DataFrame]
    schema: Schema
    summarise: Callable[..., pd.DataFrame]
    plot: Callable[..., Any] | None = None
    example: Example | None = None
    reduce: Callable[..., pd.DataFrame] | None = None
    reduce_from: tuple[str, ...] | None = None
    jointly: bool = False
    listed: bool = True
    explore: Callable[..., Any] | None = None
    sums: Callable[..., Any] | None = None
    costly: bool = False

    def reduction(self, settings: Mapping[str, Any]) -> Callable[[pa.Table], pd.DataFrame] | None:
        """Return what shortens rows before they are summed up, so that long results can be, a part at a time.

        Args:
            settings: of the summary; None is returned where that one needs all rows.
        """
        if self.reduce is None or "by" in settings:
            return None
        return self.reduce

    @property
    def name(self) -> str:
        """The name of the probe, from its schema."""
        return self.schema.probe

    @property
    def of_single_prompts(self) -> bool:
        """True if each row is about one prompt, whatever the others are, so that sweeps may divide them."""
        own = any(column.name == "prompt_id" and not column.missing for column in self.schema.columns)
        return own and not self.jointly

    @property
    def origin(self) -> str:
        """The module and name of the function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


_AT = ("model", "run_id", "prompt_id", "pos")
# Every probe marked in this process: by name, then by origin, the newest last. Running a cell again replaces its probe.
_marked: dict[str, dict[str, Probe]] = {}


@checked
def probe(
    schema: Schema,
    *,
    plot: Callable[..., Any] | None = None,
    explore: Callable[..., Any] | None = None,
    summarise: Callable[..., pd.DataFrame] | None = None,
    example: Example | None = None,
    reduce: Callable[..., pd.DataFrame] | None = None,
    reduce_from: Sequence[str] | None = None,
    jointly: bool = False,
    sums: Callable[..., Any] | None = None,
    listed: bool = True,
    costly: bool = False,
) -> Callable[[F], F]:
    """Mark a function as the probe of a schema; its arguments are then checked at every call, see `interp.checks`.

    Args:
        schema: of its frame.
        plot: draws a frame; called by `frame.interp.plot()`.
        explore: makes a page of a frame to look into, see `interp.display.interactive`; called by
            `frame.interp.explore()`.
        summarise: summarises a frame; by default means over prompts of the schema's `summary_of`, by its `summary_by`.
        example: called with a loaded model and texts (a frame), returns keyword arguments with which the probe runs on
            any model in seconds: arguments without a default, or fewer texts under "texts". `interp report` uses it.
        reduce: turns an Arrow table of the rows of whole prompts into a frame of fewer rows with the same summary, such
            as means per prompt; sweeps sum up a shard at a time by it. Probes without a summary of their own have one.
        reduce_from: the columns that `reduce` reads, beside those of `summary_by` and those that say which position of
            which prompt in which run; None for all.
        jointly: True if rows of a prompt hang on the other prompts, as with a fit to all: then no sweep divides them.
        sums: called with a run, returns the sums that the rows come from, where these are about all prompts together; a
            sweep adds up those of its shards. It refuses texts that are too few.
        listed: False for a table that is not a probe of one model.
        costly: True if the example takes over 20 processor seconds on SmolLM2 (135 million weights), with four short
            prompts; `interp report --quick` leaves the probe out.
    """

    def mark(function: F) -> F:
        def default(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
            return summarise_by_prompt(schema, frame, **options)

        def means(table: pa.Table) -> pd.DataFrame:
            return means_per_prompt(schema, table)

        known = [one.name for one in schema.columns]
        shorten, read = reduce, reduce_from
        if summarise is None and "prompt_id" in known:
            shorten, read = means, schema.summary_of
        if read is not None:
            read = [name for name in known if name in (*read, *schema.summary_by, *_AT)]
        function = checked(function)
        made = Probe(
            function,
            schema,
            checked(summarise or default),
            plot and checked(plot),
            example,
            shorten,
            None if read is None else tuple(read),
            jointly,
            listed,
            explore and checked(explore),
            sums,
            costly,
        )
        function.probe = made  # type: ignore[attr-defined]
        by_origin = _marked.setdefault(made.name, {})
        by_origin.pop(made.origin, None)
        by_origin[made.origin] = made
        return function

    return mark


@checked
def summarise_by_prompt(schema: Schema, frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Average over prompts, with bootstrap intervals, per model, run and `summary_by`; position 0 is left out.

    The first position is an outlier in nearly every statistic (attention sink, massive activations).
    """
    summary = bootstrap_over_prompts(_kept(frame), _groups(schema, frame.columns), schema.summary_of, **options)
    summary.attrs["note"] = "means per prompt, then over prompts; position 0 left out; 95 % bootstrap over prompts"
    return summary


@checked
def means_per_prompt(schema: Schema, table: pa.Table) -> pd.DataFrame:
    """Average each prompt's rows in every group of the summary; `summarise_by_prompt` of that is that of the rows.

    Means differ by a rounding: pyarrow adds up in order, pandas carries what is lost along.

    Args:
        schema: of the rows, which says by what and of what the summary is.
        table: rows of whole prompts, as a sweep keeps them.
    """
    keys = _groups(schema, table.column_names)
    known = "pos" in table.column_names
    after_first = (pc.field("pos") > 0) | pc.field("pos").is_null() if known else None
    needed = [*keys, *schema.summary_of, "prompt_id", *(["pos"] if known else [])]
    means = means_of_table(table.select(needed), keys, schema.summary_of, where=after_first).to_pandas()
    means = means.assign(**schema.restored(means[keys]))
    return means.assign(pos=1) if known else means


def _kept(frame: pd.DataFrame) -> pd.DataFrame:
    # A row without a position is not of a first one.
    return frame[(frame["pos"] > 0) | frame["pos"].isna()] if "pos" in frame.columns else frame


def _groups(schema: Schema, known: Collection[str]) -> list[str]:
    # Keep runs apart: one prompt_id in two runs may mean two different texts.
    return [*(name for name in ("model", "run_id") if name in known), *schema.summary_by]


def names() -> list[str]:
    """Return the names of all probes, installed or defined in this session.

    >>> "logit_lens" in names()
    True

    Raises:
        InputError: two packages offer a probe of the same name.
        InterpError: a module of the user hides one of our packages.
    """
    known = _installed()[0] | {name: one for name in _marked if (one := _of_session(name)) is not None}
    return sorted(name for name, one in known.items() if one.listed)


@checked
def get(name: str) -> Probe:
    """Return a probe by name.

    Raises:
        UnknownName: no installed package offers it, and the session has not defined it.
        InputError: it is defined twice.
        InterpError: its entry point cannot be loaded or does not lead to a probe.
    """
    installed, failed = _installed()
    own, here = _of_session(name), _marked.get(name, {})
    if name in installed:
        if own is not None:
            raise InputError(
                f"two probes are called {name!r}, one of {installed[name].origin} and one defined in this session; "
                "give yours another name in its schema."
            )
        return here.get(installed[name].origin, installed[name])  # the newest version, if its module was reloaded
    if here:
        return own or list(here.values())[-1]
    if name in failed:
        raise InterpError(f"{failed[name]}.")
    raise UnknownName("probe", name, names())


def functions_of(name: str) -> list[Callable[..., pd.DataFrame]]:
    """Return the functions that were marked as the probe of this name in this process, without loading packages."""
    return [one.function for one in _marked.get(name, {}).values()]


def _of_session(name: str) -> Probe | None:
    """Return the newest probe of a name that a notebook or a script defines itself."""
    marked = reversed(_marked.get(name, {}).values())
    return next((one for one in marked if one.function.__module__ == "__main__"), None)


@cache
def _installed() -> tuple[dict[str, Probe], dict[str, str]]:
    """Return the probes that packages offer, by name; and the reason for each entry point without one, by its name."""
    found: dict[str, Probe] = {}
    packages, unloaded = offered(GROUP)
    failed = dict(unloaded)
    for entry, single, functions in packages:
        probes = [getattr(function, "probe", None) for function in functions]
        if not probes or not all(isinstance(one, Probe) for one in probes):
            failed[entry.name] = f"entry point {entry.value!r} is not a function marked with @interp.probe, or several"
            continue
        for one in probes:
            assert isinstance(one, Probe)
            if single and one.name != entry.name:
                failed[entry.name] = (
                    f"entry point {entry.value!r} leads to the probe {one.name!r}, not to {entry.name!r}"
                )
            elif one.name in found and found[one.name].origin != one.origin:
                raise InputError(
                    f"two packages offer a probe {one.name!r}: {found[one.name].origin}, {one.origin}; uninstall one."
                )
            else:
                found[one.name] = one
    return found, failed


def companions() -> dict[str, Any]:
    """Return the other public names of packages that offer several probes: inputs of probes, and training functions.

    >>> "load_tuned_lens" in companions()
    True
    """
    found: dict[str, Any] = {}
    for entry, single, _ in offered(GROUP)[0]:
        if not single:
            module = import_module(entry.module)
            found |= {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {name: one for name, one in found.items() if not isinstance(getattr(one, "probe", None), Probe)}
