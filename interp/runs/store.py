"""Keep finished rows in a folder, in files named by what decides their rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from interp.checks import checked
from interp.data.folders import Folder
from interp.errors import InputError, reason_of, warn

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
        return f"{self.name}-{part}.parquet"

    def parts(self) -> list[str]:
        """Return the names of the parts that are there, sorted."""
        start = len(self.name) + 1
        found = [name[start : -len(".parquet")] for name in self.place.names(".parquet", f"{self.name}-")]
        return [part for part in found if "-" not in part]  # a longer name may begin with this one

    def whole_parts(self) -> frozenset[str]:
        """Return the names of the parts whose files end as Parquet does; those that were cut short are put aside."""
        return frozenset(part for part in self.parts() if self._is_whole(part))

    def _is_whole(self, part: str) -> bool:
        name = self.file(part)
        try:
            with self.place.filesystem.open(self.place.path(name), "rb") as file:
                file.seek(-4, os.SEEK_END)
                whole = bool(file.read() == b"PAR1")
        except (OSError, ValueError):
            whole = False
        if not whole:
            self._put_aside(name, "it was cut short")
        return whole

    def _put_aside(self, name: str, reason: str) -> None:
        aside = self.place.put_aside(name)
        warn(f"{self.place.path(name)!r} is damaged ({reason}): its rows are computed again; it is {aside!r} now.")

    def write(self, part: str, frame: pd.DataFrame) -> None:
        """Keep a part, whose name has no hyphen."""
        table = pa.Table.from_pandas(frame, preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _NAME: self.file(part).encode()})
        with self.place.writing(self.file(part)) as file:
            pq.write_table(table, file, write_page_checksum=True)

    def table(self, part: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """Return a part, or some of its columns; None if it is absent, or damaged and now put aside."""
        name = self.file(part)
        if not self.place.has(name):
            return None
        try:
            with self.place.filesystem.open(self.place.path(name), "rb") as file:
                table = pq.read_table(file, columns=columns, page_checksum_verification=True)
            if table.schema.metadata.get(_NAME) != name.encode():
                raise ValueError("its rows are not those of its name")
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged file can be wrong in any way
            self._put_aside(name, reason_of(error))
            return None
        return table

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
