"""Import what a sweep imports, for processes that begin as copies of one that has."""

from transformers import GPT2Config, GPT2LMHeadModel

import interp
from probes import logit_lens

tiny = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=9, n_positions=8))
logit_lens(interp.load(tiny.eval()), [[1, 2]])
