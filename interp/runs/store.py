"""Keep the finished rows of a long run in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from interp.checks import checked
from interp.data.tensor_file import reading
from interp.data.writing import check_target, written
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
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"out={str(self.folder)!r} is not a folder and cannot be created ({reason}); name a folder."
            ) from error
        check_target(self.folder / f"{self.name}-00000.parquet", "the rows of a run")

    def __bool__(self) -> bool:
        """Tell whether any rows are kept."""
        return bool(self._files())

    def prompt_ids(self) -> frozenset[int]:
        """Return the prompts whose rows are kept."""
        return frozenset(int(prompt) for frame in self._frames(["prompt_id"]) for prompt in frame["prompt_id"].unique())

    def write(self, frame: pd.DataFrame) -> None:
        """Keep the rows of some prompts (or keys) that are not kept yet."""
        target = self.folder / f"{self.name}-{len(self._files()):05d}.parquet"
        with written(target, "the rows of a run") as file:
            frame.to_parquet(file)

    def read(self) -> pd.DataFrame:
        """Return all rows, in the order of prompts, or of `key`.

        Raises:
            InputError: no rows are kept, or a file of them is damaged.
        """
        frames = self._frames()
        if not frames:
            raise InputError("this run produced no rows; check positions=, layers= and the texts.")
        return pd.concat(frames, ignore_index=True).sort_values(self.key, kind="stable", ignore_index=True)

    def _frames(self, columns: list[str] | None = None) -> list[pd.DataFrame]:
        """Return the frame of every file; refuse one without the key."""
        frames = []
        for file in self._files():
            with reading(file, "finished rows", "Delete it to compute them again."):
                frames.append(pd.read_parquet(file, columns=columns))
                frames[-1][self.key]
        return frames

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}-{5 * '[0-9]'}.parquet"))
