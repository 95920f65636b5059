"""Masks as one bit per weight, as files hold them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError


def bits_of(mask: Tensor) -> np.ndarray:
    """Return a mask as bits, uint8 [ceil(n / 8)]."""
    return np.packbits(mask.flatten().numpy())


def mask_of(name: str, packed: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the mask of that shape whose bits are given.

    Raises:
        InputError: there are other than its number of bits; said before anything is allocated.
    """
    n_rows, n_columns = shape
    if packed.dtype != torch.uint8 or packed.shape != (-(-n_rows * n_columns // 8),):  # before anything is allocated
        raise InputError(f"the mask of {name} is claimed to be {list(shape)}, but {list(packed.shape)} bytes are kept.")
    bits = np.unpackbits(packed.numpy(), count=int(np.prod(shape)))
    return torch.from_numpy(bits.astype(bool)).view(*shape)
