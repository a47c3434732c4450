"""A study on disk: trials, measurements of baselines, recommendations, in Optuna."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from allocator.core.allocation import Allocation
from allocator.core.errors import StudyError
from allocator.core.home import default_storage
from allocator.core.records import TrialRecord
from allocator.core.study import STORAGE_TIMEOUT
from allocator.study.entries import SUPERSEDED, Entry, InPlace
from allocator.study.making import kept_with, make_study
from allocator.study.owners import alive, this_process
from allocator.study.per_sample import decode_scores, encode_scores
from allocator.study.storage import (
    name_metric,
    open_storage,
    study_names,
    user_and_system_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna.trial import FrozenTrial

    from allocator.core.allocation import Choice
    from allocator.space.base import Space

# of a study: what is asked of it, and kind of device and type it computes in
SPEC, ARITHMETIC = "spec", "arithmetic"
MEASURED = "evaluation:"
DAMAGE, COSTS, LOOKS = "damage", "costs", "looks:"
VALUES = "score of each sample"
FIRST_PROMPT = "first prompt"
FAILED, PASSED = TrialState.FAIL, TrialState.PRUNED


@dataclass(frozen=True)
class Journal:
    """One study: what was measured, and what followed from it."""

    study: optuna.Study
    url: str
    _read: dict[int, tuple[Allocation, str]] = field(default_factory=dict)
    _in_place: InPlace = field(default_factory=InPlace)

    @staticmethod
    def create(
        url: str | None,
        name: str,
        identity: str,
        spec: Mapping[str, Any],
        timeout: float = STORAGE_TIMEOUT,
    ) -> Journal:
        """Open a study, made first if it is new.

        Args:
            url: of the storage, None for the default one.
            name: the study's.
            identity: digest of what makes its measurements comparable.
            spec: what is asked of it now.
            timeout: how long to wait while the storage is locked, in seconds.

        Raises:
            StudyError: one of that name measures something else; a storage that cannot
                be had. So does everything below that reads or writes.
        """
        study = make_study(url, name, identity, timeout)
        journal = Journal(study, url or default_storage())
        journal.set_attribute(SPEC, dict(spec))
        return journal

    @staticmethod
    def load(url: str | None, name: str, timeout: float = STORAGE_TIMEOUT) -> Journal:
        """Open a study that exists.

        Raises:
            StudyError: there is none of that name; names those there are.
        """
        known = study_names(url, timeout)
        if name not in known:
            listed = ", ".join(known) or "none"
            raise StudyError(f"there is no study {name!r} (known: {listed})")
        storage = open_storage(url, timeout=timeout)
        study = optuna.load_study(storage=storage, study_name=name)
        journal = Journal(study, url or default_storage())
        journal._in_place.numbers = frozenset(journal.attribute(SUPERSEDED) or ())
        return journal

    def stand_on(self, space: Space, applied: Callable[[Allocation], str]) -> None:
        """Take trials for measurements only if they were of the cells of `applied`."""
        self._in_place.applied = applied
        gone = [entry.number for entry in self.entries(space) if entry.superseded]
        if gone != (self.attribute(SUPERSEDED) or []):
            self.set_attribute(SUPERSEDED, gone)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def _kept(self) -> dict[str, Any]:
        """Everything kept with the study."""
        return kept_with(self.study)

    def attribute(self, key: str) -> Any:
        """Something kept with the study, or None."""
        return self._kept.get(key)

    def attributes(self, start: str) -> list[Any]:
        """Everything kept under names that begin alike."""
        return [value for name, value in self._kept.items() if name.startswith(start)]

    def set_attribute(self, key: str, value: Any) -> None:
        """Keep plain data with the study, where no dashboard shows it."""
        number, storage = self.study._study_id, self.study._storage
        storage.set_study_system_attr(number, key, value)

    def describe(self, metric: str, about: Mapping[str, Any]) -> None:
        """Tell people who open the study elsewhere what it is and what came out."""
        name_metric(self.study, metric)
        for name, value in about.items():
            self.study.set_user_attr(name, value)

    def release_stale(self) -> None:
        """Give up trials that a dead process of this machine left running."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if not alive(_about(trial).get("owner", "")):
                # another process may be giving it up too
                with suppress(UpdateFinishedTrialError):
                    self.study.tell(
                        trial.number, state=TrialState.FAIL, skip_if_finished=True
                    )

    def begin(
        self, space: Space, allocation: Allocation, attributes: Mapping[str, Any]
    ) -> int:
        """Record that an allocation is being measured; returns the trial's number.

        One write, so that no half-described trial is ever left behind.
        """
        owner = this_process()
        about = {**attributes, "owner": owner}
        self._add(space, allocation, TrialState.RUNNING, about)
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return max(
            t.number
            for t in running
            if _about(t)["owner"] == owner and _about(t)["digest"] == allocation.digest
        )

    def add_pruned(
        self, space: Space, allocation: Allocation, attributes: Mapping[str, Any]
    ) -> None:
        """Record an allocation that was looked at, and not measured in full."""
        self._add(space, allocation, TrialState.PRUNED, attributes)

    def _add(
        self,
        space: Space,
        allocation: Allocation,
        state: TrialState,
        attributes: Mapping[str, Any],
    ) -> None:
        about = {**attributes, "digest": allocation.digest}
        told, kept = user_and_system_attributes(about, space.bpw(allocation))
        trial = optuna.trial.create_trial(
            state=state,
            params=space.params(allocation),
            distributions=dict(space.distributions),
            user_attrs=told,
            system_attrs=kept,
        )
        self.study.add_trial(trial)

    def complete(
        self, number: int, score: float, values: Sequence[float] | None = None
    ) -> None:
        """Record a trial's score, and that of each sample."""
        if values is not None:
            trial = self.study.get_trials(deepcopy=False)[number]._trial_id
            storage = self.study._storage
            storage.set_trial_system_attr(trial, VALUES, encode_scores(values))
        self.study.tell(number, score)

    def sample_scores(self, space: Space) -> dict[str, tuple[float, ...]]:
        """Score of each sample of the search set, by digest, where it was kept."""
        return {
            entry.digest: decode_scores(entry.about[VALUES])
            for entry in self.entries(space)
            if entry.score is not None and VALUES in entry.about
        }

    def fail(self, number: int) -> None:
        """Give up a trial that was not finished."""
        self.study.tell(number, state=TrialState.FAIL)

    def entries(self, space: Space) -> list[Entry]:
        """All trials that allocate, in order."""
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.params:
                continue
            if trial.number not in self._read:
                allocation = space.allocation(trial.params)
                self._read[trial.number] = allocation, allocation.digest
            found.append(
                Entry(
                    *self._read[trial.number],
                    trial.state,
                    trial.value if trial.state == TrialState.COMPLETE else None,
                    _about(trial),
                    trial.number,
                )
            )
        return self._in_place.sorted_out(found)

    def made(self, space: Space, budget: str) -> int:
        """Proposals for a budget, finished or under way in any process."""
        gone = (FAILED, PASSED)
        return sum(
            e.about.get("budget") == budget and e.state not in gone
            for e in self.entries(space)
            if not e.superseded
        )

    def counts(self, space: Space, budget: str) -> dict[str, int]:
        """Proposals made for a budget, by state; baselines left out.

        What was passed over and measured later counts as measured alone.
        """
        entries = [entry for entry in self.entries(space) if not entry.superseded]
        states = [e.state for e in entries if e.about.get("budget") == budget]
        measured = {e.digest for e in entries if e.state not in (FAILED, PASSED)}
        passed = {a.digest for at, a, _, _ in self.looks(space) if at == budget}
        return {
            "running": states.count(TrialState.RUNNING),
            "complete": states.count(TrialState.COMPLETE),
            "pruned": len(passed - measured),
            "failed": states.count(FAILED),
        }

    def keep_looks(
        self,
        space: Space,
        chosen: str,
        budget: str,
        looks: Sequence[tuple[Allocation, tuple[str, int], float]],
    ) -> None:
        """Keep the cheap looks that led to measuring the allocation `chosen`.

        All in one piece: as trials, many would take longer to write than to take. A
        search that was killed may choose it again, with few new looks or none.
        """
        if not looks:
            return
        labels = list(space.by_label)
        rows = [
            [[labels.index(str(c)) for _, c in allocation], *key, value]
            for allocation, key, value in looks
        ]
        name = f"{LOOKS}{budget}:{chosen}"
        kept = self.attribute(name) or {"at": len(self._looks()), "rows": []}
        rows = kept["rows"] + rows
        self.set_attribute(
            name, {**kept, "budget": budget, "labels": labels, "rows": rows}
        )

    def _looks(self) -> list[dict[str, Any]]:
        """What `keep_looks` kept, in that order, which no database promises."""
        found = self._kept.items()
        named = [(kept["at"], n, kept) for n, kept in found if n.startswith(LOOKS)]
        return [kept for _, _, kept in sorted(named, key=lambda each: each[:2])]

    def looks(
        self, space: Space
    ) -> Iterator[tuple[str, Allocation, tuple[str, int], float]]:
        """Budget, allocation, (kind, samples) and value of every cheap look."""
        for kept in self._looks():
            choices = [space.by_label[label] for label in kept["labels"]]
            for places, kind, size, value in kept["rows"]:
                chosen = (choices[place] for place in places)
                allocation = Allocation(tuple(zip(space.keys, chosen, strict=True)))
                yield kept["budget"], allocation, (kind, size), value

    def taken(self, space: Space) -> set[str]:
        """Digests of what was measured or is being measured."""
        entries = (e for e in self.entries(space) if not e.superseded)
        return {e.digest for e in entries if e.state not in (FAILED, PASSED)}

    def records(self, space: Space) -> list[TrialRecord]:
        """Everything measured in full, in order."""
        return [
            TrialRecord(
                entry.allocation,
                float(entry.score),
                # as kept it may be in the scope of another budget
                space.bpw(entry.allocation),
                entry.about["kind"],
                entry.about.get("applied", ""),
                entry.about.get("budget"),
                entry.about.get("limit"),
            )
            for entry in self.entries(space)
            if entry.score is not None
        ]

    def damage(self, space: Space) -> dict[tuple[str, Choice], float] | None:
        """The prior's damage table, if it was measured."""
        kept = self.attribute(DAMAGE)
        if kept is None:
            return None
        return {
            (key, space.by_label[label]): value
            for key, row in kept.items()
            for label, value in row.items()
        }

    def keep_damage(self, damage: Mapping[tuple[str, Choice], float]) -> None:
        """Keep the prior's damage table."""
        table: dict[str, dict[str, float]] = {}
        for (key, choice), value in damage.items():
            table.setdefault(key, {})[str(choice)] = value
        self.set_attribute(DAMAGE, table)


def _about(trial: FrozenTrial) -> dict[str, Any]:
    """What is known of a trial; those of before kept it in one place."""
    return {**trial.user_attrs, **trial.system_attrs}
