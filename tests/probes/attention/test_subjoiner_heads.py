"""Subjoiner heads: words told from tokens, pairs matched by distance, and heads planted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import interp
from interp.errors import InputError, ModelError
from probes import subjoiner_heads
from probes.attention.subjoiner_heads import _weighted, word_pairs

pytestmark = pytest.mark.trained

TOKENS = ["<s>", " the", " un", "hap", "py", " cat", ",", " sat", "ur", "n"]
#            0      1      2      3     4      5       6     7      8     9


def test_pairs_are_of_a_words_last_token_and_those_before_it() -> None:
    table = word_pairs(TOKENS)
    within = table[table["across"] == 0]
    assert within[["query", "key"]].values.tolist() == [[4, 2], [4, 3], [9, 7], [9, 8]]
    assert within["weight"].tolist() == [0.25] * 4
    across = table[table["across"] == 1]
    # From the ends of words, as far back as within words: one or two tokens, the comma being one to look at.
    assert across[["query", "key"]].values.tolist() == [[5, 3], [5, 4]]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["<s>", " a", "b", "'", "s"], 1),  # an apostrophe ends a word
        (["<s>", " 12", "34"], 0),  # digits are no words
        (["<s>", " \n", "ab", "cd", " e", " f"], 1),  # a word may follow a line break
        (["<s>", " ab", " cd", " ef"], 0),
        (["ab", "cd", "ef", " x", " y"], 1),  # position 0 is no key
    ],
)
def test_words_by_the_leading_space(tokens: list[str], words: int) -> None:
    table = word_pairs([*tokens, " zu", " zu", " zu"])
    assert table[table["across"] == 0]["query"].nunique() == words


def score(pattern: Tensor) -> Tensor:
    """Score per head of a pattern [head, query, key] over TOKENS."""
    totals = _weighted(pattern[None], word_pairs(TOKENS).assign(row=0))
    return torch.tensor(totals[0, 0] - totals[0, 1])


def test_heads_made_by_hand() -> None:
    n = len(TOKENS)
    joiner, fixed, even = torch.zeros(3, n, n).unbind()
    for query, start in ((4, 2), (9, 7)):
        joiner[query, start:query] = 1 / (query - start)
    for query in range(2, n):
        fixed[query, query - 2 : query] = 0.5  # one and two tokens back, whatever stands there
    even[:] = 0.1
    found = score(torch.stack([joiner, fixed, even]))
    np.testing.assert_allclose(found, [0.5, 0.0, 0.0], atol=1e-7)  # float32 entries


def test_weights_of_either_kind_add_up_to_one_over_the_same_distances() -> None:
    table = word_pairs(TOKENS * 3)
    by_distance = table.pivot_table(index="distance", columns="across", values="weight", aggfunc="sum")
    np.testing.assert_allclose(by_distance[0], by_distance[1], rtol=1e-12)
    assert by_distance[0].sum() == pytest.approx(1.0)


@pytest.fixture(scope="module")
def letters() -> PreTrainedTokenizerFast:
    """Every letter a token, and letters behind a space other ones: every word is of as many tokens as letters."""
    marked = [f"Ġ{letter}" for letter in "abcdefghij"]
    names = ["<pad>", "<s>", "</s>", "Ġ", *"abcdefghij", *marked]
    core = Tokenizer(BPE({name: at for at, name in enumerate(names)}, [("Ġ", letter) for letter in "abcdefghij"]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


# One-letter words make the comparison one token back, which longer words alone never give.
TEXTS = ["abc de fgh a bcd", "ab a ab cde fg", "jihg fe dcba a a"]


def test_equals_a_plain_loop_on_both_backends(
    small_model: Callable[..., torch.nn.Module], letters: PreTrainedTokenizerFast, any_backend: str
) -> None:
    model = small_model("gpt2", attn_implementation="eager")
    subject = interp.load(model, backend=any_backend, tokenizer=letters)
    frame = subjoiner_heads(subject, subject.tokens(TEXTS, bos=True))
    assert frame[["layer", "head"]].values.tolist() == [[layer, head] for layer in range(4) for head in range(4)]
    expected, n_pairs = [], 0
    for text in TEXTS:
        words = text.split()
        ends = np.cumsum([len(word) for word in words])  # position 0 is the start token
        starts = ends - [len(word) for word in words] + 1
        ids = torch.tensor([[letters.bos_token_id, *letters(text, add_special_tokens=False)["input_ids"]]])
        assert ids.shape[1] == ends[-1] + 1
        with torch.no_grad():
            patterns = torch.stack(model(ids, output_attentions=True).attentions)[:, 0]  # [layer, head, query, key]
        back: dict[int, list[Tensor]] = {}
        for start, end in zip(starts, ends, strict=True):
            for key in range(1, start):
                back.setdefault(end - key, []).append(patterns[:, :, end, key])
        gaps = [
            patterns[:, :, end, key] - torch.stack(back[end - key]).mean(dim=0)
            for start, end in zip(starts, ends, strict=True)
            for key in range(start, end)
            if end - key in back
        ]
        n_pairs += len(gaps)
        expected.append(torch.stack(gaps).mean(dim=0))
    np.testing.assert_allclose(frame["score"], torch.stack(expected).mean(dim=0).flatten(), atol=1e-5)
    assert (frame["score_low"] <= frame["score"]).all() and (frame["score"] <= frame["score_high"]).all()
    assert frame["n_prompts"].eq(3).all()
    assert frame["n_pairs"].eq(n_pairs).all() and n_pairs > 10


def test_the_summary_and_the_figure(
    small_model: Callable[..., torch.nn.Module], letters: PreTrainedTokenizerFast
) -> None:
    frame = subjoiner_heads(interp.load(small_model("gpt2"), tokenizer=letters), TEXTS)
    summary = frame.interp.summary()
    assert summary["n_heads"].tolist() == [4] * 4
    assert summary["score"].tolist() == frame.groupby("layer")["score"].max().tolist()
    assert frame.interp.plot().axes[0].get_xlabel() == "head"


def test_without_words_of_several_tokens_there_is_nothing_to_join(
    small_subject: Callable[[str, str], interp.Subject],
) -> None:
    with pytest.raises(InputError, match="no word of these texts has several tokens"):
        subjoiner_heads(small_subject("gpt2", "bridge"), ["w3 w4 w5"])


def test_models_without_a_tokenizer_or_without_a_pattern_are_refused(
    small_model: Callable[..., torch.nn.Module], letters: PreTrainedTokenizerFast, ids: Tensor
) -> None:
    with pytest.raises(InputError, match="came without a tokenizer"):
        subjoiner_heads(interp.load(small_model("gpt2")), ids)
    with pytest.raises(ModelError, match="nothing passed through pattern of block"):
        subjoiner_heads(interp.load(small_model("opt"), backend="bridge", tokenizer=letters), TEXTS)
