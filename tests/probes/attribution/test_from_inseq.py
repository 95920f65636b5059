"""Attributions made by inseq, converted: on stand-ins with its attributes, in the shapes inseq 0.7.1 gives them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from interp.planted import copying
from probes import attribute
from probes.attribution._targets import ATTRIBUTION
from probes.attribution.from_inseq import from_inseq

NAN = float("nan")


def sequence(ids: list[int], first: int, scores: list[list[float]], **changes: Any) -> SimpleNamespace:
    """A `FeatureAttributionSequenceOutput` of a decoder: a column for every attributed token, a row for every token."""
    target = [SimpleNamespace(id=index, token=f"w{index}") for index in ids]
    fields = {"source": target[:first], "target": target, "source_attributions": None} | {
        "target_attributions": torch.tensor(scores), "attr_pos_start": first, "attr_pos_end": len(ids)
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def output(*sequences: SimpleNamespace, method: str = "saliency") -> SimpleNamespace:
    return SimpleNamespace(sequence_attributions=list(sequences), info={"attribution_method": method})


LONG = [[0.1, 0.5], [0.2, 0.6], [0.3, -0.7], [NAN, 0.8], [NAN, NAN]]
SHORT = [[1.0], [NAN]]


@pytest.fixture(scope="module")
def subject() -> interp.Subject:
    return interp.load(copying().model)


def test_every_attributed_token_is_a_target(subject):
    """Column j belongs to token attr_pos_start + j, predicted after the one before it, from all tokens up to that."""
    frame = from_inseq(subject, output(sequence([5, 3, 7, 2, 9], 3, LONG), sequence([1, 4], 1, SHORT)))
    keys = frame[["prompt_id", "target_pos", "target_id", "pos", "token_id", "score"]]
    float32 = {score: float(np.float32(score)) for score in (0.1, 0.2, 0.3, 0.5, 0.6, -0.7, 0.8, 1.0)}
    assert list(keys.itertuples(index=False, name=None)) == [
        (prompt, last, target, pos, token, float32[score])
        for prompt, last, target, pos, token, score in [
            (0, 2, 2, 0, 5, 0.1), (0, 2, 2, 1, 3, 0.2), (0, 2, 2, 2, 7, 0.3),
            (0, 3, 9, 0, 5, 0.5), (0, 3, 9, 1, 3, 0.6), (0, 3, 9, 2, 7, -0.7), (0, 3, 9, 3, 2, 0.8),
            (1, 0, 4, 0, 1, 1.0),
        ]
    ]  # fmt: skip
    assert frame.columns.tolist() == [column.name for column in ATTRIBUTION]
    assert set(frame["method"]) == {"inseq saliency"} and set(frame["model"]) == {subject.name}
    assert set(frame["control"]) == {"none"} and frame["score_se"].isna().all()


def test_it_stands_beside_our_own(subject):
    """The same prompt and target, asked of both: one figure, and one summary of each."""
    theirs = from_inseq(subject, output(sequence([5, 3, 7], 2, [[0.1], [0.4], [NAN]])), method="theirs")
    ours = attribute(subject, torch.tensor([[5, 3]]), methods=("occlusion", "norm"), target=7)
    both = interp.concat([ours, theirs])
    labels = [label.get_text() for label in both.interp.plot().axes[0].get_yticklabels()]
    assert labels == ["occlusion", "norm", "theirs"]
    assert set(both.interp.summary()["method"]) == {"occlusion", "norm", "theirs"}
    same = ["prompt_id", "target_pos", "target_id", "target", "pos", "token_id", "token"]
    pd.testing.assert_frame_equal(
        theirs[same].reset_index(drop=True), ours.loc[ours["method"] == "norm", same].reset_index(drop=True)
    )


def test_inseqs_gradients_are_ours():
    """What inseq 0.7.1 gave, in an environment of its own, for the shipped model (recorded to eight digits):

    model = inseq.load_model("datasets/reference", "input_x_gradient", model_kwargs={"dtype": "float32"})
    out = model.attribute("<|endoftext|>The cat sat on", generated_texts="<|endoftext|>The cat sat on the",
                          attributed_fn="logit")
    out.sequence_attributions[0].target_attributions.sum(-1)
    """
    scores = [1.05160856, 0.23717809, 0.58000028, 0.82770908, 0.87951291]
    words = ["<|endoftext|>", "The", "Ġcat", "Ġsat", "Ġon", "Ġthe"]
    target = [SimpleNamespace(id=i, token=t) for i, t in zip([0, 443, 1175, 854, 321, 263], words, strict=True)]
    given = sequence([0] * 6, 5, [[score] for score in [*scores, NAN]], target=target)
    theirs = from_inseq("reference", output(given, method="input_x_gradient"))
    options = {"of": "logit", "baseline": "zero"}
    ours = attribute("reference", "The cat sat on", methods={"input_x_gradient": options}, target=" the")
    assert ours["token_id"].tolist() == theirs["token_id"].tolist()
    assert ours["target_id"].tolist() == theirs["target_id"].tolist()
    np.testing.assert_allclose(ours["score"], theirs["score"], atol=1e-4)  # float32 through eight blocks


def test_different_attributions_are_different_runs(subject):
    runs = {
        from_inseq(subject, output(sequence([1, 4], 1, [[score], [NAN]])))["run_id"][0] for score in (0.1, 0.1, 0.2)
    }
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SimpleNamespace(sequence_attributions=[], info={}), "is not an inseq attribution"),
        (pd.DataFrame(), "a DataFrame is not an inseq attribution"),
        (output(sequence([1, 4], 1, [[[0.1, 0.2]], [[NAN, NAN]]])), r"have shape \[2, 1, 2\]; call .* aggregate"),
        (output(sequence([1, 4], 1, SHORT, target_attributions=None)), "have shape None"),
        (output(sequence([1, 4], 1, SHORT, source_attributions=torch.ones(2, 1))), "attributes to a source"),
        (output(sequence([1, 4], 0, SHORT)), "attributes its first token, but the model reads no token before it"),
        (output(sequence([1, 44], 1, SHORT)), "has token id 44, but 'planted/copying' has 12 tokens"),
        (output(sequence([1, 4], 1, [[NAN], [NAN]])), "is missing or infinite"),
        (
            output(sequence([1, 4], 1, SHORT, target=[SimpleNamespace(id=4, token="x")])),
            "token 4 is 'x' in inseq's model but 'w4' in 'planted/copying'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_converted(subject, given, message):
    with pytest.raises(InputError, match=message) as caught:
        from_inseq(subject, given)
    assert "\n" not in str(caught.value)
