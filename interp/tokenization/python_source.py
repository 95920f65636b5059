"""Python source written otherwise: spaces between its symbols, and names in another style, with an equal syntax tree.

After TokDrift (Li et al., arXiv 2510.14972), whose rules rename what is defined in a program and put spaces around its
operators.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import tokenize
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from interp.errors import InputError, reason_of, shown
from interp.tokenization.edits import Edit, edited

_SYMBOLS = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)
_STYLES = ("snake", "camel", "pascal")


def spacing(source: str, p: float, generator: np.random.Generator) -> list[Edit]:
    """Return spaces at a share p of the places between two symbols of a line where there is none, one at least.

    Raises:
        InputError: it is not Python, or has no such place.

    >>> edited("f(x, y)", spacing("f(x, y)", 1.0, np.random.default_rng(0)))
    'f ( x , y )'
    """
    tree, symbols, starts = _read(source)
    places = []
    for one, other in pairwise(symbols):
        if one.end == other.start and one.type in _SYMBOLS and other.type in _SYMBOLS:
            places.append(starts[one.end[0] - 1] + one.end[1])
    if not places:
        raise InputError(f"{shown(source)} has no two symbols without a space between them; leave it out.")
    chosen = generator.choice(places, max(1, int(p * len(places))), replace=False)
    found = [Edit(at, at, " ") for at in sorted(chosen.tolist())]
    return _checked(source, found, tree, {})


def naming(source: str, p: float, generator: np.random.Generator) -> list[Edit]:
    """Return a source's own names in a drawn style: snake_case, camelCase or PascalCase.

    Names that may be read from elsewhere stay: attributes, imports, arguments that are given by name, names inside
    formatted strings. All other names change, whatever p is.

    Raises:
        InputError: it is not Python, or has no name that another style writes otherwise.

    >>> edited("my_sum = 1 + my_sum", naming("my_sum = 1 + my_sum", 1.0, np.random.default_rng(0)))
    'MySum = 1 + MySum'
    """
    tree, symbols, starts = _read(source)
    own, known = _own_names(tree), {one.string for one in symbols if one.type == tokenize.NAME}
    for style in generator.permutation(_STYLES).tolist():
        renamed = {name: _STYLE[style](name) for name in sorted(own)}
        renamed = {name: new for name, new in renamed.items() if new != name and _free(new, known)}
        if renamed and len(set(renamed.values())) == len(renamed):
            break
    else:
        raise InputError(f"{shown(source)} has no name of its own that another style writes otherwise; leave it out.")
    found, before = [], ""
    for one in symbols:
        if one.type == tokenize.NAME and one.string in renamed and before != ".":
            at = starts[one.start[0] - 1] + one.start[1]
            found.append(Edit(at, at + len(one.string), renamed[one.string]))
        before = one.string
    return _checked(source, found, tree, renamed)


def _read(source: str) -> tuple[ast.AST, list[tokenize.TokenInfo], list[int]]:
    """Return the syntax tree of a source, its symbols, and where each line begins."""
    try:
        tree = ast.parse(source)
        symbols = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError, ValueError) as error:
        raise InputError(f"{shown(source)} is not Python ({reason_of(error)}); give whole statements.") from error
    lengths = [len(line) for line in io.StringIO(source)]
    return tree, symbols, [0, *np.cumsum(lengths).tolist()]


def _own_names(tree: ast.AST) -> set[str]:
    """Return names that a source sets itself, and that nothing else can read."""
    own: set[str] = set()
    kept: set[str] = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.keyword) and node.arg:
            kept.add(node.arg)
        elif isinstance(node, ast.alias):
            kept |= {node.name, node.asname or ""}
        elif isinstance(node, ast.Attribute):
            kept.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kept.add(node.name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            kept |= set(node.names)
        elif isinstance(node, ast.JoinedStr):
            kept |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return {name for name in own - kept if not name.startswith("_")}


def _free(name: str, known: set[str]) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name not in known and not hasattr(builtins, name)


def _words(name: str) -> list[str]:
    """Return the words of a name in any of the styles, in small letters."""
    spaced = "".join(
        f"_{one}" if one.isupper() and not before.isupper() else one for before, one in pairwise("_" + name)
    )
    return [word.lower() for word in spaced.split("_") if word]


_STYLE: dict[str, Callable[[str], str]] = {
    "snake": lambda name: "_".join(_words(name)),
    "camel": lambda name: "".join(word if not at else word.capitalize() for at, word in enumerate(_words(name))),
    "pascal": lambda name: "".join(word.capitalize() for word in _words(name)),
}


def _checked(source: str, edits: list[Edit], tree: ast.AST, renamed: dict[str, str]) -> list[Edit]:
    """Return edits whose source has the same tree, up to the names that were changed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = renamed.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = renamed.get(node.arg, node.arg)
    if ast.dump(tree) != ast.dump(ast.parse(edited(source, edits))):
        raise InputError(f"{shown(source)} cannot be written otherwise with the same meaning; leave it out.")
    return edits
