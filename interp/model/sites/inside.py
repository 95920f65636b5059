"""Catch what passes between functions inside a module: an attention's softmax, in any kernel; a router's linear map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from interp.model.managed import managed

End: TypeAlias = Literal["scores", "pattern", "linear"]
_SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}


class _Inside(TorchFunctionMode):
    """Calls functions on the scores and the pattern of every softmax, and on what every linear map gives."""

    def __init__(self) -> None:
        TorchFunctionMode.__init__(self)  # where a class is sent, `super()` does not know it
        self.functions: list[tuple[End, Callable[[Tensor], Tensor]]] = []
        self.depth = 0
        self.hooks: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear:
            return self._applied("linear", func(*args, **kwargs))
        if self.functions and func is functional.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        given = args[0] if args else kwargs.get("input")
        if not self.functions or func not in _SOFTMAX or given.ndim < 3:
            return func(*args, **kwargs)
        scores = self._applied("scores", given)
        return self._applied("pattern", func(scores, *args[1:], **{k: v for k, v in kwargs.items() if k != "input"}))

    def _applied(self, end: End, value: Tensor) -> Tensor:
        for one, function in list(self.functions):
            if one == end:
                value = function(value)
        return value

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """Compute what the fused kernel does, step by step, so that there are scores and a pattern."""
        if enable_gqa:
            key, value = (one.repeat_interleave(query.shape[-3] // one.shape[-3], -3) for one in (key, value))
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if is_bool else scores + attn_mask
        precise = torch.promote_types(value.dtype, torch.float32)  # as the kernel is inside
        pattern = functional.softmax(self._applied("scores", scores), dim=-1, dtype=precise).to(value.dtype)
        return self._applied("pattern", pattern) @ value

    def enter(self, *_: Any) -> None:
        """Begin with the module's forward pass."""
        self.__enter__()  # type: ignore[no-untyped-call]
        self.depth += 1

    def leave(self, *_: Any) -> None:
        """End with the module's forward pass, also one that raised."""
        if self.depth:
            self.depth -= 1
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]


# The modules inside which something is read or changed now.
_inside: dict[nn.Module, _Inside] = {}


@managed
def inside(module: nn.Module, end: End, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Call a function on the scores, the pattern or the linear map's output in every pass inside the `with` block."""
    found = _inside.get(module)
    if found is None:
        found = _inside[module] = _Inside()
        found.hooks = [
            module.register_forward_pre_hook(found.enter),
            module.register_forward_hook(found.leave, always_call=True),
        ]
    entry = (end, function)
    found.functions.append(entry)
    try:
        yield
    finally:
        found.functions.remove(entry)
        if not found.functions:
            for hook in found.hooks:
                hook.remove()
            while found.depth:  # a pass was stopped by what is not an error, such as an interrupt
                found.leave()
            del _inside[module]
