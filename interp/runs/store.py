"""Keep finished rows in a folder, in files named by what decides their rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from interp.checks import checked
from interp.data.folders import Folder
from interp.data.repeated_texts import texts_in_dictionaries
from interp.errors import InputError, reason_of, warn

_LAST = b"PAR1"  # the end of every Parquet file
_NAME = b"interp.part"  # in a file's metadata: the name under which its rows were kept


@checked
@dataclass(frozen=True)
class Store:
    """A folder of Parquet files, the parts of one result, each written whole or not at all.

    A part's name says what decides its rows. So whoever computes the part again writes the same rows under the same
    name, and several processes may share a folder. A file that is damaged, foreign or a link counts as absent: it is
    put aside with a warning, and its rows are computed again. Files of other names are ignored.

    Args:
        folder: a path, or a URL that fsspec knows; created if its parent exists.
        name: of the result, with which the names of its parts begin; see `interp.runs.run.kept_as`.
        key: the column that tells apart what the rows are about. The rows of one key lie in one part.

    Raises:
        InputError: the folder cannot be used.
    """

    folder: str | Path
    name: str
    key: str = "prompt_id"
    place: Folder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", Folder(str(self.folder)))

    def __bool__(self) -> bool:
        """Tell whether any rows are kept."""
        return bool(self.parts())

    def file(self, part: str) -> str:
        """Return the name of a part's file."""
        return self._file(part)

    def _file(self, part: str) -> str:  # for thousands of parts at once, whose names need no check
        return f"{self.name}-{part}.parquet"

    def parts(self) -> list[str]:
        """Return the names of the parts that are there, sorted."""
        start = len(self.name) + 1
        found = [name[start : -len(".parquet")] for name in self.place.names(".parquet", f"{self.name}-")]
        return [part for part in found if "-" not in part]  # a longer name may begin with this one

    def whole_parts(self, known: Collection[str] = ()) -> frozenset[str]:
        """Return the names of the parts whose files end as Parquet does; those that were cut short are put aside.

        Args:
            known: parts that were whole before: whether they still are is not looked at again, only whether they are
                there.
        """
        there = self.parts()
        new = [part for part in there if part not in known]
        ends = self.place.ends([self._file(part) for part in new], len(_LAST))
        cut = {part for part, end in zip(new, ends, strict=True) if end != _LAST}
        for part in sorted(cut):
            self._put_aside(self._file(part), "it was cut short")
        return frozenset(there) - cut

    def bytes_of(self, parts: Collection[str]) -> int:
        """Return the bytes of some parts; those that are absent have none."""
        return sum(self.place.sizes(map(self._file, parts)).values())

    def paths(self, parts: Collection[str]) -> list[str]:
        """Return the paths of parts within the filesystem, be they there or not."""
        return [self.place.path(self._file(part)) for part in parts]

    def _put_aside(self, name: str, reason: str) -> None:
        aside = self.place.put_aside(name)
        warn(f"{self.place.path(name)!r} is damaged ({reason}): its rows are computed again; it is {aside!r} now.")

    def write(self, part: str, frame: pd.DataFrame, *, texts_once: bool = False) -> None:
        """Keep a part, whose name has no hyphen.

        Args:
            part: its name.
            frame: its rows.
            texts_once: whether each distinct text of a column is kept once; it is then read as a pandas categorical.
        """
        table = (texts_in_dictionaries if texts_once else _plain)(frame)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _NAME: self.file(part).encode()})
        with self.place.writing(self.file(part)) as file:
            _parquet().write_table(table, file, write_page_checksum=True, **_encoding(table.schema))

    def table(self, part: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """Return a part, or some of its columns; None if it is absent, or damaged and now put aside."""
        name = self.file(part)
        if not self.place.has(name):
            return None
        try:
            with self._opened(name) as file:
                table = file.read(columns=columns)
            if table.schema.metadata.get(_NAME) != name.encode():
                raise ValueError("its rows are not those of its name")
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged file can be wrong in any way
            self._put_aside(name, reason_of(error))
            return None
        return table

    def _opened(self, name: str) -> Any:
        path = self.place.path(name)
        return _parquet().ParquetFile(path, filesystem=self.place.for_arrow, page_checksum_verification=True)

    def read_part(self, part: str, columns: Sequence[str] | None = None) -> pd.DataFrame | None:
        """Return a part as a frame; None if it is absent, or damaged and now put aside."""
        table = self.table(part, columns)
        return None if table is None else table.to_pandas()

    def keys(self) -> frozenset[Any]:
        """Return the keys whose rows are kept."""
        return frozenset(key for frame in self._frames([self.key]) for key in frame[self.key].unique().tolist())

    def read(self) -> pd.DataFrame:
        """Return all rows, those of each key once, in the order of keys.

        Raises:
            InputError: no rows are kept.
        """
        seen: set[Any] = set()
        frames = []
        for frame in self._frames():
            again = frame[self.key].isin(seen)  # two processes divided the keys differently; their rows are the same
            frames.append(frame[~again] if again.any() else frame)
            seen.update(frame[self.key].unique().tolist())
        if not seen:
            raise InputError("this run produced no rows; check positions=, layers= and the texts.")
        return pd.concat(frames, ignore_index=True).sort_values(self.key, kind="stable", ignore_index=True)

    def _frames(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        for part in self.parts():
            frame = self.read_part(part, columns)
            if frame is not None:
                yield frame


def _plain(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Return how columns are written: numbers with decimals, which seldom repeat, byte by byte.

    A table of a lens has half the bytes that way, and is written faster.
    """
    decimal = [one.name for one in schema if pa.types.is_floating(one.type)]
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in schema.names if name not in decimal],
        "column_encoding": dict.fromkeys(decimal, "BYTE_STREAM_SPLIT") or None,
    }


def _parquet() -> Any:
    """Return `pyarrow.parquet`, which is slow to import: only a run that is kept needs it."""
    import pyarrow.parquet

    return pyarrow.parquet
