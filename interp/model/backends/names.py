"""The names that architectures give to the parts of a model; add those of a new architecture here.

Each tuple is searched in order, and the first name that exists is used.
"""

from interp.model.weights import Component

FINAL_NORMS = (
    *("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f", "layer_norm", "final_norm", "ln_out"),
    *("layernorm", "embedding_norm"),
)
"""The norm between the last block and the unembedding, a sibling of the list of blocks."""

PROJECTIONS_IN, PROJECTIONS_OUT = ("project_in",), ("project_out",)
"""Between the embedding's width and the residual stream's, siblings of the list of blocks (OPT-350m)."""

MLP_OUTPUT_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_norm2")
"""A norm between the MLP and the residual stream."""

# Without one of the norms above, `post_attention_layernorm` is the norm before the MLP.
ATTENTION_OUTPUT_NORMS = ("post_norm1", "post_self_attn_layernorm", "post_attention_layernorm")
"""A norm between the attention and the residual stream."""

BRANCH_SCALES = ("residual_multiplier", "residual_scale")
"""Attributes of a block: it multiplies the outputs of attention and MLP by this number before it adds them."""

LOGIT_SCALES = ("logit_scale", "lm_head_multiplier")
"""Config fields that multiply the logits; `logits_scaling` divides them."""

SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Config fields that bound the logits by a tanh."""

MULTIPLIED_LOGITS = ("hyperclovax",)
"""Model types whose `logits_scaling` multiplies the logits."""

MLPS = ("mlp", "block_sparse_moe", "feed_forward", "ffn")
"""A block's MLP, or its mixture of experts."""

# In models with sandwich norms `post_attention_layernorm` belongs to the attention, so it comes last.
MLP_NORMS = (
    *("pre_feedforward_layernorm", "feedforward_layernorm", "ln_2", "norm_2", "ffn_norm"),
    *("final_layer_norm", "post_attention_layernorm"),
)
"""The norm before the MLP; its input is the residual between attention and MLP."""

ATTENTION_NORMS = ("input_layernorm", "ln_1", "norm_1", "self_attn_layer_norm", "attention_layernorm", "ln_attn")
"""The norm before the attention."""

ROUTERS = ("router", "gate")
"""The module of a mixture of experts that chooses among them."""

FUSED_GATES = ("gate_up_proj",)
"""The gate's matrix of an MLP and the one beside it, as one."""

PARALLEL = ("use_parallel_residual", "parallel_attn", "new_decoder_architecture")
"""Config fields for attention and MLP in parallel, reading the same residual; such blocks may have MLP norms too."""

NOT_NUMBERS = ("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
"""Config fields that do not change the model's outputs, or are already hashed with the weights."""

ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
"""A block's attention."""

OUT_PROJECTIONS = ("o_proj", "c_proj", "dense", "out_proj")
"""The last matrix of an attention."""

Z_NORMS = ("attn_sub_norm",)
"""A norm between the heads and the last matrix of an attention (BitNet)."""

DOWN_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "wo", "w2")
"""The last matrix of an MLP."""

MATRICES: dict[Component, tuple[str, ...]] = {
    "q": ("q_proj",),
    "k": ("k_proj",),
    "v": ("v_proj",),
    "o": OUT_PROJECTIONS,
    "mlp_in": ("c_fc", "fc1", "fc_in", "dense_h_to_4h", "up_proj", "in"),
    "mlp_gate": ("gate_proj", "gate"),
    "mlp_out": (*DOWN_PROJECTIONS, "out"),
}
"""The weight matrices of a block, by component; `matrices.py` splits fused ones."""

N_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
N_HEADS = ("num_attention_heads", "n_head", "num_heads")
D_MODEL = ("hidden_size", "n_embd", "d_model")
D_MLP = ("intermediate_size", "ffn_dim", "n_inner")
N_CTX = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len")
