"""SmolLM2, fetched: a landmark is carried by one token's state, and a state's nearest context is of its own token."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from probes import StateBank, nearest_contexts, phrase_carriers
from probes.contexts.phrases.phrase_carriers import best_of

pytestmark = pytest.mark.filterwarnings("ignore::interp.errors.WithoutTemplate", "ignore:no control for")


def test_one_state_carries_a_landmark(smollm2):
    """At half of the depth; .8 is the claim's."""
    given = pd.DataFrame(
        {
            "phrase": ["The Eiffel Tower", "The Berlin Wall", "The Great Wall"],
            "context": [" is in the city of", " once divided the city of", " is a monument in the country of"],
            "target": [" Paris", " Berlin", " China"],
        }
    )  # fmt: skip
    frame = phrase_carriers(smollm2, given, layers=[0, 15])
    best = best_of(frame).pivot_table(index="prompt_id", columns=["layer", "control"], values="best")
    assert len(best) == 3 and (best[(15, "none")] >= 0.8).all()
    assert (best[(15, "none")] > best[(15, "other")].fillna(0)).all()
    assert (best[(0, "none")] < best[(15, "none")] + 0.1).all()  # no token alone is the landmark at the start


def test_the_nearest_context_names_the_token_and_the_lens_does_not(smollm2):
    """At a quarter of the depth, where 120 stories give .91 and .01; a bank of 20 lacks more of the tokens asked."""
    stories = interp.dataset("stories")["text"]
    bank = StateBank.of(smollm2, stories.head(20).tolist(), layers=8)
    asked = [text[:100].rstrip() for text in stories.tail(6)]
    frame = nearest_contexts(smollm2, asked, bank=bank, k=1)
    none = frame[(frame["control"] == "none") & (frame["pos"] > 1)]
    known = none[none["token_id"].isin(bank.places.token_id)]
    assert known["same_token"].mean() > 0.85 and known["lens_own"].mean() < 0.1
    recorded = smollm2.record(asked, "resid_post", layers=7)["resid_post"]
    again = nearest_contexts(smollm2, states=recorded, bank=bank, k=1)
    # Equal states, as a float32 pass in other batches gives them; near ties may fall the other way.
    both = [one.loc[one["control"] == "none"] for one in (frame, again)]
    assert np.allclose(both[0]["cosine"], both[1]["cosine"], atol=1e-3)
    assert (both[0]["neighbour_id"].to_numpy() == both[1]["neighbour_id"].to_numpy()).mean() > 0.98
