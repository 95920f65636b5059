"""The architectures that interp is tested on: a tiny config of each, and what each backend makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VOCAB = 61
WINDOW = 6  # of sliding-window and local attention: shorter than the tests' prompts

NO_BRIDGE = "cannot build a bridge"
"""Words of a refusal: TransformerLens has no adapter for the architecture, or its adapter fails on it."""

NOT_A_SUM = r"is not its input \+ attn_out \+ mlp_out"
NORMS = "norm1 norm2"
ALL_HEADS = "head_out k pattern q scores v z"
_QKV = "k q v"  # latent attention has none of a head; other matrices hold all three in layouts of their own
NOT_SHOWN = "shows no (attn|mlp)_out"

_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = _SHAPE | {"num_key_value_heads": 2}
_EIGHT = _GROUPED | {"head_dim": 8}
_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
_SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_MIXTURE = {"num_local_experts": 4, "num_experts_per_tok": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_GRANITE = {"residual_multiplier": 0.22, "embedding_multiplier": 3.0, "logits_scaling": 2.0}
_LATENT = _SHAPE | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_DEEPSEEK = _LATENT | {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
_OPT = {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_FALCON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
_RWKV = {"hidden_size": 32, "num_hidden_layers": 3, "context_length": 64, "attention_hidden_size": 32}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1}


@dataclass(frozen=True)
class Architecture:
    """An architecture, a tiny config of it, and what is refused.

    Attributes:
        name: of this row: the model type, and what its config is an example of.
        model_type: the name in transformers.
        config: the config beside the vocabulary.
        refused: backend -> words of the error with which it refuses the model.
        branches: words of the error with which both backends refuse attn_out and mlp_out in some block, or "".
        hidden: backend -> the sites inside attention and MLP that it refuses in some block, beside `neurons_pre` of
            a mixture of experts and `router` of anything else.
        slow: tested by `make test-all` only.
    """

    name: str
    model_type: str
    config: Mapping[str, Any]
    refused: Mapping[str, str] = field(default_factory=dict)
    branches: str = ""
    hidden: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False

    @property
    def mixture(self) -> bool:
        """Tell whether it has experts."""
        return "expert" in str(self.config)


def _row(name: str, config: Mapping[str, Any], **of: Any) -> Architecture:
    if isinstance(of.get("hidden"), str):
        of["hidden"] = dict.fromkeys(("bridge", "nnsight"), of["hidden"])
    return Architecture(name, of.pop("model_type", name), config, **of)


def _without_bridge(name: str, config: Mapping[str, Any], **of: Any) -> Architecture:
    return _row(name, config, refused={"bridge": NO_BRIDGE}, **of)


TABLE = (
    _row("gpt2", _GPT2),
    _row("gpt2-scaled-attention", _GPT2 | {"scale_attn_by_inverse_layer_idx": True}, model_type="gpt2", slow=True),
    _row("openai-gpt", _GPT2, branches=NOT_A_SUM, hidden=NORMS),
    _without_bridge("ctrl", _GPT2 | {"dff": 48}, branches=NOT_SHOWN, hidden=f"{ALL_HEADS} {NORMS} neurons_pre"),
    _row("gptj", _GPT2 | {"rotary_dim": 4}, hidden="norm2"),
    _row("codegen", _GPT2 | {"rotary_dim": 4, "n_ctx": 64}, hidden={"bridge": "norm2", "nnsight": f"{_QKV} norm2"}),
    _row("gpt_bigcode", _GPT2),
    _without_bridge("gpt_bigcode-multihead", _GPT2 | {"multi_query": False}, model_type="gpt_bigcode"),
    _row(
        "gpt_neo",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_layers": 3,
            "num_heads": 4,
            "max_position_embeddings": 64,
            "window_size": WINDOW,
            "attention_types": [[["global", "local", "global"], 1]],
        },
    ),
    _row("gpt_neox", _SHAPE),
    _row("gpt_neox-sequential", _SHAPE | {"use_parallel_residual": False}, model_type="gpt_neox"),
    _without_bridge(
        "gpt_neox_japanese", _SHAPE | {"intermediate_multiple_size": 2}, branches=NOT_A_SUM, hidden="norm2"
    ),
    _row("gpt_oss", _EIGHT | _SLIDING | _MIXTURE, hidden="k"),
    _row("opt", _OPT),
    _row(
        "opt-350m",
        _OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False},
        model_type="opt",
        branches=NOT_A_SUM,
        hidden=NORMS,
    ),
    _row("opt-projected", _OPT | {"word_embed_proj_dim": 16}, model_type="opt"),  # like it, with norms before
    _row("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    _row(
        "bloom-post-layernorm-residual",
        {"hidden_size": 32, "n_layer": 3, "n_head": 4, "apply_residual_connection_post_layernorm": True},
        model_type="bloom",
        branches=NOT_A_SUM,
    ),
    _row("falcon", _FALCON, hidden="norm2"),
    _without_bridge(
        "falcon-new",
        _FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True},
        model_type="falcon",
        hidden=f"{_QKV} norm2",
    ),
    _row(
        "falcon-rw",  # TransformerLens gives it the wrong biases
        _FALCON | {"alibi": True, "parallel_attn": False, "multi_query": False, "bias": True},
        model_type="falcon",
        refused={"bridge": "rebuilds 'FalconForCausalLM'"},
    ),
    _row("falcon-sequential", _FALCON | {"parallel_attn": False}, model_type="falcon", slow=True),
    _row("mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}),
    _row(
        "xglm",
        {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 64},
    ),
    _without_bridge("biogpt", _SHAPE),
    _row("llama", _GROUPED),
    _row("llama-tied", _GROUPED | {"tie_word_embeddings": True, "attention_bias": True}, model_type="llama", slow=True),
    _without_bridge("diffllama", _GROUPED, hidden="head_out pattern scores v z"),
    _row("llama4_text", _EIGHT | {"intermediate_size_mlp": 32, "num_local_experts": 4, "attention_chunk_size": 8}),
    _row("mistral", _GROUPED | {"sliding_window": WINDOW}),
    _without_bridge("ministral", _EIGHT | _SLIDING),
    _row("ministral3", _EIGHT),
    _row("mixtral", _GROUPED | _MIXTURE),
    _row("qwen2", _GROUPED),
    _row(
        "qwen2-sliding", _GROUPED | _SLIDING | {"use_sliding_window": True}, model_type="qwen2", slow=True
    ),  # Qwen2.5 is the same architecture
    _row("qwen3", _EIGHT),
    _row("qwen2_moe", _GROUPED | _EXPERTS | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}),
    _row("qwen3_moe", _EIGHT | _EXPERTS | {"moe_intermediate_size": 16}),
    _row(
        "qwen3_next",
        _EIGHT
        | _EXPERTS
        | {
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        },
        branches=NOT_SHOWN,
        slow=True,
        hidden=f"{ALL_HEADS} {NORMS}",
    ),
    _row("phi", _SHAPE | {"num_key_value_heads": 4}, hidden="norm2"),
    _row("phi3", _GROUPED),
    _without_bridge("phimoe", _GROUPED | _MIXTURE),
    _row("gemma", _EIGHT),
    _row("gemma2", _EIGHT | _SLIDING | {"final_logit_softcapping": 3.0}),
    _row("gemma3_text", _EIGHT | _SLIDING),
    _row(
        "gemma3n_text",
        _EIGHT
        | _SLIDING
        | {
            "intermediate_size": [48, 48, 48],
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCAB,
            "laurel_rank": 4,
            "num_kv_shared_layers": 0,
            "activation_sparsity_pattern": [0.0, 0.0, 0.0],
        },
        refused={"bridge": NO_BRIDGE, "nnsight": "not one residual for each token"},
    ),
    _row(
        "gemma4_text",
        _EIGHT
        | {
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCAB,
            "num_kv_shared_layers": 0,
            "global_head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
        branches=NOT_A_SUM,
        hidden="v",
    ),
    _row(
        "gemma4_text-shared",  # later blocks read the keys and values of earlier ones
        _EIGHT
        | {
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "global_head_dim": 8,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCAB,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        model_type="gemma4_text",
        refused=dict.fromkeys(("bridge", "nnsight"), "hand something on to later ones beside the residual"),
    ),
    _row("vaultgemma", _EIGHT | _SLIDING, slow=True),
    _row(
        "recurrent_gemma",
        _GROUPED | {"lru_width": 32, "attention_window_size": 16},
        branches=NOT_SHOWN,
        hidden={"bridge": f"{ALL_HEADS} {NORMS} neurons_pre", "nnsight": f"{ALL_HEADS} {NORMS}"},
    ),
    _row("stablelm", _GROUPED),
    _row(
        "stablelm-parallel",
        _GROUPED | {"use_parallel_residual": True, "qk_layernorm": True},
        model_type="stablelm",
        hidden="norm2",
    ),
    _row("starcoder2", _GROUPED | {"sliding_window": WINDOW}),
    _row("olmo", _SHAPE | {"clip_qkv": 1.0}, hidden="v"),
    _row("olmo2", _SHAPE, hidden=NORMS),
    _row("olmo3", _SHAPE | _SLIDING, hidden=NORMS),
    _row("olmoe", _SHAPE | _EXPERTS),
    _row("flex_olmo", _SHAPE | _EXPERTS, slow=True, hidden={"bridge": f"{NORMS} router", "nnsight": NORMS}),
    _row("cohere", _GROUPED | {"logit_scale": 0.5}, hidden="norm2"),
    _row("cohere2", _GROUPED | _SLIDING | {"logit_scale": 0.5}, hidden="norm2"),
    _row("granite", _GROUPED | _GRANITE | {"attention_multiplier": 0.3}),
    _row("granitemoe", _GROUPED | _GRANITE | _MIXTURE),
    _without_bridge(
        "granitemoeshared", _GROUPED | _GRANITE | _MIXTURE | {"shared_intermediate_size": 16}, branches=NOT_A_SUM
    ),
    _row("deepseek_v2", _DEEPSEEK | {"topk_method": "greedy"}, hidden=f"{_QKV} router"),
    _row("deepseek_v3", _DEEPSEEK, hidden=f"{_QKV} router"),
    _without_bridge("minicpm3", _LATENT | {"scale_depth": 1.4, "dim_model_base": 16, "scale_emb": 3}, hidden=_QKV),
    _without_bridge("minimax", _EIGHT | _MIXTURE | {"layer_types": ["full_attention"] * 3}, branches=NOT_A_SUM),
    _row("glm", _EIGHT),
    _row("glm4", _EIGHT),
    _row(
        "glm4_moe",
        _EIGHT
        | {
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
        },
        slow=True,
        hidden="router",
    ),
    _row("nemotron", _GROUPED),
    _without_bridge("persimmon", _SHAPE),
    _without_bridge("helium", _EIGHT),
    _row("smollm3", _GROUPED | {"no_rope_layers": [1, 1, 0]}),
    _row("exaone4", _GROUPED | _SLIDING, hidden=NORMS),
    _row("ernie4_5", _EIGHT),
    _row(
        "ernie4_5_moe",
        _GROUPED | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
        hidden="router",
    ),
    _row("arcee", _GROUPED),
    _row("apertus", _GROUPED),
    _row("seed_oss", _EIGHT),
    _row("hunyuan_v1_dense", _EIGHT),
    _without_bridge("hunyuan_v1_moe", _EIGHT | {"num_experts": 4, "moe_topk": 2}),
    _without_bridge("hyperclovax", _GROUPED | {"residual_multiplier": 0.5, "logits_scaling": 2.0}),
    _without_bridge("doge", _GROUPED, branches=NOT_A_SUM),
    _row("nanochat", _SHAPE | {"num_key_value_heads": 4}),
    _row("jais2", _EIGHT, slow=True),
    _row("bitnet", _GROUPED, hidden="neurons_pre"),
    _without_bridge("cwm", _EIGHT | _SLIDING),
    _without_bridge(
        "dbrx",
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.0, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
        },
        branches=NOT_SHOWN,
        hidden=f"{ALL_HEADS} {NORMS} router",
    ),
    _row(
        "jetmoe",
        {"hidden_size": 32, "num_hidden_layers": 3, "num_key_value_heads": 2, "kv_channels": 8, "intermediate_size": 32}
        | _MIXTURE,
        hidden=f"{ALL_HEADS} router",
    ),
    _row(
        "lfm2",
        _GROUPED | {"layer_types": ["conv", "full_attention", "conv"]},
        branches=NOT_SHOWN,
        hidden={"bridge": f"{ALL_HEADS} {NORMS}", "nnsight": f"{ALL_HEADS} {NORMS} neurons_pre"},
    ),
    _row(
        "modernbert-decoder",  # a layer of its own stands between the final norm and the unembedding
        _SHAPE | {"local_attention": 8},
        refused=dict.fromkeys(("bridge", "nnsight"), "replaying 'ModernBertDecoderForCausalLM'"),
    ),
    _row(
        "falcon_h1",
        _EIGHT | _MAMBA | {"mamba_d_ssm": 32, "mamba_n_heads": 4},
        branches=NOT_A_SUM,
        slow=True,
        hidden="norm2",
    ),
    _row(
        "bamba",
        _GROUPED | _MAMBA | {"attn_layer_indices": [1]},
        branches=NOT_SHOWN,
        slow=True,
        hidden=f"{ALL_HEADS} {NORMS}",
    ),
    _row(
        "granitemoehybrid",
        _GROUPED | _MAMBA | _MIXTURE | {"layer_types": ["mamba", "attention", "mamba"], "shared_intermediate_size": 16},
        refused={"bridge": "cannot be run by the bridge backend"},
        branches=f"{NOT_SHOWN}|{NOT_A_SUM}",
        slow=True,
        hidden=f"{ALL_HEADS} {NORMS}",
    ),
    _row(
        "jamba",
        _GROUPED
        | {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 8,
            "num_experts": 4,
            "use_mamba_kernels": False,
        },
        branches=NOT_SHOWN,
        slow=True,
        hidden=f"{ALL_HEADS} {NORMS} router",
    ),
    _row(
        "mamba",
        {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8},
        branches=NOT_SHOWN,
        hidden=f"{ALL_HEADS} {NORMS} neurons_pre",
    ),
    _row(
        "mamba2",
        {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1},
        branches=NOT_SHOWN,
        slow=True,
        hidden=f"{ALL_HEADS} {NORMS} neurons_pre",
    ),
    _row(
        "rwkv",
        _RWKV,
        refused=dict.fromkeys(("bridge", "nnsight"), "rewrites its own weights"),
    ),
    _row(
        "rwkv-not-rescaled",
        _RWKV | {"rescale_every": 0},
        model_type="rwkv",
        branches=f"{NOT_SHOWN}|{NOT_A_SUM}",
        hidden=f"{ALL_HEADS} {NORMS} neurons_pre",
    ),
    _row(
        "bart",
        {
            "d_model": 32,
            "decoder_layers": 3,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 64,
            "encoder_layers": 2,
            "is_encoder_decoder": False,
            "is_decoder": True,
        },
        refused={"bridge": NO_BRIDGE, "nnsight": "has no list of 2 blocks"},
    ),
    _row(
        "xlnet",
        {"d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 48},
        refused={"bridge": NO_BRIDGE, "nnsight": "how it depends on the batch"},
    ),
)
