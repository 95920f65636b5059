"""`Subject.record`: values of sites as arrays, one row for each token, whatever the batch and the backend."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp.errors import InputError, ModelError, UnknownName
from interp.model.sites import SiteName, recording

# Values of size ten in float32, from matrix products of other shapes, which add up in another order.
CLOSE = {"rtol": 0.0, "atol": 1e-5}
TEXTS = ["w5 w9 w3 w8", "w7 w4", "w11 w5 w9 w3 w8 w12 w6"]


def test_rows_say_which_token_of_which_text_they_are(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("llama", "bridge")
    recorded = subject.record(TEXTS, "resid_post", positions=[0, -1], layers=-1)
    tokens = subject.tokens(TEXTS)
    rows = [(prompt, pos, int(ids[pos])) for prompt, ids in enumerate(tokens.ids) for pos in (0, len(ids) - 1)]
    assert list(recorded.rows[["prompt_id", "pos", "token_id"]].itertuples(index=False, name=None)) == rows
    assert list(recorded.rows["token"]) == [subject.token_strings[index] for _, _, index in rows]
    assert recorded.layers == [3] and list(recorded) == ["resid_post"] and len(recorded) == 1
    for (prompt, pos, _), value in zip(rows, recorded["resid_post"][0], strict=True):
        left = subject.run(tokens.ids[prompt][None], lambda tape: tape.residual(4))
        np.testing.assert_allclose(value, left[0, pos].numpy(), **CLOSE)


def test_values_do_not_depend_on_the_batch(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str
) -> None:
    subject = small_subject("gpt2", any_backend)
    names = ["embed", "resid_mid", "neurons", "pattern", "scores", "z"]
    together = subject.record(TEXTS, names)
    with interp.options.local(memory=1 << 15):
        apart = [subject.record(text, names, layers=[0, 2]) for text in TEXTS]
    longest = max(map(len, subject.tokens(TEXTS).ids))
    assert together["pattern"].shape == (4, len(together.rows), subject.n_heads, longest)
    assert together["embed"].shape == (len(together.rows), subject.d_model)
    for prompt, alone in enumerate(apart):
        mine = (together.rows["prompt_id"] == prompt).to_numpy()
        for name in ("resid_mid", "neurons", "z"):
            np.testing.assert_allclose(together[name][[0, 2]][:, mine], alone[name], **CLOSE)
        np.testing.assert_array_equal(together["embed"][mine], alone["embed"])
        own = alone["pattern"].shape[-1]
        np.testing.assert_allclose(together["pattern"][[0, 2]][:, mine, :, :own], alone["pattern"], **CLOSE)
        assert not together["pattern"][:, mine, :, own:].any()
        assert np.isneginf(together["scores"][:, mine, :, own:]).all()
    np.testing.assert_allclose(together["pattern"].sum(axis=-1), 1.0, **CLOSE)


def test_both_backends_record_the_same(small_subject: Callable[[str, str], interp.Subject]) -> None:
    names = ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "neurons", "embed"]
    names += ["q", "k", "v", "scores", "pattern", "z", "head_out"]
    ours, theirs = (small_subject("gemma2", backend).record(TEXTS, names) for backend in ("bridge", "nnsight"))
    assert list(ours) == list(theirs) == names
    for name in names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-4)  # the backends' kernels differ


def test_inside_an_edit_the_values_are_those_of_the_edited_model(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str
) -> None:
    subject = small_subject("llama", any_backend)
    clean = subject.record(TEXTS, ["resid_pre", "resid_post"], layers=2)
    with subject.edited([(subject.site(name, 2), torch.zeros_like) for name in ("attn_out", "mlp_out")], {}):
        edited = subject.record(TEXTS, ["resid_pre", "resid_post"], layers=2)
    np.testing.assert_array_equal(edited["resid_post"], clean["resid_pre"])
    np.testing.assert_array_equal(subject.record(TEXTS, "resid_post", layers=2)["resid_post"], clean["resid_post"])


def test_the_start_of_texts_is_that_of_the_subject(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("llama", "bridge")
    for bos in (True, False):
        recorded = subject.record(TEXTS, "embed", bos=bos)
        ids = torch.cat(subject.tokens(TEXTS, bos=bos).ids).numpy()
        np.testing.assert_array_equal(recorded.rows["token_id"], ids)
        np.testing.assert_array_equal(recorded["embed"], subject.W_E[ids].numpy())


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "gpt_neox", "mixtral"])
def test_no_tensor_of_a_block_has_two_names(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, architecture: str
) -> None:
    subject = small_subject(architecture, any_backend)
    shown: list[SiteName] = []
    for name in get_args(SiteName):
        try:
            subject.site(name, 1)
        except ModelError:  # this architecture has none
            continue
        shown.append(name)
    assert len(shown) >= 13
    recorded = subject.record(TEXTS[2], shown, layers=1)
    for one, other in combinations(shown, 2):
        ours, theirs = np.squeeze(recorded[one]), np.squeeze(recorded[other])
        assert ours.shape != theirs.shape or not np.allclose(ours, theirs, atol=1e-3), (one, other)


def test_the_page_on_sites_has_each_name_once() -> None:
    page = (Path(__file__).parents[4] / "docs" / "pages" / "sites.md").read_text("utf-8")
    table = page.partition("| site | shape |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[1:]]
    assert sorted(re.findall(r"`(\w+)`", "".join(cells))) == sorted(get_args(SiteName))


def test_what_cannot_be_recorded_is_refused_before_a_pass(
    small_subject: Callable[[str, str], interp.Subject], monkeypatch: pytest.MonkeyPatch, ids: Tensor
) -> None:
    subject = small_subject("gpt_neox", "bridge")
    subject.run(ids, lambda tape: tape.last)
    with pytest.raises(ModelError, match=r"GPTNeoXForCausalLM.* shows no resid_mid"):
        subject.record(TEXTS, ["resid_post", "resid_mid"])
    monkeypatch.setattr(subject.backend, "run", lambda *args, **kwargs: pytest.fail("a pass was made"))
    with pytest.raises(UnknownName, match="unknown site 'resid_pots'; did you mean 'resid_post'"):
        subject.record(TEXTS, ["resid_pots"])
    with pytest.raises(InputError, match="sites is empty; name at least one of embed"):
        subject.record(TEXTS, [])
    with pytest.raises(InputError, match="layer 4 is not in"):
        subject.record(TEXTS, "mlp_out", layers=4)
    with pytest.raises(InputError, match="position 3 is outside a prompt of 3 tokens"):
        subject.record(TEXTS, "mlp_out", positions=3)
    with (
        interp.options.local(memory=1 << 10),
        pytest.raises(InputError, match=r"neurons of these texts take .* MiB.*choose fewer by layers= or positions="),
    ):
        subject.record(TEXTS, "neurons")


def test_a_recording_that_fails_leaves_no_hook(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str
) -> None:
    subject = small_subject("gpt2", any_backend)
    modules = list(subject.backend.running.modules())

    def n_hooks() -> int:
        return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)

    before = n_hooks()
    with pytest.raises(RuntimeError), recording([subject.site("resid_mid", 0)]):
        raise RuntimeError
    assert n_hooks() == before
