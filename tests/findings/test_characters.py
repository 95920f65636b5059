"""What was found on the shipped model about letters: the number of letters tells most of what its embedding does."""

import pytest


@pytest.mark.finding(model="reference")
def test_length_alone_tells_most_of_it(finding):
    controls = ("length_only", "permuted")
    frame = finding.run("character_content", probe="ridge", seeds=3, min_tokens=20, controls=controls)
    score = frame.groupby(["letter", "control"]).macro_f1.mean().unstack("control")
    finding.check(
        "the embedding tells letters better than the length does, letter by letter",
        score["none"],
        control=score["length_only"],
        above="control",
    )
    finding.check(
        "what it tells beyond the length is less than what the length tells",
        score["none"] - score["length_only"],
        control=score["length_only"] - score["permuted"],
        below="control",
    )
    finding.record("macro F1", frame.groupby("control").macro_f1.mean(), tolerance=0.005)
