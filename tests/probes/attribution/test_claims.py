"""Claims about attributions, on models whose causes are known and on a frame written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import interp
from interp import planted
from interp.findings import findings, get
from probes.attribution import claims


def test_normxlogit_finds_causes_where_its_own_stream_is_what_is_copied(state_of):
    """Uniform attention: a token that equals the target is the cause, and its own logit says so."""
    random = np.random.default_rng(0)
    texts = []
    for _ in range(24):  # one word five times among five others, and last, so that the argmax is clear
        words = random.permutation(12)
        texts.append(" ".join(f"w{word}" for word in [*random.permutation([*[words[0]] * 4, *words[1:6]]), words[0]]))
    copying = interp.load(planted.copying().model)
    assert state_of(copying, "normxlogit.finds_causes", texts) == "holds"


def test_normxlogit_finds_no_cause_where_only_the_last_token_matters(planted_texts):
    """No attention: removing an earlier token changes nothing, so that there is no order to agree with."""
    frame = findings(interp.load(planted.bigram().model), replace(get("normxlogit.finds_causes"), texts=planted_texts))
    assert frame["state"].iat[0] == "undecided" and frame["n"].iat[0] == 0
    assert frame["n_skipped"].iat[0] == len(planted_texts)


def test_metrics_are_taken_of_the_method_itself():
    rows = [
        (prompt, method, "comprehensiveness", control, value, value / 2)
        for prompt in range(3)
        for method, control, value in (("reagent", "none", 0.4), ("reagent", "permuted", 9.0), ("logit", "none", 0.2))
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "method", "metric", "control", "value", "value_random"])
    values, shuffled = claims.against_shuffles(frame, "reagent", "comprehensiveness")
    assert values.tolist() == [0.4] * 3 and shuffled.tolist() == [0.2] * 3
    values, other = claims.against_method(frame, "reagent", "logit", "comprehensiveness")
    assert values.tolist() == [0.4] * 3 and other.tolist() == [0.2] * 3


def test_integrated_gradients_that_do_not_add_up_are_said_in_the_verdict(planted_texts, monkeypatch):
    """One step is too few for any curve: the warning of the method is a caveat of the claim that rests on it."""
    monkeypatch.setitem(claims._METHODS, "integrated_gradients", {"n_steps": 1})
    claim = replace(get("normxlogit.beats_gradients"), texts=planted_texts[:6], n_texts=None)
    with pytest.warns(UserWarning, match="have not converged"):
        frame = findings(interp.load(planted.two_step().model), claim, n_resamples=99)
    said = frame["caveats"].iat[0]
    assert said.startswith("integrated gradients of ") and said.endswith("raise n_steps=1.")
    assert frame["state"].iat[0] in ("holds", "fails", "undecided") and said in frame["reason"].iat[0]
