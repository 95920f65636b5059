"""The loss by frequency: in closed form on a bigram model, against plain PyTorch, and of the frequencies themselves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import interp
from interp.planted import bigram
from interp.planted.bigrams import random_transition
from probes import loss_by_frequency
from probes.vocab.loss_by_frequency import _bins

V = 40
TEXTS = [" ".join(f"w{(start + step * step) % V}" for step in range(30)) for start in (0, 3, 11, 12)]


def pairs(tokenizer, texts) -> np.ndarray:
    """Each token with the next, [n, 2]."""
    ids = [tokenizer(text)["input_ids"] for text in texts]
    return np.array([pair for one in ids for pair in pairwise(one)])


def test_the_loss_of_each_type_is_that_of_the_matrix():
    """With as many bins as counts, and one type each, a bin is a type."""
    planted = bigram(random_transition(V, 0))
    law = planted.truth.transition.numpy()
    now, target = pairs(planted.tokenizer, TEXTS).T
    counts = np.random.default_rng(0).permutation(np.arange(1.0, V + 1))  # no two are equal
    frame = loss_by_frequency(planted.model, TEXTS, counts=counts, n_bins=500)
    types = np.unique(target)
    types = types[counts[types].argsort()]
    model = frame[frame["control"] == "none"].sort_values("bin")
    assert (model["n_types"] == 1).all() and len(model) == len(types)
    of = [now[target == one] for one in types]
    assert model["n_targets"].tolist() == [len(one) for one in of]
    want = [-np.log(law[before, one]).mean() for before, one in zip(of, types, strict=True)]
    assert model["loss"].to_numpy() == pytest.approx(want, abs=1e-5)  # float32 logits
    assert model["loss_macro"].to_numpy() == pytest.approx(model["loss"].to_numpy())
    entropies = -(law * np.log(law)).sum(axis=1)
    assert model["entropy"].to_numpy() == pytest.approx([entropies[before].mean() for before in of], abs=1e-5)
    share = np.array([(target == one).mean() for one in types])
    assert model["calibration"].to_numpy() == pytest.approx(law[now].mean(axis=0)[types] - share, abs=1e-6)
    assert model["unigram_loss"].to_numpy() == pytest.approx(-np.log(counts[types] / counts.sum()))


@pytest.mark.parametrize("match", ["types", "targets"])
def test_a_unigram_model_has_no_gap_to_the_frequencies(match):
    law = torch.arange(1, V + 1, dtype=torch.float64) / (V * (V + 1) / 2)
    frame = loss_by_frequency(
        bigram(law.expand(V, V)).model, TEXTS, counts=(1000 * law).tolist(), n_bins=5, match=match
    ).set_index("control")
    gap = frame.loc["none", "loss"] - frame.loc["none", "unigram_loss"]
    assert gap.to_numpy() == pytest.approx(0, abs=1e-5)  # float32 logits
    for column in ("loss", "loss_macro", "entropy", "calibration"):
        assert frame.loc["none", column].to_numpy() == pytest.approx(frame.loc["unigram", column].to_numpy(), abs=1e-5)


@pytest.mark.parametrize("match", ["types", "targets"])
def test_the_bins_add_up_to_the_loss_of_the_whole(any_backend, small_model, word_level, match):
    model = small_model("gpt2")
    subject = interp.load(model, backend=any_backend, tokenizer=word_level)
    texts = ["w3 w4 w5 w3 w3 w9 w4", "w8 w3", "w20 w21 w22 w3 w4"]
    frame = loss_by_frequency(subject, texts, n_bins=3, match=match)
    losses = []
    for text in texts:
        ids = word_level(text, return_tensors="pt")["input_ids"]
        losses.append(torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none"))
    found = frame[frame["control"] == "none"]
    total = (found["loss"] * found["n_targets"]).sum() / found["n_targets"].sum()
    assert total == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert found["n_targets"].sum() == len(torch.cat(losses)) and found["n_types"].sum() == 8


def test_tokens_that_were_never_counted_are_by_themselves():
    counts = np.arange(V, dtype=float)
    frame = loss_by_frequency(bigram(vocab=V).model, ["w0 w1 w0 w2 w0 w3"], counts=counts, n_bins=2)
    apart = frame[(frame["bin"] == -1) & (frame["control"] == "none")].iloc[0]
    assert (apart["n_types"], apart["n_targets"]) == (1, 2) and np.isnan(apart["unigram_loss"])
    assert frame.loc[frame["bin"] >= 0, "unigram_loss"].notna().all()
    axes = frame.interp.plot().axes[0]
    assert axes.get_lines()[0].get_label() == "the frequencies alone"


def test_bins_hold_equal_numbers_of_types_or_of_targets():
    count, n = np.arange(1, 101), np.array([1] * 50 + [3] * 50)
    assert np.bincount(_bins(count, n, 10, "types")).tolist() == [10] * 10
    targets = np.bincount(_bins(count, n, 10, "targets"), n)
    assert targets.sum() == 200 and np.abs(targets - 20).max() <= 3
    assert set(_bins(np.array([1, 1, 1, 1, 7]), np.ones(5, int), 5, "types")[:4]) == {2}  # equal counts stand together
