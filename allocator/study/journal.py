"""A study on disk: trials, measurements of baselines, recommendations, in Optuna."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, replace
from math import nan
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from allocator.core.errors import GoneError, StudyError
from allocator.core.finite import finite_damage, is_number
from allocator.core.home import default_storage
from allocator.core.masking import masked
from allocator.core.study import STORAGE_TIMEOUT
from allocator.study.attributes import keep_with, kept_in, kept_under
from allocator.study.bulk import all_stays
from allocator.study.database import database_of
from allocator.study.entry import FAILED, PASSED, VALUES
from allocator.study.in_place import SUPERSEDED, InPlace
from allocator.study.kept import Kept
from allocator.study.kept_looks import looks_among, with_looks
from allocator.study.making import make_study
from allocator.study.outage import outage_of
from allocator.study.owners import Leases
from allocator.study.per_sample import decode_scores
from allocator.study.reading import Reading
from allocator.study.storage import (
    LOG,
    file_of,
    name_metric,
    open_storage,
    patience_with,
    without_password,
)
from allocator.study.trials import (
    Trials,
    add_trial,
    at_work,
    begin_trial,
    complete_trial,
    fail_trial,
    release_dead,
    unknown_trials,
    withdraw_trial,
)
from allocator.study.unread import as_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from optuna.trial import FrozenTrial

    from allocator.core.allocation import Allocation, Choice
    from allocator.core.records import TrialRecord
    from allocator.space.base import Space
    from allocator.study.database import Database
    from allocator.study.entry import Entry

# of a study: what is asked of it; kind of device and type it computes in
SPEC, ARITHMETIC = "spec", "arithmetic"
MEASURED, RESULTS = "evaluation:", "recommendation:"
DAMAGE, COSTS = "damage", "costs"
# how names of damage tables end that are not whole
PART = " so far"
SO_FAR = DAMAGE + PART
FIRST_PROMPT = "first prompt"


@dataclass(frozen=True)
class Journal:
    """One study: what was measured, and what followed from it."""

    study: optuna.Study
    url: str = field(repr=False)
    leases: Leases = field(default_factory=Leases, repr=False)
    database: InitVar[Database | None] = None
    _kept: Kept = field(init=False, repr=False)
    _trials: Trials = field(init=False, repr=False)
    _read: Reading = field(default_factory=Reading, repr=False)
    _in_place: InPlace = field(default_factory=InPlace, repr=False)

    def __post_init__(self, database: Database | None) -> None:
        # a file is read whole by all
        kept = Kept(self.study, database, has_readers=not self.url.endswith(LOG))
        object.__setattr__(self, "_kept", kept)
        object.__setattr__(self, "_trials", Trials(self.study, database))

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
        journal = _journal(study, url, timeout)
        journal.set_attribute(SPEC, without_password(spec))
        journal.mask_results()
        return journal

    @staticmethod
    def load(url: str | None, name: str, timeout: float = STORAGE_TIMEOUT) -> Journal:
        """Open a study that exists.

        Raises:
            StudyError: there is none of that name; names those there are.
        """
        file = file_of(url) if url is None else None
        if file is not None and not file.exists():
            raise StudyError(f"there is no study {name!r} (known: none)")
        storage = open_storage(url, create=False, timeout=timeout)
        try:
            study = optuna.load_study(storage=storage, study_name=name)
        except GoneError:
            # reading the names of all reads all that is kept with each
            listed = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
            said = f"there is no study {name!r} (known: {listed})"
            raise StudyError(said) from None
        journal = _journal(study, url, timeout)
        journal._in_place.numbers = frozenset(journal.attribute(SUPERSEDED) or ())
        return journal

    def stand_on(self, space: Space, applied: Callable[[Allocation], str]) -> None:
        """Take trials for measurements only where `applied` says they had its cells."""
        self._in_place.applied = applied
        gone = [entry.number for entry in self.entries(space) if entry.superseded]
        if gone != (self.attribute(SUPERSEDED) or []):
            self.set_attribute(SUPERSEDED, gone)

    def mask_results(self) -> None:
        """Leave passwords out of what a study of before keeps of its searches."""
        for name, kept in kept_in(self._kept.found(), RESULTS).items():
            with as_written("a recommendation", self.name):
                found = without_password(kept["found"])
            if found != kept["found"]:
                self.set_attribute(name, {**kept, "found": found})

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def shown(self) -> str:
        """The storage's URL, without its password."""
        return masked(self.url)

    def attribute(self, key: str) -> Any:
        """Something kept with the study, or None."""
        return kept_under(key, self._kept.found())

    def attributes(self, start: str) -> list[Any]:
        """Everything kept under names that begin alike."""
        return list(kept_in(self._kept.found(), start).values())

    def set_attribute(self, key: str, value: Any) -> None:
        """Keep plain data with the study, where no dashboard shows it."""
        keep_with(self._kept, key, value)

    def describe(self, metric: str, about: Mapping[str, Any]) -> None:
        """Tell people who open the study elsewhere what it is and what came out."""
        name_metric(self.study, f"{metric} on the search set")
        for name, value in about.items():
            self.study.set_user_attr(name, value)
        self._kept.renew()

    def release_stale(self) -> list[int]:
        """Give up trials whose processes are dead; returns the numbers of these."""
        return release_dead(self._trials, self.leases)

    def unknown(self) -> list[FrozenTrial]:
        """Running trials whose processes may be dead or alive."""
        return unknown_trials(self._trials, self.leases)

    def begin(
        self, space: Space, allocation: Allocation, attributes: Mapping[str, Any]
    ) -> int | None:
        """Record that an allocation is being measured; returns the trial's number.

        None where it was measured, or another began before: the storage numbers trials
        one after the other, so that of several processes exactly one is the first.
        """
        number = begin_trial(self._trials, space, allocation, attributes)
        before = (e for e in self.entries(space) if e.number < number)
        if any(e.digest == allocation.digest and e.counts for e in before):
            withdraw_trial(self._trials, number)
            return None
        return number

    def at_work(self, number: int) -> AbstractContextManager[None]:
        """Let others see, wherever they are, that a trial is being measured."""
        return at_work(self._trials, self.url, number)

    def add_pruned(
        self, space: Space, allocation: Allocation, attributes: Mapping[str, Any]
    ) -> None:
        """Record an allocation that was looked at, and not measured in full."""
        add_trial(self.study, space, allocation, PASSED, attributes)

    def complete(
        self, number: int, score: float, values: Sequence[float] | None = None
    ) -> None:
        """Record a trial's score, and that of each sample."""
        complete_trial(self._trials, number, score, values)

    def sample_scores(self, space: Space) -> dict[str, tuple[float, ...]]:
        """Score of each sample of the search set, by digest, where it was kept."""
        return {
            entry.digest: decode_scores(kept_under(VALUES, entry.about))
            for entry in self.entries(space)
            if entry.score is not None and VALUES in entry.about
        }

    def fail(self, number: int, reason: str | None = None) -> None:
        """Give up a trial that was not finished, for good where a reason is given."""
        fail_trial(self._trials, number, reason)

    def entries(self, space: Space) -> list[Entry]:
        """All trials that allocate, in order."""
        trials = self._trials.all()
        with as_written("trials", self.name), all_stays():
            return self._in_place.sorted_out(self._read.entries(trials, space))

    def failures(self, space: Space) -> dict[str, str]:
        """Why what was measured has no score, by digest."""
        return {e.digest: e.failure for e in self.entries(space) if e.failure}

    def made(self, space: Space, budget: str) -> int:
        """Proposals for a budget, finished or under way in any process."""
        own = [e for e in self.entries(space) if e.about.get("budget") == budget]
        return sum(e.counts for e in own)

    def counts(self, space: Space, budget: str) -> dict[str, int]:
        """Proposals made for a budget, by state; baselines left out.

        What was passed over and measured later counts as measured alone.
        """
        entries = [entry for entry in self.entries(space) if not entry.superseded]
        states = [e.state for e in entries if e.about.get("budget") == budget]
        measured = {e.digest for e in entries if e.counts}
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
        found = self._kept.found()
        self.set_attribute(*with_looks(found, space, (budget, chosen), looks))

    def looks(
        self, space: Space
    ) -> Iterator[tuple[str, Allocation, tuple[str, int], float | None]]:
        """Budget, allocation, (kind, samples) and value of every cheap look.

        None, or what a study of before kept, where that is no finite number.
        """
        with as_written("looks", self.name):
            found = looks_among(self._kept.found(), space)
        yield from found

    def taken(self, space: Space) -> set[str]:
        """Digests of what was measured or is being measured."""
        return {e.digest for e in self.entries(space) if e.counts}

    def records(self, space: Space) -> list[TrialRecord]:
        """Everything measured in full, in order."""
        entries = self.entries(space)
        with as_written("trials", self.name):
            return self._read.records(entries, space)

    def damage(
        self, space: Space, name: str = DAMAGE
    ) -> dict[tuple[str, Choice], float] | None:
        """A damage table, the prior's unless a name says otherwise, if there is one.

        The whole table is finite; of a `PART` it is not known yet how large is large.
        """
        kept = self.attribute(name)
        if kept is None:
            return None
        with as_written("damages", self.name):
            table = {
                (key, space.by_label[label]): nan if value is None else float(value)
                for key, row in kept.items()
                for label, value in row.items()
            }
            return table if name.endswith(PART) else finite_damage(table)

    def keep_damage(
        self, damage: Mapping[tuple[str, Choice], float], name: str = DAMAGE
    ) -> None:
        """Keep a damage table, or a `PART` of one."""
        table: dict[str, dict[str, float | None]] = {}
        for (key, choice), value in damage.items():
            kept = value if is_number(value) else None
            table.setdefault(key, {})[str(choice)] = kept
        self.set_attribute(name, table)


def _journal(study: optuna.Study, url: str | None, timeout: float) -> Journal:
    """A study that Optuna has opened, read in fewer steps than Optuna takes."""
    patience = replace(patience_with(url, timeout), file=file_of(url))
    database = database_of(study, patience)
    journal = Journal(study, url or default_storage(), database=database)
    if outage := outage_of(study):
        outage.renew = journal._kept.renew
        if outage.handed_in:
            # others read it before
            journal._kept.renew()
    return journal
