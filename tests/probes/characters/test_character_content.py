"""Embeddings with known letters in them, and without; the probe must tell them apart, and its splitter too."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interp
from interp.errors import InputError
from probes import character_content, vocabulary
from probes.characters._fits import CONTROLS, Conditions
from probes.characters._lemma_splits import group_words
from probes.characters._summary import _resampled_means, summarise_letters
from probes.characters._token_vectors import single_token_residuals
from probes.vocab._directions import suspects

pytestmark = pytest.mark.trained

LETTERS = list("aeiourstlnm")
VERBS = """
walk talk jump look turn call play help work want ask start stay show climb pull push kick fill wash cook
clean paint count point park pack pick rock lock knock crack track trust test last rest blast boast roast toast coast
shout spout sprout scout count mount float boat coat load loan moan groan train gain rain stain strain drain plant
grant chant hunt mark bark remark spark embark smell spell yell fold mold sort port report import export support
transport transform perform form inform alarm harm farm warm charm storm learn earn burn return sail fail mail nail
hail trail jail bail peel feel reel heel wheel kneel boil coil foil soil toil roll toll poll pour tour sour roar soar
cook hook look book crook brook loom room zoom bloom groom doom boom blink link wink drink think
"""


def subject_of(words: list[str], embedding: torch.Tensor, *, bos: bool = False, n_layer: int = 1) -> interp.Subject:
    """A GPT-2 whose token i is `words[i]` and reads as `embedding[i]`."""
    vocabulary_ = {word: place for place, word in enumerate([*words, "<s>"])}
    core = Tokenizer(WordLevel(vocabulary_))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **({"bos_token": "<s>"} if bos else {}))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary_), n_positions=16, n_embd=embedding.shape[1], n_layer=n_layer, n_head=2
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wte.weight[: len(words)] = embedding
    return interp.load(model, tokenizer=tokenizer)


def random_words(n: int) -> list[str]:
    """Different strings of two to seven letters; in each, a letter is as likely as another."""
    generator = np.random.default_rng(0)
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(generator.choice(LETTERS, generator.integers(2, 8)))] = None
    return list(found)


def planted(words: list[str], sigma: float, d: int = 32) -> torch.Tensor:
    """The sum of orthonormal directions, one per letter in the word, and noise of `sigma` on every axis."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    inside = torch.tensor([[float(letter in word) for letter in LETTERS] for word in words])
    return inside @ directions[: len(LETTERS)] + sigma * torch.randn(len(words), d, generator=generator)


WORDS = random_words(2000)


@pytest.fixture(scope="module")
def clear() -> interp.Subject:
    return subject_of(WORDS, planted(WORDS, 0.05))


def of_none(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["control"] == "none"]


# -- planted truth ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", ["ridge", "logistic", "mlp"])
def test_planted_letters_are_found_and_no_control_finds_them(clear, probe):
    vectors = ("random", "permuted", "norm_matched", "shuffled_labels")
    options = {"epochs": 15, "lr": 3e-3} if probe == "mlp" else {}
    frame = character_content(clear, probe=probe, seeds=2, controls=vectors, language=None, **options)
    assert sorted(frame["letter"].unique()) == sorted(LETTERS)
    assert of_none(frame)["macro_f1"].min() > 0.97 and of_none(frame)["auroc"].min() > 0.99
    for control in vectors:
        # About 200 test words a letter, 22 of them: the mean of a coin's F1 is 0.50 with standard error 0.008.
        own = frame[frame["control"] == control]
        assert 0.3 < own["macro_f1"].mean() < 0.54, control
        assert own["auroc"].mean() == pytest.approx(0.5, abs=0.05), control


def test_provenance_has_every_argument_as_it_was_given(clear):
    frame = character_content(clear, letters=["a"], probe="ridge", seeds=1, controls=[], language=None)
    (run,) = frame.interp.runs.values()
    defaults = {name: one.default for name, one in inspect.signature(character_content).parameters.items()}
    given = {"letters": ["a"], "probe": "ridge", "seeds": 1, "controls": [], "language": None}
    assert run["parameters"] == {name: one for name, one in (defaults | given).items() if name != "subject"}


def test_an_indicator_of_each_letter_is_all_a_probe_needs():
    inside = torch.tensor([[float(letter in word) for letter in LETTERS] for word in WORDS])
    padded = torch.nn.functional.pad(inside, (0, 16 - len(LETTERS)))
    frame = character_content(subject_of(WORDS, padded), probe="ridge", seeds=2, controls=[], language=None)
    assert (frame["macro_f1"] == 1).all() and (frame["auroc"] == 1).all()


@pytest.mark.parametrize("sigma", [0.7, 1.5])
def test_auroc_is_its_closed_form(sigma):
    """Along the letter's own direction words differ by 1 and noise by sigma on each: AUC = Φ(1 / (σ√2))."""
    frame = character_content(
        subject_of(WORDS, planted(WORDS, sigma)), probe="ridge", seeds=4, controls=[], language=None
    )
    # The direction is estimated from 1600 words in 32 dimensions, which costs up to 0.015; 44 samples of 200 words
    # each, of 4 x 2000 / 5 words in all, leave a standard error of 0.006.
    assert frame["auroc"].mean() == pytest.approx(norm.cdf(1 / (sigma * math.sqrt(2))), abs=0.025)


def test_noise_without_end_is_the_control():
    frame = character_content(
        subject_of(WORDS, planted(WORDS, 1e4)), probe="ridge", seeds=2, controls=["permuted"], language=None
    )
    means = frame.groupby("control")["macro_f1"].mean()
    assert means["none"] == pytest.approx(0.5, abs=0.04) and means["permuted"] == pytest.approx(0.5, abs=0.04)


def test_what_only_the_lemma_knows_leaks_unless_lemmas_are_split():
    """Vectors are a function of the lemma and of nothing else: a clean split leaves nothing to find."""
    words = [stem + ending for stem in dict.fromkeys(VERBS.split()) for ending in ("", "s", "ed", "ing")]
    groups = group_words(words, "strict", "en")
    vectors = torch.randn(int(groups.max()) + 1, 256, generator=torch.Generator().manual_seed(0))
    subject = subject_of(words, vectors[groups])
    letters = ["a", "o", "r", "t", "l", "m"]  # of stems: no ending has one
    means = {
        split: character_content(
            subject, letters=letters, probe="ridge", seeds=4, controls=["permuted"], split=split, min_tokens=20
        ).groupby("control")["macro_f1"].mean()
        for split in ("strict", "random")
    }  # fmt: skip
    assert means["random"]["none"] > 0.95
    # 24 samples; a lemma's four forms stand or fall together, about 20 lemmas each: standard error 0.03.
    assert means["strict"]["none"] == pytest.approx(0.5, abs=0.08)
    assert means["random"]["permuted"] == pytest.approx(0.5, abs=0.08)


def best_by_length() -> float:
    """Mean over letters of the best balanced accuracy that a word's length allows, from the counts of `WORDS`."""
    lengths, best = np.array([len(word) for word in WORDS]), []
    for letter in LETTERS:
        inside = np.array([letter in word for word in WORDS])
        shares = [np.bincount(lengths[inside == yes], minlength=8) / (inside == yes).sum() for yes in (True, False)]
        best.append(np.maximum(*shares).sum() / 2)
    return float(np.mean(best))


def test_length_alone_says_something_and_is_told_apart(clear):
    """Long words have more letters: the length control is above a coin, and the task "length" is all its own."""
    frame = character_content(clear, probe="ridge", seeds=2, controls=["length_only", "frequency_only"], language=None)
    means = frame.groupby("control")["macro_f1"].mean()
    assert 0.53 < means["length_only"] < best_by_length() + 0.02
    assert means["frequency_only"] == pytest.approx(0.5, abs=0.04)
    lengths = character_content(
        clear, task="length", probe="logistic", seeds=1, controls=["length_only"], language=None
    )
    assert lengths["letter"].tolist()[:2] == ["3", "4"]
    assert (lengths.loc[lengths["control"] == "length_only", "macro_f1"] == 1).all()


def test_frequency_control_reads_the_frequencies_it_is_given(clear):
    has_e = np.array([*(float("e" in word) for word in WORDS), 0.0])
    frame = character_content(
        clear, letters=["e"], probe="ridge", seeds=1, controls=["frequency_only"], frequencies=has_e, language=None
    )
    assert frame.set_index("control")["macro_f1"]["frequency_only"] > 0.95


def test_a_control_draws_what_its_name_says():
    matrix = torch.randn(500, 40, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 5, 500)[:, None]
    lengths, every = np.arange(500) % 9 + 2, np.arange(500)
    conditions = Conditions(matrix, lengths, -every, CONTROLS)
    found = {one.control: one.features(every).clone() for one in conditions.of_seed(3)}
    assert torch.equal(found["none"], matrix) and torch.equal(found["shuffled_labels"], matrix)
    # 20,000 draws: four standard errors of a standard deviation are 2 %
    assert float(found["random"].std()) == pytest.approx(0.01, rel=0.02)
    torch.testing.assert_close(found["norm_matched"].norm(dim=1), matrix.norm(dim=1))
    cosines = torch.cosine_similarity(found["norm_matched"], matrix)
    assert abs(float(cosines.mean())) < 4 / math.sqrt(500 * 40)
    assert torch.equal(found["permuted"].sort(dim=0).values, matrix.sort(dim=0).values)
    assert not torch.equal(found["permuted"], matrix)
    assert len({tuple(row) for row in found["length_only"].tolist()}) == len(set(lengths))
    assert found["frequency_only"].argmax(dim=1).diff().le(0).all() and (found["frequency_only"].sum(dim=1) == 1).all()
    again = {one.control: one.features(every).clone() for one in conditions.of_seed(4)}
    for control in ("random", "norm_matched", "permuted"):
        assert not torch.equal(again[control], found[control])


# -- samples and draws -----------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_split(clear):
    frame = character_content(clear, probe="logistic", seeds=[3], controls=["permuted"], language=None)
    assert (frame["n_positive"] * 2 == frame["n_test"]).all()
    table = frame.pivot(index="letter", columns="control", values="n_train")
    assert (table["none"] == table["permuted"]).all() and (table["none"] % 2 == 0).all()
    for letter, n in table["none"].items():
        inside = sum(letter in word for word in WORDS)
        # 64 % of the words, give or take four standard deviations of drawing them
        assert n == pytest.approx(2 * 0.64 * min(inside, len(WORDS) - inside), abs=4 * 2 * math.sqrt(inside * 0.23))


@pytest.mark.parametrize("probe", ["ridge", "mlp"])
def test_numbers_do_not_depend_on_company_or_memory(clear, probe):
    """Another letter, seed, control or chunk beside it changes no row, but for sums in another order."""
    options = {"probe": probe, "language": None, "epochs": 1}
    several = character_content(clear, letters=["e", "s", "t"], seeds=3, controls=["permuted", "random"], **options)
    with interp.options.local(memory=1):
        alone = character_content(clear, letters=["s"], seeds=[1], controls=["random"], **options)
    rows = several[(several["letter"] == "s") & (several["seed"] == 1) & (several["control"] != "permuted")]
    # Ridge chooses one penalty for the letters together. Networks round their sums in another order, by which a pair of
    # words with all but equal scores, one in 25,000, may change places.
    atol = 0.02 if probe == "ridge" else 1e-3
    numbers = ["n_train", "n_test", "n_positive", "macro_f1", "accuracy", "auroc"]
    np.testing.assert_allclose(rows.sort_values("control")[numbers], alone.sort_values("control")[numbers], atol=atol)


def test_the_same_call_gives_the_same_frame(clear):
    first, second = (
        character_content(clear, letters=["e"], probe="mlp", seeds=2, controls=["random"], epochs=1, language=None)
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, second)
    other = character_content(clear, letters=["e"], seeds=1)
    assert (other["probe"] == "ridge").all(), "a network is trained where it is asked for"
    assert first["run_id"].iat[0] != other["run_id"].iat[0]


@pytest.mark.parametrize("probe", ["ridge", "logistic", "mlp"])
def test_the_bar_moves_within_a_split_and_ends_full(clear, probe, monkeypatch):
    moves: list[int] = []
    totals: list[int] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None:
            """Close nothing."""

        def update(self, n: int) -> None:
            moves.append(n)

    def bar(total: int, unit: str, label: str) -> Bar:
        totals.append(total)
        return Bar()

    monkeypatch.setattr("probes.characters.character_content.progress_bar", bar)
    controls = ["random", "length_only"]
    options = {"letters": ["e", "s"], "seeds": 2, "controls": controls, "layers": [0, 1], "epochs": 2, "language": None}
    frame = character_content(clear, probe=probe, **options)
    assert sum(moves) == totals[0]
    if probe == "ridge":
        assert len(moves) == 2 * 2  # layers and seeds
    elif probe == "logistic":
        assert len(moves) == len(frame)
    else:
        steps = frame[frame["control"] != "length_only"]["n_train"].map(lambda n: 2 * math.ceil(n / 64))
        assert totals[0] == steps.sum() and len(moves) > 100  # the networks of a split make each step together


def test_letters_in_too_few_tokens_are_left_out(clear):
    options = {"probe": "ridge", "seeds": 1, "controls": [], "language": None}
    assert "z" not in character_content(clear, **options)["letter"].unique()
    most = max(sum(letter in word for word in WORDS) for letter in LETTERS)
    kept = character_content(clear, min_tokens=most, **options)["letter"].unique()
    assert [letter for letter in LETTERS if sum(letter in word for word in WORDS) == most] == kept.tolist()
    with pytest.raises(InputError, match=r"no letter is in 1001 and absent from 1001 of 2000 words; lower min_tokens"):
        character_content(clear, min_tokens=1001, **options)


def test_the_papers_bug_mode_labels_by_either_case():
    words = [word.capitalize() if place % 2 else word for place, word in enumerate(WORDS)]
    subject = subject_of(words, planted([word.lower() for word in words], 0.05))
    options = {"letters": ["s", "m"], "probe": "ridge", "seeds": 1, "controls": [], "language": None}
    clean, bug = character_content(subject, **options), character_content(subject, label_bug=True, **options)
    assert (clean["n_positive"] * 2 == clean["n_test"]).all()
    assert (bug["n_positive"] * 2 > bug["n_test"]).all()
    sensitive = character_content(subject, case="sensitive", **options)
    assert (sensitive["n_positive"] < bug["n_positive"]).all()


def test_any_alphabet():
    cyrillic = str.maketrans(dict(zip(LETTERS, "аеиоурстлнм", strict=True)))
    words = [word.translate(cyrillic) for word in WORDS] + ["latin", "words"]
    subject = subject_of(words, torch.cat([planted(WORDS, 0.05), torch.zeros(2, 32)]))
    frame = character_content(subject, letters="Cyrillic", probe="ridge", seeds=1, controls=[], min_tokens=250)
    counts = {letter: sum(letter in word for word in words) for letter in "аеиоурстлнм"}
    assert set(frame["letter"]) == {letter for letter, n in counts.items() if n >= 250}
    assert frame["macro_f1"].min() > 0.97
    assert vocabulary(subject, letters="Cyrillic")["kind"].value_counts()["word"] == len(WORDS)


def test_glitches_can_be_left_out():
    vectors = planted(WORDS, 0.05)
    vectors[:10] = 0  # the rows nearest to the mean of all, so that they are their own reference
    subject = subject_of(WORDS, vectors)
    options = {"letters": ["e"], "probe": "ridge", "seeds": 1, "controls": [], "language": None}
    with_, without = (character_content(subject, drop_glitches=drop, **options) for drop in (False, True))
    assert without["n_train"].iat[0] < with_["n_train"].iat[0]
    left_out = suspects(subject)[0]
    assert left_out[:10].all() and left_out.sum() <= 0.02 * len(WORDS)


# -- places ----------------------------------------------------------------------------------------------------------


def test_the_unembedding_is_read_from_its_columns():
    words = WORDS[:800]
    subject = subject_of(words, torch.randn(len(words), 32))
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(words) + 1, n_positions=16, n_embd=32, n_layer=1, n_head=2, tie_word_embeddings=False)
    ).eval()
    with torch.no_grad():
        model.lm_head.weight[: len(words)] = planted(words, 0.05)
    for backend in ("bridge", "nnsight"):
        untied = interp.load(model, tokenizer=subject.tokenizer, backend=backend)
        means = {
            where: character_content(untied, where=where, probe="ridge", seeds=1, controls=[], language=None)[
                "macro_f1"
            ]
            for where in ("embedding", "unembedding")
        }
        assert means["embedding"].mean() < 0.6 and means["unembedding"].min() > 0.97


def test_residuals_are_those_of_hugging_face(small_model, any_architecture, any_backend, small_subject):
    subject = small_subject(any_architecture, any_backend)
    ids = np.array([5, 9, 33])
    layers = range(subject.n_layers)
    with interp.options.local(memory=1):  # one prompt at a time
        found = single_token_residuals(subject, ids, layers)
    prompts = torch.tensor([[subject.tokenizer.bos_token_id, token] for token in ids])
    with torch.no_grad():
        hidden = small_model(any_architecture)(prompts, output_hidden_states=True).hidden_states
    for layer in layers:
        # A bridge computes attention by other kernels, and batches of other sizes round in another order.
        torch.testing.assert_close(found[layer], hidden[layer][:, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bos", [False, True])
def test_through_depth_the_first_layer_of_a_plain_embedding_is_the_embedding(bos):
    """Without position embeddings layer 0 is the embedding, and deeper layers differ."""
    words = WORDS[:800]
    subject = subject_of(words, planted(words, 0.05), bos=bos, n_layer=2)
    with torch.no_grad():
        subject.backend.bridge.original_model.transformer.wpe.weight.zero_()
    subject = interp.load(subject.backend.bridge, tokenizer=subject.tokenizer)
    options = {"probe": "ridge", "seeds": 2, "controls": ["permuted"], "language": None}
    through = character_content(subject, layers="all", **options)
    assert through["layer"].unique().tolist() == [0, 1, 2] and set(through["where"]) == {"residual"}
    own = character_content(subject, **options)
    assert own["layer"].isna().all() and set(own["where"]) == {"embedding"}
    first = through[through["layer"] == 0].reset_index(drop=True)
    measures = ["letter", "control", "seed", "macro_f1", "auroc"]
    pd.testing.assert_frame_equal(first[measures], own[measures])
    with interp.options.local(memory=1):  # a pass per layer
        again = character_content(subject, layers=[2, 0], **options)
    picked = through[through["layer"] != 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(again[measures], picked[measures], atol=5e-3)


# -- summary, figure, bad input --------------------------------------------------------------------------------------


def test_summary_is_the_mean_with_its_gain(clear):
    frame = character_content(clear, probe="ridge", seeds=3, controls=["length_only", "permuted"], language=None)
    summary = frame.interp.summary().set_index("control")
    means = frame.groupby("control")["macro_f1"].mean()
    assert summary["macro_f1"].to_dict() == pytest.approx(means.to_dict())
    assert (summary["n_letters"] == len(LETTERS)).all() and (summary["n_seeds"] == 3).all()
    chance = summary.drop(index="none")
    assert (chance["macro_f1_low"] < chance["macro_f1"]).all() and (chance["macro_f1"] < chance["macro_f1_high"]).all()
    # Every letter is told without an error, and equal values have no interval.
    assert summary["macro_f1"]["none"] == 1 and summary.loc["none", ["macro_f1_low", "macro_f1_high"]].isna().all()
    assert summary["best_control"].dropna().to_dict() == {"none": "length_only"}
    assert summary["gain"]["none"] == pytest.approx(means["none"] - means["length_only"])
    assert 0 < summary["gain_low"]["none"] < summary["gain"]["none"] < summary["gain_high"]["none"]
    assert summary["gain"].drop("none").isna().all()
    assert "auroc_low" in frame.interp.summary(value="auroc")


def test_intervals_cover_as_often_as_they_say():
    """Letters and seeds each shift the score; the interval must know both: 90 % of 300 worlds, plus or minus noise."""
    generator = np.random.default_rng(0)
    n_letters, n_seeds, covered = 20, 12, 0
    for world in range(300):
        grid = (
            generator.normal(0, 0.1, (n_letters, 1)) + generator.normal(0, 0.1, (1, n_seeds))
            + generator.normal(0, 0.02, (n_letters, n_seeds))
        )  # fmt: skip
        low, high = np.quantile(_resampled_means(grid[None], 200, world)[0], [0.05, 0.95])
        covered += low < 0 < high
    # A bootstrap of twelve is a little narrow: 0.86 expected, and 0.02 the standard error of 300 worlds.
    assert 0.80 < covered / 300 < 0.95


def test_one_letter_and_seed_have_no_interval(clear):
    frame = character_content(clear, letters=["e"], probe="ridge", seeds=1, controls=[], language=None)
    summary = frame.interp.summary()
    assert summary[["macro_f1_low", "gain"]].isna().all(axis=None) and summary["macro_f1"].notna().all()


def test_figures(clear):
    options = {"probe": "ridge", "seeds": 2, "controls": ["permuted", "length_only"], "language": None}
    frame = character_content(clear, **options)
    axes = frame.interp.plot().axes[0]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    means = of_none(frame).groupby("letter")["macro_f1"].mean()
    assert sorted(ticks) == sorted(LETTERS)
    assert all(means[left] >= means[right] for left, right in pairwise(ticks))
    assert "macro-F1" in axes.get_ylabel() and "letter" in axes.get_xlabel()
    deep = character_content(clear, layers="all", **options).interp.plot().axes[0]
    assert "layer" in deep.get_xlabel() and [tick.get_text() for tick in deep.get_xticklabels()] == ["0", "1"]
    both = interp.concat([frame, character_content(clear, task="first", **options)])
    with pytest.raises(InputError, match="several tasks"):
        both.interp.plot()
    with pytest.raises(InputError, match="no rows"):
        summarise_letters(frame.iloc[:0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": "svm"}, "unknown probe 'svm'"),
        ({"where": "layers"}, "unknown where 'layers'"),
        ({"task": "spell"}, "unknown task 'spell'"),
        ({"case": "upper"}, "unknown case 'upper'"),
        ({"controls": ["shuffled"]}, "unknown control 'shuffled'"),
        ({"controls": "random"}, r"give a list of texts, such as \['random'\]"),
        ({"seeds": 0}, "seeds=0: give their number, at least 1"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"layers": 2}, "layer 2 is not in"),
        ({"layers": "last"}, "unknown layers 'last'; known: 'all'. Or give a whole number"),
        ({"epochs": 0}, "epochs=0: give at least 1"),
        ({"frequencies": [1.0]}, r"frequencies \[1\] have a wrong shape or NaN; give one per token, \[2001\]"),
        ({"letters": "Greek"}, "no token of .* is a word or a letter of 'Greek'"),
        ({"language": "xx"}, "no lemmas of language 'xx'"),
    ],
)
def test_bad_input_is_one_sentence(clear, options, message):
    with pytest.raises(InputError, match=message):
        character_content(clear, **options)


def test_a_model_without_a_tokenizer():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=1)).eval()
    with pytest.raises(InputError, match=r"came without a tokenizer: its tokens have no letters; pass tokenizer="):
        character_content(interp.load(model))
