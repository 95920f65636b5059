"""Claims about clouds of vectors, each against a Gaussian cloud of the same covariance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import InputError, Subject
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import SHARE
from probes import papers
from probes.geometry.clouds.local_dimension import local_dimension

_SURE = 1e-3


def breaks_of_rows(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Test 300 rows of the embedding, and as many points of a Gaussian cloud of the same covariance.

    Raises:
        NotApplicable: the vocabulary is too small to have 200 neighbours for each.
    """
    try:
        return local_dimension(subject, controls=("gaussian",), seed=seed)
    except InputError as error:
        raise NotApplicable(str(error).rstrip(".")) from error


def increases(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return whether each point breaks to a larger dimension (1 or 0), and the same of the Gaussian cloud's points."""
    found = [frame.loc[frame["control"] == control, "p_increase"] < _SURE for control in ("none", "gaussian")]
    own, control = (one.astype(float).set_axis(np.arange(len(one))) for one in found)
    return own, control  # a pair is a row and a Gaussian point: the two samples are independent


CLAIMS = (
    Claim(
        id="geometry.increase",
        statement="more embedding rows break to a larger dimension than points of a Gaussian of the same covariance",
        paper=papers.TOKEN_MANIFOLD,
        says="Around many tokens the dimension of the embedding changes with the distance, and around some it "
        "increases, which no fibre bundle allows. The paper has no control: a smooth Gaussian cloud of the same "
        "covariance, the control here, breaks often too, and hardly ever to a larger dimension.",
        probe="local_dimension",
        measure=breaks_of_rows,
        statistic=increases,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        unit="tokens",
        parameters={"seed": 0},
        note="300 rows, neighbours 10 to 200, p < .001 by a test that is calibrated for evenly spread points, in place "
        "of the paper's t-tests. Chosen after SmolLM2 and the shipped model were seen: decide it on other models.",
    ),
)
