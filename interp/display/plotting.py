"""Colours (Okabe and Ito's, distinct for all kinds of colour vision), axes and checks that figures share."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.display.text import code_of, visible
from interp.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#999999"
LINES = (BLUE, RED, GREEN, PINK, YELLOW, SKY)  # for lines without a colour of their own, in this order


def new_figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Create a figure with one axes, its size in inches; see `new_grid`."""
    figure, grid = new_grid(1, 1, size)
    return figure, grid[0, 0]


def new_grid(
    n_rows: int, n_columns: int, size: tuple[float, float], *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """Create a figure with axes [n_rows, n_columns], its size in inches, that pyplot does not keep.

    So a notebook shows it once, where it is returned, and no figure stays open if drawing fails.
    """
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        n_rows, n_columns, figsize=size, layout="constrained", squeeze=False, sharex=sharex, sharey=sharey
    )
    plt.close(figure)
    return figure, grid


def require_one(frame: pd.DataFrame, *names: str) -> None:
    """Refuse to draw a frame without rows, or with several values in a column of which a figure can show only one."""
    if frame.empty:
        raise InputError("the frame has no rows to draw.")
    for name in names:
        if frame[name].nunique() > 1:
            raise InputError(f"the frame holds several {name}s: {frame[name].unique().tolist()}; select one to draw.")


def one_prompt(frame: pd.DataFrame, prompt_id: int | None) -> pd.DataFrame:
    """Return the rows of one prompt, by default the first, from a frame of one model."""
    require_one(frame, "model")
    chosen = frame["prompt_id"].iat[0] if prompt_id is None else prompt_id
    one = frame[frame["prompt_id"] == chosen]
    if one.empty:
        raise InputError(f"prompt {chosen} is not in the frame; it holds {frame['prompt_id'].unique().tolist()[:10]}.")
    return one


def token_label(token: str, width: int = 9, *, family: str | None = None) -> str:
    r"""Return a token in a few characters, with `$` escaped so that it starts no formula.

    Hidden characters, and those of a script that the figure's fonts do not cover, are spelled out.

    Args:
        token: its text.
        width: the most characters.
        family: of the font, such as "monospace"; by default that of matplotlib's settings.

    >>> token_label("a\n"), token_label(" understanding"), token_label("\U0001b170")
    ('a↵', ' underst…', '\\U0001b1…')
    """
    text = visible(token)
    if not text.isascii():
        fonts = _fonts(family)
        text = "".join(one if one.isascii() or _covered(one, fonts) else code_of(one) for one in text)
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.replace("$", r"\$")


def _fonts(family: str | None) -> tuple[str, ...]:
    """Return the files of the fonts that a text is drawn with, one for each family."""
    import matplotlib as mpl
    from matplotlib import font_manager

    families = mpl.rcParams["font.family"] if family is None else [family]
    return tuple(font_manager.findfont(font_manager.FontProperties(family=[one])) for one in families)


@lru_cache(maxsize=1 << 14)
def _covered(character: str, fonts: tuple[str, ...]) -> bool:
    from matplotlib import font_manager

    return any(font_manager.get_font(font).get_char_index(ord(character)) for font in fonts)
