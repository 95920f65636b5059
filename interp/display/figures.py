"""Render matplotlib figures as images for a page or a notebook."""

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


_MAX_SVG_BYTES = 150_000  # a larger map of cells is smaller, and faster to draw, as pixels

_PNG_DPI = 160

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)

_NARROWEST = 0.7  # a figure may shrink to this share of its width; below that, its box scrolls


def image(figure: Figure, name: str) -> Markup:
    """Render a matplotlib figure as an `<img>`, SVG unless that is large, with an alternative text from its labels.

    In an image, unlike in inline SVG, the ids of two figures cannot clash and no script runs.
    """
    import matplotlib as mpl

    width = round(96 * figure.get_figwidth())
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "interp"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a token in a script that no installed font covers
        data, kind = _saved(figure, format="svg", metadata={"Date": None, "Creator": None}), "svg+xml"
        data = _COMMENT.sub(b"", data)  # comments repeat the texts, with control characters that XML forbids
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
    """Describe a figure by its titles, axes and legend; its numbers are in the table below it."""
    parts = [f"Figure of {name}"]
    for part in (figure, *figure.subfigs):  # one for each model, if there are several
        parts += [part.get_suptitle(), part.get_supxlabel().rstrip("."), *map(_named, part.legends)]
    for axes in figure.axes:
        across, up = axes.get_xlabel(), axes.get_ylabel()
        parts += [axes.get_title(), f"{up} against {across}" if across and up else across or up]
        legend = axes.get_legend()
        if legend is not None:
            parts.append(_named(legend))
    words = "; ".join(dict.fromkeys(part for part in parts if part))
    return visible(" ".join(words.split())) + ". The table below holds the numbers."


def _named(legend: Any) -> str:
    return "legend: " + ", ".join(text.get_text() for text in legend.get_texts())
