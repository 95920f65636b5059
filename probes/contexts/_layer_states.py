"""The states of one layer of a bank, and the search for those that are most like a vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError

_PAIRS = 4096  # of states, that the usual cosine of a layer is measured on
_ROWS = 8192  # states in one product: larger ones are not faster
_GROUPS, _FEWEST, _MANY = 8, 4, 4096  # members of a group; where groups pay: so many for each number, and columns
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

    @cached_property
    def _centring(self) -> tuple[Tensor, Tensor]:
        """Return a and b of each state, float32 [n]: its direction from the mean is a times its own less b means."""
        scale = torch.empty(len(self))
        for start in range(0, len(self), _ROWS):
            rows = slice(start, start + _ROWS)
            scale[rows] = self.units[rows].float() @ self.mean
        squares = self.norms.square() - 2 * self.norms * scale + self.mean.square().sum()
        shift = squares.clamp(min=1e-12).rsqrt()
        return self.norms * shift, shift

    def search(self, vectors: Tensor, k: int, *, centre: bool, numbers: int) -> tuple[Tensor, Tensor]:
        """Return cosines and indices of the k states most like each vector, float32 and int64 [n, k], the best first.

        Args:
            vectors: [n, d].
            k: at most the number of states.
            centre: take the mean state off both.
            numbers: float32 numbers to hold at a time, about.
        """
        asked, d = self.asked(vectors, centre=centre), self.units.shape[1]
        if centre:  # one more column: what the mean takes off a product
            asked = torch.cat([asked, -(asked @ self.mean)[:, None]], 1)
        rows = max(k, min(_ROWS, numbers // (asked.shape[1] + 3 * len(asked) + 1)))
        held = torch.empty(min(rows, len(self)), asked.shape[1])
        products = torch.empty(len(held) * len(asked))  # their memory, which parts of the states share
        found, at = [], []
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            states = held[: stop - start]
            if centre:
                scale, shift = (one[start:stop] for one in self._centring)
                torch.mul(self.units[start:stop], scale[:, None], out=states[:, :d])
                states[:, d] = shift
            else:
                states.copy_(self.units[start:stop])
            own = products[: len(asked) * len(states)].view(len(asked), -1)
            each, index = _largest(torch.mm(asked, states.T, out=own), min(k, stop - start))
            found.append(each)
            at.append(index + start)
        best, place = torch.cat(found, 1).topk(k, dim=1)
        return best, torch.cat(at, 1).gather(1, place)

    def usual_cosine(self, seed: int, *, centre: bool) -> tuple[float, float]:
        """Return mean and standard deviation of the cosine of two different states drawn at random."""
        generator = torch.Generator().manual_seed(seed)
        one = torch.randint(len(self), (_PAIRS,), generator=generator)
        other = (one + 1 + torch.randint(len(self) - 1, (_PAIRS,), generator=generator)) % len(self)
        found = self.cosines(self.states(one), other[:, None], centre=centre).double()
        return float(found.mean()), max(float(found.std()), _RESOLUTION)


def _largest(products: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row [n, m] and their places, in no order.

    A row's k largest lie in the k groups of columns with the largest maxima, and maxima are found at once.
    """
    n_groups = products.shape[1] // _GROUPS
    if products.shape[1] < _MANY or n_groups < _FEWEST * k:
        return products.topk(k, dim=1, sorted=False)
    whole = n_groups * _GROUPS
    members = products[:, :whole].view(len(products), _GROUPS, n_groups)
    group = members.amax(dim=1).topk(k, dim=1, sorted=False).indices
    finalists = members.gather(2, group[:, None, :].expand(-1, _GROUPS, -1)).flatten(1)
    found, at = torch.cat([finalists, products[:, whole:]], 1).topk(k, dim=1, sorted=False)
    in_group = (at // k) * n_groups + group.gather(1, at % k)
    return found, torch.where(at < _GROUPS * k, in_group, at - _GROUPS * k + whole)
