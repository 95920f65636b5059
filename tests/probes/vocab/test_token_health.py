"""Tokens hardly learned are found: planted rows, planted columns, other tokenizers, and a model that learned all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

import interp
from interp.errors import InputError
from interp.planted import bigram, copying
from interp.tokenization.scripts import script
from probes import token_health, token_repetition
from probes.vocab._categories import categories
from probes.vocab._directions import at_or_below, directions, reference_rows

V, RARE = 150, 3  # 2 % of 150 tokens are 3
# float32: logits of ln 1e-6 = -14 are rounded to 1e-6 when they are added up
CLOSE = 1e-5


def rare_columns(vocab: int = V, rare: int = RARE, p: float = 1e-6) -> torch.Tensor:
    """A transition that leads to the last tokens with probability `p`, from everywhere."""
    drawn = torch.rand(vocab, vocab, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    drawn[:, -rare:] = 0
    drawn *= (1 - rare * p) / drawn.sum(dim=1, keepdim=True)
    drawn[:, -rare:] = p
    return drawn


def rows_with_five_alike() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(200, 16, generator=generator)
    rows[:5] = torch.randn(16, generator=generator) + 0.05 * torch.randn(5, 16, generator=generator)
    return rows


# -- direction ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", list(combinations(range(5), 3)))
def test_rows_near_a_common_vector_have_the_lowest_directions(reference):
    found = directions(rows_with_five_alike(), reference)
    assert set(found.argsort()[:5]) == set(range(5))
    assert found[:5].max() < 0.1 < found[5:].min()


def test_a_direction_is_that_of_an_independent_formula():
    rows, reference = rows_with_five_alike().double(), [0, 3, 4]
    centred = rows - rows.mean(dim=0)
    want = 1 - torch.cosine_similarity(centred, centred[reference].mean(dim=0)[None])
    assert directions(rows, reference) == pytest.approx(want.numpy(), abs=1e-12)


def test_a_direction_does_not_change_with_scale_and_rotation():
    rows = rows_with_five_alike()
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    turned = 7.0 * rows.double() @ rotation
    assert directions(turned, [0, 1, 2]) == pytest.approx(directions(rows, [0, 1, 2]), abs=1e-12)


def test_the_mean_has_no_direction():
    with pytest.raises(InputError, match="the mean of the 200 reference rows is that of all rows"):
        directions(rows_with_five_alike(), range(200))


def test_equal_values_share_their_place():
    """So that a line drawn through equal tokens does not choose among them by id."""
    values = np.array([1.0, 1.0 + 1e-9, 1.0, 2.0])
    assert at_or_below(values, np.ones(4, bool)).tolist() == [0.75, 0.75, 0.75, 1.0]


# -- planted models ----------------------------------------------------------------------------------------------------


def test_tokens_that_are_never_predicted_have_the_ceiling_of_their_probability():
    planted = bigram(rare_columns())
    texts = [" ".join(f"w{(start * 11 + step * 7) % V}" for step in range(40)) for start in range(6)]
    frame = token_health(planted.model, texts, indicators=("ceiling", "norm"))
    read = planted.tokenizer(" ".join(texts))["input_ids"]
    law = planted.truth.transition[read].log().numpy()
    assert frame["ceiling"].to_numpy() == pytest.approx(law.max(axis=0), abs=CLOSE)
    assert frame["mean_logit"].to_numpy() == pytest.approx(law.mean(axis=0), abs=CLOSE)
    assert frame["ceiling"].to_numpy()[-RARE:] == pytest.approx(np.log(1e-6), abs=CLOSE)
    assert frame.index[frame["is_candidate"]].tolist() == list(range(V - RARE, V))
    assert frame["count"].tolist() == np.bincount(read, minlength=V).tolist()
    assert (frame["norm"] == 1).all() and frame["direction"].isna().all() and (frame["reference"] == "").all()


def test_no_false_alarm_on_a_model_that_has_learned_every_token():
    planted = copying(V, a=40.0)
    texts = [" ".join(f"w{index}" for index in range(start, start + 50)) for start in range(0, V, 50)]
    frame = token_health(planted.model, texts)
    assert frame["is_candidate"].sum() <= 0.02 * V
    # Each token stands once at each of the places of a text, at which it gets the logit 1 + 40 / (n + 1).
    said = token_repetition(planted.model, token_ids=range(V), prompts=["repeat"], n_random=0)
    assert (said["verdict"] == "learned").all()


# -- against plain PyTorch ---------------------------------------------------------------------------------------------


def test_ceilings_are_those_of_all_positions_and_of_no_padding(any_backend, small_model, word_level):
    model = small_model("llama")
    subject = interp.load(model, tokenizer=word_level, backend=any_backend)
    texts = ["w3 w4 w5 w6 w7", "w8", "w20 w21 w22"]
    frame = token_health(subject, texts, indicators=["ceiling"])
    logits = torch.cat([model(word_level(text, return_tensors="pt")["input_ids"]).logits[0] for text in texts])
    want = logits.log_softmax(dim=-1).amax(dim=0)
    # float32: two orders of the sums of a few units
    assert frame["ceiling"].to_numpy() == pytest.approx(want.detach().numpy(), abs=1e-5)
    assert frame["mean_logit"].to_numpy() == pytest.approx(logits.mean(dim=0).detach().numpy(), abs=1e-5)
    assert frame["bias"].eq(0).all()


def test_directions_and_norms_are_those_of_the_two_matrices(any_backend, small_model, word_level):
    model = small_model("gpt_neox")
    subject = interp.load(model, tokenizer=word_level, backend=any_backend)
    frame = token_health(subject, ["w3 w4"], reference=[5, 6, 7])
    assert set(frame["reference"]) == {"given"}
    rows = model.get_output_embeddings().weight.detach()
    assert frame["direction"].to_numpy() == pytest.approx(directions(rows, [5, 6, 7]), abs=1e-6)
    embedding = model.get_input_embeddings().weight.detach()
    assert frame["norm"].to_numpy() == pytest.approx(embedding.norm(dim=1).numpy(), rel=1e-6)


# -- categories --------------------------------------------------------------------------------------------------------

PIECES = {
    "byte-level": (["Ġthe", "the", "never"], {}),
    "sentencepiece": (["▁the", "the", "▁"], {"unk_token": "<unk>"}),
    "wordpiece": (["[UNK]", "the", "##the", "a", "##Ã"], {"unk_token": "[UNK]"}),
}


@pytest.mark.parametrize("kind", PIECES)
def test_every_row_has_one_category(tokenizer_of, subject_with, kind):
    pieces, special = PIECES[kind]
    core = tokenizer_of(kind, pieces)
    n = core.get_vocab_size()
    table = categories(subject_with(core, n + 3, **special))
    assert set(table["category"]) <= {"special", "row_only", "undecodable", "unreachable", "ok"}
    assert table["category"].tolist()[n:] == ["row_only"] * 3 and (table["category"] == "row_only").sum() == 3
    of = {piece: table["category"][index] for piece, index in core.get_vocab().items()}
    assert of.get("[UNK]", of.get("<unk>", "special")) == "special"
    assert (table["n_ids"] >= 0).sum() == table["category"].isin(["ok", "unreachable"]).sum()
    if kind == "sentencepiece":  # "the" alone is read as "▁the"; it needs something before it
        assert of["▁the"] == "ok"
    if kind == "wordpiece":
        assert of["the"] == of["##the"] == "ok"
    if kind == "byte-level":  # no merge leads to these
        assert of["Ġthe"] == of["never"] == "unreachable"
        assert table["n_ids"][core.token_to_id("never")] == 5
        assert of["Ã"] == "undecodable" and of["A"] == "ok"


def test_bytes_are_told_by_their_kind(tokenizer_of, subject_with):
    core = tokenizer_of("byte-level", [])
    table = categories(subject_with(core, core.get_vocab_size()))
    kinds = table["byte_kind"].value_counts().to_dict()
    assert kinds == {"ascii": 128, "utf8": 115, "never": 13}  # C0, C1 and F5 to FF


@pytest.mark.parametrize(
    ("text", "name"), [("Łódź", "Latin"), ("123 я", "Cyrillic"), ("Ⴀ", "Georgian"), ("ᚠ", "Other")]
)
def test_scripts(text, name):
    assert script(text) == name


def test_the_reference_is_the_first_that_the_model_has(tokenizer_of, subject_with, small_subject):
    def chosen(subject, reference="auto"):
        ids, kind = reference_rows(subject, categories(subject), reference)
        return ids.tolist(), kind

    padded = tokenizer_of("sentencepiece", ["▁the", "the", "a", "b"])
    assert chosen(subject_with(padded, 9, unk_token="<unk>")) == ([5, 6, 7, 8], "unused")
    kept = tokenizer_of("byte-level", [])
    kept.add_special_tokens(["<end>", "<tool>", "<fim>", "<file>", "<unused1>"])
    n = kept.get_vocab_size()
    assert chosen(subject_with(kept, n, eos_token="<end>"), "special") == ([n - 4, n - 3, n - 2, n - 1], "special")
    assert chosen(subject_with(kept, n, eos_token="<end>"))[0][-1] == n - 1  # with the bytes that no text holds
    words = small_subject("llama", "bridge")
    ids, kind = chosen(words)
    rows = words.W_U.T
    assert kind == "centroid"
    assert ids == sorted((rows - rows.mean(dim=0)).norm(dim=1).argsort()[:20].tolist())
    with pytest.raises(InputError, match="has no tokens for reference='special'"):
        chosen(words, "special")


def test_no_row_of_the_frame_is_ordinary_and_neither_usable_nor_suspected(tokenizer_of, subject_with):
    core = tokenizer_of("byte-level", [])
    frame = token_health(subject_with(core, core.get_vocab_size() + 3), ["A b"])
    ordinary = frame["category"] == "ok"
    assert (frame["usable"] == (ordinary & ~frame["is_candidate"])).all() and not frame.loc[~ordinary, "usable"].any()
    assert frame.interp.summary()["n_tokens"].sum() == len(frame)
    axes, listed = frame.interp.plot().axes
    assert "cosine" in axes.get_xlabel() and "token" in listed.texts[0].get_text()
