"""The canvas a figure draws on: new axes or the caller's, one model or several, with a title and a caption."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from interp.display.plotting.fonts import fit_fonts, printable
from interp.errors import InputError, UnknownName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

_LETTERS_PER_INCH = 14  # of a caption


class Canvas:
    """Axes for the rows of one model, or of several that are drawn together, with their title and caption.

    Attributes:
        size: of the figure in inches, once axes were asked for.
        axes: those that were asked for, in order.
    """

    def __init__(self, parent: FigureBase | None, given: Sequence[Axes], models: Sequence[str]) -> None:
        self._parent, self._given, self._models = parent, given, models
        self.size, self.axes = (0.0, 0.0), list[Any]()

    @property
    def offered(self) -> int | None:
        """The number of axes that the caller gave; None if new ones are made."""
        return len(self._given) if self._parent is None else None

    def one(self, size: tuple[float, float]) -> Axes:
        """Return the one axes of a figure, its size in inches; see `grid`."""
        return self.grid(1, 1, size)[0, 0]

    def grid(
        self, n_rows: int, n_columns: int, size: tuple[float, float], *, sharex: bool = False, sharey: bool = False
    ) -> np.ndarray:
        """Return axes [n_rows, n_columns]: the caller's if any were given, else new ones on so many inches."""
        if self._parent is None:
            n_axes = n_rows * n_columns
            if len(self._given) < n_axes:
                raise InputError(f"{_count(len(self._given))} given: this figure draws on {n_axes}; pass so many.")
            grid = np.array(self._given[:n_axes], dtype=object).reshape(n_rows, n_columns)
        else:
            grid = self._parent.subplots(n_rows, n_columns, squeeze=False, sharex=sharex, sharey=sharey)
        self.size, self.axes = size, list(grid.flat)
        return grid

    def title(self, what: str, *, models: bool = True) -> None:
        """Write the title: the model, if there is only one and `models` is not False, and what is shown."""
        text = f"{self._models[0]}: {what}" if models and len(self._models) == 1 else what
        text = textwrap.fill(printable(text), max(30, int(12 * self.size[0])))
        if self._parent is not None and (len(self.axes) > 1 or self.axes[0].get_title()):
            self._parent.suptitle(text, fontsize=10)
        else:
            first = self.axes[0]
            first.set_title(f"{text}\n{first.get_title()}".rstrip(), fontsize=10)

    def caption(self, *sentences: str) -> None:
        """Write below the figure what its bands and bars are, and what is left out."""
        text = ". ".join(one for one in sentences if one) + "."
        if self._parent is not None:
            lines = textwrap.wrap(printable(text), max(30, int(_LETTERS_PER_INCH * self.size[0])))
            self._parent.supxlabel("\n".join(lines), fontsize=7.5, color="0.3")
            self.size = self.size[0], self.size[1] + 0.13 * len(lines)
        else:
            first = self.axes[0]
            first.set_title(f"{first.get_title()}\n{textwrap.fill(text, 90)}".lstrip(), fontsize=8)

    def colour_bar(self, image: Any, label: str, axes: Sequence[Axes] | None = None, **options: Any) -> Any:
        """Add the scale of an image's colours beside its axes, by default beside all."""
        beside = self.axes if axes is None else list(axes)
        bar = beside[0].figure.colorbar(image, ax=beside, **options)
        bar.set_label(label, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        return bar

    def legend(self, axes: Axes) -> None:
        """Add the legend of one axes, for all, to the right of the panels, where it covers no line."""
        handles, labels = axes.get_legend_handles_labels()
        look = {"frameon": False, "fontsize": 8}
        if self._parent is None:
            axes.legend(handles, labels, **look)
            return
        self._parent.legend(handles, labels, loc="outside right upper", **look)
        longest = max(len(line) for label in labels for line in label.split("\n"))
        self.size = self.size[0] + 0.5 + 0.07 * longest, self.size[1]


@overload
def figure(draw: Callable[..., None]) -> Callable[..., Figure]: ...
@overload
def figure(*, together: bool) -> Callable[[Callable[..., None]], Callable[..., Figure]]: ...
def figure(draw: Callable[..., None] | None = None, *, together: bool = False) -> Any:
    """Make a figure of a function that draws a frame on a `Canvas`: `draw(frame, canvas, *, ...)`.

    The figure takes the frame, the function's own options, and:

    - `ax=` or `axes=`: matplotlib axes to draw on, one or several (a list or an array); by default new ones;
    - `model=`: the model to draw; by default all in the frame, one below the other on the same scale;
    - `prompt_id=`: the prompt to draw; by default all, or the first where a figure shows one.

    It returns the matplotlib Figure. pyplot does not keep it, so a notebook shows it once, where it is returned.

    Args:
        draw: the function.
        together: True if it draws several models in the same axes.

    >>> @figure
    ... def residuals(frame, canvas):
    ...     canvas.one((4, 3)).plot(frame["layer"], frame["norm"])
    ...     canvas.title("norm of the residual")
    >>> frame = pd.DataFrame({"model": "tiny", "layer": [0, 1], "norm": [1.0, 2.0]})
    >>> residuals(frame).axes[0].get_title()
    'tiny: norm of the residual'
    """
    if draw is None:
        return lambda function: figure(function, together=together)  # type: ignore[call-overload]
    own = list(inspect.signature(draw).parameters.values())

    @wraps(draw)
    def call(
        frame: pd.DataFrame,
        *,
        ax: Axes | None = None,
        axes: Any = None,
        model: str | None = None,
        prompt_id: int | None = None,
        **options: Any,
    ) -> Figure:
        given = _given(ax, axes)
        chosen = _selected(frame, model, prompt_id)
        names = list(dict.fromkeys(chosen["model"])) if "model" in chosen else []
        parts = [chosen] if together or len(names) < 2 else [chosen[chosen["model"] == name] for name in names]
        whole, spec, canvases = _canvases(given, [list(dict.fromkeys(one.get("model", ()))) for one in parts])
        for part, canvas in zip(parts, canvases, strict=True):
            draw(part, canvas, **options)
        _on_one_scale(canvases)
        if given is None:
            widths, heights = zip(*(canvas.size for canvas in canvases), strict=True)
            whole.set_size_inches(max(widths), sum(heights))
            if spec is not None:
                spec.set_height_ratios(heights)
        fit_fonts(whole)
        return whole

    added = inspect.signature(call, follow_wrapped=False).parameters
    shared = [added[name] for name in ("ax", "axes", "model", "prompt_id")]
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [own[0], *shared, *(one for one in own[2:])], return_annotation="Figure"
    )
    return call


def _given(ax: Any, axes: Any) -> list[Axes] | None:
    """Return the caller's axes as a list; None if there are none."""
    from matplotlib.axes import Axes

    if ax is not None and axes is not None:
        raise InputError("both ax= and axes= were given; give one of them.")
    if ax is None and axes is None:
        return None
    name, found = ("ax", [ax]) if axes is None else ("axes", list(np.atleast_1d(np.asarray(axes, dtype=object)).flat))
    for one in found:
        if not isinstance(one, Axes):
            raise InputError(f"{name}={one!r}: give axes of matplotlib, such as those of plt.subplots().")
    return found


def _selected(frame: pd.DataFrame, model: str | None, prompt_id: int | None) -> pd.DataFrame:
    if frame.empty:
        raise InputError("the frame has no rows to draw.")
    if model is not None:
        known = frame["model"].unique().tolist() if "model" in frame else []
        if model not in known:
            raise UnknownName("model", model, known)
        frame = frame[frame["model"] == model]
    if prompt_id is not None:
        if "prompt_id" not in frame.columns or frame["prompt_id"].isna().all():
            raise InputError(f"prompt_id={prompt_id}: this frame is not about single prompts; leave it out.")
        known = frame["prompt_id"].dropna().unique().tolist()
        if prompt_id not in known:
            raise InputError(f"prompt {prompt_id} is not in the frame; it holds {known[:10]}.")
        frame = frame[frame["prompt_id"] == prompt_id]
    return frame


def _canvases(given: list[Axes] | None, models: list[list[str]]) -> tuple[Figure, Any, list[Canvas]]:
    """Return the figure, the rows it is divided into (None if it is not), and a canvas for each group of models."""
    import matplotlib.pyplot as plt

    n = len(models)
    if given is not None:
        if len(given) % n:
            raise InputError(
                f"{_count(len(given))} given for {n} models; give as many for each, or choose one: model=."
            )
        each = len(given) // n
        parts = [given[start : start + each] for start in range(0, len(given), each)]
        return given[0].figure.figure, None, [Canvas(None, *one) for one in zip(parts, models, strict=True)]  # type: ignore[union-attr]
    whole = plt.figure(layout="constrained")
    plt.close(whole)
    if n == 1:
        return whole, None, [Canvas(whole, (), models[0])]
    spec = whole.add_gridspec(n, 1)
    return whole, spec, [Canvas(whole.add_subfigure(spec[row]), (), names) for row, names in enumerate(models)]


def _on_one_scale(canvases: Sequence[Canvas]) -> None:
    """Give the same panel of every model the same vertical scale, unless it shows rows of an image or names."""
    from matplotlib.ticker import FixedFormatter

    for panels in zip(*(canvas.axes for canvas in canvases), strict=False):
        named = any(isinstance(axes.yaxis.get_major_formatter(), FixedFormatter) for axes in panels)
        if len(panels) < 2 or named or any(axes.images for axes in panels) or not all(axes.axison for axes in panels):
            continue
        lows, highs = zip(*(axes.get_ylim() for axes in panels), strict=True)
        for axes in panels:
            axes.set_ylim(min(lows), max(highs))


def _count(n: int) -> str:
    return "1 axes was" if n == 1 else f"{n} axes were"
