"""Colours and marks of lines: Okabe and Ito's colours, distinct for all kinds of colour vision."""

from collections.abc import Sequence

import numpy as np

BLUE, RED, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#999999"
LINES = (BLUE, RED, GREEN, PINK, YELLOW, SKY)  # for lines without a colour of their own, in this order
MARKS = ("o", "s", "^", "D", "v", "P")  # beside them, for print without colours


def legible_on(colour: Sequence[float] | np.ndarray) -> str:
    """Return the ink, black or white, that is read best on a colour (red, green and blue, 0..1).

    >>> legible_on((1, 1, 0.5)), legible_on((0.2, 0, 0.3))
    ('black', 'white')
    """
    return "black" if luminance(*colour[:3]) > 0.179 else "white"  # where both contrast equally


def luminance(*rgb: float) -> float:
    """Return the relative luminance of an sRGB colour (WCAG 2), 0..1, from its parts, 0..1."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
