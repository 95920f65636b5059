"""Claims about bigram subnetworks, on surprisals written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from interp import planted
from interp.findings import findings, get, judge, table
from probes import BigramModel
from probes.subnetworks import _trained, claims
from probes.subnetworks.search import _training as training
from probes.subnetworks.search._training import MaskSchedule, MaskTraining
from probes.subnetworks.search.find_subnetwork import RECIPES

BIGRAMS = BigramModel.from_transition(np.full((61, 61), 1 / 61))


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
    for call in (
        "interp findings --model MODEL --claim 'bigrams.*' --train",
        "findings(model, 'bigrams.*', train=True)",
    ):
        assert call in frame["reason"].iat[0]


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Few steps, few texts, and a cache of its own."""
    monkeypatch.setitem(RECIPES, "cpu", MaskSchedule(lr=0.1, growth=2.0, steps=3, batch=2, length=8, retries=0))
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.trained
def test_a_models_own_masks_are_trained_once_and_kept(short, small_subject, tmp_path, monkeypatch):
    """An interrupted training resumes, and a second call trains no step; the verdict says whose masks they are."""
    subject, texts = small_subject("gpt2", "bridge"), [f"w{n} w{n + 1} w{n + 2} w{n + 7} w4" for n in range(3, 11)]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(texts))
    steps, advance = [], MaskTraining._advance

    def counted(self, ids, report):
        if len(steps) == 4:
            steps.append("interrupted")
            raise KeyboardInterrupt
        steps.append(self.subject.name)
        advance(self, ids, report)

    monkeypatch.setattr(MaskTraining, "_advance", counted)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    ids = ["bigrams.needed", "bigrams.beyond_untrained"]
    with pytest.raises(KeyboardInterrupt):  # in the second training
        findings(subject, ids, texts=texts, train=corpus)
    frame = findings(subject, ids, texts=texts, train=corpus)
    assert len(steps) == 7 and len(set(steps)) == 3  # three steps of the model, three of the untrained one
    assert not frame["state"].isin(["skipped", "error"]).any(), frame["reason"].tolist()
    assert frame["caveats"].str.contains("this model's own, found by the recipe 'cpu'").all()
    assert (short / "subnetworks" / subject.fingerprint).is_dir()
    again = findings(subject, ids, texts=texts, train=corpus)
    assert len(steps) == 7 and again["effect"].equals(frame["effect"])


@pytest.mark.trained
def test_the_shipped_stories_train_where_no_corpus_is_given(short, small_subject, monkeypatch):
    """Without those that the claims read."""
    counted = []
    monkeypatch.setattr(_trained, "bigram_model", lambda subject, corpus: counted.append(corpus) or BIGRAMS)
    _trained.trained_for(small_subject("gpt2", "bridge"), None, 12)
    assert counted == [interp.dataset("stories")["text"].tolist()[12:]]


def test_verdicts_on_trained_masks_are_kept_apart(short, small_subject, tmp_path):
    """By what was trained on, and only those of claims that train: the others serve calls with and without it."""
    needed, other = get("bigrams.needed"), get("neurons.prediction")
    assert table._key_of(needed, False) != table._key_of(needed, True) != table._key_of(needed, "corpus")
    assert table._key_of(other, False) == table._key_of(other, True)
