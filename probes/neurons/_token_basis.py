"""The embedding basis (Geva et al., 2022): the vocabulary as directions in the residual stream.

A neuron that is active at m adds m times its value vector v to the stream, and by the direct path m (v · u_w) to the
logit of every token w. Reading v in these directions shows which tokens the neuron promotes. The mean and standard
deviation of a reading over the vocabulary follow from the mean and covariance of the directions, without the reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from interp.authoring import Subject, UnknownName
from interp.model.weights import require_one_vocabulary
from probes.neurons._final_gain import final_gain

Basis: TypeAlias = Literal["unembedding", "normed_unembedding", "embedding"]
"""The directions that stand for tokens: W_U unchanged (the paper's), W_U times the final norm's gain, or W_E."""

TOP = 10  # tokens of a vector that `sieve` looks at
_FIRST_COLUMNS = 256  # of the vocabulary, read for every vector; ten seen above a token put it out of the top ten
_COLUMNS = 128  # of the symmetric covariance, whose halves are the same work


@dataclass(frozen=True, eq=False)
class TokenBasis:
    """The directions of all tokens.

    Attributes:
        tokens: float32 [d_vocab, d_model], minus their mean, so that readings are centred over the vocabulary.
        mean: the mean that was subtracted, float32 [d_model].
        centred: whether vectors are centred over d_model before they are read, as LayerNorm does.
    """

    tokens: Tensor
    mean: Tensor
    centred: bool

    def prepared(self, vectors: Tensor) -> Tensor:
        """Convert vectors [n, d_model] to float32, and centre them if the basis does."""
        vectors = vectors.float()
        return vectors - vectors.mean(dim=1, keepdim=True) if self.centred else vectors

    @cached_property
    def covariance(self) -> Tensor:
        """The covariance of the tokens' directions over the vocabulary, float32 [d_model, d_model]."""
        found = torch.empty(len(self.mean), len(self.mean), device=self.tokens.device)
        for start in range(0, len(self.mean), _COLUMNS):  # above the diagonal only: below it is the same
            some = slice(start, start + _COLUMNS)
            products = self.tokens[:, some].T @ self.tokens[:, start:]
            found[some, start:] = products
            found[start:, some] = products.T
        return found / len(self.tokens)

    def sd(self, prepared: Tensor) -> Tensor:
        """Compute the standard deviation over the vocabulary of each prepared vector's reading, [n, d_model] -> [n].

        The covariance costs as much as reading d_model vectors, so fewer vectors than that are read instead.
        """
        if len(prepared) < len(self.mean) and "covariance" not in vars(self):
            parts = [(some @ self.tokens.T).square().mean(dim=1) for some in torch.split(prepared, 64)]
            variance = torch.cat(parts) if parts else prepared.new_zeros(0)
        else:
            variance = prepared.new_zeros(len(prepared))
            for start in range(0, len(self.mean), _COLUMNS):  # products above the diagonal count twice
                some = slice(start, start + _COLUMNS)
                weighed = self.covariance[start:, some].clone()
                weighed[_COLUMNS:] *= 2
                variance += ((prepared[:, start:] @ weighed) * prepared[:, some]).sum(dim=1)
        return variance.clamp(min=torch.finfo(torch.float32).tiny).sqrt()


def token_basis(subject: Subject, basis: Basis = "unembedding") -> TokenBasis:
    """Return the directions of a model's tokens.

    Args:
        subject: the model.
        basis: "unembedding": W_U unchanged, as in the paper. "normed_unembedding": W_U times the gain of the final
            norm, minus the mean over d_model for LayerNorm: the effect of a vector on the logits up to the scale of
            the final norm. "embedding": W_E, the same as W_U where they are tied.

    Raises:
        UnknownName: there is no such basis.
        ModelError: the weights are on another machine, or the embedding has other tokens than the unembedding.

    >>> import interp
    >>> basis = token_basis(interp.load("reference"))
    >>> basis.tokens.shape, bool(basis.tokens.mean(dim=0).abs().max() < 1e-6)
    (torch.Size([8192, 256]), True)
    """
    if basis not in get_args(Basis):
        raise UnknownName("basis", basis, get_args(Basis))
    if basis == "embedding":
        require_one_vocabulary(subject, "basis='embedding'")
    tokens = (subject.W_E if basis == "embedding" else subject.W_U.T).float()
    centred = False
    if basis == "normed_unembedding":
        gain, centred = final_gain(subject)
        tokens = tokens * gain
    mean = tokens.mean(dim=0)
    return TokenBasis((tokens - mean).contiguous(), mean, centred)


def sieve(tokens: Tensor, prepared: Tensor, ids: Tensor, order: Tensor, min_hits: int) -> tuple[Tensor, Tensor]:
    """Find vectors with at least `min_hits` of some tokens in their top ten, without reading the whole vocabulary.

    Columns of the vocabulary are read in a random order, in ever larger pieces. A token with ten others seen above it
    is out of the top ten for certain; a vector with too few tokens left is dropped. The answer is exact: what is left
    at the end has been read in full.

    Args:
        tokens: directions of all tokens, [d_vocab, d_model].
        prepared: vectors, [n, d_model].
        ids: the tokens asked for, int64 [i].
        order: a permutation of the vocabulary, int64 [d_vocab].
        min_hits: of `ids`.

    Returns:
        Vectors left, int64 [m], and how many of the tokens each has in its top ten, int64 [m].
    """
    left = torch.arange(len(prepared), device=prepared.device)
    asked = prepared @ tokens[ids].T
    # Among themselves from one product: another one may round a token above itself.
    above = (asked[:, None, :] > asked[:, :, None]).sum(dim=2)
    order = order[~torch.isin(order, ids)].to(prepared.device)
    start, width = 0, _FIRST_COLUMNS
    while start < len(order) and len(left):
        logits = prepared[left] @ tokens[order[start : start + width]].T
        above += torch.stack([(logits > one[:, None]).sum(dim=1) for one in asked.unbind(dim=1)], dim=1)
        kept = (above < TOP).sum(dim=1) >= min_hits
        left, asked, above = left[kept], asked[kept], above[kept]
        start, width = start + width, 2 * width
    kept = (above < TOP).sum(dim=1) >= min_hits
    return left[kept], (above[kept] < TOP).sum(dim=1)
