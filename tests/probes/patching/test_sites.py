"""Patches of every site: identities between sites, transformer-lens' own, planted causes, and what stays as it was."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from transformer_lens import patching

import interp
from interp.errors import InputError
from interp.model.sites import SiteName, inside
from interp.planted import copying, cue, tracr
from probes import attribution_patch, patch
from probes.patching import _gradients, _variants
from probes.patching._sites import INSIDE, WITH_HEADS
from probes.patching._states import RESIDUALS

ZERO = 1e-6  # float32 logits of size six, which differ by their rounding alone
CLOSE = 1e-5  # the same sums in another order
CLEAN = [[4, 9, 33, 5, 17, 8, 8, 41], [7, 3, 12, 60, 5, 20]]
CORRUPT = [[4, 9, 21, 5, 17, 8, 30, 41], [7, 50, 12, 60, 5, 20]]
SET = [[9, 8, 7, 6, 5, 4, 3, 20, 30], [11, 12, 13, 14, 15, 16, 17, 18], [21, 22, 23]]
GIVEN = {"target": 40, "against": 50}
EVERY = (*RESIDUALS, *INSIDE, *WITH_HEADS)


def by_site(frame: pd.DataFrame, value: str = "effect") -> pd.DataFrame:
    """The effect of each place, one column for each site; the rows are places of heads, if sites have them."""
    keys = ["control", "prompt_id", "layer", "head", "to_end"]
    filled = frame.assign(head=frame["head"].fillna(-1), to_end=frame["to_end"].fillna(-1))
    return filled.set_index([*keys, "site"])[value].unstack().astype(float)


def assert_alike(frame: pd.DataFrame, one: str, other: str, value: str = "effect", atol: float = CLOSE) -> None:
    """Assert that patches of two sites do the same, and something; the random control is not of the same change."""
    table = by_site(frame, value).drop(index="random", errors="ignore")
    np.testing.assert_allclose(table[one], table[other], atol=atol)
    assert table[one].abs().max() > 100 * atol


def test_every_site_of_a_block_can_be_patched():
    assert set(EVERY) == set(get_args(SiteName)) - {"embed"}


# -- identities between sites ----------------------------------------------------------------------------------------


# Gemma 2 has grouped heads, and a norm behind their sum.
@pytest.mark.parametrize(("architecture", "mode"), [("gpt2", "denoise"), ("gemma2", "noise")])
def test_what_a_head_writes_is_what_it_mixed_and_its_pattern_is_its_scores(
    small_subject, any_backend, architecture, mode
):
    frame = patch(small_subject(architecture, any_backend), CLEAN, CORRUPT, mode=mode, layers=[0, 2], positions=[2, -1],
                  sites=("z", "head_out", "scores", "pattern"), controls=("other",), **GIVEN)  # fmt: skip
    assert_alike(frame, "head_out", "z")
    assert_alike(frame, "pattern", "scores")


def test_heads_may_be_patched_together_as_one_by_one(small_subject):
    """All positions of one head, and through the mean of a set, whose texts are longer and shorter than the prompts."""
    subject = small_subject("llama", "bridge")
    frame = patch(subject, CLEAN, SET, corruption="mean", mode="noise", positions="all", controls=(), layers=1,
                  sites=("z", "head_out", "pattern"), **GIVEN)  # fmt: skip
    assert_alike(frame, "head_out", "z")
    assert frame[frame["site"] == "pattern"]["effect"].abs().min() > CLOSE


def test_a_mean_pattern_is_that_of_the_set_at_the_position(small_subject, any_backend):
    subject = small_subject("gpt2", any_backend)
    frame = patch(subject, CLEAN[1:], SET, sites="pattern", layers=1, corruption="mean", mode="noise", controls=(),
                  heads=[3], positions=[2, 4], **GIVEN)  # fmt: skip
    recorded = subject.record(SET, "pattern", layers=1)
    for pos, effect in frame.set_index("pos")["value"].items():
        rows = recorded["pattern"][0][(recorded.rows["pos"] == pos).to_numpy(), 3]
        mean = torch.tensor(rows.mean(axis=0)[: len(CLEAN[1])])
        assert len(rows) == (3 if pos == 2 else 2)

        def change(value: torch.Tensor, pos: int = pos, mean: torch.Tensor = mean) -> torch.Tensor:
            value[:, 3, pos] = mean
            return value

        with subject.edited([(subject.site("pattern", 1), change)], {}):
            logits = subject.logits(CLEAN[1:])[0][-1]
        assert effect == pytest.approx(float(logits[40] - logits[50]), abs=CLOSE)


def test_what_the_mlp_reads_decides_what_it_adds(small_subject, any_backend):
    """With no gate, all of `norm2`, `neurons_pre`, `neurons` and `mlp_out` at a position say the same."""
    frame = patch(small_subject("gpt2", any_backend), CLEAN, CORRUPT, controls=(), positions=[2, -1],
                  sites=("norm2", "neurons_pre", "neurons", "mlp_out"), **GIVEN)  # fmt: skip
    for site in ("norm2", "neurons_pre", "neurons"):
        assert_alike(frame, site, "mlp_out")


def test_what_attention_reads_everywhere_decides_what_it_adds(small_subject, any_backend):
    frame = patch(small_subject("llama", any_backend), CLEAN, CORRUPT, controls=(), positions="all",
                  sites=("norm1", "attn_out"), **GIVEN)  # fmt: skip
    assert_alike(frame, "norm1", "attn_out")


def test_the_router_decides_which_experts_write(small_subject, any_backend):
    """Route as in the clean run what is read there: that is what the mixture adds there."""
    subject = small_subject("mixtral", any_backend)
    frame = patch(subject, CLEAN, CORRUPT, sites=("router", "norm2", "mlp_out"), controls=(), positions="all", **GIVEN)
    assert_alike(frame, "norm2", "mlp_out")
    table = by_site(frame)
    assert table["router"].abs().max() > CLOSE and (table["router"] - table["mlp_out"]).abs().max() > CLOSE


def test_clean_into_clean_changes_nothing_at_any_site(small_subject, any_backend):
    for architecture, sites in (("gpt2", sorted({*EVERY} - {"router"})), ("mixtral", ["router"])):
        frame = patch(small_subject(architecture, any_backend), CLEAN, CLEAN, sites=sites, layers=1)
        frame = frame[frame["control"] != "other"]
        assert set(frame["site"]) == set(sites)
        assert (frame["effect"] == 0).all() and frame["recovered"].isna().all()


def test_wide_sites_are_run_in_smaller_parts(small_subject, monkeypatch):
    """Whatever rides together, the values are the same."""
    subject, given = small_subject("gpt2", "bridge"), {"sites": ("head_out", "pattern"), "controls": (), "layers": 1}
    sizes: list[int] = []
    changed = _variants.Patches._changed

    def counting(self, key, variants):
        sizes.append(len(variants))
        return changed(self, key, variants)

    monkeypatch.setattr(_variants.Patches, "_changed", counting)
    together = patch(subject, CLEAN[:1], CORRUPT[:1], **given, **GIVEN)
    n_together = max(sizes)
    sizes.clear()
    with interp.options.local(memory=1 << 19):
        apart = patch(subject, CLEAN[:1], CORRUPT[:1], **given, **GIVEN)
    assert max(sizes) < n_together
    np.testing.assert_allclose(together["value"], apart["value"], atol=CLOSE)


# -- other implementations -------------------------------------------------------------------------------------------


def test_patterns_are_equal_to_transformer_lens_on_a_bridge(small_model, word_level):
    subject = interp.load(small_model("gpt2"), tokenizer=word_level)  # their code leaves hooks on the bridge
    bridge = subject.backend.bridge
    clean, corrupt = (torch.tensor(ids[:1])[:, :5] for ids in (CLEAN, CORRUPT))
    _, cache = bridge.run_with_cache(clean, use_cache=False)

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, 40] - logits[0, -1, 50]

    theirs = {
        None: patching.get_act_patch_attn_head_pattern_by_pos,
        "all": patching.get_act_patch_attn_head_pattern_all_pos,
    }
    for positions, function in theirs.items():
        frame = patch(subject, clean, corrupt, sites="pattern", positions=positions, controls=(), **GIVEN)
        # Theirs by position is [layer, head, position of the query].
        ours = frame.sort_values(["layer", "head", "pos"])["value"].to_numpy(dtype=float)
        expected = function(bridge, corrupt, cache, metric).numpy().ravel()
        np.testing.assert_allclose(ours, expected, atol=CLOSE)
        assert np.ptp(expected) > 100 * CLOSE


def test_both_backends_patch_the_same(small_subject):
    sites = ("scores", "pattern", "head_out", "norm1", "norm2", "neurons_pre")
    one, other = (
        patch(small_subject("llama", backend), CLEAN, CORRUPT, sites=sites, layers=1, positions=[2, -1], **GIVEN)
        for backend in ("bridge", "nnsight")
    )
    pd.testing.assert_frame_equal(one[["value", "effect"]], other[["value", "effect"]], rtol=0, atol=10 * CLOSE)
    assert (one["effect"].abs().groupby(one["site"]).max() > 100 * CLOSE).all()


# -- planted causes --------------------------------------------------------------------------------------------------


def caused(frame: pd.DataFrame) -> dict[tuple[str, int, int, int], float]:
    """The places (site, layer, head, pos) with an effect, and the share that each recovers."""
    rows = frame[frame["effect"].abs() > ZERO * frame["value_clean"].abs().clip(lower=1)]
    return rows.set_index(["site", "layer", "head", "pos"])["recovered"].astype(float).to_dict()


ATTENTION = ("head_out", "scores", "pattern")


@pytest.mark.parametrize("mode", ["denoise", "noise"])
def test_a_head_that_reads_alike_in_both_runs_carries_nothing_by_its_pattern(mode):
    planted = copying(noise_blocks=1)
    (block,) = planted.truth.layout.planted
    frame = patch(planted.model, "w5 w3 w4", "w6 w3 w4", sites=ATTENTION, mode=mode, controls=(), target="w5",
                  against="w6")  # fmt: skip
    assert caused(frame) == {("head_out", block, 0, 2): pytest.approx(1, abs=ZERO)}


def test_a_head_that_finds_its_cue_needs_its_pattern_and_what_stands_there():
    """Attention to the cue is e^b / (e^b + 3) in the clean run and 1 / 4 in the other; other places add nothing."""
    planted = cue(noise_blocks=1)
    (block,), attended = planted.truth.layout.planted, 1 / (1 + 3 * math.exp(-planted.truth.b))
    expected = {"head_out": 1.0, "scores": 1 - 0.25 / attended, "pattern": 1 - 0.25 / attended}
    for mode in ("denoise", "noise"):
        frame = patch(planted.model, "w5 w0 w3 w4", "w5 w6 w3 w4", sites=ATTENTION, mode=mode, controls=(), target="w1",
                      against="w2")  # fmt: skip
        places = ("head_out",) if mode == "denoise" else ATTENTION
        assert caused(frame) == {(site, block, 0, 3): pytest.approx(expected[site], abs=ZERO) for site in places}


def test_the_head_that_chooses_its_place_is_found_by_its_pattern():
    """`BOS a b c a`: the last head of the compiled program reads behind the first a; put elsewhere, it reads there.

    Both texts have b at place 2, so that a pattern that is restored there recovers all, and no other pattern anything.
    """
    frame = patch(
        tracr("induction").model,
        ["BOS a b c a"],
        ["BOS c b d a"],
        sites=ATTENTION,
        controls=(),
        target="b",
        against="d",
    )
    # The head of block 1 always reads one place back: what it writes there differs, not where it reads.
    places = [("scores", 2, 0, 4), ("pattern", 2, 0, 4), ("head_out", 2, 0, 4), ("head_out", 1, 0, 2)]
    assert caused(frame) == {place: pytest.approx(1, abs=ZERO) for place in places}


# -- estimates -------------------------------------------------------------------------------------------------------


def test_an_estimate_is_the_effect_of_a_small_change(small_subject, any_backend):
    """Noise that is small moves everything little: what is left is of second order."""
    sites = ("scores", "pattern", "head_out", "norm1", "neurons_pre")
    subject, given = small_subject("qwen3", any_backend), {"layers": 2, "positions": [2, -1], **GIVEN}
    frame = attribution_patch(subject, CLEAN, None, sites=sites, corruption="noise", noise=1e-3, exact=1.0,
                              methods=("gradient",), **given)  # fmt: skip
    for _, rows in frame.groupby("site"):
        ours, random = (rows[rows["control"] == control] for control in ("none", "random"))
        size = ours["effect"].abs().max()
        # Effects of 1e-4 of logits of size five, which float32 rounds to about 1e-6.
        np.testing.assert_allclose(ours["estimate"], ours["effect"], atol=0.02 * size + 3 * ZERO)
        assert size > 20 * ZERO and (random["estimate"] - random["effect"]).abs().max() > 0.1 * size


@pytest.mark.parametrize("reversed_order", [False, True])
def test_an_estimate_does_not_depend_on_what_else_is_estimated(small_subject, any_backend, reversed_order):
    """These sites are read at one module: the gradient of each goes through all of them."""
    sites = ("z", "head_out", "attn_out", "resid_mid")[:: -1 if reversed_order else 1]
    subject, given = small_subject("llama", any_backend), {"layers": 2, "methods": ("gradient",), "exact": 0.0, **GIVEN}
    together = attribution_patch(subject, CLEAN[1:], CORRUPT[1:], sites=sites, **given)
    for site in sites:
        alone = attribution_patch(subject, CLEAN[1:], CORRUPT[1:], sites=site, **given)
        ours = together.loc[together["site"] == site, "estimate"].to_numpy()
        np.testing.assert_allclose(ours, alone["estimate"], atol=CLOSE)
        assert np.abs(ours).max() > 100 * CLOSE


# -- refusals and leaks ----------------------------------------------------------------------------------------------


def test_the_embedding_is_refused_with_what_to_patch_instead(small_subject):
    subject = small_subject("gpt2", "bridge")
    for probe in (patch, attribution_patch):
        with pytest.raises(InputError, match="embed is of no block: patch resid_pre with layers=0"):
            probe(subject, CLEAN, CORRUPT, sites=("z", "embed"))


def test_nothing_is_left_after_a_patch_that_fails(small_subject, any_backend, monkeypatch):
    subject = small_subject("gpt2", any_backend)
    clean, modules = subject.logits(CLEAN)[0], list(subject.backend.running.modules())
    sites = [subject.site(name, 1).name.split()[0] for name in ("scores", "pattern", "head_out", "norm1")]  # all known

    def n_hooks() -> int:
        return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)

    before = n_hooks()
    monkeypatch.setattr(_variants, "by_position", lambda site, value: value / (1 // 0))
    monkeypatch.setattr(_gradients, "_kept", lambda seen, key, value: value / (1 // 0))
    for probe, site in itertools.product((patch, attribution_patch), sites):
        with pytest.raises(ZeroDivisionError):
            probe(subject, CLEAN, CORRUPT, sites=site, layers=1, positions=-1)
        assert n_hooks() == before and not inside._inside
    assert not torch.overrides._get_current_function_mode_stack()
    assert torch.equal(subject.logits(CLEAN)[0], clean)
