"""What predicts what: sums of damage, looks, scores of the bank, finalized scores.

    python studies/search/fidelity.py tiny-llava 3.5 4.0 --out fidelity_llava.jsonl

Allocations of groups that fill a budget are optima of the prior's KL and of
Fisher-weighted errors, by turns, each damage multiplied by exp(s z), z normal, s from 0
to 1.2. Each is looked at, scored under the bank's weights on 1,000 questions of the
search set, finalized, and looked at and scored again; what there is already is not
done again. Printed are Spearman's correlations, scores of 250 questions held against
those of the others, and those of a correction: from a few allocations that were
finalized, ridge regression of what finalizing gained on the shares of the weights by
method and by width, tested on the others (200 drawings).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from allocator.bench.finalize import finalize
from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.bench.probes import damages
from allocator.bench.sensitivity import sensitivity
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.search.rungs import spread_out
from allocator.space.model import within
from allocator.strategies._knapsack import knapsack, summed
from surrogate.rows import ranks

COUNT, FEW, LOOKED = 16, 250, 128
NOISE = (0.0, 0.4, 0.8, 1.2)
TRAINED, RIDGES, DRAWINGS = (4, 6, 8), (0.1, 1.0), 200
# scores of few samples are held against those of the others
FEWS = ("bank_few", "finalized_few")
COLUMNS = {
    "summed KL of groups": "kl",
    "summed Fisher-weighted errors": "fisher",
    "summed relative output errors": "error",
    "divergence on 128": "divergence",
    "bank score on 250": "bank_few",
    "bank score on 1000": "bank",
    "finalized divergence on 128": "finalized_divergence",
    "finalized score on 250": "finalized_few",
}


def spearman(a: Any, b: Any) -> float:
    """Rank correlation of two rows of numbers."""
    return float(np.corrcoef(ranks(np.array(a)), ranks(np.array(b)))[0, 1])


def measure(model: str, budgets: list[float], out: Path) -> None:
    """Write a line for each allocation that is not there yet."""
    setup = prepare(StudySpec(budget=str(budgets[0]), task="vqav2", model=model))
    bench, space = open_bench(setup, Silent()), setup.space
    calibration, search = setup.samples["calibration"], setup.samples["search"]
    kl = damages(bench, calibration[:64], space.choices)
    errors = sensitivity(bench, calibration, space.choices)
    few, weights = spread_out(search, LOOKED), dict.fromkeys(space.keys, 0.0)
    weights |= {g.key: g.weights / space.spec.weights for g in space.spec.groups}
    kept = out.read_text().splitlines() if out.exists() else []
    done = {json.loads(line)["digest"] for line in kept}
    rng = np.random.default_rng(5)
    for budget in budgets:
        inside, found = within(space, budget), {}
        for at in range(10 * COUNT):
            table, wide = (kl, errors.fisher)[at % 2], NOISE[at // 2 % len(NOISE)]
            noise = {each: np.exp(rng.normal(0, wide)) for each in table}
            each = knapsack(inside, {k: v * noise[k] for k, v in table.items()})
            if len(found) < COUNT:
                found[each.digest] = each
        for digest, each in found.items():
            if digest in done:
                continue
            row: dict[str, Any] = {"model": model, "budget": budget, "digest": digest}
            row["kl"], row["fisher"] = summed(each, kl), summed(each, errors.fisher)
            row["error"] = summed(each, errors.relative_error)
            row["divergence"] = bench.divergence(each, few)
            row["bank"] = bench.score(each, search).values
            with bench.under(finalize(setup, each, Silent())) as other:
                row["finalized_divergence"] = other.divergence(each, few)
                row["finalized"] = other.score(each, search).values
            shares: Counter[str] = Counter()
            for key, choice in each:
                shares[f"method {choice.method}"] += weights[key]
                shares[f"bits {choice.bits}"] += weights[key]
            row["shares"] = dict(shares)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def told(rows: list[dict[str, Any]]) -> None:
    """Print what predicted scores of one budget."""
    bank, finalized = (np.array([r[n] for r in rows]) for n in ("bank", "finalized"))
    places = spread_out(range(bank.shape[1]), FEW)
    rest = np.setdiff1d(np.arange(bank.shape[1]), places)
    values = {n: -np.array([r[n] for r in rows]) for n in ("kl", "fisher", "error")}
    for name in ("divergence", "finalized_divergence"):
        values[name] = -np.array([r[name] for r in rows])
    values |= {"bank": bank.mean(1), "bank_few": bank[:, places].mean(1)}
    values["finalized_few"] = finalized[:, places].mean(1)
    for words, name in COLUMNS.items():
        of_bank, of_finalized = (rest if name == own else slice(None) for own in FEWS)
        ends = bank[:, of_bank].mean(1), finalized[:, of_finalized].mean(1)
        first, second = (spearman(values[name], end) for end in ends)
        print(f"  {words:32s}{first:6.2f}{second:6.2f}")
    for count in TRAINED:
        for ridge in RIDGES:
            means = bank.mean(1), finalized.mean(1)
            by, plain = corrected(rows, *means, count, ridge)
            print(f"  corrected by {count}, ridge {ridge}: {by:.2f}, not {plain:.2f}")


def corrected(
    rows: list[dict[str, Any]], bank: Any, finalized: Any, count: int, ridge: float
) -> tuple[float, float]:
    """Correlation with finalized scores, corrected and not, of what was left out."""
    names = sorted({name for row in rows for name in row["shares"]})
    x = np.array([[row["shares"].get(name, 0.0) for name in names] for row in rows])
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWINGS):
        order = rng.permutation(len(rows))
        known, left = order[:count], order[count:]
        middle, gain = x[known].mean(0), (finalized - bank)[known]
        own = x[known] - middle
        gram = own.T @ own + ridge * np.eye(len(names))
        slope = np.linalg.solve(gram, own.T @ (gain - gain.mean()))
        guess = bank[left] + (x[left] - middle) @ slope
        found.append([spearman(each, finalized[left]) for each in (guess, bank[left])])
    return tuple(np.nanmean(found, axis=0))


def main() -> None:
    """Measure what is missing, and print what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("budgets", nargs="+", type=float)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    measure(asked.model, asked.budgets, asked.out)
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()]
    for budget in asked.budgets:
        print(f"{asked.model} at {budget} bpw: bank, finalized")
        told([row for row in rows if row["budget"] == budget])


if __name__ == "__main__":
    main()
