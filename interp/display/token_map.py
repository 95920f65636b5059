"""Show the tokens of a text as HTML, coloured by a score.

Styles are inline and do not depend on the page, so the map looks the same in JupyterLab, in VS Code and in a file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from interp.display.plotting import legible_on
from interp.display.text import format_value, visible
from interp.errors import InputError, UnknownName
from interp.frames.schema import Schema

_POSITIVE, _NEGATIVE = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion
_MAX_LINES, _MAX_TOKENS = 12, 200
_SMALL = 0.1  # of the largest value
# Columns of the shared vocabulary that distinguish the lines of one prompt; a schema adds its own.
_LINE_COLUMNS = ("method", "control", "layer", "target_id")


def token_map(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    value: str | None = None,
    prompt_id: int | None = None,
    max_lines: int = _MAX_LINES,
) -> Markup:
    """Render the tokens of one prompt, coloured by a score: a line per method, layer or other column that splits rows.

    White is zero, blue above, vermilion below, up to the largest absolute score; a value of one sign has half of this
    scale, on which small values are spread out (square root) if most are small. Position 0
    often holds a start-of-text token whose score dwarfs the rest, so it does not set the scale. Methods differ in their
    units and have a scale each; all other lines share one.

    Args:
        frame: of one model, with `prompt_id`, `pos` and `token`.
        schema: of the frame.
        value: column to colour by; by default the schema's `shown`, else `score`, else the first column that the
            probe's summary averages.
        prompt_id: the prompt to show; by default the first.
        max_lines: lines to show, of layers those at even distances; the caption says how many there are.

    Raises:
        InputError: the frame holds no tokens, or several rows for a token that no column distinguishes.
        UnknownName: there is no such column.
    """
    if frame.empty or not {"prompt_id", "pos", "token"} <= set(frame.columns) or frame["pos"].isna().all():
        raise InputError(f"a frame of {schema.probe!r} without rows or tokens has no token map; plot its columns.")
    frame = schema.restored(frame)
    value = value or _default_value(frame, schema)
    if value not in frame.columns:
        raise UnknownName("column", value, map(str, frame.columns))
    chosen = frame["prompt_id"].iat[0] if prompt_id is None else prompt_id
    one = frame[frame["prompt_id"] == chosen]
    if one.empty:
        raise InputError(f"prompt {chosen} is not in the frame; it holds {frame['prompt_id'].unique().tolist()[:10]}.")
    if one[value].isna().all():
        raise InputError(f"prompt {chosen} has no {value!r} in this frame of {schema.probe!r}; choose another.")
    # A column that varies along a line, such as the next token, does not distinguish lines.
    known = [key for key in dict.fromkeys((*schema.summary_by, *schema.lines_by, *_LINE_COLUMNS)) if key in one]
    keys = [key for key in known if (one.groupby("pos")[key].nunique() > 1).any()]
    if one.duplicated([*keys, "pos"]).any():
        raise InputError(f"the frame of {schema.probe!r} has several rows for one token; select one per token.")
    lines = [(key, of.sort_values("pos")) for key, of in one.groupby(keys, sort=False)] if keys else [((), one)]
    by_method = "method" in keys
    largest = _largest(one, value)
    spread = not by_method and _mostly_small(one, value, largest)
    shown = _some(lines, max_lines, even="layer" in keys)
    unit = schema.units.get(value, "")
    body = []
    for key, line in shown:
        most = _largest(line, value) if by_method else largest
        label = ", ".join(f"{name} {format_value(part)}" for name, part in zip(keys, key, strict=True))
        label = f"{label}, scale ±{most:.3g}" if by_method else label
        body.append(_line(line, value, unit, most, label, spread))
    which = (
        f"{max_lines} of {len(lines)} lines, at even distances"
        if "layer" in keys
        else f"The first {max_lines} of {len(lines)} lines"
    )
    more = f" {which}." if len(lines) > max_lines else ""
    target = one["target"].dropna().unique().tolist() if "target" in one else []
    of = f" of “{target[0]}”" if len(target) == 1 else ""
    meanings = {column.name: column.meaning for column in schema.columns}
    what = f"{schema.probe}: {meanings.get(value, value)}{of}{f', {unit}' if unit else ''}; prompt {chosen}.{more}"
    signs = _signs(one, value)
    return _FIGURE.format(visible(what), _legend(None if by_method else largest, signs, spread), Markup("").join(body))


_FIGURE = Markup(
    '<figure style="margin:0.5em 0;max-width:60em;print-color-adjust:exact;-webkit-print-color-adjust:exact">'
    '<figcaption style="margin-bottom:0.4em">{} {}</figcaption>{}</figure>'
)
_LINE = Markup(
    '<div style="margin:0.3em 0"><div style="font-size:80%">{}</div>'
    '<div style="font-family:monospace;line-height:1.8;overflow-wrap:anywhere">{}</div></div>'
)
# Each token keeps its own text direction and its spaces.
_TOKEN = Markup(
    '<span title="{}" style="{};unicode-bidi:isolate;white-space:pre-wrap;padding:0.15em 0.05em;'
    'border-radius:0.2em">{}</span><wbr>'
)


def _line(line: pd.DataFrame, value: str, unit: str, largest: float, label: str, spread: bool) -> Markup:
    spans = []
    shown = line.head(_MAX_TOKENS)
    targets = shown["target"] if "target" in shown else [pd.NA] * len(shown)
    for pos, token, target, score in zip(shown["pos"], shown["token"], targets, shown[value], strict=True):
        missing = pd.isna(score)
        tip = f"position {pos}: {'missing' if missing else f'{score:.4g} {unit}'.strip()}"
        if not pd.isna(target):
            tip += f", of {format_value(target)}"
        style = "border-bottom:1px dotted" if missing else shade(_share(float(score) / largest, spread))
        spans.append(_TOKEN.format(tip, style, visible(str(token))))
    if len(line) > _MAX_TOKENS:
        spans.append(Markup(" … {} more").format(len(line) - _MAX_TOKENS))
    return _LINE.format(label, Markup("").join(spans))


def shade(share: float) -> Markup:
    """Return the style of a score's background: white at 0, blue at 1, vermilion at -1, with text that contrasts.

    >>> shade(0.0)
    Markup('background:#ffffff;color:#000000')
    """
    strength = min(1.0, abs(share))
    hue = _POSITIVE if share > 0 else _NEGATIVE
    red, green, blue = (round(255 + (part - 255) * strength) for part in hue)
    ink = {"black": "#000000", "white": "#ffffff"}[legible_on((red / 255, green / 255, blue / 255))]
    return Markup(f"background:#{red:02x}{green:02x}{blue:02x};color:{ink}")


def _share(share: float, spread: bool) -> float:
    return math.copysign(math.sqrt(abs(share)), share) if spread else share


def _signs(rows: pd.DataFrame, value: str) -> tuple[float, ...]:
    """Return the marks of the scale that the values need, as shares: of both signs, or of one."""
    numbers = rows[value].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if np.nanmin(numbers) >= 0:
        return (0.0, 0.1, 0.25, 0.5, 1.0)
    return (-1.0, -0.5, -0.25, -0.1, 0.0) if np.nanmax(numbers) <= 0 else (-1.0, -0.5, 0.0, 0.5, 1.0)


def _mostly_small(rows: pd.DataFrame, value: str, largest: float) -> bool:
    """Tell whether values of one sign are so uneven that most would look alike: half are below a tenth of the scale."""
    numbers = rows[value].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    of_one_sign = np.nanmin(numbers) >= 0 or np.nanmax(numbers) <= 0
    return bool(of_one_sign and np.nanmedian(np.abs(numbers)) < _SMALL * largest)


def _some(lines: list[Any], most: int, *, even: bool) -> list[Any]:
    if len(lines) <= most:
        return lines
    places = np.linspace(0, len(lines) - 1, most).round().astype(int) if even else range(most)
    return [lines[place] for place in places]


def _legend(largest: float | None, marks: tuple[float, ...], spread: bool) -> Markup:
    swatches = []
    for share in marks if largest is not None else (-1.0, -0.5, 0.0, 0.5, 1.0):
        text = (
            (f"{round(100 * share)} %".replace("-", "−") if share else "0")
            if largest is None
            else f"{share * largest:.3g}"
        )
        swatches.append(Markup('<span style="{};padding:0 0.4em">{}</span>').format(shade(_share(share, spread)), text))
    of = " of the line's scale" if largest is None else ""
    return Markup('<span style="white-space:nowrap">{}</span>{}').format(Markup("").join(swatches), of)


def _largest(rows: pd.DataFrame, value: str) -> float:
    """Return the largest absolute finite score after position 0; 1 if there is none."""
    later = rows[rows["pos"] > 0] if (rows["pos"] > 0).any() else rows
    sizes = later[value].astype("Float64").abs().to_numpy(dtype=float, na_value=np.nan)
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.max()) if sizes.size and sizes.max() > 0 else 1.0


def _default_value(frame: pd.DataFrame, schema: Schema) -> str:
    candidates = [*([schema.shown] if schema.shown else []), "score", *schema.summary_of]
    numeric = [name for name in candidates if name in frame and pd.api.types.is_numeric_dtype(frame[name])]
    if not numeric:
        raise InputError(f"a frame of {schema.probe!r} has no score to colour tokens by; pass a column as value=.")
    return numeric[0]
