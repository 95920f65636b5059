"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.characters import character_content, vocabulary
from probes.logit_lens import logit_lens, top_tokens
from probes.spelling import spelling

__all__ = ["character_content", "logit_lens", "spelling", "top_tokens", "vocabulary"]
