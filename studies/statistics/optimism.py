"""How much too good what a search says of its front is, and what is left once mended.

    python -m studies.statistics.optimism [--quick] [--folder DIR]

Searches the embedded models with ten seeds, each in a study of its own that is kept in
the folder, then scores everything that was measured in it on the evaluation set. What
is in the folder is not done again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.clock import Clock
from allocator.core.home import cache_home
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.search.run import run_prepared
from allocator.study.journal import Journal
from allocator.study.per_sample import decode_scores, encode_scores

MODELS = ("tiny-blip2", "tiny-llava")
SEEDS = 10


@dataclass(frozen=True)
class Case:
    """A model searched with a seed, and where that is kept."""

    model: str
    seed: int
    folder: Path

    @property
    def asked(self) -> StudySpec:
        """The main job, in a study of its own."""
        storage = f"sqlite:///{self.folder}/{self.model}-{self.seed}.db"
        return StudySpec(
            "4.0",
            "vqav2",
            model=self.model,
            seed=self.seed,
            storage=storage,
            study="study",
        )

    @property
    def truth_file(self) -> Path:
        """Where evaluation scores of all that was measured are kept."""
        return self.folder / f"{self.model}-{self.seed}.json"

    def search(self) -> None:
        """Search, and score everything measured on the evaluation set."""
        if self.truth_file.exists():
            return
        setup = prepare(self.asked)
        run_prepared(setup, Silent(), Clock())
        bench = open_bench(setup, Silent())
        journal = Journal.load(self.asked.storage, "study")
        found = {}
        for record in journal.records(setup.space):
            score = bench.score(record.allocation, setup.samples["evaluation"])
            found[record.allocation.digest] = encode_scores(score.values)
        draft = self.truth_file.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.rename(self.truth_file)

    def truth(self) -> dict[str, tuple[float, ...]]:
        """Scores of the evaluation samples, by allocation."""
        kept = json.loads(self.truth_file.read_text())
        return {digest: decode_scores(text) for digest, text in kept.items()}


def main() -> None:
    """Search what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=cache_home() / "optimism")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(SEEDS):
        for model in MODELS:
            Case(model, seed, options.folder.absolute()).search()
            print(model, seed, flush=True)


if __name__ == "__main__":
    main()
