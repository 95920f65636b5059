"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.attribute import attribute
from probes.faithfulness import faithfulness
from probes.logit_lens import logit_lens, top_tokens
from probes.normxlogit import normxlogit
from probes.reagent import reagent, reagent_probes
from probes.reagent_ls import reagent_ls

__all__ = [
    "attribute",
    "faithfulness",
    "logit_lens",
    "normxlogit",
    "reagent",
    "reagent_ls",
    "reagent_probes",
    "top_tokens",
]
