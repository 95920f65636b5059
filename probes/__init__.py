"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.attribute import attribute
from probes.logit_lens import logit_lens, top_tokens
from probes.normxlogit import normxlogit

__all__ = ["attribute", "logit_lens", "normxlogit", "top_tokens"]
