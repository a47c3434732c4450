"""Importance and effects of a study, worked out once and kept with it."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.explain.importance import importance
from allocator.explain.rows import evidence_of
from allocator.study.explained import keep, recalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from allocator.explain.evidence import Evidence
    from allocator.space.base import Space
    from allocator.study.journal import Journal

# goes up when anything that is kept would come out otherwise
VERSION = 1
# what the figures come from
LIBRARIES = ("numpy", "scikit-learn", "scipy", "shap", "xgboost")
# decimals of scores: solvers round otherwise with other threads
DECIMALS = 9


def kept(
    journal: Journal, what: str, rests_on: str, make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What is kept with a study, made first where that rests on something else."""
    found: dict[str, Any] | None = recalled(journal, what, rests_on)
    if found is None:
        found = make()
        keep(journal, what, rests_on, found)
    return found


def importance_of(journal: Journal, space: Space) -> dict[str, Any]:
    """Importance alone, of a study in which something was measured."""
    evidence = evidence_of(journal, space)
    rests_on = digest(evidence)
    return kept(journal, "importance", rests_on, lambda: importance(evidence))


def digest(*rests_on: Any) -> str:
    """SHA-256 of what results rest on: evidence, plain data, and what makes them."""
    libraries = {name: version(name) for name in LIBRARIES}
    found = hashlib.sha256(json.dumps([VERSION, libraries]).encode())
    for each in rests_on:
        plain = each if isinstance(each, str | dict | list | None) else _plain(each)
        found.update(json.dumps(plain, sort_keys=True).encode())
    return found.hexdigest()


def _plain(evidence: Evidence) -> list[Any]:
    """All of the evidence, in short."""
    known = evidence.imputation
    arrays: list[NDArray[Any]] = [
        evidence.table,
        evidence.scores.round(DECIMALS),
        *([] if evidence.clusters is None else [evidence.clusters]),
    ]
    if known is not None:
        arrays.append(known.measured)
        for line in known.lines:
            arrays += [line.rows, line.design.round(DECIMALS)]
    return [
        *(evidence.columns, evidence.weights, evidence.seed),
        evidence.higher_is_better,
        [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in arrays],
    ]
