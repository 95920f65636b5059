"""Draw every script: installed fonts that have what matplotlib's own lacks, and a code where none has it."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from interp.display.text import code_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# Fonts of formulas, whose characters stand at places of their own, and one that draws a box for every character.
_NOT_FOR_TEXT = ("Last Resort", "STIXNonUnicode", "STIXSize", "cm")
# Looked at first, in this order; then any other font that is installed.
_WIDE = ("DejaVu Sans", "Noto Sans", "Arial Unicode MS", "Segoe UI", "Segoe UI Symbol", "Noto Sans CJK", "Noto Emoji")


def printable(text: str) -> str:
    r"""Replace characters that no installed font can draw by their code.

    >>> printable("a\U000f0000"), printable("ß→")
    ('a\\U000f0000', 'ß→')
    """
    if text.isascii():
        return text
    return "".join(one if one.isascii() or _font_with(one) is not None else code_of(one) for one in text)


def fit_fonts(figure: Figure) -> None:
    """Give every text of a figure the fonts that its characters need, beside its own."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()  # which gives them their texts
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            _fit(text)


def _fit(text: Text) -> None:
    own = text.get_fontfamily()
    known = {ord(one) for family in own for one in text.get_text() if ord(one) in _charmap(_file_of(family))}
    needed = [_font_with(one) for one in dict.fromkeys(text.get_text()) if ord(one) not in known]
    families = dict.fromkeys([*own, *(family for family in needed if family is not None)])
    if len(families) > len(own):
        text.set_fontfamily(list(families))


@lru_cache(maxsize=4096)
def _font_with(character: str) -> str | None:
    """Return the family of an installed font with outlines that has a character, matplotlib's own first."""
    for family, file in _installed(_fonts_known()):
        if ord(character) in _charmap(file):
            return family
    return None


def _fonts_known() -> int:
    from matplotlib.font_manager import fontManager

    return len(fontManager.ttflist)


@lru_cache(maxsize=2)
def _installed(_: int) -> tuple[tuple[str, str], ...]:
    """Return upright fonts of usual weight as (family, file), those for many scripts first."""
    from matplotlib.font_manager import fontManager

    def rank(family: str) -> int:
        places = [place for place, wide in enumerate(_WIDE) if family.startswith(wide)]
        return places[0] if places else len(_WIDE)

    plain = {
        font.name: font.fname
        for font in sorted(fontManager.ttflist, key=lambda font: -abs(_weight(font.weight) - 400))
        if font.style == "normal" and not font.name.startswith(_NOT_FOR_TEXT)
    }
    return tuple(sorted(plain.items(), key=lambda item: (rank(item[0]), item[0])))


def _weight(weight: int | str) -> int:
    from matplotlib.font_manager import weight_dict

    return weight if isinstance(weight, int) else weight_dict.get(weight, 400)


@lru_cache(maxsize=64)
def _file_of(family: str) -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties(family=[family])))


@cache
def _charmap(file: str) -> frozenset[int]:
    """Return the characters of a font; none if it has no outlines, as those of coloured emoji, or cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
