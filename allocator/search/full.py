"""Full precision comes first: what makes no sense there is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from allocator.bench.sense import CAUSES, constant_scores, judge, scores_of
from allocator.core.errors import DataError, ModelError
from allocator.core.own import refers_to_itself
from allocator.search.rungs import spread_out
from allocator.study.entry import not_finite

if TYPE_CHECKING:
    from allocator.search.running import Search

# samples whose logits are looked at
FEW = 8


def full_precision(search: Search) -> None:
    """Measure full precision on the search set, and on some of the evaluation set.

    Raises:
        ModelError: it scores nothing, or its weights, logits or replies show that the
            model cannot work: everything else would be compared with that.
        DataError: a task of several scores nothing.
    """
    space, samples = search.setup.space, search.setup.samples["search"]
    if space.full.digest not in search.journal.taken(space):
        model = search.setup.asked.model
        if fault := search.bench.fault(spread_out(samples, FEW)):
            raise ModelError(f"{model} cannot work at full precision: {fault}")
        if search.setup.asked.rungs:
            search.look_at(space.full)
        try:
            search.measure(
                space.full, "full", check=lambda score: _check(search, score)
            )
        except DataError as error:
            # of several tasks, one scores nothing
            raise DataError(f"{error}; {_seen(search)}; {CAUSES}") from error
    kept = [r.score for r in search.records if r.allocation.digest == space.full.digest]
    for score in kept:
        _check_kept(search, score, "search")
    found = search.evaluate(space.full, size=search.looks.sizes[0])
    _check_kept(search, found.mean, "evaluation", found.failed)


def _check(search: Search, score: Any) -> None:
    """Refuse a score, or say what is odd about it."""
    setup = search.setup
    calibration, samples = setup.samples["calibration"], setup.samples["search"]
    itself = refers_to_itself(setup.task)
    found = judge(
        setup.asked.model,
        scores_of(setup.task, score, search.bench.said),
        {} if itself else constant_scores(setup.task, calibration, samples),
    )
    for line in found.warnings:
        search.watch.say(line)
    if found.refused:
        raise ModelError(found.refused)
    names = [sample.id for sample in samples]
    if reason := not_finite(score.mean, score.values, names):
        model = setup.asked.model
        raise ModelError(f"{model} {reason} at full precision: {CAUSES}")


def _check_kept(
    search: Search, score: float, split: str, failed: str | None = None
) -> None:
    """Refuse a score of a study of before, or of samples that are seldom scored."""
    asked = search.setup.asked
    least = -math.inf if asked.min_score is None else 0.0
    if not math.isfinite(score) or score == 0 or score < least:
        raise ModelError(
            f"{asked.model} {failed or f'scores {score:.4g}'} at full precision on the "
            f"{split} set of study {search.journal.name!r}, and nothing can be "
            f"compared with that; {CAUSES}"
        )


def _seen(search: Search) -> str:
    said = search.bench.said
    return "; ".join(f"{task}: {each.sentence}" for task, each in said.items())
