"""What figures share: Okabe and Ito's colours, told apart by every kind of colour vision, and one frame at a time."""

from __future__ import annotations

import pandas as pd

from interp.errors import InputError

BLUE, RED, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#999999"


def require_one(frame: pd.DataFrame, *names: str) -> None:
    """Refuse to draw a frame without rows, or one that mixes values of a column a figure can show one of."""
    if frame.empty:
        raise InputError("the frame has no rows to draw.")
    for name in names:
        if frame[name].nunique() > 1:
            raise InputError(f"the frame holds several {name}s: {frame[name].unique().tolist()}; select one to draw.")
