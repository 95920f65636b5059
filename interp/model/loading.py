"""`interp.load`, which makes a `Subject` of anything that holds a causal language model."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from interp.data.shipped import shipped_path
from interp.errors import InputError, ModelError, UnknownName
from interp.model.backends.structure import require_causal
from interp.model.identity.settings import check_settings
from interp.model.subject import Subject

if TYPE_CHECKING:
    from nnsight import Envoy
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

Source: TypeAlias = "str | Path | Subject | PreTrainedModel | TransformerBridge | Envoy"
"""A shipped model's name, a Hugging Face folder or hub id, a bridge, an nnsight model, a PreTrainedModel, a Subject."""

BackendName: TypeAlias = Literal["bridge", "nnsight"]
SHIPPED_MODELS = ("reference",)
_BACKENDS = ("bridge", "nnsight")


def load(
    source: Source,
    *,
    backend: BackendName | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    tokenizer: Any = None,
    revision: str | None = None,
    remote: bool = False,
) -> Subject:
    """Load a model to study.

    Args:
        source: "reference" (the shipped model), a local Hugging Face folder, a hub id, a `TransformerBridge`, an
            nnsight `TransformersModel` or `LanguageModel`, a `PreTrainedModel`, or a `Subject`, which is returned
            unchanged. A live object is never changed: with `device` or `dtype` a converted copy is studied.
        backend: "bridge" (TransformerLens, the default) or "nnsight" (the default for nnsight's own objects).
        device: of the model; by default the model stays where it is, and a model read from disk goes to the CPU.
        dtype: of its weights, such as "bfloat16"; default float32 for a model read from disk.
        tokenizer: a Hugging Face tokenizer or its name, for a source without one.
        revision: of a hub id.
        remote: run on NDIF through nnsight; needs an API key and a deployed model.

    Returns:
        A `Subject`.

    Raises:
        UnknownName: no model has that name.
        InputError: the folder has no config, or the arguments exclude each other.
        ModelError: the model is not a causal language model.

    >>> load("reference").n_layers
    8
    """
    check_settings()
    dtype = _dtype(dtype)
    _require_device(device)
    if backend not in (None, *_BACKENDS):
        raise UnknownName("backend", str(backend), _BACKENDS)
    if isinstance(source, Subject):
        given = {"backend": backend, "device": device, "dtype": dtype, "tokenizer": tokenizer, "revision": revision}
        _refuse_given("a Subject", **given, remote=remote or None)
        return source
    if isinstance(tokenizer, str | Path):
        named = tokenizer
        tokenizer = _tokenizer(named)
        if tokenizer is None:
            raise InputError(f"no tokenizer can be loaded from {str(named)!r}; give its folder or its hub id.")
    if remote and backend == "bridge":
        raise InputError("remote=True runs through nnsight; pass backend='nnsight' or leave backend out.")
    if isinstance(source, str | Path):
        return _from_name(
            str(source), backend or ("nnsight" if remote else "bridge"), device, dtype, tokenizer, revision, remote
        )
    kind = _kind(source)
    if remote and kind != "nnsight":
        raise InputError("remote=True needs a model that NDIF has deployed: pass its hub id.")
    if kind == "nnsight":
        _refuse_given("an nnsight model", device=device, dtype=dtype, revision=revision)
        return _around_nnsight(source, backend, tokenizer, remote)
    if kind == "bridge":
        _refuse_given("a TransformerBridge", device=device, dtype=dtype, revision=revision)
        return _around_bridge(source, backend, tokenizer)
    if kind == "huggingface":
        model = _converted(source, device, dtype)
        name = _model_name(source)
        require_causal(source.config, name)
        return _wrap(model, name, backend or "bridge", tokenizer)
    raise InputError(
        f"cannot study a {type(source).__name__}: pass a name, a folder, a hub id, a TransformerBridge, an nnsight "
        "model or a PreTrainedModel."
    )


def _from_name(
    source: str,
    backend: BackendName,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    tokenizer: Any,
    revision: str | None,
    remote: bool,
) -> Subject:
    location, name = _locate(source)
    config = _config(location, name, revision)
    require_causal(config, name)
    if remote:
        _refuse_given("a model on NDIF", device=device, dtype=dtype)
        return _remote(location, name, tokenizer, revision)
    model = _read_weights(location, name, config, dtype or torch.float32, revision)
    if device is not None:
        model = model.to(device)
    return _wrap(model.eval(), name, backend, tokenizer or _tokenizer(location, revision))


def _read_weights(location: str, name: str, config: Any, dtype: torch.dtype, revision: str | None) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        with _no_loading_bar():
            model, report = AutoModelForCausalLM.from_pretrained(
                location, config=config, dtype=dtype, revision=revision, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"the weights of {name!r} cannot be read: {str(error).strip().splitlines()[0]}") from error
    if report["missing_keys"]:  # transformers would initialise them at random and continue
        missing = sorted(report["missing_keys"])
        raise ModelError(f"{name!r} lacks {len(missing)} of its weights, {missing[0]!r} among them; save it again.")
    return model


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    """Hide transformers' progress bar for weights, which load in a second, and restore the user's setting."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _locate(source: str) -> tuple[str, str]:
    """Return the location to read from and the model's name."""
    if source in SHIPPED_MODELS:
        return str(shipped_path(source)), source
    if Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise InputError(f"the folder {source!r} has no config.json; save the model with save_pretrained first.")
        return source, Path(source).resolve().name
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local or difflib.get_close_matches(source, SHIPPED_MODELS, cutoff=0.75):
        raise UnknownName("model", source, SHIPPED_MODELS, "Give a shipped model, a folder or a hub id.")
    return source, source


def _config(location: str, name: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(location, revision=revision)
    except (OSError, ValueError) as error:
        if Path(location).is_dir():
            raise InputError(f"the config of {name!r} cannot be read: {str(error).splitlines()[0]}") from error
        advice = "It is not a folder here, and the hub does not have it or cannot be reached."
        raise UnknownName("model", name, SHIPPED_MODELS, advice) from error


def _tokenizer(location: str | Path, revision: str | None = None) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(location, revision=revision)
    except (OSError, ValueError):
        return None  # token ids still work; for texts tokenise raises an error that names the mend


def _remote(hub_id: str, name: str, tokenizer: Any, revision: str | None) -> Subject:
    from interp.model.backends.nnsight import NNsightBackend

    return Subject(NNsightBackend.on_ndif(hub_id, name, tokenizer, revision))


def _wrap(model: Any, name: str, backend: BackendName, tokenizer: Any) -> Subject:
    if backend == "nnsight":
        from interp.model.backends.nnsight import NNsightBackend

        return Subject(NNsightBackend.around(model, name, tokenizer))
    from interp.model.backends.bridge import BridgeBackend

    return Subject(BridgeBackend.around(model, name, tokenizer))


def _around_nnsight(source: Any, backend: BackendName | None, tokenizer: Any, remote: bool) -> Subject:
    from interp.model.backends.nnsight import NNsightBackend

    name = _model_name(source._module)
    if backend == "bridge":
        local = NNsightBackend(source, name, tokenizer)  # loads its weights
        return _wrap(source._module, name, "bridge", local.tokenizer)
    return Subject(NNsightBackend(source, name, tokenizer, remote=remote))


def _around_bridge(source: Any, backend: BackendName | None, tokenizer: Any) -> Subject:
    from interp.model.backends.bridge import BridgeBackend

    if backend == "nnsight":
        raise InputError(
            "nnsight cannot run a TransformerBridge: it has taken its model apart; pass the model itself or its folder."
        )
    name = str(source.cfg.model_name or "external")
    if name == "external":  # TransformerLens's name for a bridge around a live model
        name = _model_name(source.original_model)
    return Subject(BridgeBackend(source, Path(name).name if Path(name).is_dir() else name, tokenizer))


def _kind(source: Any) -> str:
    """Return the library an object comes from, without importing the libraries it does not come from."""
    names = {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(source).__mro__}
    if "transformer_lens.TransformerBridge" in names:
        return "bridge"
    if "nnsight.NNsight" in names or "nnsight.Envoy" in names:
        return "nnsight"
    return "huggingface" if "transformers.PreTrainedModel" in names else "unknown"


def _converted(model: Any, device: str | torch.device | None, dtype: torch.dtype | None) -> Any:
    """Return the model, or a converted deep copy if a device or dtype is given: a live model is never changed."""
    if device is None and dtype is None:
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype)


def _model_name(model: Any) -> str:
    path = str(getattr(model, "name_or_path", "") or "")
    if not path:
        return type(model).__name__
    return Path(path).name if Path(path).is_dir() else path


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None:
        return None
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UnknownName("dtype", str(dtype), ("float32", "float16", "bfloat16", "float64"))
    return found


def _require_device(device: str | torch.device | None) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here: {reason}") from error


def _refuse_given(what: str, **arguments: Any) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise InputError(f"{', '.join(given)}= cannot be applied to {what}; load the model with it instead.")
