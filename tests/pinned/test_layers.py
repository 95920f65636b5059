"""What was found on the shipped model about its layers; the notebook on layer robustness tells the story."""

import pytest

pytestmark = [pytest.mark.finding(model="reference", data="stories", n=16), pytest.mark.recorded]


def kept(finding, intervention, layer):
    """Share of top-1 predictions that stay the intact model's, by prompt; position 0 is left out, as in summaries."""
    frame = finding.run("layer_robustness")
    chosen = frame[(frame.intervention == intervention) & (frame.layer == layer) & (frame.pos > 0)]
    return chosen.groupby("prompt_id").top1_agrees.mean()


@pytest.mark.parametrize("block", range(2, 7))
def test_a_middle_block_can_go_but_not_be_another_texts(finding, block):
    deleted, wrong = kept(finding, "delete", block), kept(finding, "resample", block)
    finding.check(f"without block {block} 72 % of top-1 stay", deleted, above=0.72)
    finding.check(f"block {block} of another text harms more than none", wrong, below="control", control=deleted)


def test_the_first_block_cannot_go(finding):
    finding.check("without block 0 a fifth of top-1 is lost at least", kept(finding, "delete", 0), at_most=0.8)
    finding.check("without block 0 a fifth of top-1 stays", kept(finding, "delete", 0), above=0.2, expect="fails")


@pytest.mark.parametrize("block", range(1, 6))
def test_a_swap_harms_less_than_a_deletion(finding, block):
    swapped, deleted = kept(finding, "swap", block), kept(finding, "delete", block)
    finding.check(f"swapping block {block} keeps more than deleting it", swapped, above="control", control=deleted)


def test_robustness_by_block(finding):
    values = ["top1_agrees", "top1_agrees_low", "top1_agrees_high", "kl_median", "loss_change"]
    summary = finding.run("layer_robustness").interp.summary()
    finding.record(
        "by block",
        summary[["intervention", "layer", *values]],
        by=["intervention", "layer"],
        tolerance={"top1_agrees": "interval", "kl_median": 0.01, "loss_change": 0.01},
    )


@pytest.mark.finding(data="prompts", n=None)
def test_a_third_of_the_predictions_settle_in_the_last_two_blocks(finding):
    frame = finding.run("logit_lens", positions=-1, targets="argmax")
    settled = frame.interp.summary(by="position").convergence_layer
    late = (settled > 6).astype(float)
    hits = {"values": late, "bounds": (0, 1)}
    finding.check("more than a quarter of the predictions settle in the last two blocks", above=0.25, **hits)
    finding.check("more than half of them do", above=0.5, expect="fails", **hits)
    finding.record("agreement with the output", frame.groupby("layer").agrees_final.mean(), tolerance=0.02)


@pytest.mark.finding(n=60)
def test_the_law_is_as_straight_when_all_tokens_are_renamed(finding):
    law = finding.run("next_token_law", draws=2).interp.summary()
    ids = law[(law.response == "next") & (law["sample"] == "in_sample") & (law.layers == "1..L")]
    ids = ids[ids.control != "shuffled_tokens"]  # where nothing is predicted there is no line
    finding.record(
        "log10 of the share of variance left, a line over layers",
        ids[["control", "slope", "pearson_r"]],
        by="control",
        tolerance={"slope": 3e-4, "pearson_r": 0.02},
    )
