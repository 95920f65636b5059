"""Texts in which sets of tokens are replaced share their beginnings, which are read once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import interp
from interp.runs import cost
from probes import attribute, faithfulness
from probes.attribution._last_position import log_prob_and_rank, read_last
from probes.attribution._replacements import replacements
from probes.attribution.faithfulness import _removal
from probes.attribution.faithfulness._deletion import Ranking, sets_of
from probes.attribution.faithfulness._removal import Passage, set_function

ROUNDING = 1e-5  # two float32 forward passes in batches of different make-up
N = 12
PASSAGE = Passage(np.arange(1, N + 1), 5, np.eye(N, dtype=bool)[1:])


@pytest.fixture
def sets() -> np.ndarray:
    rng = np.random.default_rng(0)
    rankings = [Ranking.of_order(rng.permutation(N - 1)) for _ in range(4)]
    return sets_of(rankings, range(N))


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3_text"])
def test_shared_texts_give_the_probabilities_of_whole_ones(small_subject, any_backend, sets, architecture):
    subject = small_subject(architecture, any_backend)
    (table,) = replacements("unigram", subject, [torch.from_numpy(PASSAGE.ids)])
    function = set_function(subject, PASSAGE, "unigram", table, fill=None, n_samples=3, log=False, seed=0)
    drawn = table.draw(_removal.generator_for(0, PASSAGE.ids, "removal").random((3, N)))
    texts = [
        [int(own if stays else other) for own, stays, other in zip(PASSAGE.ids, intact, draw, strict=True)]
        for intact in np.concatenate([np.ones((len(sets), 1), dtype=bool), sets], axis=1)
        for draw in drawn
    ]
    lengths, targets = torch.full((len(texts),), N), torch.full((len(texts),), PASSAGE.target_id)
    whole = read_last(subject, torch.tensor(texts), lengths, log_prob_and_rank(targets))[:, 0].exp()
    np.testing.assert_allclose(function(sets).ravel(), whole.numpy(), atol=ROUNDING)


def test_nested_sets_read_about_half_of_the_tokens(small_model, word_level, any_backend, sets, monkeypatch):
    subject = interp.load(small_model("llama"), backend=any_backend, tokenizer=word_level)  # which nobody else hooks
    (table,) = replacements("unigram", subject, [torch.from_numpy(PASSAGE.ids)])
    function = set_function(subject, PASSAGE, "unigram", table, fill=None, n_samples=1, log=False, seed=0)
    function(sets[:2])  # tries the model on a tree
    read: list[int] = []
    of_tree = subject.backend.tree_logits
    monkeypatch.setattr(
        subject.backend, "tree_logits", lambda ids, *given: read.append(len(ids)) or of_tree(ids, *given)
    )
    function(sets)
    assert 0 < sum(read) < 0.6 * N * len(sets)


def test_the_cost_that_is_said_is_of_the_texts_that_are_read(small_subject, monkeypatch, capsys):
    subject = small_subject("gpt2", "bridge")
    frame = attribute(subject, ["w3 w4 w5 w6 w7 w8 w9", "w20 w21 w22 w23"], methods=("norm", "random"))
    counted: list[int] = []
    for name in ("read_alike", "read_last"):
        whole = getattr(_removal, name)
        spied = lambda *given, whole=whole, **more: counted.append(len(given[1])) or whole(*given, **more)  # noqa: E731
        monkeypatch.setattr(_removal, name, spied)
    monkeypatch.setattr(cost, "_speed", lambda subject: 1.0)
    monkeypatch.setattr(cost, "_SURELY_SHORT", 1.0)
    with interp.options.local(progress=True):
        faithfulness(subject, frame, metrics=["aopc", "soft_ns"], n_random=3, n_draws=3, n_samples=2)
    said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("faithfulness: about"))
    n_texts = int(said.split()[-2].replace(",", ""))
    full, null = 2 * 2, 2 * 2  # the intact prompts, and those whose every token is replaced, are among the sets already
    assert n_texts == pytest.approx(sum(counted), abs=full + null) and "forward passes" in said
