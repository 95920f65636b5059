"""Subjoiner heads: words told from tokens, pairs matched by distance, and heads planted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import interp
from interp.errors import InputError, ModelError
from probes import subjoiner_heads
from probes.attention._word_pairs import word_pairs
from probes.attention.subjoiner_heads import both_weighted, distance_only

pytestmark = pytest.mark.trained

TOKENS = [
    "<s>",
    " the",
    " big",
    " old",
    " red",
    " un",
    "hap",
    "py",
    " cat",
    " dog",
    ",",
    " it",
    " sat",
    " o",
    "n",
    " a",
]
TOKENS += [" b"]
#            0      1       2       3       4      5      6      7      8       9     10    11     12     13   14    15


def test_pairs_are_of_a_words_last_token_and_those_before_it() -> None:
    table = word_pairs(TOKENS)
    within = table[table["across"] == 0]
    assert within[["query", "key"]].values.tolist() == [[7, 5], [7, 6], [14, 13]]
    assert within["weight"].tolist() == pytest.approx([1 / 3] * 3)
    across = table[table["across"] == 1].set_index(["query", "key"])["weight"]
    # From the nearest ends of words before and after with as many tokens back outside the word, by log position.
    one, other = np.log(7 / 4) / np.log(8 / 4), np.log(14 / 12) / np.log(15 / 12)
    known = {(4, 3): 1 - one, (8, 7): one, (4, 2): 1 - one, (8, 6): one, (12, 11): 1 - other, (15, 14): other}
    assert across.to_dict() == pytest.approx({pair: weight / 3 for pair, weight in known.items()})


FILLER = [" zu"] * 8


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([" a", "b", "'", "s"], 1),  # an apostrophe ends a word
        ([" 12", "34"], 0),  # digits are no words
        ([" \n", "ab", "cd", " e", " f"], 1),  # a word may follow a line break
        ([" ab", " cd", " ef"], 0),
        ([" ab", "cd", " ef", "gh"], 2),
    ],
)
def test_words_by_the_leading_space(tokens: list[str], words: int) -> None:
    table = word_pairs(["<s>", *FILLER, *tokens, *FILLER])
    assert table[table["across"] == 0]["query"].nunique() == words


def test_position_0_is_no_key_and_pairs_need_neighbours_near_them() -> None:
    assert word_pairs(["ab", "cd", "ef", *FILLER]).empty  # nothing before
    assert word_pairs([*FILLER, " ab", "cd"]).empty  # nothing after
    assert word_pairs(["<s>", *FILLER, " ab", "cd", *["."] * 9, " zu"]).empty  # 8 and 20 lie more than twice as far
    table = word_pairs(["ab", "cd", *FILLER, " ab", "cd", *FILLER])
    assert (table["key"] > 0).all() and len(table)


def scores(pattern: Tensor, tokens: list[str] = TOKENS) -> np.ndarray:
    """Scores [head] and those of the control, of a pattern [head, query, key]: [2, head]."""
    totals = both_weighted(pattern, word_pairs(tokens))
    return totals[:, 0] - totals[:, 1]


def test_heads_made_by_hand() -> None:
    n = len(TOKENS)
    joiner, fixed, even = torch.zeros(3, n, n).unbind()
    for query, start in ((7, 5), (14, 13)):
        joiner[query, start:query] = 1 / (query - start)
    for query in range(2, n):
        fixed[query, query - 2 : query] = 0.5  # one and two tokens back, whatever stands there
    even[:] = 0.1
    own, control = scores(torch.stack([joiner, fixed, even]))
    np.testing.assert_allclose(own, [2 / 3, 0.0, 0.0], atol=1e-7)  # float32 entries
    np.testing.assert_allclose(control[1:], 0.0, atol=5e-3)  # the rows of `even` do not add up to 1
    assert control[0] < 0.1


def story(n_words: int, seed: int) -> list[str]:
    """Words of one to four tokens, with long ones late in the text, as names are."""
    rng = np.random.default_rng(seed)
    sizes = [1 + rng.binomial(3, 0.1 + 0.4 * place / n_words) for place in range(n_words)]
    return ["<s>", *(" a" if not piece else "b" for size in sizes for piece in range(size))]


def by_distance(n: int, share: Callable[[Tensor], Tensor], sink: float = 0.0) -> Tensor:
    """A causal pattern [n, n] that gives each distance its share, and position 0 a share of its own."""
    at = torch.arange(n, dtype=torch.float64)
    pattern = share(at[:, None] - at).tril()
    pattern[:, 0] = 0
    return pattern / pattern.sum(dim=1, keepdim=True).clamp(min=1e-30) * (1 - sink) + sink * (at == 0)


@pytest.mark.parametrize("sink", [0.0, 0.6])
def test_attention_that_depends_on_distance_alone_scores_nothing(sink: float) -> None:
    """The places of both conditions' queries decide what is left of 1 / distance once attention adds up to 1."""
    found, unmatched = [], []
    for seed in range(8):
        tokens = story(60, seed)
        n = len(tokens)
        heads = [
            by_distance(n, lambda back: 1 / back.clamp(min=1), sink),
            by_distance(n, lambda back: (back > 0) / (back.clamp(min=1) + 3), sink),
            by_distance(n, lambda back: torch.exp(-back / 8), sink),
        ]
        found.append(scores(torch.stack(heads), tokens))
        pairs = word_pairs(tokens)
        weight = 1 / pairs.groupby(["distance", "across"])["weight"].transform("size").to_numpy()
        entries = heads[0].numpy()[pairs["query"], pairs["key"]] * weight
        unmatched.append(entries[pairs["across"] == 0].sum() - entries[pairs["across"] == 1].sum())
    # 1 / log(position) is interpolated between neighbours a few tokens apart.
    assert np.abs(np.mean(found, axis=0)).max() < 5e-4
    assert abs(np.mean(unmatched)) > 1e-2 * (1 - sink)  # the distances alone do not match the positions


def test_the_control_is_the_heads_own_attention_by_distance() -> None:
    n, generator = 12, torch.Generator().manual_seed(0)
    pattern = torch.rand(2, n, n, generator=generator, dtype=torch.float64).tril()
    pattern /= pattern.sum(dim=-1, keepdim=True)
    query, key = torch.tensor([3, 7, 11]), torch.tensor([1, 6, 1])
    found = distance_only(pattern, query, key)
    for head in range(2):
        means = [np.mean([float(pattern[head, q, q - d]) for q in range(d + 1, n)]) for d in range(n - 1)]
        for place, (q, k) in enumerate(zip(query.tolist(), key.tolist(), strict=True)):
            known = (1 - float(pattern[head, q, 0])) * means[q - k] / sum(means[:q])
            assert float(found[head, place]) == pytest.approx(known, rel=1e-9)


def test_weights_of_either_kind_add_up_to_one_over_the_same_distances() -> None:
    table = word_pairs(TOKENS * 3)
    totals = table.pivot_table(index="distance", columns="across", values="weight", aggfunc="sum")
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-12)
    assert totals[0].sum() == pytest.approx(1.0)


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
TEXTS = ["a b c abc de a bcd fg a b hi j cde a b", "ab a ab c de f g hij a b cd e f", "j i h ab c d efg a b cd e"]


def test_equals_a_plain_loop_on_both_backends(
    small_model: Callable[..., torch.nn.Module], letters: PreTrainedTokenizerFast, any_backend: str
) -> None:
    model = small_model("gpt2", attn_implementation="eager")
    subject = interp.load(model, backend=any_backend, tokenizer=letters)
    whole = subjoiner_heads(subject, subject.tokens(TEXTS, bos=True))
    frame = whole[whole["control"] == "none"]
    assert frame[["layer", "head"]].values.tolist() == [[layer, head] for layer in range(4) for head in range(4)]
    expected, n_pairs = [], 0
    for text in TEXTS:
        words = text.split()
        ends = np.cumsum([len(word) for word in words])  # position 0 is the start token
        starts = ends - [len(word) for word in words] + 1
        ids = torch.tensor([[letters.bos_token_id, *letters(text, add_special_tokens=False)["input_ids"]]])
        assert ids.shape[1] == ends[-1] + 1
        with torch.no_grad():
            patterns = torch.stack(model(ids, output_attentions=True).attentions)[:, 0].numpy()
        back: dict[int, list[int]] = {}
        for start, end in zip(starts, ends, strict=True):
            for key in range(1, start):
                back.setdefault(end - key, []).append(end)
        gaps = []
        for start, end in zip(starts, ends, strict=True):
            for key in range(start, end):
                before = max((other for other in back.get(end - key, []) if other < end), default=None)
                after = min((other for other in back.get(end - key, []) if other > end), default=None)
                if before is None or after is None or after > 2 * before:
                    continue
                low, high = (patterns[:, :, other, other - (end - key)] for other in (before, after))
                there = low + (high - low) * (np.log(end) - np.log(before)) / (np.log(after) - np.log(before))
                gaps.append(patterns[:, :, end, key] - there)  # [layer, head]
        n_pairs += len(gaps)
        expected.append(np.mean(gaps, axis=0))
    np.testing.assert_allclose(frame["score"], np.mean(expected, axis=0).flatten(), atol=1e-5)
    assert (frame["score_low"] <= frame["score"]).all() and (frame["score"] <= frame["score_high"]).all()
    assert frame["n_prompts"].eq(3).all()
    assert frame["n_pairs"].eq(n_pairs).all() and n_pairs > 10
    control = whole[whole["control"] == "distance_only"]
    assert control["score"].abs().mean() < 0.5 * frame["score"].abs().mean()  # these heads look at words, not distances


def test_the_summary_and_the_figure(
    small_model: Callable[..., torch.nn.Module], letters: PreTrainedTokenizerFast
) -> None:
    frame = subjoiner_heads(interp.load(small_model("gpt2"), tokenizer=letters), TEXTS)
    own = frame[frame["control"] == "none"]
    summary = frame.interp.summary()
    assert summary["n_heads"].tolist() == [4] * 4
    assert summary["score"].tolist() == own.groupby("layer")["score"].max().tolist()
    axes = frame.interp.plot().axes[0]
    assert axes.get_xlabel() == "head"
    np.testing.assert_array_equal(axes.images[0].get_array(), own.pivot(index="layer", columns="head", values="score"))


def test_heads_are_counted_after_holm_and_from_the_least_score_on(
    small_model: Callable[..., torch.nn.Module], letters: PreTrainedTokenizerFast
) -> None:
    """Three of 16 heads have smaller values of p, so that these four are multiplied by 13, 12, 11 and 1."""
    frame = subjoiner_heads(interp.load(small_model("gpt2"), tokenizer=letters), TEXTS)
    own = frame["control"] == "none"
    frame["p"], frame["score"] = 0.5, 0.1
    frame.loc[own & (frame["layer"] == 0), "p"] = [0.001, 0.004, 0.005, 0.9]
    frame.loc[own & (frame["layer"] == 1), ["p", "score"]] = [[1e-6, 0.049], [1e-6, -0.2], [1e-6, 0.05], [0.5, 0.3]]
    frame.loc[~own & (frame["layer"] == 3) & (frame["head"] == 2), "p"] = 1e-6
    summary = frame.interp.summary()
    assert summary["n_above"].tolist() == [2, 1, 0, 0]
    assert summary["n_above_chance"].tolist() == [0, 0, 0, 1]


def test_an_untrained_model_has_no_subjoiners(small_config: Callable[..., object], letters: object) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small_config("gpt2", n_layer=8)).eval()
    rng = np.random.default_rng(0)
    texts = [
        " ".join("".join(rng.choice(list("abcdefghij"), 1 + rng.integers(3))) for _ in range(20)) for _ in range(20)
    ]
    frame = subjoiner_heads(interp.load(model, tokenizer=letters), texts)
    assert frame.interp.summary()[["n_above", "n_above_chance"]].sum().sum() == 0
    assert frame["score"].abs().max() < 0.01


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
    with pytest.raises(ModelError, match="shows no pattern: pattern @ v is not z"):
        subjoiner_heads(interp.load(small_model("diffllama"), backend="nnsight", tokenizer=letters), TEXTS)
