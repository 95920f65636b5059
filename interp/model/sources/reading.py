"""Read a model's config, weights and tokenizer from a folder or the hub; no code that comes with it runs unasked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from logging import ERROR, getLogger
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from interp.data.shipped import shipped_path
from interp.errors import InputError, ModelError, UnknownName, reason_of
from interp.model.sources.known import KNOWN_MODELS, SHIPPED_MODELS, require_here

T = TypeVar("T")
_NAMES = (*SHIPPED_MODELS, *KNOWN_MODELS)
# Seconds for the one question whether the hub has a model; downloads have their own.
_PATIENCE = 1.5
_UNREACHABLE = "It is not a folder here, and the hub does not have it or cannot be reached."


@dataclass(frozen=True)
class Place:
    """A place to read a model from.

    Attributes:
        location: a folder or a hub id.
        name: of the model.
        revision: of a hub id.
        trusted: whether code that comes with the model may run.
        gguf: name of a GGUF file in the folder, which holds the model.
        origin: what the file holds, see `interp.model.sources.gguf.check_file`; empty without one.
    """

    location: str
    name: str
    revision: str | None = None
    trusted: bool = False
    gguf: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_gguf(cls, path: Path, name: str, trusted: bool) -> Place:
        """Return the place of a GGUF file, which is checked.

        Raises:
            InputError: see `interp.model.sources.gguf.check_file`.
        """
        from interp.model.sources import gguf  # slow to import

        return cls(str(path.parent), name, trusted=trusted, gguf=path.name, origin=gguf.check_file(path))

    @property
    def is_folder(self) -> bool:
        """Tell whether it is a folder on this machine."""
        return Path(self.location).is_dir()

    def read(self, read: Callable[..., T]) -> T:
        """Call one of transformers' `from_pretrained`; what is on the hub is looked for in the cache first.

        Raises:
            OSError: there is no such file.
            UnknownName: it is not in the cache, and the hub does not have the model or cannot be reached.
        """
        options: dict[str, Any] = {"revision": self.revision, "trust_remote_code": self.trusted}
        if self.gguf is not None:
            options["gguf_file"] = self.gguf
        with _quietly(), _reading_gguf() if self.gguf is not None else nullcontext():
            if self.is_folder:
                return read(self.location, **options)
            try:
                return read(self.location, local_files_only=True, **options)
            except OSError:
                self._require_on_hub()
            return read(self.location, **options)

    def _require_on_hub(self) -> None:
        """Ask the hub once and briefly: transformers would ask again and again for half a minute."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        try:
            url = hf_hub_url(self.location, "config.json", revision=self.revision)
            get_hf_file_metadata(url, timeout=_PATIENCE)
        except EntryNotFoundError:
            raise InputError(f"{self.name!r} on the hub has no config.json{_adapter_advice('it')}.") from None
        except Exception as error:  # no such model or revision, a name that is none, no network, no permission
            raise UnknownName("model", self.name, _NAMES, _UNREACHABLE) from error


def locate(source: str, revision: str | None, trusted: bool) -> Place:
    """Return where the name of a shipped or a known model, a GGUF file, a folder or a hub id leads.

    Raises:
        UnknownName: it is none of these.
        InputError: the known model was not fetched, the GGUF file cannot be read, or the folder holds no model.
    """
    if source in SHIPPED_MODELS:
        return Place(str(shipped_path(source)), source)
    if source in KNOWN_MODELS:
        place = Place.of_gguf(require_here(source), source, trusted)
        if place.origin["sha256"] != KNOWN_MODELS[source].sha256:
            raise InputError(
                f"the file of {source!r} was changed since it was fetched; run `interp fetch {source}` again."
            )
        return place
    folder = Path(source)
    if folder.suffix.lower() == ".gguf" and not folder.is_dir():
        if not folder.is_file():
            raise InputError(f"there is no file {source!r}; give the path of a GGUF file.")
        return Place.of_gguf(folder, folder.stem, trusted)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            from interp.model.sources import gguf  # slow to import

            if (file := gguf.only_file(folder)) is not None:
                return Place.of_gguf(file, folder.resolve().name, trusted)
            if (folder / "adapter_config.json").is_file():
                raise InputError(f"the folder {source!r} holds an adapter and no model{_adapter_advice(repr(source))}.")
            raise InputError(f"the folder {source!r} has no config.json; save the model with save_pretrained first.")
        return Place(source, folder.resolve().name, revision, trusted)
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local or ("/" not in source and difflib.get_close_matches(source, _NAMES, cutoff=0.75)):
        raise UnknownName("model", source, _NAMES, "Give a shipped or a fetched model, a folder or a hub id.")
    return Place(source, source, revision, trusted)


def read_config(place: Place) -> Any:
    """Read a model's config.

    Raises:
        UnknownName: the hub does not have the model, or cannot be reached.
        InputError: the config cannot be read, or needs code that is not trusted.
    """
    from transformers import AutoConfig

    try:
        return place.read(AutoConfig.from_pretrained)
    except InputError:
        raise
    except Exception as error:  # a config may hold anything
        _refuse_code(place, error, "")
        if place.gguf is not None and "not supported" in str(error):
            raise InputError(
                f"transformers cannot read {place.name!r}: {reason_of(error)}; load the model's Hugging Face folder "
                "instead."
            ) from error
        raise InputError(f"the config of {place.name!r} cannot be read: {reason_of(error)}") from error


def read_weights(place: Place, config: Any, dtype: torch.dtype, how: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Read a model, whose weights must be exactly those that its config asks for.

    Args:
        place: where it is.
        config: its own.
        dtype: of the weights.
        how: other options of transformers, see `interp.model.sources.spreading`.

    Raises:
        InputError: the weights cannot be read.
        ModelError: some are missing, or are left over.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    def read(location: str, **options: Any) -> Any:
        if place.gguf is not None:
            options["quantization_config"] = GgufConfig(dequantize=True)
        return AutoModelForCausalLM.from_pretrained(
            location, config=config, dtype=dtype, output_loading_info=True, **how, **options
        )

    try:
        model, report = place.read(read)
    except InputError:
        raise
    except Exception as error:  # files may be damaged in any way, and a quantised model may need a library
        _refuse_code(place, error, "")
        raise InputError(f"the weights of {place.name!r} cannot be read: {reason_of(error)}") from error
    # transformers would initialise at random what is missing, leave out what is too many, and continue.
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{place.name!r} lacks {len(missing)} of its weights, {missing[0]!r} among them; save it again."
        )
    # Buffers such as causal masks, which follow from the config, were once saved too.
    buffers = {name for name, _ in model.named_buffers()}
    unexpected = sorted(
        key for key in report["unexpected_keys"] if key not in buffers and not key.endswith(".masked_bias")
    )
    if unexpected:
        raise ModelError(
            f"{place.name!r} has {len(unexpected)} weights that its config has no place for, {unexpected[0]!r} among "
            "them; correct the config (a number of layers?) or save the model again."
        )
    if place.gguf is not None:
        from interp.model.sources import gguf  # slow to import

        gguf.require_whole(Path(place.location, place.gguf), model, place.name)
        return gguf.make_float(model)
    return model


def _reading_gguf() -> AbstractContextManager[None]:
    from interp.model.sources import gguf  # slow to import

    return gguf.reading()


def read_tokenizer(place: Place) -> Any:
    """Read a tokenizer; None if there is none, and then token ids still work.

    Raises:
        InputError: it cannot be read, or needs code that is not trusted.
    """
    from transformers import AutoTokenizer

    def read(location: str, **options: Any) -> Any:
        if place.gguf is not None:
            from interp.model.sources import gguf  # slow to import

            return gguf.read_tokenizer(Path(location, place.gguf))
        found = AutoTokenizer.from_pretrained(location, **options)
        if _is_made_up(found):
            raise OSError("there are no tokenizer files")
        return found

    if place.gguf is None and place.is_folder and not _has_tokenizer(Path(place.location)):
        return None
    try:
        return place.read(read)
    except (OSError, UnknownName):
        return None
    except Exception as error:
        _refuse_code(place, error, "the tokenizer of ")
        if not place.is_folder and "instantiate the backend tokenizer" in str(error):
            return None  # the hub has no file of one
        raise InputError(
            f"the tokenizer of {place.name!r} cannot be read: {reason_of(error)}; save it again or pass tokenizer=."
        ) from error


def _is_made_up(tokenizer: Any) -> bool:
    """Tell whether a tokenizer knows nothing but special tokens: transformers makes one up if there are no files."""
    try:
        words = set(tokenizer.get_vocab())
    except NotImplementedError:
        return False
    return words <= {*tokenizer.all_special_tokens, *tokenizer.added_tokens_encoder}


def _has_tokenizer(folder: Path) -> bool:
    patterns = ("*token*", "*vocab*", "*.model", "merges.txt", "*.spm")
    return any(any(folder.glob(pattern)) for pattern in patterns)


def _refuse_code(place: Place, error: Exception, of: str) -> None:
    if "trust_remote_code" in str(error):
        raise InputError(
            f"{of}{place.name!r} needs code of its own, which interp.load does not run; read that code, and call "
            "interp.load with trust_remote_code=True if you trust it."
        ) from error


def _adapter_advice(what: str) -> str:
    return (
        f"; if {what} is an adapter, load its base model with transformers, put it on with "
        "peft.PeftModel.from_pretrained(model, ...), and pass the result or its merge_and_unload()"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide transformers' progress bar and reports, which errors here put in a sentence; restore the user's settings."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    of_accelerate = getLogger("accelerate.big_modeling")  # says that weights are elsewhere, which `settled` mends
    level_of_accelerate = of_accelerate.level
    of_accelerate.setLevel(ERROR)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        of_accelerate.setLevel(level_of_accelerate)
        if shown:
            logging.enable_progress_bar()
