"""Compute the indicators and verdicts of magikarp and glotscope, in an environment of their own.

    python -m venv peers && peers/bin/pip install torch transformers scikit-learn glotscope==0.1.0
    PYTHONPATH=magikarp peers/bin/python benchmarks/peer_magikarp.py job.json

`magikarp` is a checkout of cohere-ai/magikarp at 0d466b2. `bench_token_health.py` writes the job and reads the answer;
this imports nothing of interp.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from glotscope.detect import detect
from glotscope.enums import TokenizerFamily
from glotscope.errors import NoReferenceSetError
from glotscope.reference_set import resolve_reference_set
from magikarp.fishing import verify_magikarp
from magikarp.utils import embedding_distance_metrics
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    start = time.process_time()
    rows = model.lm_head.weight.detach().numpy()
    found = embedding_distance_metrics(rows, job["reference"])
    indicators = {f"magikarp's {name}": getattr(found, name) for name in found._fields}
    of_indicators = time.process_time() - start
    print("glotscope's own reference rows:", own_reference(tokenizer, len(rows)), flush=True)
    indicators["glotscope's indicator"] = glotscope(rows, job["reference"])
    placeholder = placeholder_of(tokenizer)
    probs, start = [], time.process_time()
    with torch.no_grad():
        for n, token in enumerate(job["tokens"], 1):
            verified, _ = verify_magikarp(
                SimpleNamespace(tokenizer=tokenizer), SimpleNamespace(model=model), {"i": token}, placeholder
            )
            probs.append(max(one["max_prob"] for one in verified))
            if n % 10 == 0:
                print(n, round(time.process_time() - start), flush=True)
    of_tokens = time.process_time() - start
    np.savez(
        job["answer"], prob=probs, tokens=job["tokens"], seconds=[of_indicators, of_tokens / len(probs)], **indicators
    )


def glotscope(rows: np.ndarray, reference: list[int]) -> np.ndarray:
    """Return glotscope's indicator of a model with tied embeddings, [d_vocab], by the reference rows given."""
    ranked = detect(
        e_in=rows, e_out=rows, tied=True, reference_ids=reference, excluded=frozenset(), vocab_size=len(rows),
        top_pct=100.0,
    ).ranked  # fmt: skip
    ids, values = zip(*ranked, strict=True)
    return np.array(values)[np.argsort(ids)]


def own_reference(tokenizer: Any, n_rows: int) -> str:
    """Say which rows glotscope itself takes for untrained, if it finds any."""
    vocab = tokenizer.get_vocab()
    family = TokenizerFamily.BYTE_FALLBACK if "<0x00>" in vocab else TokenizerFamily.BYTE_LEVEL
    try:
        chosen = resolve_reference_set(vocab, family, vocab_size=len(vocab), n_rows=n_rows, checkpoint="", tied=True)
    except NoReferenceSetError:
        return "none, it refuses this model"
    return f"{chosen.source.value}, {len(chosen.token_ids)}"


def placeholder_of(tokenizer: Any) -> dict[str, Any]:
    """Return the token around which magikarp builds its prompts: of letters only, the most different ones."""
    texts = {index: tokenizer.decode([index]) for index in range(len(tokenizer))}
    words = [index for index, text in texts.items() if text.isalpha() and tokenizer.encode(text * 2) == [index] * 2]
    best = max(words, key=lambda index: (len(set(texts[index])), len(texts[index])))
    return {"i": best, "decoded": texts[best]}


if __name__ == "__main__":
    main()
