"""What narrowing costs and saves: `python studies/search/narrowing.py --out DIR`.

Searches of the embedded BLIP-2 (18 groups) and replays of the published captioning
table, with and without narrowing, seed by seed. What is finished is kept in
DIR/narrowing.jsonl and not run again; DIR/narrowing.md is written anew each time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from embedded import CASES as MODELS
from embedded import EVALUATIONS, Opened
from tables import CASES as TABLES
from tables import runs

from allocator.core.plugins import load
from allocator.search.narrowing import Narrowing
from allocator.space.model import within_name
from allocator.study.frozen import read_frozen
from allocator.tables.oracle import Oracle, read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

READS = 20


class Kept:
    """Finished runs, a line of JSON each, by what they are runs of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[Any, ...], list[Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                *key, found = json.loads(line)
                self.rows[tuple(key)] = found

    def once(self, key: tuple[Any, ...], run: Any) -> list[Any]:
        """What a run gave, run if it was not."""
        if key not in self.rows:
            self.rows[key] = run()
            with self.path.open("a") as file:
                file.write(json.dumps([*key, self.rows[key]]) + "\n")
            print(*key, flush=True)
        return self.rows[key]


def models(kept: Kept, folder: Path, seeds: int) -> dict[bool, Any]:
    """Best scores [budgets x seeds, evaluations] with and without narrowing."""
    case, opened = MODELS[0], None
    found: dict[bool, list[Any]] = {False: [], True: []}
    for budget in case.budgets:
        for seed in range(seeds):
            for on in found:
                key = ("model", budget, seed, on)
                if key not in kept.rows and opened is None:
                    folder.mkdir(exist_ok=True, parents=True)
                    opened = Opened.of(case, folder)
                found[on].append(
                    kept.once(key, lambda k=key, o=opened: _search(o, *k[1:]))
                )
    return {on: found[on] for on in found}


def _search(opened: Any, budget: float, seed: int, on: bool) -> list[Any]:
    scores, search = opened.search(budget, "surrogate", seed, narrowing=on)
    decided = read_frozen(search.journal, within_name(search.goal.inside))
    frozen = max(map(len, decided.values()), default=0)
    return [scores, frozen, search.seconds["sampler"]]


def tables(kept: Kept, seeds: int) -> list[list[str]]:
    """Mean regret after 20 reads at each budget of the captioning table."""
    rows = []
    case = TABLES[0]
    for budget, space in runs(case):
        regrets: dict[bool, list[float]] = {False: [], True: []}
        for seed in range(seeds):
            for on in regrets:
                key = ("table", float(budget), seed, on)
                regrets[on].append(
                    kept.once(key, lambda s=space, k=key: [_replay(s, *k[2:])])[0]
                )
        cells = [f"{np.mean(regrets[on]):.4f}" for on in (False, True)]
        cells.append(f"{np.max(np.subtract(regrets[True], regrets[False])):+.4f}")
        rows.append([f"{budget:g}", *cells])
    return rows


def _replay(space: Any, seed: int, on: bool) -> float:
    oracle = Oracle(space, READS)
    strategy = load("allocator.strategies", "surrogate")(space, seed)
    read_rows(Narrowing(strategy) if on else strategy, oracle)
    best = max(float(space.row(row).score) for row in space.rows)
    return best - max(oracle.scores.values())


def told(found: dict[bool, Any]) -> list[str]:
    """The searches of the model as lines of Markdown."""
    scores = {on: np.array([run[0] for run in found[on]]) for on in found}
    frozen = [run[1] for run in found[True]]
    apart = scores[True] - scores[False]
    lines = ["| evaluations | without | with | difference | needed to reach it |"]
    lines.append("| --- | --- | --- | --- | --- |")
    mean = {on: scores[on].mean(axis=0) for on in scores}
    for at in (5, 10, 15, EVALUATIONS):
        reached = np.flatnonzero(mean[True] >= mean[False][at - 1])
        error = apart[:, at - 1].std(ddof=1) / len(apart) ** 0.5
        lines.append(
            f"| {at} | {mean[False][at - 1]:.2f} | {mean[True][at - 1]:.2f} | "
            f"{apart[:, at - 1].mean():+.2f} ± {error:.2f} | "
            f"{reached[0] + 1 if len(reached) else f'more than {EVALUATIONS}'} |"
        )
    seconds = [np.mean([run[2] for run in found[on]]) for on in (False, True)]
    several = sum(count >= 4 for count in frozen)
    lines += [
        "",
        f"Frozen at most: {np.median(frozen):g} of 18 groups (median; 4 or more in "
        f"{several} of {len(frozen)} searches). Seconds in the sampler, a search: "
        f"{seconds[0]:.1f} without, {seconds[1]:.1f} with.",
    ]
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, tell, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--table-seeds", type=int, default=20)
    asked = parser.parse_args(arguments)
    kept = Kept(asked.out / "narrowing.jsonl")
    rows = tables(kept, asked.table_seeds)
    found = models(kept, asked.out / "measured", asked.seeds)
    text = [
        f"## {MODELS[0].name}, budgets {', '.join(map(str, MODELS[0].budgets))}",
        "",
        f"Mean of the best score on the search set, {asked.seeds} seeds.",
        "",
        *told(found),
        "",
        f"## {TABLES[0].name}: mean regret after {READS} reads, "
        f"{asked.table_seeds} seeds",
        "",
        "| bpw | without | with | most that a seed lost |",
        "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    (asked.out / "narrowing.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
