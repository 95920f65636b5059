"""Describe how a model computes beyond its config and weights: modules, their settings, buffers, and others' code."""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from interp.model.backends.effective import scales_of

# Hooks and methods of these libraries follow from the model's modules and settings; of others the code is unknown.
_LIBRARIES = frozenset(
    {"accelerate", "bitsandbytes", "interp", "nnsight", "peft", "torch", "transformer_lens", "transformers"}
)
# They decorate methods with functions of these, and use their functions.
_DECORATORS = frozenset({*sys.stdlib_module_names, "beartype", "huggingface_hub", "jaxtyping", "typing_extensions"})
# TransformerLens registers a user's hooks under its own name, and its wiring under this one.
_BRIDGE_HOOKS, _BRIDGE_WIRING = "transformer_lens.hook_points", "transformer_lens.model_bridge"
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_NOT_NUMBERS = frozenset({"gradient_checkpointing", "max_seq_len_cached", "name_or_path", "warnings_issued"})


@dataclass(frozen=True)
class Description:
    """The modules of a model, with what can change their outputs beside the parameters.

    Attributes:
        settings: by the path of a module: its class, and its attributes that are numbers, texts, functions or
            collections of them.
        tensors: by path: buffers and tensors in attributes, which are no parameters.
        hooks: the places and functions of hooks and replaced methods whose code belongs to none of the libraries.
    """

    settings: Mapping[str, tuple[str, Mapping[str, Any]]]
    tensors: Mapping[str, Tensor]
    hooks: tuple[tuple[str, Any], ...]


def describe(model: nn.Module) -> Description:
    """Describe a model; modules that TransformerLens put around its own are looked through."""
    settings: dict[str, tuple[str, Mapping[str, Any]]] = {}
    tensors: dict[str, Tensor] = {}
    classes: dict[type, None] = {}
    hooks: list[tuple[str, Any]] = [("every module", hook) for hook in _foreign(_global_hooks())]
    for name, module in model.named_modules():
        path = name.replace("._original_component", "").replace(".original_component", "")
        hooks += [(f"{path or 'the model'}", hook) for hook in _foreign(_hooks(module))]
        hooks += [(f"{path or 'the model'}.{key}", method) for key, method in _replaced_methods(module)]
        classes.setdefault(type(module))
        if not _around_others(module):
            settings[path] = _class_name(type(module)), _settings(module)
            tensors |= {f"{path}.{key}": tensor for key, tensor in _tensors(module)}
    hooks += [(f"{one.__name__}.{name}", method) for one in classes for name, method in _replaced_in(one)]
    hooks += _foreign_attention(model)
    return Description(settings, tensors, tuple(hooks))


def peculiarities(description: Description, model: nn.Module) -> tuple[dict[str, Any], list[str]]:
    """Compare a model with a new one of its class and config.

    Args:
        description: of the model.
        model: the model, to build the new one after.

    Returns:
        What differs, by path, in JSON types; it is empty if the config tells all. And the paths of modules whose class
        belongs to none of the libraries, so that its code is unknown. If no such model can be built, all is told.
    """
    new = new_without_weights(model)
    usual = Description({}, {}, ()) if new is None else describe(new)
    own = {*_LIBRARIES, *_DECORATORS, _root(type(model).__module__)}
    apart = any(map(_around_others, model.modules()))
    told: dict[str, Any] = {}
    unknown: list[str] = []
    for path, (kind, attributes) in description.settings.items():
        known_kind, known = usual.settings.get(path, ("", {}))
        if kind != known_kind:
            told[path], known = kind, {}
            unknown += [path] if _root(kind) not in own else []
        for key, value in attributes.items():
            if (key in known or kind != known_kind) and repr(value) != repr(known.get(key, _ABSENT)):
                told[f"{path}.{key}"] = value
                is_function = isinstance(value, str) and value.startswith(_FUNCTION)
                unknown += [f"{path}.{key}"] if is_function and _root(value.removeprefix(_FUNCTION)) not in own else []
    for path, tensor in description.tensors.items():
        # A bridge gives a head without a bias one of zeros.
        added = apart and path not in usual.tensors and not tensor.is_meta and not tensor.any()
        if not tensor.is_meta and not added and not _as_usual(tensor, usual.tensors.get(path)):
            told[path] = [str(tensor.dtype), list(tensor.shape), digest_of(tensor)]
    # A bridge splits and moves modules, so that some are not where a new model has them.
    if not apart:
        told |= {path: "missing" for path in usual.settings if path not in description.settings}
    return told, unknown


_ABSENT, _FUNCTION = object(), "function "


def new_without_weights(model: nn.Module) -> nn.Module | None:
    """Build a model of the same class and config whose weights take no memory; None if that is not possible."""
    config = copy.deepcopy(getattr(model, "config", None) or getattr(model, "cfg", None))
    if config is None:
        return None
    build = getattr(type(model), "_from_config", None)
    make = partial(build, config, dtype=torch.float32) if build is not None else partial(type(model), config)
    try:
        with torch.random.fork_rng(devices=[]), _Weightless():
            built: nn.Module = make()
    except Exception:  # a model's own class can refuse in any way to be built like this
        return None
    return built


def digest_of(tensor: Tensor) -> str:
    """Hash the bytes of a tensor."""
    return hashlib.blake2b(bytes_of(tensor), digest_size=8).hexdigest()


def bytes_of(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor, wherever it is; of a tensor made of others, the bytes of those."""
    if hasattr(tensor, "__tensor_flatten__"):
        return b"".join(bytes_of(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    data: bytes = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return data


class _Weightless(TorchFunctionMode):
    """Let new tensors without values, as those of weights are, take no memory. Buffers are made with values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _settings(module: nn.Module) -> dict[str, Any]:
    # A whole Hugging Face model keeps books in private attributes; layers of adapters keep what they compute with.
    private = "_" if hasattr(module, "config") and hasattr(type(module), "from_pretrained") else "_is_hf_initialized"
    found = {}
    for key, value in vars(module).items():
        method = callable(value) and hasattr(type(module), key)  # see `_replaced_methods`
        ignored = key in _OF_EVERY_MODULE or key in _NOT_NUMBERS or key.startswith(private) or "drop" in key or method
        if not ignored and (plain := _plain(value)) is not None:
            found[key] = plain[0]
    return found | {key: digest_of(tensor) for key, tensor in _of_quantised(module).items()}


def _of_quantised(module: nn.Module) -> dict[str, Tensor]:
    """Return the scales of quantised weights, which are neither parameters nor buffers."""
    if scales := dict(scales_of(module)):  # a state dict would unpack packed 4-bit weights, in the module itself
        return scales
    if type(module)._save_to_state_dict is nn.Module._save_to_state_dict:
        return {}
    saved: dict[str, Any] = {}
    module._save_to_state_dict(saved, "", True)
    known = module._parameters.keys() | module._buffers.keys()
    return {key: one for key, one in saved.items() if isinstance(one, Tensor) and key not in known}


def _plain(value: Any) -> tuple[Any] | None:
    """Return a value in JSON types, in a tuple; None for objects that are neither numbers nor texts nor functions."""
    if isinstance(value, bool | int | float | str | type(None)):
        return (value,)
    if isinstance(value, torch.dtype):
        return (str(value),)
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_plain(one) for one in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
        return None if None in parts else ([part[0] for part in parts if part is not None],)
    if isinstance(value, Mapping):
        named = {str(key): _plain(one) for key, one in value.items()}
        return None if None in named.values() else ({key: one[0] for key, one in named.items() if one is not None},)
    if isinstance(value, partial):
        return _plain([value.func, value.args, value.keywords])
    if callable(value) and hasattr(value, "__qualname__"):
        return (f"{_FUNCTION}{_origin(value)}.{value.__qualname__}",)
    return None


def _around_others(module: nn.Module) -> bool:
    """Return True for a module that TransformerLens or nnsight puts around or beside the model's own."""
    kind = type(module).__module__
    return kind.startswith((_BRIDGE_HOOKS, _BRIDGE_WIRING, "nnsight.")) and ".sources.native." not in kind


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    named = {key: one for key, one in module._buffers.items() if one is not None}
    named |= {key: one for key, one in vars(module).items() if isinstance(one, Tensor)}
    yield from (() if changes_itself(module) else named.items())


def changes_itself(module: nn.Module) -> bool:
    """Return True for a rotary embedding that changes its own buffers with the length of the text."""
    return any(one in str(vars(module).get("rope_type", "")) for one in ("dynamic", "longrope"))


def _as_usual(tensor: Tensor, usual: Tensor | None) -> bool:
    """Return True if a buffer is that of a new model up to rounding, which differs between devices."""
    if usual is None or usual.is_meta or usual.dtype != tensor.dtype or usual.shape != tensor.shape:
        return False
    if not tensor.is_floating_point():
        return torch.equal(tensor.detach().cpu(), usual)
    return torch.allclose(tensor.detach().cpu(), usual, rtol=4 * torch.finfo(tensor.dtype).eps, atol=0, equal_nan=True)


def _global_hooks() -> Iterator[Any]:
    yield from torch_module._global_forward_hooks.values()
    yield from torch_module._global_forward_pre_hooks.values()


def _hooks(module: nn.Module) -> Iterator[Any]:
    yield from module._forward_hooks.values()
    yield from module._forward_pre_hooks.values()


def _foreign(hooks: Iterator[Any]) -> list[Any]:
    origins = ((hook, _origin(hook)) for hook in hooks)
    return [hook for hook, of in origins if _root(of) not in _LIBRARIES or of.startswith(_BRIDGE_HOOKS)]


def _replaced_methods(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield methods of a module that were replaced on it alone."""
    for key, value in vars(module).items():
        if key in _OF_EVERY_MODULE or isinstance(value, nn.Module) or not callable(value):
            continue
        if key not in ("forward", "_old_forward") and not callable(getattr(type(module), key, None)):
            continue
        method = _beneath(value)
        own = getattr(type(module), getattr(method, "__name__", ""), None)
        if getattr(method, "__func__", method) is not own and _root(_origin(method)) not in _LIBRARIES:
            yield key, method


def _beneath(method: Any) -> Any:
    """Return the method that nnsight runs under its own, if it is nnsight's."""
    body = getattr(getattr(method, "state", None), "body", None)
    if body is None or _root(type(method).__module__) != "nnsight":
        return method
    cells = [cell.cell_contents for cell in getattr(body, "__closure__", None) or ()]
    return next((one for one in cells if callable(one)), body) if _root(_origin(body)) == "nnsight" else body


def _replaced_in(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the `forward` that somebody put into a class of one of the libraries."""
    for one in kind.__mro__:
        forward = vars(one).get("forward") if _root(one.__module__) in _LIBRARIES else None
        if hasattr(forward, "__code__") and _root(_origin(forward)) not in _LIBRARIES | _DECORATORS:
            yield "forward", forward


def _foreign_attention(model: nn.Module) -> list[tuple[str, Any]]:
    implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if not isinstance(implementation, str) or not hasattr(type(model), "_from_config"):
        return []
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    function = ALL_ATTENTION_FUNCTIONS.get(implementation, None)
    known = function is None or _root(_origin(function)) in _LIBRARIES
    return [] if known else [(f"the attention {implementation!r}", function)]


def _origin(function: Any) -> str:
    """Return the module in which a function was written, whatever a decorator says of it."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    written: Mapping[str, Any] = getattr(function, "__globals__", {})
    return str(written.get("__name__") or getattr(function, "__module__", None) or type(function).__module__)


def _root(module: str) -> str:
    return module.partition(".")[0]


def _class_name(kind: type) -> str:
    # Containers compute nothing; TransformerLens has some of its own.
    return "" if issubclass(kind, nn.ModuleList | nn.ModuleDict) else f"{kind.__module__}.{kind.__qualname__}"
