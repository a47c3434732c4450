"""A study as a long search leaves it, written straight into its tables: to be read."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.trial import TrialState

from allocator.core.spec import Group, Linear, ModelSpec
from allocator.study.entry import VALUES
from allocator.study.kept_looks import LOOKS
from allocator.study.looks import LADDER, Looks
from allocator.study.owners import LEASE, OWNER, new_owner
from allocator.study.per_sample import encode_scores
from allocator.study.storage import user_and_system_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.allocation import Allocation
    from allocator.search.running import Search
    from allocator.space.model import ModelSpace

# candidates of a proposal, and those of them that become trials: of the strategy
# `surrogate`, all but the first rung's losers
CANDIDATES, TRIALS = 48, LADDER[0][2]
# samples of the search set
SAMPLES = 1000
SEED = 20261127
# rows that are written at once
ROWS = 5000


def model() -> ModelSpec:
    """18 groups: three components in six parts each."""
    places = [
        (component, block)
        for component in ("vision", "connector", "language")
        for block in range(6)
    ]
    groups = tuple(
        Group(
            f"{component}.blocks{block}.all",
            (Linear(f"{component}.{block}", component, block, "attn", 512, 512),),
        )
        for component, block in places
    )
    return ModelSpec("filled", 18 * 2**18 + 1000, groups, ())


@dataclass
class Filler:
    """Writes trials and looks of `proposals` proposals behind what is there."""

    search: Search
    engine: sa.Engine
    random: Random = field(default_factory=Random)
    rows: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)

    def fill(self, trials: int) -> None:
        """Bring a study to as many trials as are wanted."""
        study = self.search.journal.study
        with self.engine.begin() as connection:
            count = sa.select(sa.func.count()).select_from(models.TrialModel.__table__)
            there = connection.execute(
                count.where(models.TrialModel.study_id == study._study_id)
            ).scalar_one()
            last = sa.select(sa.func.max(models.TrialModel.trial_id))
            # each time others than before
            self.random.seed(SEED + there)
            self._next = (connection.execute(last).scalar_one() or 0) + 1
            for number in range(there, trials):
                if (number - there) % TRIALS == 0:
                    self._race(number)
                self._trial(number)
                if number % 500 == 0:
                    self._write(connection)
            self._write(connection)
            if connection.dialect.name == "postgresql":
                # numbers were given, and not taken from the sequence
                connection.execute(
                    sa.text("SELECT setval('trials_trial_id_seq', :last)"),
                    {"last": self._next},
                )
        with self.engine.connect() as connection:
            autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
            autocommit.execute(sa.text("ANALYZE"))

    @property
    def _space(self) -> ModelSpace:
        return self.search.setup.space

    def _drawn(self) -> Allocation:
        space, draw = self._space, self.random.choice
        return space.full.replace({key: draw(space.choices) for key in space.keys})

    def _race(self, number: int) -> None:
        """Candidates and their looks, rung by rung."""
        candidates = [self._drawn() for _ in range(CANDIDATES)]
        self.raced = candidates[:TRIALS]
        self.looks = Looks()
        rows = []
        labels = list(self._space.by_label)
        lefts = (CANDIDATES, *(outlive for _, _, outlive in LADDER))
        for (kind, size, _), left in zip(LADDER, lefts, strict=False):
            for each in candidates[:left]:
                value = self.random.random()
                self.looks.learn(each, (kind, size), value)
                places = [labels.index(str(choice)) for _, choice in each]
                rows.append([places, kind, size, value])
        goal, digest = self.search.goal.name, candidates[0].digest
        kept = {"at": number, "rows": rows, "budget": goal, "labels": labels}
        self._add(
            models.StudySystemAttributeModel,
            study_id=self.search.journal.study._study_id,
            key=f"{LOOKS}{goal}:{digest}",
            value_json=json.dumps(kept),
        )

    def _trial(self, number: int) -> None:
        """The next one of a race: those passed over, and what was measured last."""
        is_proposal = len(self.raced) == 1
        allocation = self.raced.pop()
        began = datetime(2026, 11, 1) + timedelta(minutes=number)
        state = TrialState.COMPLETE if is_proposal else TrialState.PRUNED
        self._add(
            models.TrialModel,
            trial_id=self._next,
            number=number,
            study_id=self.search.journal.study._study_id,
            state=state,
            datetime_start=began,
            datetime_complete=began,
        )
        own = {"trial_id": self._next}
        self._next += 1
        if is_proposal:
            finite = models.TrialValueModel.TrialValueType.FINITE
            value = {"objective": 0, "value": 60 + 20 * self.random.random()}
            self._add(models.TrialValueModel, **own, **value, value_type=finite)
        for name, label in self._space.params(allocation).items():
            told_as = self._space.distributions[name]
            self._add(
                models.TrialParamModel,
                **own,
                param_name=name,
                param_value=told_as.to_internal_repr(label),
                distribution_json=optuna.distributions.distribution_to_json(told_as),
            )
        told, kept = self._about(allocation, is_proposal=is_proposal)
        for table, found in (
            (models.TrialUserAttributeModel, told),
            (models.TrialSystemAttributeModel, kept),
        ):
            for name, each in found.items():
                self._add(table, **own, key=name, value_json=json.dumps(each))

    def _about(
        self, allocation: Allocation, *, is_proposal: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        about = {
            "kind": "proposal" if is_proposal else "candidate",
            "budget": self.search.goal.name,
            "limit": 5.0,
            "digest": allocation.digest,
            "predicted score": self.random.random(),
            "spread": self.random.random(),
            **self.looks.of(allocation),
        }
        if is_proposal:
            about |= {"applied": self.search.bench.applied(allocation)}
            about |= {OWNER: str(new_owner()), LEASE: time.time()}
        told, kept = user_and_system_attributes(about, self._space.bpw(allocation))
        if is_proposal:
            answers = [self.random.choice((0.0, 0.3, 0.6, 1.0)) for _ in range(SAMPLES)]
            kept[VALUES] = encode_scores(answers)
        return told, kept

    def _add(self, table: Any, **row: Any) -> None:
        self.rows.setdefault(table.__table__, []).append(row)

    def _write(self, connection: sa.Connection) -> None:
        # those that others refer to come first
        for table in sorted(self.rows, key=lambda each: each.name != "trials"):
            rows = self.rows[table]
            for part in _parts(rows):
                connection.execute(sa.insert(table), part)
        self.rows.clear()


def _parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for at in range(0, len(rows), ROWS):
        yield rows[at : at + ROWS]
