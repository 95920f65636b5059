"""Next bytes by covers: against every token sequence of a small tokenizer, and on chains whose answer is known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

import interp
from interp.errors import InputError, TooLong
from interp.planted import bigram
from probes import byte_log_prob, next_byte, tokenization_bias

from .conftest import END, PIECES, bpe

EXACT = 1e-12  # sums of float64 probabilities in another order
TEXTS = ["".join(letters) for n in range(1, 5) for letters in product("abc", repeat=n)]


def distributions(frame, method):
    """By prompt: the probability of each next byte's text."""
    rows = frame[frame["method"] == method]
    return {prompt: of.set_index("text")["prob"] for prompt, of in rows.groupby("prompt_id")}


@pytest.fixture(scope="module")
def found(toy):
    subject, _ = toy
    return next_byte(subject, TEXTS, bos=True)


def test_covers_are_those_of_brute_force(toy, found):
    _, brute = toy
    exact = distributions(found, "exact")
    for number, text in enumerate(TEXTS):
        want = {letter: brute.text(text + letter) for letter in "abc"}
        own = brute.encoding(text)
        want["<end>"] = brute.sequence(own) * brute.following(own)[END]
        total = sum(want.values())
        for letter, prob in want.items():
            assert exact[number][letter] == pytest.approx(prob / total, abs=EXACT)


def test_what_is_lost_makes_the_sum_whole(toy):
    """Probabilities of the next bytes, of the end and of what is not canonical sum to that of the text."""
    _, brute = toy
    for text in TEXTS:
        own = brute.encoding(text)
        row = brute.following(own)
        m = sum(row[index] for index in range(END) if not brute.canonical([*own, index]))
        whole = sum(brute.text(text + letter) for letter in "abc") + brute.sequence(own) * (row[END] + m)
        assert whole == pytest.approx(brute.text(text), abs=EXACT)
        every = sum(brute.text(text + letter, canonical=False) for letter in "abc")
        ends = [one for one in brute.covers(text, canonical=False) if "".join(PIECES[at] for at in one) == text]
        every += sum(brute.sequence(one) * brute.following(one)[END] for one in ends)
        assert every == pytest.approx(brute.text(text, canonical=False), abs=EXACT)


def test_the_usual_and_the_healed_distribution_by_their_formulas(toy, found):
    _, brute = toy
    naive, healed = distributions(found, "naive"), distributions(found, "healed")
    for number, text in enumerate(TEXTS):
        own = brute.encoding(text)
        row, before = brute.following(own), brute.following(own[:-1])
        last = PIECES[own[-1]]
        usual = {letter: sum(row[at] for at in range(END) if PIECES[at][0] == letter) for letter in "abc"}
        usual["<end>"] = row[END]
        assert naive[number].to_dict() == pytest.approx(usual, abs=EXACT)
        extending = [at for at in range(END) if PIECES[at].startswith(last)]
        total = sum(before[at] for at in extending)
        for letter in "abc":
            longer = sum(before[at] for at in extending if PIECES[at].startswith(last + letter))
            want = (longer + before[own[-1]] * usual[letter]) / total
            assert healed[number].get(letter, 0.0) == pytest.approx(want, abs=EXACT)


def test_many_prompts_give_what_each_gives(toy, found):
    subject, _ = toy
    for number in (0, 20, 70, len(TEXTS) - 1):
        alone = next_byte(subject, [TEXTS[number]], bos=True)
        together = found[found["prompt_id"] == number].reset_index(drop=True)
        columns = ["text", "method", "prob", "rank"]
        # another batch moves the last digits
        pd.testing.assert_frame_equal(alone[columns], together[columns], rtol=1e-9, atol=EXACT)


def test_only_the_most_probable_bytes_are_kept(toy, found):
    subject, _ = toy
    few = next_byte(subject, TEXTS[:3], bos=True, top_k=2)
    want = found[(found["prompt_id"] < 3) & (found["rank"] < 2)].reset_index(drop=True)
    pd.testing.assert_frame_equal(few[["text", "prob"]], want[["text", "prob"]], rtol=1e-9)


# -- chains of letters -------------------------------------------------------------------------------------------------

P, R, ZERO = 0.3, 0.6, 1e-9


@pytest.fixture(scope="module")
def chain():
    """Letters A, B with P(B | A) = p and P(A | B) = r, written in tokens A, B, AA: again a chain, over tokens.

    A token A is followed by B only: an A after it would have been written AA.
    """
    tokens = np.array(
        [
            [0.0, 1.0, 0.0],
            [R * P, 1 - R, R * (1 - P)],
            [(1 - P) * P, P, (1 - P) ** 2],
        ]
    ).clip(ZERO)
    planted = bigram((tokens / tokens.sum(1, keepdims=True)).tolist())
    return interp.load(planted.model, tokenizer=bpe(["A", "B", "AA"], [("A", "A")], end=False))


CHAIN = 1e-5  # float32 weights of logarithms down to -21, and zeros that are 1e-9


def letters(text):
    """The probability of each next letter by the chain of letters."""
    return {"A": 1 - P, "B": P} if text[-1] == "A" else {"A": R, "B": 1 - R}


def test_a_chain_of_letters_is_found_again_behind_its_tokens(chain):
    texts = ["B" + "".join(rest) for n in range(1, 5) for rest in product("AB", repeat=n)]
    exact = distributions(next_byte(chain, texts), "exact")
    for number, text in enumerate(texts):
        for letter, prob in letters(text).items():
            assert exact[number][letter] == pytest.approx(prob, abs=CHAIN)


def test_the_usual_way_is_sure_of_what_is_not(chain):
    frame = next_byte(chain, ["BA"])
    assert distributions(frame, "naive")[0]["B"] == pytest.approx(1.0, abs=CHAIN)
    assert distributions(frame, "exact")[0]["B"] == pytest.approx(P, abs=CHAIN)
    assert distributions(frame, "healed")[0]["B"] == pytest.approx(P, abs=CHAIN)


def test_bytes_have_the_letters_probabilities(chain):
    text = "BAABABBAAAAB"
    frame = byte_log_prob(chain, [text])
    want = [np.log(letters(text[:n])[text[n]]) for n in range(1, len(text))]
    assert frame["cut"].tolist() == list(range(1, len(text)))
    assert frame["log_prob"].to_numpy() == pytest.approx(np.array(want), abs=10 * CHAIN)


def test_without_longer_tokens_there_is_nothing_to_correct():
    planted = bigram(vocab=3, seed=1)
    subject = interp.load(planted.model, tokenizer=bpe(["a", "b", "c"], [], end=False))
    frame = tokenization_bias(subject, ["abcabca", "ccb"], cuts=2)
    assert frame["tv"].max() < 1e-6 and (frame["control"] == "boundary").all()  # float32 weights
    assert (frame["lost"] == 0).all() and (frame["n_covers"] == 1).all() and (frame["share_canonical"] == 1).all()


# -- where prompts are cut ---------------------------------------------------------------------------------------------


def test_places_count_the_bytes_of_the_text():
    reference = interp.load("reference")
    frame = next_byte(reference, ["a “b”"], cuts=[1, 2, 5, 6], top_k=1)
    assert frame["cut"].unique().tolist() == [1, 2, 5, 6]
    with pytest.raises(InputError, match="cannot be cut at byte 3: it is inside a character"):
        next_byte(reference, ["a “b”"], cuts=[3])
    with pytest.raises(InputError, match="give places from 1 to 9"):
        next_byte(reference, ["a “b”"], cuts=[10])


def test_a_single_token_has_no_probability_of_its_own(toy):
    subject, _ = toy
    with pytest.raises(InputError, match="what is before is one token"):
        next_byte(subject, ["abcabc"], cuts=[3], bos=False)
    assert len(next_byte(subject, ["abcabc"], cuts=[3], bos=True, top_k=1)) == 3


def test_drawn_places_depend_on_the_prompt_and_the_seed_alone(toy):
    subject, _ = toy
    texts = ["abcabbacabcacab", "bacbbabcaabc"]
    one, other = (next_byte(subject, given, cuts=3, top_k=1) for given in (texts, texts[::-1]))
    cuts = [one[one["prompt_id"] == at]["cut"].tolist() for at in (0, 1)]
    assert cuts == [other[other["prompt_id"] == at]["cut"].tolist() for at in (1, 0)]
    assert cuts[0] != next_byte(subject, texts[:1], cuts=3, top_k=1, seed=1)["cut"].tolist()


def test_special_tokens_are_left_whole(toy):
    subject, brute = toy
    ids = [END, *brute.encoding("ab"), END, *brute.encoding("cab")]
    frame = next_byte(subject, [ids], cuts=[1, 2, 3])
    assert frame["cut"].unique().tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="ends with a special token"):
        next_byte(subject, [[*brute.encoding("ab"), END]])


def test_a_byte_that_the_tokenizer_loses_is_named(toy):
    subject, _ = toy
    with pytest.raises(InputError, match="loses byte 0x78 at place 2 of 'abxa'; leave that character out"):
        next_byte(subject, ["<end>c<end>abxa"])


def test_ids_that_no_tokenizer_writes_are_refused(toy):
    subject, _ = toy
    with pytest.raises(InputError, match="prompt 0 holds token ids that its tokenizer would not write"):
        next_byte(subject, [[END, 0, 1]])  # a, b: merged first


def test_a_text_that_fills_the_context_is_refused(toy):
    subject, _ = toy
    text = "ab" * 62 + "abcab"  # 64 tokens with the start; before its last letter, that of five is two
    with pytest.raises(TooLong, match="a text cut otherwise has 65 tokens, and the model takes 64; shorten it"):
        next_byte(subject, [text], cuts=[len(text) - 1], bos=True)


def test_the_figure_shows_the_most_probable_bytes(toy):
    subject, _ = toy
    frame = next_byte(subject, ["ab", "ca"], cuts=[1, 2], bos=True)
    (axes,) = frame.interp.plot().axes
    assert {one.get_text() for one in axes.get_legend().get_texts()} == {"exact", "token healing", "as usual"}
    assert len(axes.containers) == 3
