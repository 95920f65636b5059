"""Read a large model by a device map: transformers and accelerate share it out, and what is on disk stays there.

accelerate brings an offloaded weight from disk when its module is called and drops it afterwards, by hooks on every
module. Here the weights are mapped into memory instead: they are ordinary tensors whose numbers are in a file, which
the system reads when they are needed and may drop at any time. So nothing is hooked, and everything that reads,
replaces or differentiates weights works as it does elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import InputError, ModelError

# Of a quantisation; transformers knows bitsandbytes by the last two alone.
_METHODS = {"quant_method", "load_in_8bit", "load_in_4bit"}
_SIZE = re.compile(r"\d+(\.\d+)?\s*[KMG](i?B|b)", re.IGNORECASE)  # as accelerate reads it
_SHARES = ("auto", "balanced", "balanced_low_0", "sequential")


def options_of_reading(
    *, device: Any, device_map: Any, max_memory: Any, offload_folder: Any, quantization_config: Any
) -> dict[str, Any]:
    """Return those options of transformers' `from_pretrained` that were given, checked.

    Raises:
        InputError: they exclude each other, or one is of no use.
    """
    given = {
        "device_map": device_map if isinstance(device_map, str | None) else dict(device_map),
        "max_memory": None if max_memory is None else dict(max_memory),
        "offload_folder": None if offload_folder is None else str(offload_folder),
        "quantization_config": quantization_config,
    }
    if device_map is not None and device is not None:
        raise InputError("device= and device_map= both say where the model goes; give one of them.")
    for place, size in (max_memory or {}).items():
        if not _is_size(size):
            raise InputError(f"max_memory gives {place!r} {size!r}; give bytes, or a text such as '8GiB'.")
    for name in ("max_memory", "offload_folder"):
        if given[name] is not None and device_map is None:
            raise InputError(f"{name}= has no meaning without a device map; add device_map='auto'.")
    if isinstance(device_map, str) and device_map not in _SHARES and not _is_device(device_map):
        raise InputError(
            f"device_map={device_map!r} cannot be used here; give {', '.join(map(repr, _SHARES))}, a device, or a "
            "dictionary from modules to devices."
        )
    for path, place in device_map.items() if isinstance(device_map, Mapping) else ():
        if place != "disk" and not _is_device(place):
            raise InputError(
                f"device_map sends {path!r} to {place!r}, which is not a device here; give 'cpu', 'disk' or another."
            )
    is_config = isinstance(quantization_config, Mapping) or hasattr(quantization_config, "quant_method")
    if quantization_config is not None and not is_config:
        raise InputError(
            f"quantization_config is a {type(quantization_config).__name__}; give one of transformers' configs, such "
            "as BitsAndBytesConfig(load_in_8bit=True)."
        )
    if isinstance(quantization_config, Mapping) and not _METHODS & set(quantization_config):
        raise InputError(
            f"quantization_config has {sorted(map(str, quantization_config))} and no 'quant_method'; give that of one "
            "of transformers' configs, such as BitsAndBytesConfig(load_in_8bit=True).to_dict()."
        )
    return {name: value for name, value in given.items() if value is not None}


def _is_size(size: Any) -> bool:
    if isinstance(size, str):
        return _SIZE.fullmatch(size) is not None
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _is_device(place: Any) -> bool:
    try:
        return torch.empty(0, device=place).device.type != "meta"
    except (RuntimeError, AssertionError, TypeError):  # torch asserts that it was built with CUDA
        return False


def settled(model: nn.Module, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Take accelerate's hooks off a model that is offloaded to disk, and map what is there into memory.

    Args:
        model: as transformers read it; it is changed.
        name: of the model.
        options: with which it was read, see `options_of_reading`.

    Returns:
        What goes into the provenance, in JSON types: the options, and on which device each module is.

    Raises:
        ModelError: weights would be brought to another device for every pass.
        InputError: weights must be written anew, and there is no folder for it.
    """
    devices = getattr(model, "hf_device_map", None)
    offloaded = {path: hook for path, module in model.named_modules() if (hook := offloading(module)) is not None}
    elsewhere = {str(hook.execution_device) for hook in offloaded.values()} - {"cpu"}
    if elsewhere:
        raise ModelError(
            f"by this device_map {len(offloaded)} modules of {name!r} are brought to {sorted(elsewhere)[0]} for every "
            "pass, which interp cannot record; give a device_map within the processor's memory and the disk, or one "
            "that has room for the model (quantization_config=, dtype=)."
        )
    if offloaded:
        from accelerate.hooks import remove_hook_from_submodules  # type: ignore[import-untyped]

        mapped = {
            path: _mapped(hook.weights_map, path, model.get_submodule(path), options.get("offload_folder"), name)
            for path, hook in offloaded.items()
        }
        remove_hook_from_submodules(model)
        for path, tensors in mapped.items():
            for key, tensor in tensors.items():
                parameter = model.get_submodule(path)._parameters[key]
                needs_grad = parameter is not None and parameter.requires_grad
                model.get_submodule(path)._parameters[key] = nn.Parameter(tensor, requires_grad=needs_grad)
        model.tie_weights()  # type: ignore[operator]
        for module in model.modules():
            _forget_wrappers(module)
    return _in_json(options, devices)


def offloading(module: nn.Module) -> Any:
    """Return accelerate's hook that brings the weights of a module for every pass; None if they are in place."""
    hook = vars(module).get("_hf_hook")
    return next((one for one in getattr(hook, "hooks", (hook,)) if getattr(one, "offload", False)), None)


def _mapped(weights: Mapping[str, Any], path: str, module: nn.Module, folder: str | None, name: str) -> dict[str, Any]:
    """Return the offloaded parameters of a module, mapped from the files where they are."""
    found = {}
    for key, parameter in module._parameters.items():
        if parameter is None or not parameter.is_meta:
            continue
        if type(parameter) is not nn.Parameter:
            raise ModelError(f"{path}.{key} of {name!r} is a {type(parameter).__name__}, which cannot lie on disk.")
        tensor = _as_stored(weights, key)
        if tensor.dtype != parameter.dtype:
            if folder is None:
                raise InputError(
                    f"weights of {name!r} are stored as {_short(tensor)}, so that those for "
                    f"the disk have to be written anew; give offload_folder=, or dtype='{_short(tensor)}'."
                )
            tensor = _written(tensor, parameter.dtype, Path(folder) / f"{path}.{key}.{_short(parameter)}")
        found[key] = tensor
    return found


def _as_stored(weights: Any, key: str) -> Tensor:
    """Return a tensor in the dtype of its file, mapped from there."""
    from safetensors import safe_open

    try:
        whole = weights.prefix + key
        place = {} if whole in weights.dataset.state_dict else weights.dataset.index[whole]
    except (AttributeError, KeyError):  # a plain dictionary of tensors
        whole, place = key, {}
    if place.get("safetensors_file") is None:
        tensor: Tensor = weights[key]
        return tensor
    with safe_open(place["safetensors_file"], framework="pt") as file:
        stored: Tensor = file.get_tensor(place.get("weight_name", whole))
    return stored


def _written(tensor: Tensor, dtype: torch.dtype, file: Path) -> Tensor:
    """Write a tensor into a file in another dtype, and return it mapped from there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # another model may still be mapped from it
    made = torch.from_file(str(file), shared=True, size=tensor.numel(), dtype=dtype).view(tensor.shape)
    return made.copy_(tensor)


def _forget_wrappers(module: nn.Module) -> None:
    """Delete methods that accelerate put on a module, which its class has."""
    for key, value in list(vars(module).items()):
        if callable(value) and not isinstance(value, nn.Module) and callable(getattr(type(module), key, None)):
            of = getattr(getattr(value, "__func__", value), "__globals__", {}).get("__name__", "")
            if key == "forward" or of.startswith("accelerate."):
                del vars(module)[key]
    vars(module).pop("hf_device_map", None)


def _short(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _in_json(options: Mapping[str, Any], devices: Mapping[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, value in options.items():
        if name == "quantization_config":
            value = value.to_dict() if hasattr(value, "to_dict") else dict(value)
        if name != "offload_folder":
            told[name] = {str(key): _plain(one) for key, one in value.items()} if isinstance(value, Mapping) else value
    return told | ({} if devices is None else {"devices": {path: str(one) for path, one in devices.items()}})


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | list | None) else str(value)
