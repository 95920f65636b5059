"""The kinds of values that annotations name: does a value fit one, and how is it called in a sentence?"""

from __future__ import annotations

import math
import operator
import os
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

import numpy as np

_LARGEST = 2**63 - 1  # an int64: a generator of torch takes it, and a column holds it
_CALLABLE = get_origin(Callable[..., Any])
_LISTS = (Sequence, Collection, Iterable, list, tuple, set, frozenset)
_PLAIN: dict[Any, tuple[str, str]] = {
    bool: ("True or False", "True and False"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    type(None): ("None", "None"),
}


def members(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation alone.

    >>> members(int | list[str] | None)
    [<class 'int'>, list[str], <class 'NoneType'>]
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for one in get_args(annotation) for kind in members(one)]
    return [type(None) if annotation is None else annotation]


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value is of an annotation's kind; kinds that cannot be told at run time fit everything.

    >>> fits(True, bool), fits("no", bool), fits(2.5, int), fits(float("nan"), float), fits("ab", list[str])
    (True, False, False, False, False)
    """
    return any(_fits(value, kind) for kind in members(annotation))


def misfit(value: Any, annotation: Any) -> tuple[Any, Any]:
    """Return the first element that makes a list unfit, and what it should be; the value itself if it is not a list."""
    if _is_list(value):
        for kind in members(annotation):
            for one in _elements(value) if get_origin(kind) in _LISTS else ():
                if not fits(one, _of_elements(kind)):
                    return one, _of_elements(kind)
    return value, annotation


def names_in(annotation: Any) -> list[str]:
    """Return the names that an annotation lists, none if it takes any text.

    >>> names_in(Literal["all"] | int), names_in(Literal["all"] | str)
    (['all'], [])
    """
    kinds = members(annotation)
    names = [one for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
    return [] if str in kinds else [one for one in names if isinstance(one, str)]


def in_words(annotation: Any, *, several: bool = False, names: bool = True) -> str:
    """Return what to give, in words; `names=False` leaves out the names of a `Literal`.

    >>> in_words(int | list[int] | None)
    'a whole number, a list of whole numbers or None'
    >>> in_words(Mapping[int, list[float]])
    'a dictionary from whole numbers to lists of finite numbers'
    """
    kinds = [kind for kind in members(annotation) if names or get_origin(kind) is not Literal]
    return _either(list(dict.fromkeys(_in_words(kind, several) for kind in kinds)))


def _fits(value: Any, kind: Any) -> bool:
    origin, inside = get_origin(kind), get_args(kind)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind is int:
        return _is_whole(value)
    if kind is float:
        return _is_finite(value)
    if kind is Path:
        return isinstance(value, os.PathLike)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inside)
    if origin is Mapping or origin is dict:
        return isinstance(value, Mapping) and all(
            fits(key, inside[0]) and fits(one, inside[1]) for key, one in value.items()
        )
    if origin in _LISTS:
        return _fits_list(value, kind)
    if kind is Any:
        return True
    if isinstance(origin, type) and origin is not _CALLABLE:
        kind = origin
    if isinstance(kind, type) and not getattr(kind, "_is_protocol", False) and not is_typeddict(kind):
        return isinstance(value, kind)
    return callable(value) if origin is _CALLABLE else True


def _fits_list(value: Any, kind: Any) -> bool:
    if not _is_list(value):
        return get_origin(kind) is Iterable and isinstance(value, Iterator)
    elements, inside = _elements(value), get_args(kind)
    if get_origin(kind) is tuple and inside[-1:] != (...,):
        return len(elements) == len(inside) and all(map(fits, elements, inside))
    return all(fits(one, inside[0]) for one in elements)


def _is_list(value: Any) -> bool:
    """Tell whether a value is a list of elements; a text, a dictionary and a table are something else."""
    return (
        isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping) and not hasattr(value, "columns")
    )


def _elements(value: Any) -> list[Any]:
    """Return the elements of a list, an array or a tensor, those as Python's own numbers."""
    found = value.tolist() if hasattr(value, "tolist") else list(value)
    return found if isinstance(found, list) else [found]


def _of_elements(kind: Any) -> Any:
    inside = [one for one in get_args(kind) if one is not ...]
    return Union[tuple(inside)]  # noqa: UP007 (made at run time)


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool | np.bool_) or getattr(value, "ndim", 0) > 0:
        return False
    try:
        return -_LARGEST <= operator.index(value) <= _LARGEST
    except (TypeError, ValueError):
        return False


def _is_finite(value: Any) -> bool:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _in_words(kind: Any, several: bool) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind][several]
    if origin is Literal:
        return _either([repr(name) for name in inside])
    if origin is Mapping or origin is dict:
        of = "" if Any in inside else " from {} to {}".format(*(in_words(one, several=True) for one in inside))
        of = "" if "ForwardRef" in of else of  # a name for type checkers only
        return ("dictionaries" if several else "a dictionary") + of
    if origin is tuple and inside[-1:] != (...,):
        return f"{'lists' if several else 'a list'} of {len(inside)} {in_words(_of_elements(kind), several=True)}"
    if origin in _LISTS:
        return f"{'lists' if several else 'a list'} of {in_words(_of_elements(kind), several=True)}"
    if origin is _CALLABLE:
        return "functions" if several else "a function"
    name = getattr(origin or kind, "__name__", str(kind))
    source = f" (made by {kind.made_by})" if hasattr(kind, "made_by") else ""
    return (
        f"{name}{'es' if name.endswith('s') else 's'}{source}"
        if several
        else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}{source}"
    )


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
