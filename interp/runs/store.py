"""Keep the finished rows of a long run in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from interp.checks import checked
from interp.data.writing import written
from interp.errors import InputError


@checked
@dataclass(frozen=True)
class Store:
    """A folder of Parquet files with the rows of one run, written atomically; files of another name are ignored.

    Args:
        folder: created if its parent exists.
        name: of what is kept, see `interp.runs.run.kept_as`.
        key: the column that identifies the rows and orders them.
    """

    folder: Path
    name: str
    key: str = "prompt_id"

    def __post_init__(self) -> None:
        if self.folder.is_file() or not self.folder.resolve().parent.is_dir():
            raise InputError(f"out={str(self.folder)!r} is not a folder and cannot be created; name a folder.")
        self.folder.mkdir(exist_ok=True)

    def __bool__(self) -> bool:
        """Tell whether any rows are kept."""
        return bool(self._files())

    def prompt_ids(self) -> frozenset[int]:
        """Return the prompts whose rows are kept."""
        found = (pd.read_parquet(file, columns=["prompt_id"])["prompt_id"].unique() for file in self._files())
        return frozenset(int(prompt) for prompts in found for prompt in prompts)

    def write(self, frame: pd.DataFrame) -> None:
        """Keep the rows of some prompts (or keys) that are not kept yet."""
        target = self.folder / f"{self.name}-{len(self._files()):05d}.parquet"
        with written(target, "the rows of a run") as file:
            frame.to_parquet(file)

    def read(self) -> pd.DataFrame:
        """Return all rows, in the order of prompts, or of `key`.

        Raises:
            InputError: no rows are kept.
        """
        files = self._files()
        if not files:
            raise InputError("this run produced no rows; check positions=, layers= and the texts.")
        joined = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        return joined.sort_values(self.key, kind="stable", ignore_index=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}-{5 * '[0-9]'}.parquet"))
