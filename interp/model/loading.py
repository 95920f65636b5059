"""`interp.load`, which makes a `Subject` of anything that holds a causal language model."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from interp.checks import checked
from interp.errors import InputError, UnknownName
from interp.model.backends.structure import require_causal
from interp.model.identity.settings import check_settings
from interp.model.sources.reading import Place, locate, read_config, read_tokenizer, read_weights
from interp.model.sources.spreading import options_of_reading, settled
from interp.model.sources.wrappers import kind_of, refuse_unknown, require_studiable, unwrapped
from interp.model.subject import Subject

if TYPE_CHECKING:
    from nnsight import Envoy
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

Source: TypeAlias = "str | Path | Subject | PreTrainedModel | TransformerBridge | Envoy"
"""A model's name, its folder, hub id or GGUF file, a bridge, an nnsight model, a PreTrainedModel, a Subject."""

BackendName: TypeAlias = Literal["bridge", "nnsight"]


@checked
def load(
    source: Source,
    *,
    backend: BackendName | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    max_memory: Mapping[Any, Any] | None = None,
    offload_folder: str | Path | None = None,
    quantization_config: Any = None,
    tokenizer: Any = None,
    revision: str | None = None,
    remote: bool = False,
    trust_remote_code: bool = False,
) -> Subject:
    """Load a model to study.

    Args:
        source: "reference" (the shipped model), a model that was fetched (see `interp.fetch`), a local Hugging Face
            folder, a GGUF file or a folder whose only model is one, a hub id, a `TransformerBridge`, an nnsight
            `TransformersModel` or `LanguageModel`, a `PreTrainedModel`, or a `Subject`, which is returned unchanged. A
            live object is never changed: with `device` or `dtype` a converted copy is studied. Quantised models and
            models with adapters (a `PeftModel`) are studied as they are; their weights are read as the forward pass
            uses them. The weights of a GGUF file are dequantised, and frames record the file and its types.
        backend: "bridge" (TransformerLens, the default) or "nnsight" (the default for nnsight's own objects).
        device: of the model; by default the model stays where it is, and a model read from disk goes to the CPU.
        dtype: of its weights, such as "bfloat16"; default float32 for a model read from disk.
        device_map: for a model read from disk, "auto", or a dictionary from its modules to devices and "disk", as
            transformers and accelerate take it. Weights on "disk" stay in their file and are read when needed.
        max_memory: for "auto", bytes or a text such as "8GiB" for each device, such as {"cpu": "8GiB"}.
        offload_folder: where weights for the disk are written if `dtype` is not that of their file: it must stay there.
        quantization_config: one of transformers', such as BitsAndBytesConfig(load_in_8bit=True), or its dictionary.
        tokenizer: a Hugging Face tokenizer or its name, for a source without one.
        revision: of a hub id.
        remote: run on NDIF through nnsight; needs an API key and a deployed model.
        trust_remote_code: run the Python code that comes with the model, if it needs it. Such code can do anything on
            this machine, so it never runs unasked; frames record that it was trusted.

    Returns:
        A `Subject`.

    Raises:
        UnknownName: no model has that name.
        InputError: the folder has no config, the GGUF file is damaged, the model was not fetched or needs code that is
            not trusted, or the arguments exclude each other.
        ModelError: the model is not a causal language model, has no unembedding, is compiled inside, or its weights
            are not those that its config asks for.

    >>> load("reference").n_layers
    8
    """
    check_settings()
    dtype = _dtype(dtype)
    _require_device(device)
    how = options_of_reading(
        device=device, device_map=device_map, max_memory=max_memory, offload_folder=offload_folder,
        quantization_config=quantization_config,
    )  # fmt: skip
    if isinstance(source, Subject):
        given = {"backend": backend, "device": device, "dtype": dtype, "tokenizer": tokenizer, "revision": revision}
        _refuse_given("a Subject", **given, **how, remote=remote or None)
        return source
    if isinstance(tokenizer, str | Path):
        named = tokenizer
        tokenizer = read_tokenizer(Place(str(named), str(named), trusted=trust_remote_code))
        if tokenizer is None:
            raise InputError(f"no tokenizer can be loaded from {str(named)!r}; give its folder or its hub id.")
    if remote and backend == "bridge":
        raise InputError("remote=True runs through nnsight; pass backend='nnsight' or leave backend out.")
    if isinstance(source, str | Path):
        place = locate(str(source), revision, trust_remote_code)
        return _from_name(place, backend or ("nnsight" if remote else "bridge"), device, dtype, tokenizer, remote, how)
    source = unwrapped(source)
    kind = kind_of(source)
    if remote and kind != "nnsight":
        raise InputError("remote=True needs a model that NDIF has deployed: pass its hub id.")
    if kind != "unknown":
        _refuse_given("a model that is loaded already", **how)
    if kind == "nnsight":
        _refuse_given("an nnsight model", device=device, dtype=dtype, revision=revision)
        return _around_nnsight(source, backend, tokenizer, remote)
    if kind == "bridge":
        _refuse_given("a TransformerBridge", device=device, dtype=dtype, revision=revision)
        return _around_bridge(source, backend, tokenizer)
    if kind == "unknown":
        refuse_unknown(source)
    name = _model_name(source)
    require_causal(source.config, name)
    require_studiable(source, name)
    return _wrap(_converted(source, device, dtype), name, backend or "bridge", tokenizer)


@checked
def untrained(subject: Source, *, seed: int = 0, keep_embeddings: bool = False) -> Subject:
    """Make an untrained model of the same architecture and size; the subject is not changed.

    Args:
        subject: anything `load` takes.
        seed: of the weights.
        keep_embeddings: keep token and position embeddings and the unembedding; draw only the rest at random.

    Raises:
        ModelError: the model is on another machine.

    >>> untrained("reference").name
    'reference, random'
    """
    own = load(subject)
    with torch.random.fork_rng(devices=[own.device] if own.device.type == "cuda" else []):
        torch.manual_seed(seed)
        live = own.backend.untrained(keep_embeddings)
        # Loaded inside the fork: a bridge draws random weights before it overwrites them.
        fresh = load(live, backend=own.backend.kind, tokenizer=own.tokenizer)  # type: ignore[arg-type]
    fresh.name = f"{own.name}, random but for embeddings" if keep_embeddings else f"{own.name}, random"
    return fresh


def _from_name(
    place: Place,
    backend: BackendName,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    tokenizer: Any,
    remote: bool,
    how: Mapping[str, Any],
) -> Subject:
    if how and place.gguf is not None:
        raise InputError(
            f"{', '.join(how)}= cannot be applied to the GGUF file of {place.name!r}, whose weights are made anew in "
            "memory; give the model's Hugging Face folder or hub id."
        )
    with _collecting_later():
        config = read_config(place)
        require_causal(config, place.name)
        if remote:
            _refuse_given("a model on NDIF", device=device, dtype=dtype, **how)
            return _remote(place, tokenizer)
        model = read_weights(place, config, dtype or torch.float32, how)
        loaded_with = settled(model, place.name, how)
        if device is not None:
            model = model.to(device)
        require_studiable(model, place.name)
        subject = _wrap(model.eval(), place.name, backend, tokenizer or read_tokenizer(place))
        subject.backend.trusted, subject.backend.origin = place.trusted, place.origin
        subject.backend.loaded_with = loaded_with
        return subject


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Collect no garbage inside the block: the libraries imported there make objects by the hundred thousand.

    All of them stay, yet Python would look through them again and again, for a fifth of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _remote(place: Place, tokenizer: Any) -> Subject:
    from interp.model.backends.nnsight import NNsightBackend

    tokenizer = tokenizer or read_tokenizer(place)
    backend = NNsightBackend.on_ndif(place.location, place.name, tokenizer, place.revision, trusted=place.trusted)
    return Subject(backend)


def _wrap(model: Any, name: str, backend: BackendName, tokenizer: Any) -> Subject:
    if backend == "nnsight":
        from interp.model.backends.nnsight import NNsightBackend

        return Subject(NNsightBackend.around(model, name, tokenizer))
    from interp.model.backends.bridge import BridgeBackend

    return Subject(BridgeBackend.around(model, name, tokenizer))


def _around_nnsight(source: Any, backend: BackendName | None, tokenizer: Any, remote: bool) -> Subject:
    from interp.model.backends.nnsight import NNsightBackend

    name = _model_name(source._module)
    if hasattr(source._module, "get_output_embeddings"):
        require_studiable(source._module, name)
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


def _converted(model: Any, device: str | torch.device | None, dtype: torch.dtype | None) -> Any:
    """Return the model, or a converted deep copy if a device or dtype is given: a live model is never changed."""
    if device is None and dtype is None:
        return model
    try:
        return copy.deepcopy(model).to(device=device, dtype=dtype)
    except ValueError as error:  # bitsandbytes' quantised models refuse some
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device= or dtype= cannot be applied to this {type(model).__name__}: {reason}") from error


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
        raise InputError(f"device {str(device)!r} cannot be used here: {reason.rstrip('.')}.") from error


def _refuse_given(what: str, **arguments: Any) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise InputError(f"{', '.join(given)}= cannot be applied to {what}; load the model with it instead.")
