"""The `frame.interp` accessor: provenance, units, summary, plot. The frame itself stays a plain DataFrame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from interp.checks import check, checked
from interp.data.writing import check_target, written
from interp.errors import InputError, InterpError, UnknownName, warn
from interp.frames.schema import Schema
from interp.runs import registry

if TYPE_CHECKING:
    from interp.display.interactive import Page

ATTRS_KEY = "interp"

# pandas drops `attrs` that differ when frames are concatenated; every run of this session is remembered here.
_runs: dict[str, dict[str, Any]] = {}


def attach(frame: pd.DataFrame, provenance: dict[str, Any]) -> pd.DataFrame:
    """Attach a run's provenance and number of rows to its frame; it survives Parquet."""
    provenance = provenance | {"n_rows": len(frame)}
    _runs[provenance["run_id"]] = provenance
    frame.attrs[ATTRS_KEY] = {provenance["run_id"]: provenance}
    return frame


@checked
def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames and keep the provenance of each, also of frames read from files.

    Raises:
        InputError: no frames were given.
    """
    if not frames:
        raise InputError("no frames were given; pass at least one.")
    joined = pd.concat(frames, ignore_index=True)
    known = _runs | {run: of for frame in frames for run, of in frame.attrs.get(ATTRS_KEY, {}).items()}
    present = joined["run_id"].dropna().unique() if "run_id" in joined.columns else ()
    joined.attrs[ATTRS_KEY] = {run: known[run] for run in present if run in known}
    return joined


@pd.api.extensions.register_dataframe_accessor("interp")
class InterpAccessor:
    """The provenance, units, summary and figure of a probe's frame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """The provenance of the runs in this frame, by `run_id`.

        Raises:
            InputError: the frame was not made by a probe, or a run's provenance was lost in a `pd.concat` of frames
                read from files.
        """
        if "run_id" not in self._frame.columns:
            raise InputError("this frame has no column 'run_id': it was not made by a probe.")
        known = _runs | self._frame.attrs.get(ATTRS_KEY, {})
        present = self._frame["run_id"].unique().tolist()
        lost = [run for run in present if run not in known]
        if lost:
            raise InputError(
                f"the provenance of runs {lost} is not in this frame: CSV and JSON files do not hold it, and pd.concat "
                "drops it; keep frames with to_parquet, and join those read from files with interp.concat."
            )
        return {run: known[run] for run in present}

    @property
    def provenance(self) -> pd.DataFrame:
        """The facts needed to repeat the runs: one column per run, one row per fact."""
        return pd.DataFrame(self.runs)

    @property
    def schema(self) -> Schema:
        """The schema of the probe that made the frame.

        Raises:
            InputError: runs of several probes are mixed.
        """
        probes = {run["probe"] for run in self.runs.values()}
        if self._frame.empty:
            raise InputError("the frame has no rows; keep at least one.")
        if len(probes) != 1:
            raise InputError(f"this frame mixes runs of {sorted(probes)}; select one with .query.")
        return registry.get(probes.pop()).schema

    @property
    def units(self) -> dict[str, str]:
        """The units of columns that have one, by column."""
        return self.schema.units

    @property
    def rows(self) -> pd.DataFrame:
        """The frame as its probe made it: with the schema's types, and each row once, as summaries and figures need it.

        A run that was concatenated twice is counted once, with a warning.

        Raises:
            InputError: a run is there more than once with different values.
        """
        return _each_row_once(self.schema.restored(self._frame), self.schema, self.runs)

    def summary(self, by: str | None = None, **options: Any) -> pd.DataFrame:
        """Return the probe's own summary; by default prompt means after position 0, with 95 % bootstrap intervals."""
        options |= {} if by is None else {"by": by}
        with self._naming_lost_columns(schema := self.schema):
            return registry.get(schema.probe).summarise(self.rows, **options)

    def plot(self, path: str | Path | None = None, **options: Any) -> Any:
        """Draw the probe's figure and return it, a matplotlib Figure.

        Args:
            path: where to save it too (.png, .svg, .pdf).
            options: every figure of ours takes `ax=` or `axes=` (matplotlib axes to draw on), `model=` (the model to
                draw; by default all, one below the other on the same scale) and `prompt_id=` (the prompt; by default
                all, or the first where a figure shows one), and some more of their own: a lens `layers=`, `positions=`
                and `value=`.

        Raises:
            InputError: the frame holds nothing to draw, or more than the figure can show.
            UnknownName: there is no such model, option or kind of file.
        """
        probe = registry.get(self.schema.probe)
        if probe.plot is None:
            raise InputError(f"probe {probe.name!r} has no figure; plot its columns with pandas.")
        if path is not None:
            _check_figure_path(path)
        with self._naming_lost_columns(probe.schema):
            figure = probe.plot(self.rows, **options)
        if path is not None:
            with written(path, "the figure") as file:
                figure.savefig(file, format=Path(path).suffix.removeprefix(".") or None)
        return figure

    def push(self, repo: str | Path, name: str | None = None, *, private: bool = True) -> str:
        """Share the frame, with its provenance: in a dataset repository of the Hugging Face hub, or in a folder.

        `interp.pull` reads it again. The hub asks for a token (`hf auth login`).

        Args:
            repo: "user/repo", created if it is not there; a folder, as a path that begins with "." or "/" or as a
                Path; or a URL that fsspec knows.
            name: of the frame; by default the probe and the run_id.
            private: whether a repository that is created is.

        Returns:
            Where the frame is.

        Raises:
            InputError: the frame has no provenance, or the place cannot be written to.
        """
        from interp.data.shared_frames import push_frame

        check("repo", repo, str | Path)
        check("name", name, str | None)
        check("private", private, bool)
        runs = self.runs
        if name is None:
            name = f"{self.schema.probe}-{next(iter(runs))}" + (f"-and-{len(runs) - 1}-more" if len(runs) > 1 else "")
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"name={name!r}: give letters, digits, '-', '_' and '.' only.")
        frame = self._frame.copy(deep=False)
        frame.attrs = {**self._frame.attrs, ATTRS_KEY: runs}
        return push_frame(frame, repo, name, private=private)

    @checked
    def tokens(self, *, value: str | None = None, model: str | None = None, prompt_id: int | None = None) -> Page:
        """Show the tokens of one prompt coloured by a value: a line per layer, method or other column that splits rows.

        Args:
            value: column to colour by; by default the one that the probe names, or its score.
            model: the model to show; by default all, one below the other.
            prompt_id: the prompt; by default the first.

        Returns:
            A `Page`: a notebook shows it, and `.save("tokens.html")` writes it.

        Raises:
            InputError: the frame holds no tokens, or nothing to colour them by.
            UnknownName: there is no such column or model.

        >>> from probes import logit_lens
        >>> page = logit_lens("reference", "Once upon a time").interp.tokens(value="entropy")
        >>> "entropy of the next-token distribution, nats; prompt 0" in page.html
        True
        """
        from interp.display.interactive import Page
        from interp.display.token_map import token_map

        schema, frame = self.schema, self.rows
        known = frame["model"].unique().tolist()
        if model is not None and model not in known:
            raise UnknownName("model", model, known)
        parts = []
        with self._naming_lost_columns(schema):
            for name in known if model is None else [model]:
                if model is None and len(known) > 1:
                    parts.append(Markup("<b>{}</b>").format(name))
                one = frame[frame["model"] == name]
                parts.append(token_map(one, schema, value=value, prompt_id=prompt_id))
        return Page(f"{schema.probe}: tokens", str(Markup("").join(parts)))

    @checked
    def explore(self, *, model: str | None = None, **options: Any) -> Page:
        """Return the probe's page to look into: hover over it, click to follow a position, choose prompts or doses.

        It is one HTML document with its own few lines of script. It loads nothing and needs no kernel, so it works in
        JupyterLab, in VS Code, in an exported notebook and as a file: `.save("x.html")`. Lenses, attributions and
        `steer` have one.

        Args:
            model: the model to show, if the frame holds several.
            options: of the probe's page: a lens takes `top=`, a frame of `top_tokens` of the same texts.

        Raises:
            InputError: the probe has no such page, or the frame holds several models.
            UnknownName: there is no such model or option.

        >>> from probes import top_tokens
        >>> page = top_tokens("reference", "Once upon a time", k=5).interp.explore()
        >>> "most probable tokens" in page.title
        True
        """
        probe = registry.get(self.schema.probe)
        if probe.explore is None:
            raise InputError(f"probe {probe.name!r} has no page to explore; draw its figure with .interp.plot().")
        frame = self.rows
        if model is not None:
            known = frame["model"].unique().tolist()
            if model not in known:
                raise UnknownName("model", model, known)
            frame = frame[frame["model"] == model]
        with self._naming_lost_columns(probe.schema):
            page: Page = probe.explore(frame, **options)
        return page

    @contextmanager
    def _naming_lost_columns(self, schema: Schema) -> Iterator[None]:
        """Raise InputError for whatever goes wrong if the frame lacks columns of its probe; not all are needed."""
        lost = [column.name for column in schema.columns if column.name not in self._frame.columns]
        try:
            yield
        except InterpError:
            raise
        except Exception as error:
            if not lost:
                raise
            raise InputError(f"the frame lacks the columns {lost} of {schema.probe!r}; keep what it needs.") from error

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows for `frame.interp`; pandas shows the frame itself."""
        from interp.display import html

        return str(html.overview(self._frame))


def _each_row_once(frame: pd.DataFrame, schema: Schema, runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame without rows that are there twice; one that holds all rows of its runs is returned unchanged."""
    whole = {run: facts.get("n_rows") for run, facts in runs.items()}
    counts = frame["run_id"].value_counts()
    if all(counts[run] == n for run, n in whole.items()):
        return frame
    # Seconds differ from one call to the next.
    names = [column.name for column in schema.columns if column.name in frame.columns and column.unit != "s"]
    again = frame.duplicated(names)
    once = frame[~again] if again.any() else frame
    counts = once["run_id"].value_counts()
    torn = [run for run, n in whole.items() if n is not None and counts[run] > n]
    if torn:
        raise InputError(f"the runs {torn} are in this frame more than once, with different values; keep one of each.")
    if again.any():
        several = frame.loc[again, "run_id"].unique().tolist()
        warn(
            f"the runs {several} are in this frame more than once (a cell run twice?): {int(again.sum()):,} repeated "
            "rows are left out.",
        )
    return once


def _check_figure_path(path: str | Path) -> None:
    """Refuse a path that no figure can be saved to, before one is drawn."""
    from matplotlib.backend_bases import FigureCanvasBase

    check("path", path, str | Path)
    kind, known = Path(path).suffix.removeprefix("."), FigureCanvasBase.get_supported_filetypes()
    if kind and kind not in known:
        raise UnknownName("kind of figure", kind, known, "End the path in .png, .svg or .pdf.")
    check_target(path, "the figure")
