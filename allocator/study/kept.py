"""What is kept with a study, as this process knows it, and how it learns the rest.

Everything is read once. Each writer then renews one small attribute, the token, in the
transaction in which it writes, and notes beside it what it wrote: who finds the token
as it was has nothing to read, and who does not reads what was noted since. Without a
database that can be read so, everything is read each time: a file of Optuna's journal
is in memory anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from threading import RLock
from typing import TYPE_CHECKING, Any

from allocator.study.making import LAYOUT, check_layout, kept_with
from allocator.study.outage import SYSTEM, outage_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

    from allocator.study.database import Database

# attributes of a study: its token, and [token, name] of what was written latest
TOKEN, WRITTEN = "token", "written"
# of what was written latest: who missed more than that reads everything. Names have 512
# letters at most, so that MySQL has room for as many
MOST = 100


class Read(Mapping[str, Any]):
    """Attributes by name, each made anew from its JSON where it is asked for."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._texts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@dataclass
class Kept:
    """The attributes of a study; `database` is where they can be read singly.

    Where it is None, others may still have one: `has_readers` says so. They go by the
    token, which is renewed last then.
    """

    study: optuna.Study
    database: Database | None = None
    has_readers: bool = False
    _token: str | None = None
    _texts: dict[str, str] | None = None
    _lock: Any = field(default_factory=RLock)

    def found(self) -> Mapping[str, Any]:
        """Everything, as it is now."""
        database, outage = self.database, outage_of(self.study)
        if database is None:
            return kept_with(self.study)

        def read() -> Mapping[str, Any]:
            return Read(self._now(database))

        with self._lock:
            return read() if outage is None else outage.read(SYSTEM, read)

    def write(self, values: Mapping[str, Any]) -> None:
        """Keep small values, of a database all of them or none; the last one last."""
        if self.database is None:
            number, storage = self.study._study_id, self.study._storage
            for name, value in values.items():
                storage.set_study_system_attr(number, name, value)
            if self.has_readers:
                storage.set_study_system_attr(number, TOKEN, token_hex(8))
            return
        texts = {name: json.dumps(value) for name, value in values.items()}
        with self._lock:
            self._write(self.database, texts)

    def renew(self) -> None:
        """Have everybody read everything anew: it was written by other ways."""
        if self.database is None:
            self.write({})
            return
        with self._lock:
            self._texts = None
            self._write(self.database, {}, noted=False)

    def _now(self, database: Database) -> dict[str, str]:
        # the token first: what is written from now on is found by the next one
        token = json.loads(database.get_attribute(TOKEN) or "null")
        known = self._texts
        if known is not None and token == self._token:
            return known
        names = None if known is None else self._missed(database, token)
        if known is None or names is None:
            known = database.get_all_attributes()
            layout = json.loads(known.get(LAYOUT, "0"))
            check_layout(self.study.study_name, {LAYOUT: layout})
        elif names:
            known = {**known, **database.get_attributes(names)}
        self._token, self._texts = token, known
        return known

    def _missed(self, database: Database, token: str | None) -> set[str] | None:
        """Names of what was written since our token; None where that is not known."""
        written = json.loads(database.get_attribute(WRITTEN) or "[]")
        places = [at for at, (each, _) in enumerate(written) if each == self._token]
        if not places or written[-1][0] != token:
            return None
        return {name for _, name in written[places[-1] + 1 :]}

    def _write(
        self, database: Database, texts: Mapping[str, str], *, noted: bool = True
    ) -> None:
        token, before = token_hex(8), [self._token]

        def change(found: Mapping[str, str]) -> dict[str, str]:
            before[0] = json.loads(found.get(TOKEN, "null"))
            written = json.loads(found.get(WRITTEN, "[]")) if noted else []
            if written and written[-1][0] != before[0]:
                # somebody wrote who could not note what
                written = []
            latest = [*written, *([token, name] for name in texts)][-MOST:]
            told = {TOKEN: json.dumps(token), WRITTEN: json.dumps(latest)}
            return {**texts, **told}

        database.set_study_attributes(change, (TOKEN, WRITTEN))
        if self._texts is not None and before[0] == self._token:
            # nobody wrote between
            self._texts = {**self._texts, **texts}
            self._token = token
