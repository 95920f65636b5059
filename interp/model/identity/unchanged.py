"""Notice that a model was changed after it was loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.identity.description import Description, changes_itself, describe
from interp.model.weights import own_parameters, version

_WORDS_PER_ROW = 4096


class Unchanged:
    """The state of a model when it was loaded, to compare with.

    Before every forward pass it is compared by identity: the same modules with the same tensors, in the same memory,
    not written to as far as torch counts it. `.data` and `set_` escape that count, so before every run of a probe the
    contents are compared too, by sums of their bits, as are settings, hooks and methods.

    Args:
        name: of the model, for messages.
        original: the model as its owner holds it; nobody may change it.
        running: the modules that run, which may be copies that share its tensors.

    Attributes:
        hooks: of the original when it was loaded, see `Description`.
    """

    def __init__(self, name: str, original: nn.Module, running: nn.Module) -> None:
        self._name = name
        self._trees = [original] if running is original else [original, running]
        self._named = list(original.named_modules())
        self._state = self._identities()
        self._described = [describe(tree) for tree in self._trees]
        self.hooks = self._described[0].hooks
        self._by_running: set[str] = set()
        tensors: list[Tensor] = [tensor for tree in self._trees for tensor in tree.parameters()]
        tensors += [tensor for one in self._described for tensor in one.tensors.values()]
        self._tensors = list({id(tensor): tensor for tensor in tensors if not tensor.is_meta}.values())
        self._sums = sums_of_bits(self._tensors)

    def check_pass(self) -> None:
        """Compare identities, in less than a millisecond.

        Raises:
            ModelError: a module or a weight was replaced or written to.
        """
        now = self._identities()
        if now != self._state:
            places = [name for (name, _), was, one in zip(self._named, self._state, now, strict=True) if was != one]
            self._refuse(f"weights, buffers or modules in {places[0] or self._name!r}")

    def check_run(self) -> None:
        """Compare everything; this reads the weights once, at the speed of memory.

        Raises:
            ModelError: something that can change the model's outputs was changed.
        """
        self.check_pass()
        self.check_description()
        if sums_of_bits(self._tensors) != self._sums:
            self._refuse("the contents of weights or buffers")

    def check_description(self) -> None:
        """Compare settings, hooks and replaced methods.

        Raises:
            ModelError: one was changed.
        """
        for was, tree in zip(self._described, self._trees, strict=True):
            now = describe(tree)
            if was.hooks != now.hooks:
                places = [place for place, hook in (*now.hooks, *was.hooks) if (place, hook) not in was.hooks]
                self._refuse(f"hooks or methods at {places[0]!r}" if places else "hooks or methods")
            if changed := _changed(was, now) - self._by_running:
                self._refuse(repr(min(changed)))

    def excuse_running(self) -> None:
        """Leave out of account the settings that the model itself has changed, in the pass that was just made."""
        for was, tree in zip(self._described, self._trees, strict=True):
            self._by_running |= _changed(was, describe(tree))

    def _identities(self) -> list[Any]:
        return [(_children(module), *_tensors_in(module)) for _, module in self._named]

    def _refuse(self, what: str) -> None:
        raise ModelError(f"{self._name!r} changed since it was loaded; load it again to study it (changed: {what}).")


def sums_of_bits(tensors: Iterable[Tensor]) -> list[int]:
    """Return sums, modulo 2^64, of the bits of each tensor by rows and columns, weighted by place.

    Writing to one number changes them, as does moving numbers around; only by rare chance do other changes not.
    """
    sums = [_sum_of_bits(part) for tensor in tensors for part in _parts(tensor)]
    by_device: dict[torch.device, list[Tensor]] = {}
    for one in sums:
        by_device.setdefault(one.device, []).append(one)
    return [int(value) for several in by_device.values() for value in torch.stack(several).flatten().tolist()]


@torch.no_grad()
def _sum_of_bits(tensor: Tensor) -> Tensor:
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
    n = flat.numel() // 8 * 8
    rest = flat[n:].long()
    words = flat[:n] if flat.data_ptr() % 8 == 0 and flat.storage_offset() % 8 == 0 else flat[:n].clone()
    words = words.view(torch.int64)
    square = words[: len(words) // _WORDS_PER_ROW * _WORDS_PER_ROW].view(-1, _WORDS_PER_ROW)
    by_row, by_column = square.sum(1), square.sum(0)
    parts = torch.cat([by_row, words[square.numel() :], rest]), by_column
    return torch.stack([_weighted(part) for part in parts])


def _weighted(values: Tensor) -> Tensor:
    return (values * (2 * torch.arange(len(values), device=values.device) + 1)).sum()


def _parts(tensor: Tensor) -> list[Tensor]:
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    return [part for name in tensor.__tensor_flatten__()[0] for part in _parts(getattr(tensor, name))]


def _children(module: nn.Module) -> tuple[int, ...]:
    return tuple(map(id, module._modules.values()))


def _tensors_in(module: nn.Module) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    buffers = () if changes_itself(module) else module._buffers.values()
    for tensor in (*own_parameters(module).values(), *buffers):
        if tensor is not None and not tensor.is_meta:  # those of an offloaded model come and go
            found.append((id(tensor), tensor.data_ptr(), version(tensor)))
    return found


def _changed(was: Description, now: Description) -> set[str]:
    """Return the paths of modules, settings and tensors that are not what they were."""
    paths = {path for path, one in now.tensors.items() if was.tensors.get(path) is not one}
    paths |= was.tensors.keys() - now.tensors.keys()
    paths |= was.settings.keys() ^ now.settings.keys()
    for path in was.settings.keys() & now.settings.keys():
        (kind, before), (other, after) = was.settings[path], now.settings[path]
        paths |= set() if kind == other else {path}
        keys = before.keys() | after.keys()
        paths |= {f"{path}.{key}" for key in keys if repr(before.get(key, paths)) != repr(after.get(key, paths))}
    return paths
