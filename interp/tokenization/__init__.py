"""A tokenizer as a lattice of tokens over bytes: what each token spells, and which sequences spell a text.

It needs a tokenizer, and neither a model nor torch.
"""

from interp.tokenization.asking import text_ids
from interp.tokenization.encodings import log_n_encodings, n_encodings, sample_encoding, shortest
from interp.tokenization.entropy import renyi_efficiency
from interp.tokenization.kept import lattice_of
from interp.tokenization.lattice import Lattice
from interp.tokenization.pieces import Pieces
from interp.tokenization.recutting import Variant, recut
from interp.tokenization.spelling import token_bytes
from interp.tokenization.vocabulary import Vocabulary

__all__ = [
    "Lattice",
    "Pieces",
    "Variant",
    "Vocabulary",
    "lattice_of",
    "log_n_encodings",
    "n_encodings",
    "recut",
    "renyi_efficiency",
    "sample_encoding",
    "shortest",
    "text_ids",
    "token_bytes",
]
