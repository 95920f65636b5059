"""Example arguments."""

from __future__ import annotations

import pandas as pd

import interp
from interp.authoring import running_text
from interp.runs.holdout import fitted_tokens


def test_running_text_is_what_a_fit_asks_for_and_hardly_more():
    subject = interp.load("reference")
    needed = 20 * subject.d_model
    texts = running_text(subject, pd.DataFrame({"text": ["Once upon a time"]}))["texts"]
    assert needed <= fitted_tokens(subject.tokens(texts), 0.2, 0) < 1.1 * needed
    assert running_text(subject, texts) == {}
