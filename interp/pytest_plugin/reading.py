"""Read recorded values, and refuse a damaged file in one sentence that says where and how to mend it.

A person, an editor or a merge may have changed the file, so nothing in it is taken for granted.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import InputError

if TYPE_CHECKING:
    from interp.pytest_plugin.records import Recorded

_MEND = "mend it, or delete the file and record again with --interp-update."
_FACTS = ("model", "fingerprint", "by", "rows")


class _Damaged(Exception):
    """What is wrong, without the file's name."""


def read(file: Path) -> Recorded:
    """Read the records of a file; none if the file does not exist.

    Raises:
        InputError: the file cannot be read, is not JSON, for example because of conflict marks from a merge, or holds
            anything but records: tests, names, and rows that the columns in `by` distinguish, with finite numbers.
    """
    try:
        return _checked(_parsed(file.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        said = f"is not JSON at line {error.lineno} ({error.msg})"
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
    except UnicodeError:  # bytes of another encoding, or half a surrogate pair, which could not be written again
        said = "is not text in UTF-8"
    except ValueError:  # Python refuses to convert more than some thousand digits
        said = "holds a number of too many digits"
    except RecursionError:
        said = "is nested too deeply"
    except _Damaged as error:
        said = f"holds {error}"
    raise InputError(f"{file.name} {said}; {_MEND}")


def _parsed(text: str) -> Any:
    def constant(name: str) -> Any:
        raise _Damaged(f'the number {name}, which is written "inf", "-inf" or null')

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
            raise _Damaged(f"{twice!r} twice in one object, as a merge may leave it")
        return found

    found = json.loads(text, parse_constant=constant, object_pairs_hook=unique)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def _checked(found: Any) -> Recorded:
    for test, named in _object(found, "the file", "tests").items():
        for name, record in _object(named, f"the test {test!r}", "names of records").items():
            _check_record(record, f"{name!r} of {test}")
    return dict(found)


def _object(value: Any, where: str, of: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Damaged(f"{_kind(value)} for {where} where an object of {of} is due")
    return value


def _check_record(record: Any, where: str) -> None:
    facts = _object(record, where, "model, fingerprint, by and rows")
    wrong = [name for name in _FACTS if name not in facts] or [name for name in facts if name not in _FACTS]
    if wrong:
        raise _Damaged(f"{'no' if wrong[0] in _FACTS else 'an unknown'} {wrong[0]!r} in {where}")
    for name in ("model", "fingerprint"):
        if not isinstance(facts[name], str):
            raise _Damaged(f"{_kind(facts[name])} as {name} of {where} where text is due")
    by, rows = facts["by"], facts["rows"]
    if not (isinstance(by, list) and all(isinstance(key, str) for key in by) and len(set(by)) == len(by)):
        raise _Damaged(f"a 'by' of {where} that is not a list of different names of columns")
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) and row for row in rows)):
        raise _Damaged(f"'rows' of {where} that are not a list of at least one row")
    if not by and len(rows) > 1:
        raise _Damaged(f"{len(rows)} rows of {where}, and no 'by' that distinguishes them")
    seen = set()
    for place, row in enumerate(rows, 1):
        if set(row) != set(rows[0]) or not set(by) <= set(row):
            raise _Damaged(f"a row {place} of {where} whose columns are not those of row 1 and of 'by'")
        for column, cell in row.items():
            _check_cell(cell, f"{column!r} in row {place} of {where}")
        key = tuple(row[name] for name in by)
        if None in key or key in seen:
            raise _Damaged(f"a row {place} of {where} whose key {dict(zip(by, key, strict=True))} is missing or taken")
        seen.add(key)


def _check_cell(cell: Any, where: str) -> None:
    if cell is None or isinstance(cell, bool | str):
        return
    if not isinstance(cell, int | float):
        raise _Damaged(f"{_kind(cell)} as {where} where a number, a truth value or text is due")
    try:
        finite = math.isfinite(cell)
    except OverflowError:  # a whole number of more than 308 digits
        finite = False
    if not finite:
        raise _Damaged(f"a number too large for float64 as {where}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "a null"}
    return names.get(type(value), "a number")
