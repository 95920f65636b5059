"""Matplotlib figures as images in a page or a notebook."""

from __future__ import annotations

import base64
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from interp.display.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MAX_SVG_BYTES = 150_000  # a map of more cells than this is smaller, and quicker to draw, as pixels

_PNG_DPI = 160

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)

_NARROWEST = 0.7  # of its own width, to which a figure may shrink before its box scrolls


def image(figure: Figure, name: str) -> Markup:
    """A matplotlib figure as an image in the page, SVG unless that is large, with an alternative text from its labels.

    As an image, not as elements of the page: two figures' ids cannot meet there, and nothing in it runs.
    """
    import matplotlib as mpl

    width = round(96 * figure.get_figwidth())
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "interp"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a token in a script that no installed font has
        data, kind = _saved(figure, format="svg", metadata={"Date": None, "Creator": None}), "svg+xml"
        data = _COMMENT.sub(b"", data)  # which repeat the texts drawn, control characters too that no XML may hold
        if len(data) > _MAX_SVG_BYTES:
            data, kind = _saved(figure, format="png", dpi=_PNG_DPI), "png"
    style = f"width:100%;max-width:{width}px;min-width:{round(_NARROWEST * width)}px;height:auto;background:#fff"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Markup('<img alt="{}" style="{}" src="{}">').format(_alternative(figure, name), style, source)


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor="white", **options)
    return buffer.getvalue()


def _alternative(figure: Figure, name: str) -> str:
    """What a figure shows, in words: titles, axes and legend; its numbers are in the table below it."""
    parts = [f"Figure of {name}"]
    if figure.get_suptitle():
        parts.append(figure.get_suptitle())
    for axes in figure.axes:
        across, up = axes.get_xlabel(), axes.get_ylabel()
        parts += [axes.get_title(), f"{up} against {across}" if across and up else across or up]
        legend = axes.get_legend()
        if legend is not None:
            parts.append("legend: " + ", ".join(text.get_text() for text in legend.get_texts()))
    words = "; ".join(dict.fromkeys(part for part in parts if part))
    return visible(" ".join(words.split())) + ". The table below holds the numbers."
