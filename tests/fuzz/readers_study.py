"""Readers of studies: attributes, databases and files that only grow."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import optuna

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.space.model import ModelSpace
from allocator.study.attributes import LARGEST, keep, kept_under
from allocator.study.descent import descent
from allocator.study.frozen import NARROWED, latest_frozen
from allocator.study.journal import COSTS, DAMAGE, SPEC, Journal
from allocator.study.kept_looks import LOOKS
from allocator.study.looks import Looks
from allocator.study.owners import Owner
from allocator.study.per_sample import STRATA, decode_scores, encode_scores
from allocator.study.proposed import proposed_in
from allocator.study.recommendations import LATEST, RECOMMENDED, latest_recommendation
from allocator.study.storage import study_names
from tests.fuzz.readers import Reader, as_json, toy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABELS = ("2/uniform", "4/awq", "16")


def space() -> ModelSpace:
    choices = (Choice(2, "uniform"), Choice(4, "awq"), Choice(16))
    return ModelSpace(toy(), Scheme(), choices, Budget(8.0))


def packed_values(folder: Path) -> Any:
    """Values that are packed, and cut into parts: damaged where they lie."""
    del folder
    seeds = []
    for value in ({"a": 1}, "x" * 2 * LARGEST, [i / 7 for i in range(20_000)]):
        found: dict[str, Any] = {}
        keep(found.__setitem__, "name", value)
        seeds += as_json(found)

    def read(content: bytes) -> object:
        try:
            found = json.loads(content)
        except (RecursionError, ValueError):
            return None
        return kept_under("name", found) if isinstance(found, dict) else None

    return seeds, read


def scores_of_samples(folder: Path) -> Any:
    del folder
    seeds = [encode_scores(v).encode() for v in ((1.0, 0.5), [0.0] * 9999)]
    return seeds, lambda content: decode_scores(content.decode("latin-1"))


def owners(folder: Path) -> Any:
    del folder
    seeds = [b"host|kernel 4026|123|456|abcdef01", b"host:99"]

    def read(content: bytes) -> object:
        owner = Owner.read(content.decode("latin-1"))
        return owner.sentence, owner.is_here

    return seeds, read


def everything_kept() -> dict[str, dict[str, Any]]:
    """What a study keeps, with itself and with a trial."""
    whole, keys = space(), space().keys
    rows = [
        [[0] * len(keys), "divergence", 32, 0.5],
        [[2] * len(keys), "score", 9, None],
    ]
    looks = {"at": 0, "rows": rows, "budget": "4", "labels": list(LABELS)}
    frozen = {"group": keys[0], "choice": "4/awq", "share": 0.1, "reason": "r"}
    result = {"score": 60.0, "digest": "d", "allocation": {}, "applied": "a"}
    found = {
        "model": "toy",
        "task": "vqav2",
        "storage": "mysql://me:a@b",
        "recommended": result,
        "full_precision": {"score": 61.0},
        "front": [],
    }
    return {
        "study": {
            "identity": "i",
            SPEC: {"model": "toy", "task": "vqav2", "storage": None, "seed": 0},
            DAMAGE: {key: {"2/uniform": 0.5, "4/awq": 0.1, "16": 0} for key in keys},
            f"{LOOKS}4:x": looks,
            STRATA: [3, 4],
            COSTS: {"seconds": 1.0},
            f"{NARROWED}4": {"16": [frozen]},
            LATEST: "4",
            f"{RECOMMENDED}4": {"found": found, "plan": {}},
            "superseded trials": [],
        },
        "trial": {
            "kind": "proposal",
            "budget": "4",
            "limit": 4.0,
            "applied": "a",
            "digest": "d",
            "score of each sample": encode_scores((1.0, 0.0)),
            "control": True,
        },
        "params": whole.params(
            Allocation.of(keys, dict.fromkeys(keys, Choice(4, "awq")))
        ),
    }


def attributes(folder: Path) -> Any:
    """Everything that is kept with a study, and with its trials, read by who asks."""
    del folder
    whole, seed = space(), everything_kept()

    def read(content: bytes) -> object:
        try:
            said = json.loads(content)
        except (RecursionError, ValueError):
            return None
        parts = [said.get(n) for n in seed] if isinstance(said, dict) else [None]
        if not all(isinstance(part, dict) for part in parts):
            return None
        return _read_all(_journal(*parts), whole)

    return as_json(seed), read


def _journal(
    study: Mapping[str, Any], trial: Mapping[str, Any], params: Mapping[str, Any]
) -> Journal:
    """A study of one trial that holds just this, whoever wrote it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(study_name="s", direction="maximize")
    for name, value in study.items():
        made._storage.set_study_system_attr(made._study_id, str(name), value)
    # a storage holds parameters of any kind
    own = {str(name): str(value) for name, value in params.items()}
    kinds = {
        n: optuna.distributions.CategoricalDistribution((v,)) for n, v in own.items()
    }
    made.add_trial(
        optuna.trial.create_trial(
            value=60.0,
            params=own,
            distributions=kinds,
            system_attrs={str(name): value for name, value in trial.items()},
        )
    )
    return Journal(made, "sqlite://")


def _read_all(journal: Journal, whole: ModelSpace) -> object:
    """What a search, a report and the commands read of a study first."""
    journal.mask_results()
    Looks.recalled(journal.looks(whole), proposed_in(journal, whole))
    return (
        journal.records(whole),
        journal.failures(whole),
        journal.counts(whole, "4"),
        journal.sample_scores(whole),
        journal.damage(whole),
        latest_recommendation(journal),
        latest_frozen(journal, "4"),
        descent(journal, whole),
    )


def _written(url: str) -> None:
    journal = Journal.create(url, "study", "identity", {"model": "toy", "seed": 0})
    whole = space()
    full = whole.full
    number = journal.begin(whole, full, {"kind": "full", "budget": None})
    journal.complete(number, 60.0, [1.0, 0.0])
    journal.keep_looks(whole, "x", "4", [(full, ("divergence", 32), 0.5)])


def _reading(folder: Path, name: str, form: str) -> Any:
    """A file of studies, damaged anywhere."""
    file = folder / name
    _written(form.format(file))
    seed = file.read_bytes()
    whole, count = space(), [0]

    def read(content: bytes) -> object:
        # storages are remembered by their names
        count[0] += 1
        other = folder / f"{count[0]}{name}"
        other.write_bytes(content)
        try:
            url = form.format(other)
            if "study" not in study_names(url, 0.0):
                return None
            return _read_all(Journal.load(url, "study", 0.0), whole)
        finally:
            for each in folder.glob(f"{count[0]}{name}*"):
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    return [seed], read


def files_that_grow(folder: Path) -> Any:
    return _reading(folder, "studies.log", "{}")


def databases(folder: Path) -> Any:
    return _reading(folder, "studies.db", "sqlite:///{}")


READERS = (
    *(
        Reader(made.__name__.replace("_", " "), made)
        for made in (packed_values, scores_of_samples, owners, attributes)
    ),
    *(
        Reader(made.__name__.replace("_", " "), made, often=False)
        for made in (files_that_grow, databases)
    ),
)
