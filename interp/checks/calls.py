"""Check calls: the arguments that a function has, lacks, and cannot use."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from interp.checks.kinds import fits, in_words, members, misfit, names_in
from interp.errors import InputError, UnknownName

F = TypeVar("F", bound=Callable[..., Any])

_OWNER = ("self", "cls")
_MANY_FORMS = ("texts",)  # checked where they are tokenised
_OF_TOKENS = ("add_generation_prompt", "bos")  # of `Subject.tokens`, which makes of texts what a probe reads
_SHOWN = "__parameters_of__"  # where a function keeps the one whose parameters it shows
_CHECKED = "__checked__"
_ANSWER = "__answer__"  # where a function keeps what answers an argument that it lacks
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def checked(function: F) -> F:
    """Decorate a function so that its arguments are checked at every call; its signature stays.

    Decorate a class to check its public methods, and the arguments that it is made with.

    >>> @checked
    ... def draw(n: int, *, colour: Literal["red", "blue"] = "red", filled: bool = False): ...
    >>> draw(2, filled="no")
    Traceback (most recent call last):
    interp.errors.InputError: filled='no': give True or False.
    """
    if hasattr(function, _CHECKED):
        return function
    if isinstance(function, type):
        for name, method in list(vars(function).items()):
            if name == "__init__" or not name.startswith("_"):
                if inspect.isfunction(method):
                    setattr(function, name, checked(method))
                elif isinstance(method, classmethod):
                    setattr(function, name, classmethod(checked(method.__func__)))
        return function
    known: list[tuple[inspect.Signature, dict[str, Any]]] = []  # made at the first call: its types may come later

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not known:
            known.append((inspect.signature(function), kinds_of(function)))
        signature, types = known[0]
        for name, value in _bound(function, signature, args, kwargs).items():
            if name in types and signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                for one in value:
                    check(name, one, types[name])
            elif name in types:
                check(name, value, types[name])
        return function(*args, **kwargs)

    call.__dict__[_CHECKED] = True
    return call  # type: ignore[return-value]


def check(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that is not of an annotation's kind, a negative `seed`, or an empty path.

    Raises:
        UnknownName: a name is not among those of a `Literal`.
        InputError: the value is of another kind.
    """
    if not fits(value, annotation):
        bad, wanted = misfit(value, annotation)
        if isinstance(bad, str) and names_in(wanted):
            # Not the letters of the list's own name: "metrics" holds an unknown metric.
            what = name if bad is value else name.removesuffix("s")
            others = in_words(wanted, names=False)
            raise UnknownName(what, bad, names_in(wanted), others and f"Or give {others}.")
        shown = f"{name}={shortly(value)}" if bad is value else f"{name} holds {shortly(bad)}"
        wrapped = f", such as [{value!r}]" if isinstance(value, str) and fits([value], annotation) else ""
        large = " below 2**63" if isinstance(bad, int) and abs(bad) >= 2**63 else ""
        raise InputError(f"{shown}: give {in_words(annotation)}{large}{wrapped}.")
    if name == "seed" and value is not None and value < 0:
        raise InputError(f"seed={shortly(value)}: give a whole number of 0 or more.")
    if isinstance(value, str) and not value and Path in members(annotation):
        raise InputError(f"{name}='': give a path.")


def shortly(value: Any) -> str:
    """Return a value on one short line, or its type if it is a table, an array or a model.

    >>> shortly([0] * 99), shortly(int)
    ('[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,...', 'the class int')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if hasattr(value, "shape") or hasattr(value, "named_parameters"):
        return f"a {type(value).__name__}"
    line = " ".join(repr(value).split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def shows_parameters_of(source: Callable[..., Any], *, but: Collection[str] = ()) -> Callable[[F], F]:
    """Decorate a function so that its signature shows the parameters of another in place of `**arguments`.

    Args:
        source: the function that is given the arguments.
        but: its parameters that are left out.

    >>> def draw(size, *, colour="red", width=1): ...
    >>> @shows_parameters_of(draw, but=["size"])
    ... def draw_large(*, width=2, **arguments):
    ...     draw(100, width=width, **arguments)
    >>> str(inspect.signature(draw_large))
    "(*, width=2, colour='red')"
    """

    def mark(function: F) -> F:
        own = inspect.signature(function)
        kept = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        theirs = [
            one.replace(kind=one.KEYWORD_ONLY)
            for one in inspect.signature(source).parameters.values()
            if one.name not in {*own.parameters, *but}
        ]
        function.__dict__["__signature__"] = own.replace(parameters=[*kept, *theirs])
        function.__dict__[_SHOWN] = source
        return function

    return mark


def answering(answer: Callable[[str], str | None]) -> Callable[[F], F]:
    """Decorate a function so that an argument which it lacks is answered with where it goes.

    Args:
        answer: returns the end of the sentence for an argument's name; None if it knows nothing of it.

    >>> @checked
    ... @answering(lambda name: "give it to paint()" if name == "colour" else None)
    ... def draw(n: int): ...
    >>> draw(2, colour="red")
    Traceback (most recent call last):
    interp.errors.InputError: draw does not take colour=; give it to paint().
    """

    def mark(function: F) -> F:
        function.__dict__[_ANSWER] = answer
        return function

    return mark


def example_call(function: Callable[..., Any]) -> ast.Call | None:
    """Return the call that a function's docstring shows; None if it shows none.

    >>> from probes import logit_lens
    >>> ast.unparse(example_call(logit_lens)).startswith("logit_lens(")
    True
    """
    import doctest  # slow to import

    for shown in doctest.DocTestParser().get_examples(inspect.getdoc(function) or ""):
        for node in ast.walk(ast.parse(shown.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == function.__name__:
                return node
    return None


def _bound(
    function: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name; refuse those that the function does not have or lacks."""
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError:
        pass
    what = function.__qualname__.removesuffix(".__init__").split(".<locals>.")[-1]
    shown = [one for one in signature.parameters.values() if one.name not in _OWNER]
    names = [one.name for one in shown if one.kind not in _OPEN]
    answer = function.__dict__.get(_ANSWER, lambda name: None)
    for name in (name for name in kwargs if name not in names):
        if name in _OF_TOKENS and "texts" in names:
            tokens = f"subject.tokens(texts, {name}={shortly(kwargs[name])})"
            raise InputError(f"{what} does not take {name}=; give {tokens} as its texts.")
        if mend := answer(name):
            raise InputError(f"{what} does not take {name}=; {mend}.")
        raise UnknownName(f"argument of {what}", name, names)
    in_order = [one.name for one in shown if one.kind is one.POSITIONAL_OR_KEYWORD]
    n_given = len(args) - sum(name in _OWNER for name in signature.parameters)
    needed = [one.name for one in shown if one.default is one.empty and one.kind not in _OPEN]
    lacking = [name for name in needed if name not in in_order[:n_given] and name not in kwargs]
    if lacking:
        example = example_call(function)
        call = f"{what}{signature.replace(parameters=shown)}" if example is None else ast.unparse(example)
        raise InputError(f"{what} needs a value for {lacking[0]!r}; call it as in {call}.")
    twice = [name for name in in_order[:n_given] if name in kwargs]
    if twice:
        raise InputError(f"{what} was given {twice[0]!r} twice, by its place and by its name; give it once.")
    most = f"{len(in_order)} values by their place" if in_order else "no value by its place"
    raise InputError(f"{what} takes {most}, not {n_given}; name the others: {', '.join(names[len(in_order) :])}.")


def kinds_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the parameters to check; those whose names do not exist at run time are left out."""
    spaces = [inspect.unwrap(one).__globals__ for one in _and_those_it_shows(function)]  # type: ignore[attr-defined]
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in (*_OWNER, *_MANY_FORMS) or parameter.kind is parameter.VAR_KEYWORD:
            continue
        annotation = parameter.annotation
        for space in spaces if isinstance(annotation, str) else ():
            try:
                annotation = eval(annotation, dict(space))
                break
            except (NameError, AttributeError, TypeError):  # imported for type checkers only, or of such names
                continue
        if annotation is not parameter.empty and not isinstance(annotation, str):
            found[name] = annotation
    return found


def _and_those_it_shows(function: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    while function is not None:
        yield function
        function = getattr(function, _SHOWN, None)
