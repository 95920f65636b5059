"""Claims about the law and the microscope, on frames written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.findings import NotApplicable, findings, get, judge
from probes.geometry import claims


def law_frame(slope: float, shuffled: float, bend: float = 0.0, noise: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (part, layer, control, of * layer + bend * (layer % 2) + noise * random.normal())
        for part in range(12)
        for control, of in (("none", slope), ("shuffled_vocabulary", shuffled))
        for layer in range(9)
    ]
    frame = pd.DataFrame(rows, columns=["part", "layer", "control", "log10_residual"])
    return frame.assign(response="next", sample="in_sample")


def test_the_law_holds_of_a_line_and_fails_of_a_zigzag():
    values, control = claims.straightness(law_frame(-0.05, -0.01))
    assert values.tolist() == pytest.approx([-1.0] * 12) == control.tolist()
    line, zigzag = (law_frame(-0.05, -0.01, bend=bend, noise=0.003) for bend in (0.0, 0.5))
    assert judge(claims.straightness(line)[0], at_most=-0.95).state == "holds"
    assert judge(claims.straightness(zigzag)[0], at_most=-0.95).state == "fails"
    slopes, renamed = claims.steepness(law_frame(-0.05, -0.01))
    assert slopes.tolist() == pytest.approx([-0.05] * 12) and renamed.tolist() == pytest.approx([-0.01] * 12)


def test_linearity_is_what_the_map_explains_of_a_prompt():
    frame = pd.DataFrame(
        {"prompt_id": 0, "pos": [0, 1, 2], "layer": 0, "nonlinearity": [9.0, 1.0, 2.0], "size": [9.0, 5.0, 5.0]}
    )
    linear, carried = claims.linearity(frame.assign(update=[9.0, 3.0, 4.0]))
    assert linear.tolist() == [1 - (1 + 4) / (25 + 25)] and carried.tolist() == [1 - (9 + 16) / (25 + 25)]


@given(st.lists(st.integers(1, 90), max_size=120), st.integers(1, 24))
def test_no_part_has_fewer_than_five_tokens_per_dimension(lengths, d_model):
    def fit(n):
        return all(sum(lengths[part::n]) >= 5 * d_model for part in range(n))

    possible = [n for n in range(5, 13) if fit(n)]
    if not possible:
        with pytest.raises(NotApplicable, match="too few for 5 parts"):
            claims.n_parts_of(np.array(lengths, dtype=int), d_model)
    else:
        assert claims.n_parts_of(np.array(lengths), d_model) == possible[-1]


def test_the_law_is_refused_on_few_texts_and_fitted_to_parts_of_enough(small_subject):
    model = small_subject("gpt2", "bridge")
    random, words = np.random.default_rng(0), model.token_strings[3:]
    texts = [" ".join(random.choice(words, 20)) for _ in range(model.d_model * 2)]  # some 38 tokens per dimension
    claim = replace(get("law.line"), texts=texts)
    short = findings(model, replace(claim, texts=texts[: model.d_model // 2]), n_resamples=99)
    assert short["state"].item() == "skipped" and "give more texts" in short["reason"].item()
    frame = findings(model, claim, n_resamples=99)
    lengths = np.array([len(ids) - 1 for ids in model.tokens(texts).ids])
    assert frame["n"].item() == claims.n_parts_of(lengths, model.d_model), frame["reason"].item()
