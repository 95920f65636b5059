"""Tell how many draws of replacements (`n_samples` of `faithfulness`) the order of attribution methods needs.

    python benchmarks/bench_faithfulness_draws.py [--model reference] [--prompts 6] [--length 10] [--groups 2]

Ranks six methods by their mean comprehensiveness and sufficiency over prompts, with other draws again and again, and
prints Kendall's tau between every two of the orders. Draws are independent, so a value over 32 is the mean of eight
over 4. Then prints, for each method, its mean, the standard error over the draws at 4 and at 32, and its distance from
the next better method in standard errors of the difference, which is paired: methods share their draws. Where that is
below 2, so many draws do not tell which of the two is better.
"""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau

import interp
from interp.authoring import progress_bar
from probes import attribute, faithfulness

METHODS = ("normxlogit", "integrated_gradients", "input_x_gradient", "occlusion", "reagent_ls", "random")
METRICS = ("comprehensiveness", "sufficiency")
N_DRAWS = (4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="reference", help="anything interp.load takes")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--length", type=int, default=10, help="tokens per prompt")
    parser.add_argument("--groups", type=int, default=2, help="orders to compare with the most draws")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    start = time.process_time()
    subject = interp.load(arguments.model)
    stories = interp.dataset("stories")["text"].head(arguments.prompts).tolist()
    ids = torch.stack([one[: arguments.length] for one in subject.tokens(stories).ids])
    frame = attribute(subject, ids, methods=METHODS)
    n_runs = arguments.groups * N_DRAWS[-1] // N_DRAWS[0]
    with progress_bar(n_runs, "run", "faithfulness") as bar:
        runs = []
        for seed in range(n_runs):
            runs.append(means(subject, frame, seed))
            bar.update()
    values = pd.concat(runs, keys=range(n_runs), names=["run"])
    print(
        f"{arguments.model}: {arguments.prompts} prompts of {arguments.length} tokens, {len(METHODS)} methods, "
        f"{time.process_time() - start:.0f} processor seconds"
    )
    for metric in METRICS:
        table = values.xs(metric, level="metric").unstack("method")
        print(f"\n{metric}: Kendall's tau between orders with other draws, mean (lowest)")
        for n in N_DRAWS:
            taus = agreement(groups(table, n))
            print(f"  {n:3d} draws: {taus.mean():.2f} ({taus.min():.2f})")
        print(distances(table, metric).to_string(index=False, float_format="{:.4f}".format))


def means(subject: interp.Subject, frame: pd.DataFrame, seed: int) -> pd.Series:
    """Return the mean over prompts and fractions, by metric and method, with as few draws as are compared."""
    scores = faithfulness(
        subject, frame, metrics=METRICS, fractions=(0.2, 0.5), n_samples=N_DRAWS[0], n_random=2, seed=seed
    )
    measured = scores[scores["control"] != "permuted"]  # random scores are a method here, and a control elsewhere
    return measured.groupby(["metric", "method"], observed=True)["value"].mean()


def groups(table: pd.DataFrame, n: int) -> np.ndarray:
    """Return the values over n draws, [group, method]."""
    return table.to_numpy().reshape(-1, n // N_DRAWS[0], table.shape[1]).mean(axis=1)


def agreement(orders: np.ndarray) -> np.ndarray:
    """Return Kendall's tau of every two rows."""
    return np.array([kendalltau(*pair).statistic for pair in combinations(orders, 2)])


def distances(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return each method's mean, its standard errors over draws, and its distance from the next better method."""
    ordered = table[table.mean().sort_values(ascending=metric == "sufficiency").index]
    per_draws = np.sqrt(N_DRAWS[0] / np.array([N_DRAWS[0], N_DRAWS[-1]]))
    gap = ordered.diff(axis=1)  # paired: both have the same draws
    errors = ordered.std(ddof=1).to_numpy()[:, None] * per_draws
    of_gap = gap.std(ddof=1).to_numpy()[:, None] * per_draws
    apart = gap.mean().abs().to_numpy()
    return pd.DataFrame(
        {"method": ordered.columns, "mean": ordered.mean().to_numpy()}
        | {f"se_{n}": errors[:, place] for place, n in enumerate((N_DRAWS[0], N_DRAWS[-1]))}
        | {
            # Two methods that rank alike have no gap and no error.
            f"gap/se_{n}": np.divide(apart, of_gap[:, place], out=np.zeros_like(apart), where=of_gap[:, place] > 0)
            for place, n in enumerate((N_DRAWS[0], N_DRAWS[-1]))
        }
    )


if __name__ == "__main__":
    main()
