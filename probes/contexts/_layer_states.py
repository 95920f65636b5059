"""The states of one layer of a bank, and the search for those that are most like a vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError

_PAIRS = 4096  # of states, that the usual cosine of a layer is measured on
_RESOLUTION = 1e-6  # of a cosine in float32: the least standard deviation that means anything


@dataclass(frozen=True, eq=False)
class LayerStates:
    """States of a layer, as directions and lengths: so half precision holds them, however large their numbers are.

    Attributes:
        units: their directions, [n, d], in the bank's dtype; may be a file mapped into memory.
        norms: their lengths, float32 [n].
        mean: the mean state, float32 [d].
    """

    units: Tensor
    norms: Tensor
    mean: Tensor

    def __len__(self) -> int:
        return len(self.norms)

    def states(self, index: Tensor) -> Tensor:
        """Return some of the states, float32 [..., d]."""
        return self.units[index].float() * self.norms[index][..., None]

    def checked(self, vectors: Tensor | np.ndarray) -> Tensor:
        """Return vectors as a tensor [n, d] on the processor.

        Raises:
            InputError: they are something else.
        """
        given, d = torch.as_tensor(vectors), self.units.shape[1]
        if given.ndim != 2 or given.shape[1] != d or not given.is_floating_point():
            raise InputError(f"vectors {given.dtype} {list(given.shape)}: give floating-point numbers [n, {d}].")
        return given.detach().cpu()

    def asked(self, vectors: Tensor, *, centre: bool) -> Tensor:
        """Return the directions of vectors [n, d], from the mean state if centred, float32 [n, d]."""
        vectors = vectors.float() - self.mean if centre else vectors.float()
        return torch.nn.functional.normalize(vectors, dim=-1)

    def cosines(self, vectors: Tensor, index: Tensor, *, centre: bool) -> Tensor:
        """Return the cosine of each vector [n, d] with the states given for it [n, m], float32 [n, m]."""
        known = self.asked(self.states(index), centre=centre)
        return torch.einsum("nd,nmd->nm", self.asked(vectors, centre=centre), known)

    def search(self, vectors: Tensor, k: int, *, centre: bool, numbers: int) -> tuple[Tensor, Tensor]:
        """Return cosines and indices of the k states most like each vector, float32 and int64 [n, k], the best first.

        Args:
            vectors: [n, d].
            k: at most the number of states.
            centre: take the mean state off both.
            numbers: float32 numbers to hold at a time, about.
        """
        asked = self.asked(vectors, centre=centre)
        # The mean rides along as one more vector: a state's product with it gives the length of their difference.
        columns = torch.cat([asked, self.mean[None]]).T
        best = torch.full((len(asked), 0), 0.0), torch.full((len(asked), 0), 0)
        rows = max(k, numbers // (self.units.shape[1] + 2 * columns.shape[1]))
        for start in range(0, len(self), rows):
            products = self.units[start : start + rows].float() @ columns
            norms = self.norms[start : start + rows, None]
            found = products[:, :-1]
            if centre:
                squares = norms.square() - 2 * norms * products[:, -1:] + self.mean.square().sum()
                found = (found * norms - asked @ self.mean) / squares.clamp(min=1e-12).sqrt()
            each, at = found.T.topk(min(k, len(found)), dim=1)
            joined = torch.cat([best[0], each], 1), torch.cat([best[1], at + start], 1)
            top, place = joined[0].topk(min(k, joined[0].shape[1]), dim=1)
            best = top, joined[1].gather(1, place)
        return best

    def usual_cosine(self, seed: int, *, centre: bool) -> tuple[float, float]:
        """Return mean and standard deviation of the cosine of two different states drawn at random."""
        generator = torch.Generator().manual_seed(seed)
        one = torch.randint(len(self), (_PAIRS,), generator=generator)
        other = (one + 1 + torch.randint(len(self) - 1, (_PAIRS,), generator=generator)) % len(self)
        found = self.cosines(self.states(one), other[:, None], centre=centre).double()
        return float(found.mean()), max(float(found.std()), _RESOLUTION)
