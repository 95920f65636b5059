"""A run is fixed when it is made: what decides its numbers, and the id under which its rows are kept."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas as pd
import pytest

import interp
from interp.frames.schema import Schema, columns
from interp.planted import copying
from interp.runs import code, registry
from interp.runs.code import code_digest, code_digest_of_probe
from interp.runs.run import run_id
from interp.runs.store import Store
from probes import layer_robustness, logit_lens

SCHEMA = Schema("fixed", "nobody (2020)", "one per prompt", columns("model", "run_id", "prompt_id", "loss"))


@pytest.fixture(scope="module")
def subject():
    return interp.load(copying(vocab=6).model)


def part(*prompts: int) -> dict[str, np.ndarray]:
    return {"prompt_id": np.array(prompts), "loss": np.ones(len(prompts))}


def test_parameters_cannot_be_changed_once_a_run_is_made(subject):
    given = {"k": 1}
    run = interp.Run(SCHEMA, subject, ["w1 w2"], parameters=given)
    with pytest.raises(TypeError, match="does not support item assignment"):
        run.parameters["k"] = 2
    before = run.run_id
    given["k"] = 2
    assert run.parameters["k"] == 1 and run.provenance()["run_id"] == before


def test_rows_are_kept_under_the_frames_own_id(subject, tmp_path):
    run = interp.Run(SCHEMA, subject, ["w1 w2", "w3"], parameters={"k": 1}, out=tmp_path)
    frame = run.frame(iter([part(0), part(1)]))
    assert frame["run_id"].unique().tolist() == [run.run_id]
    assert {file.name.partition("-")[0] for file in tmp_path.glob("*.parquet")} == {run.run_id}
    assert all(pd.read_parquet(file)["run_id"].eq(run.run_id).all() for file in tmp_path.glob("*.parquet"))


def test_an_id_can_be_known_without_a_run(subject):
    tokens = subject.tokens(["w1 w2"])
    run = interp.Run(SCHEMA, subject, tokens, parameters={"k": 1}, seed=3)
    assert run_id(SCHEMA, subject, tokens, {"k": 1}, 3) == run.run_id
    others = [(None, {"k": 1}, 3), (tokens, {"k": 2}, 3), (tokens, {"k": 1}, 4)]
    assert run.run_id not in {run_id(SCHEMA, subject, *other) for other in others}


def test_edits_are_those_of_the_moment_it_was_made(subject):
    with subject.edited([], {"made": "an edit"}):
        run = interp.Run(SCHEMA, subject, ["w1 w2"], parameters={})
    assert run.provenance()["edits"] == [{"made": "an edit"}]
    assert interp.Run(SCHEMA, subject, ["w1 w2"], parameters={}).run_id != run.run_id


TEXTS = pd.DataFrame({"text": ["w1 w2 w3", "w2 w0 w1 w1"], "group": ["a", "b"]})


@pytest.fixture
def computed(monkeypatch):
    """The batches that reached the model; donors' passes too."""
    batches, original = [], interp.Subject.run

    def run(self, ids, program, **options):
        batches.append(len(ids))
        return original(self, ids, program, **options)

    monkeypatch.setattr(interp.Subject, "run", run)
    return batches


def test_kept_rows_get_the_columns_of_this_call(subject, tmp_path, computed):
    first = layer_robustness(subject, TEXTS, out=tmp_path)
    assert computed
    computed.clear()
    renamed = TEXTS.assign(group=["c", "d"], weight=[1.5, 2.5])
    again, anew = layer_robustness(subject, renamed, out=tmp_path), layer_robustness(subject, renamed)
    pd.testing.assert_frame_equal(again, anew)
    assert again.groupby("prompt_id")["group"].first().tolist() == ["c", "d"]
    assert again["run_id"].iat[0] == first["run_id"].iat[0]
    assert all("group" not in pd.read_parquet(file).columns for file in tmp_path.glob("*.parquet"))
    computed.clear()
    without = layer_robustness(subject, TEXTS[["text"]], out=tmp_path)
    assert "group" not in without.columns and not computed


@pytest.mark.parametrize("change", ["version", "code", "precision", "token strings"])
def test_rows_of_other_code_are_not_found(subject, tmp_path, computed, monkeypatch, change):
    first = layer_robustness(subject, TEXTS, out=tmp_path)
    computed.clear()
    layer_robustness(subject, TEXTS, out=tmp_path)
    assert not computed  # found
    other = subject
    if change == "version":
        monkeypatch.setattr(code, "versions", lambda: {"python": "2.7"})
    elif change == "code":
        monkeypatch.setattr(code, "_tree_digest", lambda package: f"another {package}")
    elif change == "precision":
        monkeypatch.setattr("interp.runs.run.matmul_precision", lambda: "medium")
    else:
        other = copy.copy(subject)
        other.token_strings = np.array([f"x{index}" for index in range(subject.d_vocab)], dtype=object)
    again = layer_robustness(other, TEXTS, out=tmp_path)
    assert computed and again["run_id"].equals(first["run_id"])
    assert change != "token strings" or again["token"].str.startswith("x").all()


def test_rows_of_a_model_with_unknown_code_are_not_found(small_model, word_level, tmp_path, computed):
    """Not even by the same subject: a hook may do something else by now."""
    model, scale = small_model("llama"), [0.5]
    model.model.layers[1].register_forward_hook(lambda module, args, out: out * scale[0])
    subject = interp.load(model, tokenizer=word_level)
    first, second = tmp_path / "first", tmp_path / "second"
    texts = ["w3 w4 w5", "w6 w7 w8"]
    with pytest.warns(UserWarning, match=r"cannot identify runs in .*model\.layers\.1.* not found again"):
        halved = layer_robustness(subject, texts, out=first)
    scale[0] = 2.0
    with pytest.warns(UserWarning, match="cannot identify"):
        doubled = layer_robustness(subject, texts, out=first)
    assert not np.allclose(halved["kl"], doubled["kl"], equal_nan=True)
    pd.testing.assert_frame_equal(doubled, layer_robustness(subject, texts))
    assert not second.exists()


@pytest.mark.parametrize("how", ["hook", "forward", "buffer", "attribute"])
def test_rows_of_the_model_as_it_was_are_not_those_of_the_model_as_it_is(small_model, word_level, tmp_path, how):
    model = small_model("llama")
    texts = ["w3 w4 w5", "w6 w7 w8"]
    before = layer_robustness(interp.load(model, tokenizer=word_level), texts, out=tmp_path)
    layer = model.model.layers[1]
    if how == "hook":
        layer.register_forward_hook(lambda module, args, out: out * 0.5)
    elif how == "forward":
        forward = layer.mlp.forward
        layer.mlp.forward = lambda x: forward(x) * 0
    elif how == "buffer":
        model.model.rotary_emb.inv_freq.mul_(2)
    else:
        layer.self_attn.scaling *= 3
    subject = interp.load(model, tokenizer=word_level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = layer_robustness(subject, texts, out=tmp_path)
    anew = layer_robustness(subject, texts)
    pd.testing.assert_frame_equal(kept, anew)
    assert not np.allclose(before["kl"], anew["kl"], equal_nan=True)
    assert kept["run_id"].iat[0] != before["run_id"].iat[0]


def test_the_provenance_tells_the_code(subject):
    run = logit_lens(subject, ["w1 w2"]).interp.provenance
    assert run.loc["code_digest"].tolist() == [code_digest(logit_lens)]
    assert run.loc["float32_matmul_precision"].tolist() == ["highest"] and run.loc["unknown_code"].tolist() == [[]]


def test_code_of_no_package_is_that_of_this_session(monkeypatch):
    """A schema that belongs to no marked function may be computed by anything."""
    assert registry.functions_of(SCHEMA.probe) == []
    before = code_digest_of_probe(SCHEMA.probe)
    assert before == code_digest_of_probe("another one") != code_digest()
    monkeypatch.setattr(code, "_SESSION", "tomorrow")
    assert code_digest_of_probe(SCHEMA.probe) != before


def test_two_frames_cannot_be_kept_under_one_name(tmp_path):
    one, other = Store(tmp_path, "a-b"), Store(tmp_path, "a")
    one.write("c", pd.DataFrame({"prompt_id": [0]}))
    assert one and not other
