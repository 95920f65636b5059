"""Label tokens and columns in figures, and choose the rows that one figure can show."""

from __future__ import annotations

import unicodedata

import pandas as pd

from interp.display.plotting.fonts import printable
from interp.display.text import visible
from interp.errors import InputError


def require_one(frame: pd.DataFrame, *names: str) -> None:
    """Refuse to draw a frame without rows, or with several values in a column of which a figure can show only one."""
    if frame.empty:
        raise InputError("the frame has no rows to draw.")
    for name in names:
        if frame[name].nunique() > 1:
            raise InputError(f"the frame holds several {name}s: {frame[name].unique().tolist()}; select one to draw.")


def one_prompt(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first prompt, from a frame of one model; `prompt_id=` of every figure selects another."""
    require_one(frame, "model")
    return frame[frame["prompt_id"] == frame["prompt_id"].iat[0]]


def token_label(token: str, width: int = 9) -> str:
    r"""Return a token in a few characters: hidden ones and those without a font spelled out, `$` starting no formula.

    >>> token_label("a\n"), token_label(" understanding"), token_label(" ")
    ('a↵', ' underst…', '␣')
    """
    text = "␣" * len(token) if token.strip(" ") == "" else printable(visible(token))
    if _room(text) > width:
        while _room(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text.replace("$", r"\$")


def _room(text: str) -> int:
    """Return how many letters wide a text is: characters of East Asian scripts and most emoji are two."""
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def worded(name: str) -> str:
    """Return a value of a column such as `control` or `statistic` as words.

    >>> worded("norm_matched")
    'norm matched'
    """
    return name.replace("_", " ")
