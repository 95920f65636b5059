"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.faithfulness import faithfulness
from probes.logit_lens import logit_lens, top_tokens
from probes.reagent import reagent, reagent_probes

__all__ = ["faithfulness", "logit_lens", "reagent", "reagent_probes", "top_tokens"]
