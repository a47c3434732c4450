"""The explanation of a study, of a table, or of what was read of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.allocation import FULL, Allocation, Budget, Choice
from allocator.core.errors import DataError, StudyError
from allocator.core.pins import Pins
from allocator.explain.evidence import Evidence
from allocator.explain.importance import contributions_json, effects
from allocator.explain.kept import digest, kept
from allocator.explain.neighbours import Neighbours
from allocator.explain.rows import evidence_of
from allocator.explain.sentences import sentences
from allocator.explain.shown import Shown, indistinguishable
from allocator.space.csv_file import read_csv
from allocator.space.directions import best, doubted, guessed, is_higher_better
from allocator.space.model import KeptSpace, within_name
from allocator.study.frozen import latest_frozen
from allocator.study.journal import COSTS, SPEC, Journal
from allocator.study.looks import Looks
from allocator.study.recommendations import latest_recommendation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from allocator.space.table import TableSpace

    Progress = Callable[[int, int], object]
    Scored = Sequence[tuple[Allocation, float]]


# lines of failed rows that are named
NAMED = 5


def explain_study(journal: Journal, progress: Progress | None = None) -> dict[str, Any]:
    """Explain a study: everything measured, and what was looked at on many samples.

    What takes long is kept with the study, and not done again while that rests on the
    same.

    Raises:
        StudyError: nothing was measured in it yet.
    """
    space = space_of_study(journal)
    weights = [space.group_bytes[key][FULL] for key in space.keys]
    evidence = evidence_of(journal, space, weights)
    scored = reliable_scores(journal, space)
    spec = journal.attribute(SPEC)
    everything = Evidence.of(space.keys, scored, weights, spec["seed"])
    found = kept(
        journal,
        "effects",
        digest(evidence, everything),
        lambda: effects(evidence, progress, everything),
    )
    told = latest_recommendation(journal)
    about = {
        "study": journal.name,
        "table": None,
        "model": spec["model"],
        "task": spec["task"],
        "metric": told["metric"] if told else "score",
        "higher_is_better": True,
        "notes": [],
        "budget": told["budget"] if told else None,
        "pins": told.get("pins") if told else None,
    }
    chosen = None
    if told:
        # scores of what was chosen are told here, and so are those they rest on
        shown = Shown.of(journal, space)
        fair = reliable_scores(journal, space, shown)
        chosen = _recommended(journal, space, told, fair, evidence.digests)
        chosen["equal"] = indistinguishable(shown, shown.front(space), chosen["digest"])
    return explanation_json(
        about, found, chosen, latest_frozen(journal, within_name(space))
    )


def _recommended(
    journal: Journal,
    space: KeptSpace,
    told: Mapping[str, Any],
    fair: Scored,
    near: Sequence[str],
) -> dict[str, Any]:
    """Why the recommended allocation scores as it does, and what lies beside it.

    The first by the rows that importance rests on, of the digests `near`.
    """
    best, damage = told["recommended"], journal.damage(space)
    allocation = Allocation.of(space.keys, read_choices(best["allocation"]))
    seed = journal.attribute(SPEC)["seed"]
    known = {*near, allocation.digest}
    rows = [pair for pair in fair if pair[0].digest in known]
    if is_new := all(pair[0].digest != allocation.digest for pair in rows):
        # of exceptions, or from a file: its groups by themselves have no score
        rows.append((allocation, 0.0))
    evidence = Evidence.of(space.keys, rows, None, seed)
    everything = Evidence.of(space.keys, fair, None, seed)
    rests_on = digest(
        *(evidence, everything, best["digest"], str(best["score"])),
        {f"{key} {choice}": value for (key, choice), value in (damage or {}).items()},
        *(journal.attribute(COSTS), told["budget"], told.get("pins")),
    )

    def make() -> dict[str, Any]:
        neighbours = Neighbours(space, fair, damage, seed)
        found = allocation_json(
            evidence, neighbours, allocation, best["score"], is_new=is_new
        )
        # single linears count for the size, and are none of the groups' trees
        own = {"digest": best["digest"], "bpw": best["bpw"]}
        return {**found, **own, "layers": best.get("layers", {})}

    return kept(journal, "allocation", rests_on, make)


def explain_table(
    path: Path,
    score: str,
    groups: str | None = None,
    minimize: bool | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Importance over a whole table of measurements, its rows as they are.

    Args:
        path: the table.
        score: name of the column of scores.
        groups: names or patterns of the columns of groups, None for those named so.
        minimize: whether a lower score is the better one; None goes by its name.
        progress: told parts of the work done and parts in all.

    Raises:
        DataError: a table that cannot be read, or one without a finite score.
    """
    sheet = read_csv(path, (score,), groups)
    higher = is_higher_better(score, minimize)
    bits = np.array(sheet.bits, dtype=np.float64)
    scores = np.array(sheet.scores(score))
    kept = np.isfinite(scores)
    failed = [
        line for (line, _), known in zip(sheet.lines, kept, strict=True) if not known
    ]
    if not kept.any():
        raise DataError(f"none of {len(failed)} scores of {path} is a finite number")
    bits, scores = bits[kept], scores[kept]
    evidence = Evidence(sheet.keys, bits, scores, higher_is_better=higher)
    notes = [*guessed(score, minimize), *sheet.notes, *doubted(bits, scores, higher)]
    notes += left_out(failed)
    about = about_a_table(path.name, score, higher, notes)
    return explanation_json(about, effects(evidence, progress), None)


def left_out(lines: Sequence[int]) -> list[str]:
    """That rows were left out whose measurement failed, the first of them by line.

    >>> left_out([8, 3])
    ['2 rows have no finite number as a score and count as failed (line 3, 8)']
    """
    if not lines:
        return []
    named = ", ".join(map(str, sorted(lines)[:NAMED]))
    more = " and others" * (len(lines) > NAMED)
    rows = f"{len(lines)} rows have" if len(lines) > 1 else "1 row has"
    counts = "count as failed" if len(lines) > 1 else "counts as failed"
    return [f"{rows} no finite number as a score and {counts} (line {named}{more})"]


def explain_rows(
    space: TableSpace,
    scored: Scored,
    score: str,
    seed: int,
    minimize: bool | None = None,
) -> dict[str, Any]:
    """Explain what was read of a table, and the best row of it."""
    higher = is_higher_better(score, minimize)
    evidence = Evidence.of(space.keys, scored, None, seed, higher)
    found = effects(evidence)
    sizes = [(space.bpw(allocation), value) for allocation, value in scored]
    neighbours = Neighbours(space.unbounded, scored, seed=seed, higher_is_better=higher)
    chosen = allocation_json(evidence, neighbours, *scored[best(sizes, higher)])
    notes = [
        *guessed(score, minimize),
        *space.table.notes,
        *doubted(evidence.bits, evidence.scores, higher),
    ]
    about = about_a_table(space.table.name, score, higher, notes)
    about["budget"] = {"bpw": space.budget, "scope": None}
    return explanation_json(about, found, chosen)


def about_a_table(
    name: str, score: str, higher_is_better: bool, notes: Sequence[str]
) -> dict[str, Any]:
    """What an explanation is of, where that is a table."""
    return {
        **dict.fromkeys(("study", "model", "task", "budget", "pins")),
        "table": name,
        "metric": score,
        "higher_is_better": higher_is_better,
        "notes": list(notes),
    }


def explanation_json(
    about: Mapping[str, Any],
    found: Mapping[str, Any],
    chosen: Mapping[str, Any] | None,
    frozen: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The whole explanation, with its sentences."""
    whole = {**about, **found, "allocation": chosen, "narrowed": list(frozen)}
    return {**whole, "sentences": sentences(whole)}


def allocation_json(
    evidence: Evidence,
    neighbours: Neighbours,
    allocation: Allocation,
    score: float,
    *,
    is_new: bool = False,
) -> dict[str, Any]:
    """Why an allocation scores as it does, and what lies beside it.

    One that `is_new` is a row of the evidence that nothing is learned from.
    """
    at = evidence.digests.index(allocation.digest)
    return {
        "digest": allocation.digest,
        "bpw": neighbours.space.bpw(allocation),
        "score": score,
        **contributions_json(evidence, at, is_new=is_new),
        "more": neighbours.more(allocation),
        "less": neighbours.less(allocation),
        "equal": [],
    }


def space_of_study(journal: Journal) -> KeptSpace:
    """A study's space as it keeps it, under its latest budget and pins.

    Raises:
        StudyError: its search did not get as far as to keep it.
    """
    kept = journal.attribute(COSTS)
    if kept is None:
        raise StudyError(
            f"study {journal.name!r} has not begun: run its search again to finish it"
        )
    told = latest_recommendation(journal)
    if told is None:
        return KeptSpace(kept, Budget(FULL))
    budget, pins = told["budget"], Pins.from_json(told.get("pins"))
    return KeptSpace(kept, Budget(budget["bpw"], "bpw", budget["scope"]), pins)


def reliable_scores(
    journal: Journal, space: KeptSpace, shown: Shown | None = None
) -> list[tuple[Allocation, float]]:
    """Scores measured in full, and those that looks on many samples suggest.

    Of what keeps the pins of the space: under others, other groups matter. Scores of
    the search set, or those that may be shown.
    """
    measured = [
        (r.allocation, r.score if shown is None else shown.score(r.allocation.digest))
        for r in journal.records(space)
    ]
    known = Looks.of_study(journal, space).known_well(measured)
    return [pair for pair in known if space.keeps_pins(pair[0])]


def read_choices(allocation: Mapping[str, Mapping[str, Any]]) -> dict[str, Choice]:
    """Choices of an allocation as JSON spells it."""
    named = allocation.items()
    return {key: Choice(each["bits"], each["method"]) for key, each in named}
