"""What was found on the shipped model about letters: word length alone tells nearly as much as the embedding."""

import pytest


@pytest.mark.finding(model="reference")
def test_length_alone_tells_most_of_it(finding):
    frame = finding.run(
        "character_content", probe="ridge", seeds=3, min_tokens=20, controls=("length_only", "permuted")
    )
    scores = frame.groupby(["control", "letter"]).macro_f1.mean().unstack("control")
    finding.check(
        "the embedding tells letters better than length does",
        scores["none"],
        control=scores["length_only"],
        above="control",
    )
    finding.check(
        "what it tells beyond length is less than length itself does",
        scores["none"] - scores["length_only"],
        control=scores["length_only"] - scores["permuted"],
        below="control",
    )
    finding.record("macro F1", frame.groupby("control").macro_f1.mean(), tolerance=0.005)
