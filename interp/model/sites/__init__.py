"""Sites: tensors inside a model that can be read or changed, under one name and shape for all architectures.

| name | what it is | shape |
|---|---|---|
| `embed` | the token embedding alone | [batch, pos, d_model] |
| `resid_pre` | the residual stream that enters a block | [batch, pos, d_model] |
| `resid_mid` | that between its attention and its MLP | [batch, pos, d_model] |
| `resid_post` | that which leaves it | [batch, pos, d_model] |
| `attn_out`, `mlp_out` | what attention and MLP add to the residual stream | [batch, pos, d_model] |
| `norm1`, `norm2` | what attention and MLP read, after the norm before them | [batch, pos, d_model] |
| `neurons_pre` | what the MLP's activation function reads | [batch, pos, d_mlp] |
| `neurons` | the MLP's activations as its down-projection reads them | [batch, pos, d_mlp] |
| `router` | the logits of the experts of a mixture | [batch, pos, expert] |
| `q`, `k`, `v` | queries, keys and values as their matrices give them | [batch, pos, head, d_head] |
| `scores`, `pattern` | what the softmax over keys reads, and what it gives | [batch, head, query, key] |
| `z` | the values that each head has mixed by its pattern | [batch, pos, head, d_head] |
| `head_out` | what each head adds to the attention's sum | [batch, pos, head, d_model] |

`attn_out` and `mlp_out` come after the norm that follows them in sandwich-norm models and times the number that Granite
multiplies them by; `head_out` comes before that norm. `neurons` come after the gate if the MLP has one. Heads that
share keys and values have fewer `k` and `v`. Masked `scores` read -inf. `Subject.site` returns a site, once an identity
that would fail elsewhere has shown that it is what its name says; see `interp.model.sites.checks`.
"""

from interp.model.sites.hooks import arrived, edited_in, editing, going, observing, recording
from interp.model.sites.sending import tell
from interp.model.sites.site import OF_KEYS, Edit, Site, SiteName, View, width_of

__all__ = [
    "OF_KEYS",
    "Edit",
    "Site",
    "SiteName",
    "View",
    "arrived",
    "edited_in",
    "editing",
    "going",
    "observing",
    "recording",
    "tell",
    "width_of",
]
