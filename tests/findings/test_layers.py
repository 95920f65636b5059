"""What was found on the shipped model about its layers; the notebook on layer robustness tells the story."""

import pytest

pytestmark = pytest.mark.finding(model="reference", data="stories", n=24)
MIDDLE = range(2, 7)


def robustness(finding):
    """Position 0 left out: it is an outlier in nearly every statistic."""
    return finding.run("layer_robustness").query("pos > 0")


def kept(frame, intervention, layer):
    """Share of top-1 predictions that stay the intact model's, by prompt."""
    chosen = frame[(frame.intervention == intervention) & (frame.layer == layer)]
    return chosen.groupby("prompt_id").top1_agrees.mean()


@pytest.mark.parametrize("layer", MIDDLE)
def test_each_middle_block_can_go(finding, layer):
    frame = robustness(finding)
    finding.check(f"without block {layer} 72 % of top-1 stay", kept(frame, "delete", layer), above=0.72)
    # The control: what the block adds on another text. A wrong contribution harms more than none.
    wrong = kept(frame, "resample", layer)
    finding.check(
        f"block {layer} from another text harms more than none",
        wrong,
        control=kept(frame, "delete", layer),
        below="control",
    )


def test_the_first_block_cannot(finding):
    finding.check("without block 0 a fifth of top-1 stays", kept(robustness(finding), "delete", 0), at_most=0.2)


@pytest.mark.parametrize("layer", range(1, 6))
def test_a_swap_harms_less_than_a_deletion(finding, layer):
    frame = robustness(finding)
    finding.check(
        f"swapping block {layer} with the next keeps more than deleting it",
        kept(frame, "swap", layer),
        control=kept(frame, "delete", layer),
        above="control",
    )


def test_robustness_by_block(finding):
    columns = ["top1_agrees", "top1_agrees_low", "top1_agrees_high", "kl_median", "loss_change"]
    summary = finding.run("layer_robustness").interp.summary()
    finding.record(
        "by block",
        summary[["intervention", "layer", *columns]],
        by=["intervention", "layer"],
        tolerance={"top1_agrees": "interval", "kl_median": 0.01, "loss_change": 0.01},
    )


@pytest.mark.finding(data="prompts", n=None)
def test_predictions_settle_late(finding):
    frame = finding.run("logit_lens", positions=-1, targets="argmax")
    depth = frame.interp.summary(by="position").set_index("prompt_id").convergence_layer
    finding.check(
        "half the predictions settle in the last quarter of the layers", (depth >= 6).astype(float), above=0.5
    )
    finding.record("agreement with the output", frame.groupby("layer").agrees_final.mean(), tolerance=0.02)


@pytest.mark.finding(data="stories", n=100)
def test_the_law_beside_its_controls(finding):
    law = finding.run("next_token_law", draws=2)
    held_out = law[(law["sample"] == "held_out") & (law.response == "next")]
    finding.record("share of variance left", held_out.groupby(["control", "layer"]).residual.mean(), tolerance=0.01)
