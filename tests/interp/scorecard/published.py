"""Ask the published packages for their numbers, on their own inputs and with the shipped tokenizer.

`pip install tokenization-scorer==1.1.8 glotscope==0.1.0` in an environment of their own, and in that one
`python tests/interp/scorecard/published.py` records published.json again.
"""

import json
from collections import Counter
from pathlib import Path

PUBLISHED = Path(__file__).with_name("published.json")
REFERENCE = Path(__file__).parents[3] / "datasets" / "reference" / "tokenizer.json"
CUT = ["pick @@ed pick @@l @@ed pick @@les", "pick @@e @@d pick @@l @@e @@d pick @@l @@e @@s"]  # the package's own
ORDERS = (1.0, 2.5, 3.0)
TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    "She liked to play outside in the park all day long.",
    "“Let’s go!” said her friend Tom, and off they went; it was 12345 steps.",
]
OTHERS = [
    "Es war einmal ein kleines Mädchen namens Lily.",
    "Sie spielte gern den ganzen Tag draußen im Park.",
    "„Los geht’s!“, sagte ihr Freund Tom, und es waren 12345 Schritte.",
]
WORDS = sorted({word for text in TEXTS for word in text.split()})


def record():
    """Write published.json."""
    import glotscope
    import tokenization_scorer
    from glotscope.aggregate import aggregate_documents, aggregate_words
    from glotscope.compression import compression
    from glotscope.fertility import fertility
    from glotscope.metrics import parity, renyi_efficiency_from_counts
    from glotscope.strr import strr
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(REFERENCE))

    def encoded(texts):
        return [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def scored(text):
        # Asked for order 1 as a "power", this package reads its text a second time and finds none.
        return [
            float(
                tokenization_scorer.score(
                    text, **({"metric": "shannon_efficiency"} if order == 1 else {"power": order})
                )
            )
            for order in ORDERS
        ]

    ids, sizes = encoded(TEXTS), [len(one.encode()) for one in TEXTS]
    names = [" ".join(map(str, one)) for one in ids]
    words = {lead: aggregate_words(encoded([lead + word for word in WORDS])) for lead in ("", " ")}
    counts = Counter(index for one in ids for index in one)
    size = tokenizer.get_vocab_size()
    found = {
        "renyi of cut texts": list(map(scored, CUT)),
        "renyi": scored("\n".join(names)),
        "renyi by the other": [renyi_efficiency_from_counts(counts, alpha=order).value for order in ORDERS],
        "eta": renyi_efficiency_from_counts(counts, alpha=1.0, normalizer="nominal", nominal_vocab_size=size).value,
        "bytes per token": compression(
            aggregate_documents(ids, char_lengths=list(map(len, TEXTS)), byte_lengths=sizes),
            unit_lengths=sizes,
            language="en",
        ).bpt,
        "parity": parity(
            {"en": [len(one) for one in ids], "de": [len(one) for one in encoded(OTHERS)]}, reference="en"
        ).per_language["de"],
        "fertility": {
            lead: fertility(
                of,
                language="en",
                segmenter=glotscope.Segmenter.WHITESPACE,
                segmenter_model_version=None,
                leading_space=bool(lead),
                unk_char_rate=0.0,
            ).fertility
            for lead, of in words.items()
        },
    }
    pair = strr(words[""], words[" "], language="en", lowercased=False)
    found["single words"] = {"": pair.bare, " ": pair.leading_space}
    PUBLISHED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    record()
