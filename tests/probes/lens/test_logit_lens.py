"""The lens on models with known answers, against a plain PyTorch loop, and against TransformerLens' own tool."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from interp.errors import InputError, NumericalError, UnknownName
from interp.planted import Planted, bias_ladder, bigram, copying, two_step, word_tokenizer
from probes import logit_lens, top_tokens
from probes.lens import plots
from probes.lens._arrivals import LAYERS

# Float32 models of logits up to ten: forward pass and statistics each round at 1e-6 or so.
CLOSE = 2e-5
VOCAB, N_LAYERS = 53, 3
RAGGED = [[5, 1, 7, 7, 2, 9, 4, 0], [3], [8, 6, 11], [2, 2, 2, 50, 1]]


def texts_of(prompts: list[list[int]]) -> list[str]:
    return [" ".join(f"w{index}" for index in ids) for ids in prompts]


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    """Weights large enough that layers disagree about the next token."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=32, n_embd=24, n_layer=N_LAYERS, n_head=2, initializer_range=0.4,
        attn_implementation="eager", bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def subject(model) -> interp.Subject:
    return interp.load(model, tokenizer=word_tokenizer(VOCAB))


@pytest.fixture(scope="module")
def frame(subject) -> pd.DataFrame:
    return logit_lens(subject, texts_of(RAGGED), sublayers=True)


def definitions(logits: Tensor, final: Tensor, target: int) -> dict[str, float | int]:
    """Every statistic of one read-out [V], from its definition, in float64."""
    log_q, log_p = logits.double().log_softmax(0), final.double().log_softmax(0)
    return {
        "log_prob": float(log_q[target]),
        "rank": int((logits > logits[target]).sum()),
        "entropy": float(-(log_q.exp() * log_q).sum()),
        "kl_to_final": float((log_p.exp() * (log_p - log_q)).sum()),
        "top1_prob": float(log_q.exp().max()),
    }


# -- planted truth ---------------------------------------------------------------------------------------------------

PLANTED = {
    "bias_ladder": lambda: bias_ladder(noise_blocks=3),
    "falling_ladder": lambda: bias_ladder(a=-4.2, noise_blocks=1),
    "copy": lambda: copying(a=3.0, noise_blocks=2),
    "bigram": lambda: bigram(noise_blocks=2),
    "two_step": lambda: two_step(noise_blocks=3),
}
PROMPTS = [[0, 5, 3, 3, 11, 5, 7], [4], [3, 1, 3]]


@pytest.mark.parametrize("name", PLANTED)
def test_every_number_of_a_planted_model_is_the_known_one(name):
    planted: Planted = PLANTED[name]()
    frame = logit_lens(planted.model, texts_of(PROMPTS))
    n_layers = planted.truth.layout.n_layers
    assert len(frame) == (n_layers + 1) * sum(map(len, PROMPTS))
    rows = frame.set_index(["prompt_id", "layer", "pos"])
    for prompt_id, ids in enumerate(PROMPTS):
        truth = planted.truth.lens(torch.tensor([ids]))[:, 0]  # [L + 1, pos, V]
        for layer in range(n_layers + 1):
            for pos, token in enumerate(ids):
                row, logits, final = rows.loc[prompt_id, layer, pos], truth[layer, pos], truth[-1, pos]
                assert row["token_id"] == token and row["token"] == f" w{token}"
                assert row["sublayer"] == ("final" if layer == n_layers else "pre")
                target = ids[pos + 1] if pos + 1 < len(ids) else None
                known = definitions(logits, final, target or 0)
                for column in ("entropy", "kl_to_final", "top1_prob"):
                    assert row[column] == pytest.approx(known[column], abs=CLOSE), column
                # Of equally probable tokens any may be named the first.
                assert logits[row["top1_id"]] > logits.max() - CLOSE
                if _leads(logits) and _leads(final):
                    assert row["agrees_final"] == (logits.argmax() == final.argmax())
                if target is None:
                    assert row[["target_id", "target", "log_prob", "rank"]].isna().all()
                else:
                    assert row["target_id"] == target and row["target"] == f" w{target}"
                    assert row["log_prob"] == pytest.approx(known["log_prob"], abs=CLOSE)
                    # Ties of the truth may be rounded apart, by less than CLOSE.
                    gaps = logits - logits[target]
                    assert int((gaps > CLOSE).sum()) <= row["rank"] <= int((gaps > -CLOSE).sum()) - 1


def _leads(logits: Tensor) -> bool:
    """Whether one token is ahead of all others by more than rounding."""
    first, second = logits.topk(2).values
    return bool(first > second + CLOSE)


@pytest.mark.parametrize("ladder", [bias_ladder(noise_blocks=3), bias_ladder(a=-4.2, noise_blocks=1)])
def test_the_ladders_formulas(ladder):
    """Log-probability, rank, entropy and KL written down in `LadderTruth`, not derived from its logits."""
    ids, target = torch.tensor([PROMPTS[0]]), ladder.truth.target
    frame = logit_lens(ladder.model, ids, targets=target)
    table = frame.pivot(index="layer", columns="pos")
    for column, truth in (
        ("log_prob", ladder.truth.log_prob(ids)),
        ("entropy", ladder.truth.entropy(ids)),
        ("kl_to_final", ladder.truth.kl_to_final(ids)),
    ):
        np.testing.assert_allclose(table[column], truth[:, 0], atol=CLOSE, rtol=0)
    assert table["rank"].to_numpy().tolist() == ladder.truth.rank(ids)[:, 0].tolist()


def test_the_numbers_of_the_specification():
    """L = 4, V = 12, a = 6: cross-entropies and ranks as worked out on paper."""
    frame = logit_lens(bias_ladder().model, "w0", targets="w3")
    assert (-frame["log_prob"]).tolist() == pytest.approx([2.61873, 1.34491, 0.49054, 0.13216, 0.03104], abs=1e-5)
    assert frame["rank"].tolist() == [1, 0, 0, 0, 0]


def test_blocks_that_write_nothing_leave_every_layer_the_same():
    planted = copying(a=0.0, noise_blocks=3)
    frame = logit_lens(planted.model, "w1 w2 w3 w4", sublayers=True)
    for _, layers in frame.groupby("pos"):
        assert layers[["log_prob", "rank", "entropy", "top1_id", "top1_prob"]].drop_duplicates().shape[0] == 1
        assert (layers["kl_to_final"] == 0).all() and layers["agrees_final"].all()
    assert (frame.interp.summary(by="position")["convergence_layer"] == 0).all()


# -- against a plain PyTorch loop ------------------------------------------------------------------------------------


def plain_lens(model: GPT2LMHeadModel, ids: list[int], *, final_norm: bool = True) -> dict[tuple[int, str], Tensor]:
    """Logits [pos, V] by layer and sublayer, with Hugging Face's own modules and nothing of ours."""
    mids: list[Tensor] = []
    hooks = [
        block.ln_2.register_forward_pre_hook(lambda _, args: mids.append(args[0])) for block in model.transformer.h
    ]
    last: list[Tensor] = []
    hooks.append(model.transformer.ln_f.register_forward_pre_hook(lambda _, args: last.append(args[0])))
    try:
        with torch.no_grad():
            out = model(torch.tensor([ids]), output_hidden_states=True)
    finally:
        for hook in hooks:
            hook.remove()
    # The last of Hugging Face's hidden states has been through the final norm; the one before it is taken by a hook.
    residuals = {(layer, "pre"): state for layer, state in enumerate(out.hidden_states[:-1])}
    residuals |= {(layer, "mid"): state for layer, state in enumerate(mids)}
    residuals[len(mids), "final"] = last[0]
    with torch.no_grad():
        norm = model.transformer.ln_f if final_norm else torch.nn.Identity()
        read = {place: model.lm_head(norm(state))[0] for place, state in residuals.items()}
    if final_norm:
        torch.testing.assert_close(read[len(mids), "final"], out.logits[0])
    return read


def test_equals_a_plain_loop(model, frame):
    seen = 0
    for prompt_id, ids in enumerate(RAGGED):
        read = plain_lens(model, ids)
        rows = frame[frame["prompt_id"] == prompt_id].set_index(["layer", "sublayer", "pos"])
        for (layer, sublayer), logits in read.items():
            final = read[N_LAYERS, "final"]
            for pos in range(len(ids)):
                row = rows.loc[layer, sublayer, pos]
                seen += 1
                target = ids[pos + 1] if pos + 1 < len(ids) else 0
                known = definitions(logits[pos], final[pos], target)
                if pos + 1 == len(ids):
                    assert row[["target_id", "log_prob", "rank"]].isna().all()
                    known = {name: known[name] for name in ("entropy", "kl_to_final", "top1_prob")}
                for column, value in known.items():
                    assert row[column] == pytest.approx(value, abs=CLOSE, rel=1e-5), (prompt_id, layer, pos, column)
                assert row["top1_id"] == logits[pos].argmax()
                assert row["top1"] == f" w{int(logits[pos].argmax())}"
                assert row["agrees_final"] == bool(logits[pos].argmax() == final[pos].argmax())
    assert seen == len(frame) == (2 * N_LAYERS + 1) * sum(map(len, RAGGED))
    # The test has teeth only where layers differ.
    assert 0.02 < frame["agrees_final"].mean() < 0.9 and frame["kl_to_final"].max() > 1


def test_the_last_layer_is_the_models_own_output(model, subject):
    ids = RAGGED[0]
    frame = logit_lens(subject, texts_of([ids]), layers=N_LAYERS, targets=list(range(VOCAB)))
    with torch.no_grad():
        own = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    np.testing.assert_allclose(frame["log_prob"].to_numpy().reshape(len(ids), VOCAB), own, atol=CLOSE, rtol=0)
    assert (frame["kl_to_final"] == 0).all() and frame["agrees_final"].all()
    assert frame["sublayer"].unique().tolist() == ["final"]
    # All the vocabulary's probabilities at one place add up to 1, within 53 roundings.
    np.testing.assert_allclose(np.exp(frame["log_prob"]).groupby(frame["pos"]).sum(), 1.0, atol=1e-5)


def test_without_the_final_norm(model, subject):
    frame = logit_lens(subject, texts_of(RAGGED[:1]), final_norm=False, targets="argmax")
    with_norm, without = plain_lens(model, RAGGED[0]), plain_lens(model, RAGGED[0], final_norm=False)
    for row in frame.itertuples():
        logits = without[row.layer, row.sublayer][row.pos]
        final = with_norm[N_LAYERS, "final"][row.pos]  # what a lens is compared with is always the model itself
        known = definitions(logits, final, int(final.argmax()))
        assert row.target_id == final.argmax()
        for column, value in known.items():
            assert getattr(row, column) == pytest.approx(value, abs=CLOSE, rel=1e-5), column
        assert row.agrees_final == bool(logits.argmax() == final.argmax())
    assert (frame.query("layer == @N_LAYERS")["kl_to_final"] > 0.01).all()


def test_equals_transformer_lens_frame(model, subject):
    from transformer_lens.tools.analysis.logit_lens import logit_lens as their_lens

    ids = torch.tensor([RAGGED[0], RAGGED[0][::-1]])
    ours = logit_lens(subject, ids, sublayers=True).dropna(subset=["log_prob"])
    theirs = their_lens(
        subject.backend.bridge.eval(), ids[:, :-1], positions=None, targets=ids[:, 1:], return_type="log_probs",
        incl_mid=True,
    )  # fmt: skip
    table = theirs.to_dataframe().rename(columns={"batch": "prompt_id", "token_index": "target_id"})
    names = {"final": "final_post"} | {f"{at}{where}": f"{at}_{where}" for at in range(9) for where in ("pre", "mid")}
    key = ours["layer"].astype(str).where(ours["sublayer"] != "final", "") + ours["sublayer"]
    both = ours.assign(layer=key.map(names)).merge(table, on=["layer", "prompt_id", "pos"], suffixes=("", "_theirs"))
    assert len(both) == len(table) == len(ours)
    assert (both["target_id"] == both["target_id_theirs"]).all()
    np.testing.assert_allclose(both["log_prob"], both["log_prob_theirs"], atol=CLOSE, rtol=1e-5)
    places = {label: index for index, label in enumerate(theirs.labels)}
    at = [places[label] for label in both["layer"]], both["prompt_id"].to_numpy(), both["pos"].to_numpy()
    assert both["rank"].tolist() == theirs.rank_trajectory().numpy()[at].tolist()
    np.testing.assert_allclose(both["entropy"], theirs.readout.entropy.numpy()[at], atol=CLOSE, rtol=1e-5)


# -- batches, memory, dtypes -----------------------------------------------------------------------------------------

NUMBERS = ["log_prob", "rank", "entropy", "kl_to_final", "top1_prob"]


def assert_same_numbers(left: pd.DataFrame, right: pd.DataFrame) -> None:
    same = [column for column in left.columns if column not in (*NUMBERS, "run_id")]
    pd.testing.assert_frame_equal(left[same], right[same])
    for column in NUMBERS:
        np.testing.assert_allclose(left[column].astype(float), right[column].astype(float), atol=CLOSE, rtol=1e-5)


def test_a_prompts_numbers_do_not_depend_on_its_neighbours(subject, frame):
    alone = [
        logit_lens(subject, pd.DataFrame({"text": texts_of([ids]), "prompt_id": [number]}), sublayers=True)
        for number, ids in enumerate(RAGGED)
    ]
    assert_same_numbers(frame, pd.concat(alone, ignore_index=True))


@pytest.mark.parametrize("memory", [1, 1 << 14, 1 << 17])
def test_a_tiny_budget_gives_the_same_frame(subject, frame, memory):
    with interp.options.local(memory=memory):
        small = logit_lens(subject, texts_of(RAGGED), sublayers=True)
    assert_same_numbers(frame, small)
    assert small["run_id"].iat[0] == frame["run_id"].iat[0]


def test_memory_stays_within_the_budget():
    """Everything beyond the model: residuals, blocks at work, read-out, and the columns of the frame."""
    config = GPT2Config(
        vocab_size=2000, n_positions=64, n_embd=32, n_layer=12, n_head=2, bos_token_id=0, eos_token_id=0
    )
    wide = interp.load(GPT2LMHeadModel(config).eval())
    ids = torch.randint(2000, (16, 64), generator=torch.Generator().manual_seed(0))
    logit_lens(wide, ids[:1, :2])  # a subject's first run checks it
    budget = 8 << 20
    with interp.options.local(memory=budget), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as spied:
        logit_lens(wide, ids, sublayers=True)
    allocated = [event.nbytes() for event in spied.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = int(torch.tensor(allocated).cumsum(0).max())
    assert budget / 4 < peak < budget


def test_half_precision_models_get_float32_statistics(model):
    """The statistics of a bfloat16 model's own logits, not of logits rounded again: probabilities add up to 1."""
    half = interp.load(model, dtype="bfloat16", tokenizer=word_tokenizer(VOCAB))
    frame = logit_lens(half, texts_of(RAGGED[:1]), targets=list(range(VOCAB)))
    totals = np.exp(frame["log_prob"]).groupby([frame["layer"], frame["pos"]]).sum()
    # 53 float32 terms; in bfloat16 the sum would be off by 1e-3 or more.
    np.testing.assert_allclose(totals, 1.0, atol=1e-5)
    assert (frame.query("layer == @N_LAYERS")["kl_to_final"] == 0).all()


# -- targets ---------------------------------------------------------------------------------------------------------


def test_next_is_the_following_token_and_missing_at_the_end(frame):
    final = frame[frame["sublayer"] == "final"]
    for prompt_id, ids in enumerate(RAGGED):
        rows = final[final["prompt_id"] == prompt_id].sort_values("pos")
        assert rows["target_id"].tolist()[:-1] == ids[1:]
        assert rows["target"].tolist()[:-1] == [f" w{index}" for index in ids[1:]]
        assert rows.iloc[-1][["target_id", "target", "log_prob", "rank"]].isna().all()
        assert rows.iloc[-1][["entropy", "kl_to_final", "top1_id"]].notna().all()


def test_argmax_is_the_models_own_choice(subject):
    frame = logit_lens(subject, texts_of(RAGGED), targets="argmax")
    final = frame[frame["layer"] == N_LAYERS]
    assert (final["rank"] == 0).all() and (final["target_id"] == final["top1_id"]).all()
    np.testing.assert_allclose(np.exp(final["log_prob"]), final["top1_prob"], rtol=1e-6)  # one float32 exponential
    for _, rows in frame.groupby(["prompt_id", "pos"]):
        assert rows["target_id"].nunique() == 1
    assert ((frame["rank"] == 0) == frame["agrees_final"]).all()


def test_targets_by_text_by_id_and_in_lists(subject):
    by_text = logit_lens(subject, texts_of(RAGGED), targets="w7")
    for targets in (7, np.int64(7), ["w7"], [7], [" w7"], (7, "w7"), torch.tensor([7]), torch.tensor(7)):
        other = logit_lens(subject, texts_of(RAGGED), targets=targets)
        pd.testing.assert_frame_equal(by_text.drop(columns="run_id"), other.drop(columns="run_id"))
    several = logit_lens(subject, texts_of(RAGGED), targets=["w7", 3, "w50"])
    assert several["target_id"].tolist() == [7, 3, 50] * len(by_text)
    first = several[several["target_id"] == 7].reset_index(drop=True)
    pd.testing.assert_frame_equal(first.drop(columns="run_id"), by_text.drop(columns="run_id"))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("zebra", "cannot read .*zebra"),
        ("w1 w2", "is 2 tokens"),
        ("", "is 0 tokens"),
        ([], "targets is empty"),
        (VOCAB, "target id 53 is outside the vocabulary of 53"),
        (-1, "target id -1 is outside"),
        ([1, None], "targets holds None: give a text, a whole number, a list"),
        (1.5, "targets=1.5: give a text, a whole number, a list"),
        (["next"], "cannot read .*next"),  # in a list, names of ways to choose are words like any other
        ([["w1"], ["w2"]], "targets holds 2 lists for 1 prompts; give one list for each prompt"),
        ([[]], r"targets gives prompts \[0\] tokens"),
        ([["w1", "w2 w3"]], "is 2 tokens"),
        ([["w1"], 3], "targets holds .*: give a text, a whole number, a list"),
    ],
)
def test_bad_targets(subject, targets, message):
    with pytest.raises(InputError, match=message) as caught:
        logit_lens(subject, "w1 w2", targets=targets)
    assert "\n" not in str(caught.value)


# -- positions and layers --------------------------------------------------------------------------------------------


def selection_of(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    return frame[rows].reset_index(drop=True)


@pytest.mark.parametrize("positions", [-1, [-1], (-1,), np.array([-1])])
def test_the_last_position(subject, frame, positions):
    last = frame["pos"] == frame["prompt_id"].map(lambda prompt: len(RAGGED[prompt]) - 1)
    assert_same_numbers(
        logit_lens(subject, texts_of(RAGGED), sublayers=True, positions=positions), selection_of(frame, last)
    )


def test_positions_from_both_ends(subject):
    texts = texts_of([ids for ids in RAGGED if len(ids) >= 3])
    everything = logit_lens(subject, texts)
    length = everything.groupby("prompt_id")["pos"].transform("max") + 1
    # Position 2 is the last of the prompt of three tokens: once, although named twice.
    wanted = (everything["pos"] == 2) | (everything["pos"] == length - 1) | (everything["pos"] == 0)
    some = logit_lens(subject, texts, positions=[2, -1, 0])
    assert_same_numbers(some, selection_of(everything, wanted))


@pytest.mark.parametrize("layers", [2, [2, 0], range(0, 3, 2), [0, 2, 2], np.array([0, 2])])
def test_layers(subject, frame, layers):
    wanted = {2} if isinstance(layers, int) else {0, 2}
    rows = frame["layer"].isin(wanted)
    assert_same_numbers(logit_lens(subject, texts_of(RAGGED), layers=layers, sublayers=True), selection_of(frame, rows))
    pre = logit_lens(subject, texts_of(RAGGED), layers=layers)
    assert_same_numbers(pre, selection_of(frame, rows & (frame["sublayer"] == "pre")))


@pytest.mark.parametrize("probe", [logit_lens, top_tokens])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": N_LAYERS + 1}, "layer 4 is not in 'GPT2LMHeadModel': layers run from 0 to 3"),
        ({"layers": [0, -5]}, "layer -5 is not"),
        ({"layers": []}, "layers is empty"),
        ({"layers": [0.5]}, "layers holds 0.5: give 'all', a whole number"),
        ({"positions": 2}, "position 2 is outside a prompt of 2 tokens"),
        ({"positions": [0, -3]}, "position -3 is outside"),
        ({"positions": []}, "positions is empty"),
        ({"positions": "last"}, "prompt 0 has no token 'last'; it has ' w1', ' w2', ' w3'; give one of these"),
        ({"texts": ""}, "is empty"),
        ({"texts": " ".join(["w1"] * 33)}, "prompt 0 has 33 tokens, 1 more than the context of 32"),
    ],
)
def test_bad_selections(subject, probe, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        probe(subject, **({"texts": ["w1 w2 w3", "w1 w2"]} | arguments))
    assert "\n" not in str(caught.value)


def test_a_bad_position_is_found_before_anything_is_computed(subject, monkeypatch):
    """The shortest prompt is in the last batch: an hour of work must not come first."""
    monkeypatch.setattr(subject, "run", lambda *args, **kwargs: pytest.fail("the model ran"))
    with interp.options.local(memory=1), pytest.raises(InputError, match="position 5"):
        logit_lens(subject, texts_of(RAGGED), positions=5)


def test_too_long_texts_are_cut_where_asked(subject):
    frame = logit_lens(subject, " ".join(["w1"] * 40), truncate=True, layers=0)
    assert frame["pos"].max() == 31 and frame.interp.provenance.loc["n_tokens_cut"].item() == 8


def test_broken_weights_are_refused_and_the_model_is_as_before(model):
    broken = GPT2LMHeadModel(model.config).eval()
    broken.load_state_dict(model.state_dict())
    broken.transformer.h[1].mlp.c_proj.bias.data[3] = math.nan
    with pytest.raises(NumericalError, match="NaN or infinity"):
        logit_lens(broken, torch.tensor([[1, 2, 3]]))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in broken.modules())


# -- top tokens ------------------------------------------------------------------------------------------------------


def test_top_tokens_are_those_of_plain_topk(model, subject):
    k = 4
    frame = top_tokens(subject, texts_of(RAGGED), k=k, sublayers=True)
    assert len(frame) == k * (2 * N_LAYERS + 1) * sum(map(len, RAGGED))
    rows = frame.set_index(["prompt_id", "layer", "sublayer", "pos"]).sort_index()
    for prompt_id, ids in enumerate(RAGGED):
        for (layer, sublayer), logits in plain_lens(model, ids).items():
            top = logits.double().log_softmax(-1).topk(k)
            for pos in range(len(ids)):
                here = rows.loc[(prompt_id, layer, sublayer, pos)]
                assert here["k"].tolist() == list(range(k))
                assert here["pred_id"].tolist() == top.indices[pos].tolist()
                assert here["pred"].tolist() == [f" w{index}" for index in top.indices[pos].tolist()]
                np.testing.assert_allclose(here["log_prob"], top.values[pos], atol=CLOSE, rtol=1e-5)
                np.testing.assert_allclose(here["prob"], top.values[pos].exp(), atol=CLOSE, rtol=1e-5)


def test_top_tokens_and_the_lens_agree(subject, frame):
    top = top_tokens(subject, texts_of(RAGGED), k=1, sublayers=True)
    assert top["pred_id"].tolist() == frame["top1_id"].tolist()
    # The exponential is taken in float32 there and in float64 here.
    np.testing.assert_allclose(top["prob"], frame["top1_prob"], rtol=1e-6)


def test_all_of_the_vocabulary_as_top_tokens(subject):
    frame = top_tokens(subject, "w1 w2", k=VOCAB, layers=1)
    assert sorted(frame["pred_id"]) == sorted(list(range(VOCAB)) * 2)
    np.testing.assert_allclose(frame.groupby("pos")["prob"].sum(), 1.0, atol=1e-5)  # 53 roundings


@pytest.mark.parametrize(("k", "message"), [(0, "k=0 is not between 1"), (54, "k=54"), (1.5, "k=1.5: give a whole")])
def test_bad_k(subject, k, message):
    with pytest.raises(InputError, match=message):
        top_tokens(subject, "w1", k=k)


# -- summaries and figures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sublayers", [True, False])
def test_convergence_is_that_of_a_loop(subject, sublayers):
    frame = logit_lens(subject, texts_of(RAGGED), sublayers=sublayers, targets=["w1", "w2"])
    result = frame.sample(frac=1, random_state=0).interp.summary(by="position")  # in any order of rows
    places = [[n, p, target] for n in range(4) for p in range(len(RAGGED[n])) for target in (1, 2)]
    assert result[["prompt_id", "pos", "target_id"]].to_numpy().tolist() == places
    for row in result.itertuples():
        rows = frame[(frame["prompt_id"] == row.prompt_id) & (frame["pos"] == row.pos) & (frame["sublayer"] != "mid")]
        agrees = dict(zip(rows["layer"], rows["agrees_final"], strict=False))
        layer = N_LAYERS
        while layer > 0 and agrees[layer - 1]:
            layer -= 1
        assert row.convergence_layer == layer
        assert row.token == f" w{RAGGED[row.prompt_id][row.pos]}"
    assert result["convergence_layer"].nunique() > 1


def test_agreement_that_breaks_off_again_does_not_count():
    """The model's answer comes, goes and comes back: it has settled from the second coming on."""
    frame = logit_lens(bias_ladder(n_layers=5).model, "w0 w1")
    agrees = [True, True, False, True, True, True]
    frame["agrees_final"] = agrees * 2
    assert frame.interp.summary(by="position")["convergence_layer"].tolist() == [3, 3]


def test_no_convergence_is_missing_and_not_left_out(subject):
    frame = logit_lens(subject, texts_of(RAGGED), final_norm=False, layers=[0, 1])
    result = frame.interp.summary(by="position")
    never = frame[frame["layer"] == 1].set_index(["prompt_id", "pos"])["agrees_final"]
    assert len(result) == sum(map(len, RAGGED)) and (~never).any()
    assert result["convergence_layer"].isna().tolist() == (~never).tolist()


def settles(holds: list[bool]) -> int | None:
    """The first layer from which on `holds` is true, None if the last is false."""
    if not holds[-1]:
        return None
    return max((layer + 1 for layer, one in enumerate(holds) if not one), default=0)


def test_where_an_answer_arises_equals_a_plain_loop(model, subject):
    """From hidden states, norm and unembedding in plain PyTorch, with a target for each prompt."""
    targets = [["w9"], ["w1"], ["w7"], ["w30"]]
    frame = logit_lens(subject, texts_of(RAGGED), targets=targets)
    found = frame.interp.summary(by="position", kl_below=0.5).set_index(["prompt_id", "pos"])
    answers = []
    for prompt, ((target,), ids) in enumerate(zip(targets, RAGGED, strict=True)):
        token = int(target[1:])
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            # The last of them has been through the final norm already.
            logits = [model.lm_head(model.transformer.ln_f(state))[0] for state in states[:-1]]
            logits.append(model.lm_head(states[-1])[0])
        log_p = torch.stack(logits).double().log_softmax(-1)  # [layer, pos, token]
        kl = (log_p[-1].exp() * (log_p[-1] - log_p)).sum(-1)
        for pos in range(len(ids)):
            first = log_p[:, pos].argmax(-1)
            holds = first == token, first == first[-1], kl[:, pos] < 0.5
            answers.append([settles(one.tolist()) for one in holds])
            row = found.loc[(prompt, pos)]
            assert row["target"].strip() == target
            assert [None if pd.isna(row[name]) else row[name] for name in LAYERS] == answers[-1]
    for column in zip(*answers, strict=True):
        assert len(set(column)) > 1


def test_the_layer_of_a_planted_answer_is_known():
    """A ladder's target overtakes the current token, of logit 1, in the step that lifts it above 1; each step adds 0.4.

    A step of noise after each of the first three planted blocks changes nothing.
    """
    ladder = bias_ladder(n_layers=5, a=2.0, target=3, noise_blocks=3)
    planted = list(ladder.truth.layout.planted)
    frame = logit_lens(ladder.model, ["w0 w1", "w0 w3"], targets="w3", positions=-1)
    found = frame.interp.summary(by="position")
    # The third planted block lifts it to 1.2; a token that is the target itself is on top from the embedding on.
    assert found["target_layer"].tolist() == found["convergence_layer"].tolist() == [planted[2] + 1, 0]
    kl = ladder.truth.kl_to_final(torch.tensor([[0, 1], [0, 3]]))[:, :, 1]
    for bound in (0.1, 0.02):
        nearest = [settles((kl[:, prompt] < bound).tolist()) for prompt in range(2)]
        assert frame.interp.summary(by="position", kl_below=bound)["kl_layer"].tolist() == nearest
    run = frame.interp.summary(by="run")
    assert run["target_layer"].tolist() == [(planted[2] + 1) / 2] and run["target_arrives"].tolist() == [1.0]


def test_two_steps_settle_after_their_second_block():
    planted = two_step(noise_blocks=2)
    _, second = planted.truth.layout.planted
    targets = [[(last + 2) % planted.truth.vocab] for last in (4, 11)]
    frame = logit_lens(planted.model, ["w0 w4", "w0 w11"], targets=targets, positions=-1)
    found = frame.interp.summary(by="position")
    assert found["target_id"].tolist() == [6, 1]
    assert (found[list(LAYERS)] == second + 1).all(axis=None)


def test_a_column_of_the_texts_is_not_taken_for_a_token():
    texts = pd.DataFrame({"text": ["w0 w1", "w0 w2"], "w3": ["w3", "w5"]})
    with pytest.raises(InputError, match=r"targets='w3' is a column of your texts: give each prompt its own"):
        logit_lens(bias_ladder(target=3).model, texts, targets="w3", positions=-1)


def test_a_target_that_does_not_arrive_is_missing_and_counted():
    ladder = bias_ladder(target=3)
    frame = logit_lens(ladder.model, ["w0 w1", "w0 w2"], targets=[["w3"], ["w5"]], positions=-1)
    assert frame.interp.summary(by="position")["target_layer"].isna().tolist() == [False, True]
    run = frame.interp.summary(by="run").iloc[0]
    assert run["target_arrives"] == 0.5
    assert run["target_layer"] == frame.interp.summary(by="position")["target_layer"].iloc[0]


def test_the_summary_by_layer_leaves_position_0_out(frame):
    summary = frame.interp.summary()
    assert "position 0 left out" in summary.attrs["note"]
    assert list(zip(summary["layer"], summary["sublayer"], strict=True)) == [
        (0, "pre"), (0, "mid"), (1, "pre"), (1, "mid"), (2, "pre"), (2, "mid"), (3, "final"),
    ]  # fmt: skip
    later = frame[frame["pos"] > 0]
    assert (summary["n_prompts"] == later["prompt_id"].nunique()).all()
    for column in ("log_prob", "rank", "entropy", "kl_to_final", "agrees_final"):
        per_prompt = later.astype({column: float}).groupby(["layer", "sublayer", "prompt_id"])[column].mean()
        expected = per_prompt.groupby(["layer", "sublayer"]).mean()
        found = summary.set_index(["layer", "sublayer"])[column]
        # Means of float64 in another order.
        np.testing.assert_allclose(found, expected.reindex(found.index), rtol=1e-12)


def test_several_targets_are_not_averaged_together(subject):
    frame = logit_lens(subject, texts_of(RAGGED), targets=["w7", "w3"])
    summary = frame.interp.summary()
    alone = logit_lens(subject, texts_of(RAGGED), targets="w3").interp.summary()
    of_one = summary[summary["target"] == " w3"].drop(columns=["run_id", "target_id", "target"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(of_one, alone.drop(columns="run_id"))
    assert len(summary) == 2 * len(alone)


def test_bad_summaries(frame):
    with pytest.raises(InputError, match="cannot sum a lens up by 'token'; choose 'layer', 'position' or 'run'"):
        frame.interp.summary(by="token")
    for by in ("position", "run"):
        with pytest.raises(InputError, match="kl_below=0: give a number of nats above 0"):
            frame.interp.summary(by=by, kl_below=0)
    with pytest.raises(InputError, match="summaries leave position 0 out"):
        frame[frame["pos"] == 0].interp.summary()


def n_cells(figure) -> int:
    return len(figure.axes[0].texts)


def test_the_figure_has_a_cell_for_every_place(subject, frame, tmp_path):
    from matplotlib.figure import Figure

    figure = frame.interp.plot(path=tmp_path / "lens.png")
    assert isinstance(figure, Figure) and (tmp_path / "lens.png").stat().st_size > 1000
    assert n_cells(figure) == (2 * N_LAYERS + 1) * len(RAGGED[0])
    shown = [text.get_text() for text in figure.axes[0].texts]
    first = frame[(frame["prompt_id"] == 0) & (frame["layer"] == 0) & (frame["sublayer"] == "pre")]
    assert shown[: len(RAGGED[0])] == first["top1"].tolist()
    assert n_cells(frame.interp.plot(prompt_id=2)) == (2 * N_LAYERS + 1) * len(RAGGED[2])
    several = logit_lens(subject, texts_of(RAGGED), targets=["w1", "w2"], layers=[0, 3])
    assert n_cells(several.interp.plot(prompt_id=3)) == 2 * len(RAGGED[3])
    top = top_tokens(subject, texts_of(RAGGED), k=3, positions=-1)
    assert n_cells(top.interp.plot(prompt_id=1)) == N_LAYERS + 1


def test_figures_that_cannot_be_drawn(frame):
    with pytest.raises(InputError, match="prompt 99 is not in the frame"):
        frame.interp.plot(prompt_id=99)
    with pytest.raises(InputError, match=r"positions=\[0, 40\]: the frame holds positions 0 to"):
        frame.interp.plot(positions=[0, 40])
    with pytest.raises(InputError, match=f"layers=9: the frame holds layers 0 to {N_LAYERS}"):
        frame.interp.plot(layers=9)
    with pytest.raises(UnknownName, match="unknown value 'ranks'"):
        frame.interp.plot(value="ranks")
    again = logit_lens(bias_ladder().model, "w1 w2", targets="argmax")
    with pytest.raises(InputError, match="several run_ids"):
        interp.concat([logit_lens(bias_ladder().model, "w1 w2"), again]).interp.plot()


def shown_values(figure) -> np.ndarray:
    """The numbers behind the colours, [layer, pos] in the order of the frame."""
    return np.concatenate([axes.images[0].get_array().filled(np.nan) for axes in figure.axes if axes.images], axis=1)


@pytest.mark.parametrize(
    ("value", "column"),
    [("prob", "top1_prob"), ("rank", "rank"), ("entropy", "entropy"), ("kl", "kl_to_final"), ("log_prob", "log_prob")],
)
def test_the_colour_shows_what_is_asked_for(frame, value, column):
    one = frame[(frame["prompt_id"] == 0) & (frame["sublayer"] != "mid")]
    want = one.pivot(index="layer", columns="pos", values=column).loc[[1, 3], [2, 4]]
    figure = frame[frame["sublayer"] != "mid"].interp.plot(prompt_id=0, layers=[1, 3], positions=[2, 4], value=value)
    np.testing.assert_allclose(shown_values(figure), want.to_numpy(dtype=float, na_value=np.nan))


def test_a_long_prompt_of_a_deep_model_is_whole_and_can_be_read():
    """30 layers x 64 positions at 800 pixels: every cell has its token, in letters of 9 pixels that do not overlap."""
    places = pd.MultiIndex.from_product([range(64), range(31)], names=["pos", "layer"]).to_frame(index=False)
    frame = places.assign(
        model="deep", run_id="a", prompt_id=0, lens="logit", token="understood", top1=" perhaps", top1_prob=0.5,
        rank=1, entropy=1.0, kl_to_final=1.0, log_prob=-1.0, sublayer=np.where(places["layer"] == 30, "final", "pre"),
    )  # fmt: skip
    figure = plots.lens(frame)
    figure.set_dpi(100)
    figure.canvas.draw()
    assert figure.get_window_extent().width <= 800
    cells = [text for axes in figure.axes for text in axes.texts]
    assert len(cells) == 31 * 64
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert min(box.height for box in boxes) >= 9
    across = sorted((box for box in boxes if box.y0 == boxes[0].y0), key=lambda box: box.x0)
    assert all(left.x1 <= right.x0 for left, right in pairwise(across))
    rows = sorted({(box.y0, box.y1) for box in boxes})
    assert all(low[1] <= high[0] + 1 for low, high in pairwise(rows))  # a pixel of space between lines of text
    longer = pd.concat([frame.assign(pos=frame["pos"] + 64 * part) for part in range(3)])
    cut = " ".join(plots.lens(longer).get_supxlabel().split())
    assert "positions 0 to 95 of 192: positions= draws others" in cut
    drawn = plots.lens(longer, positions=[100, -1])
    assert len(drawn.axes[0].texts) == 62 and "others" not in drawn.get_supxlabel()


# -- the frame itself ------------------------------------------------------------------------------------------------


def test_rows_come_prompt_by_prompt_place_by_place(frame):
    expected = [
        (prompt_id, pos, layer, sublayer)
        for prompt_id, ids in enumerate(RAGGED)
        for pos in range(len(ids))
        for layer, sublayer in [(i, s) for i in range(N_LAYERS) for s in ("pre", "mid")] + [(N_LAYERS, "final")]
    ]
    assert list(frame[["prompt_id", "pos", "layer", "sublayer"]].itertuples(index=False, name=None)) == expected


def test_the_columns_are_those_of_the_issue(frame):
    assert frame.columns.tolist() == [
        "model", "run_id", "prompt_id", "pos", "token_id", "token", "layer", "sublayer", "lens", "target_id", "target",
        "log_prob", "rank", "entropy", "kl_to_final", "top1_id", "top1", "top1_prob", "agrees_final",
    ]  # fmt: skip


def test_a_frame_can_be_written_to(subject):
    frame = logit_lens(subject, "w1 w2")
    frame.loc[0, "log_prob"] = -1.0
    frame.loc[frame["pos"] == 1, ["layer", "rank"]] = 0
    assert frame["log_prob"].iat[0] == -1.0 and frame["rank"].iat[-1] == 0


def test_a_next_token_that_nowhere_exists_is_said(subject):
    """At the last position nothing follows, so the default targets leave only missing values."""
    with pytest.warns(UserWarning, match="no token follows the positions .* targets='argmax' or a token") as caught:
        frame = logit_lens(subject, texts_of(RAGGED), positions=-1)
    assert [one.filename for one in caught] == [__file__]  # the user's line, not one of ours
    assert frame["log_prob"].isna().all() and frame["entropy"].notna().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert logit_lens(subject, texts_of(RAGGED), positions=[0, -1])["log_prob"].notna().any()
        assert logit_lens(subject, texts_of(RAGGED), positions=-1, targets="argmax")["log_prob"].notna().all()
