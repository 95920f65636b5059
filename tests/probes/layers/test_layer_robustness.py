"""Deleting, swapping and repeating blocks: planted truth, independent references, controls, interruption, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from interp.errors import InputError, UnknownName
from interp.model.schedules import plan
from interp.model.sites import editing
from interp.planted import Planted, bias_ladder, bigram, copying, two_step
from probes import layer_robustness, logit_lens, run_schedules
from probes.layers._variants import variants

# float32 statistics of logits of size ten against float64.
CLOSE = 2e-5
N_LAYERS, VOCAB = 5, 61
PROMPTS = [[4, 9, 33, 5, 17, 8, 8, 41], [7, 3, 12, 60, 5], [55, 6, 7, 8, 9, 10, 11, 12], [9, 9, 4]]
METRICS = ["kl", "loss_intact", "loss", "loss_change", "entropy_intact", "entropy"]


def texts_of(prompts: list[list[int]]) -> list[str]:
    return [" ".join(f"w{token}" for token in ids) for ids in prompts]


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=32, n_embd=24, n_layer=N_LAYERS, n_head=2, initializer_range=0.3,
        attn_implementation="eager", bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def subject(model, word_level) -> interp.Subject:
    return interp.load(model, tokenizer=word_level)


@pytest.fixture(scope="module")
def frame(subject) -> pd.DataFrame:
    return layer_robustness(subject, texts_of(PROMPTS), interventions=("delete", "swap", "repeat", "delete_run(2)"))


def definitions(logits: Tensor, intact: Tensor, target: int | None) -> dict[str, float]:
    """Every metric of one position from its definition, in float64; logits and intact are [V]."""
    log_q, log_p = logits.double().log_softmax(0), intact.double().log_softmax(0)
    known = {
        "kl": float((log_p.exp() * (log_p - log_q)).sum()),
        "entropy_intact": float(-(log_p.exp() * log_p).sum()),
        "entropy": float(-(log_q.exp() * log_q).sum()),
    }
    if target is None:
        return known
    loss, loss_intact = float(-log_q[target]), float(-log_p[target])
    return known | {
        "loss_intact": loss_intact,
        "loss": loss,
        "loss_change": loss - loss_intact,
        "target_rank": int((logits > logits[target]).sum()),
        "target_rank_intact": int((intact > intact[target]).sum()),
    }


def reordered(model: GPT2LMHeadModel, order: tuple[int, ...], ids: list[int]) -> Tensor:
    """Logits [pos, V] by transformers' own blocks called in another order."""
    core = model.transformer
    tokens = torch.tensor([ids])
    with torch.no_grad():
        hidden = core.wte(tokens) + core.wpe(torch.arange(len(ids)))
        mask = torch.full((len(ids), len(ids)), -math.inf).triu(1)[None, None]
        for index in order:
            hidden = core.h[index](hidden, attention_mask=mask)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return model.lm_head(core.ln_f(hidden))[0]


def order_of(intervention: str, layer: int) -> tuple[int, ...]:
    every = list(range(N_LAYERS))
    if intervention == "delete":
        del every[layer]
    elif intervention == "delete_run(2)":
        del every[layer : layer + 2]
    elif intervention == "swap":
        every[layer], every[layer + 1] = every[layer + 1], every[layer]
    elif intervention == "repeat":
        every.insert(layer, layer)
    return tuple(every)


# -- against a reference that shares no code -------------------------------------------------------------------------


def test_every_metric_equals_a_reordered_model(model, frame):
    measured = frame[frame["control"] == "none"].set_index(["intervention", "layer", "prompt_id", "pos"])
    for (intervention, layer), _ in measured.groupby(level=[0, 1]):
        for prompt_id, prompt in enumerate(PROMPTS):
            ids = [1, *prompt]
            logits = reordered(model, order_of(intervention, layer), ids)
            intact = reordered(model, tuple(range(N_LAYERS)), ids)
            for pos in range(len(ids)):
                row = measured.loc[intervention, layer, prompt_id, pos]
                known = definitions(logits[pos], intact[pos], ids[pos + 1] if pos + 1 < len(ids) else None)
                for name, value in known.items():
                    assert row[name] == pytest.approx(value, abs=CLOSE), (intervention, layer, pos, name)
                assert row["top1_agrees"] == (logits[pos].argmax() == intact[pos].argmax())
    assert len(measured) == (5 + 4 + 5 + 4) * sum(len(prompt) + 1 for prompt in PROMPTS)


def test_interventions_matter_here(frame):
    # Else the comparison above could pass with blocks that do nothing.
    by_block = frame[frame["pos"] > 0].groupby(["intervention", "layer"])["kl"].mean()
    assert (by_block > 1e-2).all()


@pytest.mark.parametrize("kind", ["delete", "delete_attn", "delete_mlp"])
def test_a_deletion_is_a_hook_that_silences_the_block(small_subject, any_architecture, any_backend, kind):
    """Parallel blocks, sandwich norms and sliding windows among the architectures."""
    subject = small_subject(any_architecture, any_backend)
    text = texts_of(PROMPTS[:1])
    frame = layer_robustness(subject, text, interventions=(kind,), controls=())
    ids = subject.tokens(text).ids[0][None]
    intact = subject.logits(text)[0]
    silenced = {"delete": ("attn_out", "mlp_out"), "delete_attn": ("attn_out",), "delete_mlp": ("mlp_out",)}[kind]
    for layer in range(subject.n_layers):
        with ExitStack() as hooks:
            for name in silenced:
                hooks.enter_context(editing(subject.site(name, layer), torch.zeros_like))
            logits = subject.backend.logits(ids)[0]
        rows = frame[frame["layer"] == layer].sort_values("pos")
        known = [definitions(logits[pos], intact[pos], None) for pos in range(len(intact))]
        for name in ("kl", "entropy"):
            np.testing.assert_allclose(rows[name], [one[name] for one in known], atol=CLOSE)


def test_deleting_the_last_blocks_is_the_logit_lens(subject):
    lens = logit_lens(subject, texts_of(PROMPTS)).set_index(["layer", "prompt_id", "pos"]).sort_index()
    for k in range(1, N_LAYERS + 1):
        frame = layer_robustness(subject, texts_of(PROMPTS), interventions=(f"delete_run({k})",), controls=())
        cut = frame[frame["layer"] == N_LAYERS - k].set_index(["prompt_id", "pos"]).sort_index()
        there = lens.loc[N_LAYERS - k]
        np.testing.assert_allclose(cut["kl"], there["kl_to_final"], atol=CLOSE)
        np.testing.assert_allclose(cut["loss"], -there["log_prob"], atol=CLOSE)
        assert (cut["target_rank"].dropna() == there["rank"].dropna()).all()
        assert (cut["top1_agrees"] == there["agrees_final"]).all()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "phi", "gemma2", "mistral"])
def test_both_backends_give_the_same_frame(small_subject, architecture):
    frames = [
        layer_robustness(small_subject(architecture, backend), texts_of(PROMPTS), interventions=("delete", "swap"))
        for backend in ("bridge", "nnsight")
    ]
    keys = ["prompt_id", "pos", "intervention", "layer", "control"]
    first, second = (frame.sort_values(keys, ignore_index=True) for frame in frames)
    pd.testing.assert_frame_equal(first[keys], second[keys])
    for name in METRICS:  # the backends' attention kernels differ
        np.testing.assert_allclose(first[name], second[name], atol=1e-4)


# -- planted truth ---------------------------------------------------------------------------------------------------

PLANTED: dict[str, Callable[[], Planted]] = {
    "bias_ladder": lambda: bias_ladder(noise_blocks=2),
    "copy": lambda: copying(a=3.0, noise_blocks=2),
    "bigram": lambda: bigram(noise_blocks=2),
    "two_step": lambda: two_step(noise_blocks=2),
}


@pytest.mark.parametrize("name", PLANTED)
def test_every_deletion_and_swap_of_a_planted_model_is_known(name):
    planted = PLANTED[name]()
    ids = torch.tensor([[0, 5, 3, 3, 11, 5, 7]])
    n_layers = planted.truth.layout.n_layers
    frame = layer_robustness(planted.model, ids, controls=())
    intact = planted.truth.logits(ids)[0]
    for (intervention, layer), rows in frame.groupby(["intervention", "layer"]):
        order = [block for block in range(n_layers) if intervention == "swap" or block != layer]
        if intervention == "swap":
            order[layer], order[layer + 1] = order[layer + 1], order[layer]
        logits = planted.truth.logits(ids, order)[0]
        for row in rows.itertuples():
            target = int(ids[0, row.pos + 1]) if row.pos + 1 < ids.shape[1] else None
            known = definitions(logits[row.pos], intact[row.pos], target)
            for metric in ("kl", "entropy", *(("loss", "loss_change") if target is not None else ())):
                # Losses of planted models reach thirty nats, float32 to 7 digits.
                assert getattr(row, metric) == pytest.approx(known[metric], abs=5e-5), (intervention, layer, metric)


def test_blocks_that_only_add_biases_commute():
    frame = layer_robustness(
        bias_ladder().model, torch.tensor([[0, 5, 3, 3, 11]]), interventions=("swap",), controls=()
    )
    assert (frame["kl"] < 1e-6).all() and frame["top1_agrees"].all()


def test_a_reader_needs_its_writer_first():
    """Block 2 reads what block 1 wrote: deleting either or swapping them kills the effect, nothing else does."""
    planted = two_step(noise_blocks=2)
    writer, reader = planted.truth.layout.planted
    frame = layer_robustness(planted.model, torch.tensor([[0, 5, 3, 3, 11, 5, 7]]), controls=())
    harm = frame.groupby(["intervention", "layer"])["kl"].max()
    deadly = harm["delete"][harm["delete"] > 1e-3].index.tolist()
    assert deadly == [writer, reader]
    assert (harm["delete"].drop(deadly) < 1e-6).all()
    # Swapping the pair, or taking the reader past the writer step by step, is the same thing only when adjacent.
    orders = {"kept": range(4), "reversed": [reader if b == writer else writer if b == reader else b for b in range(4)]}
    swapped = run_schedules(planted.model, torch.tensor([[0, 5, 3, 3, 11, 5, 7]]), orders)
    harm = swapped.groupby("schedule")["kl"].max()
    assert harm["kept"] < 1e-6 and harm["reversed"] > 1e-3


def test_a_block_that_does_nothing_can_go_and_equal_blocks_can_change_places(model, word_level):
    with torch.no_grad():
        edited = GPT2LMHeadModel(model.config).eval()
        edited.load_state_dict(model.state_dict())
        for name, weight in edited.transformer.h[2].named_parameters():
            if "c_proj" in name:
                weight.zero_()
        edited.transformer.h[4].load_state_dict(edited.transformer.h[3].state_dict())
    frame = layer_robustness(interp.load(edited, tokenizer=word_level), texts_of(PROMPTS), controls=())
    deleted = frame[(frame["intervention"] == "delete") & (frame["layer"] == 2)]
    swapped = frame[(frame["intervention"] == "swap") & (frame["layer"] == 3)]
    for unharmed in (deleted, swapped):
        assert (unharmed["kl"] < 1e-6).all() and unharmed["top1_agrees"].all()
    assert (frame[(frame["intervention"] == "delete") & (frame["layer"] == 3)]["kl"] > 1e-4).any()


# -- schedules -------------------------------------------------------------------------------------------------------


def test_run_schedules_equals_the_named_interventions(subject, frame):
    orders = {f"{name} {layer}": order_of(name, layer) for name in ("delete", "swap", "repeat") for layer in range(4)}
    by_name = run_schedules(subject, texts_of(PROMPTS), orders)
    frame = frame.assign(schedule=frame["intervention"] + " " + frame["layer"].astype(str))
    for schedule, rows in by_name.groupby("schedule"):
        same = frame[frame["schedule"] == schedule].sort_values(["prompt_id", "pos"])
        for name in METRICS:
            np.testing.assert_allclose(rows.sort_values(["prompt_id", "pos"])[name], same[name], atol=CLOSE)


def test_the_plan_of_interventions_is_within_the_bound():
    for n in (2, 12, 48):
        chosen = variants(("delete", "swap"), n, resampled=False)
        orders = [(*range(one.root), *one.blocks) for one in chosen]
        assert plan(orders).n_block_runs <= n + n * (n - 1) // 2 + (n - 1) * (n + 2) // 2


def test_only_chosen_positions_are_unembedded(subject, monkeypatch):
    rows = []
    original = interp.Subject.reader

    def watching(self, **wanted):
        read = original(self, **wanted)
        return lambda tape, states, reference: (rows.append(len(reference)), read(tape, states, reference))[1]

    monkeypatch.setattr(interp.Subject, "reader", watching)
    frame = layer_robustness(subject, texts_of(PROMPTS), positions=[1, -1], controls=())
    assert sum(rows) == 2 * len(PROMPTS)
    assert len(frame) == (5 + 4) * 2 * len(PROMPTS)


# -- the control -----------------------------------------------------------------------------------------------------


def test_a_prompt_that_borrows_from_its_twin_is_unharmed(subject):
    frame = layer_robustness(subject, texts_of(PROMPTS[:1] * 2))
    control = frame[frame["control"] == "resampled"]
    assert len(control) == N_LAYERS * 2 * (len(PROMPTS[0]) + 1)
    assert (control["kl"] < 1e-6).all() and control["top1_agrees"].all()


def test_the_control_puts_in_what_the_block_wrote_elsewhere(model, subject):
    """Two prompts are each other's donors: the last block's output is then known by hand."""
    prompts = [PROMPTS[0], PROMPTS[2]]
    frame = layer_robustness(subject, texts_of(prompts), interventions=("delete",))
    control = frame[(frame["control"] == "resampled") & (frame["layer"] == N_LAYERS - 1)]
    hidden = []
    with torch.no_grad():
        for prompt in prompts:
            # The last of transformers' hidden states is behind the final norm; the residual before it is not kept.
            seen: list[Tensor] = []
            handle = model.transformer.ln_f.register_forward_pre_hook(
                lambda module, args, seen=seen: seen.append(args[0])
            )
            states = model(torch.tensor([[1, *prompt]]), output_hidden_states=True).hidden_states
            handle.remove()
            hidden.append((states[N_LAYERS - 1][0], seen[0][0]))
        for prompt_id, prompt in enumerate(prompts):
            (entered, left), (other_entered, other_left) = hidden[prompt_id], hidden[1 - prompt_id]
            logits = model.lm_head(model.transformer.ln_f(entered + other_left - other_entered))
            intact = model.lm_head(model.transformer.ln_f(left))
            rows = control[control["prompt_id"] == prompt_id].sort_values("pos")
            known = [definitions(logits[pos], intact[pos], None)["kl"] for pos in range(len(prompt) + 1)]
            np.testing.assert_allclose(rows["kl"], known, atol=CLOSE)


def test_positions_beyond_the_longest_donor_are_left_out(subject):
    frame = layer_robustness(subject, texts_of([PROMPTS[0], PROMPTS[1]]), interventions=("delete",))
    control = frame[frame["control"] == "resampled"]
    reach = control.groupby("prompt_id")["pos"].max().to_dict()
    assert reach == {0: len(PROMPTS[1]), 1: len(PROMPTS[1])}
    assert control["kl"].notna().all()


def test_numbers_do_not_depend_on_the_batch(subject, frame, monkeypatch):
    monkeypatch.setattr(interp.Subject, "batch_tokens", lambda self, states: 10)
    alone = layer_robustness(subject, texts_of(PROMPTS), interventions=("delete", "swap", "repeat", "delete_run(2)"))
    pd.testing.assert_frame_equal(alone, frame, check_exact=False, atol=CLOSE)


@given(order=st.permutations(range(len(PROMPTS))), size=st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_numbers_do_not_depend_on_the_order_of_prompts(subject, frame, order, size):
    """Controls included; nor on the size of batches."""
    kinds = ("delete", "swap", "repeat", "delete_run(2)")
    given_so = pd.DataFrame({"prompt_id": order, "text": texts_of([PROMPTS[index] for index in order])})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interp.Subject, "batch_tokens", lambda self, states: size)
        mixed = layer_robustness(subject, given_so, interventions=kinds)
    keys = ["prompt_id", "pos", "intervention", "layer"]
    pairs = (one.sort_values(keys, ignore_index=True) for one in (mixed, frame))
    pd.testing.assert_frame_equal(*(one.drop(columns="run_id") for one in pairs), check_exact=False, atol=CLOSE)


def test_another_prompt_leaves_the_others_their_control(subject, frame):
    """Unless it becomes the donor, which a prompt shorter than all others cannot."""
    kinds = ("delete", "swap", "repeat", "delete_run(2)")
    more = layer_robustness(subject, texts_of([*PROMPTS, [9, 3]]), interventions=kinds)
    kept = more[more["prompt_id"] < len(PROMPTS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        kept.drop(columns="run_id"), frame.drop(columns="run_id"), check_exact=False, atol=CLOSE
    )


def test_one_text_has_no_control_and_says_so(subject):
    with pytest.warns(UserWarning, match="needs a second text"):
        frame = layer_robustness(subject, texts_of(PROMPTS[:1]))
    assert set(frame["control"]) == {"none"}


# -- summary, figure, interruption -----------------------------------------------------------------------------------


def test_the_summary_is_of_prompts_and_leaves_position_0_out(frame):
    summary = frame.interp.summary().set_index(["intervention", "layer"])
    kept = frame[(frame["pos"] > 0) & (frame["intervention"] == "swap") & (frame["layer"] == 1)]
    by_prompt = kept.groupby("prompt_id")
    row = summary.loc["swap", 1]
    assert row["top1_agrees"] == pytest.approx(by_prompt["top1_agrees"].mean().mean())
    assert row["kl"] == pytest.approx(by_prompt["kl"].mean().mean())
    assert row["kl_median"] == pytest.approx(by_prompt["kl"].median().mean())
    correct = [
        (kept[name] == 0).groupby(kept["prompt_id"]).mean().mean() for name in ("target_rank", "target_rank_intact")
    ]
    assert row["correct_retained"] == pytest.approx(correct[0] / correct[1], nan_ok=True)
    retained = summary.dropna(subset="correct_retained_low")
    assert (retained["correct_retained_low"] <= retained["correct_retained"]).all()
    assert (retained["correct_retained"] <= retained["correct_retained_high"]).all()
    assert row["top1_agrees_low"] <= row["top1_agrees"] <= row["top1_agrees_high"]


def test_the_figure_shows_every_intervention_and_the_control(frame):
    (axes,) = frame.interp.plot().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["delete", "delete run(2)", "repeat", "swap", "control: resampled"]
    assert len(axes.lines) == 5 and "retained" in axes.get_ylabel()


def test_an_interrupted_run_goes_on(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(interp.Subject, "batch_tokens", lambda self, states: 10)
    whole = layer_robustness(subject, texts_of(PROMPTS))
    runs: list[int] = []
    original = interp.Subject.run

    def failing(self, ids, program, **options):
        runs.append(len(ids))
        if len(runs) == 6:  # each batch takes two: the donors' and its own
            raise KeyboardInterrupt
        return original(self, ids, program, **options)

    out = tmp_path / "rows"
    with monkeypatch.context() as patch:
        patch.setattr(interp.Subject, "run", failing)
        with pytest.raises(KeyboardInterrupt):
            layer_robustness(subject, texts_of(PROMPTS), out=out)
        n_done = len(list(out.glob("*.parquet")))
        assert n_done == 2
        runs[:] = [0] * 10
        resumed = layer_robustness(subject, texts_of(PROMPTS), out=out)
        assert len(runs) - 10 == 2 * (len(PROMPTS) - n_done)
    pd.testing.assert_frame_equal(resumed, whole)
    assert resumed.interp.runs.keys() == whole.interp.runs.keys()


def test_another_run_in_the_same_folder_starts_anew(subject, tmp_path):
    first = layer_robustness(subject, texts_of(PROMPTS), out=tmp_path)
    other = layer_robustness(subject, texts_of(PROMPTS), out=tmp_path, seed=1)
    assert set(first["run_id"]).isdisjoint(other["run_id"])
    pd.testing.assert_frame_equal(layer_robustness(subject, texts_of(PROMPTS), out=tmp_path), first)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"interventions": ("remove",)}, UnknownName, "unknown intervention 'remove'"),
        ({"interventions": ("delete_run(9)",)}, UnknownName, r"delete_run\(k\) takes k from 1 to 5 here"),
        ({"interventions": (), "controls": ()}, InputError, "nothing to do: name at least one intervention"),
        ({"controls": ("zero",)}, InputError, "the control here is 'resampled'"),
        ({"positions": 99}, InputError, "position 99"),
        ({"out": "/nowhere/at/all"}, InputError, "is not a folder and cannot be created"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(subject, monkeypatch, arguments, error, says):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(error, match=says):
        layer_robustness(subject, texts_of(PROMPTS), **arguments)


@pytest.mark.parametrize("schedules", [{}, [(0, 1)], {"one too many": (0, 5)}, {"no order": 3.5}])
def test_bad_schedules_are_refused(subject, schedules):
    with pytest.raises(InputError):
        run_schedules(subject, texts_of(PROMPTS), schedules)
