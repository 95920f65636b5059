"""An empty planted model: one-hot embedding and unembedding, blocks of zeros and, if requested, noise blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

from interp.errors import InputError
from interp.planted._truth import Layout
from interp.planted._weights import Weights, fill_with_noise, weights_of, zero
from interp.planted.tokenizer import word_tokenizer

NOISE_WIDTH = 8  # residual dimensions that noise blocks write to and that nothing else reads

TruthT = TypeVar("TruthT")


@dataclass(frozen=True, eq=False)
class Planted(Generic[TruthT]):
    """A model with its answers.

    Attributes:
        model: a TransformerBridge in eval mode whose norms are all the identity; its `tokenizer` is set.
        tokenizer: words `w0`..`w{V-1}`, no special tokens.
        truth: the answers in closed form, float64 on the CPU; logarithms are natural (nats).
    """

    model: TransformerBridge
    tokenizer: PreTrainedTokenizerFast
    truth: TruthT


def empty_model(
    name: str,
    layout: Layout,
    vocab: int,
    *,
    width: int = 1,
    seed: int,
    n_ctx: int,
    device: str | torch.device | None,
    dtype: torch.dtype,
) -> tuple[TransformerBridge, Weights]:
    """Build a model that gives its current token a logit of 1, ready for weights to be planted.

    Residual dimensions: 0..V-1 hold the one-hot token and are read by the unembedding, V..width·V-1 are free for the
    planted blocks, and the last `NOISE_WIDTH` dimensions, present only with noise blocks, are for noise.

    Args:
        name: the model is called `planted/{name}`.
        layout: the planted and the noise blocks.
        vocab: tokens V.
        width: residual dimensions of the planted blocks, and MLP neurons, in multiples of V.
        seed: of the noise.
        n_ctx: longest input, in tokens.
        device: of the model; None is the CPU.
        dtype: of the model.

    Returns:
        The bridge, and handles to its parameters; writing into them in place changes the model.

    Raises:
        InputError: fewer than 2 tokens, or no context.
    """
    if vocab < 2:
        raise InputError(f"vocab is {vocab}; give at least 2 tokens.")
    if n_ctx < 1:
        raise InputError(f"n_ctx is {n_ctx}; give at least 1 position.")
    d_work = width * vocab
    d_model = d_work + (NOISE_WIDTH if layout.noise else 0)
    config = TransformerBridgeConfig(
        d_model=d_model,
        n_layers=layout.n_layers,
        n_heads=1,
        d_head=d_model,
        d_mlp=d_work,
        n_ctx=n_ctx,
        d_vocab=vocab,
        act_fn="relu",
        normalization_type=None,
        architecture="TransformerLensNative",
        seed=0,  # every weight is overwritten; without a seed, building would draw from the caller's global generator
    )
    model = TransformerBridge.boot_native(config, device=device, dtype=dtype, model_name=f"planted/{name}").eval()
    _attach_tokenizer(model, vocab)
    zero(model)
    weights = weights_of(model, layout.n_layers)
    weights.tok_embed[:, :vocab].fill_diagonal_(1.0)
    weights.head[:, :vocab].fill_diagonal_(1.0)
    generator = torch.Generator().manual_seed(seed)
    for block in layout.noise:
        fill_with_noise(weights.blocks[block], slice(d_work, d_model), generator)
    return model, weights


def _attach_tokenizer(model: TransformerBridge, vocab: int) -> None:
    # After booting: boot_native would add an end-of-text token outside the model's vocabulary, and encode the word
    # "a", which this tokenizer rightly refuses.
    model.tokenizer = word_tokenizer(vocab)
    model.cfg.tokenizer_prepends_bos = False
    model.cfg.default_prepend_bos = False
