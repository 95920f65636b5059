"""Share what figures need: a canvas to draw on, colours, curves with intervals, labels, and fonts for any script."""

from interp.display.plotting.canvas import Canvas, figure
from interp.display.plotting.colours import BLACK, BLUE, GREEN, GREY, LINES, MARKS, PINK, RED, SKY, YELLOW, legible_on
from interp.display.plotting.curves import curve, dodged, layer_axis, over_prompts, share_axis
from interp.display.plotting.labels import one_prompt, require_one, token_label, worded
from interp.display.plotting.word_grid import WordGrid, word_grid

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "LINES",
    "MARKS",
    "PINK",
    "RED",
    "SKY",
    "YELLOW",
    "Canvas",
    "WordGrid",
    "curve",
    "dodged",
    "figure",
    "layer_axis",
    "legible_on",
    "one_prompt",
    "over_prompts",
    "require_one",
    "share_axis",
    "token_label",
    "word_grid",
    "worded",
]
