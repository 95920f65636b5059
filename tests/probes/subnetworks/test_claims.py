"""Claims about bigram subnetworks, on surprisals written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from interp import planted
from interp.findings import findings, get, judge
from probes.subnetworks import claims


def surprisal_frame(n_prompts: int = 12) -> pd.DataFrame:
    """Bigram surprisals; the subnetwork adds a little noise, the unigram model a lot, and position 0 would spoil both.

    The intact model has 3 bits everywhere; without the subnetwork 7 (a little more by prompt), without random weights
    4, in shuffled rows 8.
    """
    random = np.random.default_rng(0)
    rows = []
    for prompt in range(n_prompts):
        for pos in range(40):
            bigram = random.gamma(2.0, 2.0)
            said = {
                ("only", "none"): bigram + 0.3 * random.normal(),
                ("only", "unigram"): bigram + 4.0 * random.normal(),
                ("only", "linear_map"): bigram + 0.3 * random.normal(),
                ("full", "none"): 3.0,
                ("minus", "none"): 7.0 + 0.25 * prompt / n_prompts,
                ("minus", "random"): 4.0,
                ("minus", "random_structured"): 8.0,
            }
            rows += [(prompt, pos, *key, 99.0 * prompt if pos == 0 else x, bigram) for key, x in said.items()]
    return pd.DataFrame(rows, columns=["prompt_id", "pos", "condition", "control", "surprisal", "bigram_surprisal"])


def bigram_state(frame: pd.DataFrame, id: str) -> str:
    claim = get(f"bigrams.{id}")
    values, control = claim.statistic(frame)
    return judge(
        values, control=control, **{claim.comparison.kind: getattr(claim.comparison, claim.comparison.kind)}
    ).state


def test_a_subnetwork_is_held_against_what_says_as_much_without_it():
    frame = surprisal_frame()
    states = {id: bigram_state(frame, id) for id in ("correlates", "beyond_unigrams", "needed", "needed_by_row")}
    assert states == {"correlates": "holds", "beyond_unigrams": "holds", "needed": "holds", "needed_by_row": "fails"}
    # A linear map with the same noise is as good: nothing is shown.
    assert bigram_state(frame, "beyond_linear_map") == "undecided"
    untrained = frame[frame["control"] == "linear_map"].assign(control=claims.UNTRAINED)
    assert bigram_state(pd.concat([frame, untrained]), "beyond_untrained") == "undecided"


def test_the_correlation_is_over_all_tokens_and_unseen_pairs_are_the_most_surprising():
    frame = surprisal_frame()
    unseen = frame["bigram_surprisal"] > 14
    assert unseen.any()
    own, _ = claims.follows_bigrams(
        frame.assign(bigram_surprisal=frame["bigram_surprisal"].mask(unseen, np.inf)), "unigram"
    )
    kept = frame.query("condition == 'only' and control == 'none' and pos > 0")
    known = kept["bigram_surprisal"].where(kept["bigram_surprisal"] <= 14)
    whole = np.corrcoef(kept["surprisal"], known.fillna(known.max()))[0, 1]
    # The jackknife's mean is the whole's correlation up to its bias, of order (1 - r^2) / tokens.
    assert own.mean() == pytest.approx(whole, abs=2e-3) and len(own) == 12


def test_what_is_lost_is_counted_from_the_intact_model():
    own, other = claims.lost_without(surprisal_frame(3), "random")
    assert own.tolist() == pytest.approx([4.0, 4.0 + 0.25 / 3, 4.0 + 0.5 / 3]) and other.tolist() == [1.0] * 3


def test_the_shipped_subnetwork_is_of_one_model():
    frame = findings(interp.load(planted.bigram().model), "bigrams.*")
    assert frame["state"].eq("skipped").all() and frame["reason"].nunique() == 1
    for call in ("probes.bigram_model(model,", "probes.find_subnetwork(model, bigrams", "bigrams=bigrams)"):
        assert call in frame["reason"].iat[0]
