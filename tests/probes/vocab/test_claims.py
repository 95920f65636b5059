"""Claims about hardly learned tokens: statistics of frames written by hand, and models that do not suit them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from interp.findings import NotApplicable, judge
from interp.planted import copying
from interp.stats.ranking import auc
from probes.vocab import claims


def test_hardly_learned_is_a_verdict_of_the_two_lowest_kinds():
    verdicts = {
        "none": ["unlearned", "hardly learned", "doubtful", "learned"],
        "random": ["learned"] * 3 + ["doubtful"],
    }
    rows = [
        (control, token, prompt, verdict)
        for control, of in verdicts.items()
        for token, verdict in enumerate(of)
        for prompt in ("echo", "repeat")
    ]
    frame = pd.DataFrame(rows, columns=["control", "token_id", "prompt", "verdict"])
    candidates, others = claims.hardly_learned(frame)
    assert candidates.tolist() == [1, 1, 0, 0] and others.tolist() == [0, 0, 0, 0]
    assert judge(pd.Series([1.0] * 15 + [0.0] * 25), above="control", control=pd.Series([0.0] * 40)).state == "holds"


def test_the_mean_over_held_out_rows_is_the_auroc():
    random = np.random.default_rng(0)
    direction = np.concatenate([random.normal(0, 1, 30), random.normal(1, 1, 100), [9.0, 9.0]]).round(1)
    held_out = np.arange(132) < 30
    frame = pd.DataFrame({"direction": direction, "held_out": held_out, "category": ["ok"] * 130 + ["special"] * 2})
    assert 0.5 < claims.above_held_out(frame).mean() < 1
    assert claims.above_held_out(frame).mean() == pytest.approx(auc(-direction[:130], held_out[:130]))


def test_the_gap_is_that_of_the_rarest_and_of_the_commonest():
    rows = [(part, place, control, 5.0 - place, 6.0 - 0.5 * place) for part in range(3) for place in range(5)
            for control in ("none", "unigram")]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["part", "bin", "control", "loss", "unigram_loss"])
    rare, common = claims.gap_of_rare(frame)
    assert rare.tolist() == [1.0] * 3 and common.tolist() == [3.0] * 3


def test_a_vocabulary_that_does_not_suit_a_claim_is_said_to(small_subject):
    words = small_subject("gpt2", "bridge")
    for measure in (claims.lowest_directions, claims.lowest_norms):
        with pytest.raises(NotApplicable, match=r"2 % of its 58 ordinary tokens are 1, and 20 are needed"):
            measure(words, seed=0)
    with pytest.raises(NotApplicable, match="has no unused rows"):
        claims.half_held_out(words, seed=0)


def test_unused_rows_are_held_out_and_found(tokenizer_of, subject_with):
    """Sixty rows without a token that are alike, half of them known."""
    core = tokenizer_of("byte-level", [])
    n = core.get_vocab_size()
    subject = subject_with(core, n + 60)
    model = subject.backend.original
    model.transformer.wte.weight.data[n:] = 0.3 + 0.01 * model.transformer.wte.weight.data[n:]
    frame = claims.half_held_out(interp.load(model, tokenizer=subject.tokenizer), seed=0)
    assert frame["held_out"].sum() == 37 and set(frame["reference"]) == {"given"}  # 60 rows and 13 bytes, half of them
    found = claims.above_held_out(frame)
    assert found[found.index >= n].eq(1).all()


def test_parts_share_the_counts_of_all():
    texts = pd.DataFrame({"text": [f"w{a} w{a + 1} w{a} w3 w3 w{b}" for a in range(6) for b in range(4)]})
    frame = claims.loss_of_parts(interp.load(copying(12).model), texts, truncate=False)
    assert frame["part"].nunique() == 12 and frame["run_id"].nunique() == 12
    parameters = {str(one["parameters"]) for one in frame.interp.runs.values()}
    assert len(parameters) == 1
