"""Probes of layers and patching put first what planted and compiled models need, and the page shows what they miss."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interp.errors import InputError, UnknownName
from interp.probes import patch
from probes.attribution.known_answers.compiled_scores import PROGRAMS
from probes.known_answers import PLANTED, known, part_scores, table

PAGES = Path(__file__).parents[2] / "docs" / "pages"
PAGE = (PAGES / "known-answers.md").read_text("utf-8")
SURE = (
    "layer_robustness, delete",
    "a random order of blocks",
    "patch, denoise",
    "patch, noise",
    "a random order of parts",
)
"""Rows without a draw, and without gradients at hard attention, which are rounding."""


@pytest.fixture(scope="module")
def shares():
    return table(part_scores())


def row(page: str, name: str) -> list[float]:
    """The numbers of a row of a page's table."""
    (found,) = re.findall(rf"^\| {name} \| ((?:\d\.\d\d \| ?)+)$", page, flags=re.MULTILINE)
    return [float(one) for one in re.findall(r"\d\.\d\d", found)]


def test_a_deleted_block_is_missed_exactly_where_it_is_needed(shares):
    assert (shares.loc["layer_robustness, delete"] == 1).all()


def test_every_needed_part_of_our_models_is_found_by_patches_and_their_estimates(shares):
    rows = ["patch, denoise", "patch, noise", "attribution_patch, gradient", "attribution_patch, path"]
    assert (shares.loc[rows, list(PLANTED)] == 1).all(axis=None)


@pytest.mark.parametrize("name", [*PLANTED, "previous", "induction"])
def test_a_part_that_is_not_needed_changes_nothing(name):
    """Blocks of noise, and the MLP behind Tracr's last head: 0, but for float32 on logits of 10."""
    model = known(name, n_prompts=4)
    frame = patch(
        model.model, model.clean, model.corrupt, sites=("attn_out", "mlp_out"), positions="all", metric="log_prob",
        mode="noise", controls=(),
    )  # fmt: skip
    needed = [key in model.needed for key in zip(frame["site"], frame["layer"], strict=True)]
    size = frame["effect"].abs()
    assert size[needed].max() > 0.1
    assert size[[not one for one in needed]].max() < 1e-5


@pytest.mark.parametrize("name", ["previous", "induction"])
def test_another_prompt_does_not_tell_of_an_mlp_that_writes_the_same_on_every_text(name):
    model = known(name, n_prompts=4)
    frame = patch(model.model, model.clean, model.corrupt, sites="mlp_out", positions="all", layers=0, controls=())
    assert ("mlp_out", 0) in model.needed
    assert frame["effect"].abs().max() < 1e-5  # float32 on logits of 10


def test_the_table_of_the_page_is_the_one_measured(shares):
    for name in SURE:
        assert row(PAGE, name) == pytest.approx(shares.loc[name], abs=0.0051), name  # two digits are shown


def test_the_rows_of_tokens_are_those_of_the_page_about_attribution():
    ours, compiled = (PAGES / "attribution.md").read_text("utf-8").split("compiled_scores")
    for name in ("normxlogit", "occlusion", "integrated_gradients", "rollout"):
        both = [*row(ours, name)[: len(PLANTED)], *row(compiled, name)]
        assert row(PAGE, f"attribute, {name}") == both, name
    assert len(PROGRAMS) == 4


def test_bad_input():
    with pytest.raises(InputError, match="n_prompts=0: give at least 1"):
        part_scores(n_prompts=0)
    with pytest.raises(UnknownName, match="unknown model 'sort'"):
        part_scores(["sort"])
