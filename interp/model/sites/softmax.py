"""The softmax of an attention: what it reads and what it gives, in whichever kernel it is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

End: TypeAlias = Literal["scores", "pattern"]
_SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}


class _Attention(TorchFunctionMode):
    """Calls functions on the scores and on the pattern of every softmax, [batch, head, query, key] or flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[tuple[End, Callable[[Tensor], Tensor]]] = []
        self.depth = 0
        self.hooks: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
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
        pattern = functional.softmax(self._applied("scores", scores), dim=-1)
        return self._applied("pattern", pattern) @ value

    def enter(self, *_: Any) -> None:
        """Begin with the attention's forward pass."""
        self.__enter__()  # type: ignore[no-untyped-call]
        self.depth += 1

    def leave(self, *_: Any) -> None:
        """End with the attention's forward pass, also one that raised."""
        if self.depth:
            self.depth -= 1
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]


# The attention modules in whose softmax something is read or changed now.
_attentions: dict[nn.Module, _Attention] = {}


@contextmanager
def inside_softmax(module: nn.Module, end: End, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Call a function on the scores or the pattern of an attention in every forward pass inside the `with` block."""
    attention = _attentions.get(module)
    if attention is None:
        attention = _attentions[module] = _Attention()
        attention.hooks = [
            module.register_forward_pre_hook(attention.enter),
            module.register_forward_hook(attention.leave, always_call=True),
        ]
    entry = (end, function)
    attention.functions.append(entry)
    try:
        yield
    finally:
        attention.functions.remove(entry)
        if not attention.functions:
            for hook in attention.hooks:
                hook.remove()
            while attention.depth:  # a pass was stopped by what is not an error, such as an interrupt
                attention.leave()
            del _attentions[module]
