"""Bytes that end inside a character, and the characters that they may become."""

from __future__ import annotations

from collections.abc import Callable, Sized
from itertools import islice

_MOST = 64  # characters tried of those that begin alike
_LOWEST = (0, 0, 0x80, 0x800, 0x10000)  # the first code point that needs so many bytes
_SURROGATES = range(0xD800, 0xE000)


def decoded(text: bytes | None) -> str | None:
    r"""Return the text of bytes; None if they are none by themselves, or if there are no bytes.

    >>> decoded("é".encode()), decoded(b"\xc3"), decoded(None)
    ('é', None, None)
    """
    try:
        return None if text is None else text.decode()
    except UnicodeDecodeError:
        return None


def n_of_tail(text: bytes) -> int:
    r"""Return how many bytes at the end are the beginning of a character that is not complete, 0 to 3.

    >>> [n_of_tail(one) for one in (b"a", b"a\xc3", "é".encode(), b"\xf0\x9f\x98", b"\xa9")]
    [0, 1, 0, 3, 0]
    """
    for n in range(1, min(3, len(text)) + 1):
        if text[-n] & 0xC0 != 0x80:  # not a byte inside a character
            return n if text[-n] >= 0xC0 and n < _length(text[-n]) else 0
    return 0


def completions(tail: bytes) -> list[bytes]:
    r"""Return what may follow the first bytes of a character to make it complete, at most 64 of all, evenly chosen.

    >>> completions(b"\xc3")[0], len(completions(b"\xc3")), len(completions(b"\xf0"))
    (b'\x80', 64, 64)
    """
    if tail[0] > 0xF4:  # begins no character
        return []
    length = _length(tail[0])
    missing = length - len(tail)
    bits = tail[0] & (0x7F >> length)
    for byte in tail[1:]:
        bits = bits << 6 | byte & 0x3F
    first = bits << 6 * missing
    points = range(max(first, _LOWEST[length]), min(first + 64**missing, 0x110000))
    chosen = points if len(points) <= _MOST else [points[place * len(points) // _MOST] for place in range(_MOST)]
    return [chr(point).encode()[len(tail) :] for point in chosen if point not in _SURROGATES]


def _length(lead: int) -> int:
    """Return the bytes of a character by its first one."""
    return 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2


def letters_after_space(starts: Callable[[bytes], Sized]) -> list[bytes]:
    """Return a letter that tokens join with the white space before it, and one that they leave alone.

    Args:
        starts: gives the tokens whose bytes begin with some.

    >>> letters_after_space(lambda some: [some] if some == b" 0" else [])
    [b'a', b'a']
    """
    alone = (one.encode() for one in "0aQx~\x01ßЖ字" if not any(len(starts(f"{s}{one}".encode())) for s in " \n"))
    return [b"a", *islice(alone, 1)]


def goes_on(piece: bytes) -> bool:
    r"""Return whether a token cannot be asked for without those before it: white space, digits, a character's rest.

    >>> [goes_on(one) for one in (b" ", b"12", b"\xa9", b" a")]
    [True, True, True, False]
    """
    return piece.isspace() or piece.isdigit() or piece[0] & 0xC0 == 0x80
