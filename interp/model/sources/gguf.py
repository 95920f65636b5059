"""GGUF files, llama.cpp's format: what they hold, checked before anything is computed, and quick ways to read them.

transformers does the reading, and dequantises the weights. Two of its steps are slow where a vocabulary is large, and
are replaced here by equal ones: the parsing of metadata, and the way from these to a tokenizer.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFReader, GGUFValueType

from interp.data.file_hash import sha256_of_file
from interp.errors import InputError, ModelError
from interp.options import options

# Long arrays of the tokenizer that neither a config nor the weights need.
_UNREAD = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}
_patching = threading.RLock()


def check_file(path: Path) -> dict[str, Any]:
    """Read the header of a GGUF file, and say what the file holds.

    Returns:
        The origin of a model's weights, for the provenance of frames, as JSON: the file's name and SHA-256, its type
        (as llama.cpp names it), and how many tensors are stored in each type.

    Raises:
        InputError: it is not a GGUF file, it is cut short or damaged, or holds a part of a model only.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError(
                f"{str(path)!r} is not a GGUF file, for it does not begin with the letters GGUF; download it again."
            )
    digest = sha256_of_file(path)
    try:
        reader = _QuickReader(path)
    except InputError:
        raise
    except Exception as error:  # of numpy, for lengths and types that make no sense
        raise InputError(f"the header of {str(path)!r} is cut short or damaged; download the file again.") from error
    if "general.architecture" not in reader.fields or not reader.tensors:
        raise InputError(f"{str(path)!r} names no architecture or holds no tensors; give the file of a whole model.")
    n_files = reader.fields.get("split.count")
    if n_files is not None and n_files.contents() > 1:
        raise InputError(
            f"{str(path)!r} is one of {n_files.contents()} files of a model; join them with llama.cpp's "
            "`llama-gguf-split --merge` first."
        )
    return {
        "format": "GGUF",
        "file": path.name,
        "file_type": _file_type(reader),
        "tensor_types": dict(Counter(one.tensor_type.name for one in reader.tensors)),
        "sha256": digest,
    }


def only_file(folder: Path) -> Path | None:
    """Return the GGUF file of a folder that holds no other model; None if there is none.

    Raises:
        InputError: there are several.
    """
    found = sorted(folder.glob("*.gguf"))
    if len(found) > 1:
        names = ", ".join(repr(one.name) for one in found[:3]) + (", ..." if len(found) > 3 else "")
        raise InputError(f"the folder {str(folder)!r} holds {len(found)} GGUF files ({names}); give the path of one.")
    return found[0] if found else None


@contextmanager
def reading() -> Iterator[None]:
    """Let transformers read GGUF files quickly inside the `with` block, and show its progress as this project does.

    It looks these three up at every call: a reader; the names of an architecture's tensors, which it asks for anew for
    every module, and which take a fiftieth of a second to make; and a progress bar.
    """
    from transformers import modeling_gguf_pytorch_utils as theirs

    with _patching, ExitStack() as patches:
        patches.enter_context(_replaced(gguf, "GGUFReader", _QuickReader))
        patches.enter_context(_replaced(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)))
        patches.enter_context(_replaced(theirs, "tqdm", partial(_bar, theirs.tqdm)))
        yield


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def make_float(model: Any) -> Any:
    """Take off a dequantised model what transformers notes of the file: it is a float model like any other."""
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        vars(model).pop(name, None)
    for config in {id(one): one for one in (model.config, model.config.get_text_config())}.values():
        vars(config).pop("quantization_config", None)
    return model


def require_whole(path: Path, model: Any, name: str) -> None:
    """Refuse a file that says more of the model than transformers reads of it, so that another model would be studied.

    Raises:
        ModelError: a tensor has no place in the model, or the rotary embedding is scaled in a way that was not read.
    """
    from transformers.integrations.gguf.utils import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    reader = _QuickReader(path)
    architecture = reader.fields["general.architecture"].contents()
    if is_gguf_arch_supported(architecture):  # transformers' newer way, which refuses what has no place
        return
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config={})
    with reading():
        places = get_gguf_hf_weights_map(model, processor)
    if homeless := sorted(one.name for one in reader.tensors if one.name not in places):
        raise ModelError(
            f"{name!r} has {len(homeless)} tensors that transformers leaves out of the model, {homeless[0]!r} among "
            "them, so it would compute something else; load the model's Hugging Face folder instead."
        )
    scaled = reader.fields.get(f"{architecture}.rope.scaling.type")
    if scaled is not None and scaled.contents() not in ("none", _rope_type(model.config)):
        raise ModelError(
            f"{name!r} scales its rotary embedding ({scaled.contents()}), which transformers does not read from a "
            "GGUF file; load the model's Hugging Face folder instead."
        )


def read_tokenizer(path: Path) -> Any:
    """Build the tokenizer of a GGUF file; None if it holds none.

    transformers' converter makes the parts. `AutoTokenizer` would make them too, but around them it reads the whole
    file twice more, and takes minutes for 262,144 tokens.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer
    from transformers.integrations.gguf.reader import read_gguf_metadata

    if "tokenizer.ggml.tokens" not in read_gguf_metadata(str(path))[0]:
        return None
    architecture, parts, settings = get_gguf_tokenizer(str(path))
    backend, more = convert_gguf_tokenizer(architecture, parts)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings, **more)


class _QuickReader(GGUFReader):
    """A reader that parses arrays at once, and leaves those out that no model needs."""

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        lead = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
        kind, count, start = GGUFValueType(int(lead[0][0])), int(lead[1][0]), orig_offs + 12
        if kind == GGUFValueType.STRING:
            parts, end = self._strings(start, count)
        elif kind in self.gguf_scalar_to_np:
            values = self._get(start, self.gguf_scalar_to_np[kind], count)
            if len(values) < count:
                raise ValueError("an array goes beyond the end of the file")
            parts, end = list(values.view(np.ndarray).reshape(-1, 1)), start + values.nbytes
        else:
            return super()._get_field_parts(orig_offs, raw_type)
        types = [GGUFValueType.ARRAY, *([kind] if count else [])]
        return end - orig_offs, lead + parts, list(range(2, 2 + count)), types

    def _strings(self, start: int, count: int) -> tuple[list[Any], int]:
        parts, data = [], self.data.view(np.ndarray)  # parts of a memory map take ten times as long to make
        for _ in range(count):
            length = int.from_bytes(data[start : start + 8].tobytes(), "little")
            start += 8 + length
            if start > len(data):
                raise ValueError("a text goes beyond the end of the file")
            parts.append(data[start - length : start])
        return parts, start

    def _push_field(self, field: Any, skip_sum: bool = False) -> int:
        return super()._push_field(field._replace(parts=[], data=[]) if field.name in _UNREAD else field, skip_sum)

    def _build_tensors(self, start_offs: int, fields: Any) -> None:
        for field in fields:
            kind = gguf.GGMLQuantizationType(int(field.parts[4][0]))
            block, size = gguf.GGML_QUANT_SIZES[kind]
            n_values = int(np.prod([int(one) for one in field.parts[3]], dtype=object))
            end = start_offs + int(field.parts[5][0]) + n_values * size // block
            if end > len(self.data):
                raise InputError(
                    f"{str(self.data.filename)!r} is cut short: it has {len(self.data):,} bytes, and its tensor "
                    f"{field.name!r} would end at byte {end:,}; download it again."
                )
        super()._build_tensors(start_offs, fields)


def _file_type(reader: GGUFReader) -> str | None:
    field = reader.fields.get("general.file_type")
    if field is None or field.contents() not in set(gguf.LlamaFileType):
        return None
    return gguf.LlamaFileType(field.contents()).name.removeprefix("MOSTLY_").removeprefix("ALL_")


def _rope_type(config: Any) -> str:
    parameters: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    return str(parameters.get("rope_type", "default"))


def _bar(theirs: Any, tensors: Any, **settings: Any) -> Any:
    return theirs(
        tensors, desc="dequantising", unit="tensor", disable=options.bars_hidden, leave=False,
        mininterval=options.bar_seconds,
    )  # fmt: skip
