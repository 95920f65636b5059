"""The weights a module really multiplies by, when they are stored quantised or an adapter adds to them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.base import Facts
from interp.model.backends.structure import evaluating
from interp.model.weights import is_plain, is_transposed, matrix_shape, wrapped

# By the class of the parameter; all of bitsandbytes.
_QUANTISED = {"Int8Params": "bitsandbytes 8-bit", "Params4bit": "bitsandbytes 4-bit"}
# Quantised activations differ by a few parts in a hundred; weights without their scales or their adapter by far more.
_CLOSE = 0.05


def effective_weight(module: nn.Module, what: str) -> Tensor:
    """Return the matrix by which a module multiplies: [out, in], or [rows, d] of an embedding.

    The plain weight is not copied. A quantised one is dequantised, and active adapters are added.

    Args:
        module: a linear map or an embedding.
        what: the start of the error message, such as "the MLP of block 3 of 'gpt2'".

    Raises:
        ModelError: its weights are stored in a form that interp does not know.
    """
    with torch.no_grad():
        weight = _found(module, what)
        if weight.is_meta:
            return weight
        fits = weight.dtype.is_floating_point and tuple(weight.shape) == matrix_shape(module)
        if not fits or not (is_ordinary(module) or _multiplies_by(module, weight)):
            raise _unreadable(module, what)
    return weight


def require_plain(module: nn.Module, what: str) -> None:
    """Refuse a module whose weights cannot be read and replaced as one matrix.

    Raises:
        ModelError: they are quantised, or an adapter adds to them.
    """
    with torch.no_grad():
        if not is_plain(module) or not (is_ordinary(module) or _multiplies_by(module, _found(module, what))):
            raise _unreadable(module, what)


def is_ordinary(module: nn.Module) -> bool:
    """Tell whether a plain module multiplies by its weight and does nothing else, by its class."""
    return is_plain(module) and (type(module) in (nn.Linear, nn.Embedding) or is_transposed(module))


def is_exact(module: nn.Module) -> bool:
    """Tell whether a module multiplies by its effective weight up to rounding; quantised ones may round inputs too."""
    return is_ordinary(wrapped(module))


def effective_bias(module: Any) -> Tensor | None:
    """Return the bias that a module adds, [out], or None."""
    if _is_adapter(module):
        with torch.no_grad(), evaluating(module):
            with_bias = getattr(module, "lora_bias", {})
            if any(with_bias.get(name) for name in _active(module)):
                device, dtype = module.weight.device, float_dtype(module)
                zero: Tensor = module(torch.zeros(1, matrix_shape(module)[1], device=device, dtype=dtype))
                return zero[0]
    bias = getattr(module, "bias", None)
    return None if bias is None else bias.detach()


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter once, and after a quantised one the scales without which it means nothing."""
    for name, parameter in model.named_parameters():
        yield name, parameter
        if type(parameter).__name__ in _QUANTISED:
            scales = scales_of(model.get_submodule(name.rpartition(".")[0]))
            yield from ((f"{name}.{scale}", tensor) for scale, tensor in scales)


def scales_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the scales of a module's quantised weight, wherever they are: a forward pass moves or packs some."""
    weight = module._parameters.get("weight")
    if type(weight).__name__ in _QUANTISED:
        yield from _scales(weight, module)


class StoredForm:
    """What a backend tells of how the model's own modules store their weights; see `interp.model.backends.base`."""

    trusted = False
    origin: Mapping[str, Any] = MappingProxyType({})
    loaded_with: Mapping[str, Any] = MappingProxyType({})
    source: Any
    facts: Facts
    _unembedding: Tensor | None = None

    @property
    def form(self) -> dict[str, Any]:
        """See `Backend.form`."""
        return form(self.source)

    @property
    def dtype(self) -> torch.dtype:
        """See `Backend.dtype`."""
        return float_dtype(self.source)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """See `Backend.named_weights`."""
        yield from stored_tensors(self.source)

    def unembedding_of(self, head: nn.Module) -> Tensor:
        """Return the unembedding [d_vocab, d] of a head; if it had to be made, it is kept, for every pass reads it."""
        if is_ordinary(head):
            return effective_weight(head, "")
        if self._unembedding is None:
            self._unembedding = effective_weight(head, f"the unembedding of {self.facts.name!r}").to(self.dtype)
        return self._unembedding


def require_settled(model: nn.Module, name: str) -> None:
    """Refuse a model whose next forward pass would change its weights.

    Raises:
        ModelError: it has merged adapters that are disabled.
    """
    for module in model.modules():
        if _is_adapter(module) and module.disable_adapters and module.merged:
            raise ModelError(
                f"{name!r} holds merged adapters that are disabled, which its next forward pass would subtract from "
                "its weights; call unmerge_adapter() or merge_and_unload() first."
            )


def require_drawable(model: nn.Module, name: str) -> None:
    """Refuse a model whose weights cannot be drawn anew, because its class alone does not say which it has.

    Raises:
        ModelError: it is quantised or adapted.
    """
    if any(_is_adapter(module) for module in model.modules()):
        raise ModelError(f"{name!r} has adapters; pass model.merge_and_unload() to draw its weights anew.")
    if form(model):
        raise ModelError(f"{name!r} is quantised; load it without quantisation to draw its weights anew.")


def float_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of a model's floating-point weights; quantised ones have none of their own."""
    dtypes = (one.dtype for one in model.parameters() if one.dtype.is_floating_point and one.dtype.itemsize > 1)
    return next(dtypes, torch.float32)


def form(model: nn.Module) -> dict[str, Any]:
    """Describe how a model's weights are stored if not as plain matrices: what is quantised, what an adapter adds to.

    Returns:
        JSON: `quantised`, method -> number of modules, and `adapted`, adapter -> number of modules, scaling, merged.
    """
    quantised: dict[str, int] = {}
    adapted: dict[str, dict[str, Any]] = {}
    for module in model.modules():
        weight = module._parameters.get("weight")
        if weight is not None and not _is_adapter(module) and not is_plain(module) and weight.ndim > 1:
            method = _QUANTISED.get(type(weight).__name__) or f"{type(weight).__name__} of {weight.dtype}"
            quantised[method] = quantised.get(method, 0) + 1
        for name in _active(module) if _is_adapter(module) else ():
            of = adapted.setdefault(name, {"modules": 0, "scaling": [], "merged": False})
            of["modules"] += 1
            of["merged"] |= name in module.merged_adapters  # type: ignore[operator]
            scaling = getattr(module, "scaling", {}).get(name)
            of["scaling"] = sorted({*of["scaling"], *([] if scaling is None else [float(scaling)])})
    return ({"quantised": quantised} if quantised else {}) | ({"adapted": adapted} if adapted else {})


def _found(module: nn.Module, what: str) -> Tensor:
    """Return what should be the effective weight, unchecked."""
    if _is_adapter(module):
        return _adapted(module, what)
    if hasattr(module, "modules_to_save") and hasattr(module, "original_module"):  # a module trained whole by PEFT
        active = [name for name in module.active_adapters if name in module.modules_to_save]  # type: ignore[operator,union-attr]
        use_own = bool(active) and not module.disable_adapters
        return _found(module.modules_to_save[active[0]] if use_own else module.original_module, what)  # type: ignore[index,arg-type]
    if isinstance(inner := getattr(module, "token_adapter", None), nn.Module):
        return _found(inner, what)
    weight: Any = module._parameters.get("weight")
    if is_plain(module):
        return (weight.T if is_transposed(module) else weight).detach()
    if type(weight).__name__ == "Int8Params":
        return _from_8_bit(weight, getattr(module, "state", None))
    if type(weight).__name__ == "Params4bit":
        return _from_4_bit(weight, module)
    raise _unreadable(module, what)


def _from_8_bit(weight: Any, state: Any) -> Tensor:
    if weight.dtype != torch.int8:  # bitsandbytes quantises it anew in every forward pass
        return weight.detach().as_subclass(Tensor)
    scale = weight.SCB if weight.SCB is not None else state.SCB
    return weight.detach().as_subclass(Tensor).float() * (scale.view(-1, 1).float() / 127)


def _from_4_bit(weight: Any, module: Any) -> Tensor:
    import bitsandbytes.functional as bnb  # which the module is of

    state = weight.quant_state if weight.quant_state is not None else module.quant_state
    if not getattr(state, "packing_format_for_cpu", False):
        found: Tensor = bnb.dequantize_4bit(weight.data, state)
        return found
    # On some processors the first forward pass packs the weights anew, in a form that only the module itself reads.
    device = weight.device
    eye = torch.eye(matrix_shape(module)[1], device=device, dtype=torch.float32)
    rows = [module(part) - module(torch.zeros_like(part)) for part in torch.split(eye, 1024)]
    return torch.cat(rows).T


def _adapted(module: Any, what: str) -> Tensor:
    """Return base + adapters, as the forward pass of a PEFT layer adds them."""
    if module.disable_adapters or module.merged or not _active(module):
        return _found(module.base_layer, what)
    base = module.get_base_layer()
    is_sum = hasattr(module, "get_delta_weight") and not getattr(module, "lora_variant", {})
    if is_sum and not any(getattr(module, "lora_bias", {}).values()) and not is_plain(base):
        weight = _found(module.base_layer, what)
        for adapter in _active(module):
            weight = weight + module.get_delta_weight(adapter).to(weight.dtype)
        return weight
    if not is_plain(base):
        raise _unreadable(module, what)
    merged = copy.deepcopy(module)  # any kind of adapter merges itself, here into a copy
    merged.merge()
    return _found(merged.base_layer, what)


def _scales(parameter: Any, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    if type(parameter).__name__ == "Int8Params":
        scale = getattr(parameter, "SCB", None)
        scale = scale if scale is not None else getattr(getattr(module, "state", None), "SCB", None)
        if scale is not None:
            yield "SCB", scale.reshape(-1)
        return
    state: Any = parameter.quant_state
    while state is not None:
        held = sorted((key, value) for key, value in vars(state).items() if isinstance(value, Tensor))
        yield from ((key, value.reshape(-1)) for key, value in held)
        state = getattr(state, "state2", None)


def _is_adapter(module: nn.Module) -> bool:
    return any(base.__name__ == "BaseTunerLayer" for base in type(module).__mro__)


def _active(module: Any) -> list[str]:
    """Return the adapters of a PEFT layer that act in a forward pass."""
    if module.disable_adapters:
        return []
    names: list[str] = list(module.merged_adapters) or list(module.active_adapters)
    return [name for name in names if name in module._get_available_adapters()]


def _multiplies_by(module: nn.Module, weight: Tensor) -> bool:
    """Tell whether a module maps a few random inputs as its weight does; embeddings up to a common factor."""
    generator = torch.Generator().manual_seed(0)
    with suppress(Exception), evaluating(module):  # a module that cannot be called so is not one whose weights we know
        if isinstance(wrapped(module), nn.Embedding):
            ids = torch.randint(len(weight), (8,), generator=generator).to(weight.device)
            given, wanted = module(ids).double(), weight[ids].double()
            given = given * ((given * wanted).sum() / (given * given).sum())
        else:
            x = torch.randn(8, weight.shape[1], generator=generator).to(weight.device, float_dtype(module))
            given = (module(x) - module(torch.zeros_like(x))).double()
            wanted = x.double() @ weight.double().T
        return float((given - wanted).norm()) <= _CLOSE * float(wanted.norm())
    return False


def _unreadable(module: nn.Module, what: str) -> ModelError:
    inner = wrapped(module)
    stored = type(inner).__name__
    weight = getattr(inner, "weight", None)
    if isinstance(weight, Tensor):
        stored += f" of {weight.dtype} {list(weight.shape)}"
    if _is_adapter(module):
        return ModelError(
            f"{what} has an adapter ({type(module).__name__} around a {stored}), so its weights are no single matrix; "
            "pass model.merge_and_unload() to study them."
        )
    return ModelError(
        f"{what} is a {stored}, which is not a plain floating-point matrix (quantised?); load the model without "
        "quantisation to read or change its weights."
    )
