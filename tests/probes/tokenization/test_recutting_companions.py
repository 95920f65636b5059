"""Words, perturbed texts, written tokens and rows of tokens: by plain PyTorch, by hand and on planted models."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

import interp
from interp.errors import InputError, TooLong
from interp.findings import get
from interp.planted import bigram
from interp.tokenization import Lattice, Pieces
from probes import compositionality, perturbation, word_states, written_tokens
from probes.tokenization.recutting.written_tokens import judge

from .conftest import END, MERGES, PIECES, bpe

FLOAT = 1e-5  # statistics are float32


# -- words -------------------------------------------------------------------------------------------------------------


def test_word_states_by_plain_pytorch(toy):
    subject, brute = toy
    words = ["abc", "cab", "bca", "abcab"]
    frame = word_states(subject, words, prompt="bb{word}", schemes=("bytes",), bos=True)

    def states(ids):
        with torch.no_grad():
            found = brute.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        return [one[0, -1] for one in found[:-1]]

    own = [states([END, *brute.encoding("bb" + word)]) for word in words]
    for number, word in enumerate(words):
        whole = brute.encoding("bb" + word)
        kept = whole[: next(n for n in range(len(whole)) if len("".join(PIECES[one] for one in whole[: n + 1])) > 2)]
        start = len("".join(PIECES[one] for one in kept))
        here = states([END, *kept, *(PIECES.index(letter) for letter in ("bb" + word)[start:])])
        for layer in range(2):
            cosines = [torch.cosine_similarity(here[layer], one[layer], dim=0).item() for one in own]
            row = frame[(frame["prompt_id"] == number) & (frame["layer"] == layer)].iloc[0]
            others = cosines[:number] + cosines[number + 1 :]
            assert row["cosine"] == pytest.approx(cosines[number], abs=FLOAT)
            assert row["cosine_between"] == pytest.approx(np.mean(others), abs=FLOAT)
            ranks = rankdata([*others, cosines[number]])
            assert row["auroc"] == pytest.approx((ranks[-1] - 1) / len(others))


def test_words_that_cannot_be_cut_or_compared_are_refused(toy):
    subject, _ = toy
    with pytest.raises(InputError, match="word 'b' has no token that two others spell"):
        word_states(subject, ["ab", "b"])
    with pytest.raises(InputError, match=r"prompt='a\{word\}b': give a text that ends with \{word\}"):
        word_states(subject, ["ab", "ca"], prompt="a{word}b")


# -- perturbed texts ---------------------------------------------------------------------------------------------------

TEXTS = ["Once upon a time there was a little girl. She lived in a big house.", "He ran home and then he slept well."]


@pytest.fixture(scope="module")
def perturbed():
    return perturbation("reference", TEXTS, p=(0.0, 0.3))


def test_without_changes_nothing_is_lost(perturbed):
    clean = perturbed[perturbed["p"] == 0]
    assert (clean["n_edits"] == 0).all() and (clean["n_changed"] == 0).all() and clean["same_top1"].all()
    assert clean[["lost", "kl"]].to_numpy() == pytest.approx(0.0, abs=FLOAT)
    subject = interp.load("reference")
    for prompt, text in enumerate(TEXTS):
        ids = subject.tokens([text]).ids[0]
        log_probs = subject.logits([text])[0].double().log_softmax(-1)
        starts = [at for at in range(2, len(ids)) if subject.token_strings[int(ids[at])].startswith(" ")]
        half = min(starts, key=lambda at: abs(at - 1 - (len(ids) - 1) / 2))
        n_bytes = sum(len(subject.token_strings[int(one)]) for one in ids[half:])
        loss = -sum(log_probs[at - 1, ids[at]].item() for at in range(half, len(ids))) / n_bytes
        assert clean[clean["prompt_id"] == prompt]["loss_suffix"].to_numpy() == pytest.approx(loss, abs=FLOAT)


def test_changes_are_counted_and_their_control_is_at_the_same_tokens(perturbed):
    changed = perturbed[(perturbed["p"] > 0) & (perturbed["prompt_id"] == 0)]
    wide = changed.pivot(index="scheme", columns="control", values="n_changed")
    assert (wide["none"] == wide["random_token"]).all() and (wide["none"] > 0).all()
    letters = sum(map(str.isalpha, "Once upon a time there was a little"))
    assert changed[changed["scheme"] == "typo"]["n_edits"].isin([int(0.3 * letters), int(0.3 * (letters - 6))]).all()
    baseline = perturbed[(perturbed["p"] == 0) & (perturbed["prompt_id"] == 0)]["loss_suffix"].iloc[0]
    assert (changed["loss_suffix"] - baseline).to_numpy() == pytest.approx(changed["lost"].to_numpy(), abs=FLOAT)
    assert len(perturbed.interp.plot().axes[0].lines) == 5


def test_a_text_of_one_word_has_no_second_half():
    with pytest.raises(InputError, match="prompt 0 has no second word whose loss could be measured"):
        perturbation("reference", ["Once"])


# -- written tokens ----------------------------------------------------------------------------------------------------


def oracle(transition):
    return interp.load(bigram(transition).model, tokenizer=bpe(["A", "B", "AA"], [("A", "A")], end=False))


def test_a_chain_that_writes_two_letters_where_a_token_is_does_so_every_time():
    a, b = [1 - 2e-9, 1e-9, 1e-9], [1e-9, 1 - 2e-9, 1e-9]
    never = written_tokens(oracle([a, a, a]), ["B"], max_new_tokens=6, samples=2)
    assert not never["all_canonical"].any() and (never["kind"] == "split").all()
    assert (never["first_noncanonical"] == 0).all() and (never["share_canonical"] == 0).all()
    always = written_tokens(oracle([b, b, b]), ["B"], max_new_tokens=6, samples=2)
    assert always["all_canonical"].all() and (always["kind"] == "none").all() and (always["share_canonical"] == 1).all()
    shares = get("retokenisation.writes").statistic(never)
    assert shares.tolist() == [0.0]
    assert [bar.get_height() for bar in never.interp.plot().axes[0].patches] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("before", "written", "n_canonical", "first", "kind"),
    [
        ("", "ab c", 0, 0, "split"),  # abc
        ("", "b ca b", 0, 0, "n→m"),  # bc, ab: they meet at the end alone
        ("c", "a b", 0, 0, "split"),  # c, ab
        ("", "cab", 0, 0, "merge"),  # c, ab
        ("", "c ab", 2, None, "none"),
        ("bb", "a b a", 1, 0, "split"),
    ],
)
def test_tokens_are_judged_by_the_tokenizers_own(toy, before, written, n_canonical, first, kind):
    lattice = Lattice(toy[0].tokenizer, END + 1)
    ids = [PIECES.index(one) for one in written.split()]
    found = judge(lattice, lattice.read(before) if before else [], ids)
    assert (found.n_tokens, found.n_canonical, found.first) == (len(ids), n_canonical, first)
    assert found.kind == kind


# -- rows of tokens ----------------------------------------------------------------------------------------------------


def test_rows_that_are_sums_of_their_parts_have_a_cosine_of_one():
    planted = bigram(vocab=len(PIECES), seed=0)
    rows = torch.tensor([[float(piece.count(letter)) for letter in PIECES] for piece in PIECES])
    rows[3:, 3:] = 0
    with torch.no_grad():
        planted.model.embed.weight[:, : len(PIECES)] = rows
    subject = interp.load(planted.model, tokenizer=bpe(PIECES, MERGES, end=False))
    frame = compositionality(subject)
    own = frame[frame["control"] == "none"]
    assert own["cosine_raw"].to_numpy() == pytest.approx(1.0) and own["token_id"].tolist() == list(range(3, 9))
    pieces = Pieces(Lattice(subject.tokenizer, len(PIECES)))
    mean = rows.mean(0)
    for row in own.itertuples():
        assert (row.first_id, row.second_id) in pieces.splits(row.token_id)
        one, two, three = (rows[at] - mean for at in (row.token_id, row.first_id, row.second_id))
        assert row.cosine == pytest.approx(torch.cosine_similarity(one, two + three, dim=0).item(), abs=FLOAT)
    same = frame[frame["control"] == "same_first"]
    assert same["first_id"].tolist() == own["first_id"].tolist()
    assert len(compositionality(subject, n_pairs=2)) == 6
    assert frame.interp.summary()["n_tokens"].tolist() == [6, 6, 6]


def test_of_the_unembedding_its_columns_are_read():
    subject = interp.load("reference")
    frame = compositionality(subject, where="unembedding", n_pairs=5)
    row = frame[frame["control"] == "none"].iloc[0]
    one, two, three = (subject.W_U[:, row[name]] for name in ("token_id", "first_id", "second_id"))
    assert row["cosine_raw"] == pytest.approx(torch.cosine_similarity(one, two + three, dim=0).item(), abs=FLOAT)
    assert len(frame.interp.plot().axes[0].patches) == 3


def test_a_changed_text_that_fills_the_context_is_refused(toy):
    with pytest.raises(TooLong):
        perturbation("reference", ["a " * 200 + "b " * 300], p=(1.0,))
