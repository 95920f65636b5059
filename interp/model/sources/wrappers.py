"""Objects around a model: those that only wrap it are taken off, those that change it are refused by name."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from interp.errors import InputError, ModelError
from interp.model.backends.effective import require_settled
from interp.model.sources.spreading import offloading

# Attributes under which objects keep the model that they wrap.
_INSIDE = ("module", "model", "pretrained_model", "base_model", "transformer")
# Adapters of PEFT that act outside the layers they are put into.
_OUTSIDE_LAYERS = ("XLORA", "POLY")
# bitsandbytes says here at each product of a float32 model in 8 bits that it casts the input: 210 lines for a pass.
_SAYS_OFTEN = "bitsandbytes.autograd._functions"


def kind_of(source: Any) -> str:
    """Return the library an object comes from, without importing the libraries it does not come from.

    Returns:
        "bridge", "nnsight", "huggingface" or "unknown".
    """
    names = _names(source)
    if "transformer_lens.TransformerBridge" in names:
        return "bridge"
    if "nnsight.NNsight" in names or "nnsight.Envoy" in names:
        return "nnsight"
    return "huggingface" if "transformers.PreTrainedModel" in names else "unknown"


def unwrapped(source: Any) -> Any:
    """Return the model inside what `torch.compile` or PEFT made of it, or the object itself.

    A compiled model computes what the model inside does. PEFT puts its adapters into that model's layers.

    Raises:
        ModelError: the adapter acts outside the layers, as a learned prompt does.
    """
    while True:
        names = _names(source)
        if "torch.OptimizedModule" in names:
            source = source._orig_mod
        elif {"peft.PeftModel", "peft.PeftMixedModel"} & names:
            source = _without_peft(source)
        else:
            return source


def refuse_unknown(source: Any) -> None:
    """Say in one sentence what to pass instead of an object that is not a model.

    Raises:
        InputError: always.
    """
    name = type(source).__name__
    for attribute in _INSIDE:
        inner = unwrapped(getattr(source, attribute, None))
        if kind_of(inner) != "unknown":
            has_tokenizer = not isinstance(source, nn.Module) and getattr(source, "tokenizer", None) is not None
            tokenizer = " with tokenizer=its .tokenizer" if has_tokenizer else ""
            raise InputError(
                f"cannot study a {name}, which wraps a {type(inner).__name__}: pass its .{attribute}{tokenizer}."
            )
    raise InputError(
        f"cannot study a {name}: pass a name, a folder, a hub id, a TransformerBridge, an nnsight model or a "
        "PreTrainedModel."
    )


def require_studiable(model: Any, name: str) -> None:
    """Refuse a live model without an unembedding, with compiled parts, or with adapters that would change it.

    Raises:
        ModelError: it cannot be studied as it is.
    """
    for path, module in model.named_modules():
        if offloading(module) is not None:
            raise ModelError(
                f"{name!r} is offloaded by accelerate, which brings {path!r} for every pass; give its folder or hub id "
                "to interp.load with device_map=, or load it without one."
            )
        if "torch.OptimizedModule" in _names(module) or _is_compiled(module.forward):
            where = f"its {path!r}" if path else "its forward pass"
            raise ModelError(
                f"{name!r} is compiled ({where}), so that nothing inside can be recorded: pass the model as it was "
                "before torch.compile."
            )
    try:
        head = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        head = None
    if head is None:
        raise ModelError(
            f"{name!r} is a {type(model).__name__}, which has no unembedding: load it with AutoModelForCausalLM."
        )
    require_settled(model, name)
    if any(type(parameter).__name__ == "Int8Params" for parameter in model.parameters()):
        logging.getLogger(_SAYS_OFTEN).addFilter(_once)


_said: set[str] = set()


def _once(record: logging.LogRecord) -> bool:
    """Let each message of a logger through once in a process."""
    new = record.getMessage() not in _said
    _said.add(record.getMessage())
    return new


def _without_peft(source: Any) -> Any:
    for name, config in source.peft_config.items():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        learned = getattr(config, "is_prompt_learning", False)
        if learned or kind in _OUTSIDE_LAYERS or getattr(config, "alora_invocation_tokens", None):
            what = "a learned prompt" if learned else "not in the model's layers alone"
            raise ModelError(
                f"the adapter {name!r} ({kind}) is {what}, which interp cannot run; pass the model without it, "
                "model.get_base_model()."
            )
    return source.base_model.model


def _is_compiled(forward: Any) -> bool:
    # `torch.compiler.disable` leaves the first mark too.
    return hasattr(forward, "_torchdynamo_orig_callable") and not getattr(forward, "_torchdynamo_disable", False)


def _names(source: Any) -> set[str]:
    return {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(source).__mro__}
