"""Test on the reference model if `reagent_ls` is as faithful as `reagent` with a tenth of its forward passes.

    python benchmarks/bench_reagent_ls.py [--prompts 8] [--length 16]

The stop rule of ReAGent is stricter than by default (keep 3, target likeliest), so that it takes some steps to
converge. Prints the sequences that each needed, and the paired differences of hard faithfulness over prompts.
"""

from __future__ import annotations

import argparse
import warnings

import torch

import interp
from interp.stats.bootstrap import paired_bootstrap
from probes import faithfulness, reagent, reagent_ls


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--length", type=int, default=16, help="tokens per prompt")
    parser.add_argument("--max-steps", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    subject = interp.load("reference")
    ids = torch.stack([one[: arguments.length] for one in subject.tokens("stories").ids[: arguments.prompts]])
    recursive, probes = reagent(subject, ids, keep=3, tolerance=1, max_steps=arguments.max_steps, return_probes=True)
    n_recursive = 2 * int(probes["stop_step"].fillna(arguments.max_steps).sum()) / len(ids)
    n_masks = max(int(n_recursive / 10), 2 * arguments.length + 2)
    direct = reagent_ls(subject, ids, n_masks=n_masks)
    both = interp.concat([recursive.drop(columns=["converged", "stop_step"]), direct])
    scores = faithfulness(subject, both, metrics=["sufficiency", "comprehensiveness", "aopc"], n_random=3)
    measured = scores[scores["control"] == "none"].groupby(["metric", "prompt_id", "method"])
    table = measured[["value", "value_random"]].mean().unstack("method")
    converged, median = probes["converged"].mean(), probes["stop_step"].median()
    print(f"{len(ids)} prompts; {converged:.0%} of probes converged, median step {median:.0f}")
    print(f"sequences per prompt: reagent {n_recursive:.0f}, reagent_ls {n_masks} ({n_masks / n_recursive:.0%})")
    for metric, rows in table.groupby("metric"):
        value = rows["value"]
        gap, low, high, _ = paired_bootstrap((value["reagent_ls"] - value["reagent"]).to_numpy()[None])
        print(
            f"  {metric:24s} reagent {value['reagent'].mean():.4f}  reagent_ls {value['reagent_ls'].mean():.4f}  "
            f"shuffled {rows['value_random']['reagent'].mean():.4f}  "
            f"difference {gap[0]:+.4f} [{low[0]:+.4f}, {high[0]:+.4f}]"
        )


if __name__ == "__main__":
    main()
