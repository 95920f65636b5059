"""Replacement by unigram: the model's own mean next-token distribution, whatever the texts under study."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.data import tensor_file
from probes import attribute, faithfulness, reagent_ls
from probes.attribution import _unigram
from probes.attribution._replacements import replacements
from probes.attribution._unigram import unigram_source, unigram_weights

# Float32 probabilities summed in batches of another make-up.
ROUNDING = 1e-6


@pytest.fixture
def subject(small_subject, any_backend) -> interp.Subject:
    return small_subject("gpt2", any_backend)


def test_a_model_that_cannot_read_the_shipped_texts_reads_random_tokens(subject, small_model):
    """Against plain torch: the mean softmax after every position but the first of its sequences."""
    model = small_model("gpt2")
    ids = torch.stack(_unigram._random_tokens(subject).ids)
    assert not np.isin(ids.numpy(), subject.tokenizer.all_special_ids).any()
    with torch.no_grad():
        expected = model(ids).logits[:, 1:].softmax(-1).mean(dim=(0, 1))
    np.testing.assert_allclose(unigram_weights(subject), expected, atol=ROUNDING)
    assert unigram_source(subject).endswith("over random tokens")


def test_a_model_that_can_reads_them(monkeypatch, tmp_path):
    """The shipped model without its counts: prompts of different lengths, padded in batches."""
    subject = interp.load("reference")
    monkeypatch.setattr(_unigram, "_shipped_counts", lambda subject: None)
    monkeypatch.setattr(_unigram, "_N_STORIES", 1)
    monkeypatch.setattr(_unigram, "dataset", lambda name: interp.dataset(name).head(6))
    monkeypatch.setattr(_unigram, "_kept", {})
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    texts = [*interp.dataset("prompts")["text"].head(6), *interp.dataset("stories")["text"].head(1)]
    probs = [logits[1:].softmax(-1) for logits in subject.logits(texts)]
    np.testing.assert_allclose(unigram_weights(subject), torch.cat(probs).mean(0), atol=ROUNDING)
    assert unigram_source(subject).endswith("over prompts and 1 stories")
    assert list(_unigram._kept) == [subject.fingerprint]
    monkeypatch.setattr(subject, "run", lambda *args: pytest.fail("the model ran again"))
    unigram_weights(subject)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache as an empty folder, with every distribution worth a file and none in memory."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_unigram, "_WORTH_A_FILE", 0.0)
    monkeypatch.setattr(_unigram, "_kept", {})
    return tmp_path / "cache"


def test_another_process_reads_what_one_computed(small_subject, small_model, cache, monkeypatch):
    computed = unigram_weights(small_subject("gpt2", "bridge"))
    _unigram._kept.clear()  # as another process begins
    other = interp.load(small_model("gpt2"), tokenizer=small_subject("gpt2", "bridge").tokenizer)
    monkeypatch.setattr(other, "run", lambda *args: pytest.fail("the model ran again"))
    np.testing.assert_array_equal(unigram_weights(other), computed)
    (file,) = cache.rglob("*.safetensors")
    assert file.name.startswith(other.fingerprint)


@pytest.mark.parametrize("damage", ["cut", "empty", "other sum", "other vocabulary", "not a number", "foreign"])
def test_a_damaged_file_is_computed_again(small_subject, cache, damage):
    subject = small_subject("gpt2", "bridge")
    computed = unigram_weights(subject)
    (file,) = cache.rglob("*.safetensors")
    whole, weights = file.read_bytes(), torch.from_numpy(computed)
    changed = {
        "other sum": 2 * weights,
        "other vocabulary": torch.cat([weights, weights[:1]]),
        "not a number": torch.full_like(weights, float("nan")),
        "foreign": weights,
    }
    if damage in changed:
        kind = "another format" if damage == "foreign" else _unigram._FORMAT
        tensor_file.write(file, "a test", {"weights": changed[damage]}, {"format": kind})
    else:
        file.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    _unigram._kept.clear()
    np.testing.assert_array_equal(unigram_weights(subject), computed)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_made_is_done_without(small_subject, cache):
    cache.write_text("a file in the folder's place")
    assert unigram_weights(small_subject("gpt2", "bridge")).sum() == pytest.approx(1, abs=ROUNDING)


def test_what_costs_little_leaves_no_file(small_subject, cache, monkeypatch):
    monkeypatch.setattr(_unigram, "_WORTH_A_FILE", 1e9)
    unigram_weights(small_subject("gpt2", "bridge"))
    assert not list(cache.rglob("*.safetensors"))


@given(st.lists(st.lists(st.integers(3, 60), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_draws_know_nothing_of_the_texts(small_subject, contexts, seed):
    subject = small_subject("gpt2", "bridge")
    uniforms = np.random.default_rng(seed).random((5, 6))
    tables = replacements("unigram", subject, [torch.tensor(ids) for ids in contexts])
    (alone,) = replacements("unigram", subject, [torch.tensor([7] * 6)])
    for table, ids in zip(tables, contexts, strict=True):
        np.testing.assert_array_equal(table.draw(uniforms[:, : len(ids)]), alone.draw(uniforms)[:, : len(ids)])


@pytest.mark.filterwarnings("ignore:these scores cannot be told")
def test_order_and_company_change_nothing(small_subject):
    subject = small_subject("gpt2", "bridge")
    texts = ["w3 w4 w5 w6", "w20 w21 w22 w23 w24", "w9 w9 w9"]
    together, backwards, alone = (reagent_ls(subject, one) for one in (texts, texts[::-1], texts[1:2]))
    options = {"metrics": ("comprehensiveness", "soft_nc"), "n_samples": 3, "n_draws": 4, "fractions": (0.5,)}
    measured = [faithfulness(subject, one, **options) for one in (together, backwards, alone)]
    for first, second, third in ((together, backwards, alone), measured):
        column = "score" if "score" in first else "value"
        left, right = (one[one["prompt_id"] == 1][column].to_numpy() for one in (first, second))
        # Two float32 passes in batches of another make-up.
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(left, third[column], rtol=1e-4, atol=1e-5)


def test_a_repeated_token_is_no_longer_replaced_by_itself(small_subject):
    """All tokens alike: draws from the text itself gave exact zeros."""
    frame = reagent_ls(small_subject("gpt2", "bridge"), "w9 w9 w9 w9")
    assert (frame["score"].iloc[1:] != 0).all()


def test_counts_of_ones_own(small_subject):
    """All counts on one token: each removed token becomes that one."""
    subject = small_subject("gpt2", "bridge")
    counts = np.zeros(subject.d_vocab)
    counts[33] = 2.0
    frame = attribute(subject, "w5 w6 w7", methods={"reagent_ls": {"sampler": counts}})
    scores = faithfulness(
        subject, frame, metrics=["comprehensiveness"], fractions=[1.0], replacement=counts, n_samples=2
    )
    ids = subject.tokens("w5 w6 w7").ids[0]
    replaced = torch.where(torch.arange(len(ids)) > 0, 33, ids)
    target = int(frame["target_id"].iat[0])
    full, empty = (
        float(subject.run(one[None], lambda tape: tape.head(tape.last[0, -1]).softmax(-1))[target])
        for one in (ids, replaced)
    )
    assert scores["value"].iat[0] == pytest.approx(full - empty, abs=1e-6)
    assert scores["value_se"].iat[0] == pytest.approx(0, abs=1e-7)
    named = [one.interp.provenance.loc["parameters"].item() for one in (frame, scores)]
    assert named[0]["methods"]["reagent_ls"]["sampler"] == named[1]["replacement"]
    assert named[1]["replacement"].startswith("counts ")
