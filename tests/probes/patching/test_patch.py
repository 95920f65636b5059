"""Activation patching: planted causes, other implementations, controls, and what cannot be patched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from transformer_lens import patching

import interp
from interp.errors import InputError, UnknownName
from interp.model.sites import editing
from interp.model.tape import Tape
from interp.planted import copying, cue, two_step
from probes import patch
from probes.patching._variants import n_block_runs

ZERO = 1e-6  # float32 logits of size six, which differ by their rounding alone
CLOSE = 1e-5  # the same sums in another order
CLEAN = [[4, 9, 33, 5, 17, 8, 8, 41], [7, 3, 12, 60, 5, 20]]
CORRUPT = [[4, 9, 21, 5, 17, 8, 30, 41], [7, 50, 12, 60, 5, 20]]
SITES = ("resid_pre", "resid_post", "attn_out", "mlp_out")


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


def found(frame: pd.DataFrame) -> pd.Series:
    """Return what is recovered, by site, block and position, without controls."""
    return frame[frame["control"] == "none"].set_index(["site", "layer", "pos"])["recovered"]


def assert_only(recovered: pd.Series, causes: set[tuple[str, int, int]]) -> None:
    """Assert that these places recover all, and no other anything."""
    expected = pd.Series([float(place in causes) for place in recovered.index], recovered.index)
    np.testing.assert_allclose(recovered, expected, atol=ZERO)
    assert causes <= set(recovered.index)


# -- planted causes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["denoise", "noise"])
def test_a_cue_is_carried_by_its_position_and_then_by_the_last(mode):
    planted = cue(noise_blocks=2)
    (block,) = planted.truth.layout.planted
    n_layers, last = planted.truth.layout.n_layers, 3
    frame = patch(
        planted.model, "w5 w0 w3 w4", "w5 w6 w3 w4", sites=SITES, target="w1", against="w2", mode=mode, controls=()
    )
    before = {("resid_pre", layer, 1) for layer in range(block + 1)} | {
        ("resid_post", layer, 1) for layer in range(block)
    }
    behind = {("resid_post", layer, last) for layer in range(block, n_layers)}
    behind |= {("resid_pre", layer, last) for layer in range(block + 1, n_layers)}
    assert_only(found(frame), before | behind | {("attn_out", block, last)})


def test_one_head_finds_the_cue():
    planted = cue(noise_blocks=1)
    (block,) = planted.truth.layout.planted
    frame = patch(planted.model, "w5 w0 w3 w4", "w5 w6 w3 w4", sites=("z", "v", "q"), target="w1", against="w2",
                  controls=())  # fmt: skip
    caused = frame[frame["effect"].abs() > ZERO]
    where = caused.set_index(["site", "layer", "head", "pos"])["recovered"]
    assert where["z", block, 0, 3] == pytest.approx(1, abs=ZERO) and set(caused["layer"]) == {block}
    assert set(zip(caused["site"], caused["pos"], strict=True)) <= {("z", 3), ("v", 1)}


def test_a_copied_token_moves_from_its_position_to_the_last():
    planted = copying(noise_blocks=1)
    (block,) = planted.truth.layout.planted
    frame = patch(planted.model, "w5 w3 w4", "w6 w3 w4", sites=("resid_pre", "attn_out", "mlp_out"), controls=(),
                  target="w5", against="w6")  # fmt: skip
    behind = {("resid_pre", layer, 2) for layer in range(block + 1, 2)} | {("attn_out", block, 2)}
    assert_only(found(frame), {("resid_pre", layer, 0) for layer in range(block + 1)} | behind)


def test_both_steps_of_two_carry_the_answer_in_their_mlps():
    planted = two_step(noise_blocks=1)
    first, second = planted.truth.layout.planted
    n_layers = planted.truth.layout.n_layers
    frame = patch(planted.model, "w1 w3 w2", "w1 w3 w5", sites=("resid_pre", "attn_out", "mlp_out"), controls=(),
                  target="w4", against="w7")  # fmt: skip
    through = {("resid_pre", layer, 2) for layer in range(n_layers)}
    assert_only(found(frame), through | {("mlp_out", first, 2), ("mlp_out", second, 2)})


# -- identities ------------------------------------------------------------------------------------------------------


def test_clean_into_clean_changes_nothing(subject):
    frame = patch(subject, CLEAN, CLEAN, sites=SITES, controls=("random",))
    assert (frame["effect"] == 0).all() and frame["recovered"].isna().all()


@pytest.mark.parametrize("metric", ["logit_diff", "log_prob", "kl"])
@pytest.mark.parametrize("mode", ["denoise", "noise"])
def test_all_positions_together_recover_exactly_all(small_subject, any_backend, mode, metric):
    frame = patch(
        small_subject("llama", any_backend), CLEAN, CORRUPT, sites=("resid_pre", "resid_post"), positions="all",
        mode=mode, metric=metric, controls=("random",),
    )  # fmt: skip
    assert frame["pos"].isna().all()
    np.testing.assert_allclose(frame.loc[frame["control"] == "none", "recovered"], 1, atol=CLOSE)
    assert (frame.loc[frame["control"] == "random", "recovered"] - 1).abs().min() > 10 * CLOSE


@pytest.mark.parametrize("corruption", ["noise", "resample", "mean"])
def test_the_whole_last_residual_is_the_other_run_however_it_is_corrupted(subject, corruption):
    texts = None if corruption == "noise" else [[9, 8, 7, 6, 5, 4, 3, 20, 30], [11, 12, 13, 14, 15, 16, 17, 18]]
    frame = patch(subject, CLEAN, texts, sites="resid_post", layers=-1, positions=[-2, -1], corruption=corruption,
                  mode="noise", controls=())  # fmt: skip
    assert np.allclose(found(frame).to_numpy(), np.where(frame["to_end"] == 0, 1, 0), atol=CLOSE)


# -- other implementations -------------------------------------------------------------------------------------------


def logit_diff(logits: Tensor, target: int, against: int) -> float:
    return float(logits[-1, target] - logits[-1, against])


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neo"])
def test_equal_to_transformer_lens_on_a_bridge(small_model, word_level, architecture):
    subject = interp.load(small_model(architecture), tokenizer=word_level)  # their code leaves hooks on the bridge
    bridge = subject.backend.bridge
    clean, corrupt = (torch.tensor(ids[:1]) for ids in (CLEAN, CORRUPT))
    sites = ("resid_pre", "norm2", "attn_out", "mlp_out")
    frame = patch(subject, clean, corrupt, sites=sites, controls=(), target=40, against=50)
    _, cache = bridge.run_with_cache(clean, use_cache=False)
    theirs = {
        "resid_pre": patching.get_act_patch_resid_pre,
        # On a bridge that hook is what the norm before the MLP reads; the residual itself goes on unpatched.
        "norm2": patching.get_act_patch_resid_mid,
        "attn_out": patching.get_act_patch_attn_out,
        "mlp_out": patching.get_act_patch_mlp_out,
    }
    for site, function in theirs.items():
        expected = function(bridge, corrupt, cache, lambda logits: logits[0, -1, 40] - logits[0, -1, 50])
        ours = frame[frame["site"] == site].pivot(index="layer", columns="pos", values="value").to_numpy(dtype=float)
        np.testing.assert_allclose(ours, expected.numpy(), atol=CLOSE)


def test_heads_are_equal_to_transformer_lens_on_a_bridge(small_model, word_level):
    subject = interp.load(small_model("gpt2"), tokenizer=word_level)  # their code leaves hooks on the bridge
    bridge = subject.backend.bridge
    clean, corrupt = (torch.tensor(ids[:1])[:, :5] for ids in (CLEAN, CORRUPT))
    frame = patch(subject, clean, corrupt, sites=("q", "k", "v", "z"), controls=(), target=40, against=50)
    _, cache = bridge.run_with_cache(clean, use_cache=False)
    theirs = {
        "q": patching.get_act_patch_attn_head_q_by_pos,
        "k": patching.get_act_patch_attn_head_k_by_pos,
        "v": patching.get_act_patch_attn_head_v_by_pos,
        "z": patching.get_act_patch_attn_head_out_by_pos,
    }
    for site, function in theirs.items():
        expected = function(bridge, corrupt, cache, lambda logits: logits[0, -1, 40] - logits[0, -1, 50])
        ours = frame[frame["site"] == site].sort_values(["layer", "pos", "head"])["value"].to_numpy(dtype=float)
        np.testing.assert_allclose(ours, expected.numpy().ravel(), atol=CLOSE)


def test_heads_of_both_backends_agree_where_they_share_keys(small_subject):
    given = {"sites": ("v", "z"), "layers": [1, 3], "positions": [2, -1]}
    one, other = (patch(small_subject("llama", backend), CLEAN, CORRUPT, **given) for backend in ("bridge", "nnsight"))
    assert one.loc[one["site"] == "v", "head"].max() == 1 and one.loc[one["site"] == "z", "head"].max() == 3
    numbers = ["value", "effect"]
    pd.testing.assert_frame_equal(one[numbers], other[numbers], rtol=0, atol=CLOSE)
    few = patch(small_subject("llama", "bridge"), CLEAN, CORRUPT, **given, heads=-1)
    expected = one[(one["head"] == 3) & (one["site"] == "z")]
    np.testing.assert_allclose(few[few["site"] == "z"]["value"], expected["value"], atol=CLOSE)


def by_hooks(subject, ids, site, layer, change: Callable[[Tensor], Tensor], target=40, against=50) -> float:
    """The metric of a whole pass in which a value is changed."""
    with editing(subject.site(site, layer), change):
        return logit_diff(subject.logits([ids])[0], target, against)


def test_both_backends_and_a_loop_of_hooked_passes_agree(small_subject, any_backend):
    subject = small_subject("qwen3", any_backend)
    frame = patch(subject, CLEAN, CORRUPT, sites=("attn_out", "mlp_out", "neurons"), target=40, against=50,
                  layers=[1, 2], positions=[2, -1], controls=("other",))  # fmt: skip
    rows = frame.set_index(["prompt_id", "site", "layer", "to_end", "control"])["value"]
    for site in ("attn_out", "mlp_out", "neurons"):
        seen: list[Tensor] = []
        for prompt in (0, 1):
            with interp.model.sites.recording([subject.site(site, 2)]) as recorded:
                subject.logits([CLEAN[prompt]])
            seen.append(recorded[0].reshape(1, len(CLEAN[prompt]), -1))
        for prompt, pos, control in ((0, 2, "none"), (1, 5, "none"), (1, 2, "other")):
            given = seen[prompt if control == "none" else 1 - prompt]

            def change(value: Tensor, given: Tensor = given, pos: int = pos) -> Tensor:
                value = value.clone()
                value[:, pos] = given[:, pos]
                return value

            expected = by_hooks(subject, CORRUPT[prompt], site, 2, change)
            assert rows[prompt, site, 2, len(CLEAN[prompt]) - 1 - pos, control] == pytest.approx(expected, abs=CLOSE)


# -- what a run costs ------------------------------------------------------------------------------------------------


def test_no_block_runs_but_those_that_no_way_of_patching_can_avoid(subject, monkeypatch):
    counted: list[int] = []
    run_block = Tape.run_block

    def counting(tape: Tape, index: int, residual: Tensor) -> Tensor:
        counted.append(len(residual))
        return run_block(tape, index, residual)

    subject.logits([CLEAN[0]])  # verifies the model
    monkeypatch.setattr(Tape, "run_block", counting)
    patch(subject, [CLEAN[0]], [[*reversed(CLEAN[0])]], sites=("resid_pre", "attn_out", "mlp_out"), controls=())
    n_layers, n_pos = subject.n_layers, len(CLEAN[0])
    per_position = sum(range(1, n_layers + 1)) + sum(range(1, n_layers + 1)) + sum(range(n_layers))
    assert sum(counted) == n_pos * per_position
    assert n_block_runs([], n_layers) == 0


# -- controls and corruption -----------------------------------------------------------------------------------------


def test_a_random_change_is_as_large_as_the_patch(small_subject):
    """At the last layer read through a linear metric: the change of the residual itself is seen."""
    subject = small_subject("gpt2", "bridge")
    one = patch(subject, CLEAN, CORRUPT, seed=1)
    again, other = patch(subject, CLEAN, CORRUPT, seed=1), patch(subject, CLEAN, CORRUPT, seed=2)
    pd.testing.assert_frame_equal(one, again)
    random = one["control"] == "random"
    moved = (one["effect"] - other["effect"]).abs()
    assert (moved[random & (one["effect"] != 0)] > 0).all() and (moved[one["control"] == "none"] == 0).all()


def test_noise_on_some_positions_alone_is_restored_there(subject):
    frame = patch(subject, CLEAN, None, sites="resid_pre", layers=0, corruption="noise", noised=2, controls=(), draws=3)
    rows = found(frame)
    assert np.allclose(rows.to_numpy(), np.where(frame["pos"] == 2, 1, 0), atol=CLOSE)
    assert frame["corrupt_token"].isna().all()


def test_a_mean_is_that_of_the_set_at_the_position(small_subject):
    subject, texts = small_subject("gpt2", "bridge"), [[9, 8, 7, 6, 5, 4, 3, 20], [11, 12, 13]]
    frame = patch(subject, CLEAN[:1], texts, sites="attn_out", layers=1, corruption="mean", mode="noise", controls=(),
                  target=40, against=50)  # fmt: skip
    seen = []
    for ids in texts:
        with interp.model.sites.recording([subject.site("attn_out", 1)]) as recorded:
            subject.logits([ids])
        seen.append(recorded[0][0])
    for pos in (1, 5):
        mean = torch.stack([one[pos] for one in seen if len(one) > pos]).mean(dim=0)

        def change(value: Tensor, pos: int = pos, mean: Tensor = mean) -> Tensor:
            value = value.clone()
            value[:, pos] = mean
            return value

        expected = by_hooks(subject, CLEAN[0], "attn_out", 1, change)
        assert frame.set_index("pos")["value"][pos] == pytest.approx(expected, abs=CLOSE)


# -- refusals --------------------------------------------------------------------------------------------------------


def test_unequal_pairs_are_refused_with_their_alignment():
    clean, corrupt = "The little girl was very happy. She", "The little hippopotamus was very happy. It"
    with pytest.raises(InputError, match=r"prompt 0 has 9 tokens and its corrupt one \d+.*\[ girl\].*against.*\[ h"):
        patch("reference", clean, corrupt)


def test_one_prompt_alone_has_no_unrelated_one(subject):
    with pytest.warns(UserWarning, match="needs a second prompt"):
        frame = patch(subject, CLEAN[:1], CORRUPT[:1], layers=0)
    assert set(frame["control"]) == {"none", "random"}


def test_an_unknown_site_is_refused_by_name(subject):
    with pytest.raises(UnknownName, match="did you mean 'resid_pre'"):
        patch(subject, CLEAN, CORRUPT, sites="resid_prre")
