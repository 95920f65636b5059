"""A tokenizer as a lattice of tokens over bytes: what each token spells, and which sequences spell a text.

It needs a tokenizer, and neither a model nor torch.
"""

from interp.tokenization.asking import text_ids
from interp.tokenization.encodings import log_n_encodings, n_encodings, sample_encoding, shortest
from interp.tokenization.entropy import renyi_efficiency
from interp.tokenization.lattice import Lattice
from interp.tokenization.spelling import token_bytes
from interp.tokenization.vocabulary import Vocabulary

__all__ = [
    "Lattice",
    "Vocabulary",
    "log_n_encodings",
    "n_encodings",
    "renyi_efficiency",
    "sample_encoding",
    "shortest",
    "text_ids",
    "token_bytes",
]
