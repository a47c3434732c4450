"""Compare search strategies: `python studies/search/bench.py --out DIR`.

Every strategy there is searches every published table at every budget with 20 seeds;
with `--embedded` the embedded models with 3. What is finished is kept in DIR/runs.jsonl
(or embedded.jsonl) and not run again; DIR/tables.md and DIR/regret.png (embedded.md and
embedded.png) are written anew each time; `--no-plot` does without the picture.
Give `--only NAME` to add one strategy, `--again NAME` to forget what a changed strategy
did before.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import Run, markdown
from tables import CASES, regrets, runs

from allocator.core.plugins import available

if TYPE_CHECKING:
    from collections.abc import Sequence

EVALUATIONS = 40


class Kept:
    """Finished runs, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: list[Run] = []
        if path.exists():
            # a line that an interruption cut short is run again
            whole = path.read_text().rpartition("\n")[0].splitlines()
            self.runs = [Run.of(json.loads(line)) for line in whole]
            self._write()

    def forget(self, strategies: Sequence[str]) -> None:
        """Drop the runs of strategies that have changed."""
        self.runs = [run for run in self.runs if run.strategy not in strategies]
        self._write()

    def add(self, run: Run) -> None:
        """Keep a run."""
        self.runs.append(run)
        with self.path.open("a") as file:
            file.write(_line(run))

    def _write(self) -> None:
        # in place only when it is whole
        draft = self.path.with_suffix(".draft")
        draft.write_text("".join(map(_line, self.runs)))
        draft.replace(self.path)


def _line(run: Run) -> str:
    return json.dumps(run.to_row(), separators=(",", ":")) + "\n"


def run_tables(kept: Kept, strategies: Sequence[str], seeds: int) -> None:
    """Run what is missing on the published tables."""
    done = {run.key for run in kept.runs}
    for case in CASES:
        for (budget, space), strategy in itertools.product(runs(case), strategies):
            for seed in range(seeds):
                key = (case.name, float(budget), strategy, seed)
                if key in done:
                    continue
                found, total, sampler = regrets(space, strategy, seed, EVALUATIONS)
                kept.add(Run(*key, tuple(found), total, sampler))
            print(f"{case.name}, {budget:g} bpw, {strategy}", flush=True)


def run_embedded(
    kept: Kept, strategies: Sequence[str], folder: Path, model: str | None
) -> None:
    """Run what is missing on the embedded models."""
    from embedded import CASES as MODELS
    from embedded import SEEDS, Opened

    done = {run.key for run in kept.runs}
    folder.mkdir(exist_ok=True)
    for case in (case for case in MODELS if model in (None, case.model)):
        opened = Opened.of(case, folder)
        for budget, strategy in itertools.product(case.budgets, strategies):
            for seed in range(SEEDS):
                key = (case.name, float(budget), strategy, seed)
                if key in done:
                    continue
                scores, search = opened.search(budget, strategy, seed)
                seconds = search.clock.seconds, search.seconds["sampler"]
                kept.add(Run(*key, tuple(-s for s in scores), *seconds))
            print(f"{case.name}, {budget:g} bpw, {strategy}", flush=True)


def as_regrets(runs: Sequence[Run]) -> list[Run]:
    """Runs whose best scores become regrets against the best anyone found."""
    best: dict[tuple[str, float], float] = {}
    for run in runs:
        at = run.case, run.budget
        best[at] = max(best.get(at, float("-inf")), -run.regrets[-1])
    return [
        replace(run, regrets=tuple(best[run.case, run.budget] + r for r in run.regrets))
        for run in runs
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, tell and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--again", action="append", metavar="NAME", default=[])
    parser.add_argument("--no-plot", action="store_true")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--model", help="of the embedded ones, this alone")
    asked: Any = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    kept = Kept(asked.out / ("embedded.jsonl" if asked.embedded else "runs.jsonl"))
    if asked.again:
        kept.forget(asked.again)
    strategies = asked.only or available("allocator.strategies")
    if asked.embedded:
        run_embedded(kept, strategies, asked.out / "measured", asked.model)
        runs, text_name, picture = as_regrets(kept.runs), "embedded.md", "embedded.png"
        text = markdown(runs, (5, 10, 20))
    else:
        run_tables(kept, strategies, asked.seeds)
        runs, text_name, picture = kept.runs, "tables.md", "regret.png"
        text = markdown(runs)
    (asked.out / text_name).write_text(text)
    print(text)
    if not asked.no_plot:
        from plot import draw

        draw(runs, asked.out / picture)


if __name__ == "__main__":
    main()
