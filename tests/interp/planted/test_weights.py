"""Planting by name: a name that matches nothing must be heard."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InputError, ModelError
from interp.planted import word_tokenizer
from interp.planted._truth import Layout, interleave
from interp.planted._weights import fill_with_noise, weights_of, zero


def native(**options):
    config = TransformerBridgeConfig(
        **{
            "d_model": 6,
            "n_layers": 2,
            "n_heads": 1,
            "d_head": 6,
            "d_mlp": 5,
            "n_ctx": 7,
            "d_vocab": 4,
            "act_fn": "relu",
            "normalization_type": None,
            "architecture": "TransformerLensNative",
            "seed": 0,
        }
        | options
    )
    return TransformerBridge.boot_native(config)


def test_handles_are_the_models_own_tensors():
    model = native()
    ids = torch.tensor([[0, 1]])
    assert model(ids).abs().max() > 0
    zero(model)
    assert not model(ids).any()
    weights = weights_of(model, 2)
    weights.blocks[1].fc_out.bias[2] = 3.0
    weights.head[1, 2] = 1.0
    assert model(ids)[0].tolist() == [[0, 3, 0, 0], [0, 3, 0, 0]]


def test_shapes():
    weights = weights_of(native(), 2)
    assert [tuple(t.shape) for t in (weights.tok_embed, weights.pos, weights.head)] == [(4, 6), (7, 6), (4, 6)]
    assert tuple(weights.blocks[0].fc_in.weight.shape) == (5, 6)
    assert tuple(weights.blocks[0].fc_out.weight.shape) == (6, 5)


def test_missing_parameter_is_named():
    with pytest.raises(ModelError, match=r"no parameter 'layers\.0\.mlp\.fc_in\.weight'"):
        weights_of(native(attn_only=True), 2)
    with pytest.raises(ModelError, match=r"no parameter 'pos\.weight'"):
        weights_of(native(positional_embedding_type="rotary"), 2)


def test_leftover_parameter_is_named():
    with pytest.raises(ModelError, match=r"cannot be planted: .*layers\.1\.attn\.k\.weight"):
        weights_of(native(), 1)
    with pytest.raises(ModelError, match=r"cannot be planted: .*ln_out\.weight"):
        weights_of(native(normalization_type="LN"), 2)


def test_noise_writes_into_spare_dimensions_only():
    model = native()
    zero(model)
    block = weights_of(model, 2).blocks[0]
    fill_with_noise(block, slice(4, 6), torch.Generator().manual_seed(0))
    for affine in (block.o, block.fc_out):
        assert not affine.weight[:4].any()
        assert not affine.bias[:4].any()
        assert affine.weight[4:].all()
        assert affine.bias[4:].all()
    assert block.q.weight.all()
    assert block.fc_in.weight.all()


def test_interleave_deals_noise_round():
    assert interleave(1, 0) == Layout((0,), ())
    assert interleave(1, 2) == Layout((0,), (1, 2))
    assert interleave(3, 1) == Layout((0, 2, 3), (1,))
    assert interleave(2, 5) == Layout((0, 4), (1, 2, 3, 5, 6))


def test_tokenizer():
    words = word_tokenizer(3)
    assert words.get_vocab() == {"w0": 0, "w1": 1, "w2": 2}
    assert words("w2  w0\nw1")["input_ids"] == [2, 0, 1]
    assert words.all_special_ids == []
    with pytest.raises(Exception, match="Missing"):  # `tokenizers` raises nothing finer
        words("w2 cat")
    with pytest.raises(InputError, match="vocab is 0"):
        word_tokenizer(0)
