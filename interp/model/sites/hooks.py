"""Read and change the values that pass through sites, by hooks that are gone after the `with` block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.managed import managed
from interp.model.sites.inside import inside
from interp.model.sites.sending import Sent, sending
from interp.model.sites.site import Edit, Site, View
from interp.model.sites.views import Scaled

# The modules at which `editing` changes a value now, and how often.
_edited: Counter[nn.Module] = Counter()
_there: list[bool] = []  # of each program that was sent to its model and runs now
_trials: Counter[int] = Counter()  # of each model's lock: the `without_edits` blocks that are entered now


def edited_in(modules: Iterable[nn.Module]) -> bool:
    """Return True if a value of one of these modules is changed by `editing` now."""
    return bool(_edited) and any(module in _edited for module in modules)


@managed
def editing(site: Site, edit: Edit) -> Iterator[None]:
    """Replace the value at `site` by `edit(value)` in every forward pass inside the `with` block.

    Raises:
        ModelError: nothing passed through the site: an edit that never happened is an error.
    """
    n_fired, depth = 0, _trials[id(site.exclusive)]

    def changed(value: Tensor) -> Tensor:
        nonlocal n_fired
        if _trials[id(site.exclusive)] > depth:
            return value
        n_fired += 1
        return edit(value)

    def fired(value: Tensor) -> None:
        nonlocal n_fired
        n_fired += 1

    with _hooked(site, changed, changing=True) if _is_here(site) else sending(Sent(site, edit, fired, depth)):
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
def without_edits(lock: AbstractContextManager[Any]) -> Iterator[None]:
    """Let the edits around the `with` block rest, so that the model itself is tried; those inside it work.

    Args:
        lock: of the model, which its sites carry.
    """
    with lock:
        _trials[id(lock)] += 1
        try:
            yield
        finally:
            _trials[id(lock)] -= 1


@managed
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

    def seen(value: Tensor) -> None:
        shown(value)

    with _hooked(site, shown, changing=False) if _is_here(site) else sending(Sent(site, None, seen)):
        yield
    if not n_fired:
        raise ModelError(f"nothing passed through {site.name}; this architecture does not expose it.")


def going(sent: Sequence[Sent]) -> list[Sent]:
    """Return what goes with the next program: all but the edits that rest, see `without_edits`."""
    return [one for one in sent if one.edit is None or _trials[id(one.site.exclusive)] <= one.depth]


@managed
def arrived(sent: Sequence[Sent]) -> Iterator[list[list[Tensor]]]:
    """Read and change, where the model is, what was sent there; yield the values that passed each site, [sent][pass].

    Those that are changed are not kept: an empty tensor stands for each.
    """
    passed: list[list[Tensor]] = [[] for _ in sent]
    with ExitStack() as hooks:
        _there.append(True)
        hooks.callback(_there.pop)
        for one, values in zip(sent, passed, strict=True):
            hooks.enter_context(_hooked(one.site, partial(_passing, one.edit, values), changing=one.edit is not None))
        yield passed


def _is_here(site: Site) -> bool:
    """Tell whether a site's model is on this machine, as it is for what was sent there, also in a rehearsal."""
    return site.sent is None or bool(_there)


def _passing(edit: Edit | None, passed: list[Tensor], value: Tensor) -> Tensor:
    passed.append(value.clone() if edit is None else value.new_empty(0))
    return value if edit is None else edit(value)


@managed
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


@managed
def _hooked(site: Site, function: Edit, *, changing: bool) -> Iterator[None]:
    lead: list[tuple[int, ...]] = []
    noted: list[Tensor] = []
    views: list[View] = [] if site.scale == 1.0 else [Scaled(site.scale)]
    views += [] if site.view is None else [site.view]

    def note_shape(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lead[:] = [tuple(_entering(args, kwargs).shape[:2])]

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        noted[:] = [_entering(args, kwargs)]

    def applied(tensor: Tensor) -> Tensor:
        if tensor.ndim == 2 and lead:
            return viewed(tensor.view(*lead[0], -1), views).reshape(tensor.shape)
        return viewed(tensor, views)

    def viewed(tensor: Tensor, views: Sequence[View]) -> Tensor:
        if not views:
            changed = function(tensor)
            # A copy: an edit may return what it keeps, and Falcon adds to the output of its MLP in place.
            return changed if changed is tensor else changed.clone()
        beside = noted[0] if noted else None
        value = views[0].read(tensor, beside)
        before = value.clone() if changing else value  # an edit may work in place
        changed = viewed(value, views[1:])
        # With a graph, what follows is computed from what was read, so that a gradient can be taken for it.
        return views[0].write(tensor, beside, before, changed) if changing or value.requires_grad else tensor

    def between(tensor: Tensor) -> Tensor:
        if site.end == "linear" or tensor.ndim == 4:
            return applied(tensor)
        batch = lead[0][0]
        if tensor.ndim != 3 or tensor.shape[0] == batch:  # a softmax over something else, such as experts
            return tensor
        return applied(tensor.view(batch, -1, *tensor.shape[1:])).flatten(0, 1)  # XGLM flattens batch and head

    def at_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor = _entering(args[site.item :], kwargs)
        changed = applied(tensor)
        for cell in _noting.get(module, ()):
            cell[:] = [changed]  # whatever the order of the hooks
        if args:
            return (*args[: site.item], changed, *args[site.item + 1 :]), kwargs
        return args, {**kwargs, "hidden_states": changed}

    def at_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, tuple | list):
            return applied(output)
        if site.item >= len(output) or output[site.item] is None:
            return output
        return type(output)([*output[: site.item], applied(output[site.item]), *output[site.item + 1 :]])

    with site.exclusive, ExitStack() as hooks:
        if site.block is not None:
            hooks.callback(site.block.register_forward_pre_hook(note_shape, with_kwargs=True).remove)
        if site.beside is not None:
            hooks.callback(site.beside.register_forward_pre_hook(note, with_kwargs=True).remove)
            cells = _noting.setdefault(site.beside, [])
            cells.append(noted)
            hooks.callback(_forget, site.beside, noted)
        if site.end == "input":
            hooks.callback(site.module.register_forward_pre_hook(at_input, with_kwargs=True).remove)
        elif site.end != "output":
            hooks.enter_context(inside(site.module, site.end, between))
        else:
            hooks.callback(site.module.register_forward_hook(at_output).remove)
        yield


# What `_hooked` notes of the inputs of modules, which another hook may change after it was noted.
_noting: dict[nn.Module, list[list[Tensor]]] = {}


def _forget(module: nn.Module, cell: list[Tensor]) -> None:
    cells = [one for one in _noting[module] if one is not cell]
    if cells:
        _noting[module] = cells
    else:
        del _noting[module]  # it would keep the model in memory


def _entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    tensor: Tensor = args[0] if args else kwargs["hidden_states"]
    return tensor
