"""The tables of a study's database, read and written where Optuna takes long ways.

Optuna reads a trial by its rows and builds each of its distributions anew, which takes
2 ms a trial, and everything that a study keeps with it at once. What is here does the
same in few statements. It knows one form of Optuna's tables: for another, and for what
is no database, there is none of this, and Optuna does it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from optuna.distributions import json_to_distribution
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from allocator.study.bulk import all_stays
from allocator.study.once import raw_of
from allocator.study.outage import outage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import optuna
    from sqlalchemy import Connection, Row

    from allocator.study.patience import Patience

    Rows = Sequence[Row[Any]]

# the form of the tables, by Alembic's name, since Optuna 3.2; where Alembic keeps it
FORM, FORMS = "v3.2.0.a", "alembic_version"

ATTRIBUTES = models.StudySystemAttributeModel.__table__
OLD_ATTRIBUTES = models.StudyUserAttributeModel.__table__
STUDIES = models.StudyModel.__table__
TRIALS, VALUES = models.TrialModel.__table__, models.TrialValueModel.__table__
PARAMS = models.TrialParamModel.__table__
STEPS = models.TrialIntermediateValueModel.__table__
TOLD = models.TrialUserAttributeModel.__table__
HIDDEN = models.TrialSystemAttributeModel.__table__


# calls that wait for locks, as those of a storage do
CALLS = (
    *("get_attribute", "get_attributes", "get_all_attributes", "get_all_trials_ahead"),
    "set_study_attributes",
)


@dataclass
class Database:
    """A study in a database whose tables have the form that is known here."""

    storage: _CachedStorage
    study: int
    patience: Patience

    def __post_init__(self) -> None:
        for name in CALLS:
            setattr(self, name, self.patience.patient(getattr(self, name)))

    @property
    def engine(self) -> sa.Engine:
        """What has its connections."""
        engine: sa.Engine = self.storage._backend.engine
        return engine

    def get_attribute(self, name: str) -> str | None:
        """The JSON of one system attribute of the study."""
        with self.engine.connect() as connection:
            return self._texts(connection, (name,)).get(name)

    def get_attributes(self, names: Iterable[str]) -> dict[str, str]:
        """The JSON of some system attributes of the study."""
        with self.engine.connect() as connection:
            return self._texts(connection, tuple(names))

    def get_all_attributes(self) -> dict[str, str]:
        """The JSON of everything that is kept with the study."""
        with self.engine.connect() as connection:
            self._check_is_there(connection, lock=False)
            found: dict[str, str] = {}
            # studies of before kept it among what dashboards show
            for table in (OLD_ATTRIBUTES, ATTRIBUTES):
                rows = sa.select(table.c.key, table.c.value_json)
                own = rows.where(table.c.study_id == self.study)
                found |= _pairs(connection, own)
            return found

    def set_study_attributes(
        self,
        change: Callable[[Mapping[str, str]], Mapping[str, str]],
        names: tuple[str, ...],
    ) -> None:
        """Write system attributes of the study, all of them or none.

        Args:
            change: is given the JSON of what is there under `names`, and gives that of
                what is to be written. Of several processes one at a time is asked.
            names: what the processes agree by.
        """
        with self.engine.begin() as connection:
            # a lock from here to the end: servers lock the row, SQLite whatever it
            # holds with the first write
            self._check_is_there(connection, lock=True)
            self._update(connection, names[0], ATTRIBUTES.c.value_json)
            for name, text in change(self._texts(connection, names)).items():
                if not self._update(connection, name, text):
                    row = {"study_id": self.study, "key": name, "value_json": text}
                    connection.execute(sa.insert(ATTRIBUTES).values(row))

    def _check_is_there(self, connection: Connection, *, lock: bool) -> None:
        own = sa.select(STUDIES.c.study_id).where(STUDIES.c.study_id == self.study)
        asked = own.with_for_update() if lock else own
        if connection.execute(asked).first() is None:
            raise KeyError(models.NOT_FOUND_MSG)

    def _update(self, connection: Connection, name: str, text: Any) -> bool:
        """Write an attribute that is there; whether it is."""
        own = (ATTRIBUTES.c.study_id == self.study) & (ATTRIBUTES.c.key == name)
        told = sa.update(ATTRIBUTES).where(own).values(value_json=text)
        return connection.execute(told).rowcount > 0

    def _texts(self, connection: Connection, names: tuple[str, ...]) -> dict[str, str]:
        rows = sa.select(ATTRIBUTES.c.key, ATTRIBUTES.c.value_json)
        own = (ATTRIBUTES.c.study_id == self.study) & ATTRIBUTES.c.key.in_(names)
        return _pairs(connection, rows.where(own))

    def get_all_trials_ahead(self) -> None:
        """Give Optuna all trials that it would read one by one, if it has none yet."""
        known = self.storage._studies.get(self.study)
        if known is not None and known.trials:
            return
        with self.engine.connect() as connection, all_stays():
            found = _read_trials(connection, self.study)
        if found is None:
            return
        # the same as Optuna does with trials that it has read
        storage = self.storage
        storage.get_study_name_from_id(self.study)
        with storage._lock:
            storage._add_trials_to_cache(self.study, found)
            info = storage._studies[self.study]
            for trial in found:
                if trial.state.is_finished():
                    last = max(info.last_finished_trial_id, trial._trial_id)
                    info.last_finished_trial_id = last
                else:
                    info.unfinished_trial_ids.add(trial._trial_id)


def beginning_of(storage: Any, trial: int, name: str, length: int) -> str | None:
    """How the JSON of a system attribute of a trial begins, without the rest of it.

    None where it cannot be read so, and "" where there is none.
    """
    raw = raw_of(storage)
    if not isinstance(raw, _CachedStorage):
        return None
    asked = sa.select(sa.func.substr(HIDDEN.c.value_json, 1, length))
    own = asked.where(HIDDEN.c.trial_id == trial, HIDDEN.c.key == name)
    try:
        with raw._backend.engine.connect() as connection:
            return connection.execute(own).scalar() or ""
    except sa.exc.SQLAlchemyError:
        # whoever reads it by Optuna's means waits, or is told what is wrong
        return None


def database_of(study: optuna.Study, patience: Patience) -> Database | None:
    """The database behind a study; None where there is none that is known here.

    Args:
        study: opened by Optuna.
        patience: how its storage is waited for.
    """
    outage = outage_of(study)
    call = (outage.storage if outage else study._storage).get_all_trials
    # calls that wait for locks are around those of the storage
    storage = getattr(getattr(call, "__wrapped__", call), "__self__", None)
    if not isinstance(storage, _CachedStorage):
        return None
    engine = storage._backend.engine

    def get_form() -> Any:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(FORMS):
                return None
            asked: Any = sa.select(sa.column("version_num")).select_from(
                sa.table(FORMS)
            )
            return connection.execute(asked).scalar()

    # whoever could not ask would read and write by other rules than the others
    form = patience.patient(get_form)()
    return Database(storage, study._study_id, patience) if form == FORM else None


def _pairs(connection: Connection, asked: sa.Select[Any]) -> dict[Any, Any]:
    return {name: value for name, value in connection.execute(asked)}


def _read_trials(connection: Connection, study: int) -> list[FrozenTrial] | None:
    """All trials in order; None where they are not as this program writes them."""
    own = TRIALS.c.study_id == study

    def read(table: sa.Table, *columns: str, order: str | None = None) -> Rows:
        asked = (table.c[name] for name in ("trial_id", *columns))
        joined = sa.join(table, TRIALS, table.c.trial_id == TRIALS.c.trial_id)
        rows = sa.select(*asked).select_from(joined).where(own)
        rows = rows if order is None else rows.order_by(table.c[order])
        return connection.execute(rows).all()

    kinds = _distributions(connection, study)
    if kinds is None or read(STEPS):
        return None
    listed = sa.select(*TRIALS.c).where(own).order_by(TRIALS.c.trial_id)
    trials = {row.trial_id: _trial(row) for row in connection.execute(listed)}
    params = read(PARAMS, "param_name", "param_value", order="param_id")
    _add_params(trials, kinds, params)
    for trial, *stored in _of(trials, read(VALUES, "value", "value_type")):
        trial.values = [models.TrialValueModel.stored_repr_to_value(*stored)]
    for table, place in ((TOLD, "_user_attrs"), (HIDDEN, "_system_attrs")):
        found = read(table, "key", "value_json")
        # thousands at once, which is sooner than one by one
        values = json.loads(f"[{','.join(row.value_json for row in found)}]")
        for (trial, name, _), value in zip(_of(trials, found), values, strict=True):
            getattr(trial, place)[name] = value
    return list(trials.values())


def _of(trials: Mapping[int, FrozenTrial], rows: Rows) -> Iterator[list[Any]]:
    """Rows with their trial in place of its number.

    What began after the trials were read is of none: Optuna reads that by itself.
    """
    nobody = FrozenTrial(0, TrialState.FAIL, None, None, None, {}, {}, {}, {}, {}, 0)
    for row in rows:
        yield [trials.get(row[0], nobody), *row[1:]]


def _add_params(
    trials: Mapping[int, FrozenTrial], kinds: Mapping[str, Any], rows: Rows
) -> None:
    meant: dict[tuple[str, float], Any] = {}
    for trial, name, value in _of(trials, rows):
        if (name, value) not in meant:
            meant[name, value] = kinds[name].to_external_repr(value)
        trial._params[name] = meant[name, value]
        trial._distributions[name] = kinds[name]


def _distributions(connection: Connection, study: int) -> dict[str, Any] | None:
    """What Optuna's parameters may be, by name; None where that differs by trial."""
    columns = PARAMS.c.param_name, PARAMS.c.distribution_json
    joined = sa.join(PARAMS, TRIALS, PARAMS.c.trial_id == TRIALS.c.trial_id)
    asked = sa.select(*columns).select_from(joined).where(TRIALS.c.study_id == study)
    # long, and nearly always the same for all trials
    texts = connection.execute(asked.distinct()).all()
    found = {name: json_to_distribution(text) for name, text in texts}
    return found if len(found) == len(texts) else None


def _trial(row: Row[Any]) -> FrozenTrial:
    times = (_local(row.datetime_start), _local(row.datetime_complete))
    return FrozenTrial(
        row.number, row.state, None, *times, {}, {}, {}, {}, {}, row.trial_id
    )


def _local(kept: datetime | None) -> datetime | None:
    """A time as Optuna gives it: it keeps that of Greenwich, and says it nowhere."""
    if kept is None:
        return None
    return kept.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
