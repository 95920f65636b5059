"""Sites: tensors inside a block that can be read or changed, under one name for all architectures.

`embed` is the token embedding alone [batch, pos, d_model]. `attn_out` and `mlp_out` are what attention and MLP add to
the residual stream [batch, pos, d_model], after the norm that follows them in sandwich-norm models and times the number
that Granite multiplies them by: a block's output is its input plus both, or `Subject.site` refuses them. `neurons` are
the MLP's activations [batch, pos, d_mlp] as its down-projection reads them, after the gate if the MLP has one.
`pattern` is the attention pattern [batch, head, query, key].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from interp.errors import ModelError

SiteName: TypeAlias = Literal["embed", "attn_out", "mlp_out", "neurons", "pattern"]
Edit: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Site:
    """A tensor that enters or leaves a module.

    Attributes:
        name: for error messages, such as "mlp_out of block 3".
        module: the module that the tensor enters or leaves.
        end: "input" or "output" of the module.
        item: index of the tensor if the module returns a tuple.
        block: the block around the module, whose input gives [batch, pos], which some architectures flatten inside.
        scale: the block multiplies the tensor by this number before it adds it to the residual stream (Granite); what
            is read and changed is the product.
        exclusive: a lock of the model, held while the value is read or changed; see `Subject.exclusive`.
    """

    name: str
    module: nn.Module
    end: Literal["input", "output"] = "output"
    item: int = 0
    block: nn.Module | None = None
    scale: float = 1.0
    exclusive: AbstractContextManager[Any] = field(default_factory=nullcontext)


# The modules at which `editing` changes a value now, and how often.
_edited: Counter[nn.Module] = Counter()


def edited_in(modules: Iterable[nn.Module]) -> bool:
    """Return True if a value of one of these modules is changed by `editing` now."""
    return bool(_edited) and any(module in _edited for module in modules)


@contextmanager
def editing(site: Site, edit: Edit) -> Iterator[None]:
    """Replace the value at `site` by `edit(value)` in every forward pass inside the `with` block.

    Raises:
        ModelError: nothing passed through the site: an edit that never happened is an error.
    """
    n_fired = 0

    def changed(value: Tensor) -> Tensor:
        nonlocal n_fired
        n_fired += 1
        return edit(value)

    with _hooked(site, changed):
        _edited[site.module] += 1
        try:
            yield
        finally:
            _edited.subtract([site.module])
            if not _edited[site.module]:
                del _edited[site.module]  # it would keep the model in memory
    if not n_fired:
        raise ModelError(f"nothing passed through {site.name}, so nothing was changed; run the model inside the block.")


@contextmanager
def observing(site: Site, look: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `look` on every value that passes through `site`, without changing it.

    Raises:
        ModelError: nothing passed through the site.
    """
    n_fired = 0

    def shown(value: Tensor) -> Tensor:
        nonlocal n_fired
        n_fired += 1
        look(value)
        return value

    with _hooked(site, shown):
        yield
    if not n_fired:
        raise ModelError(f"nothing passed through {site.name}; this architecture does not expose it.")


@contextmanager
def recording(sites: Sequence[Site]) -> Iterator[list[Tensor | None]]:
    """Keep the last value that passed through each site, in the order of `sites`; None until one has passed.

    Raises:
        ModelError: nothing passed through one of the sites by the end.
    """
    seen: list[Tensor | None] = [None] * len(sites)
    with ExitStack() as hooks:
        for index, site in enumerate(sites):
            hooks.enter_context(observing(site, partial(_keep, seen, index)))
        yield seen


def _keep(seen: list[Tensor | None], index: int, value: Tensor) -> None:
    # A copy, because Falcon adds the attention's output to the MLP's in place. With a graph, autograd would object.
    seen[index] = value if value.requires_grad else value.clone()


@contextmanager
def _hooked(site: Site, function: Edit) -> Iterator[None]:
    lead: list[tuple[int, ...]] = []

    def note_shape(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        residual = args[0] if args else kwargs["hidden_states"]
        lead[:] = [tuple(residual.shape[:2])]

    def applied(value: Tensor) -> Tensor:
        if value.ndim == 2 and lead:
            return scaled(value.view(*lead[0], -1)).reshape(value.shape)
        return scaled(value)

    def scaled(value: Tensor) -> Tensor:
        if site.scale == 1.0:
            changed = function(value)
            # A copy: an edit may return what it keeps, and Falcon adds to the output of its MLP in place.
            return changed if changed is value else changed.clone()
        product = value * site.scale
        changed = function(product.clone())  # an edit may work in place
        # What was not changed keeps its bits, which a division would not give back.
        return torch.where(changed == product, value, changed / site.scale)

    def at_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*args[: site.item], applied(args[site.item]), *args[site.item + 1 :])

    def at_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, tuple | list):
            return applied(output)
        if site.item >= len(output) or output[site.item] is None:
            return output
        return type(output)([*output[: site.item], applied(output[site.item]), *output[site.item + 1 :]])

    with site.exclusive, ExitStack() as hooks:
        if site.block is not None:
            hooks.callback(site.block.register_forward_pre_hook(note_shape, with_kwargs=True).remove)
        if site.end == "input":
            hooks.callback(site.module.register_forward_pre_hook(at_input).remove)
        else:
            hooks.callback(site.module.register_forward_hook(at_output).remove)
        yield
