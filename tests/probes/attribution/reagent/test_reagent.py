"""ReAGent against a line-by-line reading of the method, its drift on paper, and models whose cause is known."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError, UnknownName
from interp.planted import copying
from probes import reagent, reagent_ls, reagent_probes
from probes.attribution._replacements import Replacements, replacements
from probes.attribution.attribute import METHODS
from probes.attribution.reagent import _cases, _run
from probes.attribution.reagent import reagent_ls as _least_squares
from probes.attribution.reagent._cases import Cases
from probes.attribution.reagent._recursion import Case, Recursion, softmax, top
from probes.attribution.reagent.reagent_ls import least_squares

pytestmark = pytest.mark.trained

# Probabilities are float32 sums in another order where batches differ: 1e-6 each, and some hundred of them add up.
ROUNDING = 1e-4
TEXTS = ["w3 w4 w5 w6 w7 w8 w9 w10 w11 w12", "w20 w21 w22 w23 w24 w25 w26", "w50 w3 w50 w3 w50 w3 w50 w3 w9 w9 w9 w31"]
SMALL = {"n_probes": 3, "max_steps": 6, "keep": 3, "tolerance": 20}


def recursion(**changes) -> Recursion:
    settings = {"replace_ratio": 0.3, "keep": 2, "tolerance": 1, "max_steps": 50, "n_probes": 4, "seed": 0}
    return Recursion(**(settings | changes))


def game(
    worth: Callable[[np.ndarray], np.ndarray], n: int, *, prob: float | None = None, free=None
) -> tuple[Case, Callable]:
    """A case whose target has probability `worth(replaced)`, replaced being bool [n, pos]; it is never likeliest."""
    ids = np.ones(n, dtype=np.int64)
    zeros = Replacements([np.array([0])] * n, [np.array([1.0])] * n)
    case = Case(
        ids,
        np.ones(n, dtype=bool) if free is None else free,
        zeros,
        prob if prob is not None else worth(np.zeros((1, n), bool))[0],
    )

    def read(sequences, which):
        return worth(sequences == 0), np.full(len(sequences), 10**6)

    return case, read


# -- the recursion, from its definition --------------------------------------------------------------------------------


def plain_reagent(ids, target, run_model, vocab, *, ratio, keep, tolerance, max_steps, n_probes, seed, bos):
    """The specification, one probe and one step at a time. Only the random numbers are ours: per probe, n for the start
    and then for every step n for the mask, n for the proposal's tokens, n for the stop test's."""
    n = len(ids)
    p0 = run_model(ids).softmax(0)[target].item()
    shown, stopped = [], []
    for number in range(n_probes):
        key = f"probe {number} ".encode() + np.array(ids, dtype=np.int64).tobytes()
        words = np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), dtype=np.uint32)
        generator = np.random.default_rng([seed, *words.tolist()])
        score = list(generator.random(n))
        stop = False
        for _ in range(max_steps):
            mask = [u < ratio and i >= bos for i, u in enumerate(generator.random(n))]
            proposal = [vocab[int(u * len(vocab))] for u in generator.random(n)]
            others = [vocab[int(u * len(vocab))] for u in generator.random(n)]
            replaced = [new if masked else old for old, new, masked in zip(ids, proposal, mask, strict=True)]
            delta = p0 - run_model(replaced).softmax(0)[target].item()
            for i in range(n):
                signed = delta if mask[i] else -delta
                u = 0.5 + 0.5 * signed
                score[i] += math.log(u) - math.log(1 - u)
            best = sorted(range(bos, n), key=lambda i: -score[i])[:keep]
            test = [ids[i] if i in best or i < bos else others[i] for i in range(n)]
            likeliest = run_model(test).argsort(descending=True)[:tolerance].tolist()
            if target in likeliest:
                stop = True
                break
        weights = np.exp(score[bos:])
        shown.append([0.0] * bos + list(weights / weights.sum()))
        stopped.append(stop)
    kept = [one for one, stop in zip(shown, stopped, strict=True) if stop] or shown
    return np.mean(kept, axis=0), stopped


@pytest.mark.parametrize("protect", [True, False])
@pytest.mark.parametrize("tolerance", [3, 8])
@pytest.mark.filterwarnings("ignore:.*targets")
def test_scores_are_those_of_the_specification_line_by_line(small_subject, any_backend, protect, tolerance):
    subject = small_subject("gpt2", any_backend)
    arguments = {"keep": 3, "tolerance": tolerance, "max_steps": 7, "n_probes": 4, "seed": 5}
    frame, probes = reagent(
        subject, TEXTS[:2], target="w7", sampler="uniform", implementation="inseq", protect_bos=protect,
        replace_ratio=0.4, return_probes=True, **arguments,
    )  # fmt: skip
    vocab = [index for index in range(subject.d_vocab) if index not in subject.tokenizer.all_special_ids]

    def run_model(ids):
        return subject.run(torch.tensor([ids]), lambda tape: tape.head(tape.last[0, -1])).float()

    for prompt_id, rows in frame.groupby("prompt_id"):
        expected, stopped = plain_reagent(
            rows["token_id"].tolist(), 7, run_model, vocab, ratio=0.4, bos=int(protect), **arguments
        )
        np.testing.assert_allclose(rows["score"], expected, atol=ROUNDING)
        assert probes[probes["prompt_id"] == prompt_id]["converged"].tolist() == stopped
    assert (probes["stop_step"] != 1).any()  # something was left for the recursion to do


def test_the_stop_test_keeps_the_best_and_whatever_may_not_go():
    scores = np.array([9.0, 2.0, 2.0, 5.0])
    assert top(scores, np.array([False, True, True, True]), 2).tolist() == [False, True, False, True]
    assert top(scores, np.ones(4, dtype=bool), 9).all()


def test_increments_of_replaced_and_other_tokens_are_opposite():
    """One step: S moves by +-log((1 + D) / (1 - D)), so its increments sum to (2 |M| - n) times that."""
    case, read = game(lambda replaced: 0.9 - 0.08 * replaced.sum(axis=1), 6)
    one_step = recursion(n_probes=20, max_steps=1, replace_ratio=0.5).run([case], read, tokens_per_round=100)[0]
    no_step = recursion(n_probes=20, max_steps=1, replace_ratio=0.5).run(
        [case], game(lambda replaced: np.full(len(replaced), 0.9), 6)[1], tokens_per_round=100
    )[0]
    for after, before in zip(one_step.importance, no_step.importance, strict=True):
        step = np.log(after / before)
        levels = np.unique((step - step.mean()).round(9))
        assert len(levels) <= 2  # replaced and not replaced
        if len(levels) == 2:
            n_replaced = int((step > step.mean()).sum())
            change = 0.08 * n_replaced
            assert levels[1] - levels[0] == pytest.approx(2 * math.log((1 + change) / (1 - change)), abs=1e-6)


# -- drift on paper ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_the_score_drifts_as_worked_out_for_effects_that_add_up(ratio):
    """E[dS_i] = const + 4 r (1 - r) w_i while changes are small; differences between tokens drop the constant."""
    effects = np.array([0.02, 0.0, 0.01, 0.0, -0.01, 0.03])
    slope = _slopes(lambda replaced: 0.5 - replaced @ effects, ratio, probes=400, steps=60)
    gaps = slope[:, :, None] - slope[:, None, :]
    expected = 4 * ratio * (1 - ratio) * (effects[:, None] - effects[None, :])
    error = gaps.std(axis=0, ddof=1) / math.sqrt(len(gaps))
    # The logit is 2 D + 2 D^3 / 3 ..: at |D| <= 0.06 the rest is below 0.1 % of a change, on top of the three errors.
    bound = 3 * error + 0.002 * np.abs(expected)
    np.fill_diagonal(bound, 1.0)
    # 15 pairs of tokens: one beyond three errors has a chance of 4 %, with this seed it does not happen.
    assert (np.abs(gaps.mean(axis=0) - expected) < bound).all()


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_the_gap_between_the_only_cause_and_the_rest(ratio):
    """2 r (1 - r) logit(1/2 + D/2) per step, at a change D that is anything but small."""
    effect = 0.4
    slope = _slopes(lambda replaced: 0.6 - effect * replaced[:, 2], ratio, probes=300, steps=60)
    gap = slope[:, 2] - np.delete(slope, 2, axis=1).mean(axis=1)
    expected = 2 * ratio * (1 - ratio) * math.log((0.5 + effect / 2) / (0.5 - effect / 2))
    assert abs(gap.mean() - expected) < 3 * gap.std(ddof=1) / math.sqrt(len(gap))


def _slopes(worth, ratio: float, *, probes: int, steps: int) -> np.ndarray:
    """Increase of each probe's score per step, up to a constant per probe, float [probe, pos]."""
    case, read = game(worth, 6)
    settings = recursion(replace_ratio=ratio, n_probes=probes, max_steps=steps)
    end = settings.run([case], read, tokens_per_round=10**5)[0]
    start = recursion(replace_ratio=ratio, n_probes=probes, max_steps=1).run(
        [case], lambda ids, which: (np.full(len(ids), case.prob), np.full(len(ids), 9)), tokens_per_round=10**5
    )[0]
    return (np.log(end.importance) - np.log(start.importance)) / steps


# -- draws, batches, backends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens_per_round", [1, 40, 10**6])
def test_no_number_depends_on_how_many_steps_ride_together(tokens_per_round):
    worth = lambda replaced: 0.5 - replaced @ np.array([0.3, 0.02, 0.05, 0.0, 0.01])  # noqa: E731
    case, _ = game(worth, 5)

    def read(ids, which):  # stops when nothing but positions 1 and 3 is replaced, which takes some steps
        replaced = ids == 0
        return worth(replaced), np.where(replaced[:, [0, 2]].any(axis=1), 5, 0)

    settings = recursion(keep=2, n_probes=8, seed=3, replace_ratio=0.3)
    outcome = settings.run([case], read, tokens_per_round=tokens_per_round)[0]
    expected = settings.run([case], read, tokens_per_round=17)[0]
    np.testing.assert_array_equal(outcome.importance, expected.importance)
    np.testing.assert_array_equal(outcome.stop_step, expected.stop_step)
    assert len(set(outcome.stop_step.tolist())) > 3


@pytest.mark.parametrize("method", ["reagent", "reagent_ls"])
def test_a_prompt_does_not_depend_on_the_others_nor_on_the_memory(small_subject, method):
    subject = small_subject("llama", "bridge")
    probe = {
        "reagent": lambda texts, seed=0: reagent(subject, texts, sampler="uniform", seed=seed, **SMALL),
        "reagent_ls": lambda texts, seed=0: reagent_ls(subject, texts, sampler="uniform", seed=seed),
    }[method]
    together = probe(TEXTS)
    with interp.options.local(memory=1 << 20):
        tight = probe(TEXTS)
    np.testing.assert_allclose(together["score"], tight["score"], atol=ROUNDING)
    alone = pd.concat([probe([text]) for text in TEXTS])
    np.testing.assert_allclose(together["score"], alone["score"], atol=ROUNDING)
    assert (np.abs(together["score"] - probe(TEXTS, seed=1)["score"]) > 1e-4).any()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_both_backends_agree(small_subject, architecture):
    frames = [reagent(small_subject(architecture, backend), TEXTS, **SMALL) for backend in ("bridge", "nnsight")]
    np.testing.assert_allclose(frames[0]["score"], frames[1]["score"], atol=1e-3)  # attention kernels differ
    exact = [reagent_ls(small_subject(architecture, backend), TEXTS) for backend in ("bridge", "nnsight")]
    np.testing.assert_allclose(exact[0]["score"], exact[1]["score"], atol=1e-4)


def test_half_precision_gives_finite_scores_near_those_of_full(small_model, word_level):
    model = small_model("gpt2")
    full = interp.load(model, tokenizer=word_level)
    half = interp.load(model, tokenizer=word_level, dtype="bfloat16")
    for subject in (full, half):
        frame = reagent(subject, TEXTS, target="w5", **SMALL | {"tolerance": 61})
        assert np.isfinite(frame["score"]).all() and frame["score"].dtype == np.float64
    scores = [reagent_ls(subject, TEXTS, target="w5")["score"] for subject in (full, half)]
    # bfloat16 keeps 8 bits: probabilities of a few per cent, off by some per cent of themselves.
    np.testing.assert_allclose(*scores, atol=0.02)


def test_a_change_of_one_does_not_make_a_score_infinite():
    case, read = game(lambda replaced: np.where(replaced.any(axis=1), 0.0, 1.0), 4)
    outcome = recursion(max_steps=5).run([case], read, tokens_per_round=50)[0]
    assert np.isfinite(outcome.importance).all()
    np.testing.assert_allclose(outcome.importance.sum(axis=1), 1.0)


# -- what it finds -----------------------------------------------------------------------------------------------------


def test_the_only_cause_comes_first():
    case, read = game(lambda replaced: np.where(replaced[:, 3], 0.1, 0.7), 8)
    outcome = recursion(n_probes=32, max_steps=60).run([case], read, tokens_per_round=10**4)[0]
    assert (outcome.importance.argmax(axis=1) == 3).all()


def test_a_model_that_ignores_its_input_leaves_the_random_start():
    """No change ever: S stays uniform in (0, 1), and the stop test answers what the target's rank is."""
    case, read = game(lambda replaced: np.full(len(replaced), 0.3), 6)
    outcome = recursion(n_probes=50, max_steps=4).run([case], read, tokens_per_round=300)[0]
    assert not outcome.converged.any()
    spread = np.log(outcome.importance).max(axis=1) - np.log(outcome.importance).min(axis=1)
    assert (spread < 1).all() and spread.mean() > 0.5  # the range of six uniform numbers is 5/7 on average
    stops = recursion(n_probes=50).run(
        [case], lambda ids, which: (read(ids, which)[0], np.zeros(len(ids))), tokens_per_round=300
    )
    assert (stops[0].stop_step == 1).all()


def test_a_sampler_that_changes_nothing_leaves_the_random_start(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame, probes = reagent(subject, TEXTS[0], sampler=lambda ids, generator: ids, return_probes=True)
    assert (probes["stop_step"] == 1).all()  # the target is the argmax of the prompt as it is
    free = frame[frame["pos"] > 0]["score"]
    assert free.max() / free.min() < math.e


def test_the_copied_token_is_found():
    """`copying` says what it has seen: the target, not at the end, can only come from where it stands."""
    planted = copying(vocab=12, a=30.0)
    text = "w1 w2 w7 w3 w4 w5 w8 w9"
    ls = reagent_ls(planted.model, text, target="w7", sampler="uniform", n_masks=200)
    assert ls.loc[ls["score"].idxmax(), "token"] == " w7"
    with pytest.warns(UserWarning, match="not among the 1 likeliest"):
        frame = reagent(
            planted.model, text, target="w7", sampler="uniform", keep=1, tolerance=1, max_steps=150, n_probes=8
        )
    assert frame.loc[frame["score"].idxmax(), "token"] == " w7"


def test_least_squares_recovers_effects_that_add_up_exactly():
    """Deterministic replacements, more pairs than tokens: nothing is left over."""
    effects = np.array([0.2, -0.1, 0.0, 0.05])
    signs = np.where(np.random.default_rng(0).random((9, 4)) < 0.5, 1.0, -1.0)
    weights, errors = least_squares(signs, signs @ effects)
    np.testing.assert_allclose(weights, effects, atol=1e-12)
    np.testing.assert_allclose(errors, 0.0, atol=1e-12)


def test_standard_errors_are_those_of_repeated_runs(small_subject):
    """Over seeds, the scatter of a score is what its error says."""
    subject = small_subject("gpt2", "bridge")
    frames = [reagent_ls(subject, TEXTS[1], seed=seed, n_masks=120) for seed in range(40)]
    scores = np.stack([frame["score"] for frame in frames])[:, 1:]
    errors = np.stack([frame["score_se"] for frame in frames])[:, 1:]
    ratio = np.sqrt((scores.var(axis=0, ddof=1) / np.square(errors).mean(axis=0)).mean())
    # 40 runs of 7 tokens: a variance known to 1 / sqrt(2 * 40 * 7) = 4 %, if tokens are independent; 20 % is plenty.
    assert 0.8 < ratio < 1.2


def test_probes_tell_of_stops_and_summaries_of_prompts_that_stop_at_once(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame, probes = reagent(subject, TEXTS, return_probes=True, **SMALL)
    assert len(probes) == 3 * len(TEXTS) and probes["probe"].tolist() == [0, 1, 2] * 3
    assert (probes["converged"] == probes["stop_step"].notna()).all()
    assert probes["stop_step"].dropna().between(1, 6).all()
    for prompt_id, rows in probes.groupby("prompt_id"):
        own = frame[frame["prompt_id"] == prompt_id]
        assert (own["converged"] == rows["converged"].mean()).all()
        if rows["converged"].any():
            assert (own["stop_step"] == rows["stop_step"].median()).all()
    np.testing.assert_allclose(frame.groupby("prompt_id")["score"].sum(), 1.0)
    summary = frame.interp.summary()
    per_prompt = frame.drop_duplicates("prompt_id")
    assert summary["stops_at_once"].item() == (per_prompt["stop_step"] <= 3).mean()
    pd.testing.assert_frame_equal(probes, reagent_probes(subject, TEXTS, **SMALL), check_like=True)


def test_both_probes_and_the_method_show_their_arguments_and_provenance_has_them_all(small_subject):
    """The shell, notebooks and `attribute` ask a function for its parameters."""
    parameters = inspect.signature(reagent).parameters
    shown = {name: one for name, one in parameters.items() if name != "return_probes"}
    assert inspect.signature(reagent_probes).parameters == shown
    options = inspect.signature(METHODS["reagent"]).parameters
    assert {name: options[name].default for name in options if name not in ("subject", "targets")} == {
        name: one.default
        for name, one in shown.items()
        if name not in ("subject", "texts", "target", "continuation", "target_pos", "truncate")
    }
    frames = reagent(small_subject("gpt2", "bridge"), TEXTS[:1], return_probes=True, sampler="uniform", **SMALL)
    for frame in frames:
        (run,) = frame.interp.runs.values()
        assert set(run["parameters"]) == set(shown) - {"subject", "texts", "seed", "truncate"}


def test_where_no_probe_stops_the_implementations_differ(small_subject):
    subject = small_subject("gpt2", "bridge")
    ids = subject.tokens(TEXTS[:1]).ids[0]
    logits = subject.run(ids[None], lambda tape: tape.head(tape.last[0, -1]))
    arguments = {"target": int(logits.argmin()), "tolerance": 1, "max_steps": 3, "n_probes": 2}
    with pytest.warns(UserWarning, match="not among the 1 likeliest"):
        paper = reagent(subject, TEXTS[:1], **arguments)
    with pytest.warns(UserWarning, match="not among"), pytest.warns(UserWarning, match="no probe of 1 of 1 targets"):
        inseq = reagent(subject, TEXTS[:1], implementation="inseq", **arguments)
    with pytest.warns(UserWarning, match="not among"):
        original = reagent(subject, TEXTS[:1], implementation="original", **arguments)
    pd.testing.assert_series_equal(paper["score"], inseq["score"])
    assert original["score"].isna().all() and (paper["converged"] == 0).all()


def test_a_continuation_is_explained_token_by_token(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame = reagent(subject, TEXTS[:1], continuation=" w3 w4", **SMALL | {"tolerance": 61})
    assert frame.groupby("target_pos").size().tolist() == [11, 12]
    assert frame.groupby("target_pos")["target"].first().tolist() == [" w3", " w4"]


# -- samplers ----------------------------------------------------------------------------------------------------------


def test_samplers_draw_what_they_say(small_subject):
    subject = small_subject("gpt2", "bridge")
    ids = subject.tokens(["w3 w3 w3 w4"]).ids[0]
    uniforms = np.random.default_rng(0).random((4000, len(ids)))
    given = torch.zeros(61)
    given[[1, 3, 4]] = torch.tensor([5.0, 3.0, 1.0])
    (unigram,) = replacements(given, subject, [ids])
    counts = np.bincount(unigram.draw(uniforms).ravel(), minlength=61) / uniforms.size
    assert set(np.flatnonzero(counts)) == {3, 4}  # no special token, though <s> has counts
    assert counts[3] == pytest.approx(0.75, abs=0.015)  # 20,000 draws: five errors of 0.003
    (uniform,) = replacements("uniform", subject, [ids])
    assert set(np.unique(uniform.draw(uniforms))) == set(range(3, 61))
    (own,) = replacements("self", subject, [ids])
    logits = subject.run(ids[None], lambda tape: tape.head(tape.last[0]))
    assert own.draw(uniforms)[7].tolist() == [int(ids[0]), *logits.argmax(-1)[:-1].tolist()]


def test_the_reference_model_is_read_with_its_own_counts():
    frame = reagent_ls("reference", "Once upon", n_masks=10)
    assert frame.interp.provenance.loc["parameters"].item()["unigram"] == "datasets/bigrams"


def test_samplers_without_what_they_need_say_so(small_subject):
    subject = small_subject("gpt2", "bridge")
    with pytest.raises(InputError, match="pass sampler=MaskedLM"):
        reagent(subject, TEXTS, sampler="masked_lm")
    try:
        import nltk  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pip install nltk"):
            reagent(subject, TEXTS, sampler="pos")
    with pytest.raises(UnknownName, match="unknown sampler 'unigrm'; did you mean 'unigram'"):
        reagent(subject, TEXTS, sampler="unigrm")
    with pytest.raises(InputError, match="return ids within the vocabulary, 0 to 60"):
        reagent(subject, TEXTS, sampler=lambda ids, generator: ids + 61)
    with pytest.raises(InputError, match="the sampler returned"):
        reagent(subject, TEXTS, sampler=lambda ids, generator: ids[:2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replace_ratio": 0.0}, "replace_ratio=0.0"),
        ({"keep": 0}, "keep=0; give at least 1"),
        ({"n_probes": 0}, "n_probes=0"),
        ({"max_steps": 1.5}, "max_steps=1.5: give a whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"implementation": "mine"}, "unknown implementation 'mine'"),
        ({"target": "w3 w4"}, "is 2 tokens"),
        ({"target_pos": 40}, "position 40 is outside"),
    ],
)
def test_bad_arguments_are_refused(small_subject, arguments, message):
    with pytest.raises(InputError, match=message):
        reagent(small_subject("gpt2", "bridge"), TEXTS, **arguments)


def test_too_few_masks_are_refused(small_subject):
    with pytest.raises(InputError, match="n_masks=10 makes 5 pairs, too few to estimate 10 scores"):
        reagent_ls(small_subject("gpt2", "bridge"), TEXTS[:1], n_masks=10)


def test_keeping_all_of_a_prompt_warns_and_says_why(small_subject):
    with pytest.warns(UserWarning, match=r"1 of 1 targets follow at most keep=10 .* scores are noise"):
        frame = reagent(small_subject("gpt2", "bridge"), TEXTS[:1], keep=10, n_probes=2, tolerance=61)
    assert (frame["stop_step"] == 1).all()


def test_nothing_to_replace_gives_scores_of_zero():
    assert softmax(np.zeros(2), np.zeros(2, dtype=bool)).tolist() == [0.0, 0.0]


# -- what it will cost -------------------------------------------------------------------------------------------------


def test_minutes_are_told_from_one_on():
    """Half a minute for a pass of all prompts: one pass is no minute, ten are five."""
    cases = Cases([], np.zeros(0, dtype=int), seconds=30.0)
    assert cases.cost(1) == "" and cases.cost(10) == "about 5 minutes"


@pytest.mark.parametrize(("method", "module", "passes"), [(reagent, _run, 2 * 3), (reagent_ls, _least_squares, 30)])
def test_a_bar_says_the_cost(small_subject, monkeypatch, method, module, passes):
    """By the pass of the intact prompts: as if it had taken two minutes."""
    labels, make = [], module.progress_bar
    monkeypatch.setattr(module, "progress_bar", lambda n, unit, label: labels.append(label) or make(n, unit, label))
    monkeypatch.setattr(_cases, "perf_counter", iter([0.0, 120.0]).__next__)
    options = {"n_probes": 3, "max_steps": 1} if method is reagent else {"n_masks": 30}
    method(small_subject("gpt2", "bridge"), TEXTS[:2], protect_bos=False, **options)
    assert f"about {2 * passes} minutes" in labels[0]
