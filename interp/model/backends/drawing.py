"""Draw weights that are the same on every processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def portable_draws() -> AbstractContextManager[Any]:
    """Let `normal_` take its draws from numpy inside the `with` block, with a seed from torch's global generator.

    torch's own normal draws depend on the vector unit: they differ in the last bits between processors, and so would
    the fingerprint of a model that is drawn by its seed. numpy draws number by number.
    """
    mode: AbstractContextManager[Any] = _Portable()  # type: ignore[no-untyped-call]
    return mode


class _Portable(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is not torch.ops.aten.normal_.default or kwargs.get("generator") is not None or args[0].is_meta:
            return func(*args, **kwargs)
        return _fill(*args, **kwargs)


def _fill(weight: Tensor, mean: float = 0.0, std: float = 1.0, generator: None = None) -> Tensor:
    seed = int(torch.randint(1 << 62, (1,)))
    draws = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(weight.shape), dtype=np.float32)
    return weight.copy_(torch.from_numpy(np.asarray(draws * np.float32(std) + np.float32(mean))))
