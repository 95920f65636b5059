"""The Unicode scripts that letters belong to."""

from __future__ import annotations

from functools import lru_cache

SCRIPTS = (  # the most frequent first
    *("Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Devanagari", "Bengali", "Tamil", "Thai"),
    *("Georgian", "Hangul", "Hiragana", "Katakana", "Han"),
)


def script(text: str) -> str:
    """Return the Unicode script of the first letter of a text; "Other" for a rare one, "" if there is no letter.

    >>> [script(text) for text in (" the", "3-я", "漢", "...")]
    ['Latin', 'Cyrillic', 'Han', '']
    """
    return next((_script(one) for one in text if one.isalpha()), "")


@lru_cache(maxsize=1 << 16)
def _script(letter: str) -> str:
    if letter.isascii():
        return "Latin"
    import regex  # slow to import

    return next((name for name in SCRIPTS if regex.fullmatch(rf"\p{{Script={name}}}", letter)), "Other")
