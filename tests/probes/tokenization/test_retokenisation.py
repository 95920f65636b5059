"""Texts cut otherwise: by plain PyTorch, on planted models by formula, and what other probes make of them."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError, TooLong, UnknownName
from interp.findings import get
from interp.planted import bigram, copying
from probes import attribute, logit_lens, retokenisation, retokenised, written_tokens

from .conftest import END, MERGES, PIECES, bpe

SCHEMES = ("split_one", "split_last", "stochastic", "bytes", "uniform")
TEXTS = ["abcabcabbcab", "cabbacabcaabc", "bcabcaabab"]
FLOAT = 1e-5  # statistics are float32


@pytest.fixture(scope="module")
def frame(toy):
    return retokenisation(toy[0], TEXTS, schemes=SCHEMES, n_variants=2, p=0.3, bos=True)


def ids_of(toy, scheme, number, control=False):
    """The token ids of every text in one draw, with the start."""
    found = retokenised(toy[0], TEXTS, scheme=scheme, p=0.3, number=number, control=control, bos=True)
    return found["input_ids"].tolist()


def states_of(model, ids):
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True)
    *blocks, _ = out.hidden_states  # the last one is behind the final norm
    return blocks, out.logits[0].log_softmax(-1)


def ends_of(ids):
    return np.cumsum([len(PIECES[one]) for one in ids[1:]]).tolist()


def test_every_column_by_plain_pytorch(toy, frame):
    _, brute = toy
    for prompt, text in enumerate(TEXTS):
        own = [END, *brute.encoding(text)]
        blocks, log_probs = states_of(brute.model, own)
        for scheme in SCHEMES:
            here = ids_of(toy, scheme, 0)[prompt]
            row = frame.query(f"prompt_id == {prompt} and scheme == '{scheme}' and variant == 0 and control == 'none'")
            theirs, other = states_of(brute.model, here)
            kl = (log_probs[-1].exp() * (log_probs[-1] - other[-1])).sum().item()
            assert row["kl"].to_numpy() == pytest.approx(kl, abs=FLOAT)
            assert row["same_top1"].all() == (log_probs[-1].argmax() == other[-1].argmax()).item()
            total = sum(other[at - 1, here[at]].item() for at in range(1, len(here)))
            mine = sum(log_probs[at - 1, own[at]].item() for at in range(1, len(own)))
            assert row["log_prob"].to_numpy() == pytest.approx(total, rel=FLOAT)
            assert row["lost"].to_numpy() == pytest.approx((mine - total) / len(text), abs=FLOAT)
            changed = [at for at, place in enumerate(ends_of(own)) if not kept(own, here, at)]
            first = ends_of(own)[changed[0] - 1] if changed and changed[0] else 0
            common = [place for place in ends_of(own) if place in ends_of(here) and (place > first or not changed)]
            assert (row["n_changed"] == len(changed)).all()
            for layer, (one, two) in enumerate(zip(blocks, theirs, strict=True)):
                cosines = [
                    torch.cosine_similarity(
                        one[0, 1 + ends_of(own).index(at)], two[0, 1 + ends_of(here).index(at)], dim=0
                    ).item()
                    for at in common
                ]
                (of_layer,) = row[row["layer"] == layer].to_dict("records")
                assert of_layer["cosine"] == pytest.approx(np.mean(cosines), abs=FLOAT)
                assert of_layer["cosine_last"] == pytest.approx(cosines[-1], abs=FLOAT)


def kept(own, here, at):
    """Tell whether a sequence has the token of another at the same bytes."""
    stop = ends_of(own)[at]
    if stop not in ends_of(here):
        return False
    place = ends_of(here).index(stop)
    return here[1 + place] == own[1 + at]


def test_the_controls_are_what_they_are_called(toy, frame):
    none, random = (frame[frame["control"] == one] for one in ("none", "random_token"))
    keys = ["prompt_id", "scheme", "variant", "layer"]
    both = none.merge(random, on=keys)
    assert len(both) == len(none) == len(random)
    assert (both["n_changed_x"] == both["n_changed_y"]).all()
    assert (both["n_ids_y"] == both["n_ids_canonical_y"]).all()
    itself = frame[frame["control"] == "canonical"]
    assert itself["cosine"].to_numpy() == pytest.approx(1.0, abs=FLOAT)
    assert itself[["kl", "lost"]].to_numpy() == pytest.approx(0.0, abs=FLOAT)
    assert (itself["n_noncanonical"] == 0).all() and itself["same_top1"].all()
    for scheme in SCHEMES:
        for own, other in zip(ids_of(toy, scheme, 1), ids_of(toy, scheme, 1, control=True), strict=True):
            text = "".join(PIECES[one] for one in own[1:])
            assert text in TEXTS
            canonical = [END, *toy[1].encoding(text)]
            want = [at for at in range(len(canonical) - 1) if not kept(canonical, own, at)]
            assert [at for at in range(len(canonical) - 1) if other[1 + at] != canonical[1 + at]] == want


def test_variants_depend_on_the_text_and_the_seed_alone(toy, frame):
    subject, _ = toy
    back = retokenisation(subject, TEXTS[::-1], schemes=("uniform",), n_variants=2, bos=True)
    for prompt in range(3):
        one = frame.query(f"prompt_id == {prompt} and scheme == 'uniform'")
        other = back.query(f"prompt_id == {2 - prompt} and scheme == 'uniform'")
        columns = ["control", "n_ids", "layer"]
        assert (one[columns].to_numpy() == other[columns].to_numpy()).all()
        # another batch moves the last digits
        assert one["kl"].to_numpy() == pytest.approx(other["kl"].to_numpy(), abs=FLOAT)
    reseeded = retokenised(subject, TEXTS, scheme="uniform", bos=True, seed=1)["input_ids"].tolist()
    assert reseeded != ids_of(toy, "uniform", 0)


def test_without_a_start_losses_count_from_the_first_common_cut(toy):
    subject, brute = toy
    frame = retokenisation(subject, TEXTS[:1], schemes=("bytes",), bos=False)
    own = brute.encoding(TEXTS[0])
    here = retokenised(subject, TEXTS[:1], scheme="bytes", bos=False)["input_ids"][0]
    assert [PIECES[one] for one in here] == list(TEXTS[0])
    first = len(PIECES[own[0]])
    _, mine = states_of(brute.model, list(own))
    _, theirs = states_of(brute.model, here)
    total = sum(theirs[at - 1, here[at]].item() for at in range(first, len(here)))
    whole = sum(mine[at - 1, own[at]].item() for at in range(1, len(own)))
    row = frame[frame["control"] == "none"].iloc[0]
    assert row["log_prob"] == pytest.approx(total, rel=FLOAT)
    assert row["lost"] == pytest.approx((whole - total) / (len(TEXTS[0]) - first), abs=FLOAT)


# -- planted models ----------------------------------------------------------------------------------------------------


def test_on_a_chain_of_tokens_divergence_and_loss_are_its_own():
    """In `bigram` the last token alone decides: after AB cut into A, B follows what follows B."""
    planted = bigram(vocab=3, seed=2)
    subject = interp.load(planted.model, tokenizer=bpe(["A", "B", "AB"], [("A", "B")], end=False))
    frame = retokenisation(subject, ["BAB"], schemes=("split_last",))
    law = planted.truth.transition.log()
    a, b, ab = range(3)
    row = frame[frame["control"] == "none"].iloc[0]
    assert row["kl"] == pytest.approx((law[ab].exp() * (law[ab] - law[b])).sum().item(), abs=FLOAT)
    assert row["lost"] == pytest.approx((law[b, ab] - law[b, a] - law[a, b]).item() / 2, abs=FLOAT)
    assert row["n_noncanonical"] == 1 and row["n_ids"] == 3


def test_what_uniform_attention_writes_of_a_text_is_the_same_in_all_its_cuts():
    """Rows of longer tokens are sums of their letters': the sum over a text is that of its letters, however cut."""
    a = 4.0
    planted = copying(vocab=len(PIECES), a=a)
    spelt = torch.tensor([[float(piece.count(letter)) for letter in PIECES] for piece in PIECES])
    rows = torch.where(
        torch.tensor([len(piece) > 1 for piece in PIECES])[:, None], spelt * (torch.arange(9) < 3), spelt
    )
    with torch.no_grad():
        planted.model.embed.weight[:, : len(PIECES)] = rows
    subject = interp.load(planted.model, tokenizer=bpe(PIECES, MERGES, end=False))
    frame = retokenisation(subject, TEXTS, schemes=SCHEMES, n_variants=2, p=0.5)

    def end(ids):
        counts = rows[list(ids)].sum(0)
        return rows[ids[-1]] + a * counts / len(ids), counts

    for scheme in SCHEMES:
        for control in (False, True):
            cut = retokenised(subject, TEXTS, scheme=scheme, p=0.5, control=control)
            for prompt, (text, here) in enumerate(zip(TEXTS, cut["input_ids"], strict=True)):
                own, letters = end(subject.tokenizer(text)["input_ids"])
                other, theirs = end(here)
                assert control or torch.equal(letters, theirs)
                row = frame.query(
                    f"prompt_id == {prompt} and scheme == '{scheme}' and variant == 0 and layer == 1 and "
                    f"control == '{'random_token' if control else 'none'}'"
                )
                want = torch.cosine_similarity(own, other, dim=0).item()
                assert row["cosine_last"].item() == pytest.approx(want, abs=FLOAT)


# -- summaries, claims and figures -------------------------------------------------------------------------------------


def test_a_layer_repairs_where_it_is_nearer_to_the_text_than_to_the_control():
    rows = [
        ("m", "r", 0, "split_one", 0, control, layer, cosine)
        for control, cosines in (("none", (0.2, 0.6, 0.9)), ("random_token", (0.1, 0.3, 0.7)))
        for layer, cosine in enumerate(cosines)
    ]
    frame = pd.DataFrame(
        rows, columns=["model", "run_id", "prompt_id", "scheme", "variant", "control", "layer", "cosine"]
    )
    found = retokenisation.probe.summarise(frame, by="variant")
    assert found["repair_layer"].tolist() == [2]  # at 1: 0.4 from 1, 0.3 from the control
    whole = retokenisation.probe.summarise(frame, by="scheme")
    assert whole[["repair_layer", "repaired"]].values.tolist() == [[2.0, 1.0]]
    with pytest.raises(InputError, match="cannot sum retokenisation up by 'token'; choose"):
        retokenisation.probe.summarise(frame, by="token")


def test_the_claims_statistics_by_hand(toy):
    frame = retokenisation(toy[0], TEXTS, schemes=("split_last", "stochastic"), n_variants=2, p=0.3, bos=True)
    for claim, scheme in (("last", "split_last"), ("tenth", "stochastic")):
        kl, control = get(f"retokenisation.{claim}").statistic(frame)
        for prompt in range(3):
            of = frame[(frame["prompt_id"] == prompt) & (frame["scheme"] == scheme) & (frame["layer"] == 0)]
            assert kl[prompt] == pytest.approx(of[of["control"] == "none"]["kl"].mean())
            assert control[prompt] == pytest.approx(of[of["control"] == "random_token"]["kl"].mean())
    last, first = get("retokenisation.repair").statistic(frame)
    of = frame[(frame["prompt_id"] == 1) & (frame["scheme"] == "split_last")].set_index(["layer", "control"])["cosine"]
    means = of.groupby(level=[0, 1]).mean().unstack()
    gained = means["none"] - means["random_token"]
    assert (first[1], last[1]) == pytest.approx((gained.iloc[0], gained.iloc[-1]))


def test_the_figure_has_a_line_for_each_scheme_and_its_control(frame):
    left, right = frame.interp.plot().axes
    assert len(left.lines) == 2 * len(SCHEMES) and len(right.containers) == 2 * len(SCHEMES)


# -- for other probes --------------------------------------------------------------------------------------------------


def test_other_probes_read_texts_cut_otherwise(toy):
    subject, brute = toy
    texts = pd.DataFrame({"text": TEXTS, "prompt_id": [7, 5, 6], "kind": ["x", "y", "z"]})
    cut = retokenised(subject, texts, scheme="split_last", bos=True)
    assert cut[["prompt_id", "kind"]].to_numpy().tolist() == [[7, "x"], [5, "y"], [6, "z"]]
    assert (cut["n_changed"] == 1).all() and (cut["scheme"] == "split_last").all()
    frame = logit_lens(subject, cut, positions=-1, targets=0)
    assert frame["kind"].tolist() == [one for one in "yzx" for _ in range(3)]
    want = [brute.following(tuple(ids[1:]))[0] for ids in cut.sort_values("prompt_id")["input_ids"]]
    assert np.exp(frame[frame["layer"] == 2]["log_prob"]).to_numpy() == pytest.approx(np.array(want), abs=FLOAT)
    scores = attribute(subject, cut, methods=("random",))
    lengths = dict(zip(cut["prompt_id"], map(len, cut["input_ids"]), strict=True))
    assert scores.groupby("prompt_id").size().to_dict() == lengths


def test_what_cannot_be_cut_is_refused(toy):
    subject, _ = toy
    with pytest.raises(InputError, match="prompt 1 has no token that two others spell, so it has no other cut"):
        retokenisation(subject, ["abc", "bb"])
    with pytest.warns(UserWarning, match=r"scheme 'stochastic' with p=0.1 changes nothing in these texts; give longer"):
        retokenisation(subject, ["abcab"], schemes=("stochastic",))
    with pytest.raises(TooLong, match="prompt 0 cut by 'bytes' has 71 tokens, and the model takes 64; shorten it"):
        retokenisation(subject, ["abcab" * 14], schemes=("bytes",), bos=True)
    with pytest.raises(UnknownName, match="unknown scheme 'byte'; did you mean 'bytes'"):
        retokenised(subject, ["abcab"], scheme="byte")


def test_changes_of_the_text_are_laid_on_it_by_its_bytes():
    """In Python source with other spaces, states are compared where a symbol ends in both, and read after the last."""
    source = "def add_one(some_value):\n    new_value = some_value+1\n    return new_value"
    cut = {one: retokenised("reference", [source], scheme=one, p=0.5) for one in ("spacing", "naming", "typo")}
    frame = retokenisation("reference", [source], schemes=tuple(cut), n_variants=1, p=0.5, layers=(0, 8))
    subject = interp.load("reference")
    for scheme, given in cut.items():
        text = subject.tokenizer.decode(given["input_ids"][0], skip_special_tokens=True)
        assert text != source and (scheme == "typo" or len(text) >= len(source) - 5)
        row = frame[(frame["scheme"] == scheme) & (frame["control"] == "none")].iloc[0]
        assert row["n_noncanonical"] == 0 and row["n_ids"] == len(given["input_ids"][0]) - 1
        own, other = (subject.logits(one)[0][-1].double().log_softmax(-1) for one in ([source], given))
        assert row["kl"] == pytest.approx((own.exp() * (own - other)).sum().item(), rel=1e-4)  # float32 of logits
    with pytest.raises(InputError, match="'Once upon a time' is not Python"):
        retokenisation("reference", ["Once upon a time"], schemes=("spacing",))


def test_shipped_stories_with_their_columns_are_read():
    stories = interp.dataset("stories").head(1).assign(text=lambda frame: frame["text"].str[:60])
    frame = retokenisation("reference", stories, schemes=("split_last",), n_variants=1, layers=8)
    assert (frame["seed"] == stories["seed"].iat[0]).all() and "n_tokens" in frame.columns
    assert len(written_tokens("reference", stories, max_new_tokens=2, samples=1)) == 1
