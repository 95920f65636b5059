"""Time inseq's ReAGent in inseq's own environment; `bench_reagent.py` runs this and reads its line of JSON.

It imports nothing of interp. A uniform sampler replaces the sampler by part of speech, which downloads a tagger.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from inseq.attr.feat.ops.reagent_core import (
    AggregateRationalizer,
    DeltaProbImportanceScoreEvaluator,
    TopKStoppingConditionEvaluator,
    UniformTokenReplacer,
)
from transformers import AutoModelForCausalLM, AutoTokenizer


class UniformSampler:
    """A sampler of any token except the first `n_special`, in place of inseq's."""

    def __init__(self, d_vocab: int, n_special: int) -> None:
        self.d_vocab, self.n_special = d_vocab, n_special

    def __call__(self, ids: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: D102
        return torch.randint(self.n_special, self.d_vocab, ids.shape)


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.manual_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()  # like ours
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    sampler: Any = UniformSampler(model.config.vocab_size, 1)
    stop = TopKStoppingConditionEvaluator(
        model=model, sampler=sampler, top_k=job["tolerance"], keep_top_n=job["keep"], keep_ratio=None
    )
    evaluator = DeltaProbImportanceScoreEvaluator(
        model=model,
        tokenizer=tokenizer,
        token_replacer=UniformTokenReplacer(sampler=sampler, ratio=job["replace_ratio"]),
        stopping_condition_evaluator=stop,
        max_steps=job["max_steps"],
    )
    rationalizer = AggregateRationalizer(
        importance_score_evaluator=evaluator,
        batch_size=job["n_probes"],
        overlap_threshold=0,
        keep_top_n=job["keep"],
        keep_ratio=None,
    )
    with torch.no_grad():
        model(torch.tensor([job["prompts"][0]]))  # warms up
    steps, start = [], time.process_time()
    for ids, target in zip(job["prompts"], job["targets"], strict=True):
        rationalizer(torch.tensor([ids]), torch.tensor([target]))
        steps.append(evaluator.num_steps)
    print(json.dumps({"seconds": time.process_time() - start, "steps": steps}))


if __name__ == "__main__":
    main()
