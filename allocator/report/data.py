"""Everything a report shows of a study or of a replayed table, as plain data."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from allocator.core.exceptions import by_group
from allocator.core.finite import is_number
from allocator.core.pins import KINDS
from allocator.core.study import StudySpec
from allocator.explain.explanation import explain_study, space_of_study
from allocator.explain.shown import Shown, front_rows
from allocator.strategies._base import PREDICTED
from allocator.study.journal import SPEC
from allocator.study.recommendations import recommendation
from allocator.tables.replay import bits_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.study.journal import Journal
    from allocator.tables.replay import Replay

    Progress = Callable[[int, int], object]


def study_report(journal: Journal, progress: Progress | None = None) -> dict[str, Any]:
    """What a report of a study shows.

    Raises:
        StudyError: the study has no recommendation yet.
    """
    kept = recommendation(journal)
    found = kept["found"]
    space = space_of_study(journal)
    shown = Shown.of(journal, space)
    return {
        "title": f"{found['model']}, {found['task']}",
        "found": found,
        "exceptions": by_group(kept["plan"]),
        "explained": explain_study(journal, progress),
        "trials": [
            {**trial, **_as_shown(shown, trial)}
            for trial in trials_of(journal, space, pinned=True)
        ],
        "front": front_rows(shown, space),
        "uniform": found["uniform"],
        "commands": [
            command_of(journal.attribute(SPEC)),
            f"allocate explain {journal.name}",
            f"allocate export {journal.name} --format plan --out DIR",
        ],
    }


def _as_shown(shown: Shown, trial: Mapping[str, Any]) -> dict[str, Any]:
    """The score of a trial that may be shown, beside that on the search set."""
    digest = trial["digest"]
    if trial["score"] is None or digest not in shown.records:
        return {}
    return {"shown": shown.score(digest), "samples": shown.samples(digest)}


def trials_of(
    journal: Journal, space: Space, *, pinned: bool = False
) -> list[dict[str, Any]]:
    """A study's trials as a report shows them, those passed over too.

    With `pinned`, those alone that keep the space's pins.
    """
    return [
        {
            "number": entry.number,
            "kind": entry.about["kind"],
            "state": "superseded" if entry.superseded else entry.state.name.lower(),
            "bpw": space.bpw(entry.allocation),
            "score": entry.score,
            "predicted": entry.about.get(PREDICTED),
            "allocation": entry.allocation.to_json(),
            "digest": entry.digest,
            "looks": {
                name: value
                for name, value in entry.about.items()
                if name.endswith(" samples") and is_number(value)
            },
            **({"past": entry.past} if entry.superseded else {}),
        }
        for entry in journal.entries(space)
        if not pinned or space.keeps_pins(entry.allocation)
    ]


def command_of(spec: Mapping[str, Any]) -> str:
    """The command line that asks for a study again."""
    defaults = StudySpec(budget="4.0", task="vqav2").to_json()
    words = ["allocate"]
    for name, kept in spec.items():
        value = tuple(kept) if isinstance(kept, list) else kept
        if name == "budget" and value is not None:
            words += ["--budget", str(value)]
        elif name == "task" or (name in OPTIONS and value != defaults[name]):
            words += _words(OPTIONS.get(name, f"--{name}"), value)
    return shlex.join(words)


# names of options that are not those of the fields
OPTIONS = {
    **{
        name: f"--{name.replace('_', '-')}"
        for name in StudySpec.__dataclass_fields__
        if name not in {"budget", "task", "study", "storage", "device"}
    },
    "seconds": "--time",
    "candidates": "--candidate",
}
# once for each of their values
REPEATED = {OPTIONS[name] for name in (*KINDS, "candidates")}


def _words(option: str, value: Any) -> list[str]:
    """An option with its value; switches stand alone."""
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if option in REPEATED:
        return [word for text in value for word in (option, text)]
    if isinstance(value, list | tuple):
        return [option, ",".join(map(str, value))]
    return [option, f"{value:g}" if isinstance(value, float) else str(value)]


def replay_report(replay: Replay, command: str) -> dict[str, Any]:
    """What a report of a replayed table shows."""
    found, request = replay.to_json(), replay.request
    return {
        "title": f"{replay.space.table.name}, {request.score}",
        "found": found,
        "explained": replay.explained,
        "trials": [
            row_json(replay, number, allocation, score)
            for number, (allocation, score) in enumerate(replay.read)
        ],
        "front": [
            {**member.to_json(), "allocation": bits_json(member.allocation)}
            for member in replay.front
        ],
        "uniform": found["uniform"],
        "commands": [command],
    }


def row_json(
    replay: Replay, number: int, allocation: Allocation, score: float
) -> dict[str, Any]:
    """A row that was read, as a trial."""
    return {
        "number": number,
        "kind": "row",
        "bpw": replay.space.bpw(allocation),
        "score": score,
        "predicted": None,
        "allocation": bits_json(allocation),
        "digest": allocation.digest,
        "looks": {},
    }
