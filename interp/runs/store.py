"""Finished rows of a long run, kept in a folder as they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from interp.errors import InputError


@dataclass(frozen=True)
class Store:
    """Parquet files of one run, each written whole or not at all; files of other runs beside them are let be.

    Args:
        folder: made if its parent is there.
        run_id: whose rows.
        key: the column that says which rows are here, and orders them.
    """

    folder: Path
    run_id: str
    key: str = "prompt_id"

    def __post_init__(self) -> None:
        if self.folder.is_file() or not self.folder.resolve().parent.is_dir():
            raise InputError(f"out={str(self.folder)!r} is no folder and none can be made there; name a folder.")
        self.folder.mkdir(exist_ok=True)

    def __bool__(self) -> bool:
        """Whether any rows are here."""
        return bool(self._files())

    def prompt_ids(self) -> frozenset[int]:
        """Prompts whose rows are here."""
        found = (pd.read_parquet(file, columns=["prompt_id"])["prompt_id"].unique() for file in self._files())
        return frozenset(int(prompt) for prompts in found for prompt in prompts)

    def write(self, frame: pd.DataFrame) -> None:
        """Keep the rows of some prompts (or keys) that are not here yet."""
        target = self.folder / f"{self.run_id}-{len(self._files()):05d}.parquet"
        unfinished = target.with_suffix(".unfinished")
        frame.to_parquet(unfinished)
        unfinished.replace(target)

    def read(self) -> pd.DataFrame:
        """All rows, in the order of prompts, or of `key`.

        Raises:
            InputError: there are none.
        """
        files = self._files()
        if not files:
            raise InputError("nothing was selected; pass at least one position and layer.")
        joined = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        return joined.sort_values(self.key, kind="stable", ignore_index=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.run_id}-*.parquet"))
