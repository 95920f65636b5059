"""Compile the programs of `interp.planted.tracr` into `datasets/tracr`, in an environment of its own.

    git clone https://github.com/google-deepmind/tracr && git -C tracr checkout 9ce2b8c
    pip install ./tracr "jax==0.10.2" "dm-haiku==0.0.17" "chex==0.1.92" einops networkx
    python tests/interp/planted/compile_tracr.py datasets/tracr

Each file holds the weights that Tracr compiles, float32, in the orientation [out, in] of torch, with the rows of words
that the program writes as an unembedding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tracr.compiler import compiling
from tracr.compiler.lib import make_reverse
from tracr.rasp import rasp
from tracr.rasp.causal_eval import CausalEvaluator

WORDS = ("a", "b", "c", "d")
END = "end"  # the word from which "reverse" writes backwards, which no other program reads
LENGTH = 8  # longest input, without the word BOS that stands first


def hist() -> rasp.SOp:
    """Count how often the current word was read so far."""
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ))


def previous() -> rasp.SOp:
    """Return the word before the current one."""
    before = rasp.Map(lambda index: index - 1, rasp.indices)
    return rasp.Aggregate(rasp.Select(rasp.indices, before, rasp.Comparison.EQ), rasp.tokens)


def induction() -> rasp.SOp:
    """Return the word that followed the current one when it was last read, if it was read once before."""
    return rasp.Aggregate(rasp.Select(previous(), rasp.tokens, rasp.Comparison.EQ), rasp.tokens)


def reverse() -> rasp.SOp:
    """Write the words before "end" from the last to the first, in capitals, beginning at "end".

    Tracr's `make_reverse` has to write the last word at the first place: `literal_reverse` shows what is left of it.
    """
    everywhere = rasp.Map(lambda index: True, rasp.indices)  # of places: words that are only written are not read
    find_end = rasp.Select(rasp.Map(lambda word: word == END, rasp.tokens), everywhere, rasp.Comparison.EQ)
    mirrored = rasp.SequenceMap(
        lambda end, at: max(2 * end - 1 - at, -1) if end <= at else -1,
        rasp.Aggregate(find_end, rasp.indices),
        rasp.indices,
    )
    return rasp.Map(str.upper, rasp.Aggregate(rasp.Select(rasp.indices, mirrored, rasp.Comparison.EQ), rasp.tokens))


def literal_reverse(text: str) -> list[str]:
    """Return what Tracr's `make_reverse` gives under a causal mask, by Tracr's own evaluation.

    The length of what was read is always one more than the place, so that the mirrored place is the first one.
    """
    found: list[str] = CausalEvaluator().evaluate(make_reverse(rasp.tokens), text.split())
    return found


PROGRAMS: tuple[Callable[[], rasp.SOp], ...] = (hist, previous, induction, reverse)


def compiled(program: Callable[[], rasp.SOp]) -> dict[str, np.ndarray]:
    name = program.__name__
    vocab = {*WORDS, END} if program is reverse else set(WORDS)
    model = compiling.compile_rasp_to_model(
        program().named(name), vocab=vocab, max_seq_len=LENGTH, causal=True, compiler_bos="BOS"
    )
    params = {key: {part: np.asarray(one) for part, one in value.items()} for key, value in model.params.items()}
    spoken = model.input_encoder.encoding_map
    read = sorted((word for word in spoken if word != "compiler_pad"), key=spoken.__getitem__)
    written = [one for one in model.output_encoder.encoding_map if one != END.upper()]  # nothing asks for it
    words = [*read, *(str(one) for one in written if str(one) not in read)]
    labels = list(model.residual_labels)
    (label,) = {one.rsplit(":", 1)[0] for one in labels if one.startswith(f"{name}_") and ":" in one}
    head = np.zeros((len(words), len(labels)), dtype=np.float32)
    for one in written:
        head[words.index(str(one)), labels.index(f"{label}:{one}")] = 1
    found = {
        "words": np.array(words),
        "tok_embed": params["token_embed"]["embeddings"][[spoken[word] for word in read]],
        "pos": params["pos_embed"]["embeddings"],
        "head": head,
    }
    maps = {"q": "attn/query", "k": "attn/key", "v": "attn/value", "o": "attn/linear"}
    maps |= {"fc_in": "mlp/linear_1", "fc_out": "mlp/linear_2"}
    for layer in range(model.model_config.num_layers):
        for ours, theirs in maps.items():
            own = params[f"transformer/layer_{layer}/{theirs}"]
            found |= {f"{layer}.{ours}.weight": own["w"].T, f"{layer}.{ours}.bias": own["b"]}
    return found


if __name__ == "__main__":
    assert literal_reverse("a b c d") == ["a"] * 4
    for one in PROGRAMS:
        np.savez_compressed(Path(sys.argv[1]) / f"{one.__name__}.npz", **compiled(one))
