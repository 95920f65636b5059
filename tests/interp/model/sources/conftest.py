"""Tiny GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from transformers.convert_slow_tokenizer import bytes_to_unicode

D, HEADS, KV_HEADS, LAYERS = 256, 4, 2, 2  # a block of Q4_K holds 256 values of a row
SIZES = {"attn_q": (D, D), "attn_k": (D // 2, D), "attn_v": (D // 2, D), "attn_output": (D, D)}
SIZES |= {"ffn_gate": (D, D), "ffn_up": (D, D), "ffn_down": (D, D)}
# Bytes, two merges, and the tokens that llama.cpp calls control and user-defined.
TOKENS = ["<pad>", "<s>", "</s>", "<think>", *bytes_to_unicode().values(), "Ġt", "he"]
TYPES = [3, 3, 3, 4] + [1] * (len(TOKENS) - 4)


def blocks(shape: tuple[int, int], kind: Kind, draws: np.random.Generator) -> np.ndarray:
    """Draw a matrix as a file stores it: quantised, or random bytes for Q4_K, for which gguf has no quantiser."""
    if kind != Kind.Q4_K:
        return gguf.quantize((draws.standard_normal(shape) / 16).astype(np.float32), kind)
    scales = draws.uniform(1e-4, 3e-4, (shape[0], shape[1] // 256, 2)).astype(np.float16).view(np.uint8)
    rest = draws.integers(0, 256, (shape[0], shape[1] // 256, 140), dtype=np.uint8)
    return np.concatenate([scales, rest], axis=2).reshape(shape[0], -1)


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., dict[str, np.ndarray]]:
    """`write_gguf(path, kind, **changes)`: write a Llama; return its tensors, dequantised, as the file orders them."""

    def write(
        path: Path,
        kind: Kind = Kind.Q8_0,
        *,
        architecture: str = "llama",
        tied: bool = True,
        tokens: bool = True,
        fields: dict[str, Any] | None = None,
        tensors: dict[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        draws, writer = np.random.default_rng(0), gguf.GGUFWriter(path, architecture)
        writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.name}", gguf.LlamaFileType.MOSTLY_Q4_K_M))
        writer.add_context_length(64)
        writer.add_block_count(LAYERS)
        writer.add_embedding_length(D)
        writer.add_feed_forward_length(D)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10_000.0)
        writer.add_rope_dimension_count(D // HEADS)
        writer.add_vocab_size(len(TOKENS))
        for key, value in (fields or {}).items():
            (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
        if tokens:
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(TOKENS)
            writer.add_token_types(TYPES)
            writer.add_token_merges(["Ġ t", "h e"])
            writer.add_bos_token_id(1)
            writer.add_eos_token_id(2)
            writer.add_pad_token_id(0)
            writer.add_chat_template("{{ messages[0]['content'] }}")
        stored = {"token_embd.weight": ((len(TOKENS), D), kind), "output_norm.weight": ((D,), Kind.F32)}
        stored |= {} if tied else {"output.weight": ((len(TOKENS), D), kind)}
        for layer in range(LAYERS):
            stored |= {f"blk.{layer}.{name}.weight": (shape, kind) for name, shape in SIZES.items()}
            stored |= {f"blk.{layer}.{name}.weight": ((D,), Kind.F32) for name in ("attn_norm", "ffn_norm")}
        found = {}
        for name, (shape, form) in stored.items():
            norm = form == Kind.F32
            raw = draws.uniform(0.5, 2, shape).astype(np.float32) if norm else blocks(shape, form, draws)
            writer.add_tensor(name, raw, raw_dtype=form)
            found[name] = gguf.dequantize(raw, form)
        for name, raw in (tensors or {}).items():
            writer.add_tensor(name, raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return found

    return write


@pytest.fixture(scope="session")
def tiny_gguf(write_gguf, tmp_path_factory) -> Path:
    """A file in Q8_0, to be read only."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path
