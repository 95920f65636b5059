"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.iterative_inference import iterative_inference
from probes.layer_robustness import layer_robustness, run_schedules
from probes.logit_lens import logit_lens, top_tokens
from probes.microscope import law_and_microscope, microscope, microscope_tokens
from probes.next_token_law import next_token_law
from probes.tuned_lens import TunedLens, load_tuned_lens, tuned_lens

__all__ = [
    "TunedLens",
    "iterative_inference",
    "law_and_microscope",
    "layer_robustness",
    "load_tuned_lens",
    "logit_lens",
    "microscope",
    "microscope_tokens",
    "next_token_law",
    "run_schedules",
    "top_tokens",
    "tuned_lens",
]
