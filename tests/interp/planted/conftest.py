"""Ways of running a planted model that share no code with `interp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

collect_ignore = ["compile_tracr.py"]  # it needs an environment of its own


def _read(model, residual: Tensor) -> Tensor:
    return model.unembed(model.ln_final(residual))


@pytest.fixture(scope="session")
def lens() -> Callable[..., Tensor]:
    """Logits [L + 1, batch, pos, V] read from the residual at layers 0..L of one forward pass."""

    def run(model, ids: Tensor) -> Tensor:
        last = model.cfg.n_layers - 1
        names = [f"blocks.{i}.hook_in" for i in range(last + 1)] + [f"blocks.{last}.hook_out"]
        with torch.no_grad():
            _, cache = model.run_with_cache(ids, names_filter=names)
            return torch.stack([_read(model, cache[name]) for name in names])

    return run


@pytest.fixture(scope="session")
def run_schedule() -> Callable[..., Tensor]:
    """Final logits [batch, pos, V] when the blocks of a schedule run, each with the arguments of the clean pass."""

    def run(model, ids: Tensor, schedule: Sequence[int]) -> Tensor:
        calls: list[tuple[tuple, dict]] = []
        hooks = [
            block.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
            for block in model.blocks
        ]
        try:
            with torch.no_grad():
                model(ids)
        finally:
            for hook in hooks:
                hook.remove()
        assert len(calls) == model.cfg.n_layers
        residual = calls[0][0][0]
        with torch.no_grad():
            for i in schedule:
                args, kwargs = calls[i]
                out = model.blocks[i](residual, *args[1:], **kwargs)
                residual = out[0] if isinstance(out, tuple) else out
            return _read(model, residual)

    return run
