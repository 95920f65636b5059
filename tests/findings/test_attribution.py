"""What was found on the shipped model about attribution: NormXLogit against its own logit factor."""

import pytest

METRICS = ("aopc_comprehensiveness", "aopc_sufficiency")


@pytest.mark.finding(model="reference", data="prompts", n=60)
def test_the_norm_adds_nothing_to_the_logit(finding):
    frame = finding.run("attribute", methods=["normxlogit", "logit"])
    scores = finding.run("faithfulness", texts=frame)
