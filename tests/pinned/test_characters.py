"""What was found on the shipped model about letters: its embedding tells a little more than a word's length does."""

import pytest

pytestmark = pytest.mark.recorded


@pytest.mark.finding(model="reference")
def test_letters_beyond_length(finding):
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
        expect="undecided",  # half as much on average, but 26 letters do not settle it
    )
    finding.record("macro F1", frame.groupby("control").macro_f1.mean(), tolerance=0.005)
