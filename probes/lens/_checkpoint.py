"""Keep a training of a tuned lens in a folder: its state while it runs, and the lens once it is finished."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from interp.authoring import InputError, Store
from interp.data import tensor_file
from probes.lens._maps import TunedLens, load_tuned_lens
from probes.lens._training import LensTrainer

_FORMAT = "interp tuned lens, unfinished 1"
_EVERY_SECONDS = 60.0
_NUMBERS = ("before", "best", "penalties")  # lists of the trainer that are kept as JSON


@dataclass
class LensProgress:
    """The place of a training: steps done, evaluations in a row without an improvement, texts taken from the stream."""

    step: int = 0
    waited: int = 0
    taken: int = 0


@dataclass
class Checkpoint:
    """A folder with the state of one training; without a folder, nothing is kept.

    Args:
        folder: created if its parent exists.
        key: a hash of everything that decides the lens.
    """

    folder: str | Path | None
    key: str
    _saved: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.folder = Store(Path(self.folder), self.key).folder

    def finished(self) -> TunedLens | None:
        """Return the finished lens, if it is kept."""
        return load_tuned_lens(self._lens) if self.folder is not None and self._lens.is_file() else None

    def finish(self, lens: TunedLens) -> None:
        """Keep the finished lens in the place of the state."""
        if self.folder is not None:
            lens.save(self._lens)
            self._state.unlink(missing_ok=True)

    def keep(self, trainer: LensTrainer, optimiser: torch.optim.Optimizer, progress: LensProgress, due: bool) -> None:
        """Keep the state if it is due, or was kept more than a minute ago."""
        if self.folder is None or not (due or time.monotonic() - self._saved > _EVERY_SECONDS):
            return
        tensors = dict(zip(("weight", "bias", "kept.weight", "kept.bias"), _state_of(trainer), strict=True))
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
        about: dict[str, Any] = {name: getattr(trainer, name) for name in _NUMBERS}
        about |= {"format": _FORMAT, "key": self.key, "progress": vars(progress)}
        tensor_file.write(self._state, "the state of a tuned lens", tensors, about)
        self._saved = time.monotonic()

    def resume(self, trainer: LensTrainer, optimiser: torch.optim.Optimizer) -> LensProgress:
        """Restore the state that is kept, if there is one; return the place to go on from.

        Raises:
            InputError: the file holds something else.
        """
        if self.folder is None or not self._state.is_file():
            return LensProgress()
        about, tensors = tensor_file.read(self._state, "state of a tuned lens", _FORMAT, "Delete it to start anew.")
        try:
            for name, value in zip(("weight", "bias", "kept.weight", "kept.bias"), _state_of(trainer), strict=True):
                value.copy_(tensors.pop(name))
            for name in _NUMBERS:
                setattr(trainer, name, list(about[name]))
            optimiser.load_state_dict(optimiser.state_dict() | {"state": _by_parameter(tensors)})
            return LensProgress(**about["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{str(self._state)!r} is damaged: {error}; delete it to start anew.") from error

    @property
    def _lens(self) -> Path:
        return Path(str(self.folder)) / f"{self.key}.lens.safetensors"

    @property
    def _state(self) -> Path:
        return Path(str(self.folder)) / f"{self.key}.state.safetensors"


def _state_of(trainer: LensTrainer) -> tuple[torch.Tensor, ...]:
    return (*trainer.parameters, *trainer.kept)


def _by_parameter(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """Return the optimiser's tensors by the index of their parameter and their name."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        _, index, name = key.split(".", 2)
        found.setdefault(int(index), {})[name] = value
    return found
