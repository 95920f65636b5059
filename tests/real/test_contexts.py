"""SmolLM2, fetched: one token's state carries a landmark at half of the depth; .8 is the claim's."""

from __future__ import annotations

import pandas as pd
import pytest

from probes import phrase_carriers
from probes.contexts.phrases.phrase_carriers import best_of

pytestmark = pytest.mark.filterwarnings("ignore::interp.errors.WithoutTemplate", "ignore:no control for")


def test_one_state_carries_a_landmark(smollm2):
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
