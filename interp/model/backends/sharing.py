"""Copies of a model's modules that share its weights, so that what a library does to modules stays in the copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.effective import form
from interp.model.backends.structure import evaluating


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the module tree with the same tensors: changes of its modules do not reach the original.

    A quantised parameter carries attributes (its scales) that its module moves, drops or packs anew in the first
    forward pass. The copy has a parameter of its own around the same numbers, and makes its first pass here.

    Raises:
        ModelError: the model keeps something between calls that cannot be copied, or rewrites its weights.
    """
    if getattr(getattr(model, "config", None), "rescale_every", 0):  # both copies would, of the same tensors
        raise ModelError(
            f"a {type(model).__name__} rewrites its own weights when it runs; set rescale_every=0 in its config."
        )
    # A dictionary for `deepcopy`: what has an entry is replaced by it instead of being copied.
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    quantised = [module for module in model.modules() if any(map(_carries, module._parameters.values()))]
    for module in quantised:
        held = [value for value in vars(module).values() if not isinstance(value, nn.Module | dict)]
        memo |= {id(tensor): tensor for value in held for tensor in _tensors_of(value)}
        for parameter in module.parameters(recurse=False):
            memo |= _own(parameter)
    try:
        copied = copy.deepcopy(model, memo)
    except RuntimeError as error:  # a non-leaf tensor outside parameters and buffers, kept between calls
        raise ModelError(f"a {type(model).__name__} keeps state between calls; interp cannot copy it.") from error
    if "quantised" in form(model):
        # Later the weights are compared with what they were when the model was loaded.
        with torch.no_grad(), evaluating(copied), suppress(Exception):
            copied(input_ids=torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device))
    return copied


def _carries(parameter: nn.Parameter | None) -> bool:
    """Tell whether a parameter is of a class of its own and has attributes that are not torch's."""
    return parameter is not None and type(parameter) is not nn.Parameter and bool(vars(parameter))


def _own(parameter: Any) -> dict[int, Any]:
    """Return the entries for another parameter of the same class with the same storage, whose attributes can be set."""
    made: Any = Tensor._make_subclass(type(parameter), parameter.detach(), parameter.requires_grad)
    entries = {id(parameter): made}
    for key, value in vars(parameter).items():
        # A quantisation state is edited in place, so it is copied, but not its tensors; a module belongs to the model.
        if not isinstance(value, Tensor | nn.Module) and hasattr(value, "__dict__"):
            entries |= {id(tensor): tensor for tensor in _tensors_of(value)} | {id(value): copy.copy(value)}
        setattr(made, key, None if isinstance(value, nn.Module) else entries.get(id(value), value))
    return entries


def _tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield a tensor, or those that an object holds as attributes, one level deep."""
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from (one for one in vars(value).values() if isinstance(one, Tensor))
