"""Claims are found through entry points, ours and anyone's; each says what its paper says and with which control."""

from __future__ import annotations

import inspect
import re
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from interp.data.shipped import text_dataset_names
from interp.errors import InputError, InterpError, UnknownName
from interp.findings import Claim, Comparison, claim, get, names
from interp.runs import registry


def by_prompt(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby("prompt_id")["x"].mean()


def scaled(frame: pd.DataFrame, factor: float) -> pd.Series:
    return factor * by_prompt(frame)


GUEST = Claim(
    id="guest.claim", statement="guests are welcome", paper="Nobody (2020)", says="They are, against no control.",
    probe="logit_lens", statistic=by_prompt, comparison=Comparison(above=0.0),
)  # fmt: skip
SEVERAL = [replace(GUEST, id="guest.second"), replace(GUEST, id="guest.third")]
SAME_ID = replace(GUEST, statement="another claim of that id")


@pytest.fixture
def installed(offer):
    """Pretend that a package offers these entry points beside our own."""
    with ExitStack() as packages:
        yield lambda **entries: packages.enter_context(offer(claim.GROUP, entries))


def test_anyones_claims_are_found(installed):
    before = set(names())
    installed(guest=f"{__name__}:GUEST", others=f"{__name__}:SEVERAL")
    assert set(names()) - before == {"guest.claim", "guest.second", "guest.third"}
    assert get("guest.claim") is GUEST


def test_what_is_no_claim_is_named(installed):
    installed(paths="pathlib:Path")
    with pytest.raises(InterpError, match="entry point 'pathlib:Path' is neither a Claim nor a sequence"):
        names()


def test_two_claims_of_one_id_are_refused(installed):
    installed(guest=f"{__name__}:GUEST", clash=f"{__name__}:SAME_ID")
    with pytest.raises(InputError, match=r"two packages offer a claim 'guest\.claim'"):
        names()


def test_an_unknown_claim_names_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown claim 'lens\.aproach'; did you mean 'lens\.approach'"):
        get("lens.aproach")


def test_a_digest_changes_with_what_decides():
    same = replace(GUEST, statement="in other words", says="The same, against no control.")
    assert same.digest() == GUEST.digest()
    changed = (
        replace(GUEST, comparison=Comparison(above=0.1)),
        replace(GUEST, statistic=partial(scaled, factor=2.0)),
        replace(GUEST, statistic=partial(scaled, factor=3.0)),
        replace(GUEST, parameters={"positions": -1}),
        replace(GUEST, texts="stories"),
        replace(GUEST, texts="stories", n_texts=3),
        replace(GUEST, texts="stories", n_tokens_per_dim=3),
        replace(GUEST, texts=["a text"]),
        replace(GUEST, measure=by_prompt),
        replace(GUEST, unit="letters"),
        replace(GUEST, bounds=(0, 1)),
    )
    digests = [one.digest() for one in (GUEST, *changed)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("changes", "reads"),
    [
        ({"texts": None}, "no texts"),
        ({"texts": "stories"}, "stories: all texts"),
        ({"texts": "stories", "n_texts": 3, "n_positions": 9}, "stories: 3 texts, 9 tokens of each at most"),
        ({"texts": "stories", "n_tokens_per_dim": 30}, "stories: all texts, until there are 30 tokens per dimension"),
        ({"texts": ["a", "b", "c"]}, "its own: 3 texts"),
        ({"texts": ["a", "b", "c"], "n_texts": 2}, "its own: 2 texts"),
    ],
)
def test_a_claim_says_what_it_reads(changes, reads):
    assert replace(GUEST, **changes).reads == reads


def test_claims_share_a_run_where_it_is_the_same():
    assert get("robustness.delete").run_key() == get("robustness.first_block").run_key()
    assert get("robustness.delete").run_key() != get("stages.last_mlp").run_key()


def test_there_are_claims_of_every_method():
    families = {id.partition(".")[0] for id in names()}
    assert len(names()) >= 24
    assert {
        "lens", "tuned_lens", "iterative", "law", "microscope", "robustness", "stages", "characters", "normxlogit",
        "reagent", "steering", "bigrams",
    } <= families  # fmt: skip


@pytest.mark.parametrize("id", names())
def test_every_claim_says_what_its_paper_says_and_with_which_control(id):
    found = get(id)
    assert id == found.id and re.fullmatch(r"[a-z_]+\.[a-z_]+", id)
    assert re.search(r"\b(19|20)\d\d\b", found.paper), "a paper has a year"
    assert "control" in found.says and len(found.says.split()) >= 20
    assert len(found.statement) <= 100 and not found.statement.endswith(".")
    if found.comparison.with_control:
        assert "control" in found.says


@pytest.mark.parametrize("id", names())
def test_every_claim_can_be_run(id):
    """Its probe is installed, takes its parameters and its texts, and its texts ship."""
    found = get(id)
    function = found.measure or registry.get(found.probe).function
    assert registry.get(found.probe)
    known = inspect.signature(function).parameters
    assert set(found.parameters) <= set(known)
    assert ("texts" in known) == (found.texts is not None)
    assert found.texts is None or found.texts in text_dataset_names()
