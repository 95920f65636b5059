"""Models whose answer is known in closed form; every probe is tested on them.

`bias_ladder`  every block lifts one token's logit; log-prob, rank, entropy and KL at every layer by formula
`copying`      uniform attention; the logits are the counts of the tokens so far
`bigram`       an MLP that holds a whole transition matrix
`cue`          one token, at any position, determines every later prediction
`tracr`        programs that Tracr compiled: which heads and MLPs they need is known, and the weights are not ours
`two_step`     the second block reads the output of the first; deleting or swapping them has known answers

Each returns `Planted(model, tokenizer, truth)`. Every truth but `TracrTruth` has `logits(ids, schedule)`, the final
logits when the blocks in `schedule` run in that order (a deletion, a swap), `lens(ids)`, the logit-lens logits at
layers 0..L, and `layout`, the indices of the planted and the noise blocks. A module and its function have different
names, so that both can be imported.
"""

from interp.planted._build import Planted
from interp.planted.bigrams import BigramTruth, bigram
from interp.planted.compiled import TracrTruth, tracr
from interp.planted.copies import CopyTruth, copying
from interp.planted.cues import CueTruth, cue
from interp.planted.ladder import LadderTruth, bias_ladder
from interp.planted.tokenizer import word_tokenizer
from interp.planted.two_steps import TwoStepTruth, two_step

__all__ = [
    "BigramTruth",
    "CopyTruth",
    "CueTruth",
    "LadderTruth",
    "Planted",
    "TracrTruth",
    "TwoStepTruth",
    "bias_ladder",
    "bigram",
    "copying",
    "cue",
    "tracr",
    "two_step",
    "word_tokenizer",
]
