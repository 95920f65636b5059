"""Sites: tensors inside a model that can be read or changed, under one name and shape for all architectures.

| name | what it is | shape |
|---|---|---|
| `embed` | the token embedding alone | [batch, pos, d_model] |
| `resid_pre` | the residual stream that enters a block | [batch, pos, d_model] |
| `resid_mid` | that between its attention and its MLP | [batch, pos, d_model] |
| `resid_post` | that which leaves it | [batch, pos, d_model] |
| `attn_out`, `mlp_out` | what attention and MLP add to the residual stream | [batch, pos, d_model] |
| `neurons` | the MLP's activations as its down-projection reads them | [batch, pos, d_mlp] |
| `pattern` | the attention pattern | [batch, head, query, key] |

`attn_out` and `mlp_out` come after the norm that follows them in sandwich-norm models and times the number that Granite
multiplies them by. `neurons` come after the gate if the MLP has one. `Subject.site` returns a site, once an identity
that would fail elsewhere has shown that it is what its name says; see `interp.model.sites.identities`.
"""

from interp.model.sites.hooks import edited_in, editing, observing, recording
from interp.model.sites.site import Edit, Site, SiteName, View

__all__ = ["Edit", "Site", "SiteName", "View", "edited_in", "editing", "observing", "recording"]
