"""What was found on the shipped model about NormXLogit: its norm adds nothing to its logit."""

import pytest

pytestmark = pytest.mark.recorded


@pytest.mark.finding(model="reference", data="prompts", n=24)
def test_the_norm_adds_nothing_to_the_logit(finding):
    attributions = finding.run("attribute", methods=["normxlogit", "logit"])
    scores = finding.run("faithfulness", frame=attributions, metrics=("aopc",), n_draws=4, n_samples=1)
    for metric, better in (("aopc_comprehensiveness", "above"), ("aopc_sufficiency", "below")):
        rows = scores[(scores.metric == metric) & (scores.control == "none")]
        value = rows.groupby(["method", "prompt_id"]).value.mean().unstack("method")
        finding.check(
            f"NormXLogit is better than its logit factor by {metric}",
            value["normxlogit"],
            control=value["logit"],
            expect="undecided",
            **{better: "control"},
        )
        shuffled = rows.groupby(["method", "prompt_id"]).value_random.mean()["normxlogit"]
        finding.check(
            f"NormXLogit is better than its own scores shuffled by {metric}",
            value["normxlogit"],
            control=shuffled,
            **{better: "control"},
        )
