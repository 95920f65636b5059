"""What is attributed, and one frame for every method."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from transformers import GPT2LMHeadModel

import interp
from interp.errors import InputError, ModelError, TooLong, UnknownName
from interp.planted import copying, two_step
from probes import attribute, normxlogit
from probes.attribution._finding import find_targets, plan_targets
from probes.attribution._targets import Scores, Targets, attribution_columns
from probes.attribution.attribute import METHODS

CHEAP = ("normxlogit", "norm", "logit", "input_x_gradient", "gradient_norm", "occlusion", "rollout", "random")
RAGGED = ["w5 w11 w7 w7 w12 w9 w4 w10", "w3", "w8 w6 w11"]


@pytest.fixture
def subject(small_subject, any_backend) -> interp.Subject:
    return small_subject("gpt2", any_backend)


@pytest.fixture(scope="module")
def bridged(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


def triples(targets: Targets) -> list[tuple[int, int, int]]:
    return list(zip(targets.prompt.tolist(), targets.pos.tolist(), targets.ids.tolist(), strict=True))


# -- the target ------------------------------------------------------------------------------------------------------


def test_argmax_is_what_the_model_says_after_the_last_position(subject):
    targets = find_targets(subject, subject.tokens(RAGGED))
    said = [int(logits[-1].argmax()) for logits in subject.logits(RAGGED)]
    assert triples(targets) == [(0, 8, said[0]), (1, 1, said[1]), (2, 3, said[2])]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("w7", [[7], [7], [7]]),
        (7, [[7], [7], [7]]),
        (np.int64(7), [[7], [7], [7]]),
        (["w7", 8, "w9"], [[7], [8], [9]]),
        (("w7", [8, "w9", 8], [10]), [[7], [8, 9], [10]]),
        (torch.tensor([7, 8, 9]), [[7], [8], [9]]),
        (np.array([[7, 5], [8, 5], [9, 5]]), [[7, 5], [8, 5], [9, 5]]),
        (pd.Series([7, 8, 9], index=[4, 5, 6]), [[7], [8], [9]]),
    ],
)
def test_targets_that_are_named(bridged, target, expected):
    targets = find_targets(bridged, bridged.tokens(RAGGED), target=target)
    last = [8, 1, 3]
    assert triples(targets) == [(p, last[p], one) for p, several in enumerate(expected) for one in several]


def test_targets_after_other_positions(bridged):
    """Tokens 0..target_pos are read, and no more: the argmax there is that of the prompt cut short."""
    tokens = bridged.tokens(RAGGED)
    targets = find_targets(bridged, tokens, target_pos=[-1, 0, 1])
    assert [(prompt, pos) for prompt, pos, _ in triples(targets)] == [
        (0, 0), (0, 1), (0, 8), (1, 0), (1, 1), (2, 0), (2, 1), (2, 3),
    ]  # fmt: skip
    logits = bridged.logits(RAGGED)
    assert all(int(logits[prompt][pos].argmax()) == target for prompt, pos, target in triples(targets))
    for context, (prompt, pos, _) in zip(targets.contexts.ids, triples(targets), strict=True):
        assert context.tolist() == tokens.ids[prompt][: pos + 1].tolist()


@pytest.mark.parametrize("given", ["w9 w10 w9", ["w9 w10 w9"] * 3, torch.tensor([9, 10, 9])])
def test_every_token_of_a_continuation(bridged, given):
    """Its j-th token is read after the ones before it; the last is predicted and never read."""
    tokens = bridged.tokens(RAGGED)
    targets = find_targets(bridged, tokens, continuation=given)
    last = [8, 1, 3]
    assert triples(targets) == [(p, last[p] + j, token) for p in range(3) for j, token in enumerate([9, 10, 9])]
    for prompt in range(3):
        assert targets.tokens.ids[prompt].tolist() == [*tokens.ids[prompt].tolist(), 9, 10]


def test_continuations_of_different_lengths(bridged):
    targets = find_targets(bridged, bridged.tokens(RAGGED[:2]), continuation=["w4", "w5 w6"])
    assert triples(targets) == [(0, 8, 4), (1, 1, 5), (1, 2, 6)]


def test_the_models_own_tokens_are_those_it_generates(subject):
    n = 5
    targets = find_targets(subject, subject.tokens(RAGGED), continuation=n)
    for prompt, text in enumerate(RAGGED):
        said = [token for index, _, token in triples(targets) if index == prompt]
        whole = subject.generate(text, n, temperature=0)
        expected = subject.tokens([whole]).ids[0][len(subject.tokens([text]).ids[0]) :].tolist()
        assert said == expected and len(said) == n


def test_nothing_is_said_after_the_end_of_text():
    """two_step counts two on: after w8 it says w10, w0, w2; with w0 for an end-of-text token it stops there."""
    planted = two_step(vocab=12)
    subject = interp.load(planted.model)
    assert [t for _, _, t in triples(find_targets(subject, subject.tokens("w8"), continuation=3))] == [10, 0, 2]
    planted.tokenizer.eos_token = "w0"
    subject = interp.load(planted.model, tokenizer=planted.tokenizer)
    targets = find_targets(subject, subject.tokens(["w8", "w1"]), continuation=4)
    assert triples(targets) == [(0, 0, 10), (0, 1, 0), (1, 0, 3), (1, 1, 5), (1, 2, 7), (1, 3, 9)]


def test_the_plan_leaves_only_argmaxes_open(bridged):
    tokens = bridged.tokens(RAGGED)
    assert plan_targets(bridged, tokens).ids.tolist() == [-1, -1, -1]
    assert plan_targets(bridged, tokens, target=["w7", 8, 9]).ids.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "w1x"}, InputError, "cannot read .*w1x"),
        ({"target": "w7 w8"}, InputError, r"'w7 w8' is 2 tokens \['w7', 'w8'\], not one"),
        ({"target": 61}, InputError, "target id 61 is outside the vocabulary of 61"),
        ({"target": -1}, InputError, "target id -1 is outside"),
        ({"target": 1.5}, InputError, "target=1.5: give a text, a whole number or a list of texts"),
        ({"target": [7, None, 8]}, InputError, "target holds None: give a text, a whole number or"),
        ({"target": ["w7", "w8"]}, InputError, "target lists 2 entries for 3 prompts"),
        ({"target": ["w7", [], "w8"]}, InputError, "target is empty for prompt 1; give at least one token"),
        ({"target_pos": 2}, InputError, "position 2 is outside a prompt of 2 tokens"),
        ({"target_pos": -3}, InputError, "position -3 is outside"),
        ({"target_pos": []}, InputError, "target_pos is empty"),
        ({"target_pos": 0.5}, InputError, "target_pos=0.5: give a whole number, a text, a list"),
        ({"continuation": 0}, InputError, "continuation=0; give at least 1 token"),
        ({"continuation": ""}, InputError, "text 0 is empty"),
        ({"continuation": ["w7", "w8"]}, InputError, "continuation lists 2 texts for 3 prompts"),
        ({"continuation": 57}, TooLong, r"prompt 0 has 9 tokens; with 57 more \(the last is only predicted\)"),
        ({"continuation": 2, "target": "w7"}, InputError, "leave target and target_pos out"),
        ({"continuation": 2, "target_pos": 0}, InputError, "leave target and target_pos out"),
        ({"methods": ()}, InputError, "methods is empty"),
        ({"methods": ("occlude",)}, UnknownName, "unknown method 'occlude'; did you mean 'occlusion'"),
        ({"methods": {"occlusion": {"n_steps": 5}}}, UnknownName, "'n_steps'; known: 'baseline', 'keep', 'of'"),
        ({"methods": {"reagent": {"keeps": 5}}}, UnknownName, "'keeps'; did you mean 'keep'"),
        ({"methods": {"integrated_gradients": {"n_steps": 0}}, "target": 7}, InputError, "n_steps=0"),
        ({"methods": {"occlusion": {"of": "loss"}}, "target": 7}, UnknownName, "unknown output 'loss'"),
    ],
)  # fmt: skip
def test_bad_input_is_found_before_anything_is_computed(bridged, monkeypatch, arguments, error, message):
    monkeypatch.setattr(bridged, "run", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(error, match=message) as caught:
        attribute(bridged, RAGGED, **arguments)
    assert "\n" not in str(caught.value)


def test_the_longest_continuation_that_fits(bridged):
    assert len(find_targets(bridged, bridged.tokens(RAGGED[0]), continuation=56)) == 56


# -- one frame -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame(bridged) -> pd.DataFrame:
    return attribute(bridged, RAGGED, methods=CHEAP, target=["w7", ["w8", "w9"], 10], target_pos=[-1, 1])


def test_the_columns_are_those_of_the_issue(frame):
    assert frame.columns.tolist() == [
        "model", "run_id", "prompt_id", "method", "target_pos", "target_id", "target", "against_id", "against",
        "pos", "token_id", "token",
        "score", "score_se", "control",
    ]  # fmt: skip
    assert frame["score"].dtype == "float64" and frame["run_id"].nunique() == 1


def test_rows_come_prompt_by_prompt_method_by_method(frame, bridged):
    expected = [
        (prompt, method, last, target, pos)
        for prompt, (length, targets) in enumerate([(9, [7]), (2, [8, 9]), (4, [10])])
        for method in CHEAP
        for last in sorted({1, length - 1})
        for target in targets
        for pos in range(last + 1)
    ]
    keys = frame[["prompt_id", "method", "target_pos", "target_id", "pos"]]
    assert list(keys.itertuples(index=False, name=None)) == expected
    ids = bridged.tokens(RAGGED).ids
    assert all(row.token_id == ids[row.prompt_id][row.pos] for row in frame.itertuples())
    assert (frame["target"] == " w" + frame["target_id"].astype(str)).all()


def test_only_chance_is_a_control(frame):
    assert frame.groupby("method")["control"].unique().map(list).to_dict() == {
        method: ["random" if method == "random" else "none"] for method in CHEAP
    }


@pytest.mark.parametrize("method", CHEAP)
def test_a_prompt_alone_is_as_in_company(bridged, frame, method):
    for prompt, target in enumerate(["w7", [["w8", "w9"]], 10]):
        alone = attribute(bridged, RAGGED[prompt], methods=method, target=target, target_pos=[-1, 1])
        rows = frame[(frame["prompt_id"] == prompt) & (frame["method"] == method)]
        # The same float32 sums, in the order other batch shapes give them.
        np.testing.assert_allclose(rows["score"], alone["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", CHEAP)
def test_batches_change_nothing(bridged, frame, method):
    with interp.options.local(memory=1, progress=False):
        cut = attribute(bridged, RAGGED, methods=method, target=["w7", ["w8", "w9"], 10], target_pos=[-1, 1])
    rows = frame[frame["method"] == method]
    np.testing.assert_allclose(rows["score"], cut["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox"])
def test_both_backends_agree(small_subject, architecture):
    """Both run eager attention for the patterns; elsewhere nnsight's kernel differs by roundings."""
    left, right = (
        attribute(small_subject(architecture, backend), RAGGED, methods=CHEAP, target=9) for backend in BACKENDS
    )
    np.testing.assert_allclose(left["score"], right["score"], rtol=1e-3, atol=1e-3)


BACKENDS = ("bridge", "nnsight")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_method_works_in_half_precision(small_model, word_level, any_backend, dtype):
    full, half = (
        interp.load(small_model("llama"), backend=any_backend, tokenizer=word_level, dtype=kind)
        for kind in ("float32", dtype)
    )
    left, right = (attribute(one, RAGGED, methods=CHEAP, target=9) for one in (full, half))
    for method in CHEAP:
        fine, rough = (one[one["method"] == method]["score"].to_numpy() for one in (left, right))
        # Four blocks in 8 bits round at some percent of the largest score.
        np.testing.assert_allclose(rough, fine, rtol=0, atol=0.08 * np.abs(fine).max(), err_msg=method)


def test_the_frame_of_one_method_is_the_same_as_its_own_probe(bridged):
    joined = attribute(bridged, RAGGED, methods={"normxlogit": {"norm": "none", "centre": "log_prob", "layer": 2}})
    own = normxlogit(bridged, RAGGED, norm="none", centre="log_prob", layer=2)
    pd.testing.assert_frame_equal(joined.drop(columns="run_id"), own.drop(columns=["run_id", "norm", "logit", "layer"]))


def test_a_continuation_is_attributed_token_by_token(bridged):
    """The second token's scores are those of a prompt that ends where it is predicted."""
    frame = attribute(bridged, "w5 w6", methods=("occlusion", "random"), continuation="w9 w10")
    alone = attribute(bridged, "w5 w6 w9", methods=("occlusion", "random"), target="w10")
    second = frame[frame["target_id"] == 10]
    assert second["token"].str.strip().tolist() == ["<s>", "w5", "w6", "w9"] * 2
    np.testing.assert_allclose(second["score"], alone["score"], atol=1e-6)


def test_draws_depend_on_the_seed_and_nothing_else(bridged, frame):
    again = attribute(bridged, RAGGED[::-1], methods=("random", "norm"), target=[10, ["w8", "w9"], "w7"])
    other = attribute(bridged, RAGGED[0], methods="random", target="w7", seed=1)
    of = {"method": "random", "target_id": 7, "target_pos": 8}
    first, second = (one[(one[list(of)] == pd.Series(of)).all(axis=1)]["score"].to_numpy() for one in (frame, again))
    np.testing.assert_array_equal(first, second)
    assert not np.isin(other["score"], first).any()
    assert ((first >= 0) & (first < 1)).all() and len(np.unique(first)) == 9


def test_the_users_columns_join(bridged):
    texts = pd.DataFrame({"text": RAGGED, "group": ["a", "b", "a"], "prompt_id": [7, 5, 6]})
    frame = attribute(bridged, texts, methods="norm")
    assert frame.drop_duplicates("prompt_id")[["prompt_id", "group"]].to_numpy().tolist() == [
        [5, "b"], [6, "a"], [7, "a"],
    ]  # fmt: skip
    assert frame["token"].tolist() == frame.sort_values(["prompt_id", "pos"])["token"].tolist()


def test_the_models_are_left_as_they_were(small_model, word_level):
    model: GPT2LMHeadModel = small_model("gpt2")
    subject = interp.load(model, tokenizer=word_level)
    before = subject.logits(RAGGED)
    attribute(subject, RAGGED, methods=(*CHEAP, "integrated_gradients"))
    assert all(torch.equal(left, right) for left, right in zip(before, subject.logits(RAGGED), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_patterns_is_refused_by_rollout(small_subject):
    with pytest.raises(ModelError, match="pattern"):
        attribute(small_subject("diffllama", "nnsight"), "w5", methods="rollout")


def test_columns_of_a_methods_own_travel_with_its_scores(bridged):
    targets = find_targets(bridged, bridged.tokens(RAGGED[1:]), target=9)
    scores = [np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0, 6.0])]
    given = Scores(scores, score_se=[one / 10 for one in scores], extra={"double": [2 * one for one in scores]})
    columns = attribution_columns(targets, given, method="mine", control="shuffled")
    assert columns["double"].tolist() == [2, 4, 6, 8, 10, 12] and columns["pos"].tolist() == [0, 1, 0, 1, 2, 3]
    assert columns["score_se"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert columns["method"] == "mine" and columns["control"] == "shuffled"


def test_every_method_is_reached_by_name(bridged):
    frame = attribute(bridged, "w5 w6", methods=[name for name in METHODS if "reagent" not in name])
    assert frame["score"].notna().all() and set(frame["method"]) == {name for name in METHODS if "reagent" not in name}


# -- summaries and the figure ----------------------------------------------------------------------------------------


def test_the_summary_says_how_scores_are_spread(frame):
    summary = frame.interp.summary().set_index("method")
    later = frame[frame["pos"] > 0]
    for method, rows in later.groupby("method"):
        by_target = []
        for (prompt, last, _), target in rows.groupby(["prompt_id", "target_pos", "target_id"]):
            share = (target["score"].abs() / target["score"].abs().sum()).to_numpy()
            by_target.append(
                {
                    "prompt_id": prompt,
                    "top_share": share.max(),
                    "last_share": share[target["pos"] == last].sum(),
                    "negative_share": share[target["score"] < 0].sum(),
                    "effective_tokens": np.exp(-(share * np.log(share)).sum()),
                }
            )
        expected = pd.DataFrame(by_target).groupby("prompt_id").mean().mean()
        for column in ("top_share", "last_share", "negative_share", "effective_tokens"):
            assert summary.at[method, column] == pytest.approx(expected[column], rel=1e-9)
    assert "position 0 left out" in frame.interp.summary().attrs["note"]


def test_the_agreement_of_methods_is_spearmans(frame):
    summary = frame.interp.summary(by="agreement").set_index(["method", "other"])
    assert len(summary) == len(CHEAP) * (len(CHEAP) - 1) / 2
    later = frame[(frame["pos"] > 0) & (frame["target_pos"] > 1)]
    values = []
    for _, target in later.groupby(["prompt_id", "target_id"]):
        scores = target.pivot(index="pos", columns="method", values="score")
        values.append(spearmanr(scores["norm"], scores["occlusion"]).statistic)
    # Targets with one token after position 0 have no correlation, and are left out.
    assert summary.loc[("norm", "occlusion"), "spearman"] == pytest.approx(np.mean(values), rel=1e-9)


def test_bad_summaries(bridged, frame):
    with pytest.raises(InputError, match="by 'token'; choose 'method' or 'agreement'"):
        frame.interp.summary(by="token")
    with pytest.raises(InputError, match=r"needs at least 2 methods; the frame has only \[.norm.\]"):
        attribute(bridged, RAGGED, methods="norm").interp.summary(by="agreement")
    with pytest.raises(InputError, match="summaries leave position 0 out"):
        attribute(bridged, RAGGED, methods="norm", target_pos=0).interp.summary()


def test_the_figure_shows_every_token_once_per_method(frame, bridged, tmp_path):
    figure = frame.interp.plot(target=1, path=tmp_path / "attribution.png")
    assert (tmp_path / "attribution.png").stat().st_size > 1000
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.replace("_", " ") for name in CHEAP]
    assert [label.get_text().strip() for label in axes.get_xticklabels()] == ["<s>", *RAGGED[0].split()]
    cells = np.array([int(text.get_text()) for text in axes.texts]).reshape(len(CHEAP), 9)
    assert (np.abs(cells[:, 1:]).max(axis=1) == 100).all()  # each row's largest after position 0
    rows = frame[(frame["prompt_id"] == 0) & (frame["target_pos"] == 8)]
    norm = rows[rows["method"] == "norm"]["score"].to_numpy()
    assert cells[CHEAP.index("norm")].tolist() == (100 * norm / norm[1:].max()).round().astype(int).tolist()


def test_long_prompts_wrap(bridged):
    figure = attribute(bridged, " ".join(["w5"] * 40), methods="norm").interp.plot()
    panels = [axes for axes in figure.axes if axes.texts]
    assert [len(axes.texts) for axes in panels] == [14, 14, 13]


def test_layers_are_rows_of_their_own(bridged):
    figure = normxlogit(bridged, RAGGED, layer=[0, 4]).interp.plot(prompt_id=2)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["normxlogit at layer 0", "normxlogit at layer 4"]


def test_figures_that_cannot_be_drawn(bridged, frame):
    with pytest.raises(InputError, match="target 2 is not in the frame: this prompt has 2"):
        frame.interp.plot(target=2)
    another = attribute(bridged, RAGGED, methods="normxlogit", target=["w7", ["w8", "w9"], 10], target_pos=[-1, 1])
    with pytest.raises(InputError, match="'normxlogit' more than once"):
        interp.concat([frame, another]).interp.plot()
    with pytest.warns(UserWarning, match="in this frame more than once"):  # the same run, which is drawn once
        interp.concat([frame, frame]).interp.plot()


def test_scores_of_zero_have_a_figure():
    frame = attribute(copying(a=0.0).model, "w1 w2 w3", methods="occlusion", target=5)
    frame["score"] = 0.0
    assert {text.get_text() for text in frame.interp.plot().axes[0].texts} == {"0"}
