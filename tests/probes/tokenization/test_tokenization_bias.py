"""The bias of a cut inside a token: against brute force, at its boundaries, and what its claims make of it."""

import numpy as np
import pandas as pd
import pytest

from interp.findings import get
from probes import next_byte, tokenization_bias
from probes.tokenization.claims import boundary_gain

from .conftest import END, PIECES

EXACT = 1e-12
TEXTS = ["abcabcab", "cabbacab", "bcabcaab", "aabbccab"]


@pytest.fixture(scope="module")
def frame(toy):
    return tokenization_bias(toy[0], TEXTS, cuts=[1, 2, 3, 4, 5, 6, 7], bos=True)


def test_every_column_by_brute_force(toy, frame):
    _, brute = toy
    for row in frame[frame["method"] == "exact"].itertuples():
        text = TEXTS[row.prompt_id][: row.cut]
        own, whole = brute.encoding(text), brute.text(text)
        after = brute.following(own)
        m = sum(after[at] for at in range(END) if not brute.canonical([*own, at]))
        assert row.noncanonical == pytest.approx(m, abs=EXACT)
        assert row.lost == pytest.approx(m * brute.sequence(own) / whole, abs=EXACT)
        assert row.share_canonical == pytest.approx(brute.sequence(own) / whole, abs=EXACT)
        assert row.n_covers == len(brute.covers(text))
        true = brute.text(TEXTS[row.prompt_id][: row.cut + 1])
        assert row.log_prob == pytest.approx(np.log(true / whole / (1 - row.lost)), abs=EXACT)
        assert row.at_boundary == (brute.encoding(TEXTS[row.prompt_id])[: len(own)] == own)


def test_distances_are_those_of_the_distributions(toy, frame):
    subject, _ = toy
    whole = next_byte(subject, TEXTS, cuts=[1, 2, 3, 4, 5, 6, 7], bos=True)
    wide = whole.pivot_table(index=["prompt_id", "cut"], columns=["method", "text"], values="prob", fill_value=0.0)
    for method in ("naive", "healed"):
        exact, other = wide["exact"], wide[method].reindex(columns=wide["exact"].columns, fill_value=0.0)
        rows = frame[frame["method"] == method].set_index(["prompt_id", "cut"])
        assert rows["tv"].to_numpy() == pytest.approx(((exact - other).abs().sum(axis=1) / 2).to_numpy(), abs=1e-9)
        with np.errstate(divide="ignore"):
            kl = (exact * np.log(exact / other)).sum(axis=1).replace(np.inf, np.nan)
        np.testing.assert_allclose(rows["kl_to_exact"].to_numpy(), kl.to_numpy(), atol=1e-9)


def test_rows_of_the_exact_method_are_at_no_distance(toy, frame):
    exact = frame[frame["method"] == "exact"]
    assert (exact["tv"] == 0).all() and (exact["kl_to_exact"] == 0).all()
    alone = tokenization_bias(toy[0], ["abcab"], cuts=[2], bos=True, healing=False)
    assert set(alone["method"]) == {"exact", "naive"}


def by_alignment(brute, text):
    """The next letter if the whole text is taken back, each step renormalised over what begins a cover."""
    found, covers = dict.fromkeys("abc", 0.0), brute.covers(text)

    def walk(left, weight):
        row = brute.following(left)
        if (spelt := "".join(PIECES[at] for at in left)) == text:
            goes_on = {at: row[at] for at in range(END) if brute.canonical([*left, at])}
        else:
            goes_on = {one[len(left)]: row[one[len(left)]] for one in covers if one[: len(left)] == left}
        total = sum(goes_on.values()) + row[END] * (spelt == text)
        for at, prob in goes_on.items():
            longer = spelt + PIECES[at]
            if len(longer) > len(text):
                found[longer[len(text)]] += weight * prob / total
            else:
                walk((*left, at), weight * prob / total)

    walk((), 1.0)
    return found


def test_alignment_does_not_weigh_the_ways_to_write_a_word(toy):
    subject, brute = toy
    frame = tokenization_bias(subject, TEXTS, cuts=[1, 3, 5, 7], bos=True, healing="pretoken")
    assert set(frame["method"]) == {"exact", "naive", "aligned"}
    rows = frame[frame["method"] == "aligned"]
    want = [by_alignment(brute, TEXTS[row.prompt_id][: row.cut])[row.text] for row in rows.itertuples()]
    assert np.exp(rows["log_prob"]).to_numpy() == pytest.approx(np.array(want), abs=EXACT)
    exact = frame[frame["method"] == "exact"]["log_prob"].to_numpy()
    assert np.abs(rows["log_prob"].to_numpy() - exact).max() > 0.01  # a random model: the weights matter


def test_alignment_takes_back_one_word():
    """After a space nothing else is taken back, so that all ways begin alike and weights do not matter."""
    frame = tokenization_bias("reference", ["Once upon a time there"], cuts=[12], healing="pretoken")
    by_method = frame.set_index("method")["log_prob"]
    assert (
        by_method["aligned"] == pytest.approx(by_method["exact"], abs=1e-3)
        and by_method["naive"] < by_method["exact"] - 1
    )


def made(rows):
    """A frame of log-probabilities by prompt, kind of cut and method."""
    columns = ["prompt_id", "cut", "control", "method", "log_prob", "tv", "noncanonical"]
    return pd.DataFrame(rows, columns=columns)


FRAME = made(
    [
        (prompt, cut, control, method, log_prob - prompt, tv, 0.002 * cut)
        for prompt in (0, 1)
        for cut, control, by_method in (
            (1, "none", {"exact": (-0.5, 0.0), "naive": (-4.5, 0.9), "healed": (-1.5, 0.3)}),
            (2, "boundary", {"exact": (-1.0, 0.0), "naive": (-1.1, 0.1), "healed": (-1.0, 0.0)}),
        )
        for method, (log_prob, tv) in by_method.items()
    ]
)


def test_the_claims_statistics_by_hand():
    inside, between = get("bytes.bias").statistic(FRAME)
    assert inside.tolist() == pytest.approx([4.0, 4.0]) and between.tolist() == pytest.approx([0.1, 0.1])
    assert get("bytes.boundary").statistic(FRAME).tolist() == pytest.approx([0.1, 0.1])
    assert boundary_gain(FRAME).tolist() == pytest.approx([0.1, 0.1])
    assert get("bytes.healing").statistic(FRAME).tolist() == pytest.approx([0.75, 0.75])
    assert get("bytes.canonical").statistic(FRAME).tolist() == pytest.approx([0.004, 0.004])


def test_a_prompt_without_a_boundary_is_not_compared():
    only = FRAME[(FRAME["prompt_id"] == 0) | (FRAME["control"] == "none")]
    inside, between = get("bytes.bias").statistic(only)
    assert inside.index.tolist() == between.index.tolist() == [0]


def test_the_figure_has_a_mark_for_each_method_and_kind_of_cut(frame):
    left, right = frame.interp.plot().axes
    assert len(left.containers) == len(right.containers) == 6
